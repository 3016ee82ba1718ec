//! What a store sees of a cache that encrypts and hashes: exactly what `docs/encryption.md` lists.

use super::*;
use crate::builder::NamespaceEpochs;
use crate::codec::{Compression, Envelope};

const HASHED: usize = 1 + 64;

fn hashing(key: u8) -> Encryption {
    Encryption::new(ring(key, &[])).with_hashed_keys(true)
}

async fn background(cache: &Cache) {
    while cache.near.background.running() > 0 {
        tokio::task::yield_now().await;
    }
}

fn is_hashed(name: &[u8]) -> bool {
    name.len() == HASHED && name[0] == b'~' && name[1..].iter().all(u8::is_ascii_hexdigit)
}

#[tokio::test]
async fn what_a_store_sees_of_a_hashing_cache_is_this_list_and_nothing_more() {
    let bench = Bench::new();
    let builder = bench.builder(Arc::new(bench.store.clone())).encryption(hashing(1)).namespace("clinic");
    let cache = builder.compression(Compression::None).build().unwrap();
    // Everything that could be told apart is different; everything that is listed is the same.
    let hour = SetOptions::default().with_ttl(Duration::from_secs(3600));
    cache.set_with("ada@example.org", "has the flu", hour.clone().with_tag("ward:infectious")).await.unwrap();
    let keys = keys_of(&bench).await;
    cache.set_with("grace", "is healthy!", hour.with_tag("staff")).await.unwrap();
    let all = keys_of(&bench).await;
    assert_eq!((keys.len(), all.len()), (2, 4));

    // Keys: the namespace, whether it is an entry or the epoch of a tag, and a hash.
    let mut entries = Vec::new();
    for key in &all {
        match (key.strip_prefix(b"ck:clinic:"), key.strip_prefix(b"ck::clinic:t")) {
            (Some(hash), None) => {
                assert!(is_hashed(hash));
                entries.push(stored(&bench, std::str::from_utf8(key).unwrap()).await.unwrap());
            }
            (None, Some(hash)) => assert!(is_hashed(hash)),
            _ => panic!("a key that nobody listed"),
        }
    }
    // Entries: what the header says, …
    let visible = Envelope::parse(&entries[0]).unwrap();
    let now_ms = crate::clock::Clock::unix_ms(&*bench.clock);
    assert_eq!((visible.meta().times.created_ms, visible.meta().times.expires_ms), (now_ms, now_ms + 3_600_000));
    assert!(visible.key_name().is_some() && visible.cipher().is_some() && visible.serializer().is_ok());
    assert_eq!(visible.payload_len(), 12, "the length of the value: eleven letters and their head in MessagePack");
    let tags: Vec<_> = visible.tags().collect();
    assert!(tags.len() == 1 && is_hashed(tags[0].name), "how many tags there are, and whether others have the same");
    // … and beside it nothing that differs from one entry to another but what is hashed, drawn, or encrypted.
    let masked = |entry: &Bytes| {
        let (mut bytes, key_at) = (entry.to_vec(), crate::codec::HEADER_LEN + b"ck:clinic:".len());
        bytes[key_at..key_at + HASHED].fill(0);
        // Behind the length of the tag: its hash, the random number of its epoch, nonce, ciphertext and seal.
        bytes[key_at + HASHED + 2..].fill(0);
        bytes
    };
    assert_eq!(masked(&entries[0]), masked(&entries[1]));
    assert_ne!(entries[0], entries[1]);
}

/// Under the name by which it was put there.
#[tokio::test]
async fn what_l1_has_of_a_hashing_cache_is_found_in_l1() {
    for plain in [false, true] {
        let bench = Bench::new();
        let encryption = hashing(1).with_plaintext_in_l1(plain);
        let alone = Cache::builder().clock(bench.clock.clone()).encryption(encryption.clone()).build().unwrap();
        let with_store = bench.builder(Arc::new(bench.store.clone())).encryption(encryption).build().unwrap();
        for cache in [alone, with_store] {
            let hits = || cache.stats().l1.unwrap().hits;
            cache.set("typed", &7_u32).await.unwrap();
            cache.set_bytes("bytes", b"b", SetOptions::default()).await.unwrap();
            let before = (hits(), cache.stats().l2_hits);
            assert_eq!(cache.get::<u32>("typed").await.unwrap().as_deref(), Some(&7));
            assert_eq!(cache.get::<u32>("typed").await.unwrap().as_deref(), Some(&7));
            assert_eq!(cache.get_bytes("bytes").await.unwrap().as_deref(), Some(&b"b"[..]));
            assert!(cache.exists("typed").await.unwrap());
            assert_eq!(*cache.get_or_load("typed", async || 8_u32).await.unwrap(), 7);
            assert_eq!((hits(), cache.stats().l2_hits), (before.0 + 5, before.1), "plaintext in L1: {plain}");
            // A hash is a name of the store, and as a key of a caller it is another one.
            let at = cache.at(b"typed").unwrap();
            let name = &at.wire.as_bytes()[at.wire.as_bytes().len() - HASHED..];
            assert!(is_hashed(name));
            assert_eq!(cache.get::<u32>(name).await.unwrap(), None);
            cache.delete("typed").await.unwrap();
            assert_eq!(cache.get::<u32>("typed").await.unwrap(), None);
        }
    }
}

/// The keys that are asked for most are named as the store knows them.
#[tokio::test]
async fn hot_keys_of_a_hashing_cache_are_hashes() {
    let cache = Cache::builder().encryption(hashing(1)).hot_keys(8).build().unwrap();
    cache.set("ada@example.org", &1_u32).await.unwrap();
    for _ in 0..100 {
        cache.get::<u32>("ada@example.org").await.unwrap();
    }
    let hot = cache.hot_keys(8);
    assert!(!hot.is_empty());
    assert!(hot.iter().all(|key| key.wire_key().strip_prefix(b"ck:default:").is_some_and(is_hashed)));
}

#[tokio::test]
async fn hashed_tags_invalidate_in_all_processes_and_only_what_carries_them() {
    let bench = Bench::new();
    let (one, two) = (secure(&bench, hashing(1)), secure(&bench, hashing(1)));
    one.set_with("a", &1_u32, SetOptions::default().with_tag("user:ada")).await.unwrap();
    let options = crate::cache::LoadOptions::default().with_tag("user:ada").with_tag("user:grace");
    one.get_or_load_with("b", options, || async { 2_u32 }).await.unwrap();
    one.set_many(&[("c", 3_u32)], SetOptions::default().with_tag("user:grace")).await.unwrap();
    let orders = one.namespace("orders").unwrap();
    orders.set_with("a", &4_u32, SetOptions::default().with_tag("user:ada")).await.unwrap();
    for key in ["a", "b", "c"] {
        assert!(two.get::<u32>(key).await.unwrap().is_some());
    }
    let epochs = keys_of(&bench).await.into_iter().filter(|key| key.starts_with(b"ck::"));
    let names: Vec<_> = epochs.map(|key| key[key.len() - HASHED..].to_vec()).collect();
    assert!(names.len() == 3 && names.iter().all(|name| is_hashed(name)), "{}", names.len());
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2], "one tag in two namespaces");
    two.invalidate_tag("user:ada").await.unwrap();
    let fresh = secure(&bench, hashing(1));
    for cache in [&two, &fresh] {
        assert_eq!(cache.get::<u32>("a").await.unwrap(), None);
        assert_eq!(cache.get::<u32>("b").await.unwrap(), None);
        assert_eq!(cache.get::<u32>("c").await.unwrap().as_deref(), Some(&3));
    }
    assert!(orders.get::<u32>("a").await.unwrap().is_some());
    assert!(two.invalidate_tag("").await.is_err() && two.invalidate_tag("x".repeat(257)).await.is_err());
    let long = SetOptions::default().with_tag("x".repeat(257));
    assert!(two.set_with("d", &1_u32, long).await.is_err(), "hashing makes no tag shorter than it was");
}

#[tokio::test]
async fn a_key_for_names_keeps_hashed_keys_over_a_rotation() {
    let bench = Bench::new();
    let name_key = |byte: u8| MasterKey::from_bytes(&[byte; 32]).unwrap();
    let rotated = || Encryption::new(ring(2, &[1])).with_hashed_keys(true);
    secure(&bench, hashing(1).with_name_key(name_key(9))).set("session", &ada()).await.unwrap();
    let cache = secure(&bench, rotated().with_name_key(name_key(9)));
    assert_eq!(*cache.get::<User>("session").await.unwrap().unwrap(), ada());
    for cold in [rotated(), rotated().with_name_key(name_key(8))] {
        assert_eq!(secure(&bench, cold).get::<User>("session").await.unwrap(), None);
    }
    // Who has hashed under the master key goes on with that.
    secure(&bench, hashing(1)).set("older", &ada()).await.unwrap();
    let cache = secure(&bench, rotated().with_name_key(name_key(1)));
    assert_eq!(*cache.get::<User>("older").await.unwrap().unwrap(), ada());
    let shown = format!("{:?}", rotated().with_name_key(name_key(9)));
    assert!(shown.contains("has_name_key: true") && !shown.contains("9, 9"), "{shown}");
}

#[tokio::test]
async fn a_life_is_extended_where_keys_are_hashed() {
    let bench = Bench::new();
    let cache = bench.builder(Arc::new(bench.store.clone())).encryption(hashing(1)).extend_on_get(0.5);
    let cache = cache.build().unwrap();
    let minute = Duration::from_secs(60);
    cache.set_with("session", &ada(), SetOptions::default().with_ttl(minute)).await.unwrap();
    bench.clock.advance(Duration::from_secs(40));
    cache.get::<User>("session").await.unwrap().unwrap();
    background(&cache).await;
    assert_eq!((cache.stats().lives_extended, cache.ttl("session").await.unwrap()), (1, Ttl::from_ms(60_000)));
}

#[tokio::test]
async fn what_a_previous_key_opened_is_sealed_anew_where_that_is_wanted() {
    let bench = Bench::new();
    let seal = || secure(&bench, Encryption::new(ring(1, &[])).with_hashed_keys(true).with_name_key(names()));
    fn names() -> MasterKey {
        MasterKey::from_bytes(&[9; 32]).unwrap()
    }
    let rotated = |reseal| {
        let encryption = Encryption::new(ring(2, &[1])).with_hashed_keys(true).with_name_key(names());
        secure(&bench, encryption.with_reseal(reseal))
    };
    let after = || secure(&bench, Encryption::new(ring(2, &[])).with_hashed_keys(true).with_name_key(names()));
    let minute = SetOptions::default().with_ttl(Duration::from_secs(60));
    seal().set_with("session", &ada(), minute.clone()).await.unwrap();
    bench.clock.advance(Duration::from_secs(10));

    let cache = rotated(false);
    cache.get::<User>("session").await.unwrap().unwrap();
    background(&cache).await;
    assert_eq!(refusal(after().get::<User>("session").await), Refusal::Sealed, "a read writes nothing by itself");

    let cache = rotated(true);
    assert_eq!(*cache.get::<User>("session").await.unwrap().unwrap(), ada());
    background(&cache).await;
    assert_eq!(cache.stats().entries_resealed, 1);
    let opened = after();
    assert_eq!(*opened.get::<User>("session").await.unwrap().unwrap(), ada());
    assert_eq!(opened.ttl("session").await.unwrap(), Ttl::from_ms(50_000), "no longer than it would have lived");
    // Under the current key there is nothing to do.
    cache.get::<User>("session").await.unwrap().unwrap();
    background(&cache).await;
    assert_eq!(cache.stats().entries_resealed, 1);

    // Not over a deletion, and not where it could overwrite a newer value.
    seal().set_with("gone", &ada(), minute.clone()).await.unwrap();
    cache.get::<User>("gone").await.unwrap().unwrap();
    cache.delete("gone").await.unwrap();
    background(&cache).await;
    assert_eq!((cache.get::<User>("gone").await.unwrap(), cache.stats().entries_resealed), (None, 1));
    seal().set_with("plain store", &ada(), minute).await.unwrap();
    let bare = cachekit_conformance::Switched::new(Arc::new(bench.store.clone())).without_powers();
    let encryption = Encryption::new(ring(2, &[1])).with_hashed_keys(true).with_name_key(names()).with_reseal(true);
    let bare = bench.builder(Arc::new(bare)).encryption(encryption).namespace_epochs(NamespaceEpochs::Off);
    let bare = bare.build().unwrap();
    bare.get::<User>("plain store").await.unwrap().unwrap();
    background(&bare).await;
    assert_eq!(bare.stats().entries_resealed, 0);
}

#[tokio::test]
async fn what_carries_tags_outlives_the_key_its_epochs_were_sealed_under() {
    let bench = Bench::new();
    let minute = SetOptions::default().with_ttl(Duration::from_secs(60));
    let tagged = minute.clone().with_tag("user:ada");
    secure(&bench, Encryption::new(ring(1, &[]))).set_with("session", &ada(), tagged).await.unwrap();
    let cache = secure(&bench, Encryption::new(ring(2, &[1])).with_reseal(true));
    assert!(cache.get::<User>("session").await.unwrap().is_some());
    background(&cache).await;
    assert_eq!(cache.stats().entries_resealed, 2, "the entry, and the epoch of its tag");
    let after = || secure(&bench, Encryption::new(ring(2, &[])));
    assert_eq!(*after().get::<User>("session").await.unwrap().unwrap(), ada());
    // It is the same epoch, also to whoever knew it before, and it can be changed.
    assert!(cache.get::<User>("session").await.unwrap().is_some());
    after().invalidate_tag("user:ada").await.unwrap();
    assert_eq!(after().get::<User>("session").await.unwrap(), None);

    // Without it the epoch is under a key that is not there, which is said, and is no miss.
    secure(&bench, Encryption::new(ring(1, &[]))).set_with("other", &ada(), minute.with_tag("other")).await.unwrap();
    let epoch = "ck::default:tother";
    let entry = stored(&bench, epoch).await.unwrap();
    secure(&bench, Encryption::new(ring(2, &[1]))).touch("other", SetOptions::default()).await.unwrap();
    assert_eq!(refusal(after().get::<User>("other").await), Refusal::Sealed);

    // The same for one that somebody altered: no loader runs over the traces, unless the cache was told to fail open.
    let mut altered = entry.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    put(&bench, epoch, altered).await;
    let reader = |closed| secure(&bench, Encryption::new(ring(2, &[1]).with_fail_closed(closed)));
    assert_eq!(refusal(reader(true).get::<User>("other").await), Refusal::Tampered);
    assert_eq!(refusal(reader(true).get_or_load("other", async || ada()).await), Refusal::Tampered);
    assert_eq!(reader(false).get::<User>("other").await.unwrap(), None);
    // An invalidation needs no look at what is there, and puts it right.
    let altered = stored(&bench, epoch).await.unwrap();
    reader(true).invalidate_tag("other").await.unwrap();
    assert_eq!(reader(true).get::<User>("other").await.unwrap(), None);
    // So does a write, which lands for everybody, and is counted.
    for closed in [true, false] {
        for unreadable in [&altered, &entry] {
            put(&bench, epoch, unreadable.clone()).await;
            let writer = secure(&bench, Encryption::new(ring(2, &[]).with_fail_closed(closed)));
            writer.set_with("new", &ada(), SetOptions::default().with_tag("other")).await.unwrap();
            assert!(after().get::<User>("new").await.unwrap().is_some(), "{closed}");
            assert!(writer.stats().refused.values().sum::<u64>() > 0);
        }
    }
}
