//! What a plugin may tell its host, right and wrong.

use std::sync::{Mutex, PoisonError};

use super::*;

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl WatchSink for Told {
    fn event(&self, event: Event<'_>) {
        let text = match event {
            Event::Changed(key) => format!("changed {}", key.as_str().unwrap_or("?")),
            Event::Everything => "everything".into(),
            Event::Lost => "lost".into(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The table as a plugin that asks for it gets it.
fn capability<T>(services: &ServiceTable, id: &str) -> Option<&'static T> {
    // SAFETY: the table lives as long as `services`; capabilities are static and of the type their id says.
    unsafe {
        let host = &*services.as_ptr();
        (host.query)(host.host, id.as_ptr(), id.len()).cast::<T>().as_ref()
    }
}

fn emit(services: &ServiceTable, watch: u64, kind: u32, key: CkSlice) {
    let events: &CkHostEventV1 = capability(services, abi::CK_ID_HOST_EVENT).unwrap();
    // SAFETY: the services are alive; the slices below are readable, or must not be read.
    unsafe { (events.emit)((*services.as_ptr()).host, watch, kind, key) }
}

const NOTHING: CkSlice = CkSlice { ptr: std::ptr::null(), len: 0 };

#[test]
fn events_reach_the_watch_of_their_number_and_no_other() {
    let services = ServiceTable::new(HostServices::none(), "test");
    let other_instance = ServiceTable::new(HostServices::none(), "test");
    let (one, two) = (Arc::new(Told::default()), Arc::new(Told::default()));
    let (first, second) = (services.register(one.clone()), services.register(two.clone()));
    assert_ne!(first.number, second.number);
    emit(&services, first.number, abi::CK_EVENT_CHANGED, raw::slice_of(b"k"));
    emit(&services, second.number, abi::CK_EVENT_EVERYTHING, NOTHING);
    emit(&services, 77, abi::CK_EVENT_CHANGED, raw::slice_of(b"of no watch"));
    emit(&other_instance, first.number, abi::CK_EVENT_CHANGED, raw::slice_of(b"of another instance"));
    assert_eq!((one.take(), two.take()), (vec!["changed k".to_owned()], vec!["everything".to_owned()]));

    let number = first.number;
    drop(first);
    emit(&services, number, abi::CK_EVENT_CHANGED, raw::slice_of(b"late"));
    emit(&services, second.number, abi::CK_EVENT_LOST, NOTHING);
    emit(&services, second.number, abi::CK_EVENT_CHANGED, raw::slice_of(b"after the end"));
    assert_eq!((one.take(), two.take()), (vec![], vec!["lost".to_owned()]));
    assert_ne!(services.register(one).number, number, "no number is used twice");
}

#[test]
fn what_cannot_be_an_event_makes_the_watcher_forget_everything() {
    let services = ServiceTable::new(HostServices::none(), "test");
    let told = Arc::new(Told::default());
    let watch = services.register(told.clone());
    let dangling = CkSlice { ptr: std::ptr::null(), len: 100 };
    let endless = CkSlice { ptr: b"k".as_ptr(), len: usize::MAX };
    for (kind, key) in [
        (99, raw::slice_of(b"k")),
        (0, NOTHING),
        (abi::CK_EVENT_CHANGED, NOTHING),
        (abi::CK_EVENT_CHANGED, dangling),
        (abi::CK_EVENT_CHANGED, endless),
    ] {
        emit(&services, watch.number, kind, key);
        assert_eq!(told.take(), ["everything"], "kind {kind}, {} bytes", key.len);
    }
}

#[test]
fn activity_is_read_whole_or_not_at_all() {
    struct Busy;
    impl cachekit_plugin::open::Services for Busy {
        fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
        fn secret(&self, _: &str) -> Result<String, String> {
            Err("none".into())
        }
        fn activity(&self) -> Option<cachekit_plugin::CacheActivity> {
            Some(cachekit_plugin::CacheActivity { l1_enabled: true, l1_hits: 1, l2_hits: 2, misses: 3 })
        }
    }
    let read = |services: &ServiceTable, struct_size: u32| {
        let table: &CkHostActivityV1 = capability(services, abi::CK_ID_HOST_ACTIVITY).unwrap();
        let mut out = CkActivity { struct_size, flags: 9, l1_hits: 9, l2_hits: 9, misses: 9 };
        // SAFETY: the services are alive, and the record is ours.
        let status = unsafe { (table.read)((*services.as_ptr()).host, &mut out) };
        (status, out.flags, out.l1_hits, out.l2_hits, out.misses)
    };
    let size = size_of::<CkActivity>() as u32;
    let busy = ServiceTable::new(HostServices::new(Arc::new(Busy)), "test");
    assert_eq!(read(&busy, size), (CK_OK, abi::CK_ACTIVITY_L1, 1, 2, 3));
    assert_eq!(read(&busy, size - 8).0, CK_E_INTERNAL, "a record that is too small is not written to");
    let none = ServiceTable::new(HostServices::none(), "test");
    assert_eq!(read(&none, size), (CK_NO, 9, 9, 9, 9));
    assert!(capability::<CkHostEventV1>(&none, "cachekit.host.unknown/1").is_none());
}

/// Counts what it is told.
#[derive(Default)]
struct Numbers(Mutex<Vec<String>>);

impl cachekit_plugin::open::Services for Numbers {
    fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
    fn secret(&self, _: &str) -> Result<String, String> {
        Err("none".into())
    }
    fn metric(&self, plugin: &str, kind: MetricKind, name: &str, value: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{plugin} {kind:?} {name} {value}"));
    }
}

#[test]
fn metrics_have_bounded_names_and_one_kind_each() {
    let numbers = Arc::new(Numbers::default());
    let services = ServiceTable::new(HostServices::new(numbers.clone()), "test");
    let table: &CkHostMetricV1 = capability(&services, abi::CK_ID_HOST_METRIC).unwrap();
    // SAFETY: the services are alive, and the slices are readable, or must not be read.
    let define = |kind, name: CkSlice| unsafe { (table.define)((*services.as_ptr()).host, kind, name) };
    // SAFETY: as above.
    let record = |metric, value| unsafe { (table.record)((*services.as_ptr()).host, metric, value) };

    let hits = define(abi::CK_METRIC_COUNTER, raw::slice_of(b"hits"));
    let open = define(abi::CK_METRIC_GAUGE, raw::slice_of(b"open_2"));
    assert!(hits != 0 && open != 0 && hits != open);
    assert_eq!(define(abi::CK_METRIC_COUNTER, raw::slice_of(b"hits")), hits, "the same name is the same metric");
    assert_eq!(define(abi::CK_METRIC_GAUGE, raw::slice_of(b"hits")), 0, "and of one kind");
    let long = [b'a'; 65];
    for wrong in [&b""[..], b"Hits", b"a-b", b"\xff", b"user:42", &long] {
        assert_eq!(define(abi::CK_METRIC_COUNTER, raw::slice_of(wrong)), 0, "{wrong:?}");
    }
    assert_eq!(define(abi::CK_METRIC_COUNTER, NOTHING), 0);
    assert_eq!(define(77, raw::slice_of(b"kind")), 0);
    record(hits, 3);
    record(open, 9);
    for unknown in [0, 3, u64::MAX] {
        record(unknown, 1);
    }
    let told = numbers.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(told, ["test Counter hits 3", "test Gauge open_2 9"]);
    let taken =
        (0..100).filter(|n| define(abi::CK_METRIC_COUNTER, raw::slice_of(format!("n{n}").as_bytes())) != 0).count();
    assert_eq!(taken + 2, 64, "an instance has no more");
}
