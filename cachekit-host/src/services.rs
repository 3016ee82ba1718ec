//! This host's services as one instance sees them.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use cachekit_abi::{CK_ABI_MINOR, CK_E_CONFIG, CK_E_INTERNAL, CK_OK, CkBuf, CkHostV1, CkKv, CkSlice};
use cachekit_plugin::{HostServices, LogLevel, raw};

/// The table an instance is created with, and what stands behind it. Lives until the instance was destroyed.
pub(crate) struct ServiceTable {
    table: Box<CkHostV1>,
    _behind: Arc<Behind>,
}

struct Behind {
    services: HostServices,
    /// Log targets carry the plugin's name, so that an operator sees whose line it is.
    id: String,
}

impl ServiceTable {
    pub(crate) fn new(services: HostServices, id: &str) -> Self {
        let behind = Arc::new(Behind { services, id: id.to_owned() });
        let table = Box::new(CkHostV1 {
            struct_size: size_of::<CkHostV1>() as u32,
            abi_minor: CK_ABI_MINOR,
            reserved: 0,
            host: Arc::as_ptr(&behind).cast_mut().cast(),
            log,
            secret,
            query,
        });
        Self { table, _behind: behind }
    }

    pub(crate) fn as_ptr(&self) -> *const CkHostV1 {
        std::ptr::from_ref(&*self.table)
    }
}

// SAFETY: the table is read-only, and everything behind it may be used from any thread.
unsafe impl Send for ServiceTable {}
// SAFETY: as above.
unsafe impl Sync for ServiceTable {}

/// Longest log line and longest secret reference that are taken, bytes.
const MAX_TEXT: usize = 16 << 10;
/// Most fields beside a log line.
const MAX_FIELDS: usize = 32;

/// Reads text that came from a plugin: cut, then decoded lossily.
///
/// # Safety
/// The slice is readable for the call.
unsafe fn text<'a>(slice: CkSlice) -> std::borrow::Cow<'a, str> {
    // SAFETY: by the contract of this function.
    let bytes = unsafe { raw::bytes_of(CkSlice { ptr: slice.ptr, len: slice.len.min(MAX_TEXT) }) };
    String::from_utf8_lossy(bytes)
}

unsafe extern "C" fn log(
    host: *mut c_void,
    level: u32,
    target: CkSlice,
    msg: CkSlice,
    fields: *const CkKv,
    fields_len: usize,
) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the plugin passes the pointer it was given, before it was destroyed, and slices that are readable.
        let (behind, target, msg) = unsafe { (&*host.cast::<Behind>(), text(target), text(msg)) };
        let fields = if fields.is_null() || fields_len == 0 {
            &[]
        } else {
            // SAFETY: as above.
            unsafe { std::slice::from_raw_parts(fields, fields_len.min(MAX_FIELDS)) }
        };
        // SAFETY: as above.
        let owned: Vec<_> = fields.iter().map(|field| unsafe { (text(field.key), text(field.val)) }).collect();
        let mut pairs: Vec<(&str, &str)> = owned.iter().map(|(key, val)| (&**key, &**val)).collect();
        pairs.push(("plugin", &behind.id));
        let level = match level {
            1 => LogLevel::Error,
            2 => LogLevel::Warn,
            3 => LogLevel::Info,
            4 => LogLevel::Debug,
            _ => LogLevel::Trace,
        };
        behind.services.log(level, &target, &msg, &pairs);
    }));
}

unsafe extern "C" fn secret(host: *mut c_void, reference: CkSlice, out: *mut CkBuf) -> i32 {
    let answer = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as in `log`.
        let (behind, reference) = unsafe { (&*host.cast::<Behind>(), text(reference)) };
        behind.services.secret(&reference).map_err(|error| error.message().to_owned())
    }));
    let (status, text) = match answer {
        Ok(Ok(secret)) => (CK_OK, secret),
        Ok(Err(reason)) => (CK_E_CONFIG, reason),
        Err(_) => (CK_E_INTERNAL, "the host could not resolve it".to_owned()),
    };
    if !out.is_null() {
        // SAFETY: the plugin passes a writable buffer.
        unsafe { out.write(raw::give(Bytes::from(text))) };
    }
    status
}

/// No capabilities beyond the table yet: backends that tell of changes by others bring the first.
unsafe extern "C" fn query(_: *mut c_void, _: *const u8, _: usize) -> *const c_void {
    std::ptr::null()
}
