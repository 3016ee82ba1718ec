//! A Redis that stalls: connections stay open and nothing is answered. A call in the production preset ends by its
//! deadline of 250 ms, and works again within a second of the server's return.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit_core::blocking::wait;
use cachekit_core::cache::SetOptions;
use cachekit_core::{Cache, Error};
use cachekit_e2e::{Place, artifacts, stores};
use cachekit_plugin::Kind;
use cachekit_test_servers::redis::Redis;

/// The production preset's, and what a busy test machine may add to it.
const DEADLINE: Duration = Duration::from_millis(250);
const MARGIN: Duration = Duration::from_millis(50);
/// The promise for the return.
const AGAIN_WITHIN: Duration = Duration::from_secs(1);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_get_through_the_library_ends_by_its_deadline_and_works_again_soon() {
    let server = Arc::new(Redis::start());
    let store = stores::redis(Arc::clone(&server));
    // Strict, so that an outage is an error and not a miss; without the breaker, which would answer sooner.
    let cache = Cache::builder().backend(store.backend.clone()).without_l1().without_breaker();
    let cache = cache.strict(true).deadline(DEADLINE).build().unwrap();
    wait(cache.set_bytes("k", b"v", SetOptions::default())).unwrap();
    server.stop();
    let mut times = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        let error = wait(cache.get_bytes("k")).unwrap_err();
        times.push(began.elapsed());
        assert!(
            matches!(&error, Error::Backend(error) if matches!(error.kind(), Kind::Timeout | Kind::Transient)),
            "{error:?}"
        );
    }
    server.cont();
    let back = Instant::now();
    while wait(cache.get_bytes("k")).is_err() {}
    let again = back.elapsed();
    println!("stalled: median {:?}, most {:?}; again after {again:?}", median(times.clone()), times.iter().max());
    // The median: on a machine with two cores and many tests one call in nine may wait for a processor.
    assert!(median(times) <= DEADLINE + MARGIN);
    assert!(again <= AGAIN_WITHIN, "{again:?}");
}

#[test]
fn the_program_ends_with_3_in_time_and_not_with_a_miss() {
    let server = Redis::start();
    let home = Place::new();
    let run = |arguments: &[&str]| {
        let mut program = Command::new(artifacts::program());
        program.env_clear().env("HOME", home.path()).args(["--backend", &server.url(), "--preset", "production"]);
        let began = Instant::now();
        let output = program.args(arguments).output().unwrap();
        (output.status.code(), output.stdout, began.elapsed())
    };
    assert_eq!(run(&["set", "k", "v"]).0, Some(0));
    let (code, value, idle) = run(&["get", "k"]);
    assert_eq!((code, &*value), (Some(0), &b"v"[..]));
    server.stop();
    let (code, _, stalled) = run(&["get", "k"]);
    server.cont();
    println!("the program: {idle:?} with a server that answers, {stalled:?} with one that is stalled");
    assert_eq!(code, Some(3), "a miss would be 1");
    // A process takes its time to start; what the stall adds to that is the deadline.
    assert!(stalled <= idle + DEADLINE + 4 * MARGIN, "{stalled:?}");
    let (code, value, _) = run(&["get", "k"]);
    assert_eq!((code, &*value), (Some(0), &b"v"[..]));
}
