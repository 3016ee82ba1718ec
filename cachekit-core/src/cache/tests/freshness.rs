//! Values that are due, stale, or kept for failures; loaders that are slow, fail, panic, hang or come too late.

mod ahead;
mod by_order;
mod nothing;
mod slow;

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::cache::LoadOptions;
use crate::fresh::FreshnessConfig;

const MINUTE: Duration = Duration::from_secs(60);

/// A loader that counts itself and returns its number.
#[derive(Clone, Default)]
struct Source {
    calls: Arc<AtomicU32>,
    fails: Arc<std::sync::atomic::AtomicBool>,
    gate: Arc<Gate>,
}

impl Source {
    fn load(&self) -> impl FnOnce() -> futures_util::future::BoxFuture<'static, Result<u32, String>> + Send + 'static {
        let source = self.clone();
        move || {
            Box::pin(async move {
                let call = source.calls.fetch_add(1, Ordering::SeqCst) + 1;
                source.gate.pass().await;
                if source.fails.load(Ordering::SeqCst) { Err("the source is down".to_owned()) } else { Ok(call) }
            })
        }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Lets tasks in the background run, until it has come true.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if what() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came true");
}

fn windows() -> LoadOptions {
    LoadOptions::default().with_ttl(MINUTE).with_stale(MINUTE).with_stale_if_error(MINUTE)
}

/// Without spread and without refreshes ahead, so that each moment is known.
fn exact(bench: &Bench) -> CacheBuilder {
    bench.builder(Arc::new(bench.store.clone())).freshness(FreshnessConfig::off())
}

fn alone(bench: &Bench) -> CacheBuilder {
    Cache::builder().clock(bench.clock.clone()).freshness(FreshnessConfig::off())
}

#[tokio::test]
async fn stale_value_is_served_to_everybody_while_one_refresh_runs() {
    for with_store in [true, false] {
        let bench = Bench::new();
        let cache = if with_store { exact(&bench) } else { alone(&bench) }.build().unwrap();
        let source = Source::default();
        assert_eq!(*cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap(), 1);
        bench.clock.advance(MINUTE + Duration::from_secs(1));
        source.gate.close();
        for _ in 0..50 {
            assert_eq!(*cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap(), 1);
            tokio::task::yield_now().await;
        }
        until(|| source.calls() == 2).await;
        source.gate.open.notify_one();
        until(|| cache.near.background.running() == 0).await;
        assert_eq!(*cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap(), 2);
        let stats = cache.stats();
        assert_eq!((source.calls(), stats.refreshes, stats.stale_served, stats.early_refreshes), (2, 1, 50, 0));
    }
}

#[tokio::test]
async fn get_serves_what_is_fresh_alone_unless_it_was_told_otherwise() {
    for serves in [false, true] {
        let bench = Bench::new();
        let cache = exact(&bench).get_serves_stale(serves).build().unwrap();
        cache.set_with("k", &7_u32, SetOptions::default().with_ttl(MINUTE).with_stale(MINUTE)).await.unwrap();
        bench.clock.advance(MINUTE);
        assert_eq!(cache.get::<u32>("k").await.unwrap().is_some(), serves);
        assert_eq!(cache.get_many::<u32, _>(&["k"]).await.unwrap()[0].is_some(), serves);
        assert_eq!(cache.exists("k").await.unwrap(), serves);
        // Elsewhere, where L1 has nothing.
        let elsewhere = exact(&bench).get_serves_stale(serves).build().unwrap();
        assert_eq!(elsewhere.get::<u32>("k").await.unwrap().is_some(), serves);
        bench.clock.advance(MINUTE);
        assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    }
}

#[tokio::test]
async fn in_an_outage_one_key_and_many_get_the_same_of_what_is_kept_for_failures() {
    for serves in [false, true] {
        let bench = Bench::new();
        let cache = exact(&bench).get_serves_stale(serves).without_retry().build().unwrap();
        let kept = SetOptions::default().with_ttl(MINUTE).with_stale_if_error(MINUTE);
        cache.set_with("k", &7_u32, kept).await.unwrap();
        bench.clock.advance(MINUTE);
        bench.store.set_outage(true);
        let expected = serves.then_some(7);
        assert_eq!(cache.get::<u32>("k").await.unwrap().as_deref().copied(), expected);
        let many = cache.get_many::<u32, _>(&["nothing", "k"]).await.unwrap();
        assert!(many[0].is_none());
        assert_eq!(many[1].as_deref().copied(), expected);
        bench.clock.advance(MINUTE);
        assert!(cache.get_many::<u32, _>(&["k"]).await.unwrap()[0].is_none(), "over is over");
    }
}

#[tokio::test]
async fn the_time_left_is_the_time_that_get_finds_it_and_the_store_keeps_it_to_the_end_of_its_windows() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    let options = SetOptions::default().with_ttl(MINUTE).with_stale(MINUTE).with_stale_if_error(MINUTE);
    cache.set_with("k", &7_u32, options).await.unwrap();
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(cache.ttl("k").await.unwrap(), Ttl::from_ms(50_000));
    let times = cache.entry("k").await.unwrap().unwrap().meta().times;
    assert_eq!(times.expires_ms - times.created_ms, 180_000);
    // A touch renews every window.
    assert!(cache.touch("k", SetOptions::default().with_ttl(MINUTE).with_stale(MINUTE)).await.unwrap());
    bench.clock.advance(Duration::from_secs(59));
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 7);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    assert_eq!(*cache.get_or_load_with("k", windows(), || async { 8_u32 }).await.unwrap(), 7);
}

#[tokio::test]
async fn the_time_left_of_what_get_serves_stale_is_the_time_that_it_does() {
    for with_store in [true, false] {
        let bench = Bench::new();
        let builder = if with_store { exact(&bench) } else { alone(&bench) };
        let cache = builder.get_serves_stale(true).build().unwrap();
        cache.set_with("k", &7_u32, SetOptions::default().with_ttl(MINUTE).with_stale(MINUTE)).await.unwrap();
        for left_s in [120_u64, 60, 30] {
            assert_eq!(cache.ttl("k").await.unwrap(), Ttl::from_ms(left_s * 1_000), "{with_store}");
            assert!(cache.get::<u32>("k").await.unwrap().is_some());
            bench.clock.advance(Duration::from_secs(if left_s == 120 { 60 } else { 30 }));
        }
        assert_eq!((cache.ttl("k").await.unwrap(), cache.get::<u32>("k").await.unwrap()), (None, None));
        cache.set_with("k", &7_u32, SetOptions::default().without_expiry()).await.unwrap();
        assert_eq!(cache.ttl("k").await.unwrap(), Some(Ttl::Never));
    }
}

#[tokio::test]
async fn a_loader_that_fails_leaves_the_old_value_to_be_served_until_its_windows_end() {
    for with_store in [true, false] {
        let bench = Bench::new();
        let cache = if with_store { exact(&bench) } else { alone(&bench) }.build().unwrap();
        let source = Source::default();
        cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap();
        source.fails.store(true, Ordering::SeqCst);
        bench.clock.advance(MINUTE + MINUTE);
        assert_eq!(*cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap(), 1);
        assert_eq!(*cache.try_get_or_load("k", source.load()).await.unwrap(), 1);
        assert_eq!((cache.stats().stale_if_error, source.calls()), (2, 3));
        bench.clock.advance(MINUTE);
        let failed = cache.try_get_or_load_with::<u32, _, _, _>("k", windows(), source.load()).await;
        assert!(matches!(failed, Err(LoadError::Loader(_))));
    }
}

#[tokio::test]
async fn while_the_store_and_the_loader_are_out_what_l1_kept_is_served_even_past_the_cap() {
    let bench = Bench::new();
    let cache = exact(&bench).without_breaker().build().unwrap();
    let source = Source::default();
    cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap();
    // Longer than the cap of L1, shorter than the life: the store would have to be asked.
    bench.clock.advance(Duration::from_secs(45));
    bench.store.set_outage(true);
    source.fails.store(true, Ordering::SeqCst);
    assert_eq!(*cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap(), 1);
    assert_eq!(cache.stats().stale_if_error, 1);
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None, "get has not been told to");
    bench.store.set_outage(false);
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1);
    // What another process wrote is seen within the cap, windows or not.
    exact(&bench).build().unwrap().set("k", &9_u32).await.unwrap();
    bench.clock.advance(Duration::from_secs(14));
    assert_eq!(*cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap(), 1);
    bench.clock.advance(Duration::from_secs(16));
    assert_eq!(*cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap(), 9);
}

#[tokio::test]
async fn a_refresh_that_fails_keeps_the_value_and_leaves_the_key_alone_for_a_while() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    let source = Source::default();
    let get = || cache.try_get_or_load_with("k", windows(), source.load());
    get().await.unwrap();
    source.fails.store(true, Ordering::SeqCst);
    bench.clock.advance(MINUTE);
    for _ in 0..5 {
        assert_eq!(*get().await.unwrap(), 1);
        until(|| cache.near.background.running() == 0).await;
    }
    assert_eq!((source.calls(), cache.stats().refresh_failures), (2, 1));
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(*get().await.unwrap(), 1);
    until(|| cache.near.background.running() == 0).await;
    assert_eq!((source.calls(), cache.stats().refresh_failures), (3, 2));
}

#[tokio::test]
async fn a_loader_that_panics_in_the_background_harms_nobody() {
    let bench = Bench::new();
    // A lock is given back behind the panic, and at its own pace.
    let cache = exact(&bench).without_fill_locks().build().unwrap();
    cache.get_or_load_with("k", windows(), || async { 1_u32 }).await.unwrap();
    bench.clock.advance(MINUTE);
    let panics = || async {
        assert!(std::hint::black_box(false), "the loader went wrong");
        2_u32
    };
    assert_eq!(*cache.get_or_load_with("k", windows(), panics).await.unwrap(), 1);
    until(|| cache.near.background.running() == 0).await;
    assert_eq!(cache.stats().refresh_failures, 1);
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(*cache.get_or_load_with("k", windows(), || async { 3_u32 }).await.unwrap(), 1);
    until(|| cache.near.background.running() == 0).await;
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn a_loader_in_the_background_may_ask_for_its_own_key() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    cache.get_or_load_with("k", windows(), || async { 1_u32 }).await.unwrap();
    bench.clock.advance(MINUTE);
    let inner = cache.clone();
    let recurse = move || async move {
        let stale = *inner.get_or_load_with("k", windows(), || async { 50_u32 }).await.unwrap();
        inner.delete("k").await.unwrap();
        let absent = *inner.get_or_load_with("k", windows(), || async { 60_u32 }).await.unwrap();
        stale + absent
    };
    assert_eq!(*cache.get_or_load_with("k", windows(), recurse).await.unwrap(), 1);
    until(|| cache.near.background.running() == 0).await;
    // Its own deletion overtook it; what it loaded inside stands.
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 60);
}

#[tokio::test]
async fn a_refresh_that_began_before_a_deletion_a_clearing_or_a_newer_set_lands_nowhere() {
    for (with_store, change) in [true, false].into_iter().flat_map(|store| (0..3).map(move |change| (store, change))) {
        let bench = Bench::new();
        let cache = if with_store { exact(&bench) } else { alone(&bench) }.build().unwrap();
        let source = Source::default();
        cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap();
        bench.clock.advance(MINUTE);
        source.gate.close();
        cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap();
        source.gate.arrived.notified().await;
        match change {
            0 => drop(cache.delete("k").await.unwrap()),
            1 => drop(cache.clear().await.unwrap()),
            _ => cache.set("k", &100_u32).await.unwrap(),
        }
        source.gate.open.notify_one();
        until(|| cache.near.background.running() == 0).await;
        let left = cache.get::<u32>("k").await.unwrap().map(|value| *value);
        assert_eq!(left, (change == 2).then_some(100), "store {with_store}, change {change}");
        let elsewhere = exact(&bench).build().unwrap().get::<u32>("k").await.unwrap().map(|value| *value);
        assert_eq!(elsewhere, (change == 2 && with_store).then_some(100));
        assert_eq!(cache.stats().overtaken, 1);
    }
}

#[tokio::test]
async fn a_refresh_that_had_no_turn_yet_does_not_load_after_a_deletion() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    let source = Source::default();
    cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap();
    bench.clock.advance(MINUTE);
    cache.try_get_or_load_with("k", windows(), source.load()).await.unwrap();
    // On this runtime the task has not been polled yet.
    cache.delete("k").await.unwrap();
    until(|| cache.near.background.running() == 0).await;
    assert_eq!(source.calls(), 1);
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn too_many_refreshes_are_refused_and_their_values_served_all_the_same() {
    let bench = Bench::new();
    let cache = exact(&bench).max_refreshes(2).build().unwrap();
    for key in 0..4 {
        cache.set_with(format!("{key}"), &key, windows().set).await.unwrap();
    }
    bench.clock.advance(MINUTE);
    for key in 0..4_u32 {
        let hang = std::future::pending::<u32>;
        assert_eq!(*cache.get_or_load_with(format!("{key}"), windows(), hang).await.unwrap(), key);
    }
    let stats = cache.stats();
    assert_eq!((stats.refreshes, stats.refreshes_refused, stats.stale_served), (2, 2, 4));
}

#[tokio::test]
async fn closing_and_the_end_of_the_last_handle_drop_refreshes() {
    struct Gone(Arc<AtomicUsize>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    for close in [true, false] {
        let bench = Bench::new();
        let cache = exact(&bench).build().unwrap();
        cache.set_with("k", &1_u32, windows().set).await.unwrap();
        bench.clock.advance(MINUTE);
        let (gone, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (held, says) = (Gone(Arc::clone(&gone)), Arc::clone(&begun));
        let hang = move || async move {
            let _held = held;
            says.notify_one();
            std::future::pending::<u32>().await
        };
        cache.get_or_load_with("k", windows(), hang).await.unwrap();
        begun.notified().await;
        if close {
            cache.close().await.unwrap();
        } else {
            drop(cache);
        }
        until(|| gone.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn a_get_that_finds_little_life_left_renews_it_and_one_that_finds_much_does_not() {
    for with_store in [true, false] {
        let bench = Bench::new();
        let cache = if with_store { exact(&bench) } else { alone(&bench) };
        let cache = cache.extend_on_get(0.5).l1_ttl_cap(MINUTE).build().unwrap();
        cache.set_with("k", &1_u32, SetOptions::default().with_ttl(MINUTE)).await.unwrap();
        bench.clock.advance(Duration::from_secs(29));
        cache.get::<u32>("k").await.unwrap().unwrap();
        tokio::task::yield_now().await;
        assert_eq!(cache.ttl("k").await.unwrap(), Ttl::from_ms(31_000));
        bench.clock.advance(Duration::from_secs(2));
        cache.get::<u32>("k").await.unwrap().unwrap();
        until(|| cache.near.background.running() == 0).await;
        assert_eq!(cache.ttl("k").await.unwrap(), Ttl::from_ms(60_000));
        assert_eq!(cache.stats().lives_extended, 1);
        bench.clock.advance(Duration::from_secs(59));
        assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1);
    }
}

#[tokio::test]
async fn a_life_is_not_extended_over_a_deletion() {
    let bench = Bench::new();
    let cache = exact(&bench).extend_on_get(0.9).build().unwrap();
    cache.set_with("k", &1_u32, SetOptions::default().with_ttl(Duration::from_secs(10))).await.unwrap();
    bench.clock.advance(Duration::from_secs(5));
    cache.get::<u32>("k").await.unwrap().unwrap();
    cache.delete("k").await.unwrap();
    until(|| cache.near.background.running() == 0).await;
    assert_eq!((cache.get::<u32>("k").await.unwrap(), cache.stats().lives_extended), (None, 0));
}

#[tokio::test]
async fn clocks_that_jump_lose_values_and_invent_none() {
    let bench = Bench::new();
    let cache = exact(&bench).build().unwrap();
    let source = Source::default();
    let get = || cache.try_get_or_load_with("k", windows(), source.load());
    get().await.unwrap();
    // An hour back by the wall: what is near is taken by the other clock, which does not jump.
    let now_ms = crate::clock::Clock::unix_ms(&*bench.clock);
    bench.clock.set_unix_ms(now_ms - 3_600_000);
    assert_eq!(*get().await.unwrap(), 1);
    bench.clock.advance(MINUTE);
    // Past the life by the true clock, and made in the future by the wall: it is loaded.
    assert_eq!(*get().await.unwrap(), 2);
    // A century ahead: over, and loaded.
    bench.clock.set_unix_ms(now_ms + 100 * 365 * 86_400_000);
    bench.clock.advance(MINUTE);
    assert_eq!(*get().await.unwrap(), 3);
    bench.clock.set_unix_ms(0);
    bench.clock.advance(MINUTE);
    assert_eq!(*get().await.unwrap(), 4);
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_before_anything_runs() {
    let cache = Bench::new().cache();
    for options in [
        LoadOptions::default().with_early_refresh(f64::NAN),
        LoadOptions::default().with_early_refresh(-1.0),
        LoadOptions::default().with_soft_timeout(Duration::ZERO),
        LoadOptions::default().with_hard_timeout(Duration::ZERO),
        LoadOptions::default().with_negative_ttl(Duration::ZERO),
    ] {
        let refused = cache.get_or_load_with("k", options, || async { 1_u32 }).await;
        assert!(matches!(refused, Err(Error::Freshness { .. })));
    }
    assert_eq!(cache.stats().loads, 0);
    let windows =
        SetOptions::default().with_ttl(Duration::MAX).with_stale(Duration::MAX).with_stale_if_error(Duration::MAX);
    cache.set_with("k", &1_u32, windows).await.unwrap();
    assert_eq!(*cache.get::<u32>("k").await.unwrap().unwrap(), 1);
}

#[test]
fn without_a_runtime_refreshes_run_on_the_engines_own_thread() {
    let bench = Bench::new();
    let cache = alone(&bench).build().unwrap().blocking();
    cache.get_or_load_with("k", windows(), || 1_u32).unwrap();
    bench.clock.advance(MINUTE);
    let (told, hears) = std::sync::mpsc::channel();
    let load = move || {
        told.send(std::thread::current().id()).unwrap();
        2_u32
    };
    assert_eq!(*cache.get_or_load_with("k", windows(), load).unwrap(), 1);
    assert_ne!(hears.recv().unwrap(), std::thread::current().id());
    while cache.get::<u32>("k").unwrap().as_deref() != Some(&2) {
        std::thread::yield_now();
    }
    assert_eq!(*cache.refresh("k", || 3_u32).unwrap(), 3);
    let nothing = || None::<u32>;
    assert_eq!(cache.get_or_load_option("other", LoadOptions::default(), nothing).unwrap(), None);
}
