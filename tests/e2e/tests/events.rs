//! Events across the border: they come until the watch ends, and not one after.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachekit_core::Cache;
use cachekit_core::blocking::wait;
use cachekit_e2e::artifacts;
use cachekit_host::{Plugin, Policy};
use cachekit_plugin::open::Services;
use cachekit_plugin::{Backend, CacheActivity, Cx, Event, HostServices, Key, LogLevel, Ttl, WatchGuard, WatchSink};
use serde_json::json;

/// An instance of the reference on the store of that name.
fn open(name: &str, services: HostServices) -> Arc<dyn Backend> {
    let plugin = Plugin::open(artifacts::memory_plugin(), &Policy::default()).unwrap();
    plugin.create(json!({ "name": name }).to_string().as_bytes(), services).unwrap()
}

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(10))
}

fn set(backend: &dyn Backend, key: &str) {
    wait(backend.set(Key::from_wire(key.as_bytes()), "v".into(), Ttl::Never, &cx())).unwrap();
}

fn watch(backend: &dyn Backend, sink: Arc<dyn WatchSink>) -> WatchGuard {
    wait(backend.watch().unwrap().watch(b"", sink, &cx())).unwrap()
}

/// Counts, and does what the test wants.
struct Counting<F> {
    told: AtomicUsize,
    also: F,
}

impl<F: Fn(Event<'_>) + Send + Sync + 'static> Counting<F> {
    fn new(also: F) -> Arc<Self> {
        Arc::new(Self { told: AtomicUsize::new(0), also })
    }

    fn told(&self) -> usize {
        self.told.load(Ordering::SeqCst)
    }
}

impl<F: Fn(Event<'_>) + Send + Sync + 'static> WatchSink for Counting<F> {
    fn event(&self, event: Event<'_>) {
        self.told.fetch_add(1, Ordering::SeqCst);
        (self.also)(event);
    }
}

#[test]
fn a_sink_that_panics_ends_its_own_watch_and_nothing_else() {
    let (watched, writer) = (open("panics", HostServices::none()), open("panics", HostServices::none()));
    let panicking = Counting::new(|event| assert!(event == Event::Lost, "a sink that panics"));
    let steady = Counting::new(|_| {});
    let _guards = [watch(&*watched, panicking.clone()), watch(&*watched, steady.clone())];
    for key in ["a", "b", "c"] {
        set(&*writer, key);
    }
    assert_eq!(panicking.told(), 2, "one change, and that it lost the rest");
    assert_eq!(steady.told(), 3);
}

#[test]
fn a_watch_outlives_the_handle_of_its_instance_and_nothing_its_guard() {
    let (watched, writer) = (open("handle", HostServices::none()), open("handle", HostServices::none()));
    let sink = Counting::new(|_| {});
    let guard = watch(&*watched, sink.clone());
    drop(watched);
    set(&*writer, "a");
    assert_eq!(sink.told(), 1);
    drop(guard);
    set(&*writer, "b");
    assert_eq!(sink.told(), 1);
    assert_eq!(Arc::strong_count(&sink), 1, "a watch that ended keeps no sink");
}

#[test]
fn nothing_is_told_once_a_guard_was_dropped_however_busy_the_store() {
    let writing = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let writer = open("busy", HostServices::none());
                while writing.load(Ordering::SeqCst) {
                    set(&*writer, "k");
                }
            });
        }
        let mut told = 0;
        for round in 0..120 {
            // Some watches end with their instance, some before it.
            let watched = open("busy", HostServices::none());
            let over = Arc::new(AtomicBool::new(false));
            let late = Arc::new(AtomicUsize::new(0));
            let sink = Counting::new({
                let (over, late) = (Arc::clone(&over), Arc::clone(&late));
                move |_| {
                    late.fetch_add(usize::from(over.load(Ordering::SeqCst)), Ordering::SeqCst);
                }
            });
            let guard = watch(&*watched, sink.clone());
            if round % 3 == 0 {
                while sink.told() == 0 {
                    std::thread::yield_now();
                }
            }
            let watched = (round % 2 == 0).then_some(watched);
            drop(guard);
            over.store(true, Ordering::SeqCst);
            drop(watched);
            std::thread::yield_now();
            assert_eq!(late.load(Ordering::SeqCst), 0, "round {round}");
            told += sink.told();
        }
        writing.store(false, Ordering::SeqCst);
        assert!(told >= 40, "{told} events in all");
    });
}

#[test]
fn a_cache_follows_what_a_loaded_store_tells() {
    let cache = || Cache::builder().backend(open("follows", HostServices::none()));
    let (ours, theirs) = (cache().build().unwrap().blocking(), cache().coherence(false).build().unwrap().blocking());
    theirs.set("k", &1).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !ours.cache().is_coherent() {
        assert!(std::time::Instant::now() < end, "the store tells nothing");
        assert_eq!(*ours.get::<u32>("k").unwrap().unwrap(), 1);
        std::thread::yield_now();
    }
    for n in 2..100 {
        assert_eq!(*ours.get::<u32>("k").unwrap().unwrap(), n - 1);
        theirs.set("k", &n).unwrap();
        assert_eq!(*ours.get::<u32>("k").unwrap().unwrap(), n);
    }
    assert!(ours.stats().changes_forgotten >= 98, "{:?}", ours.stats());
}

#[test]
fn a_loaded_store_can_ask_what_the_cache_above_it_did() {
    struct Host(Mutex<Option<CacheActivity>>);
    impl Services for Host {
        fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
        fn secret(&self, _: &str) -> Result<String, String> {
            Err("none".into())
        }
        fn activity(&self) -> Option<CacheActivity> {
            *self.0.lock().unwrap()
        }
    }
    let host = Arc::new(Host(Mutex::new(None)));
    let store = open("asks", HostServices::new(host.clone()));
    // The reference reports in its health what it is told.
    let seen = || wait(store.health(&cx())).unwrap().details.get("activity").cloned();
    assert_eq!(seen(), None);
    let did = CacheActivity { l1_enabled: true, l1_hits: 1, l2_hits: 2, misses: 1 << 40 };
    *host.0.lock().unwrap() = Some(did);
    assert_eq!(seen(), Some(json!({ "l1_enabled": true, "l1_hits": 1, "l2_hits": 2, "misses": 1_u64 << 40 })));
}
