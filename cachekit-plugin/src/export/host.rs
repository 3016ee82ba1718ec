//! The host's services as a plugin sees them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cachekit_abi::{
    self as abi, CK_OK, CkActivity, CkBuf, CkHostActivityV1, CkHostEventV1, CkHostMetricV1, CkHostV1, CkKv, CkSlice,
};

use crate::open::{CacheActivity, HostServices, LogLevel, MetricKind, Services};
use crate::raw;
use crate::watch::{Event, WatchSink};

/// Names that are asked for; of those a host takes 64.
const MAX_METRICS: usize = 256;

/// The host's table, until the instance ends.
///
/// A client library may log from a thread that outlives the instance; such a line is dropped instead of being written
/// through a table that is gone.
pub(super) struct Border(RwLock<Option<Table>>);

/// What the host offers; its capabilities are asked for once, because they never change.
struct Table {
    host: *const CkHostV1,
    event: *const CkHostEventV1,
    activity: *const CkHostActivityV1,
    metric: *const CkHostMetricV1,
    /// The host's numbers of metrics, by kind and name; 0 for one it does not take.
    metrics: Mutex<HashMap<(MetricKind, String), u64>>,
}

// SAFETY: the tables are read-only, and their functions may be called from any thread.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Border {
    /// # Safety
    /// `host` is NULL or points to a table that stays valid until [`Border::end`] returns.
    pub(super) unsafe fn new(host: *const CkHostV1) -> Arc<Self> {
        let table = (!host.is_null()).then(|| {
            // SAFETY: by the contract of this function; the host's tables have at least the size of their id.
            let query = |id: &str| unsafe { ((*host).query)((*host).host, id.as_ptr(), id.len()) };
            Table {
                host,
                event: query(abi::CK_ID_HOST_EVENT).cast(),
                activity: query(abi::CK_ID_HOST_ACTIVITY).cast(),
                // An older host has none.
                metric: query(abi::CK_ID_HOST_METRIC).cast(),
                metrics: Mutex::default(),
            }
        });
        Arc::new(Self(RwLock::new(table)))
    }

    /// Forgets the table, after waiting for calls that are using it.
    fn end(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the instance has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Ends it when the answer is dropped, also by a panic: a thread that the backend left behind must not call a host that
    /// has let go of its table.
    pub(super) fn ending(border: &Arc<Self>) -> Ending {
        Ending(Some(Arc::clone(border)))
    }

    pub(super) fn services(self: &Arc<Self>) -> HostServices {
        HostServices::new(Arc::clone(self) as Arc<dyn Services>)
    }

    /// Where the events of the watch of that number go.
    pub(super) fn sink(self: &Arc<Self>, watch: u64) -> Arc<dyn WatchSink> {
        Arc::new(Telling { border: Arc::clone(self), watch })
    }
}

/// See [`Border::ending`].
pub(super) struct Ending(Option<Arc<Border>>);

impl Ending {
    /// Lets it go on.
    pub(super) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(border) = &self.0 {
            border.end();
        }
    }
}

/// One watch as the backend sees it: its events cross the border as long as there is one.
struct Telling {
    border: Arc<Border>,
    watch: u64,
}

impl WatchSink for Telling {
    fn event(&self, event: Event<'_>) {
        let guard = self.border.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = &*guard else { return };
        const NOTHING: CkSlice = CkSlice { ptr: std::ptr::null(), len: 0 };
        let (kind, key) = match event {
            Event::Changed(key) => (abi::CK_EVENT_CHANGED, raw::slice_of(key.as_bytes())),
            Event::Everything => (abi::CK_EVENT_EVERYTHING, NOTHING),
            Event::Lost => (abi::CK_EVENT_LOST, NOTHING),
        };
        // SAFETY: the tables are valid while the guard is held, and the key lives until the call returns.
        unsafe {
            if let Some(events) = table.event.as_ref() {
                (events.emit)((*table.host).host, self.watch, kind, key);
            }
        }
    }
}

impl Services for Border {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &[(&str, &str)]) {
        let guard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = &*guard else { return };
        let fields: Vec<CkKv> = fields
            .iter()
            .map(|(key, val)| CkKv { key: raw::slice_of(key.as_bytes()), val: raw::slice_of(val.as_bytes()) })
            .collect();
        let (target, message) = (raw::slice_of(target.as_bytes()), raw::slice_of(message.as_bytes()));
        // SAFETY: the table is valid while the guard is held, and the slices live until the call returns.
        unsafe {
            let host = &*table.host;
            (host.log)(host.host, level as u32, target, message, fields.as_ptr(), fields.len());
        }
    }

    fn secret(&self, reference: &str) -> Result<String, String> {
        let guard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = &*guard else { return Err("the instance has ended".into()) };
        let mut out = CkBuf::EMPTY;
        // SAFETY: the table is valid while the guard is held; `out` is ours.
        let (status, bytes) = unsafe {
            let host = &*table.host;
            let status = (host.secret)(host.host, raw::slice_of(reference.as_bytes()), &mut out);
            (status, raw::take(&mut out))
        };
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| "the secret is not UTF-8".to_owned())?;
        if status == CK_OK { Ok(text) } else { Err(text) }
    }

    fn activity(&self) -> Option<CacheActivity> {
        let guard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let table = guard.as_ref()?;
        let mut out =
            CkActivity { struct_size: size_of::<CkActivity>() as u32, flags: 0, l1_hits: 0, l2_hits: 0, misses: 0 };
        // SAFETY: the tables are valid while the guard is held; `out` is ours.
        let status = unsafe { (table.activity.as_ref()?.read)((*table.host).host, &mut out) };
        (status == CK_OK).then_some(CacheActivity {
            l1_enabled: out.flags & abi::CK_ACTIVITY_L1 != 0,
            l1_hits: out.l1_hits,
            l2_hits: out.l2_hits,
            misses: out.misses,
        })
    }
    fn metric(&self, _: &str, kind: MetricKind, name: &str, value: u64) {
        let guard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = &*guard else { return };
        // SAFETY: the tables are valid while the guard is held.
        let (Some(metrics), host) = (unsafe { (table.metric.as_ref(), (*table.host).host) }) else { return };
        let mut known = table.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match known.get(&(kind, name.to_owned())) {
            Some(&number) => number,
            // A library that makes names of what it is asked would fill this without end; the host takes no more either.
            None if known.len() >= MAX_METRICS => 0,
            None => {
                // SAFETY: as above, and the name lives until the call returns.
                let number = unsafe { (metrics.define)(host, kind as u32, raw::slice_of(name.as_bytes())) };
                known.insert((kind, name.to_owned()), number);
                number
            }
        };
        drop(known);
        if number != 0 {
            // SAFETY: as above.
            unsafe { (metrics.record)(host, number, value) };
        }
    }
}
