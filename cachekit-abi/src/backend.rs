//! `backend/1`: the seven operations every store has, in their blocking form.

use core::ffi::c_void;

use crate::data::{CkBuf, CkCallOpt, CkError, CkSlice};

/// In [`CkBackendV1::flags`]: no function ever waits for anything but memory, so hosts may call from any thread,
/// asynchronous ones included. Without it hosts call from threads that may block.
pub const CK_BACKEND_FAST: u32 = 1;

/// In [`CkLimits::key_bytes`]: any byte.
pub const CK_KEYS_ANY: u32 = 0;
/// In [`CkLimits::key_bytes`]: `!` to `~`.
pub const CK_KEYS_PRINTABLE: u32 = 1;

/// In [`CkLimits::enumerates`]: a scan is not possible.
pub const CK_ENUM_NO: u32 = 0;
/// In [`CkLimits::enumerates`]: a scan lists keys.
pub const CK_ENUM_KEYS: u32 = 1;
/// In [`CkLimits::enumerates`]: a scan lists opaque ids.
pub const CK_ENUM_IDS: u32 = 2;

/// What keys, values and lives an instance takes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkLimits {
    /// `sizeof(CkLimits)`.
    pub struct_size: u32,
    /// Longest key, bytes.
    pub max_key: u32,
    /// `CK_KEYS_*`.
    pub key_bytes: u32,
    /// `CK_ENUM_*`.
    pub enumerates: u32,
    /// A deadline that suits the store, milliseconds, or 0.
    pub deadline_hint_ms: u32,
    /// 0.
    pub reserved: u32,
    /// Largest value, bytes.
    pub max_value: u64,
    /// Lives are rounded up to this step, milliseconds.
    pub ttl_step_ms: u64,
    /// Longer lives are shortened to this, milliseconds; `CK_TTL_NEVER`: no ceiling.
    pub ttl_max_ms: u64,
}

/// The table behind [`CK_ID_BACKEND`](crate::CK_ID_BACKEND). Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkBackendV1 {
    /// `sizeof(CkBackendV1)`.
    pub struct_size: u32,
    /// `CK_BACKEND_*`.
    pub flags: u32,
    /// Fills `out`, whose `struct_size` the host has set.
    pub limits: unsafe extern "C" fn(inst: *mut c_void, out: *mut CkLimits) -> i32,
    /// `CK_OK` with `out` filled, or `CK_NO`.
    pub get: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        opt: *const CkCallOpt,
        out: *mut CkBuf,
        err: *mut CkError,
    ) -> i32,
    /// Stores borrowed bytes. `ttl_ms` ≥ 1, or `CK_TTL_NEVER`.
    pub set: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        val: CkSlice,
        ttl_ms: u64,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
    /// As `set`; the plugin may keep the buffer by filling `*val` with zeros.
    pub set_owned: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        val: *mut CkBuf,
        ttl_ms: u64,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
    /// `CK_OK` if there was something to delete, else `CK_NO`.
    pub delete_key:
        unsafe extern "C" fn(inst: *mut c_void, key: CkSlice, opt: *const CkCallOpt, err: *mut CkError) -> i32,
    /// `CK_OK` if present, else `CK_NO`.
    pub exists: unsafe extern "C" fn(inst: *mut c_void, key: CkSlice, opt: *const CkCallOpt, err: *mut CkError) -> i32,
    /// Fills `out` with JSON: `healthy`, `latency_ms`, `backend_type`, optionally `details`.
    pub health:
        unsafe extern "C" fn(inst: *mut c_void, opt: *const CkCallOpt, out: *mut CkBuf, err: *mut CkError) -> i32,
    /// Flushes and releases what the instance holds; may be called twice. `destroy` follows.
    pub close: unsafe extern "C" fn(inst: *mut c_void, opt: *const CkCallOpt, err: *mut CkError) -> i32,
}
