//! What a library says and counts arrives in its host, with the library's id: also what it says by macros whose statics are its
//! own, and by panics. And it stops arriving when the instance ends.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cachekit::config::EngineServices;
use cachekit_core::blocking::wait;
use cachekit_e2e::artifacts;
use cachekit_host::{Plugin, Policy};
use cachekit_plugin::open::Services;
use cachekit_plugin::{Backend, Cx, HostServices, Key, Kind, LogLevel, MetricKind};
use serde_json::{Value as Json, json};

/// What a library says without having the host at hand goes to the instance that was opened last, so these tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn chaos(options: Json, services: HostServices) -> Arc<dyn Backend> {
    let plugin = Plugin::open(artifacts::chaos_plugin(), &Policy::default()).unwrap();
    plugin.create(options.to_string().as_bytes(), services).unwrap()
}

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(10))
}

/// Keeps what it is told.
#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<String>>,
    numbers: Mutex<Vec<String>>,
}

impl Heard {
    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Services for Heard {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &[(&str, &str)]) {
        self.lines.lock().unwrap().push(format!("{level:?} {target}: {message} {fields:?}"));
    }
    fn secret(&self, _: &str) -> Result<String, String> {
        Err("none".into())
    }
    fn metric(&self, plugin: &str, kind: MetricKind, name: &str, value: u64) {
        self.numbers.lock().unwrap().push(format!("{plugin} {kind:?} {name} {value}"));
    }
}

#[test]
fn what_a_library_says_by_macros_of_its_own_arrives_with_its_id_and_level() {
    let _turn = turn();
    let heard = Arc::new(Heard::default());
    let _backend = chaos(json!({ "mode": "none", "macros": true }), HostServices::new(heard.clone()));
    let lines = heard.lines().join("\n");
    for words in [
        r#"Warn chaos: said by tracing [("shard", "7"), ("name", "seven"), ("plugin", "test.chaos")]"#,
        r#"Warn chaos: said by log [("plugin", "test.chaos")]"#,
    ] {
        assert_eq!(lines.matches(words).count(), 1, "once: {words}\n{lines}");
    }
    // Client libraries are loud below the level that the author chose.
    assert!(!lines.contains("too quiet"), "{lines}");
}

#[test]
fn a_panic_is_heard_in_the_log_of_the_host_with_its_place() {
    let _turn = turn();
    let heard = Arc::new(Heard::default());
    let backend = chaos(json!({ "mode": "panic_in_poll" }), HostServices::new(heard.clone()));
    let error = wait(async { backend.get(Key::from_wire(b"k"), &cx()).await }).unwrap_err();
    assert_eq!(error.kind(), Kind::Panic);
    let lines = heard.lines();
    let line = lines.iter().find(|line| line.starts_with("Error panic: ")).unwrap_or_else(|| panic!("{lines:?}"));
    assert!(line.contains("panicked: chaos: panic in poll") && line.contains("lib.rs:"), "{line}");
    assert!(line.contains(r#"("plugin", "test.chaos")"#), "{line}");
}

#[test]
fn a_thread_that_outlives_its_instance_is_heard_no_more() {
    let _turn = turn();
    let heard = Arc::new(Heard::default());
    let talking = chaos(json!({ "mode": "none", "thread": true }), HostServices::new(heard.clone()));
    let other = chaos(json!({ "mode": "none" }), HostServices::none());
    let rounds = || {
        let health = wait(async { other.health(&cx()).await }).unwrap();
        health.details["rounds"].as_u64().unwrap()
    };
    let wait_for_rounds = |more: u64| {
        let (from, began) = (rounds(), Instant::now());
        while rounds() < from + more {
            assert!(began.elapsed() < Duration::from_secs(60), "the thread is gone");
            std::thread::yield_now();
        }
    };
    wait_for_rounds(5);
    drop(talking);
    let (said, counted) = (heard.lines().len(), heard.numbers.lock().unwrap().len());
    assert!(said > 1 && counted > 1, "it was heard as long as its instance lived");
    wait_for_rounds(5);
    assert_eq!((heard.lines().len(), heard.numbers.lock().unwrap().len()), (said, counted));
    assert_eq!(Arc::strong_count(&heard), 1, "and what the host lent is given back");
}

/// Takes what a subscriber writes.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_engine_writes_it_into_the_programs_tracing() {
    let _turn = turn();
    let page = Page::default();
    let writer = page.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        chaos(json!({ "mode": "none", "greeting": "hello", "macros": true }), EngineServices::shared())
    });
    let page = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    println!("{page}");
    let line =
        |words: &str| page.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {page}"));
    let hello = line("hello");
    assert!(hello.contains(" INFO ") && hello.contains("plugin=\"test.chaos\""), "{hello}");
    let tracing = line("said by tracing");
    assert!(
        tracing.contains(" WARN ") && tracing.contains("plugin=\"test.chaos\"") && tracing.contains("shard=7"),
        "{tracing}"
    );
    assert!(line("said by log").contains(" WARN "), "{page}");
}

#[test]
fn what_a_library_counts_reaches_the_host_under_its_id_and_wrong_names_do_not() {
    let _turn = turn();
    let heard = Arc::new(Heard::default());
    let backend = chaos(json!({ "mode": "none", "counts": true }), HostServices::new(heard.clone()));
    for _ in 0..2 {
        wait(async { backend.get(Key::from_wire(b"k"), &cx()).await }).unwrap();
    }
    let numbers = heard.numbers.lock().unwrap().clone();
    let (count, gauge) = ("test.chaos Counter gets 1", "test.chaos Gauge alive 1");
    assert_eq!(numbers, [count, gauge, count, gauge]);
}

#[test]
fn the_engine_hands_it_to_the_programs_recorder() {
    let _turn = turn();
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let backend = chaos(json!({ "mode": "none", "counts": true }), EngineServices::shared());
        for _ in 0..3 {
            wait(async { backend.get(Key::from_wire(b"k"), &cx()).await }).unwrap();
        }
    });
    let mut found: Vec<String> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let labels: Vec<String> =
                key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            format!("{} {} {value:?}", key.key().name(), labels.join(","))
        })
        .filter(|line| line.starts_with("cachekit_plugin_"))
        .collect();
    found.sort();
    let (gauge, counter) = ("cachekit_plugin_alive plugin=test.chaos", "cachekit_plugin_gets_total plugin=test.chaos");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with(gauge) && found[1] == format!("{counter} Counter(3)"), "{found:?}");
}
