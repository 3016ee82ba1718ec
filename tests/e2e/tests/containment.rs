//! A plugin that fails in the middle of its work: the call ends with an error of its kind, other calls go on, nothing
//! leaks.

mod counts;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit::Cache;
use cachekit_core::blocking::wait;
use cachekit_e2e::{Place, artifacts};
use cachekit_host::{LoadError, Plugin, Policy};
use cachekit_plugin::open::Services;
use cachekit_plugin::{Backend, BackendError, Cx, HostServices, Key, Kind, LogLevel, Ttl};
use counts::Counts;
use serde_json::json;

fn chaos(mode: &str) -> Result<Arc<dyn Backend>, LoadError> {
    let plugin = Plugin::open(artifacts::chaos_plugin(), &Policy::default())?;
    plugin.create(json!({ "mode": mode }).to_string().as_bytes(), HostServices::none())
}

fn get(backend: &Arc<dyn Backend>) -> Result<Option<Bytes>, BackendError> {
    let cx = Cx::within(Duration::from_secs(5));
    wait(async { backend.get(Key::from_wire(b"k"), &cx).await })
}

/// Futures of gets that are alive inside the plugin.
fn alive(backend: &Arc<dyn Backend>) -> i64 {
    let cx = Cx::within(Duration::from_secs(5));
    let health = wait(async { backend.health(&cx).await }).unwrap();
    health.details["alive"].as_i64().unwrap()
}

#[test]
fn the_control_works() {
    let backend = chaos("none").unwrap();
    let cx = Cx::within(Duration::from_secs(5));
    wait(async { backend.set(Key::from_wire(b"k"), Bytes::from_static(b"v"), Ttl::Never, &cx).await }).unwrap();
    assert_eq!(get(&backend).unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn a_panic_is_an_error_of_its_call_and_the_third_ends_the_instance() {
    for mode in ["panic_in_get", "panic_in_poll", "panic_twice"] {
        let backend = chaos(mode).unwrap();
        for _ in 0..3 {
            let error = get(&backend).unwrap_err();
            assert_eq!(error.kind(), Kind::Panic, "{mode}: {error}");
            assert!(error.to_string().contains("test.chaos"), "{mode}: {error}");
        }
        let error = get(&backend).unwrap_err();
        assert!(error.to_string().contains("not called any more after 3 panics"), "{mode}: {error}");
        // Its neighbour, of the same library, is well.
        assert_eq!(get(&chaos("none").unwrap()).unwrap(), None, "{mode}");
    }
}

#[test]
fn a_panic_while_opening_is_a_refusal() {
    let Err(LoadError::Create { source, .. }) = chaos("panic_in_open") else { panic!("it is refused") };
    assert_eq!(source.kind(), Kind::Panic);
    assert!(source.to_string().contains("panic while opening"), "{source}");
}

#[test]
fn a_panic_while_a_cancelled_call_is_dropped_reaches_nobody() {
    let backend = chaos("panic_in_drop").unwrap();
    let cx = Cx::within(Duration::from_secs(5));
    let mut call = backend.get(Key::from_wire(b"k"), &cx);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(call.as_mut().poll(&mut context).is_pending());
    drop(call);
    assert_eq!(alive(&backend), 0);
}

#[test]
fn options_that_a_plugin_does_not_know_are_named() {
    let plugin = Plugin::open(artifacts::chaos_plugin(), &Policy::default()).unwrap();
    let error = plugin.create(br#"{"mode":"none","colour":1}"#, HostServices::none()).err().unwrap();
    let LoadError::Create { source, .. } = error else { panic!() };
    assert_eq!(source.kind(), Kind::Config);
    assert!(source.to_string().contains("colour"), "{source}");
    let schema = plugin.config_schema().unwrap().unwrap();
    assert!(schema["properties"]["mode"].is_object(), "{schema}");
}

#[test]
fn a_plugin_with_a_runtime_of_its_own_works_under_any_caller() {
    let backend = chaos("sleep").unwrap();
    assert_eq!(get(&backend).unwrap(), None, "a caller without a runtime");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cx = Cx::within(Duration::from_secs(5));
    let answer = runtime.block_on(async { backend.get(Key::from_wire(b"k"), &cx).await });
    assert_eq!(answer.unwrap(), None, "a caller with one");
}

/// A deadline and how long a call may take beyond it before this test calls it late. Generous: two cores, many tests.
const DEADLINE: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_secs(5);

fn ends_at_its_deadline(name: &str, backend: Arc<dyn Backend>) {
    let cache = Cache::builder().backend(backend).deadline(DEADLINE).strict(true).build().unwrap();
    let began = Instant::now();
    let error = cache.blocking().get::<u32>("k").unwrap_err();
    let took = began.elapsed();
    println!("{name}: gave up after {} ms of {}", took.as_millis(), DEADLINE.as_millis());
    let cachekit::Error::Backend(error) = error else { panic!("{name}: {error}") };
    assert_eq!(error.kind(), Kind::Timeout, "{name}");
    assert!(took >= DEADLINE && took < LATE, "{name}: {took:?}");
    assert_eq!(cache.stats().l2_timeouts, 1, "{name}");
}

#[test]
fn a_hung_plugin_is_given_up_at_the_deadline() {
    let place = Place::new();
    let hung = chaos("hang").unwrap();
    ends_at_its_deadline("a future that never ends", Arc::clone(&hung));
    assert_eq!(alive(&hung), 0, "the call that was given up is dropped");
    for variant in ["ASYNC_NEVER", "HANG_GET"] {
        let plugin = Plugin::open(&artifacts::bad_c(&place, Some(variant)), &Policy::default()).unwrap();
        ends_at_its_deadline(variant, plugin.create(b"", HostServices::none()).unwrap());
    }
}

#[test]
fn a_thousand_cancelled_calls_leave_nothing() {
    let place = Place::new();
    let backend = chaos("hang").unwrap();
    cancel(&backend, 1000);
    assert_eq!(alive(&backend), 0);
    for variant in ["ASYNC_NEVER", "ASYNC_DOUBLE_DROP_ABORTS", "ASYNC_POLL_AFTER_READY_ABORTS", "ASYNC_GOOD"] {
        let library = artifacts::bad_c(&place, Some(variant));
        let backend = open(&library);
        cancel(&backend, 1000);
        drop(backend);
        let counts = Counts::of(&library);
        assert_eq!((counts.started, counts.dropped), (1000, 1000), "{variant}");
        assert_eq!(counts.given, counts.released, "{variant}");
        assert_eq!(counts.created, counts.destroyed, "{variant}");
    }
}

fn open(library: &Path) -> Arc<dyn Backend> {
    Plugin::open(library, &Policy::default()).unwrap().create(b"", HostServices::none()).unwrap()
}

/// Polls each call once and drops it.
fn cancel(backend: &Arc<dyn Backend>, calls: usize) {
    let cx = Cx::within(Duration::from_secs(60));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..calls {
        let mut call = backend.get(Key::from_wire(b"k"), &cx);
        let _ = call.as_mut().poll(&mut context);
    }
}

#[test]
fn an_instance_does_not_end_under_a_call_that_was_leaked() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, Some("ASYNC_NEVER"));
    let backend = open(&library);
    let cx = Cx::within(Duration::from_secs(60));
    let mut call = backend.get(Key::from_wire(b"k"), &cx);
    assert!(call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
    std::mem::forget(call);
    drop(backend);
    let counts = Counts::of(&library);
    assert_eq!((counts.started, counts.dropped, counts.created, counts.destroyed), (1, 0, 1, 0));
}

#[test]
fn a_plugin_may_wake_after_its_call_ended() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, Some("ASYNC_WAKE_AFTER_DROP"));
    let backend = open(&library);
    cancel(&backend, 10);
    // The late wakes come from threads of the plugin; the counter says when the last one was done.
    let began = Instant::now();
    while Counts::of(&library).woken < 10 {
        assert!(began.elapsed() < Duration::from_secs(30), "the plugin never woke");
        std::thread::yield_now();
    }
}

#[test]
fn opening_and_closing_leaves_nothing_behind() {
    fn counted(what: &str) -> usize {
        std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
    }
    let place = Place::new();
    let library = artifacts::bad_c(&place, None);
    let file = artifacts::file_plugin();
    let cycle = |n: usize| {
        drop(open(&library));
        let options = json!({ "dir": place.path().join("store") }).to_string();
        let plugin = Plugin::open(file, &Policy::default()).unwrap();
        let backend = plugin.create(options.as_bytes(), HostServices::none()).unwrap();
        let cx = Cx::within(Duration::from_secs(5));
        let key = format!("k{n}");
        wait(async { backend.set(Key::from_wire(key.as_bytes()), Bytes::from_static(b"v"), Ttl::Never, &cx).await })
            .unwrap();
        wait(async { backend.close(&cx).await }).unwrap();
    };
    cycle(0);
    let maps =
        || std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains(".so")).count();
    let before = (counted("fd"), maps());
    for n in 1..100 {
        cycle(n);
    }
    // Other tests of this process open plugins at the same time, but none of them more than a few.
    let after = (counted("fd"), maps());
    println!("descriptors, mapped libraries: {before:?} before, {after:?} after 99 more");
    assert!(after.0 <= before.0 + 40 && after.1 <= before.1 + 60, "{before:?} {after:?}");
    let counts = Counts::of(&library);
    assert_eq!((counts.created, counts.destroyed), (100, 100));
}

#[test]
fn a_plugins_log_lines_and_secrets_go_through_the_host() {
    #[derive(Default)]
    struct Host(Mutex<Vec<String>>);
    impl Services for Host {
        fn log(&self, _: LogLevel, target: &str, message: &str, fields: &[(&str, &str)]) {
            self.0.lock().unwrap().push(format!("{target} {message} {fields:?}"));
        }
        fn secret(&self, reference: &str) -> Result<String, String> {
            if reference == "env:TOKEN" { Ok("hunter2".into()) } else { Err(format!("no {reference}")) }
        }
    }
    let host = Arc::new(Host::default());
    let plugin = Plugin::open(artifacts::chaos_plugin(), &Policy::default()).unwrap();
    let options = json!({ "mode": "none", "greeting": "hello", "token": { "$secret": "env:TOKEN" } });
    let services = HostServices::new(host.clone());
    plugin.create(options.to_string().as_bytes(), services.clone()).unwrap();
    let lines = host.0.lock().unwrap().join("\n");
    assert!(lines.contains("hello") && lines.contains("test.chaos"), "{lines}");
    assert!(lines.contains("(\"length\", \"7\")") && !lines.contains("hunter2"), "{lines}");

    let options = json!({ "mode": "none", "token": { "$secret": "env:OTHER" } });
    let error = plugin.create(options.to_string().as_bytes(), services).err().unwrap();
    let LoadError::Create { source, .. } = error else { panic!() };
    assert!(source.to_string().contains("no env:OTHER"), "{source}");
}
