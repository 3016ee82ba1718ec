//! A Redis that stalls: connections stay open and nothing is answered. A call in the production preset ends by its
//! deadline of 250 ms, and works again within a second of the server's return.
//!
//! Time is what is tested here, on a machine that may have other things to do. It only ever adds, so a promise is held in one
//! of a few rounds, and a product that does not keep it keeps it in none; what is answered is held in every round.

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
const ROUNDS: usize = 10;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_get_through_the_library_ends_by_its_deadline_and_works_again_soon() {
    let server = Arc::new(Redis::start());
    let store = stores::redis(Arc::clone(&server));
    // Strict, so that an outage is an error and not a miss; without the breaker, which would answer sooner.
    let cache = |deadline| {
        let cache = Cache::builder().backend(store.backend.clone()).without_l1().without_breaker();
        cache.strict(true).deadline(deadline).build().unwrap()
    };
    // The first exchange connects, which is not what is tested.
    wait(cache(Duration::from_secs(60)).set_bytes("k", b"v", SetOptions::default())).unwrap();
    let cache = cache(DEADLINE);
    let mut told = Vec::new();
    for _ in 0..ROUNDS {
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
        let found = loop {
            match wait(cache.get_bytes("k")) {
                Ok(found) => break found,
                Err(_) => assert!(back.elapsed() < Duration::from_secs(60), "it does not come back"),
            }
        };
        let again = back.elapsed();
        assert_eq!(found.as_deref(), Some(&b"v"[..]));
        let usual = median(times);
        told.push(format!("median {usual:?}, again after {again:?}"));
        if usual <= DEADLINE + MARGIN && again <= AGAIN_WITHIN {
            println!("stalled: {told:?}");
            return;
        }
    }
    panic!("late in every round: {told:#?}");
}

#[test]
fn the_program_ends_with_3_in_time_and_not_with_a_miss() {
    let server = Redis::start();
    let home = Place::new();
    let run = |arguments: &[&str]| {
        let mut program = Command::new(artifacts::program());
        program.env_clear().env("HOME", home.path()).env("CACHEKIT_SOCKET_TIMEOUT", "60");
        let began = Instant::now();
        let output = program.args(["--backend", &server.url()]).args(arguments).output().unwrap();
        (output.status.code(), output.stdout, began.elapsed())
    };
    // Where the server answers, the program waits for it: a machine on which that takes a while does not stall.
    let answered = |arguments: &[&str]| {
        let config = home.path().join("patient.toml");
        std::fs::write(&config, "deadline = \"60s\"\n").unwrap();
        run(&[&["--config", &config.display().to_string()], arguments].concat())
    };
    assert_eq!(answered(&["set", "k", "v"]).0, Some(0));
    let idle = || {
        let (code, value, time) = answered(&["get", "k"]);
        assert_eq!((code, &*value), (Some(0), &b"v"[..]));
        time
    };
    // A process takes its time to start; what the stall adds to that is the deadline.
    let start = median((0..5).map(|_| idle()).collect());
    let mut told = Vec::new();
    for _ in 0..ROUNDS {
        server.stop();
        let (code, _, stalled) = run(&["--preset", "production", "get", "k"]);
        server.cont();
        assert_eq!(code, Some(3), "a miss would be 1");
        idle();
        told.push(stalled);
        if stalled <= start + DEADLINE + 4 * MARGIN {
            println!("the program: {start:?} with a server that answers, {told:?} with one that is stalled");
            return;
        }
    }
    panic!("late in every round: {start:?} with a server that answers, {told:?} with one that is stalled");
}
