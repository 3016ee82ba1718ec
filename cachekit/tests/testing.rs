//! What users test with behaves as it says, and lets a test see what the engine does in an outage.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cachekit::plugin::{Kind, Operation};
use cachekit::testing::{Switched, TestBench, Trouble};
use cachekit::{Cache, Error, cached};
use cachekit_conformance::{Group, Harness, Memory, Opened, run_all};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The store in front of the reference is no other store.
struct Front(Memory);

impl Harness for Front {
    fn open(&self) -> Opened {
        Ok(Arc::new(Switched::new(Arc::new(self.0.clone()))))
    }
}

#[test]
fn a_switched_store_that_is_well_passes_the_whole_conformance_suite() {
    let report = run_all(Arc::new(Front(Memory::default())), |case| case.group != Group::Config);
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(report.passed > 20, "{report:?}");
}

#[test]
fn time_passes_for_cache_and_store_when_the_test_says_so() {
    let bench = TestBench::new();
    run(async {
        let cache = bench.builder().default_ttl(Duration::from_secs(60)).build().unwrap();
        cache.set("k", &1_u32).await.unwrap();
        bench.clock.advance(Duration::from_secs(59));
        assert!(bench.cache().get::<u32>("k").await.unwrap().is_some());
        bench.clock.advance(Duration::from_secs(2));
        assert!(cache.get::<u32>("k").await.unwrap().is_none());
        assert!(bench.cache().get::<u32>("k").await.unwrap().is_none());
    });
}

#[test]
fn failures_are_for_all_or_for_one_operation_or_for_a_few_times() {
    let bench = TestBench::new();
    run(async {
        let cache = bench.builder().strict(true).without_l1().without_breaker().without_retry().build().unwrap();
        let get = async || cache.get::<u32>("k").await.map(|found| found.map(|found| *found));
        bench.switch.trouble_with(Operation::Get, Trouble::Fails(Kind::Auth));
        assert!(matches!(get().await, Err(Error::Backend(error)) if error.kind() == Kind::Auth));
        cache.set("k", &1_u32).await.unwrap();
        bench.switch.heal();
        assert_eq!(get().await.unwrap(), Some(1));
        bench.switch.trouble(Trouble::FailsTimes(2, Kind::Transient));
        assert!(get().await.is_err());
        assert!(get().await.is_err());
        assert_eq!(get().await.unwrap(), Some(1));
        assert_eq!(bench.switch.calls(Operation::Get), 5);
        bench.switch.trouble(Trouble::Slow(Duration::from_millis(1)));
        assert_eq!(get().await.unwrap(), Some(1));
    });
}

#[test]
fn what_hangs_goes_on_when_the_store_is_healed() {
    let bench = TestBench::new().without_powers(); // and so without batches
    run(async {
        let cache = bench.builder().coherence(false).deadline(Duration::from_secs(60)).build().unwrap();
        bench.switch.trouble(Trouble::Hangs);
        let asked = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get_or_load("k", async || 7_u32).await.map(|value| *value) }
        });
        while bench.switch.hanging() == 0 {
            tokio::task::yield_now().await;
        }
        bench.switch.heal();
        assert_eq!(asked.await.unwrap().unwrap(), 7);
        assert_eq!(bench.switch.hanging(), 0);
        assert!(bench.switch.calls(Operation::Get) > 0 && bench.switch.calls(Operation::GetMany) == 0);
    });
}

#[test]
fn a_cached_function_is_tested_without_its_store() {
    #[cached(cache = cache, skip(cache), ttl = "10m")]
    fn answer(cache: &Cache, n: u32) -> u32 {
        n * 2
    }
    let bench = TestBench::new();
    let cache = bench.cache();
    bench.switch.trouble(Trouble::Fails(Kind::Transient));
    assert_eq!((answer(&cache, 1), answer(&cache, 2)), (2, 4), "an outage makes misses and no errors");
    assert_eq!(answer_cache_stats().bypassed, 0);
    assert!(answer_invalidate_cache(&cache, 1).is_err(), "but a deletion that did not happen is told");
    bench.switch.heal();
    // The circuit breaker gives the store a pause, which is over when the test says so.
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(answer(&cache, 3), 6);
    assert!(answer_invalidate_cache(&cache, 3).unwrap());
}
