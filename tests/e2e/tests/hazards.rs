//! Every bad plugin there is a fixture for, and how it ends: refused, or contained with an error of its call; the reason is in the
//! message, and this process lives. Those that end their host whatever it does are in `fatal`. The table stands in `docs/plugin-hazards.md`, which `CACHEKIT_OVERWRITE=1` writes.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit::Cache;
use cachekit_core::blocking::wait;
use cachekit_core::guard::breaker::BreakerState;
use cachekit_e2e::{Place, artifacts, root};
use cachekit_host::{LoadError, Plugin, Policy};
use cachekit_plugin::open::Services;
use cachekit_plugin::{Backend, BackendError, Cx, HostServices, Key, LogLevel, Ttl};
use counts::Counts;
use fatal::FATAL;
use serde_json::json;

mod counts;
mod fatal;

/// How a plugin ends.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// Not loaded, or no instance of it: class, and words of the message.
    Refused(&'static str, &'static str),
    /// A call fails: kind, and words of the message.
    Error(&'static str, &'static str),
    /// A call is given up at its deadline.
    GivenUp,
    /// It works, whatever it does beside; what is noticed.
    Works(&'static str),
    /// It works, and the log names what it did.
    Warned(&'static str),
}

use Ends::{Error, GivenUp, Refused, Warned, Works};

/// Variants of `tests/fixtures/bad-c`, what they do, how they end.
const IN_C: &[(&str, &str, Ends)] = &[
    ("NO_NOTE", "has no identity", Refused("identity", "no identity note")),
    ("BAD_NOTE_JSON", "its identity is half a text", Refused("identity", "no identity")),
    ("HUGE_NOTE", "its identity is a mebibyte long", Refused("structure", "longer than")),
    ("NOTE_OVERRUN", "its identity claims to be 4 GiB long", Refused("identity", "no identity note")),
    ("NOTE_MAJOR", "says that it speaks ABI 2.0", Refused("identity", "speaks ABI 2.0")),
    ("PANIC_ABORT", "its panics would end the process", Refused("identity", "panic = \"abort\"")),
    ("NO_SYMBOL", "has no entry of the name it says", Refused("open", "cachekit_plugin_v1_absent")),
    ("UNDEFINED_SYMBOL", "calls a function that nobody has", Refused("open", "cachekit_bad_c_nobody_has_this")),
    ("NULL_ROOT", "its entry returns NULL", Refused("contract", "returned no root")),
    ("WRONG_MAGIC", "its root is no root", Refused("contract", "magic")),
    ("WRONG_MAJOR", "its root speaks ABI 2", Refused("contract", "major 2")),
    ("SMALL_STRUCT", "its root is 8 bytes short", Refused("contract", "32 bytes")),
    ("ZERO_STRUCT", "its root has no size", Refused("contract", "0 bytes")),
    ("NULL_CREATE", "`create` is NULL", Refused("contract", "function of its root is NULL")),
    ("DRAFT_IDS", "was built for a draft", Refused("contract", "built for a draft")),
    ("NULL_VTABLE", "has no `backend/1`", Refused("contract", "one capability a plugin must have")),
    ("SHORT_VTABLE", "its table ends before `set`", Refused("contract", "bytes, the contract")),
    ("NULL_FUNCTION", "`get` is NULL", Refused("contract", "is NULL")),
    ("CREATE_FAILS", "`create` fails", Refused("create", "bad-c: create fails as told")),
    ("CREATE_FAILS_SILENTLY", "`create` fails and gives no reason", Refused("create", "no reason given")),
    ("CREATE_NULL", "`create` succeeds without an instance", Refused("contract", "without an instance")),
    ("LIMITS_FAIL", "`limits` fails", Refused("contract", "`limits` answered")),
    ("LIMITS_LIE", "takes no key and no value", Refused("contract", "no room")),
    ("LIES_LENGTH", "a value of 2^64-1 bytes", Error("corrupt", "bytes")),
    ("LIES_HUGE", "a value of 1 GiB", Error("corrupt", "bytes")),
    ("LIES_NULL", "a value of 100 bytes at NULL", Error("corrupt", "NULL")),
    ("LIES_STATUS", "a status that is none", Error("internal", "77")),
    ("LIES_ERROR_LENGTH", "an error text of 2^64-1 bytes", Error("transient", "")),
    ("LIES_ERROR_CODE", "two statuses for one error", Error("transient", "")),
    ("BAD_UTF8", "an error text that is no UTF-8", Error("transient", "\u{fffd}")),
    ("HUGE_ERROR", "an error text of 1 MiB", Error("transient", "")),
    ("PANICS", "each call panics", Error("panic", "as told")),
    ("LIES_HEALTH", "a health report that is half a text", Error("corrupt", "")),
    ("SCAN_TOO_MANY", "a page longer than its room", Error("corrupt", "")),
    ("SCAN_ENDLESS", "a scan that never ends", Error("corrupt", "")),
    ("ASYNC_REFUSES", "begins no operation", Error("throttled", "refused as told")),
    ("ASYNC_LIES_READY", "is ready with what is no status", Error("internal", "77")),
    ("ASYNC_NEVER", "is never ready and wakes nobody", GivenUp),
    ("HANG_GET", "a call that never returns", GivenUp),
    ("LIES_MISS", "a miss with a value", Works("a miss; the buffer is released")),
    ("LIES_OTHER_VALUE", "the value of another key", Works("a counted miss, above the plugin")),
    ("LEAKY", "loses the host's buffers", Works("memory is lost, nothing else")),
    (
        "FUTURE",
        "is of a later minor version, with flags and ids that nobody knows",
        Works("what is unknown is not used"),
    ),
    ("BIG_STRUCT", "its root is 64 bytes longer", Works("40 of them are read")),
    ("THREAD_OUTLIVES", "leaves a thread behind that never ends", Works("it goes on: libraries are never unloaded")),
    ("ASYNC_SPURIOUS", "wakes two hundred times for nothing", Works("polled again each time")),
    ("ASYNC_WAKE_TWICE", "wakes from two threads", Works("one poll more at most")),
    ("ASYNC_WAKE_AFTER_DROP", "wakes when its operation is over", Works("harmless")),
    ("ASYNC_POLL_AFTER_READY_ABORTS", "aborts if it is polled when it was ready", Works("it is not")),
    ("ASYNC_DOUBLE_DROP_ABORTS", "aborts if an operation is dropped twice", Works("it is not")),
    ("SIGNAL_HANDLER", "takes SIGUSR2 when it is opened", Warned("SIGUSR2")),
    ("SIGNAL_IN_CONSTRUCTOR", "takes SIGUSR1 when it is loaded", Warned("SIGUSR1")),
];

/// Modes of `tests/fixtures/chaos`, in Rust.
const IN_RUST: &[(&str, &str, Ends)] = &[
    ("panic_in_open", "panics when it is opened", Refused("create", "panic while opening")),
    ("panic_in_get", "panics in a call", Error("panic", "panic in get")),
    ("panic_in_poll", "panics when it is polled", Error("panic", "panic in poll")),
    ("panic_twice", "panics, and again when the panic is dropped", Error("panic", "and again")),
    ("panic_in_drop", "panics when a cancelled call is dropped", Works("nobody is left to be told")),
    ("hang", "a future that never ends", GivenUp),
    ("sleep", "needs a runtime that the caller does not have", Works("it has its own")),
];

/// Keeps what was logged.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Services for Heard {
    fn log(&self, level: LogLevel, _: &str, message: &str, fields: &[(&str, &str)]) {
        self.0.lock().unwrap().push(format!("{level:?} {message} {fields:?}"));
    }
    fn secret(&self, _: &str) -> Result<String, String> {
        Err("none".into())
    }
}

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(20))
}

fn set(backend: &dyn Backend, key: &[u8], value: &[u8]) -> Result<(), BackendError> {
    let value = Bytes::copy_from_slice(value);
    wait(async { backend.set(Key::from_wire(key), value, Ttl::Never, &cx()).await })
}

fn get(backend: &dyn Backend, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
    wait(async { backend.get(Key::from_wire(key), &cx()).await })
}

/// A message with everything below it.
fn whole(error: &dyn std::error::Error) -> String {
    let (mut text, mut below) = (error.to_string(), error.source());
    while let Some(cause) = below {
        text = format!("{text}: {cause}");
        below = cause.source();
    }
    text
}

/// The error of whatever is wrong with the variant.
fn error_of(name: &str, backend: &Arc<dyn Backend>) -> BackendError {
    match name {
        "LIES_HEALTH" => wait(async { backend.health(&cx()).await }).expect_err(name),
        "SCAN_TOO_MANY" => wait(async { backend.scan().unwrap().next(b"", None, 10, &cx()).await }).expect_err(name),
        "SCAN_ENDLESS" => {
            let cache = Cache::builder().backend(Arc::clone(backend)).build().unwrap().blocking();
            match cache.clear().expect_err(name) {
                cachekit::Error::Backend(error) => error,
                other => panic!("{name}: {other}"),
            }
        }
        _ => get(&**backend, b"k").expect_err(name),
    }
}

/// A deadline and how much later a busy machine may notice it.
fn given_up(name: &str, backend: Arc<dyn Backend>) -> String {
    let cache = Cache::builder().backend(backend).deadline(Duration::from_millis(200)).strict(true).build().unwrap();
    let error = cache.blocking().get::<u32>("k").expect_err(name);
    let cachekit::Error::Backend(error) = error else { panic!("{name}: {error}") };
    assert_eq!(error.kind().as_str(), "timeout", "{name}: {error}");
    error.to_string()
}

/// It does what is asked, whatever it does beside.
fn works(name: &str, backend: &Arc<dyn Backend>) {
    match name {
        "LIES_OTHER_VALUE" => {
            let cache = Cache::builder().backend(Arc::clone(backend)).without_l1().build().unwrap().blocking();
            cache.set("a", &1_u32).unwrap();
            cache.set("b", &2_u32).unwrap();
            assert_eq!(cache.get::<u32>("a").unwrap(), None, "{name}");
        }
        "ASYNC_WAKE_AFTER_DROP" | "panic_in_drop" => {
            let cx = cx();
            let mut call = backend.get(Key::from_wire(b"k"), &cx);
            assert!(call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
        }
        _ => {
            let value = vec![9_u8; 5000];
            for _ in 0..3 {
                set(&**backend, b"k", &value).unwrap();
                let expected = (name != "LIES_MISS").then_some(&value[..]);
                assert_eq!(get(&**backend, b"k").unwrap().as_deref(), expected, "{name}");
            }
        }
    }
}

/// Opens a plugin, sees how it ends, and gives back what it said.
fn observe(name: &str, ends: Ends, opened: Result<Arc<dyn Backend>, LoadError>, heard: &Heard) -> String {
    if let Refused(class, words) = ends {
        let error = opened.err().unwrap_or_else(|| panic!("{name} is refused"));
        let text = whole(&error);
        assert_eq!(error.class(), class, "{name}: {text}");
        assert!(text.contains(words), "{name}: {words:?} is not in {text:?}");
        return text;
    }
    let backend = opened.unwrap_or_else(|error| panic!("{name}: {}", whole(&error)));
    match ends {
        Refused(..) => unreachable!(),
        Error(kind, words) => {
            let _ = set(&*backend, b"k", b"value");
            let error = error_of(name, &backend);
            let text = error.to_string();
            assert_eq!(error.kind().as_str(), kind, "{name}: {text}");
            assert!(text.contains(words) && text.len() < 5000, "{name}: {words:?} is not in {text:?}");
            text
        }
        GivenUp => given_up(name, backend),
        Works(_) => {
            works(name, &backend);
            String::new()
        }
        Warned(signal) => {
            works(name, &backend);
            let lines = heard.0.lock().unwrap().clone();
            let line = lines.iter().find(|line| line.starts_with("Warn") && line.contains(signal));
            line.unwrap_or_else(|| panic!("{name}: {lines:?}")).clone()
        }
    }
}

fn open(library: &Path, options: &str, heard: &Arc<Heard>) -> Result<Arc<dyn Backend>, LoadError> {
    Plugin::open(library, &Policy::default())?.create(options.as_bytes(), HostServices::new(heard.clone()))
}

fn row(kind: &str, name: &str, does: &str, ends: &str) -> String {
    format!("| {kind} | `{name}` | {does} | {ends} |\n")
}

/// What the document says of an end.
fn words(ends: Ends) -> String {
    match ends {
        Refused(class, words) => format!("refused, `{class}`: “{words}”"),
        Error(kind, "") => format!("error of its call, `{kind}`"),
        Error(kind, words) => format!("error of its call, `{kind}`: “{words}”"),
        GivenUp => "given up at the deadline, `timeout`".to_owned(),
        Works(noticed) => format!("works: {noticed}"),
        Warned(signal) => format!("works, and a warning names {signal}"),
    }
}

/// In one test, one after the other, because handlers of signals belong to the process.
#[test]
fn every_bad_plugin_is_refused_or_contained_and_says_why() {
    let place = Place::new();
    let mut table = String::new();
    for &(name, does, ends) in IN_C {
        let library = artifacts::bad_c(&place, Some(name));
        let heard = Arc::new(Heard::default());
        let said = observe(name, ends, open(&library, "", &heard), &heard);
        println!("{name:30} {said:.200}");
        table += &row("C", name, does, &words(ends));
    }
    for &(name, does, ends) in IN_RUST {
        let heard = Arc::new(Heard::default());
        let options = json!({ "mode": name }).to_string();
        let said = observe(name, ends, open(artifacts::chaos_plugin(), &options, &heard), &heard);
        println!("{name:30} {said:.200}");
        table += &row("Rust", name, does, &words(ends));
    }
    for &(name, does, death) in FATAL {
        fatal::ends_its_host(name, &artifacts::bad_c(&place, Some(name)), death);
        table += &row("C", name, does, &death.words());
    }
    // The control: a right one works, says nothing, and this process is well enough to use it.
    let heard = Arc::new(Heard::default());
    let library = artifacts::bad_c(&place, None);
    fatal::stays(&library);
    let right = open(&library, "", &heard).unwrap();
    works("right", &right);
    let lines = heard.0.lock().unwrap().clone();
    assert!(!lines.iter().any(|line| line.starts_with("Warn")), "{lines:?}");
    assert!(IN_C.len() + IN_RUST.len() >= 25);

    let document = root().join("docs/plugin-hazards.md");
    let committed = std::fs::read_to_string(&document).unwrap_or_default();
    const MARK: &str = "<!-- table -->\n";
    let head = committed.split(MARK).next().unwrap_or_default();
    let mut wanted = format!("{head}{MARK}");
    let _ = write!(wanted, "| In | Plugin | What it does | How it ends |\n|---|---|---|---|\n{table}");
    if std::env::var_os("CACHEKIT_OVERWRITE").is_some() {
        std::fs::write(&document, wanted).unwrap();
    } else {
        assert!(committed == wanted, "docs/plugin-hazards.md is not what was seen; CACHEKIT_OVERWRITE=1 writes it");
    }
}

#[test]
fn whoever_tests_a_plugin_that_ends_its_host_is_told_how_it_ended() {
    let place = Place::new();
    for &(name, _, death) in FATAL {
        let library = artifacts::bad_c(&place, Some(name));
        fatal::told_by_the_test(name, &library, death);
        if name == "ABORTS" {
            fatal::ends_the_bench(name, &library, death);
        }
    }
}

#[test]
fn two_instances_of_one_library_know_nothing_of_each_other() {
    let place = Place::new();
    for (library, options) in [
        (artifacts::bad_c(&place, None), ["", ""]),
        (artifacts::c_memory().to_owned(), ["", r#"{"max_bytes":1048576}"#]),
        (artifacts::chaos_plugin().to_owned(), [r#"{"mode":"none"}"#, r#"{"mode":"none"}"#]),
    ] {
        let heard = Arc::new(Heard::default());
        let (one, other) = (open(&library, options[0], &heard).unwrap(), open(&library, options[1], &heard).unwrap());
        set(&*one, b"k", b"one").unwrap();
        assert_eq!(get(&*other, b"k").unwrap(), None, "{library:?}");
        set(&*other, b"k", b"other").unwrap();
        assert_eq!(get(&*one, b"k").unwrap().as_deref(), Some(&b"one"[..]), "{library:?}");
        let held = get(&*one, b"k").unwrap().unwrap();
        drop(one);
        assert_eq!(held, "one", "a value outlives its instance");
        assert_eq!(get(&*other, b"k").unwrap().as_deref(), Some(&b"other"[..]), "{library:?}");
    }
}

#[test]
fn a_plugin_that_panics_opens_its_breaker_and_its_neighbour_keeps_its_own() {
    let cache = |mode: &str| {
        let backend = open(artifacts::chaos_plugin(), &json!({ "mode": mode }).to_string(), &Arc::default()).unwrap();
        Cache::builder().backend(backend).without_l1().build().unwrap().blocking()
    };
    let (bad, good) = (cache("panic_in_get"), cache("none"));
    let state = |cache: &cachekit::blocking::BlockingCache| cache.cache().tier().unwrap().breaker_state().unwrap();
    let began = Instant::now();
    while state(&bad) != BreakerState::Open {
        assert!(began.elapsed() < Duration::from_secs(60), "it never opens");
        assert_eq!(bad.get::<u32>("k").unwrap(), None, "an outage is a miss");
    }
    good.set("k", &1_u32).unwrap();
    assert_eq!(good.get::<u32>("k").unwrap().as_deref(), Some(&1));
    assert_eq!(state(&good), BreakerState::Closed);
}

#[test]
fn a_future_that_is_polled_without_being_woken_ends_well_and_once() {
    let place = Place::new();
    for variant in ["ASYNC_GOOD", "ASYNC_SPURIOUS", "ASYNC_WAKE_TWICE", "ASYNC_POLL_AFTER_READY_ABORTS"] {
        let library = artifacts::bad_c(&place, Some(variant));
        let backend = open(&library, "", &Arc::default()).unwrap();
        set(&*backend, b"k", b"v").unwrap();
        let cx = cx();
        let mut call = backend.get(Key::from_wire(b"k"), &cx);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // As an executor does that polls whenever it likes; with threads that wake what is over meanwhile.
        let found = loop {
            if let std::task::Poll::Ready(found) = call.as_mut().poll(&mut context) {
                break found;
            }
        };
        drop(call);
        assert_eq!(found.unwrap().as_deref(), Some(&b"v"[..]), "{variant}");
        drop(backend);
        let counts = Counts::of(&library);
        assert_eq!((counts.started, counts.given), (counts.dropped, counts.released), "{variant}");
        assert_eq!(counts.created, counts.destroyed, "{variant}");
    }
}

#[test]
fn a_thread_that_outlives_its_instance_still_has_its_code() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, Some("THREAD_OUTLIVES"));
    drop(open(&library, "", &Arc::default()).unwrap());
    let (from, began) = (Counts::of(&library).woken, Instant::now());
    while Counts::of(&library).woken < from + 10 {
        assert!(began.elapsed() < Duration::from_secs(60), "the thread is gone");
        std::thread::yield_now();
    }
}

/// Buffers of either side go back to whoever gave them: the library ends the process if it is handed other memory than its own.
#[test]
fn a_library_with_an_allocator_of_its_own_gets_back_what_is_its() {
    let backend = open(artifacts::chaos_plugin(), r#"{"mode":"none"}"#, &Arc::default()).unwrap();
    let mut held = Vec::new();
    // Below a kibibyte values are lent, above they are handed over and stay the host's.
    for size in [0_usize, 1, 1000, 1024, 5000, 200_000] {
        for key in [&b"a"[..], b"b"] {
            let value = vec![size as u8; size];
            set(&*backend, key, &value).unwrap();
            held.push((get(&*backend, key).unwrap().unwrap(), value));
        }
    }
    let unknown = open(artifacts::chaos_plugin(), r#"{"mode":"none","colour":1}"#, &Arc::default());
    assert!(whole(&unknown.err().unwrap()).contains("colour"), "error texts go back as well");
    drop(backend);
    assert!(held.into_iter().all(|(found, value)| found == value));
}
