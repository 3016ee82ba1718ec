//! Interop mode on the reference store: what others find there, and what the engine makes of what others left.

use std::collections::BTreeMap;

use cachekit_conformance::ManualClock as StoreClock;
use cachekit_plugin::Deadline;

use super::*;
use crate::codec::Refusal;
use crate::interop::{Binding, InteropError, InteropValue, Keyring, MasterKey, canonical_value};
use crate::key::KeyError;
use crate::tier::chain::TierSpec;

const KEY: &str = "users:get_user:61598716255080080f6456eb065c2e51badfaa4320b0efe97469c29cffee8875";

fn ring(current: u8, previous: &[u8]) -> Keyring {
    let key = |byte: u8| MasterKey::from_bytes(&[byte; 32]).unwrap();
    Keyring::new(key(current), previous.iter().map(|byte| key(*byte)).collect()).unwrap()
}

async fn stored(store: &Memory, key: &str) -> Option<Bytes> {
    let cx = Cx::new(Deadline::after(Duration::from_secs(1)));
    store.get(Key::from_wire(key.as_bytes()), &cx).await.unwrap()
}

async fn put(store: &Memory, key: &str, value: &[u8]) {
    let cx = Cx::new(Deadline::after(Duration::from_secs(1)));
    store.set(Key::from_wire(key.as_bytes()), Bytes::copy_from_slice(value), Ttl::Never, &cx).await.unwrap();
}

#[tokio::test]
async fn a_value_is_stored_as_other_languages_store_it() {
    let bench = Bench::new();
    let users = bench.cache().interop("users").unwrap();
    let value = InteropValue::Map(vec![("name".into(), "Ada".into()), ("age".into(), 36_u8.into())]);
    users.set("get_user", &(42,), &value, None).await.unwrap();
    assert_eq!(users.key("get_user", &(42,)).unwrap(), KEY);
    assert_eq!(stored(&bench.store, KEY).await.unwrap(), canonical_value(&value).unwrap());
    // Another process reads the same as a type of its own.
    let elsewhere = bench.cache().interop("users").unwrap();
    assert_eq!(*elsewhere.get::<User>("get_user", &(42,)).await.unwrap().unwrap(), ada());
    assert_eq!(*elsewhere.get::<InteropValue>("get_user", &(42,)).await.unwrap().unwrap(), value_sorted());
    assert!(elsewhere.delete("get_user", &(42,)).await.unwrap());
    assert!(stored(&bench.store, KEY).await.is_none());
    assert!(!elsewhere.delete("get_user", &(42,)).await.unwrap());
    assert_eq!(elsewhere.get::<User>("get_user", &(42,)).await.unwrap(), None);
}

fn value_sorted() -> InteropValue {
    InteropValue::Map(vec![("age".into(), 36_u8.into()), ("name".into(), "Ada".into())])
}

#[tokio::test]
async fn a_value_is_shared_on_a_hit_and_decoded_once() {
    let bench = Bench::new();
    put(&bench.store, KEY, &canonical_value(&value_sorted()).unwrap()).await;
    let users = bench.cache().interop("users").unwrap();
    let first = users.get::<User>("get_user", &(42,)).await.unwrap().unwrap();
    let second = users.get::<User>("get_user", &(42.0,)).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(users.cache().stats().l2_hits, 1);
}

#[tokio::test]
async fn a_secure_namespace_holds_ciphertext_in_both_tiers() {
    let bench = Bench::new();
    let users = bench.cache().interop("users").unwrap().secure(Arc::new(ring(1, &[])), "default").unwrap();
    users.set("get_user", &(42,), &ada(), None).await.unwrap();
    let sealed = stored(&bench.store, KEY).await.unwrap();
    assert!(!sealed.windows(3).any(|window| window == b"Ada"));
    assert!(ring(1, &[]).open(&Binding::interop("default", KEY), &sealed).is_ok());
    let engine = &users.cache().engine;
    let hash = engine.l1.hash(KEY.as_bytes());
    let in_l1 = || engine.l1.peek(hash, KEY.as_bytes(), engine.writes.epoch(users.cache().slot)).unwrap();
    assert_eq!(in_l1().to_bytes(), sealed);
    assert_eq!(*users.get::<User>("get_user", &(42,)).await.unwrap().unwrap(), ada());
    assert!(in_l1().typed::<User>().is_none(), "nothing decoded is kept");
    assert_eq!(users.cache().stats().l2_hits, 0, "it was a hit in L1");
}

#[tokio::test]
async fn after_a_rotation_old_entries_are_read_and_new_ones_sealed_anew() {
    let bench = Bench::new();
    let with = |ring| bench.cache().interop("users").unwrap().secure(Arc::new(ring), "default").unwrap();
    with(ring(1, &[])).set("get_user", &(42,), &ada(), None).await.unwrap();
    let rotated = Arc::new(ring(2, &[3, 1]));
    let users = bench.cache().interop("users").unwrap().secure(Arc::clone(&rotated), "default").unwrap();
    assert_eq!(*users.get::<User>("get_user", &(42,)).await.unwrap().unwrap(), ada());
    assert_eq!(rotated.previous_key_hits(), [0, 1]);
    users.set("get_user", &(42,), &ada(), None).await.unwrap();
    assert_eq!(*with(ring(2, &[])).get::<User>("get_user", &(42,)).await.unwrap().unwrap(), ada());
}

#[tokio::test]
async fn what_is_not_authentic_is_an_error_or_a_miss_as_the_keyring_says() {
    let bench = Bench::new();
    let secure = |fail_closed| {
        let ring = Arc::new(ring(1, &[]).with_fail_closed(fail_closed));
        bench.cache().interop("users").unwrap().secure(ring, "default").unwrap()
    };
    let binding = Binding::interop("default", KEY);
    let good = ring(1, &[]).seal(&binding, b"\x01").unwrap();
    let mut flipped = good.clone();
    flipped[14] ^= 1;
    let moved = ring(1, &[]).seal(&Binding::interop("default", "users:get_user:other"), b"\x01").unwrap();
    let other_tenant = ring(1, &[]).seal(&Binding::interop("acme", KEY), b"\x01").unwrap();
    let other_key = ring(9, &[]).seal(&binding, b"\x01").unwrap();
    let plain = b"\x01".to_vec();
    for entry in [flipped, moved, other_tenant, other_key, plain, good[..20].to_vec(), vec![]] {
        put(&bench.store, KEY, &entry).await;
        let closed = secure(true);
        let refused = closed.get::<u8>("get_user", &(42,)).await.unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::Tampered)), "{refused:?}");
        let open = secure(false);
        assert_eq!(open.get::<u8>("get_user", &(42,)).await.unwrap(), None);
        assert_eq!(open.cache().stats().refused["tampered"], 1);
        assert!(stored(&bench.store, KEY).await.is_some(), "the evidence is kept");
        assert_eq!(open.cache().stats().l1.unwrap().entries, 0);
    }
    put(&bench.store, KEY, &good).await;
    assert_eq!(*secure(true).get::<u8>("get_user", &(42,)).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_secure_and_a_plain_handle_share_no_value_in_the_process() {
    let bench = Bench::new();
    let cache = bench.cache();
    let plain = cache.interop("users").unwrap();
    let secure = plain.clone().secure(Arc::new(ring(1, &[])), "default").unwrap();
    plain.set("get_user", &(42,), &ada(), None).await.unwrap();
    assert!(plain.get::<User>("get_user", &(42,)).await.unwrap().is_some());
    // Neither L1's copy nor the store's is taken, although both are whole.
    assert!(matches!(secure.get::<User>("get_user", &(42,)).await, Err(Error::Refused(Refusal::Tampered))));
    secure.set("get_user", &(42,), &ada(), None).await.unwrap();
    assert_eq!(plain.get::<User>("get_user", &(42,)).await.unwrap(), None);
}

#[tokio::test]
async fn tenants_do_not_get_each_others_loads() {
    let bench = Bench::new();
    let (cache, hold_get, _) = gated(&bench);
    let ring = Arc::new(ring(1, &[]).with_fail_closed(false));
    let handle = |tenant| cache.interop("users").unwrap().secure(Arc::clone(&ring), tenant).unwrap();
    let (one, other) = (handle("one"), handle("other"));
    hold_get.close();
    let load = async move { one.get_or_load("op", &(1,), None, async || 1_u8).await.unwrap() };
    let first = tokio::spawn(load);
    hold_get.arrived.notified().await;
    let second = other.get_or_load("op", &(1,), None, async || 2_u8).await.unwrap();
    hold_get.open.notify_one();
    assert_eq!((*first.await.unwrap(), *second), (1, 2));
}

#[tokio::test]
async fn one_caller_loads_for_all() {
    let bench = Bench::new();
    let (cache, hold_get, _) = gated(&bench);
    let users = cache.interop("users").unwrap();
    let loads = Arc::new(AtomicU32::new(0));
    hold_get.close();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (users, loads) = (users.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = async || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    ada()
                };
                users.get_or_load("get_user", &(42,), Some(Duration::from_secs(60)), load).await.unwrap()
            })
        })
        .collect();
    hold_get.arrived.notified().await;
    hold_get.open.notify_one();
    for caller in callers {
        assert_eq!(*caller.await.unwrap(), ada());
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert!(stored(&bench.store, KEY).await.is_some());
}

#[tokio::test]
async fn a_slow_read_brings_nothing_back_after_a_deletion() {
    let bench = Bench::new();
    put(&bench.store, KEY, b"\x01").await;
    let (cache, hold_get, _) = gated(&bench);
    let users = cache.interop("users").unwrap();
    hold_get.close();
    let reader = users.clone();
    let slow = tokio::spawn(async move { reader.get::<u8>("get_user", &(42,)).await });
    hold_get.arrived.notified().await;
    assert!(users.delete("get_user", &(42,)).await.unwrap());
    hold_get.open.notify_one();
    assert!(slow.await.unwrap().unwrap().is_some());
    assert_eq!(users.get::<u8>("get_user", &(42,)).await.unwrap(), None);
    assert_eq!(users.cache().stats().overtaken, 1);
}

#[tokio::test]
async fn zero_is_no_expiry_and_lives_are_told_to_the_store() {
    let clock = Arc::new(StoreClock::default());
    let store = Memory::with_clock(MemoryConfig::default(), clock.clone());
    let cache =
        Cache::builder().backend(Arc::new(store)).without_l1().default_ttl(Duration::from_secs(1)).build().unwrap();
    let users = cache.interop("users").unwrap();
    users.set("op", &(0,), &0, Some(Duration::ZERO)).await.unwrap();
    users.set("op", &(1,), &1, Some(Duration::from_secs(60))).await.unwrap();
    users.set("op", &(2,), &2, None).await.unwrap();
    clock.advance(Duration::from_secs(30));
    let is_there = async |n: i32| users.get::<i32>("op", &(n,)).await.unwrap().is_some();
    assert_eq!((is_there(0).await, is_there(1).await, is_there(2).await), (true, true, false));
    clock.advance(Duration::from_secs(40));
    assert_eq!((is_there(0).await, is_there(1).await), (true, false));
}

#[tokio::test]
async fn what_another_process_wrote_is_seen_within_the_cap() {
    let bench = Bench::new();
    let (mine, others) = (bench.cache().interop("users").unwrap(), bench.cache().interop("users").unwrap());
    mine.set("op", &(), &1, None).await.unwrap();
    others.set("op", &(), &2, None).await.unwrap();
    assert_eq!(*mine.get::<i32>("op", &()).await.unwrap().unwrap(), 1);
    bench.clock.advance(Duration::from_secs(30));
    assert_eq!(*mine.get::<i32>("op", &()).await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_stale_value_is_told_apart_and_serves_where_a_loader_fails() {
    let clock = Arc::new(StoreClock::default());
    let store = Memory::with_clock(MemoryConfig::default(), clock.clone());
    let users = Cache::builder().backend(Arc::new(store)).build().unwrap().interop("users").unwrap();
    let (life, window) = (Duration::from_secs(10), Duration::from_secs(60));
    users.set_stale("op", &(1,), &1, life, window).await.unwrap();
    let found = users.look_up::<i32>("op", &(1,)).await.unwrap().unwrap();
    assert_eq!((*found.value, found.stale), (1, false));
    // L1 must not outlive what the store said of its life: the engine's clock stands still, the entry is dropped by hand.
    users.cache().engine.l1.clear();
    clock.advance(Duration::from_secs(20));
    let found = users.look_up::<i32>("op", &(1,)).await.unwrap().unwrap();
    assert_eq!((*found.value, found.stale), (1, true));
    assert_eq!(users.get::<i32>("op", &(1,)).await.unwrap(), None);
    assert_eq!(users.cache().stats().l1.unwrap().entries, 0, "what is stale is not kept");
    let failing = async || Err::<i32, _>("down");
    assert_eq!(*users.try_get_or_load("op", &(1,), None, failing).await.unwrap(), 1);
    assert!(users.try_get_or_load("op", &(2,), None, failing).await.is_err());
    assert_eq!(*users.try_get_or_load("op", &(1,), None, async || Ok::<_, &str>(7)).await.unwrap(), 7);
    assert_eq!(*users.get::<i32>("op", &(1,)).await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn l1_keeps_an_entry_no_longer_than_the_store_says() {
    let bench = Bench::new();
    let users = bench.cache().interop("users").unwrap();
    let window = Duration::from_secs(60);
    users.set_stale("op", &(1,), &1, Duration::from_secs(5), window).await.unwrap();
    assert!(users.get::<i32>("op", &(1,)).await.unwrap().is_some());
    assert_eq!(users.cache().stats().l1.unwrap().entries, 1);
    bench.clock.advance(Duration::from_secs(6));
    users.get::<i32>("op", &(1,)).await.unwrap();
    assert_eq!(users.cache().stats().l2_hits, 2, "the store was asked again");
}

#[tokio::test]
async fn what_others_left_is_a_miss_and_a_strict_cache_says_why() {
    let bench = Bench::new();
    for (entry, class) in [
        (&b"CK\x03\0\0\0\0"[..], "foreign"),
        (b"\x01\x01", "decode"),
        (b"\xa5abc", "truncated"),
        (b"\xc1", "decode"),
        (b"\xa1x", "decode"),
    ] {
        put(&bench.store, KEY, entry).await;
        let users = bench.cache().interop("users").unwrap();
        assert_eq!(users.get::<u8>("get_user", &(42,)).await.unwrap(), None);
        assert_eq!(users.cache().stats().refused.keys().copied().collect::<Vec<_>>(), [class]);
        let strict = bench.strict().interop("users").unwrap();
        assert!(matches!(strict.get::<u8>("get_user", &(42,)).await, Err(Error::Refused(_))), "{class}");
        // A loader replaces it.
        assert_eq!(*users.get_or_load("get_user", &(42,), None, async || 5_u8).await.unwrap(), 5);
        assert_eq!(stored(&bench.store, KEY).await.unwrap(), &b"\x05"[..]);
    }
}

#[tokio::test]
async fn what_others_could_not_read_is_not_written() {
    let bench = Bench::new();
    let users = bench.cache().interop("users").unwrap();
    let refused = |answer: Result<(), Error>| matches!(answer, Err(Error::Interop(InteropError::Value { .. })));
    assert!(refused(users.set("op", &(), &u128::MAX, None).await));
    assert!(refused(users.set("op", &(), &f64::NAN, None).await));
    assert!(refused(users.set("op", &(), &BTreeMap::from([(1, 2)]), None).await));
    // The caller has its value all the same.
    assert_eq!(*users.get_or_load("op", &(), None, async || u128::MAX).await.unwrap(), u128::MAX);
    let key = users.key("op", &()).unwrap();
    assert!(stored(&bench.store, &key).await.is_none());
    assert!(matches!(users.get::<u8>("op", &(f64::NAN,)).await, Err(Error::Interop(InteropError::Argument { .. }))));
    assert!(matches!(users.get::<u8>("Op", &()).await, Err(Error::Interop(InteropError::Segment { .. }))));
}

#[tokio::test]
async fn keys_are_stored_as_they_are_or_refused() {
    for name in ["ck", "ns", "nsapi", "Users", "a:b", ""] {
        assert!(matches!(Bench::new().cache().interop(name), Err(Error::Interop(_))), "{name}");
    }
    let small = Memory::new(MemoryConfig { max_key: 60, ..MemoryConfig::default() });
    let users = Cache::builder().backend(Arc::new(small)).strict(true).build().unwrap().interop("users").unwrap();
    let refused = users.set("get_user", &(42,), &1, None).await.unwrap_err();
    let Error::Backend(error) = refused else { panic!("{refused:?}") };
    let source = std::error::Error::source(&error).unwrap();
    assert!(matches!(source.downcast_ref(), Some(KeyError::Verbatim { len: 79, max: 60 })), "{source}");
    let prefixed = Cache::builder().prefixed_keys(true).build().unwrap();
    assert!(matches!(prefixed.interop("users"), Err(Error::Unsupported { operation: "interop", .. })));
}

#[tokio::test]
async fn native_and_interop_entries_never_meet() {
    let bench = Bench::new();
    let cache = bench.cache().namespace("users").unwrap();
    let users = cache.interop("users").unwrap();
    users.set("get_user", &(42,), &1, None).await.unwrap();
    cache.set(KEY, &2).await.unwrap();
    assert_eq!(*users.get::<i32>("get_user", &(42,)).await.unwrap().unwrap(), 1);
    assert_eq!(*cache.get::<i32>(KEY).await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn an_outage_is_a_miss_and_a_deletion_in_it_an_error() {
    let bench = Bench::new();
    let users = bench.cache().interop("users").unwrap();
    bench.store.set_outage(true);
    assert_eq!(users.get::<i32>("op", &()).await.unwrap(), None);
    assert_eq!(*users.get_or_load("op", &(), None, async || 3).await.unwrap(), 3);
    assert!(users.delete("op", &()).await.is_err());
    let strict = bench.strict().interop("users").unwrap();
    assert!(matches!(strict.get::<i32>("op", &()).await, Err(Error::Backend(_))));
    let _ = users.cache().close().await;
    assert!(matches!(users.get::<i32>("op", &()).await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_damaged_copy_in_a_front_is_counted_and_the_value_behind_it_is_read() {
    let (bench, front) = (Bench::new(), Memory::new(MemoryConfig::default()));
    let spec = TierSpec::new("front", Arc::new(front.clone()));
    // A last tier that tells no age: else interop values are read past the fronts.
    let cache = bench.builder(Arc::new(Opaque(bench.store.clone()))).tier(spec).without_l1().build().unwrap();
    let users = cache.interop("users").unwrap().secure(Arc::new(ring(1, &[])), "default").unwrap();
    users.set("get_user", &(42,), &ada(), None).await.unwrap();
    let mut damaged = stored(&bench.store, KEY).await.unwrap().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    put(&front, KEY, &damaged).await;
    assert_eq!(*users.get::<User>("get_user", &(42,)).await.unwrap().unwrap(), ada());
    assert_eq!((cache.stats().fronts[0].refused, cache.stats().refused["tampered"]), (1, 1));
    // In every tier it is what it was.
    put(&front, KEY, &damaged).await;
    put(&bench.store, KEY, &damaged).await;
    let told = users.get::<User>("get_user", &(42,)).await;
    assert!(matches!(told, Err(Error::Refused(Refusal::Tampered))), "{told:?}");
}
