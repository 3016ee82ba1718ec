//! Values that are accepted now and reach the store soon.

use cachekit_conformance::{Switched, Trouble};

use super::interleave::{Dice, Slow};
use super::*;
use crate::behind::{Careless, WriteBehind};

const A_WHILE: Duration = Duration::from_secs(30);

fn quick() -> WriteBehind {
    WriteBehind { attempts: 2, pause: Duration::from_millis(1), ..WriteBehind::default() }
}

/// Nothing but the cache itself tries again.
fn behind(bench: &Bench, config: WriteBehind) -> CacheBuilder {
    bench.builder(Arc::new(bench.store.clone())).without_retry().without_breaker().write_behind(config)
}

fn switched(bench: &Bench) -> (Cache, cachekit_conformance::Switch) {
    let store = Switched::new(Arc::new(bench.store.clone()));
    let switch = store.switch();
    let builder = bench.builder(Arc::new(store)).without_retry().without_breaker().deadline(A_WHILE);
    (builder.write_behind(WriteBehind { attempts: 100, ..quick() }).build().unwrap(), switch)
}

async fn until(what: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(std::time::Instant::now() < end, "not within a minute");
        tokio::task::yield_now().await;
    }
}

async fn stored(bench: &Bench, key: &str) -> Option<u32> {
    bench.cache().get::<u32>(key).await.unwrap().map(|value| *value)
}

#[tokio::test]
async fn a_set_returns_before_the_store_has_the_value_and_only_the_newest_of_a_key_follows() {
    let bench = Bench::new();
    let (cache, switch) = switched(&bench);
    switch.trouble_with(Operation::Set, Trouble::Hangs);
    cache.set("k", &0_u32).await.unwrap();
    until(|| switch.hanging() == 1).await;
    for value in 1..=10_u32 {
        cache.set("k", &value).await.unwrap();
        assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), value);
    }
    assert_eq!(switch.hanging(), 1, "one write of a key at a time");
    assert_eq!(cache.stats().behind.unwrap().entries, 1);
    switch.heal();
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!((switch.calls(Operation::Set), stored(&bench, "k").await), (2, Some(10)));
    let stats = cache.stats();
    assert_eq!((stats.sets, stats.writes_behind, stats.writes_lost), (11, 11, 0));
    assert_eq!(stats.behind.unwrap(), crate::behind::BehindStats::default());
}

#[tokio::test]
async fn it_is_written_soon_without_anybody_asking() {
    let bench = Bench::new();
    let cache = behind(&bench, quick()).build().unwrap();
    for key in 0..100_u32 {
        cache.set(key.to_string(), &key).await.unwrap();
    }
    until(|| cache.stats().behind.unwrap().entries == 0).await;
    assert_eq!(stored(&bench, "99").await, Some(99));
}

#[test]
fn a_program_without_a_runtime_writes_behind_as_well() {
    let bench = Bench::new();
    let cache = behind(&bench, quick()).build().unwrap().blocking();
    cache.set("k", &1_u32).unwrap();
    cache.flush(A_WHILE).unwrap();
    assert_eq!(*bench.cache().blocking().get::<u32>("k").unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_deletion_comes_after_what_was_set_before_it_whether_it_is_under_way_or_not() {
    let bench = Bench::new();
    let (cache, switch) = switched(&bench);
    cache.set("k", &1_u32).await.unwrap();
    assert!(cache.delete("k").await.unwrap(), "it was there, though not in the store");
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!((switch.calls(Operation::Set), stored(&bench, "k").await), (0, None));

    switch.trouble_with(Operation::Set, Trouble::Hangs);
    cache.set("k", &2_u32).await.unwrap();
    until(|| switch.hanging() == 1).await;
    let deleting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.delete("k").await.unwrap() }
    });
    tokio::task::yield_now().await;
    assert_eq!(switch.calls(Operation::Delete), 1, "that of before: this one waits for the turn");
    switch.heal();
    assert!(deleting.await.unwrap());
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!((cache.get::<u32>("k").await.unwrap(), stored(&bench, "k").await), (None, None));

    cache.set("a", &1_u32).await.unwrap();
    cache.set("b", &1_u32).await.unwrap();
    assert_eq!(cache.delete_many(&["a", "b", "c"]).await.unwrap(), 2);
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!((cache.get::<u32>("a").await.unwrap(), stored(&bench, "b").await), (None, None));
}

#[tokio::test]
async fn a_deletion_that_failed_leaves_the_value_that_was_accepted_and_nothing_older() {
    let bench = Bench::new();
    let cache = behind(&bench, WriteBehind { attempts: 100, ..quick() }).without_l1().build().unwrap();
    cache.set("k", &1_u32).await.unwrap();
    cache.flush(A_WHILE).await.unwrap();
    bench.store.set_outage(true);
    cache.set("k", &2_u32).await.unwrap();
    assert!(cache.delete("k").await.is_err());
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
    bench.store.set_outage(false);
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!(stored(&bench, "k").await, Some(2));
}

#[tokio::test]
async fn a_clearing_removes_what_waits_in_its_namespace_alone() {
    let bench = Bench::new();
    let (cache, switch) = switched(&bench);
    let other = cache.namespace("other").unwrap();
    switch.trouble_with(Operation::Set, Trouble::Hangs);
    // Of four stripes: a write that hangs has the turn of its stripe.
    let stripe = |cache: &Cache, key: &str| cache.near.writes.index(cache.at(key.as_bytes()).unwrap().hash);
    let four = |a: &str, b: &str| {
        let stripes = [&cache, &other].map(|cache| [stripe(cache, a), stripe(cache, b)]);
        stripes.concat().into_iter().collect::<std::collections::HashSet<_>>().len() == 4
    };
    let b = (0..).map(|n| format!("b{n}")).find(|b| four("a", b)).unwrap();
    for key in ["a", &*b] {
        cache.set(key, &1_u32).await.unwrap();
        other.set(key, &2_u32).await.unwrap();
    }
    until(|| switch.hanging() == 4).await;
    let clearing = tokio::spawn({
        let cache = cache.clone();
        async move { cache.clear().await }
    });
    tokio::task::yield_now().await;
    switch.heal();
    clearing.await.unwrap().unwrap();
    cache.set("late", &3_u32).await.unwrap();
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!((cache.get::<u32>("a").await.unwrap(), stored(&bench, &b).await), (None, None));
    assert_eq!(stored(&bench, "late").await, Some(3));
    assert_eq!(*bench.cache().namespace("other").unwrap().get::<u32>("a").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn what_a_failed_clearing_held_is_written_after_all() {
    let bench = Bench::new();
    let cache = behind(&bench, WriteBehind { attempts: 100, ..quick() }).build().unwrap();
    bench.store.set_outage(true);
    cache.set("k", &1_u32).await.unwrap();
    assert!(cache.clear().await.is_err());
    bench.store.set_outage(false);
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!(stored(&bench, "k").await, Some(1));
}

#[tokio::test]
async fn what_waits_is_a_miss_once_its_tag_is_invalidated() {
    let bench = Bench::new();
    let cache = behind(&bench, quick()).build().unwrap();
    cache.set_with("k", &1_u32, SetOptions::default().with_tag("t")).await.unwrap();
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!((cache.get::<u32>("k").await.unwrap(), stored(&bench, "k").await), (None, None));
}

#[tokio::test]
async fn without_l1_every_read_finds_what_waits_before_what_the_store_has() {
    let bench = Bench::new();
    let cache = behind(&bench, quick()).without_l1().build().unwrap();
    bench.cache().set("k", &1_u32).await.unwrap();
    cache.set("k", &2_u32).await.unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2);
    assert_eq!(*cache.get_many::<u32, _>(&["k", "none"]).await.unwrap()[0].clone().unwrap(), 2);
    assert_eq!(*cache.get_or_load("k", async || 3_u32).await.unwrap(), 2);
    assert!(cache.exists("k").await.unwrap());
    assert_eq!(cache.entry("k").await.unwrap().unwrap().decode::<u32>().unwrap(), 2);
}

#[tokio::test]
async fn what_does_not_fit_goes_through_and_no_more_waits_than_may() {
    let bench = Bench::new();
    for config in [WriteBehind { max_entries: 2, ..quick() }, WriteBehind { max_bytes: 1_000, ..quick() }] {
        let cache = behind(&bench, config).build().unwrap();
        // Nothing here lets a task run, so all that is accepted waits.
        for key in 0..100_u32 {
            cache.set(key.to_string(), &key).await.unwrap();
            let waits = cache.stats().behind.unwrap();
            assert!(waits.entries <= config.max_entries as u64 && waits.bytes <= config.max_bytes);
        }
        let stats = cache.stats();
        assert_eq!(stats.writes_behind + stats.writes_behind_through, 100);
        assert!(stats.writes_behind >= 2 && stats.writes_behind_through > 50);
        cache.flush(A_WHILE).await.unwrap();
        assert_eq!(stored(&bench, "0").await, Some(0));
        assert_eq!(stored(&bench, "99").await, Some(99));
    }
}

#[tokio::test]
async fn a_write_that_goes_through_replaces_what_waits() {
    let bench = Bench::new();
    let (cache, switch) = switched(&bench);
    let through = SetOptions::default().with_write_behind(false);
    cache.set("k", &1_u32).await.unwrap();
    cache.set_with("k", &2_u32, through.clone()).await.unwrap();
    assert_eq!((switch.calls(Operation::Set), stored(&bench, "k").await), (1, Some(2)));
    cache.set("k", &3_u32).await.unwrap();
    cache.set_many(&[("k", 4_u32)], SetOptions::default()).await.unwrap();
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!((cache.stats().behind.unwrap().entries, stored(&bench, "k").await), (0, Some(4)));
    cache.set("k", &5_u32).await.unwrap();
    assert!(cache.touch("k", SetOptions::default()).await.unwrap(), "written before its life is changed");
    assert_eq!(stored(&bench, "k").await, Some(5));
}

#[tokio::test]
async fn what_waits_is_not_lost_to_a_write_that_goes_through_and_fails_and_the_newest_follows() {
    for through in 0..6 {
        let bench = Bench::new();
        let (cache, switch) = switched(&bench);
        cache.set("k", &1_u32).await.unwrap();
        cache.flush(A_WHILE).await.unwrap();
        switch.trouble(Trouble::Fails(Kind::Transient));
        cache.set("k", &2_u32).await.unwrap();
        let expected = match through {
            0 => {
                cache.set_with("k", &3_u32, SetOptions::default().with_write_behind(false)).await.unwrap();
                3
            }
            1 => {
                cache.set_many(&[("k", 3_u32), ("other", 4), ("k", 5)], SetOptions::default()).await.unwrap();
                5
            }
            2 => {
                assert_eq!(*cache.refresh("k", async || 6_u32).await.unwrap(), 6);
                6
            }
            // Nobody could use what is tagged with an epoch that the store does not know: what waited stays.
            3 => {
                cache.set_with("k", &7_u32, SetOptions::default().with_tag("t")).await.unwrap();
                2
            }
            4 => {
                let tagged = SetOptions::default().with_tag("t");
                cache.set_many(&[("k", 8_u32)], tagged).await.unwrap();
                2
            }
            // Accepted after the one that failed: newer than both.
            _ => {
                cache.set_with("k", &3_u32, SetOptions::default().with_write_behind(false)).await.unwrap();
                cache.set("k", &9_u32).await.unwrap();
                9
            }
        };
        assert_eq!(cache.stats().behind.unwrap().entries, 1, "{through}");
        switch.heal();
        cache.flush(A_WHILE).await.unwrap();
        assert_eq!(stored(&bench, "k").await, Some(expected), "{through}");
        assert_eq!((cache.stats().writes_lost, cache.stats().behind.unwrap().entries), (0, 0));
    }
}

#[tokio::test]
async fn an_outage_is_waited_out_and_one_that_is_longer_loses_the_value_and_counts_it() {
    let bench = Bench::new();
    let cache = behind(&bench, WriteBehind { attempts: 100, ..quick() }).build().unwrap();
    bench.store.set_outage(true);
    cache.set("k", &1_u32).await.unwrap();
    until(|| cache.stats().l2_errors > 2).await;
    bench.store.set_outage(false);
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!((cache.stats().writes_lost, stored(&bench, "k").await), (0, Some(1)));

    let cache = behind(&bench, quick()).strict(true).build().unwrap();
    bench.store.set_outage(true);
    cache.set("k", &2_u32).await.unwrap();
    assert!(matches!(cache.flush(A_WHILE).await, Err(Error::WritesBehind { waiting: 0, lost: 1 })));
    let stats = cache.stats();
    assert_eq!((stats.writes_lost, stats.l2_errors, stats.behind.unwrap().entries), (1, 3, 0));
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 2, "L1 has it up to its cap");
    bench.clock.advance(Duration::from_secs(31));
    bench.store.set_outage(false);
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1, "what the store has");
}

#[tokio::test]
async fn a_life_counts_from_the_set_and_one_that_ended_meanwhile_is_not_written() {
    let bench = Bench::new();
    let (cache, switch) = switched(&bench);
    for (key, life) in [("short", 1), ("long", 10)] {
        cache.set_with(key, &1_u32, SetOptions::default().with_ttl(Duration::from_secs(life))).await.unwrap();
    }
    bench.clock.advance(Duration::from_secs(4));
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!((cache.stats().writes_expired, switch.calls(Operation::Set)), (1, 1));
    assert_eq!(bench.cache().ttl("long").await.unwrap(), Ttl::from_ms(6_000));
}

#[tokio::test]
async fn closing_writes_what_waits_and_says_what_it_could_not() {
    let bench = Bench::new();
    let cache = behind(&bench, quick()).build().unwrap();
    cache.set("k", &1_u32).await.unwrap();
    cache.close().await.unwrap();
    assert_eq!(stored(&bench, "k").await, Some(1));

    let patient = WriteBehind { attempts: 100, pause: Duration::from_secs(5), ..quick() };
    let cache = behind(&bench, patient).deadline(Duration::from_millis(50)).build().unwrap();
    bench.store.set_outage(true);
    cache.set("k", &2_u32).await.unwrap();
    assert!(matches!(cache.close().await, Err(Error::WritesBehind { waiting: 0, lost: 1 })));
    assert_eq!(cache.stats().writes_lost, 1);
    bench.store.set_outage(false);
    assert_eq!(stored(&bench, "k").await, Some(1));
}

#[tokio::test]
async fn a_flush_that_has_no_more_patience_says_what_still_waits() {
    let bench = Bench::new();
    let (cache, switch) = switched(&bench);
    switch.trouble_with(Operation::Set, Trouble::Hangs);
    cache.set("k", &1_u32).await.unwrap();
    let flushed = cache.flush(Duration::from_millis(20)).await;
    assert!(matches!(flushed, Err(Error::WritesBehind { waiting: 1, lost: 0 })));
    switch.heal();
    cache.flush(A_WHILE).await.unwrap();
    assert_eq!(stored(&bench, "k").await, Some(1));
}

#[tokio::test]
async fn the_last_handle_takes_what_waits_with_it_and_counts_it() {
    let bench = Bench::new();
    let cache = behind(&bench, quick()).build().unwrap();
    let near = Arc::clone(&cache.near);
    cache.set("k", &1_u32).await.unwrap();
    drop(cache);
    assert_eq!(near.counters.writes_lost.get(), 1);
    tokio::task::yield_now().await;
    assert_eq!(stored(&bench, "k").await, None);
}

#[test]
fn a_write_behind_that_could_not_work_is_refused() {
    for config in [
        WriteBehind { max_bytes: 0, ..WriteBehind::default() },
        WriteBehind { max_entries: 0, ..WriteBehind::default() },
        WriteBehind { attempts: 101, ..WriteBehind::default() },
        WriteBehind { pause: Duration::ZERO, ..WriteBehind::default() },
        WriteBehind { pause: Duration::from_secs(6), ..WriteBehind::default() },
    ] {
        assert!(matches!(Cache::builder().write_behind(config).build(), Err(Error::WriteBehind(_))), "{config:?}");
    }
}

/// One caller with one key, tasks that write behind it, and a store that lets others run and fails as the dice say. The
/// caller sees at each read what it did last, and so does the store at the end. `false`: it did not.
async fn story(seed: u64, careless: Option<Careless>) -> bool {
    let bench = Bench::new();
    let dice = Dice::seeded(seed);
    let store = Slow { inner: bench.store.clone(), dice: dice.clone() };
    let builder = bench.builder(Arc::new(store)).without_retry().without_breaker().strict(true).deadline(A_WHILE);
    let builder = builder.write_behind(WriteBehind { attempts: 100, max_entries: 2, ..quick() });
    let cache = if dice.below(2) == 0 { builder.without_l1() } else { builder }.build().unwrap();
    *cache.near.pending.careless.lock().unwrap() = careless;
    let mut last = None;
    for step in 0..40_u32 {
        match dice.below(12) {
            0..=3 => {
                if cache.set("k", &step).await.is_ok() {
                    last = Some(step);
                }
            }
            4 => {
                let through = SetOptions::default().with_write_behind(false);
                if cache.set_with("k", &step, through).await.is_ok() {
                    last = Some(step);
                }
            }
            5 if cache.delete("k").await.is_ok() => last = None,
            6 if dice.below(2) == 0 && cache.clear().await.is_ok() => last = None,
            7 => bench.store.set_outage(dice.below(4) == 0),
            8 => {
                let _ = cache.set(format!("other{step}"), &step).await;
            }
            9 if dice.below(3) == 0 => {
                bench.store.set_outage(false);
                if cache.flush(A_WHILE).await.is_err() {
                    return false;
                }
            }
            _ => dice.pause().await,
        }
        assert!(cache.near.pending.is_in_order(), "seed {seed}");
        // In an outage there may be no answer; one that is there is right.
        if let Ok(found) = cache.get::<u32>("k").await
            && found.map(|value| *value) != last
        {
            return false;
        }
    }
    bench.store.set_outage(false);
    cache.flush(A_WHILE).await.is_ok() && stored(&bench, "k").await == last
}

#[tokio::test]
async fn whatever_the_order_a_caller_reads_what_it_did_last_and_so_does_the_store_in_the_end() {
    for seed in 0..200 {
        assert!(story(seed, None).await, "seed {seed}");
    }
}

#[tokio::test]
async fn negative_control_without_the_list_or_without_taking_off_it_the_stories_go_wrong() {
    for careless in [Careless::Supersede, Careless::Find] {
        let mut wrong = 0;
        for seed in 0..50 {
            wrong += u32::from(!story(seed, Some(careless)).await);
        }
        assert!(wrong > 0, "{careless:?}");
    }
}
