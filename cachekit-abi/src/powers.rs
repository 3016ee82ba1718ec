//! Powers a store may have beyond `backend/1`, in their blocking form. Each is a table of its own, found by its id.

use core::ffi::c_void;

use crate::data::{CkBuf, CkCallOpt, CkError, CkItem, CkSlice, CkVersion};

/// The table behind [`CK_ID_BATCH`](crate::CK_ID_BATCH): several keys in one exchange. Frozen.
///
/// Each function fills `status` (and `err`) of every item and returns `CK_OK`, or returns an error and nothing is known
/// of any item.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkBatchV1 {
    /// `sizeof(CkBatchV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Fills `val` of every hit.
    pub get_many: unsafe extern "C" fn(
        inst: *mut c_void,
        items: *mut CkItem,
        len: usize,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
    /// Stores `val` of every item; may take them.
    pub set_many: unsafe extern "C" fn(
        inst: *mut c_void,
        items: *mut CkItem,
        len: usize,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
    /// Deletes every key.
    pub delete_many: unsafe extern "C" fn(
        inst: *mut c_void,
        items: *mut CkItem,
        len: usize,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
}

/// The table behind [`CK_ID_TTL`](crate::CK_ID_TTL): reading and renewing the time an entry has left. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkTtlV1 {
    /// `sizeof(CkTtlV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// `CK_OK` with milliseconds left (or `CK_TTL_NEVER`) in `out_ms`, or `CK_NO` if absent.
    pub ttl: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        opt: *const CkCallOpt,
        out_ms: *mut u64,
        err: *mut CkError,
    ) -> i32,
    /// Gives the key a new life; `CK_NO` if absent.
    pub touch: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        ttl_ms: u64,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
}

/// The table behind [`CK_ID_LOCK`](crate::CK_ID_LOCK): leases across processes. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkLockV1 {
    /// `sizeof(CkLockV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Takes the lease for `hold_ms`; `CK_NO` if another holds it. Never waits for the holder.
    pub lock: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        token: CkSlice,
        hold_ms: u64,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
    /// Gives it back; `CK_NO` if it is not held under `token`.
    pub unlock: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        token: CkSlice,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
}

/// The table behind [`CK_ID_CAS`](crate::CK_ID_CAS): writes that happen only if nobody wrote in between. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkCasV1 {
    /// `sizeof(CkCasV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// `CK_OK` with value and version, or `CK_NO`.
    pub get_version: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        opt: *const CkCallOpt,
        out: *mut CkBuf,
        version: *mut CkVersion,
        err: *mut CkError,
    ) -> i32,
    /// Stores if the key has version `*expect` (NULL: is absent), else `CK_NO`.
    pub set_if: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        val: CkSlice,
        ttl_ms: u64,
        expect: *const CkVersion,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
}

/// The table behind [`CK_ID_SCAN`](crate::CK_ID_SCAN): enumeration. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkScanV1 {
    /// `sizeof(CkScanV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Fills `val` of at most `max` items, their number, and in `out_cursor` where the next page starts (empty: none).
    /// `cursor` is empty at the start.
    pub next: unsafe extern "C" fn(
        inst: *mut c_void,
        prefix: CkSlice,
        cursor: CkSlice,
        items: *mut CkItem,
        max: usize,
        opt: *const CkCallOpt,
        out_len: *mut usize,
        out_cursor: *mut CkBuf,
        err: *mut CkError,
    ) -> i32,
    /// The value behind an item of a page, or `CK_NO`.
    pub read: unsafe extern "C" fn(
        inst: *mut c_void,
        id: CkSlice,
        opt: *const CkCallOpt,
        out: *mut CkBuf,
        err: *mut CkError,
    ) -> i32,
}

/// The table behind [`CK_ID_CLEAR`](crate::CK_ID_CLEAR): removal of many entries. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkClearV1 {
    /// `sizeof(CkClearV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Removes what begins with `prefix`; their number in `out_removed`.
    pub clear: unsafe extern "C" fn(
        inst: *mut c_void,
        prefix: CkSlice,
        opt: *const CkCallOpt,
        out_removed: *mut u64,
        err: *mut CkError,
    ) -> i32,
}

/// The table behind [`CK_ID_WATCH`](crate::CK_ID_WATCH): telling of changes by others, through
/// [`CkHostEventV1`](crate::CkHostEventV1). Frozen.
///
/// A watch is known by a number, which the host chooses, so that an event may come before `watch` has returned. No number
/// is used twice with one instance.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkWatchV1 {
    /// `sizeof(CkWatchV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Begins the watch numbered `watch` over keys that begin with `prefix` (empty: all). `CK_OK` once the store has
    /// confirmed: every change by another writer that happens later is told, or `CK_EVENT_LOST` is, within two seconds
    /// also where a connection died without a word. What this instance writes itself is not told. Without `CK_OK` there is
    /// no watch.
    pub watch: unsafe extern "C" fn(
        inst: *mut c_void,
        prefix: CkSlice,
        watch: u64,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
    /// Ends it, also one that was lost. Never waits. Hosts drop events that come later.
    pub unwatch: unsafe extern "C" fn(inst: *mut c_void, watch: u64),
}

/// In [`CkFreshnessV1`]: past its life, inside its stale window.
pub const CK_DATED_STALE: u32 = 1;
/// In [`CkFreshnessV1`]: the store did not say for how long the value may be kept.
pub const CK_FRESH_UNKNOWN: u64 = u64::MAX;

/// The table behind [`CK_ID_FRESHNESS`](crate::CK_ID_FRESHNESS): a stale window beside the life of an entry. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkFreshnessV1 {
    /// `sizeof(CkFreshnessV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// As `get`, but also returns what is stale. `out_flags`: `CK_DATED_*`; `out_fresh_ms`: milliseconds for which the
    /// value may be kept elsewhere, or `CK_FRESH_UNKNOWN`; 0: it may not.
    pub get_dated: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        opt: *const CkCallOpt,
        out: *mut CkBuf,
        out_flags: *mut u32,
        out_fresh_ms: *mut u64,
        err: *mut CkError,
    ) -> i32,
    /// As `set`; for `stale_ms` (≥ 1) after its life the entry may still be handed out as stale.
    pub set_stale: unsafe extern "C" fn(
        inst: *mut c_void,
        key: CkSlice,
        val: CkSlice,
        ttl_ms: u64,
        stale_ms: u64,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32,
}

/// The table behind [`CK_ID_CONFIG_SCHEMA`](crate::CK_ID_CONFIG_SCHEMA): what options `create` takes. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkConfigSchemaV1 {
    /// `sizeof(CkConfigSchemaV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// A JSON Schema (2020-12), static text.
    pub schema: unsafe extern "C" fn(out: *mut CkSlice) -> i32,
}
