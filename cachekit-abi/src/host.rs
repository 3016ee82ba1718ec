//! What a host offers to its plugins.

use core::ffi::c_void;

use crate::data::{CkBuf, CkKv, CkSlice};

/// Log levels.
pub const CK_LOG_ERROR: u32 = 1;
/// Log levels.
pub const CK_LOG_WARN: u32 = 2;
/// Log levels.
pub const CK_LOG_INFO: u32 = 3;
/// Log levels.
pub const CK_LOG_DEBUG: u32 = 4;
/// Log levels.
pub const CK_LOG_TRACE: u32 = 5;

/// Services of the host, valid from `create` until `destroy` returns. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkHostV1 {
    /// `sizeof(CkHostV1)`.
    pub struct_size: u32,
    /// Minor version of the host.
    pub abi_minor: u16,
    /// 0.
    pub reserved: u16,
    /// First argument of the functions.
    pub host: *mut c_void,
    /// Takes a log line.
    pub log: unsafe extern "C" fn(
        host: *mut c_void,
        level: u32,
        target: CkSlice,
        msg: CkSlice,
        fields: *const CkKv,
        fields_len: usize,
    ),
    /// Resolves a reference such as `env:NAME` or `file:/path`. `CK_OK` with the secret, else an error status with the
    /// reason, in `out`.
    pub secret: unsafe extern "C" fn(host: *mut c_void, reference: CkSlice, out: *mut CkBuf) -> i32,
    /// The table of a host capability, or NULL.
    pub query: unsafe extern "C" fn(host: *mut c_void, id: *const u8, id_len: usize) -> *const c_void,
}

/// [`CkHostEventV1::emit`]: the entry of `key` changed or went.
pub const CK_EVENT_CHANGED: u32 = 1;
/// [`CkHostEventV1::emit`]: anything may have changed.
pub const CK_EVENT_EVERYTHING: u32 = 2;
/// [`CkHostEventV1::emit`]: changes can no longer be told; this watch is over.
pub const CK_EVENT_LOST: u32 = 3;

/// The table behind [`CK_ID_HOST_EVENT`](crate::CK_ID_HOST_EVENT): a store tells of changes by others. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkHostEventV1 {
    /// `sizeof(CkHostEventV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Tells the watch numbered `watch` of a change, from any thread; `key` is empty but for `CK_EVENT_CHANGED`. Does
    /// not wait. An event of a watch that the host has ended, or never began, is dropped. A kind that the host does not
    /// know is taken as `CK_EVENT_EVERYTHING`.
    pub emit: unsafe extern "C" fn(host: *mut c_void, watch: u64, kind: u32, key: CkSlice),
}

/// [`CkHostMetricV1::define`]: a number that only grows; `record` adds to it.
pub const CK_METRIC_COUNTER: u32 = 1;
/// [`CkHostMetricV1::define`]: a number as it is now; `record` sets it.
pub const CK_METRIC_GAUGE: u32 = 2;

/// The table behind [`CK_ID_HOST_METRIC`](crate::CK_ID_HOST_METRIC): numbers of a plugin beside those of its host. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkHostMetricV1 {
    /// `sizeof(CkHostMetricV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// The number of the metric of that name, which is the same each time; `kind` is `CK_METRIC_*`. A name has 1 to 64 of
    /// `a` to `z`, digits and `_`, with its unit last. 0: not taken, because of its name or kind, or because the instance
    /// has 64 of them.
    pub define: unsafe extern "C" fn(host: *mut c_void, kind: u32, name: CkSlice) -> u64,
    /// Adds to a counter or sets a gauge. Does not wait. A number that was not given is ignored.
    pub record: unsafe extern "C" fn(host: *mut c_void, metric: u64, value: u64),
}

/// In [`CkActivity::flags`]: there is an in-process tier.
pub const CK_ACTIVITY_L1: u32 = 1;

/// What the cache above an instance did so far.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkActivity {
    /// `sizeof(CkActivity)`, set by the plugin before the call.
    pub struct_size: u32,
    /// `CK_ACTIVITY_*`.
    pub flags: u32,
    /// Values served from the process.
    pub l1_hits: u64,
    /// Values found in the store.
    pub l2_hits: u64,
    /// Keys found in neither.
    pub misses: u64,
}

/// The table behind [`CK_ID_HOST_ACTIVITY`](crate::CK_ID_HOST_ACTIVITY): for stores that are told of the cache above them
/// with each request. Frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkHostActivityV1 {
    /// `sizeof(CkHostActivityV1)`.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// `CK_OK` with `out` filled, or `CK_NO` as long as no cache stands above the instance.
    pub read: unsafe extern "C" fn(host: *mut c_void, out: *mut CkActivity) -> i32,
}
