//! `async/1`: every operation in its waiting form, driven by the caller's task.
//!
//! Poll-style rather than completions from a plugin thread: at 256 callers on a loopback Redis the hand-over between
//! threads cost 38 to 77 % of the throughput, polling 2 to 26 %. See `docs/abi.md`.

use core::ffi::c_void;

use crate::data::{CkBuf, CkCallOpt, CkError, CkItem, CkSlice, CkVersion};

/// [`CkOp::kind`]: `key` → [`CkOut::buf`].
pub const CK_OP_GET: u32 = 1;
/// [`CkOp::kind`]: `key`, `val`, `ttl_ms`.
pub const CK_OP_SET: u32 = 2;
/// [`CkOp::kind`]: `key`.
pub const CK_OP_DELETE: u32 = 3;
/// [`CkOp::kind`]: `key`.
pub const CK_OP_EXISTS: u32 = 4;
/// [`CkOp::kind`]: → JSON in [`CkOut::buf`].
pub const CK_OP_HEALTH: u32 = 5;
/// [`CkOp::kind`].
pub const CK_OP_CLOSE: u32 = 6;
/// [`CkOp::kind`]: `items`.
pub const CK_OP_GET_MANY: u32 = 7;
/// [`CkOp::kind`]: `items`.
pub const CK_OP_SET_MANY: u32 = 8;
/// [`CkOp::kind`]: `items`.
pub const CK_OP_DELETE_MANY: u32 = 9;
/// [`CkOp::kind`]: `key` → milliseconds in [`CkOut::num`].
pub const CK_OP_TTL: u32 = 10;
/// [`CkOp::kind`]: `key`, `ttl_ms`.
pub const CK_OP_TOUCH: u32 = 11;
/// [`CkOp::kind`]: `key`, token in `aux`, hold in `ttl_ms`.
pub const CK_OP_LOCK: u32 = 12;
/// [`CkOp::kind`]: `key`, token in `aux`.
pub const CK_OP_UNLOCK: u32 = 13;
/// [`CkOp::kind`]: `key` → [`CkOut::buf`], [`CkOut::version`].
pub const CK_OP_GET_VERSION: u32 = 14;
/// [`CkOp::kind`]: `key`, `val`, `ttl_ms`, `version` (NULL: absent).
pub const CK_OP_SET_IF: u32 = 15;
/// [`CkOp::kind`]: prefix in `key`, cursor in `aux`, room in `items` → count in [`CkOut::num`], next cursor in
/// [`CkOut::buf`].
pub const CK_OP_SCAN: u32 = 16;
/// [`CkOp::kind`]: id in `key` → [`CkOut::buf`].
pub const CK_OP_READ: u32 = 17;
/// [`CkOp::kind`]: prefix in `key` → count in [`CkOut::num`].
pub const CK_OP_CLEAR: u32 = 18;
/// [`CkOp::kind`]: prefix in `key`, number of the watch in `num`. Ended by [`CkWatchV1::unwatch`](crate::CkWatchV1).
pub const CK_OP_WATCH: u32 = 19;
/// [`CkOp::kind`]: `key` → [`CkOut::buf`], `CK_DATED_*` in [`CkOut::flags`], milliseconds or `CK_FRESH_UNKNOWN` in
/// [`CkOut::num`].
pub const CK_OP_GET_DATED: u32 = 20;
/// [`CkOp::kind`]: `key`, `val`, `ttl_ms`, stale window in `num`.
pub const CK_OP_SET_STALE: u32 = 21;

/// One operation. All pointers are valid during `start` only, except `items`, which lives with its keys until `drop_op`
/// returns.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkOp {
    /// `sizeof(CkOp)`.
    pub struct_size: u32,
    /// `CK_OP_*`.
    pub kind: u32,
    /// Key, prefix or id.
    pub key: CkSlice,
    /// Token or cursor.
    pub aux: CkSlice,
    /// The value, which the plugin may take; or NULL.
    pub val: *mut CkBuf,
    /// Life or hold, milliseconds.
    pub ttl_ms: u64,
    /// Number of a watch, or a stale window in milliseconds.
    pub num: u64,
    /// Expected version, or NULL.
    pub version: *const CkVersion,
    /// Elements of a batch, or room for a page.
    pub items: *mut CkItem,
    /// Their number.
    pub items_len: usize,
    /// Deadline and trace, or NULL.
    pub opt: *const CkCallOpt,
}

/// What an operation leaves when it is ready. The host passes one filled with zeros to every `poll`.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkOut {
    /// `sizeof(CkOut)`, set by the host.
    pub struct_size: u32,
    /// `CK_DATED_*`, else 0.
    pub flags: u32,
    /// Value, JSON or cursor.
    pub buf: CkBuf,
    /// Count or milliseconds.
    pub num: u64,
    /// Version.
    pub version: CkVersion,
}

/// The functions of a waker. Every one may be called from any thread.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkWakerVtable {
    /// `sizeof(CkWakerVtable)`.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// A second handle.
    pub clone: unsafe extern "C" fn(data: *const c_void) -> *const c_void,
    /// Wakes without ending the handle.
    pub wake_by_ref: unsafe extern "C" fn(data: *const c_void),
    /// Ends a handle that came from `clone`.
    pub release: unsafe extern "C" fn(data: *const c_void),
}

/// Says when to poll again. Borrowed during `poll`; to keep it, `clone` it, and `release` the clone exactly once.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkWaker {
    /// Handed to the functions.
    pub data: *const c_void,
    /// Valid for as long as any handle.
    pub vtable: *const CkWakerVtable,
}

/// The table behind [`CK_ID_ASYNC`](crate::CK_ID_ASYNC). Frozen.
///
/// It covers every power: a plugin that has this table and, say, `batch/1` takes `CK_OP_GET_MANY` here. A host that
/// finds this table uses it for everything.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkAsyncV1 {
    /// `sizeof(CkAsyncV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Begins an operation and copies what it needs of `op`. NULL: refused, with the reason in `err`. Never waits.
    pub start: unsafe extern "C" fn(inst: *mut c_void, op: *const CkOp, err: *mut CkError) -> *mut c_void,
    /// Moves it on: `CK_PENDING`, or once its final status. Never waits. Never called again after a final status, nor
    /// at the same time as itself.
    pub poll:
        unsafe extern "C" fn(state: *mut c_void, waker: *const CkWaker, out: *mut CkOut, err: *mut CkError) -> i32,
    /// Ends it: after the final status, or before, to cancel. Called exactly once. Never waits.
    pub drop_op: unsafe extern "C" fn(state: *mut c_void),
}
