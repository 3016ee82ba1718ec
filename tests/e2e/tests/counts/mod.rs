//! The counters that every library of `tests/fixtures/bad-c` keeps: what it gave out and what came back.

use std::ffi::c_void;
use std::path::Path;

use cachekit_abi::{CK_ENTRY, CkEntryV1};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

#[repr(C)]
struct CountV1 {
    struct_size: u32,
    flags: u32,
    read: unsafe extern "C" fn(what: u32) -> u64,
}

/// What a library counted so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) given: u64,
    pub(crate) released: u64,
    pub(crate) created: u64,
    pub(crate) destroyed: u64,
    pub(crate) started: u64,
    pub(crate) dropped: u64,
    pub(crate) woken: u64,
}

impl Counts {
    /// Asks the library, which the host has loaded: the loader finds it by its inode.
    pub(crate) fn of(library: &Path) -> Self {
        // SAFETY: the library is loaded, and `test.count` answers with a static table of this form.
        unsafe {
            let handle = Library::open(Some(library), RTLD_NOW | RTLD_LOCAL).unwrap();
            let entry = handle.get::<CkEntryV1>(CK_ENTRY.as_bytes()).unwrap();
            let root = &*entry();
            let id = "test.count";
            let table: *const c_void = (root.query)(std::ptr::null_mut(), id.as_ptr(), id.len());
            let read = (*table.cast::<CountV1>()).read;
            std::mem::forget(handle);
            Self {
                given: read(0),
                released: read(1),
                created: read(2),
                destroyed: read(3),
                started: read(5),
                dropped: read(7),
                woken: read(8),
            }
        }
    }
}
