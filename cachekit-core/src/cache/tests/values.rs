//! Values, lives, batches and listings, with nobody in the way.

use super::*;

#[tokio::test]
async fn what_is_set_is_found_in_both_tiers() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set("ada", &ada()).await.unwrap();
    assert_eq!(*cache.get::<User>("ada").await.unwrap().unwrap(), ada());
    let stats = cache.stats();
    assert_eq!((stats.sets, stats.l2_hits, stats.l1.unwrap().hits), (1, 0, 1));

    let elsewhere = bench.cache();
    assert_eq!(*elsewhere.get::<User>("ada").await.unwrap().unwrap(), ada());
    assert_eq!(elsewhere.stats().l2_hits, 1);
    assert_eq!(elsewhere.get::<User>("bob").await.unwrap(), None);
}

#[tokio::test]
async fn a_typed_hit_decodes_nothing() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set("ada", &ada()).await.unwrap();
    let first = cache.get::<User>("ada").await.unwrap().unwrap();
    let second = cache.get::<User>("ada").await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}

#[tokio::test]
async fn a_value_of_another_type_is_a_counted_miss_and_an_error_if_strict() {
    let bench = Bench::new();
    bench.cache().set("ada", &ada()).await.unwrap();
    let cache = bench.cache();
    assert_eq!(cache.get::<Vec<u64>>("ada").await.unwrap(), None);
    assert_eq!(cache.stats().refused.get("decode"), Some(&1));
    assert!(matches!(bench.strict().get::<Vec<u64>>("ada").await, Err(Error::Refused(_))));
}

#[tokio::test]
async fn bytes_come_back_as_they_were() {
    let bench = Bench::new();
    let cache = bench.cache();
    for bytes in [&b""[..], b"\0\xff", &[7; 100_000]] {
        cache.set_bytes("raw", bytes, SetOptions::default()).await.unwrap();
        assert_eq!(cache.get_bytes("raw").await.unwrap().unwrap(), bytes);
        assert_eq!(bench.cache().get_bytes("raw").await.unwrap().unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_life_ends_to_the_millisecond_in_both_tiers() {
    let bench = Bench::new();
    let cache = bench.cache();
    let options = SetOptions::default().with_ttl(Duration::from_millis(1500));
    cache.set_with("k", &1_u32, options).await.unwrap();
    bench.clock.advance(Duration::from_millis(1499));
    assert_eq!(cache.ttl("k").await.unwrap(), Ttl::from_ms(1));
    assert!(cache.get::<u32>("k").await.unwrap().is_some());
    assert!(bench.cache().get::<u32>("k").await.unwrap().is_some());
    bench.clock.advance(Duration::from_millis(1));
    assert!(cache.get::<u32>("k").await.unwrap().is_none());
    assert!(bench.cache().get::<u32>("k").await.unwrap().is_none());
}

#[tokio::test]
async fn a_life_of_zero_is_refused() {
    let cache = Bench::new().cache();
    let zero = SetOptions::default().with_ttl(Duration::ZERO);
    assert!(matches!(cache.set_with("k", &1, zero).await, Err(Error::ZeroTtl)));
    assert!(matches!(Cache::builder().default_ttl(Duration::ZERO).build(), Err(Error::ZeroTtl)));
}

#[tokio::test]
async fn the_longest_life_does_not_overflow() {
    let cache = Bench::new().cache();
    cache.set_with("k", &1_u32, SetOptions::default().with_ttl(Duration::MAX)).await.unwrap();
    assert!(cache.get::<u32>("k").await.unwrap().is_some());
}

#[tokio::test]
async fn another_process_sees_a_write_after_the_l1_cap() {
    let bench = Bench::new();
    let (here, there) = (bench.cache(), bench.cache());
    here.set("k", &1_u32).await.unwrap();
    assert_eq!(*there.get::<u32>("k").await.unwrap().unwrap(), 1);
    here.set("k", &2_u32).await.unwrap();
    bench.clock.advance(crate::builder::DEFAULT_L1_TTL_CAP);
    assert_eq!(*there.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn delete_tells_the_truth_and_reaches_both_tiers() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set("k", &1_u32).await.unwrap();
    assert!(cache.delete("k").await.unwrap());
    assert!(!cache.delete("k").await.unwrap());
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    assert!(!cache.exists("k").await.unwrap());
}

#[tokio::test]
async fn touch_lengthens_shortens_and_removes_a_life() {
    let bench = Bench::new();
    let cache = bench.cache();
    let life = |ms| SetOptions::default().with_ttl(Duration::from_millis(ms));
    cache.set_with("k", &ada(), life(1000)).await.unwrap();
    assert!(cache.touch("k", life(5000)).await.unwrap());
    bench.clock.advance(Duration::from_millis(4999));
    assert_eq!(*cache.get::<User>("k").await.unwrap().unwrap(), ada());
    assert!(cache.touch("k", SetOptions::default().without_expiry()).await.unwrap());
    assert_eq!(cache.ttl("k").await.unwrap(), Some(Ttl::Never));
    assert!(cache.touch("k", life(10)).await.unwrap());
    bench.clock.advance(Duration::from_millis(10));
    assert_eq!(cache.get::<User>("k").await.unwrap(), None);
    assert!(!cache.touch("k", life(10)).await.unwrap());
}

#[tokio::test]
async fn touch_without_a_second_tier_works_on_l1() {
    let clock = Arc::new(ManualClock::new());
    let cache = Cache::builder().clock(clock.clone()).build().unwrap();
    let life = |ms| SetOptions::default().with_ttl(Duration::from_millis(ms));
    cache.set_with("k", &1_u32, life(10)).await.unwrap();
    assert!(cache.touch("k", life(100)).await.unwrap());
    clock.advance(Duration::from_millis(99));
    assert!(cache.get::<u32>("k").await.unwrap().is_some());
    clock.advance(Duration::from_millis(1));
    assert!(!cache.touch("k", life(100)).await.unwrap());
}

#[tokio::test]
async fn many_keys_go_in_one_exchange_and_keep_their_order() {
    let bench = Bench::new();
    let items: Vec<(String, u32)> = (0..100).map(|i| (format!("k{i}"), i)).collect();
    bench.cache().set_many(&items, SetOptions::default()).await.unwrap();
    let cache = bench.cache();
    let keys = ["k7", "absent", "k99", "k7"];
    let found = cache.get_many::<u32, _>(&keys).await.unwrap();
    let found: Vec<Option<u32>> = found.into_iter().map(|value| value.map(|value| *value)).collect();
    assert_eq!(found, [Some(7), None, Some(99), Some(7)]);
    assert_eq!(cache.delete_many(&["k7", "absent", "k8"]).await.unwrap(), 2);
    assert_eq!(cache.get::<u32>("k7").await.unwrap(), None);
}

#[tokio::test]
async fn clear_empties_one_namespace_and_no_other() {
    let bench = Bench::new();
    let (a, b) = (bench.cache().namespace("a").unwrap(), bench.cache().namespace("ab").unwrap());
    a.set("k", &1_u32).await.unwrap();
    a.set("#k", &1_u32).await.unwrap();
    b.set("k", &2_u32).await.unwrap();
    assert_eq!(a.clear().await.unwrap(), 2);
    assert_eq!(a.get::<u32>("k").await.unwrap(), None);
    assert_eq!(*b.get::<u32>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn keys_are_listed_as_their_callers_know_them() {
    let bench = Bench::new();
    let cache = bench.cache();
    let long = "x".repeat(30_000);
    for key in ["plain", "#hash", &long] {
        cache.set(key, &1_u32).await.unwrap();
    }
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let page = cache.keys(cursor.as_ref()).await.unwrap();
        keys.extend(page.keys);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    keys.sort();
    assert_eq!(keys, [b"#hash".to_vec(), b"plain".to_vec(), long.into_bytes()]);
}

#[tokio::test]
async fn entries_of_another_key_are_refused_wherever_they_lie() {
    let bench = Bench::new();
    let cache = bench.cache();
    cache.set("mine", &1_u32).await.unwrap();
    let cx = Cx::within(Duration::from_secs(5));
    let stolen = bench.store.get(Key::from_wire(b"ck:default:mine"), &cx).await.unwrap().unwrap();
    bench.store.set(Key::from_wire(b"ck:default:yours"), stolen, Ttl::Never, &cx).await.unwrap();
    let reader = bench.cache();
    assert_eq!(reader.get::<u32>("yours").await.unwrap(), None);
    assert_eq!(reader.stats().refused.get("wrong_key"), Some(&1));
}

#[tokio::test]
async fn a_closed_cache_says_so() {
    let cache = Bench::new().cache();
    cache.set("k", &1_u32).await.unwrap();
    cache.close().await.unwrap();
    cache.clone().close().await.unwrap();
    assert!(matches!(cache.get::<u32>("k").await, Err(Error::Closed)));
    assert!(matches!(cache.clear().await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_value_too_large_for_the_store_is_an_error_to_set_and_none_to_load() {
    let clock = Arc::new(ManualClock::new());
    let store = Memory::new(MemoryConfig { max_value: 1000, ..MemoryConfig::default() });
    let cache = Cache::builder().backend(Arc::new(store)).clock(clock).build().unwrap();
    let noise: Vec<u64> = (0..1000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    assert!(matches!(cache.set("k", &noise).await, Err(Error::TooLarge { .. })));
    assert_eq!(cache.get_or_load("k", async || noise.clone()).await.unwrap().len(), 1000);
}

#[tokio::test]
async fn without_l1_every_read_asks_the_store() {
    let bench = Bench::new();
    let cache = Cache::builder()
        .backend(Arc::new(bench.store.clone()))
        .clock(bench.clock.clone())
        .without_l1()
        .build()
        .unwrap();
    cache.set("k", &1_u32).await.unwrap();
    cache.get::<u32>("k").await.unwrap().unwrap();
    cache.get::<u32>("k").await.unwrap().unwrap();
    assert_eq!(cache.stats().l2_hits, 2);
    assert_eq!(cache.stats().l1, None);
}

#[tokio::test]
async fn an_entry_is_shown_with_its_times_and_checked_like_a_value() {
    let bench = Bench::new();
    let cache = bench.strict();
    cache.set_with("ada", &ada(), SetOptions::default().with_ttl(Duration::from_secs(60))).await.unwrap();
    let entry = cache.entry("ada").await.unwrap().unwrap();
    assert_eq!(entry.decode::<User>().unwrap(), ada());
    assert_eq!(entry.meta().times.expires_ms - entry.meta().times.created_ms, 60_000);
    assert!(cache.entry("bob").await.unwrap().is_none());
    let (tier, cx) = (cache.tier().unwrap().backend(), cachekit_plugin::Cx::within(Duration::from_secs(1)));
    let stored = tier.get(cachekit_plugin::Key::from_wire(b"ck:default:ada"), &cx).await.unwrap().unwrap();
    let moved = cachekit_plugin::Key::from_wire(b"ck:default:eve");
    tier.set(moved, stored, Ttl::Never, &cx).await.unwrap();
    assert!(matches!(cache.entry("eve").await, Err(Error::Refused(crate::codec::Refusal::WrongKey))));
}

#[test]
fn a_program_without_a_runtime_caches() {
    let bench = Bench::new();
    let cache = bench.cache().blocking();
    cache.set("ada", &ada()).unwrap();
    assert_eq!(*cache.get::<User>("ada").unwrap().unwrap(), ada());
    assert_eq!(*cache.get_or_load("n", || 5_u32).unwrap(), 5);
    assert!(cache.delete("ada").unwrap());
    assert_eq!(cache.clear().unwrap(), 1);
}
