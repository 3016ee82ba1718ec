//! Tags and namespaces by epoch: what is invalidated stays a miss, whoever is under way.

mod model;
mod races;

use super::*;
use crate::builder::NamespaceEpochs;
use crate::cache::{MAX_TAG_BYTES, MAX_TAGS, TagError};
use crate::codec::{Codec, Meta, NewEntry, Tag, Times};

const CAP: Duration = Duration::from_secs(31);

fn tagged(tag: &str) -> SetOptions {
    SetOptions::default().with_tag(tag)
}

async fn read(cache: &Cache, key: &str) -> Option<u32> {
    cache.get::<u32>(key).await.unwrap().map(|value| *value)
}

#[tokio::test]
async fn what_carries_an_invalidated_tag_is_a_miss_in_both_tiers_and_nothing_else_is() {
    let bench = Bench::new();
    let (cache, elsewhere) = (bench.cache(), bench.cache());
    cache.set_with("one", &1, tagged("a").with_tag("b")).await.unwrap();
    cache.set_with("two", &2, tagged("b")).await.unwrap();
    cache.set("plain", &3).await.unwrap();
    cache.namespace("other").unwrap().set_with("one", &4, tagged("a")).await.unwrap();
    assert_eq!(read(&cache, "one").await, Some(1));

    cache.invalidate_tag("a").await.unwrap();
    for process in [&cache, &elsewhere] {
        assert_eq!(read(process, "one").await, None);
        assert!(!process.exists("one").await.unwrap());
        assert_eq!(process.ttl("one").await.unwrap(), None);
        assert!(process.entry("one").await.unwrap().is_none());
        assert!(!process.touch("one", SetOptions::default()).await.unwrap());
        assert_eq!(read(process, "two").await, Some(2));
        assert_eq!(read(process, "plain").await, Some(3));
        assert_eq!(read(&process.namespace("other").unwrap(), "one").await, Some(4));
    }
    cache.set_with("one", &5, tagged("a")).await.unwrap();
    assert_eq!((read(&cache, "one").await, read(&elsewhere, "one").await), (Some(5), Some(5)));
    cache.invalidate_tags(&["a", "b", "nobody has this"]).await.unwrap();
    assert_eq!((read(&cache, "one").await, read(&cache, "two").await), (None, None));
    assert_eq!(cache.stats().tags_invalidated, 4);
    assert!(cache.stats().invalidated > 0);
}

#[tokio::test]
async fn another_process_follows_within_the_cap() {
    let bench = Bench::new();
    let (writer, reader) = (bench.cache(), bench.cache());
    writer.set_with("k", &1, tagged("t")).await.unwrap();
    assert_eq!(read(&reader, "k").await, Some(1));
    bench.clock.advance(Duration::from_secs(20));
    writer.invalidate_tag("t").await.unwrap();
    bench.clock.advance(Duration::from_secs(11));
    assert_eq!(read(&reader, "k").await, None);
}

#[tokio::test]
async fn what_others_wrote_after_an_invalidation_is_not_taken_for_older_than_it() {
    let bench = Bench::new();
    let (writer, reader) = (bench.cache(), bench.cache());
    writer.set_with("known", &1, tagged("t")).await.unwrap();
    assert_eq!(read(&reader, "known").await, Some(1), "so the reader knows the epoch");
    writer.invalidate_tag("t").await.unwrap();
    writer.set_with("new", &2, tagged("t")).await.unwrap();
    assert_eq!(read(&reader, "new").await, Some(2));
    assert_eq!(read(&reader, "known").await, None, "and now it knows the newer one");
}

#[tokio::test]
async fn an_epoch_that_the_store_lost_makes_misses_and_never_brings_anything_back() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set_with("k", &1, tagged("t")).await.unwrap();
    let wire = cache.epoch_at(Some(b"t")).wire;
    let cx = Cx::new(cachekit_plugin::Deadline::NEVER);
    assert!(bench.store.delete(Key::from_wire(wire.as_bytes()), &cx).await.unwrap());
    let elsewhere = bench.cache();
    assert_eq!(read(&elsewhere, "k").await, None);
    elsewhere.set_with("new", &2, tagged("t")).await.unwrap();
    assert_eq!((read(&elsewhere, "k").await, read(&elsewhere, "new").await), (None, Some(2)));
    bench.clock.advance(CAP);
    assert_eq!((read(&cache, "k").await, read(&cache, "new").await), (None, Some(2)));
}

#[tokio::test]
async fn the_store_keeps_an_epoch_for_its_own_life() {
    let bench = Bench::new();
    let builder = bench.builder(Arc::new(bench.store.clone()));
    let cache = builder.epoch_ttl(Duration::from_secs(60)).build().unwrap();
    cache.set_with("k", &1, tagged("t")).await.unwrap();
    let wire = cache.epoch_at(Some(b"t")).wire;
    let cx = Cx::new(cachekit_plugin::Deadline::NEVER);
    let left = bench.store.ttl().unwrap().ttl(Key::from_wire(wire.as_bytes()), &cx).await.unwrap();
    assert!(left.and_then(Ttl::as_ms).is_some_and(|ms| ms <= 60_000), "{left:?}");
}

#[tokio::test]
async fn without_a_second_tier_tags_are_kept_in_the_process() {
    let cache = Cache::builder().build().unwrap();
    cache.set_with("k", &1, tagged("t")).await.unwrap();
    cache.set_with("other", &2, tagged("u")).await.unwrap();
    assert_eq!(read(&cache, "k").await, Some(1));
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!((read(&cache, "k").await, read(&cache, "other").await), (None, Some(2)));
    cache.clear().await.unwrap();
    assert_eq!(read(&cache, "other").await, None);
}

#[tokio::test]
async fn a_flood_of_tags_stays_within_the_bound_of_l1() {
    let config = L1Config::with_max_bytes(256 << 10);
    let cache = Cache::builder().l1(config).build().unwrap();
    for n in 0..5_000_u32 {
        cache.set_with("k", &n, tagged(&format!("tag {n}"))).await.unwrap();
        cache.invalidate_tag(format!("tag {}", n / 2)).await.unwrap();
    }
    let l1 = cache.stats().l1.unwrap();
    assert!(l1.bytes <= config.max_bytes && l1.evictions > 0, "{l1:?}");
}

#[tokio::test]
async fn without_l1_an_invalidation_by_another_process_is_seen_at_once() {
    let bench = Bench::new();
    let writer = bench.cache();
    for epochs in [NamespaceEpochs::Off, NamespaceEpochs::On] {
        let build = || bench.builder(Arc::new(bench.store.clone())).namespace_epochs(epochs);
        let (writer_too, reader) = (build().build().unwrap(), build().without_l1().build().unwrap());
        writer_too.set_with("k", &1, tagged("t")).await.unwrap();
        assert_eq!(read(&reader, "k").await, Some(1));
        writer.invalidate_tag("t").await.unwrap();
        assert_eq!(read(&reader, "k").await, None);
        reader.set_with("k", &2, tagged("t")).await.unwrap();
        assert_eq!(read(&reader, "k").await, Some(2));
        writer_too.clear().await.unwrap();
        assert_eq!(read(&reader, "k").await, None, "{epochs:?}");
    }
}

#[tokio::test]
async fn entries_without_tags_ask_for_no_epoch() {
    let bench = Bench::new();
    let (cache, elsewhere) = (bench.cache(), bench.cache());
    cache.set("k", &1).await.unwrap();
    cache.set_many(&[("a", 1), ("b", 2)], SetOptions::default()).await.unwrap();
    assert_eq!(read(&elsewhere, "k").await, Some(1));
    elsewhere.get_many::<u32, _>(&["a", "b"]).await.unwrap();
    assert_eq!((cache.stats().epoch_reads, elsewhere.stats().epoch_reads), (0, 0));
    assert_eq!(cache.keys(None).await.unwrap().keys.len(), 3, "and none was made");
}

#[tokio::test]
async fn a_batch_asks_once_for_all_its_epochs() {
    let bench = Bench::new();
    let (cache, elsewhere) = (bench.cache(), bench.cache());
    let items: Vec<(String, u32)> = (0..50).map(|n| (format!("k{n}"), n)).collect();
    cache.set_many(&items[..25], tagged("t").with_tag("u")).await.unwrap();
    cache.set_many(&items[25..], tagged("u")).await.unwrap();
    let keys: Vec<&str> = items.iter().map(|(key, _)| &**key).collect();
    let found = |values: Vec<Option<Arc<u32>>>| values.iter().flatten().count();
    assert_eq!(found(elsewhere.get_many(&keys).await.unwrap()), 50);
    assert_eq!(elsewhere.stats().epoch_reads, 1);
    assert_eq!(found(elsewhere.get_many(&keys).await.unwrap()), 50, "from L1");
    assert_eq!(elsewhere.stats().epoch_reads, 1);
    elsewhere.invalidate_tag("t").await.unwrap();
    assert_eq!(found(elsewhere.get_many(&keys).await.unwrap()), 25);
    assert_eq!(found(bench.cache().get_many(&keys).await.unwrap()), 25);
}

#[tokio::test]
async fn what_l1_has_is_served_once_the_store_has_said_its_epochs() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set_with("k", &1, tagged("t").with_tag("u")).await.unwrap();
    let at = cache.epoch_at(Some(b"t"));
    let forget_epoch = || assert!(cache.near.l1.remove(at.hash, at.wire.as_bytes()));
    // The store no longer has the value, so it is L1 that serves it.
    let cx = Cx::new(cachekit_plugin::Deadline::NEVER);
    assert!(bench.store.delete(Key::from_wire(b"ck:default:k"), &cx).await.unwrap());
    forget_epoch();
    let asked = cache.stats().epoch_reads;
    assert_eq!((read(&cache, "k").await, cache.stats().epoch_reads), (Some(1), asked + 1));
    assert_eq!((read(&cache, "k").await, cache.stats().epoch_reads), (Some(1), asked + 1), "now it is known");
    forget_epoch();
    bench.cache().invalidate_tag("t").await.unwrap();
    assert_eq!(read(&cache, "k").await, None);
}

#[tokio::test]
async fn epochs_are_not_listed_among_the_keys() {
    let cache = Bench::new().cache();
    cache.set_with("k", &1, tagged("t")).await.unwrap();
    let page = cache.keys(None).await.unwrap();
    assert_eq!((page.keys, page.foreign), (vec![b"k".to_vec()], 0));
}

#[tokio::test]
async fn a_touch_keeps_the_tags() {
    let bench = Bench::new();
    let cache = bench.cache();
    let local = Cache::builder().clock(bench.clock.clone()).build().unwrap();
    for cache in [&cache, &local] {
        cache.set_with("k", &1, tagged("t")).await.unwrap();
        assert!(cache.touch("k", SetOptions::default().with_ttl(Duration::from_secs(600))).await.unwrap());
        assert_eq!(read(cache, "k").await, Some(1));
        cache.invalidate_tag("t").await.unwrap();
        assert_eq!(read(cache, "k").await, None);
    }
    assert!(matches!(cache.touch("k", tagged("u")).await, Err(Error::Tag(TagError::Touch))));
}

#[tokio::test]
async fn tags_that_cannot_be_used_are_refused_before_anything_is_written() {
    let bench = Bench::new();
    let cache = bench.cache();
    let long = "x".repeat(MAX_TAG_BYTES + 1);
    let many = SetOptions::default().with_tags((0..=MAX_TAGS).map(|n| n.to_string()));
    for options in [tagged(""), tagged(&long), many] {
        assert!(matches!(cache.set_with("k", &1, options.clone()).await, Err(Error::Tag(_))));
        assert!(matches!(cache.set_many(&[("k", 1)], options).await, Err(Error::Tag(_))));
    }
    assert!(matches!(cache.invalidate_tag("").await, Err(Error::Tag(TagError::Empty))));
    assert!(matches!(cache.invalidate_tag(&long).await, Err(Error::Tag(TagError::TooLong { .. }))));
    assert_eq!(read(&cache, "k").await, None);
    let most = SetOptions::default().with_tags((0..MAX_TAGS).map(|n| n.to_string()));
    cache.set_with("k", &1, most).await.unwrap();
    assert_eq!((read(&cache, "k").await, read(&bench.cache(), "k").await), (Some(1), Some(1)));
}

#[tokio::test]
async fn an_entry_with_more_tags_than_anybody_writes_is_not_asked_for() {
    let bench = Bench::new();
    let cache = bench.cache();
    let names: Vec<String> = (0..60_000).map(|n| n.to_string()).collect();
    let tags: Vec<Tag<'_>> = names.iter().map(|name| Tag { name: name.as_bytes(), epoch: 1 }).collect();
    let wire = b"ck:default:k";
    let meta = Meta { times: Times { created_ms: 1, ..Times::default() }, ..Meta::default() };
    let stored = Codec::default().encode(&NewEntry { wire_key: wire, meta, tags: &tags }, &1).unwrap();
    let cx = Cx::new(cachekit_plugin::Deadline::NEVER);
    bench.store.set(Key::from_wire(wire), stored, Ttl::Never, &cx).await.unwrap();
    assert_eq!(read(&cache, "k").await, None);
    assert_eq!((cache.stats().epoch_reads, cache.stats().refused["too_large"]), (0, 1));
    assert!(cache.entry("k").await.unwrap().is_none());
}

#[tokio::test]
async fn a_value_in_the_place_of_an_epoch_is_refused() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set_with("k", &1, tagged("t")).await.unwrap();
    let wire = cache.epoch_at(Some(b"t")).wire;
    let cx = Cx::new(cachekit_plugin::Deadline::NEVER);
    for planted in [&b""[..], b"12345678", &[0xC1; 200]] {
        bench.store.set(Key::from_wire(wire.as_bytes()), planted.to_vec().into(), Ttl::Never, &cx).await.unwrap();
        let elsewhere = bench.cache();
        assert_eq!(read(&elsewhere, "k").await, None);
        assert_eq!(elsewhere.stats().refused.values().sum::<u64>(), 1);
        let strict = bench.strict();
        assert!(matches!(strict.get::<u32>("k").await, Err(Error::Refused(_))));
    }
    bench.cache().invalidate_tag("t").await.unwrap();
    let elsewhere = bench.cache();
    elsewhere.set_with("k", &2, tagged("t")).await.unwrap();
    assert_eq!(read(&bench.cache(), "k").await, Some(2), "an invalidation mends it");
}

#[tokio::test]
async fn in_an_outage_tagged_values_live_in_the_process_and_invalidations_are_errors() {
    let bench = Bench::new();
    let build = || bench.builder(Arc::new(bench.store.clone())).without_breaker();
    let cache = build().build().unwrap();
    cache.set_with("before", &1, tagged("t")).await.unwrap();
    bench.store.set_outage(true);
    cache.set_with("k", &2, tagged("new")).await.unwrap();
    assert_eq!((read(&cache, "k").await, read(&cache, "before").await), (Some(2), Some(1)));
    assert!(matches!(cache.invalidate_tag("t").await, Err(Error::Backend(_))));
    assert_eq!(read(&cache, "before").await, None, "L1 is not surer than the store");
    let strict = build().strict(true).build().unwrap();
    assert!(matches!(strict.set_with("k", &3, tagged("new")).await, Err(Error::Backend(_))));

    bench.store.set_outage(false);
    assert_eq!(read(&cache, "before").await, Some(1), "the invalidation did not happen, and was an error");
    bench.clock.advance(CAP);
    assert_eq!(read(&cache, "k").await, None, "the store never had it");
    cache.set_with("k", &4, tagged("new")).await.unwrap();
    assert_eq!(read(&bench.cache(), "k").await, Some(4));
}

#[tokio::test]
async fn a_namespace_of_a_store_that_cannot_list_is_cleared_by_its_epoch() {
    let bench = Bench::new();
    let process = || bench.over(Arc::new(Opaque(bench.store.clone())));
    let (cache, elsewhere) = (process(), process());
    let other = cache.namespace("other").unwrap();
    cache.set("k", &1).await.unwrap();
    other.set("k", &2).await.unwrap();
    assert_eq!((read(&elsewhere, "k").await, read(&process(), "k").await), (Some(1), Some(1)));
    assert_eq!(cache.clear().await.unwrap(), 0);
    assert_eq!((read(&cache, "k").await, read(&other, "k").await), (None, Some(2)));
    assert_eq!(read(&process(), "k").await, None, "in the second tier as well");
    bench.clock.advance(CAP);
    assert_eq!(read(&elsewhere, "k").await, None, "and after the cap in every process");
    cache.set("k", &3).await.unwrap();
    assert_eq!(
        (read(&cache, "k").await, read(&elsewhere, "k").await, read(&process(), "k").await),
        (Some(3), Some(3), Some(3))
    );

    let wire = cache.epoch_at(None).wire;
    let cx = Cx::new(cachekit_plugin::Deadline::NEVER);
    assert!(bench.store.delete(Key::from_wire(wire.as_bytes()), &cx).await.unwrap());
    assert_eq!(read(&process(), "k").await, None, "a lost epoch is a new one");
    let off = bench.builder(Arc::new(Opaque(bench.store.clone()))).namespace_epochs(NamespaceEpochs::Off);
    assert!(matches!(off.build().unwrap().clear().await, Err(Error::Unsupported { .. })));
}

#[tokio::test]
async fn the_epoch_of_a_namespace_comes_with_the_first_value_and_costs_nothing_afterwards() {
    let bench = Bench::new();
    let process = || bench.over(Arc::new(Opaque(bench.store.clone())));
    process().set_many(&[("a", 1), ("b", 2), ("c", 3)], SetOptions::default()).await.unwrap();
    let cache = process();
    for key in ["a", "b", "c"] {
        assert!(read(&cache, key).await.is_some());
    }
    assert_eq!(cache.stats().epoch_reads, 0);
    assert_eq!(process().get_many::<u32, _>(&["a", "b", "x"]).await.unwrap().iter().flatten().count(), 2);
}

#[tokio::test]
async fn an_entry_without_an_epoch_is_in_force_on_a_store_with_epochs_once_it_is_adopted() {
    let (from, to) = (Bench::new(), Bench::new());
    from.cache().set("k", &1_u32).await.unwrap();
    let wire = b"ck:default:k";
    let tier = |cache: &Cache| cache.tier().unwrap().backend().clone();
    let stored = raw(&*tier(&from.cache()), wire).await;
    let target = to.builder(Arc::new(to.store.clone())).namespace_epochs(NamespaceEpochs::On).build().unwrap();
    put(&*tier(&target), wire, stored.clone()).await;
    assert_eq!(target.get::<u32>("k").await.unwrap(), None, "as it is nobody takes it");
    let adopted = target.adopted(wire, &stored).await.unwrap();
    put(&*tier(&target), wire, adopted.clone()).await;
    assert_eq!(target.get::<u32>("k").await.unwrap().as_deref(), Some(&1));
    target.clear().await.unwrap();
    // What was over stays over.
    assert_eq!(target.adopted(wire, &adopted).await.unwrap(), adopted);
    put(&*tier(&target), wire, adopted).await;
    assert_eq!(target.get::<u32>("k").await.unwrap(), None);
    assert!(matches!(target.adopted(b"ck:default:other", &stored).await, Err(Error::Refused(_))));
}

async fn raw(store: &dyn Backend, key: &[u8]) -> Bytes {
    store.get(Key::from_wire(key), &Cx::new(cachekit_plugin::Deadline::NEVER)).await.unwrap().unwrap()
}

async fn put(store: &dyn Backend, key: &[u8], value: Bytes) {
    store.set(Key::from_wire(key), value, Ttl::Never, &Cx::new(cachekit_plugin::Deadline::NEVER)).await.unwrap();
}
