//! The reference store: its powers, its clock, its bound.

use super::*;
use crate::drive::finish;

const CX: Cx<'static> = Cx::new(cachekit_plugin::Deadline::NEVER);

fn wait<T>(mut future: Fut<'_, T>) -> Result<T, BackendError> {
    finish(future.as_mut(), Duration::from_secs(60)).expect("memory never waits")
}

fn on_manual_clock() -> (Memory, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (Memory::with_clock(MemoryConfig { max_bytes: 100, ..MemoryConfig::default() }, clock.clone()), clock)
}

fn set(memory: &Memory, key: &str, len: usize, ttl_ms: u64) -> Result<(), BackendError> {
    let ttl = Ttl::from_ms(ttl_ms).unwrap_or(Ttl::Never);
    wait(memory.set(Key::from_wire(key.as_bytes()), vec![0; len].into(), ttl, &CX))
}

fn exists(memory: &Memory, key: &str) -> bool {
    wait(memory.exists(Key::from_wire(key.as_bytes()), &CX)).unwrap()
}

#[test]
fn an_entry_expires_by_the_injected_clock() {
    let (memory, clock) = on_manual_clock();
    set(&memory, "a", 1, 1000).unwrap();
    clock.advance(Duration::from_millis(999));
    assert!(exists(&memory, "a"));
    clock.advance(Duration::from_millis(1));
    assert!(!exists(&memory, "a"));
}

#[test]
fn bytes_are_bounded_and_given_back() {
    let (memory, clock) = on_manual_clock();
    set(&memory, "a", 59, 1000).unwrap();
    assert_eq!(set(&memory, "b", 59, 1000).unwrap_err().kind(), Kind::Throttled);
    assert_eq!(memory.bytes(), 60);
    set(&memory, "a", 19, 1000).unwrap();
    assert_eq!(memory.bytes(), 20);
    set(&memory, "b", 59, 1000).unwrap();
    clock.advance(Duration::from_secs(1));
    set(&memory, "c", 99, 1000).expect("the expired ones make room");
    assert_eq!(memory.bytes(), 100);
    assert!(wait(memory.delete(Key::from_wire(b"c"), &CX)).unwrap());
    assert_eq!(memory.bytes(), 0);
    set(&memory, "d", 9, 0).unwrap();
    assert_eq!(wait(Clear::clear(&memory, b"", &CX)).unwrap(), 1);
    assert_eq!(memory.bytes(), 0);
}

#[test]
fn a_refused_set_if_takes_no_room() {
    let (memory, _clock) = on_manual_clock();
    set(&memory, "a", 9, 0).unwrap();
    assert!(!wait(memory.set_if(Key::from_wire(b"a"), vec![0; 50].into(), Ttl::Never, None, &CX)).unwrap());
    assert_eq!(memory.bytes(), 10);
}

#[test]
fn an_outage_is_an_error_until_it_ends() {
    let memory = Memory::default();
    set(&memory, "a", 1, 0).unwrap();
    memory.set_outage(true);
    assert_eq!(set(&memory, "a", 1, 0).unwrap_err().kind(), Kind::Transient);
    memory.set_outage(false);
    assert!(exists(&memory, "a"));
}

#[test]
fn a_future_that_is_never_polled_does_nothing() {
    let memory = Memory::default();
    drop(memory.set(Key::from_wire(b"a"), Bytes::from_static(b"v"), Ttl::Never, &CX));
    assert!(!exists(&memory, "a"));
}

#[test]
fn opening_checks_the_options() {
    let open = |json: &str| Memory::open_json(json.as_bytes(), HostServices::none()).map(|_| ());
    assert!(open("{}").is_ok());
    assert_eq!(open(r#"{"max_key": 0}"#).unwrap_err().kind(), Kind::Config);
    assert_eq!(open(r#"{"max_keys": 9}"#).unwrap_err().kind(), Kind::Config);
}
