//! The capability tables of a plugin or an instance, found by id and checked before anything in them is called.

use std::ffi::c_void;

use cachekit_abi::{
    CK_ID_ASYNC, CK_ID_BACKEND, CK_ID_BATCH, CK_ID_CAS, CK_ID_CLEAR, CK_ID_CONFIG_SCHEMA, CK_ID_FRESHNESS, CK_ID_LOCK,
    CK_ID_SCAN, CK_ID_TTL, CK_ID_WATCH, CkAsyncV1, CkBackendV1, CkBatchV1, CkCasV1, CkClearV1, CkConfigSchemaV1,
    CkFreshnessV1, CkLockV1, CkPluginV1, CkScanV1, CkTtlV1, CkWatchV1,
};

/// What an instance can do.
#[derive(Clone, Copy)]
pub(crate) struct Tables {
    pub(crate) backend: &'static CkBackendV1,
    pub(crate) driver: Option<&'static CkAsyncV1>,
    pub(crate) batch: Option<&'static CkBatchV1>,
    pub(crate) ttl: Option<&'static CkTtlV1>,
    pub(crate) lock: Option<&'static CkLockV1>,
    pub(crate) cas: Option<&'static CkCasV1>,
    pub(crate) scan: Option<&'static CkScanV1>,
    pub(crate) clear: Option<&'static CkClearV1>,
    pub(crate) watch: Option<&'static CkWatchV1>,
    pub(crate) freshness: Option<&'static CkFreshnessV1>,
}

impl Tables {
    /// # Safety
    /// `inst` is NULL or a live instance of this plugin.
    pub(crate) unsafe fn of(root: &CkPluginV1, inst: *mut c_void) -> Result<Self, String> {
        // SAFETY: by the contract of this function, for each of them.
        unsafe {
            let Some(backend) = table(root, inst, CK_ID_BACKEND)? else {
                return Err(format!("it has no {CK_ID_BACKEND}, the one capability a plugin must have"));
            };
            Ok(Self {
                backend,
                driver: table(root, inst, CK_ID_ASYNC)?,
                batch: table(root, inst, CK_ID_BATCH)?,
                ttl: table(root, inst, CK_ID_TTL)?,
                lock: table(root, inst, CK_ID_LOCK)?,
                cas: table(root, inst, CK_ID_CAS)?,
                scan: table(root, inst, CK_ID_SCAN)?,
                clear: table(root, inst, CK_ID_CLEAR)?,
                watch: table(root, inst, CK_ID_WATCH)?,
                freshness: table(root, inst, CK_ID_FRESHNESS)?,
            })
        }
    }
}

/// The options a plugin takes, if it says so.
pub(crate) fn config_schema(root: &CkPluginV1) -> Result<Option<&'static CkConfigSchemaV1>, String> {
    // SAFETY: NULL asks the library itself.
    unsafe { table(root, std::ptr::null_mut(), CK_ID_CONFIG_SCHEMA) }
}

/// A table of the contract: `struct_size` and `flags`, then nothing but functions.
///
/// # Safety
/// Implemented for exactly such records.
unsafe trait Table: 'static {}

macro_rules! tables {
    ($($table:ty),*) => {
        // SAFETY: two u32 and then function pointers; `functions_of` relies on it and on this size being whole words.
        $(unsafe impl Table for $table {}
        const _: () = assert!(size_of::<$table>() % size_of::<usize>() == 0);)*
    };
}

tables!(
    CkBackendV1,
    CkAsyncV1,
    CkBatchV1,
    CkTtlV1,
    CkLockV1,
    CkCasV1,
    CkScanV1,
    CkClearV1,
    CkWatchV1,
    CkFreshnessV1,
    CkConfigSchemaV1
);

/// # Safety
/// As [`Tables::of`].
unsafe fn table<T: Table>(root: &CkPluginV1, inst: *mut c_void, id: &str) -> Result<Option<&'static T>, String> {
    // SAFETY: by the contract of this function.
    let found = unsafe { (root.query)(inst, id.as_ptr(), id.len()) };
    if found.is_null() {
        return Ok(None);
    }
    if !found.cast::<T>().is_aligned() {
        return Err(format!("its table {id} is not aligned"));
    }
    // SAFETY: every table begins with its size.
    let size = unsafe { found.cast::<u32>().read() } as usize;
    if size < size_of::<T>() {
        return Err(format!("its table {id} has {size} bytes, the contract {}", size_of::<T>()));
    }
    // Function pointers must not be NULL, which has to be seen before they are function pointers.
    let words = (size_of::<T>() - 8) / size_of::<usize>();
    // SAFETY: the table has at least this size, and what follows its first 8 bytes are pointers.
    let functions = unsafe { std::slice::from_raw_parts(found.byte_add(8).cast::<usize>(), words) };
    if let Some(missing) = functions.iter().position(|&function| function == 0) {
        return Err(format!("function {} of its table {id} is NULL", missing + 1));
    }
    // SAFETY: tables are static, and this one has its size and all of its functions.
    Ok(Some(unsafe { &*found.cast::<T>() }))
}

/// Whether the root has all of its functions; they stand behind its first 16 bytes.
///
/// # Safety
/// `root` points to a root of at least the contract's size.
pub(crate) unsafe fn root_is_whole(root: *const CkPluginV1) -> bool {
    // SAFETY: by the contract of this function.
    let functions = unsafe { std::slice::from_raw_parts(root.byte_add(16).cast::<usize>(), 3) };
    functions.iter().all(|&function| function != 0)
}
