//! A cache that encrypts, on the reference store: what lies there, and what is made of what somebody else put there.

mod names;
mod seams;

use cachekit_plugin::Deadline;

use super::*;
use crate::codec::{Codec, Meta, NewEntry, Refusal, Times};
use crate::crypto::{Encryption, Keyring, KeyringError, MasterKey};
use crate::key::Namespace;

const WIRE: &str = "ck:default:session";

fn ring(current: u8, previous: &[u8]) -> Keyring {
    let key = |byte: u8| MasterKey::from_bytes(&[byte; 32]).unwrap();
    Keyring::new(key(current), previous.iter().map(|byte| key(*byte)).collect()).unwrap()
}

fn secure(bench: &Bench, encryption: Encryption) -> Cache {
    bench.builder(Arc::new(bench.store.clone())).encryption(encryption).build().unwrap()
}

fn closed(bench: &Bench) -> Cache {
    secure(bench, Encryption::new(ring(1, &[])))
}

fn open(bench: &Bench) -> Cache {
    secure(bench, Encryption::new(ring(1, &[]).with_fail_closed(false)))
}

async fn stored(bench: &Bench, key: &str) -> Option<Bytes> {
    let cx = Cx::new(Deadline::after(Duration::from_secs(1)));
    bench.store.get(Key::from_wire(key.as_bytes()), &cx).await.unwrap()
}

async fn put(bench: &Bench, key: &str, value: impl Into<Bytes>) {
    let cx = Cx::new(Deadline::after(Duration::from_secs(1)));
    bench.store.set(Key::from_wire(key.as_bytes()), value.into(), Ttl::Never, &cx).await.unwrap();
}

async fn keys_of(bench: &Bench) -> Vec<Bytes> {
    let cx = Cx::new(Deadline::after(Duration::from_secs(1)));
    bench.store.scan().unwrap().next(b"", None, 100, &cx).await.unwrap().items
}

/// An entry as a cache that does not encrypt writes it.
fn plain(bench: &Bench, wire: &str) -> Bytes {
    use crate::clock::Clock as _;
    let times = Times { created_ms: bench.clock.unix_ms(), ..Times::default() };
    let entry = NewEntry { wire_key: wire.as_bytes(), meta: Meta { times, ..Meta::default() }, tags: &[] };
    Codec::default().encode(&entry, &ada()).unwrap()
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Error>) -> Refusal {
    match answer {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn both_tiers_hold_ciphertext_and_every_operation_works() {
    let bench = Bench::new();
    let (cache, elsewhere) = (closed(&bench), closed(&bench));
    cache.set("session", &ada()).await.unwrap();
    cache.set_many(&[("a", ada()), ("b", ada())], SetOptions::default()).await.unwrap();
    cache.set_bytes("raw", b"Ada's bytes", SetOptions::default()).await.unwrap();
    let loaded = cache.get_or_load("loaded", async || ada()).await.unwrap();
    assert_eq!(*loaded, ada());
    for key in ["session", "a", "b", "raw", "loaded"] {
        let entry = stored(&bench, &format!("ck:default:{key}")).await.unwrap();
        assert!(!holds(&entry, b"Ada"), "{key} is plain in the store");
        let hash = cache.engine.l1.hash(format!("ck:default:{key}").as_bytes());
        let epoch = cache.engine.writes.epoch(cache.slot);
        let hit = cache.engine.l1.peek(hash, format!("ck:default:{key}").as_bytes(), epoch).unwrap();
        assert!(hit.to_bytes() == entry && hit.typed::<User>().is_none(), "{key} is plain in L1");
    }
    for reader in [&cache, &elsewhere] {
        assert_eq!(*reader.get::<User>("session").await.unwrap().unwrap(), ada());
        assert_eq!(reader.get_bytes("raw").await.unwrap().unwrap(), "Ada's bytes");
        assert_eq!(reader.get_many::<User, _>(&["a", "b", "c"]).await.unwrap().iter().flatten().count(), 2);
        assert!(reader.exists("session").await.unwrap());
        assert!(reader.touch("session", SetOptions::default().with_ttl(Duration::from_secs(9))).await.unwrap());
        assert_eq!(*reader.get::<User>("session").await.unwrap().unwrap(), ada());
    }
    // A hit in L1 is opened anew each time, without the store.
    let before = elsewhere.stats().l2_hits;
    assert!(elsewhere.get::<User>("session").await.unwrap().is_some());
    assert_eq!(elsewhere.stats().l2_hits, before);
    assert!(elsewhere.delete("session").await.unwrap());
    assert_eq!(closed(&bench).get::<User>("session").await.unwrap(), None);
    assert!(cache.stats().refused.is_empty() && elsewhere.stats().refused.is_empty());
}

#[tokio::test]
async fn plaintext_in_l1_is_only_what_was_asked_for() {
    let bench = Bench::new();
    let cache = secure(&bench, Encryption::new(ring(1, &[])).with_plaintext_in_l1(true));
    cache.set("session", &ada()).await.unwrap();
    let first = cache.get::<User>("session").await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &cache.get::<User>("session").await.unwrap().unwrap()));
    assert!(!holds(&stored(&bench, WIRE).await.unwrap(), b"Ada"));
    let sealed = closed(&bench);
    sealed.set("session", &ada()).await.unwrap();
    let first = sealed.get::<User>("session").await.unwrap().unwrap();
    assert!(!Arc::ptr_eq(&first, &sealed.get::<User>("session").await.unwrap().unwrap()));
}

/// Each class, on each way that reads: an error where the cache fails closed, and no loader runs; a counted miss otherwise.
#[tokio::test]
async fn what_must_not_be_accepted_is_an_error_in_each_operation_and_counted_by_its_class() {
    let bench = Bench::new();
    closed(&bench).set("session", &ada()).await.unwrap();
    let sealed = stored(&bench, WIRE).await.unwrap();
    let mut tampered = sealed.to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    let foreign_key = Bench::new();
    secure(&foreign_key, Encryption::new(ring(7, &[]))).set("session", &ada()).await.unwrap();
    let foreign_tenant = Bench::new();
    secure(&foreign_tenant, Encryption::new(ring(1, &[])).with_tenant("other")).set("session", &ada()).await.unwrap();
    for (planted, expected) in [
        (Bytes::from(tampered), Refusal::Tampered),
        (sealed.slice(..sealed.len() - 1), Refusal::Tampered),
        (Bytes::from_static(b"anything"), Refusal::Tampered),
        (plain(&bench, WIRE), Refusal::Plaintext),
        (stored(&foreign_key, WIRE).await.unwrap(), Refusal::Sealed),
        (stored(&foreign_tenant, WIRE).await.unwrap(), Refusal::Tampered),
    ] {
        put(&bench, WIRE, planted.clone()).await;
        let loads = AtomicU32::new(0);
        let load = async || {
            loads.fetch_add(1, Ordering::Relaxed);
            ada()
        };
        let cache = closed(&bench);
        assert_eq!(refusal(cache.get::<User>("session").await), expected);
        assert_eq!(refusal(cache.get_bytes("session").await), expected);
        assert_eq!(refusal(cache.get_many::<User, _>(&["session"]).await), expected);
        assert_eq!(refusal(cache.exists("session").await), expected);
        assert_eq!(refusal(cache.ttl("session").await), expected);
        assert_eq!(refusal(cache.touch("session", SetOptions::default()).await), expected);
        assert_eq!(refusal(cache.entry("session").await.map(|_| ())), expected);
        assert_eq!(refusal(cache.get_or_load("session", load).await), expected);
        assert_eq!(loads.load(Ordering::Relaxed), 0, "a loader ran over the traces");
        assert_eq!(stored(&bench, WIRE).await.unwrap(), planted, "the evidence is gone");
        let stats = cache.stats();
        assert_eq!((stats.refused[expected.class()], stats.refused.len(), stats.l2_errors), (8, 1, 0));
        // Whoever said so gets a miss and a counter, and what was planted is overwritten.
        let cache = open(&bench);
        assert_eq!(cache.get::<User>("session").await.unwrap(), None);
        assert_eq!(*cache.get_or_load("session", load).await.unwrap(), ada());
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        // Once for each look: a loader looks again when it has the lock of its key.
        assert!(cache.stats().refused[expected.class()] >= 2);
        assert_eq!(*closed(&bench).get::<User>("session").await.unwrap().unwrap(), ada());
        // A write and a deletion need no look at what is there.
        put(&bench, WIRE, planted.clone()).await;
        closed(&bench).set("session", &ada()).await.unwrap();
        put(&bench, WIRE, planted).await;
        assert!(closed(&bench).delete("session").await.unwrap());
    }
}

/// The same bytes where nobody fails closed, so that the alarm is not rung for a cache that never asked for one.
#[tokio::test]
async fn a_cache_without_keys_counts_sealed_entries_and_misses() {
    let bench = Bench::new();
    closed(&bench).set("session", &ada()).await.unwrap();
    let cache = bench.cache();
    assert_eq!(cache.get::<User>("session").await.unwrap(), None);
    assert_eq!(cache.stats().refused["sealed"], 1);
}

#[tokio::test]
async fn an_outage_is_a_miss_and_no_alarm() {
    let bench = Bench::new();
    let cache = closed(&bench);
    bench.store.set_outage(true);
    assert_eq!(cache.get::<User>("session").await.unwrap(), None);
    assert_eq!(*cache.get_or_load("session", async || ada()).await.unwrap(), ada());
    let stats = cache.stats();
    assert!(stats.refused.is_empty() && stats.l2_errors > 0);
}

#[tokio::test]
async fn entries_swapped_between_keys_namespaces_and_tenants_are_refused() {
    let bench = Bench::new();
    let cache = closed(&bench);
    let orders = cache.namespace("orders").unwrap();
    cache.set("session", &ada()).await.unwrap();
    cache.set("other", &ada()).await.unwrap();
    orders.set("session", &ada()).await.unwrap();
    let wires = [WIRE, "ck:default:other", "ck:orders:session"];
    let mut entries = Vec::new();
    for wire in wires {
        entries.push(stored(&bench, wire).await.unwrap());
    }
    for (at, wire) in wires.iter().enumerate() {
        for from in (0..wires.len()).filter(|from| *from != at) {
            put(&bench, wire, entries[from].clone()).await;
            let fresh = closed(&bench);
            let reader = if wire.starts_with("ck:orders") { fresh.namespace("orders").unwrap() } else { fresh };
            let key = wire.rsplit(':').next().unwrap();
            assert_eq!(refusal(reader.get::<User>(key).await), Refusal::Tampered, "{from} under {wire}");
        }
    }
}

#[tokio::test]
async fn a_rotation_is_seen_in_the_statistics() {
    let bench = Bench::new();
    closed(&bench).set("session", &ada()).await.unwrap();
    let rotated = secure(&bench, Encryption::new(ring(2, &[3, 1])));
    assert!(rotated.get::<User>("session").await.unwrap().is_some());
    assert_eq!(rotated.stats().opened_by_previous_key, [0, 1]);
    // A new write is under the new key.
    rotated.set("session", &ada()).await.unwrap();
    assert!(secure(&bench, Encryption::new(ring(2, &[]))).get::<User>("session").await.unwrap().is_some());
    assert!(closed(&bench).stats().opened_by_previous_key.is_empty());
}

#[tokio::test]
async fn a_store_learns_no_key_where_keys_are_hashed() {
    let bench = Bench::new();
    let hashing = || secure(&bench, Encryption::new(ring(1, &[])).with_hashed_keys(true));
    let cache = hashing();
    cache.set("ada@example.org", &ada()).await.unwrap();
    let orders = cache.namespace("orders").unwrap();
    orders.get_or_load("ada@example.org", async || ada()).await.unwrap();
    let keys = keys_of(&bench).await;
    assert_eq!(keys.len(), 2);
    for key in &keys {
        assert!(
            !holds(key, b"ada") && !holds(&stored(&bench, std::str::from_utf8(key).unwrap()).await.unwrap(), b"ada")
        );
    }
    let elsewhere = hashing();
    assert_eq!(*elsewhere.get::<User>("ada@example.org").await.unwrap().unwrap(), ada());
    let listed = elsewhere.keys(None).await.unwrap().keys;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].starts_with(b"~") && listed[0].len() == 65);
    // Whoever has the key of the cache may look at what was listed, without knowing its name.
    let reader = closed(&bench);
    assert_eq!(*reader.get::<User>(&listed[0]).await.unwrap().unwrap(), ada());
    assert_eq!(closed(&bench).get::<User>("ada@example.org").await.unwrap(), None);
    assert_eq!(elsewhere.clear().await.unwrap(), 1);
    assert!(hashing().namespace("orders").unwrap().get::<User>("ada@example.org").await.unwrap().is_some());
}

#[tokio::test]
async fn interop_of_a_cache_that_encrypts_is_sealed_with_its_keys() {
    let bench = Bench::new();
    let users = closed(&bench).interop("users").unwrap();
    users.set("get_user", &(42,), &ada(), None).await.unwrap();
    let key = users.key("get_user", &(42,)).unwrap();
    assert!(!holds(&stored(&bench, &key).await.unwrap(), b"Ada"));
    let same = bench.cache().interop("users").unwrap().secure(Arc::new(ring(1, &[])), "default").unwrap();
    assert_eq!(*same.get::<User>("get_user", &(42,)).await.unwrap().unwrap(), ada());
}

#[test]
fn a_tenant_without_a_key_is_refused_when_the_cache_is_built() {
    let built = Cache::builder().encryption(Encryption::new(ring(1, &[])).with_tenant("")).build();
    assert!(matches!(built.unwrap_err(), Error::Keyring(KeyringError::Tenant)));
    assert!(Namespace::new("n").unwrap().wire(b"k").is_ok());
}
