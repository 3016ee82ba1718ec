//! The second door for Rust plugins: the layouts of this crate's types, as abi_stable sees them.
//!
//! `struct_size` is blind to a field that changed its type but not its size, to a parameter more, and to a record behind
//! a pointer. abi_stable follows all of these. It checks the contract; it is not the contract (`docs/abi.md` says why).

use core::ffi::c_void;

use abi_stable::StableAbi;
use abi_stable::type_layout::TypeLayout;

use crate::*;

/// One type of the contract.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CkLayout {
    /// Which capability it belongs to.
    pub id: &'static str,
    /// Its layout.
    pub layout: &'static TypeLayout,
}

/// What a plugin answers to [`CK_ID_REFLECT`]. Both sides are built with exactly the abi_stable that the id names, which
/// is what makes the pointers below mean the same to both.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CkReflectV1 {
    /// `sizeof(CkReflectV1)`.
    pub struct_size: u32,
    /// Number of entries.
    pub len: u32,
    /// First of `len` [`CkReflectEntry`].
    pub entries: *const CkReflectEntry,
}

/// One entry of a [`CkReflectV1`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CkReflectEntry {
    /// Id of the capability.
    pub id: CkSlice,
    /// A `&'static TypeLayout`.
    pub layout: *const c_void,
}

/// The layouts that this build of the crate has, by capability. The first entries are those without which nothing works.
pub fn layouts() -> [CkLayout; 17] {
    const fn of<T: StableAbi>(id: &'static str) -> CkLayout {
        CkLayout { id, layout: T::LAYOUT }
    }
    [
        of::<CkPluginV1>("root"),
        of::<CkHostV1>("host"),
        of::<CkBackendV1>(CK_ID_BACKEND),
        of::<CkLimits>("limits"),
        of::<CkAsyncV1>(CK_ID_ASYNC),
        of::<CkBatchV1>(CK_ID_BATCH),
        of::<CkTtlV1>(CK_ID_TTL),
        of::<CkLockV1>(CK_ID_LOCK),
        of::<CkCasV1>(CK_ID_CAS),
        of::<CkScanV1>(CK_ID_SCAN),
        of::<CkClearV1>(CK_ID_CLEAR),
        of::<CkWatchV1>(CK_ID_WATCH),
        of::<CkFreshnessV1>(CK_ID_FRESHNESS),
        of::<CkConfigSchemaV1>(CK_ID_CONFIG_SCHEMA),
        of::<CkHostEventV1>(CK_ID_HOST_EVENT),
        of::<CkHostActivityV1>(CK_ID_HOST_ACTIVITY),
        of::<CkHostMetricV1>(CK_ID_HOST_METRIC),
    ]
}
