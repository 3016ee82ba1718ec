//! The record that the entry function returns, and the answers to `query`.

use std::ffi::c_void;

use cachekit_abi::{self as abi, CkError, CkHostV1, CkPluginV1, CkSlice};

use super::host::Border;
use super::instance::{Instance, Powers, entry};
use super::{calls, driver, runtime, said};
use crate::backend::Backend;
use crate::error::Operation;
use crate::open::Open;
use crate::raw;

/// What `export_backend!` says of a library.
pub trait Export: 'static {
    /// The backend behind it.
    type Backend: Open;
    /// Its name.
    const ID: &'static str;
    /// What it can do.
    const POWERS: Powers;
}

/// The root of the library that exports `E`.
pub fn plugin<E: Export>() -> *const CkPluginV1 {
    const {
        assert!(
            !<E::Backend as Open>::TOKIO || runtime::AVAILABLE,
            "Open::TOKIO needs the feature `tokio` of cachekit-plugin"
        );
        &CkPluginV1 {
            magic: abi::CK_MAGIC,
            abi_major: abi::CK_ABI_MAJOR,
            abi_minor: abi::CK_ABI_MINOR,
            struct_size: size_of::<CkPluginV1>() as u32,
            create: create::<E>,
            destroy: destroy::<E>,
            query: query::<E>,
        }
    }
}

unsafe extern "C" fn create<E: Export>(
    host: *const CkHostV1,
    config_json: CkSlice,
    out: *mut *mut c_void,
    err: *mut CkError,
) -> i32 {
    // SAFETY: `err`, `out`, `host` and the slice are as the header requires of the host.
    unsafe {
        entry(Operation::Open, err, || {
            runtime::start(E::Backend::TOKIO);
            let _runtime = runtime::enter(E::Backend::TOKIO);
            let border = Border::new(host);
            said::listen(&border, E::Backend::LOG_LEVEL);
            let unless_opened = Border::ending(&border);
            let backend = E::Backend::open_json(raw::bytes_of(config_json), border.services())?;
            out.write(Instance::new(backend, border).into_raw());
            unless_opened.forget();
            Ok(abi::CK_OK)
        })
    }
}

unsafe extern "C" fn destroy<E: Export>(inst: *mut c_void) {
    if inst.is_null() {
        return;
    }
    // SAFETY: the host destroys an instance once, after its last call.
    unsafe {
        entry(Operation::Close, std::ptr::null_mut(), || {
            let _runtime = runtime::enter(E::Backend::TOKIO);
            Instance::<E::Backend>::end(inst);
            Ok(abi::CK_OK)
        });
    }
}

unsafe extern "C" fn query<E: Export>(inst: *mut c_void, id: *const u8, id_len: usize) -> *const c_void {
    // SAFETY: the host passes a readable id and, if any, a live instance.
    let (id, backend) = unsafe {
        let backend = (!inst.is_null()).then(|| &Instance::<E::Backend>::borrow(inst).backend);
        (raw::bytes_of(CkSlice { ptr: id, len: id_len }), backend)
    };
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| table::<E>(id, backend)));
    found.ok().flatten().unwrap_or(std::ptr::null())
}

/// The table of a capability: only what the library declares and, if there is an instance, what that one can do.
fn table<E: Export>(id: &[u8], backend: Option<&E::Backend>) -> Option<*const c_void> {
    fn table_of<T>(table: &'static T) -> *const c_void {
        std::ptr::from_ref(table).cast()
    }
    let id = std::str::from_utf8(id).ok()?;
    let has = |declared: bool, ask: fn(&E::Backend) -> bool| declared && backend.is_none_or(ask);
    match id {
        abi::CK_ID_BACKEND => Some(table_of(calls::backend::<E>())),
        abi::CK_ID_ASYNC => Some(table_of(driver::table::<E>())),
        abi::CK_ID_BATCH if has(E::POWERS.batch, |b| b.batch().is_some()) => Some(table_of(calls::batch::<E>())),
        abi::CK_ID_TTL if has(E::POWERS.ttl, |b| b.ttl().is_some()) => Some(table_of(calls::ttl::<E>())),
        abi::CK_ID_LOCK if has(E::POWERS.lock, |b| b.locks().is_some()) => Some(table_of(calls::lock::<E>())),
        abi::CK_ID_CAS if has(E::POWERS.cas, |b| b.cas().is_some()) => Some(table_of(calls::cas::<E>())),
        abi::CK_ID_SCAN if has(E::POWERS.scan, |b| b.scan().is_some()) => Some(table_of(calls::scan::<E>())),
        abi::CK_ID_CLEAR if has(E::POWERS.clear, |b| b.clear().is_some()) => Some(table_of(calls::clear::<E>())),
        abi::CK_ID_WATCH if has(E::POWERS.watch, |b| b.watch().is_some()) => Some(table_of(calls::watch::<E>())),
        abi::CK_ID_FRESHNESS if has(E::POWERS.freshness, |b| b.freshness().is_some()) => {
            Some(table_of(calls::freshness::<E>()))
        }
        abi::CK_ID_CONFIG_SCHEMA => Some(table_of(calls::config_schema::<E>())),
        #[cfg(feature = "reflect")]
        abi::CK_ID_REFLECT => Some(reflection()),
        _ => None,
    }
}

/// The layouts of the types this library was built with.
#[cfg(feature = "reflect")]
fn reflection() -> *const c_void {
    use std::sync::OnceLock;

    use cachekit_abi::reflect::{CkReflectEntry, CkReflectV1, layouts};

    struct Table(CkReflectV1);
    // SAFETY: the record and everything it points to are static and never change.
    unsafe impl Send for Table {}
    // SAFETY: as above.
    unsafe impl Sync for Table {}

    static TABLE: OnceLock<Table> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let entries: Vec<CkReflectEntry> = layouts()
            .into_iter()
            .map(|known| CkReflectEntry {
                id: raw::slice_of(known.id.as_bytes()),
                layout: std::ptr::from_ref(known.layout).cast(),
            })
            .collect();
        let entries = entries.leak();
        Table(CkReflectV1 {
            struct_size: size_of::<CkReflectV1>() as u32,
            len: entries.len() as u32,
            entries: entries.as_ptr(),
        })
    });
    std::ptr::from_ref(&table.0).cast()
}

#[cfg(test)]
mod tests;
