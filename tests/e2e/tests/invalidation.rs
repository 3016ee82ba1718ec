//! Two processes on one real store: what one invalidates, the other serves no longer than the window says (docs/coherence.md).
//!
//! Where a window is a time, it is let pass, and then nothing older may come; where it is an event, the cap is so long that
//! only the event can be the reason. Neither fails because a machine is slow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit::{Cache, SetOptions};
use cachekit_backend_redis::RedisBackend;
use cachekit_core::blocking::wait;
use cachekit_e2e::Place;
use cachekit_e2e::invalidation::{Neighbour, monotonic_ns, open};
use cachekit_plugin::{HostServices, Open};
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::proxy::{Fault, Proxy};
use cachekit_test_servers::redis::Redis;
use serde_json::{Value as Json, json};

const CAP: Duration = Duration::from_millis(400);
const NO_CAP: Duration = Duration::from_secs(24 * 3600);

fn neighbour(store: &str, options: &Json, cap: Duration) -> Neighbour {
    Neighbour::start(env!("CARGO_BIN_EXE_neighbour"), store, options, cap)
}

fn read(cache: &Cache, key: &str) -> Option<u64> {
    wait(cache.get::<u64>(key)).unwrap().map(|number| *number)
}

fn set(cache: &Cache, key: &str, number: u64, tag: &str) {
    wait(cache.set_with(key, &number, SetOptions::default().with_tag(tag))).unwrap();
}

/// Both directions on one store; `follow` lets the window pass for this process.
fn each_sees_what_the_other_invalidates(
    store: &str,
    options: &Json,
    cache: &Cache,
    mut other: Neighbour,
    follow: impl Fn(&dyn Fn() -> bool),
) {
    // The other one's invalidation reaches us.
    other.ask("set theirs 1 team");
    other.ask("set untouched 2 crew");
    assert_eq!((read(cache, "theirs"), read(cache, "untouched")), (Some(1), Some(2)));
    other.ask("invalidate team");
    assert_eq!(other.ask("get theirs"), "none", "at once in its own process");
    follow(&|| read(cache, "theirs").is_none());
    assert_eq!((read(cache, "theirs"), read(cache, "untouched")), (None, Some(2)));
    // What it stores afterwards is served, whatever we knew of the tag.
    other.ask("set theirs 3 team");
    assert_eq!(read(cache, "theirs"), Some(3));

    // Ours is seen at once in this process and by one that begins now, and by the other one in time.
    set(cache, "ours", 4, "team");
    assert_eq!(other.ask("get ours"), "4");
    wait(cache.invalidate_tag("team")).unwrap();
    assert_eq!((read(cache, "ours"), read(cache, "theirs")), (None, None));
    let mut third = neighbour(store, options, NO_CAP);
    assert_eq!((third.ask("get ours"), third.ask("get untouched")), ("none".into(), "2".into()));
    let end = Instant::now() + Duration::from_secs(10);
    while other.ask("get ours") != "none" {
        assert!(Instant::now() < end, "the other process still has it");
        std::thread::sleep(Duration::from_millis(20));
    }

    // The whole namespace, also where the store cannot list.
    set(cache, "ours", 5, "team");
    other.ask("clear");
    follow(&|| read(cache, "ours").is_none() && read(cache, "untouched").is_none());
    assert_eq!((read(cache, "ours"), read(cache, "untouched")), (None, None));
    set(cache, "ours", 6, "team");
    assert_eq!(third.ask("get ours"), "6");
}

fn within_the_cap(store: &str, options: &Json) {
    let cache = open(store, &options.to_string(), CAP, false);
    each_sees_what_the_other_invalidates(store, options, &cache, neighbour(store, options, CAP), |_| {
        std::thread::sleep(CAP + Duration::from_millis(100));
    });
}

#[test]
fn on_memcached_within_the_cap() {
    let server = Memcached::start();
    within_the_cap("memcached", &json!({ "servers": [server.addr()] }));
}

#[test]
fn in_a_directory_within_the_cap() {
    let place = Place::new();
    within_the_cap("file", &json!({ "dir": place.path() }));
}

#[test]
fn on_redis_that_nobody_listens_to_within_the_cap() {
    let server = Redis::start();
    within_the_cap("redis", &json!({ "url": server.url() }));
}

#[test]
fn on_redis_as_soon_as_it_is_told() {
    let server = Redis::start();
    let options = json!({ "url": server.url() });
    let cache = open("redis", &options.to_string(), NO_CAP, true);
    let mut other = neighbour("redis", &options, NO_CAP);
    assert_eq!(other.ask("get nothing"), "none");
    other.ask("watch");
    assert_eq!(read(&cache, "nothing"), None);
    let end = Instant::now() + Duration::from_secs(20);
    while !cache.is_coherent() {
        assert!(Instant::now() < end, "the store tells of nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    each_sees_what_the_other_invalidates("redis", &options, &cache, other, |seen| {
        let end = Instant::now() + Duration::from_secs(10);
        while !seen() {
            assert!(Instant::now() < end, "nobody told");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// The bound of docs/coherence.md for a connection that goes dead without a word: two seconds, and half of one for a busy machine.
#[test]
fn a_process_that_is_cut_off_serves_nothing_invalidated_beyond_two_seconds() {
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let options = json!({ "url": format!("redis://{}", proxy.addr()) }).to_string();
    let backend = RedisBackend::open_json(options.as_bytes(), HostServices::none()).unwrap();
    let builder = Cache::builder().backend(Arc::new(backend)).l1_ttl_cap(NO_CAP);
    let cache = builder.deadline(Duration::from_millis(500)).build().unwrap();
    let mut other = neighbour("redis", &json!({ "url": server.url() }), NO_CAP);
    other.ask("set tagged 1 team");
    other.ask("set plain 2");
    assert_eq!(read(&cache, "nothing"), None);
    let end = Instant::now() + Duration::from_secs(20);
    // Kept for a day from the moment on that the store tells of changes.
    while !cache.is_coherent() {
        assert!(Instant::now() < end, "the store tells of nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    // A read of a busy machine may take longer than the deadline, which is short for those that will get no answer.
    while (read(&cache, "tagged"), read(&cache, "plain")) != (Some(1), Some(2)) {
        assert!(Instant::now() < end, "the store does not answer");
    }
    proxy.set(Fault::BlackHole);
    let cut = Instant::now();
    other.ask("invalidate team");
    other.ask("set plain 3");
    let mut served = Duration::ZERO;
    while cut.elapsed() < Duration::from_millis(2_500) {
        // While it is vouched for, so that nothing is asked of a store that does not answer.
        if cut.elapsed() < Duration::from_millis(2_000) && cache.is_coherent() && read(&cache, "tagged").is_some() {
            served = cut.elapsed();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("cut off, it served what was invalidated for {served:?}");
    assert_eq!(
        (read(&cache, "tagged"), read(&cache, "plain")),
        (None, None),
        "what was told to others is served no longer"
    );
}

/// `CACHEKIT_COHERENCE_ROUNDS` writes in the other process, each seen here as soon as it is told; prints how soon.
#[test]
fn a_write_in_one_process_evicts_l1_in_another() {
    let rounds = std::env::var("CACHEKIT_COHERENCE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(200);
    let server = Redis::start();
    let options = json!({ "url": format!("unix://{}", server.socket().display()) });
    let options =
        if std::env::var_os("CACHEKIT_COHERENCE_TCP").is_some() { json!({ "url": server.url() }) } else { options };
    let cache = open("redis", &options.to_string(), NO_CAP, true);
    let mut other = neighbour("redis", &options, NO_CAP);
    other.ask("set k 0");
    other.ask("watch");
    assert_eq!(read(&cache, "k"), Some(0));
    while !cache.is_coherent() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut since_begin, mut since_end) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        // Nothing kept from before the watch, nor from while the other process was writing.
        let end = Instant::now() + Duration::from_secs(20);
        let hits = cache.stats().l1.unwrap().hits;
        while cache.stats().l1.unwrap().hits == hits {
            assert!(Instant::now() < end, "L1 does not keep it");
            read(&cache, "k");
        }
        other.tell(&format!("set k {round}"));
        let end = Instant::now() + Duration::from_secs(20);
        let seen_ns = loop {
            // The moment from which L1 did not serve it: before the read that went to the store.
            let at_ns = monotonic_ns();
            if read(&cache, "k") == Some(round) {
                break at_ns;
            }
            assert!(Instant::now() < end, "nobody told");
        };
        let answer = other.answer();
        let times: Vec<u64> = answer.split(' ').map(|ns| ns.parse().unwrap()).collect();
        since_begin.push(seen_ns.saturating_sub(times[0]));
        since_end.push(seen_ns.saturating_sub(times[1]));
    }
    for (since, times) in [("began", &mut since_begin), ("returned", &mut since_end)] {
        times.sort_unstable();
        let at = |share: usize| Duration::from_nanos(times[times.len() * share / 100]);
        println!("evicted after the write {since}: p50 {:?}, p99 {:?} of {}", at(50), at(99), times.len());
    }
}
