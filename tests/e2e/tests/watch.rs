//! Another writer's change is told, through the library; one's own is not; and a connection that goes dead without a
//! word is told as lost.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_core::blocking::wait;
use cachekit_e2e::{artifacts, stores};
use cachekit_plugin::{Backend, Cx, Event, Key, Ttl, WatchGuard, WatchSink};
use cachekit_test_servers::proxy::{Fault, Proxy};
use cachekit_test_servers::redis::Redis;
use serde_json::json;

/// What a sink was told, without its borrows.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Changed(Vec<u8>),
    Everything,
    Lost,
}

struct Notes(Mutex<Sender<(Instant, Told)>>);

impl WatchSink for Notes {
    fn event(&self, event: Event<'_>) {
        let told = match event {
            Event::Changed(key) => Told::Changed(key.as_bytes().to_vec()),
            Event::Everything => Told::Everything,
            Event::Lost => Told::Lost,
        };
        // The test may be over.
        let _ = self.0.lock().unwrap().send((Instant::now(), told));
    }
}

fn watched(backend: &Arc<dyn Backend>, prefix: &[u8]) -> (WatchGuard, Receiver<(Instant, Told)>) {
    let (sender, notes) = channel();
    let watch = backend.watch().expect("Redis tells of changes");
    let cx = Cx::within(Duration::from_secs(10));
    let guard = wait(async { watch.watch(prefix, Arc::new(Notes(Mutex::new(sender))), &cx).await }).unwrap();
    (guard, notes)
}

fn set(backend: &Arc<dyn Backend>, key: &[u8]) {
    let cx = Cx::within(Duration::from_secs(10));
    wait(async { backend.set(Key::from_wire(key), Bytes::from_static(b"v"), Ttl::Never, &cx).await }).unwrap();
}

#[test]
fn another_writers_change_is_told_and_ones_own_is_not() {
    let server = Arc::new(Redis::start());
    let (ours, others) = (stores::redis(Arc::clone(&server)), stores::redis(Arc::clone(&server)));
    let (_guard, notes) = watched(&ours.backend, b"w:");
    let mut times = Vec::new();
    for n in 0..500 {
        let key = format!("w:{n}").into_bytes();
        set(&ours.backend, &key);
        set(&others.backend, b"elsewhere");
        let began = Instant::now();
        set(&others.backend, &key);
        let (at, told) = notes.recv_timeout(Duration::from_secs(5)).unwrap();
        // The next thing that is told is the other's write: neither our own nor another prefix's came before.
        assert_eq!(told, Told::Changed(key));
        times.push(at - began);
    }
    times.sort_unstable();
    println!("told after: p50 {:?}, p99 {:?}, from before the write was sent", times[250], times[495]);
    server.command(&["FLUSHALL"]);
    assert_eq!(notes.recv_timeout(Duration::from_secs(5)).unwrap().1, Told::Everything);
    assert!(notes.try_recv().is_err());
}

#[test]
fn a_dead_connection_is_told_as_lost_within_two_seconds() {
    let server = Redis::start();
    for fault in [Fault::BlackHole, Fault::HalfOpen, Fault::Reset] {
        let proxy = Proxy::start(server.addr());
        let options = json!({ "url": format!("redis://{}", proxy.addr()) });
        let backend = stores::load(artifacts::redis_plugin(), &options);
        let (_guard, notes) = watched(&backend, b"");
        proxy.set(fault);
        let began = Instant::now();
        let (at, told) = notes.recv_timeout(Duration::from_secs(10)).unwrap();
        println!("{fault:?}: {told:?} after {:?}", at - began);
        assert_eq!(told, Told::Lost);
        assert!(at - began <= Duration::from_millis(2_100), "{fault:?}: {:?}", at - began);
    }
}

#[test]
fn a_watch_that_is_dropped_tells_nothing_more() {
    let server = Arc::new(Redis::start());
    let (ours, others) = (stores::redis(Arc::clone(&server)), stores::redis(Arc::clone(&server)));
    let (guard, notes) = watched(&ours.backend, b"");
    set(&others.backend, b"before");
    assert_eq!(notes.recv_timeout(Duration::from_secs(5)).unwrap().1, Told::Changed(b"before".to_vec()));
    drop(guard);
    set(&others.backend, b"after");
    assert!(notes.recv_timeout(Duration::from_millis(300)).is_err());
}
