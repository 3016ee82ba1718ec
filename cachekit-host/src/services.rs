//! This host's services as one instance sees them.

use std::collections::HashMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use cachekit_abi::{
    self as abi, CK_ABI_MINOR, CK_E_CONFIG, CK_E_INTERNAL, CK_NO, CK_OK, CkActivity, CkBuf, CkHostActivityV1,
    CkHostEventV1, CkHostMetricV1, CkHostV1, CkKv, CkSlice,
};
use cachekit_plugin::{Event, HostServices, Key, LogLevel, MetricKind, Outlet, WatchSink, raw};
use zeroize::Zeroizing;

/// The table an instance is created with, and what stands behind it. Lives until the instance was destroyed.
pub(crate) struct ServiceTable {
    table: Box<CkHostV1>,
    behind: Arc<Behind>,
}

struct Behind {
    services: HostServices,
    /// Log targets carry the plugin's name, so that an operator sees whose line it is.
    id: String,
    /// The watches of this instance by the numbers they have at the border. None is used twice.
    watches: Mutex<HashMap<u64, Arc<Outlet>>>,
    next_watch: AtomicU64,
    /// What the plugin counts; a number of its is a place in this list, from 1.
    metrics: RwLock<Vec<(MetricKind, String)>>,
}

impl Behind {
    fn outlet(&self, watch: u64) -> Option<Arc<Outlet>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).get(&watch).cloned()
    }
}

/// A watch that takes events, until it is dropped.
pub(crate) struct Registration {
    behind: Arc<Behind>,
    pub(crate) number: u64,
    outlet: Arc<Outlet>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.behind.watches.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        self.outlet.close();
    }
}

impl ServiceTable {
    pub(crate) fn new(services: HostServices, id: &str) -> Self {
        let behind = Arc::new(Behind {
            services,
            id: id.to_owned(),
            watches: Mutex::default(),
            next_watch: AtomicU64::new(1),
            metrics: RwLock::default(),
        });
        let table = Box::new(CkHostV1 {
            struct_size: size_of::<CkHostV1>() as u32,
            abi_minor: CK_ABI_MINOR,
            reserved: 0,
            host: Arc::as_ptr(&behind).cast_mut().cast(),
            log,
            secret,
            query,
        });
        Self { table, behind }
    }

    pub(crate) fn as_ptr(&self) -> *const CkHostV1 {
        std::ptr::from_ref(&*self.table)
    }

    /// Takes events for `sink` from now on, before the plugin has heard of the watch: it may tell before it has returned.
    pub(crate) fn register(&self, sink: Arc<dyn WatchSink>) -> Registration {
        let number = self.behind.next_watch.fetch_add(1, Ordering::Relaxed);
        let outlet = Outlet::new(sink);
        let mut watches = self.behind.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.insert(number, Arc::clone(&outlet));
        drop(watches);
        Registration { behind: Arc::clone(&self.behind), number, outlet }
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
        // Wiped when the plugin gives it back; what the plugin made of it is the plugin's to wipe.
        Ok(Ok(secret)) => (CK_OK, Bytes::from_owner(Zeroizing::new(secret.into_bytes()))),
        Ok(Err(reason)) => (CK_E_CONFIG, Bytes::from(reason)),
        Err(_) => (CK_E_INTERNAL, Bytes::from_static(b"the host could not resolve it")),
    };
    if !out.is_null() {
        // SAFETY: the plugin passes a writable buffer.
        unsafe { out.write(raw::give(text)) };
    }
    status
}

unsafe extern "C" fn query(_: *mut c_void, id: *const u8, id_len: usize) -> *const c_void {
    static EVENT: CkHostEventV1 = CkHostEventV1 { struct_size: size_of::<CkHostEventV1>() as u32, flags: 0, emit };
    static ACTIVITY: CkHostActivityV1 =
        CkHostActivityV1 { struct_size: size_of::<CkHostActivityV1>() as u32, flags: 0, read: activity };
    static METRIC: CkHostMetricV1 =
        CkHostMetricV1 { struct_size: size_of::<CkHostMetricV1>() as u32, flags: 0, define, record };
    // SAFETY: the plugin passes a readable id.
    let id = unsafe { raw::bytes_of(CkSlice { ptr: id, len: id_len }) };
    if id == abi::CK_ID_HOST_EVENT.as_bytes() {
        std::ptr::from_ref(&EVENT).cast()
    } else if id == abi::CK_ID_HOST_ACTIVITY.as_bytes() {
        std::ptr::from_ref(&ACTIVITY).cast()
    } else if id == abi::CK_ID_HOST_METRIC.as_bytes() {
        std::ptr::from_ref(&METRIC).cast()
    } else {
        std::ptr::null()
    }
}

/// What cannot be true, or is not known, makes the watcher forget more than it must, never less.
unsafe extern "C" fn emit(host: *mut c_void, watch: u64, kind: u32, key: CkSlice) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as in `log`.
        let Some(outlet) = (unsafe { &*host.cast::<Behind>() }).outlet(watch) else { return };
        let is_a_key = !key.ptr.is_null() && (1..=MAX_TEXT << 10).contains(&key.len);
        outlet.tell(match kind {
            // SAFETY: as in `log`.
            abi::CK_EVENT_CHANGED if is_a_key => Event::Changed(Key::from_wire(unsafe { raw::bytes_of(key) })),
            abi::CK_EVENT_LOST => Event::Lost,
            _ => Event::Everything,
        });
    }));
}

/// Most metrics of one instance, and the longest name of one, bytes: names become labels somewhere that live for ever.
const MAX_METRICS: usize = 64;
const MAX_METRIC_NAME: usize = 64;

unsafe extern "C" fn define(host: *mut c_void, kind: u32, name: CkSlice) -> u64 {
    let answer = catch_unwind(AssertUnwindSafe(|| {
        let kind = match kind {
            abi::CK_METRIC_COUNTER => MetricKind::Counter,
            abi::CK_METRIC_GAUGE => MetricKind::Gauge,
            _ => return 0,
        };
        if name.ptr.is_null() || !(1..=MAX_METRIC_NAME).contains(&name.len) {
            return 0;
        }
        // SAFETY: as in `log`.
        let (behind, name) = unsafe { (&*host.cast::<Behind>(), raw::bytes_of(name)) };
        if !name.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')) {
            return 0;
        }
        let mut metrics = behind.metrics.write().unwrap_or_else(PoisonError::into_inner);
        let place = match metrics.iter().position(|(_, known)| known.as_bytes() == name) {
            Some(place) if metrics[place].0 != kind => return 0,
            Some(place) => place,
            None if metrics.len() == MAX_METRICS => return 0,
            None => {
                metrics.push((kind, String::from_utf8_lossy(name).into_owned()));
                metrics.len() - 1
            }
        };
        place as u64 + 1
    }));
    answer.unwrap_or(0)
}

unsafe extern "C" fn record(host: *mut c_void, metric: u64, value: u64) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as in `log`.
        let behind = unsafe { &*host.cast::<Behind>() };
        let Some(place) = metric.checked_sub(1).and_then(|place| usize::try_from(place).ok()) else { return };
        let metrics = behind.metrics.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((kind, name)) = metrics.get(place) {
            behind.services.metric_of(&behind.id, *kind, name, value);
        }
    }));
}

unsafe extern "C" fn activity(host: *mut c_void, out: *mut CkActivity) -> i32 {
    let answer = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as in `log`.
        unsafe { &*host.cast::<Behind>() }.services.activity()
    }));
    // SAFETY: the plugin passes a record with its size.
    if out.is_null() || unsafe { out.cast::<u32>().read() } < size_of::<CkActivity>() as u32 {
        return CK_E_INTERNAL;
    }
    match answer {
        Ok(Some(did)) => {
            let flags = if did.l1_enabled { abi::CK_ACTIVITY_L1 } else { 0 };
            let struct_size = size_of::<CkActivity>() as u32;
            let (l1_hits, l2_hits, misses) = (did.l1_hits, did.l2_hits, did.misses);
            // SAFETY: as above.
            unsafe { out.write(CkActivity { struct_size, flags, l1_hits, l2_hits, misses }) };
            CK_OK
        }
        Ok(None) => CK_NO,
        Err(_) => CK_E_INTERNAL,
    }
}

#[cfg(test)]
mod tests;
