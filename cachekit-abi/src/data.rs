//! Bytes, errors and statuses: what every call carries.

use core::ffi::c_void;

/// Done, or a hit.
pub const CK_OK: i32 = 0;
/// A miss, or "no": absent, not stored, held by another. Not an error.
pub const CK_NO: i32 = 1;
/// Only from [`CkAsyncV1::poll`](crate::CkAsyncV1::poll): not yet; the waker will be woken.
pub const CK_PENDING: i32 = 2;
/// A defect of the plugin.
pub const CK_E_INTERNAL: i32 = -1;
/// A panic or exception was caught at the plugin's border.
pub const CK_E_PANIC: i32 = -2;
/// The store could not be reached or dropped the exchange.
pub const CK_E_TRANSIENT: i32 = -3;
/// The deadline passed.
pub const CK_E_TIMEOUT: i32 = -4;
/// The store asked for fewer requests; `retry_after_ms` says for how long.
pub const CK_E_THROTTLED: i32 = -5;
/// Credentials were refused or missing.
pub const CK_E_AUTH: i32 = -6;
/// The configuration cannot work.
pub const CK_E_CONFIG: i32 = -7;
/// Key or value beyond what the store takes.
pub const CK_E_TOO_LARGE: i32 = -8;
/// The instance lacks this power.
pub const CK_E_UNSUPPORTED: i32 = -9;
/// The store answered with bytes that cannot be right.
pub const CK_E_CORRUPT: i32 = -10;
/// The instance was created before `fork()` and cannot work in the child.
pub const CK_E_FORKED: i32 = -11;

/// In `ttl_ms`: no expiry. Zero never crosses the border.
pub const CK_TTL_NEVER: u64 = u64::MAX;
/// In `deadline_ns`: no deadline.
pub const CK_DEADLINE_NEVER: u64 = u64::MAX;

/// Borrowed bytes. `ptr` may be NULL or dangling when `len` is 0.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkSlice {
    /// First byte.
    pub ptr: *const u8,
    /// Number of bytes.
    pub len: usize,
}

/// Owned bytes. Whoever holds one calls `release(owner, ptr, len)` exactly once, from any thread; NULL means that there
/// is nothing to release (static data, or an empty buffer). The bytes never change while they are held.
///
/// To take a buffer out of a record, copy the struct and fill the original with zeros.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkBuf {
    /// First byte.
    pub ptr: *const u8,
    /// Number of bytes.
    pub len: usize,
    /// Handed back to `release`.
    pub owner: *mut c_void,
    /// Ends the ownership, or NULL.
    pub release: Option<unsafe extern "C" fn(owner: *mut c_void, ptr: *const u8, len: usize)>,
}

impl CkBuf {
    /// No bytes.
    pub const EMPTY: Self = Self { ptr: core::ptr::null(), len: 0, owner: core::ptr::null_mut(), release: None };
}

/// In [`CkError::flags`]: trying again may help, whatever the status usually says.
pub const CK_ERROR_RETRY: u32 = 1;
/// In [`CkError::flags`]: trying again cannot help, whatever the status usually says.
pub const CK_ERROR_NO_RETRY: u32 = 2;

/// What a failed call says beyond its status. The caller passes one filled with zeros; the callee may leave it so.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkError {
    /// The status that the function returns.
    pub code: i32,
    /// `CK_ERROR_*`.
    pub flags: u32,
    /// With a retry: milliseconds to wait before.
    pub retry_after_ms: u64,
    /// Why, for an operator. No key, value or secret. Hosts cut it at 4 KiB.
    pub msg: CkBuf,
}

impl CkError {
    /// Nothing to say.
    pub const EMPTY: Self = Self { code: 0, flags: 0, retry_after_ms: 0, msg: CkBuf::EMPTY };
}

/// A name and a value beside a log message.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkKv {
    /// Name.
    pub key: CkSlice,
    /// Value.
    pub val: CkSlice,
}

/// What accompanies a call. A NULL pointer to it means: no deadline, no trace.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkCallOpt {
    /// `sizeof(CkCallOpt)`.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// When the caller stops waiting: `CLOCK_MONOTONIC`, nanoseconds, or `CK_DEADLINE_NEVER`.
    pub deadline_ns: u64,
    /// W3C traceparent, or empty.
    pub traceparent: CkSlice,
}

/// The identity of one write of a key. Two writes never share one; all zeros is never one.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkVersion {
    /// High half.
    pub hi: u64,
    /// Low half.
    pub lo: u64,
}

/// One element of a batch or of a page of a scan. The array belongs to the host.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkItem {
    /// In: the key. Unused in a scan.
    pub key: CkSlice,
    /// In `set_many`: the value; the plugin may take it. Out in `get_many`: the value. Out in a scan: the key or id.
    pub val: CkBuf,
    /// In `set_many`: life, milliseconds, or `CK_TTL_NEVER`.
    pub ttl_ms: u64,
    /// Out: `CK_OK`, `CK_NO` or an error, as the single operation would return it.
    pub status: i32,
    /// 0.
    pub reserved: u32,
    /// Out, with an error.
    pub err: CkError,
}
