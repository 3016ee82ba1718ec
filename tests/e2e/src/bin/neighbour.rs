#![forbid(unsafe_code)]
//! Another process on the same store: `neighbour STORE OPTIONS CAP_MS`.
//!
//! Does what its input says, line by line, and answers each line with what came of it:
//!
//! ```text
//! set KEY NUMBER [TAG]    invalidate TAG    clear    get KEY    watch
//! ```
//!
//! `watch` waits until the store tells of changes. The answer to `set` is when it began and ended, nanoseconds of the machine's
//! monotonic clock, which every process on it shares.

use std::io::BufRead;
use std::time::{Duration, Instant};

use cachekit::{Cache, SetOptions};
use cachekit_e2e::invalidation::{monotonic_ns, open};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, options, cap_ms] = arguments.as_slice() else { panic!("usage: neighbour STORE OPTIONS CAP_MS") };
    let cap = Duration::from_millis(cap_ms.parse().expect("milliseconds"));
    let cache = open(store, options, cap, true);
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("the test writes text");
        println!("{}", answer(&cache, &line.split(' ').collect::<Vec<_>>()));
    }
}

fn answer(cache: &Cache, line: &[&str]) -> String {
    let calls = cache.clone().blocking();
    match line {
        ["set", key, number, tags @ ..] => {
            let number: u64 = number.parse().expect("a number");
            let began = monotonic_ns();
            calls.set_with(key, &number, SetOptions::default().with_tags(tags)).expect("the store takes it");
            format!("{began} {}", monotonic_ns())
        }
        ["get", key] => {
            let found = calls.get::<u64>(key).expect("it is not strict");
            found.map_or_else(|| "none".to_owned(), |number| number.to_string())
        }
        ["invalidate", tag] => {
            calls.invalidate_tag(tag).expect("the store takes it");
            "done".to_owned()
        }
        ["clear"] => calls.clear().expect("the store takes it").to_string(),
        ["watch"] => {
            let end = Instant::now() + Duration::from_secs(20);
            while !cache.is_coherent() {
                assert!(Instant::now() < end, "the store tells of nothing");
                std::thread::sleep(Duration::from_millis(5));
            }
            "watching".to_owned()
        }
        other => panic!("{other:?} is not known"),
    }
}
