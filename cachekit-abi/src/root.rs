//! The root every plugin exports, and the ids by which powers are found.

use core::ffi::c_void;

use crate::data::{CkError, CkSlice};
use crate::host::CkHostV1;

/// `CACHEKT1` in memory, read as a little-endian number.
pub const CK_MAGIC: u64 = u64::from_le_bytes(*b"CACHEKT1");
/// Hosts accept exactly their own.
pub const CK_ABI_MAJOR: u16 = 1;
/// Counts what was added since 1.0. It tells people what to expect; hosts accept every one, because a power that one side
/// does not know is asked for by its id and not found.
pub const CK_ABI_MINOR: u16 = 0;

/// Id of [`CkBackendV1`](crate::CkBackendV1): the one capability a plugin must have.
pub const CK_ID_BACKEND: &str = "cachekit.backend/1";
/// Id of [`CkAsyncV1`](crate::CkAsyncV1).
pub const CK_ID_ASYNC: &str = "cachekit.async/1";
/// Id of [`CkBatchV1`](crate::CkBatchV1).
pub const CK_ID_BATCH: &str = "cachekit.batch/1";
/// Id of [`CkTtlV1`](crate::CkTtlV1).
pub const CK_ID_TTL: &str = "cachekit.ttl/1";
/// Id of [`CkLockV1`](crate::CkLockV1).
pub const CK_ID_LOCK: &str = "cachekit.lock/1";
/// Id of [`CkCasV1`](crate::CkCasV1).
pub const CK_ID_CAS: &str = "cachekit.cas/1";
/// Id of [`CkScanV1`](crate::CkScanV1).
pub const CK_ID_SCAN: &str = "cachekit.scan/1";
/// Id of [`CkClearV1`](crate::CkClearV1).
pub const CK_ID_CLEAR: &str = "cachekit.clear/1";
/// Id of [`CkConfigSchemaV1`](crate::CkConfigSchemaV1).
pub const CK_ID_CONFIG_SCHEMA: &str = "cachekit.config-schema/1";
/// Id of [`CkWatchV1`](crate::CkWatchV1).
pub const CK_ID_WATCH: &str = "cachekit.watch/1";
/// Id of [`CkFreshnessV1`](crate::CkFreshnessV1).
pub const CK_ID_FRESHNESS: &str = "cachekit.freshness/1";
/// Id of [`CkHostEventV1`](crate::CkHostEventV1), asked of the *host*.
pub const CK_ID_HOST_EVENT: &str = "cachekit.host.event/1";
/// Id of [`CkHostActivityV1`](crate::CkHostActivityV1), asked of the *host*.
pub const CK_ID_HOST_ACTIVITY: &str = "cachekit.host.activity/1";
/// Id of [`CkHostMetricV1`](crate::CkHostMetricV1), asked of the *host*.
pub const CK_ID_HOST_METRIC: &str = "cachekit.host.metric/1";

/// Asked of a *plugin*: a table of abi_stable layouts, for hosts and plugins built with exactly that abi_stable.
pub const CK_ID_REFLECT: &str = "cachekit.reflect.abi_stable/0.11.3";

/// The default name of the exported entry function. Rust plugins append their crate name, so that two of them can be
/// linked into one program; the identity note says which name a library uses.
pub const CK_ENTRY: &str = "cachekit_plugin_v1";
/// Owner of the ELF note (section `.note.cachekit`) that holds a plugin's identity as JSON:
/// `{"id","version","abi","panic","entry"}`.
pub const CK_NOTE_OWNER: &str = "cachekit";
/// Type of that note.
pub const CK_NOTE_TYPE: u32 = 1;

/// What the entry function returns: a static record of 40 bytes. Frozen for ever.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "reflect", derive(abi_stable::StableAbi))]
pub struct CkPluginV1 {
    /// [`CK_MAGIC`].
    pub magic: u64,
    /// [`CK_ABI_MAJOR`].
    pub abi_major: u16,
    /// [`CK_ABI_MINOR`].
    pub abi_minor: u16,
    /// `sizeof(CkPluginV1)`.
    pub struct_size: u32,
    /// Opens an instance from UTF-8 JSON options (empty: no options). `host` stays valid until `destroy` returns.
    /// Serialised with `destroy`.
    pub create: unsafe extern "C" fn(
        host: *const CkHostV1,
        config_json: CkSlice,
        out: *mut *mut c_void,
        err: *mut CkError,
    ) -> i32,
    /// Ends an instance that no call is using any more.
    pub destroy: unsafe extern "C" fn(inst: *mut c_void),
    /// The table of a capability, or NULL. With an instance: what it can do. With NULL: what the library could do.
    /// Tables are static; the answer for one instance never changes.
    pub query: unsafe extern "C" fn(inst: *mut c_void, id: *const u8, id_len: usize) -> *const c_void,
}

/// The one exported function.
pub type CkEntryV1 = unsafe extern "C" fn() -> *const CkPluginV1;
