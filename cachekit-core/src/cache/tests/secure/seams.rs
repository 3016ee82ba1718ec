//! Where entries of a cache that encrypts go besides the one store: fronts, a snapshot, dictionaries, epochs, batches.
//!
//! Each test puts a canary in and looks at all bytes that left the engine. What a wrapper or a side way stores has to come
//! from the same codec; these tests are what notices one that does not.

use super::*;
use crate::builder::{CacheBuilder, NamespaceEpochs};
use crate::cache::{DataLoaderConfig, LoadOptions};
use crate::codec::tests::dictionary::{profiles, trained};
use crate::codec::{Envelope, Refusal};
use crate::tier::chain::{TierSpec, WritePolicy};

const CANARY: &str = "canary-8c1f";

/// A value that no compressor makes unrecognizable: the canary stands in it once, and early.
fn canary(n: u32) -> User {
    User { name: format!("{CANARY}-{n}"), age: n }
}

/// Everything a store has: keys and entries.
async fn all(store: &Memory) -> Vec<(Bytes, Bytes)> {
    let cx = Cx::new(Deadline::after(Duration::from_secs(5)));
    let keys = store.scan().unwrap().next(b"", None, 1_000, &cx).await.unwrap().items;
    let mut entries = Vec::new();
    for key in keys {
        let stored = store.get(Key::from_wire(&key), &cx).await.unwrap().unwrap();
        entries.push((key, stored));
    }
    entries
}

/// How many entries there are, all of them sealed and without the canary.
async fn sealed_entries(store: &Memory) -> usize {
    let entries = all(store).await;
    for (key, stored) in &entries {
        let name = key.escape_ascii();
        assert!(Envelope::parse(stored).unwrap().is_sealed(), "{name} is not sealed");
        assert!(!holds(stored, CANARY.as_bytes()), "{name} is plain");
    }
    entries.len()
}

#[tokio::test]
async fn a_front_holds_what_the_last_tier_holds_however_it_came_there() {
    for policy in [WritePolicy::Through, WritePolicy::Behind, WritePolicy::Remove] {
        a_front_written_so_holds_what_the_last_tier_holds(policy).await;
    }
}

async fn a_front_written_so_holds_what_the_last_tier_holds(policy: WritePolicy) {
    let (bench, front) = (Bench::new(), Memory::new(MemoryConfig::default()));
    let chained = || {
        let spec = TierSpec::new("near", Arc::new(front.clone())).write(policy);
        let encryption = Encryption::new(ring(1, &[]));
        let store = Arc::new(bench.store.clone());
        bench.builder(store).tier(spec).without_l1().encryption(encryption).build().unwrap()
    };
    let cache = chained();
    cache.set("written", &canary(1)).await.unwrap();
    cache.set_many(&[("a", canary(2)), ("b", canary(3))], SetOptions::default()).await.unwrap();
    cache.get_or_load("loaded", async || canary(4)).await.unwrap();
    closed(&bench).set("promoted", &canary(5)).await.unwrap();
    for key in ["written", "a", "b", "loaded", "promoted"] {
        assert!(cache.get::<User>(key).await.unwrap().is_some(), "{key}");
    }
    // Copies are made in the background; what is read is copied in any case.
    for _ in 0..10_000 {
        if !all(&front).await.is_empty() {
            break;
        }
        tokio::task::yield_now().await;
    }
    cache.close().await.unwrap();
    assert_eq!(sealed_entries(&bench.store).await, 5);
    assert!(sealed_entries(&front).await >= 1, "nothing to look at: {policy:?}");
}

/// A chain over the store of `bench`, each front under its own hand.
fn chained(bench: &Bench, fronts: &[&Memory]) -> Cache {
    let builder = bench.builder(Arc::new(bench.store.clone())).without_l1().encryption(Encryption::new(ring(1, &[])));
    let spec = |(at, front): (usize, &&Memory)| TierSpec::new(format!("front {at}"), Arc::new((*front).clone()));
    fronts.iter().enumerate().map(spec).fold(builder, CacheBuilder::tier).build().unwrap()
}

async fn damage(store: &Memory, wire: &str, how: Damage) {
    let cx = Cx::new(Deadline::after(Duration::from_secs(1)));
    let mut copy = store.get(Key::from_wire(wire.as_bytes()), &cx).await.unwrap().unwrap().to_vec();
    how(&mut copy);
    store.set(Key::from_wire(wire.as_bytes()), copy.into(), Ttl::Never, &cx).await.unwrap();
}

/// A way to read.
type Read<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Option<User>, Error>> + 'a>>;

/// Waits until nothing is promoted any more.
async fn settle(cache: &Cache) {
    while cache.tier().unwrap().chain().unwrap().running() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Something that somebody, or a disk, does to bytes.
type Damage = fn(&mut Vec<u8>);

const TAG: Damage = |bytes| *bytes.last_mut().unwrap() ^= 1;
const MIDDLE: Damage = |bytes| bytes[40] ^= 1;
const MAGIC: Damage = |bytes| bytes[0] ^= 1;
const CUT: Damage = |bytes| bytes.truncate(5);

#[tokio::test]
async fn a_sealed_copy_that_was_altered_is_counted_and_the_good_one_behind_it_takes_its_place() {
    for how in [TAG, MAGIC, CUT] {
        let (bench, front) = (Bench::new(), Memory::new(MemoryConfig::default()));
        let cache = chained(&bench, &[&front]);
        cache.set_many(&[("session", ada()), ("b", ada())], SetOptions::default()).await.unwrap();
        let reads: [(&str, Read<'_>); 4] = [
            ("get", Box::pin(async { Ok(cache.get::<User>("session").await?.map(|user| (*user).clone())) })),
            (
                "get_many",
                Box::pin(async {
                    let users = cache.get_many::<User, _>(&["session", "b"]).await?;
                    assert!(users[1].is_some());
                    Ok(users[0].as_deref().cloned())
                }),
            ),
            (
                "get_or_load",
                Box::pin(async {
                    let loaded = cache.get_or_load("session", async || -> User { panic!("nothing was lost") }).await?;
                    Ok(Some((*loaded).clone()))
                }),
            ),
            (
                "entry",
                Box::pin(async { Ok(cache.entry("session").await?.map(|entry| entry.decode::<User>().unwrap())) }),
            ),
        ];
        for (at, (name, read)) in (1..).zip(reads) {
            damage(&front, WIRE, how).await;
            assert_eq!(read.await.unwrap(), Some(ada()), "{name}");
            settle(&cache).await;
            let cx = Cx::new(Deadline::after(Duration::from_secs(1)));
            let copy = front.get(Key::from_wire(WIRE.as_bytes()), &cx).await.unwrap();
            assert_eq!(copy, stored(&bench, WIRE).await, "{name}: the good copy stands there");
            let refused: u64 = cache.stats().refused.values().sum::<u64>() + cache.stats().fronts[0].refused;
            assert!(refused >= at, "{name}: {:?}", cache.stats());
        }
        assert_eq!(cache.stats().l2_errors, 0);
    }
}

#[tokio::test]
async fn what_is_damaged_in_every_tier_fails_closed_and_an_outage_behind_a_damaged_copy_is_an_outage() {
    let (bench, near, far) = (Bench::new(), Memory::new(MemoryConfig::default()), Memory::new(MemoryConfig::default()));
    let cache = chained(&bench, &[&near, &far]);
    cache.set("session", &ada()).await.unwrap();
    damage(&near, WIRE, TAG).await;
    assert_eq!(*cache.get::<User>("session").await.unwrap().unwrap(), ada());
    assert_eq!((cache.stats().fronts[0].refused, cache.stats().fronts[1].hits), (1, 1), "the next tier, not the last");
    settle(&cache).await;
    for (store, how) in [(&near, TAG), (&far, MIDDLE), (&bench.store, TAG)] {
        damage(store, WIRE, how).await;
    }
    assert_eq!(refusal(cache.get::<User>("session").await), Refusal::Tampered);
    let loaded = cache.get_or_load("session", async || -> User { panic!("no loader runs over the traces") }).await;
    assert_eq!(refusal(loaded), Refusal::Tampered);
    settle(&cache).await;
    // The same damage everywhere is said at once and goes in no circle.
    let gone = chained(&bench, &[&near]);
    assert_eq!(refusal(gone.get::<User>("session").await), Refusal::Tampered);
}

#[tokio::test]
async fn a_snapshot_of_l1_is_ciphertext_and_only_its_keys_open_it() {
    let (bench, dir) = (Bench::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("l1.snapshot");
    for plaintext in [false, true] {
        let with = |key| Encryption::new(ring(key, &[])).with_plaintext_in_l1(plaintext);
        let cache = secure(&bench, with(1));
        cache.set("written", &canary(1)).await.unwrap();
        cache.get_or_load("loaded", async || canary(2)).await.unwrap();
        // Decoded values are in L1 by now, where they may be.
        assert!(cache.get::<User>("written").await.unwrap().is_some());
        assert_eq!(cache.save_snapshot(&path).unwrap(), 2);
        let file = std::fs::read(&path).unwrap();
        assert!(holds(&file, b"ck:default:written") && !holds(&file, CANARY.as_bytes()));

        let alone = |encryption| Cache::builder().clock(bench.clock.clone()).encryption(encryption).build().unwrap();
        let restored = alone(with(1));
        assert_eq!(restored.load_snapshot(&path), 2);
        assert_eq!(*restored.get::<User>("written").await.unwrap().unwrap(), canary(1));
        let other = alone(with(2));
        assert_eq!(other.load_snapshot(&path), 0);
        assert_eq!((other.get::<User>("written").await.unwrap(), other.stats().refused["sealed"]), (None, 2));
    }
    // The control: without keys the canary is in the file.
    let plain = Cache::builder().clock(bench.clock.clone()).build().unwrap();
    plain.set("written", &canary(1)).await.unwrap();
    plain.save_snapshot(&path).unwrap();
    assert!(holds(&std::fs::read(&path).unwrap(), CANARY.as_bytes()));
}

/// An entry that was planted in the file of a snapshot, by somebody who can compute its checksum as well as we can.
#[tokio::test]
async fn plaintext_planted_in_a_snapshot_is_not_taken_in_and_counted() {
    let (bench, dir) = (Bench::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("l1.snapshot");
    let plain = Cache::builder().clock(bench.clock.clone()).build().unwrap();
    plain.set("session", &ada()).await.unwrap();
    plain.save_snapshot(&path).unwrap();
    let cache = Cache::builder().clock(bench.clock.clone()).encryption(Encryption::new(ring(1, &[]))).build().unwrap();
    assert_eq!(cache.load_snapshot(&path), 0);
    assert_eq!((cache.get::<User>("session").await.unwrap(), cache.stats().refused["plaintext"]), (None, 1));
}

#[tokio::test]
async fn dictionaries_and_epochs_are_sealed_as_entries_are_and_refused_as_they_are() {
    let (bench, dictionary) = (Bench::new(), trained(1));
    let open = || {
        let builder = bench.builder(Arc::new(bench.store.clone())).namespace_epochs(NamespaceEpochs::On);
        builder.dictionary(Arc::clone(&dictionary)).encryption(Encryption::new(ring(1, &[]))).build().unwrap()
    };
    let cache = open();
    cache.prepare().await.unwrap();
    let profile = &profiles(1, 7)[0];
    cache.set_with("tagged", profile, SetOptions::default().with_tag("t")).await.unwrap();
    assert!(open().get::<crate::codec::tests::dictionary::Profile>("tagged").await.unwrap().is_some());
    cache.invalidate_tag("t").await.unwrap();
    cache.clear().await.unwrap();
    assert!(open().get::<crate::codec::tests::dictionary::Profile>("tagged").await.unwrap().is_none());
    let entries = all(&bench.store).await;
    // The value, the dictionary, and what a tag and a namespace have for epochs.
    assert!(entries.iter().filter(|(key, _)| key.starts_with(b"ck::")).count() >= 3, "{}", entries.len());
    sealed_entries(&bench.store).await;
    let sample = &dictionary.content()[dictionary.content().len() - 32..];
    assert!(!entries.iter().any(|(_, stored)| holds(stored, sample)), "a dictionary is made of values, and lies there");
}

#[tokio::test]
async fn batches_and_answers_without_a_value_are_sealed_and_nothing_is_loaded_over_traces() {
    let bench = Bench::new();
    let cache = closed(&bench);
    let users = cache.data_loader(DataLoaderConfig::default(), |ids: Vec<String>| async move {
        Ok::<_, String>(ids.iter().map(|_| Ok(canary(1))).collect())
    });
    assert_eq!(*users.load("one".to_owned()).await.unwrap(), canary(1));
    let many = async |keys: Vec<&str>| keys.iter().map(|_| Some(canary(2))).collect();
    assert_eq!(cache.get_or_load_many(&["one", "two", "three"], many).await.unwrap().iter().flatten().count(), 3);
    let negative = || LoadOptions::default().with_negative_ttl(Duration::from_secs(60));
    assert!(cache.get_or_load_option::<User, _, _>("none", negative(), || async { None }).await.unwrap().is_none());
    assert_eq!(sealed_entries(&bench.store).await, 4);

    // That there is nothing is an answer as well: nobody without the key gives or alters it.
    let mut nothing = stored(&bench, "ck:default:none").await.unwrap().to_vec();
    *nothing.last_mut().unwrap() ^= 1;
    put(&bench, "ck:default:none", nothing).await;
    put(&bench, "ck:default:two", plain(&bench, "ck:default:two")).await;
    let fresh = closed(&bench);
    let option = fresh.get_or_load_option("none", negative(), || async { Some(ada()) }).await;
    assert_eq!(refusal(option), Refusal::Tampered);
    let loads = AtomicU32::new(0);
    let counted = async |keys: Vec<&str>| {
        loads.fetch_add(1, Ordering::Relaxed);
        keys.iter().map(|_| Some(ada())).collect()
    };
    assert_eq!(refusal(fresh.get_or_load_many(&["two", "four"], counted).await), Refusal::Plaintext);
    assert_eq!(loads.load(Ordering::Relaxed), 0, "a loader ran over the traces");
}

/// Listeners get keys and causes by their type; of hashed keys they get the hash.
#[tokio::test]
async fn a_listener_of_a_cache_that_hashes_its_keys_learns_hashes() {
    let (bench, heard) = (Bench::new(), Arc::new(std::sync::Mutex::new(Vec::<u8>::new())));
    let encryption = Encryption::new(ring(1, &[])).with_hashed_keys(true);
    let sink = Arc::clone(&heard);
    let cache = bench
        .builder(Arc::new(bench.store.clone()))
        .encryption(encryption)
        .on_event(move |left: &crate::l1::Departure<'_>| sink.lock().unwrap().extend_from_slice(left.wire_key()))
        .build()
        .unwrap();
    cache.set("canary@example.org", &ada()).await.unwrap();
    assert!(cache.delete("canary@example.org").await.unwrap());
    let heard = heard.lock().unwrap().clone();
    assert!(heard.starts_with(b"ck:default:~") && !holds(&heard, b"canary"), "{}", heard.escape_ascii());
}
