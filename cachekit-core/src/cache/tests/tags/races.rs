//! Invalidations that meet reads, loads and writes on their way, in a known order.

use super::super::coherence::{Telling, coherent};
use super::*;
use cachekit_plugin::Event;

/// Does `work` on a store in which the next operation is held up behind `gate`, invalidates meanwhile, and lets it go on.
async fn held_up<T: Send + 'static>(cache: &Cache, gate: &Gate, work: impl Future<Output = T> + Send + 'static) -> T {
    gate.close();
    let work = tokio::spawn(work);
    gate.arrived.notified().await;
    cache.invalidate_tag("t").await.unwrap();
    gate.open.notify_one();
    work.await.unwrap()
}

#[tokio::test]
async fn a_slow_read_does_not_bring_back_what_was_invalidated() {
    let bench = Bench::new();
    bench.cache().set_with("k", &1, tagged("t")).await.unwrap();
    let (cache, get, _) = gated(&bench);
    let reading = cache.clone();
    held_up(&cache, &get, async move { read(&reading, "k").await }).await;
    assert_eq!(read(&cache, "k").await, None);
}

#[tokio::test]
async fn a_slow_read_of_an_epoch_does_not_undo_a_newer_one() {
    let bench = Bench::new();
    bench.cache().set_with("k", &1, tagged("t")).await.unwrap();
    let (cache, get, _) = gated(&bench);
    // The epoch alone is asked for, and seen before it is renewed.
    let reading = cache.clone();
    let seen =
        held_up(&cache, &get, async move { reading.stamp(&tagged("t").tags).await.unwrap().tags[0].epoch }).await;
    let now = cache.stamp(&tagged("t").tags).await.unwrap().tags[0].epoch;
    assert_ne!(seen, now);
    assert_eq!(read(&cache, "k").await, None);
}

#[tokio::test]
async fn a_slow_write_carries_the_epoch_it_began_with() {
    let bench = Bench::new();
    let (cache, _, set) = gated(&bench);
    cache.set_with("first", &1, tagged("t")).await.unwrap();
    let writing = cache.clone();
    held_up(&cache, &set, async move { writing.set_with("k", &1, tagged("t")).await.unwrap() }).await;
    assert_eq!(read(&cache, "k").await, None);
    assert_eq!(read(&bench.cache(), "k").await, None);
    cache.set_with("k", &2, tagged("t")).await.unwrap();
    assert_eq!((read(&cache, "k").await, read(&bench.cache(), "k").await), (Some(2), Some(2)));
}

#[tokio::test]
async fn a_slow_loader_does_not_undo_an_invalidation_and_nobody_joins_it_afterwards() {
    let bench = Bench::new();
    let cache = bench.cache();
    let gate = Arc::new(Gate::default());
    gate.close();
    let options = || crate::cache::LoadOptions::default().with_set(tagged("t"));
    let loading = tokio::spawn({
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        async move {
            let load = move || async move {
                gate.pass().await;
                1_u32
            };
            *cache.get_or_load_with("k", options(), load).await.unwrap()
        }
    });
    gate.arrived.notified().await;
    cache.invalidate_tag("t").await.unwrap();
    let later = cache.get_or_load_with("k", options(), || async { 2_u32 }).await.unwrap();
    assert_eq!(*later, 2, "the load that began before is not joined");
    gate.open.notify_one();
    assert_eq!(loading.await.unwrap(), 1, "its caller gets what he asked for");
    assert_ne!(read(&cache, "k").await, Some(1));
    assert_ne!(read(&bench.cache(), "k").await, Some(1));
}

#[tokio::test]
async fn of_many_who_give_a_tag_its_first_epoch_one_does() {
    let bench = Bench::new();
    let (cache, elsewhere) = (bench.cache(), bench.cache());
    let mut tasks = Vec::new();
    for n in 0..50_u32 {
        let cache = if n % 2 == 0 { cache.clone() } else { elsewhere.clone() };
        tasks.push(tokio::spawn(async move { cache.set_with(format!("k{n}"), &n, tagged("t")).await.unwrap() }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let judge = bench.cache();
    for n in 0..50 {
        assert_eq!(read(&judge, &format!("k{n}")).await, Some(n));
    }
}

/// Tells a listening cache of a change of the epoch of a tag.
fn told(store: &Telling, cache: &Cache, tag: Option<&[u8]>) {
    store.tell(Event::Changed(Key::from_wire(cache.epoch_at(tag).wire.as_bytes())));
}

#[tokio::test]
async fn an_invalidation_by_another_process_is_seen_as_soon_as_it_is_told() {
    let bench = Bench::new();
    let (cache, store) = bench.telling().await;
    coherent(&cache).await;
    cache.set_with("k", &1, tagged("t")).await.unwrap();
    cache.set_with("u", &2, tagged("u")).await.unwrap();
    let other = bench.cache();
    other.invalidate_tag("t").await.unwrap();
    assert_eq!(read(&cache, "k").await, Some(1), "the control: nobody told");
    told(&store, &cache, Some(b"t"));
    assert_eq!((read(&cache, "k").await, read(&cache, "u").await), (None, Some(2)));
    bench.listen_for(&cache, 40);
    assert_eq!((read(&cache, "k").await, read(&cache, "u").await), (None, Some(2)));
}

#[tokio::test]
async fn a_clear_by_epoch_of_another_process_is_seen_as_soon_as_it_is_told() {
    let bench = Bench::new();
    let store = Telling::over(bench.store.clone());
    let on = |store: Arc<dyn Backend>| {
        let builder = Cache::builder().backend(store).clock(bench.clock.clone());
        builder.namespace_epochs(NamespaceEpochs::On)
    };
    let cache = on(store.clone()).build().unwrap();
    super::super::coherence::begun(&cache).await;
    let elsewhere = cache.namespace("other").unwrap();
    cache.set("k", &1).await.unwrap();
    elsewhere.set("k", &2).await.unwrap();
    let other = on(Arc::new(bench.store.clone())).coherence(false).build().unwrap();
    assert_eq!(read(&other, "k").await, Some(1));
    other.clear().await.unwrap();
    told(&store, &cache, None);
    assert_eq!((read(&cache, "k").await, read(&elsewhere, "k").await), (None, Some(2)));
}

#[tokio::test]
async fn an_invalidation_that_its_caller_gave_up_leaves_l1_no_surer_than_the_store() {
    let bench = Bench::new();
    let (cache, _, set) = gated(&bench);
    cache.set_with("k", &1, tagged("t")).await.unwrap();
    set.close();
    let giving_up = tokio::spawn({
        let cache = cache.clone();
        async move { cache.invalidate_tag("t").await }
    });
    set.arrived.notified().await;
    giving_up.abort();
    assert!(giving_up.await.unwrap_err().is_cancelled());
    assert_eq!(read(&cache, "k").await, Some(1), "it did not happen, and the store was asked");
    bench.cache().invalidate_tag("t").await.unwrap();
    bench.clock.advance(CAP);
    assert_eq!(read(&cache, "k").await, None);
}

#[tokio::test]
async fn what_is_stale_is_not_served_once_its_tag_is_invalidated() {
    let bench = Bench::new();
    let cache = bench.cache();
    let options = || {
        let set = tagged("t").with_ttl(Duration::from_secs(10)).with_stale(Duration::from_secs(3600));
        crate::cache::LoadOptions::default().with_set(set)
    };
    for invalidated in [false, true] {
        cache.set_with("k", &1, options().set).await.unwrap();
        bench.clock.advance(Duration::from_secs(11));
        if invalidated {
            cache.invalidate_tag("t").await.unwrap();
        }
        let found = *cache.get_or_load_with("k", options(), || async { 2_u32 }).await.unwrap();
        assert_eq!(found, if invalidated { 2 } else { 1 });
        cache.delete("k").await.unwrap();
    }
}
