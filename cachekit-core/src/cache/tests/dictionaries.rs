//! Dictionaries on their way through a store: written before they are needed, found by readers, missed without harm.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{Backend, Cx, Key, Ttl};

use super::Bench;
use crate::cache::{Cache, SetOptions};
use crate::codec::tests::dictionary::{Profile, profiles, trained};
use crate::codec::{Codec, Compression, Dictionary, DictionaryError, Envelope, Meta, NewEntry};
use crate::error::Error;

fn writing(bench: &Bench, dictionary: &Arc<Dictionary>) -> Cache {
    bench.builder(Arc::new(bench.store.clone())).dictionary(Arc::clone(dictionary)).build().unwrap()
}

async fn raw(bench: &Bench, key: &str) -> Option<Bytes> {
    bench.store.get(Key::from_wire(key.as_bytes()), &Cx::within(Duration::from_secs(1))).await.unwrap()
}

async fn put(bench: &Bench, key: &str, stored: Bytes) {
    let cx = Cx::within(Duration::from_secs(1));
    bench.store.set(Key::from_wire(key.as_bytes()), stored, Ttl::Never, &cx).await.unwrap();
}

fn name(dictionary: &Dictionary) -> String {
    format!("ck::dictionary:{}", dictionary.id())
}

#[tokio::test]
async fn a_reader_that_was_told_nothing_finds_the_dictionary_in_the_store() {
    let (bench, dictionary) = (Bench::new(), trained(1));
    let (writer, profiles) = (writing(&bench, &dictionary), profiles(4, 7));
    writer.prepare().await.unwrap();
    for (number, profile) in profiles.iter().enumerate() {
        writer.set(format!("k{number}"), profile).await.unwrap();
    }
    let stored = raw(&bench, "ck:default:k0").await.unwrap();
    assert_eq!(Envelope::parse(&stored).unwrap().dictionary(), Some(dictionary.id()));

    let reader = bench.cache();
    assert_eq!(*reader.get::<Profile>("k0").await.unwrap().unwrap(), profiles[0]);
    let found = reader.get_many::<Profile, _>(&["k1", "k2", "absent"]).await.unwrap();
    assert_eq!(found[0].as_deref(), Some(&profiles[1]));
    assert!(found[1].is_some() && found[2].is_none());
    assert!(reader.entry("k3").await.unwrap().unwrap().payload().is_ok());
    let loaded = reader.get_or_load("k3", async || -> Profile { panic!("it is there") }).await.unwrap();
    assert_eq!(*loaded, profiles[3]);
    // Read once, for however many entries.
    assert_eq!(reader.stats().dictionaries_read, 1);
    assert_eq!(writer.stats().dictionaries_written, 1);
    assert_eq!(reader.stored_dictionaries().await.unwrap(), [dictionary.id()]);
    assert_eq!(reader.stored_dictionary(dictionary.id()).await.unwrap().unwrap().content(), dictionary.content());
}

#[tokio::test]
async fn the_first_value_is_written_without_and_every_later_one_with_it() {
    let (bench, dictionary) = (Bench::new(), trained(1));
    let (writer, profiles) = (writing(&bench, &dictionary), profiles(3, 7));
    writer.set("first", &profiles[0]).await.unwrap();
    assert!(raw(&bench, &name(&dictionary)).await.is_some());
    writer.set_many(&[("second", &profiles[1]), ("third", &profiles[2])], SetOptions::default()).await.unwrap();
    let mut used = Vec::new();
    for key in ["first", "second", "third"] {
        let stored = raw(&bench, &format!("ck:default:{key}")).await.unwrap();
        used.push(Envelope::parse(&stored).unwrap().dictionary().is_some());
    }
    assert_eq!(used, [false, true, true]);
}

#[tokio::test]
async fn a_missing_dictionary_is_a_counted_miss_and_the_store_is_not_asked_again_at_once() {
    let (bench, dictionary) = (Bench::new(), trained(1));
    let writer = writing(&bench, &dictionary);
    writer.prepare().await.unwrap();
    writer.set("k", &profiles(1, 7)[0]).await.unwrap();
    let kept = raw(&bench, &name(&dictionary)).await.unwrap();
    let cx = Cx::within(Duration::from_secs(1));
    bench.store.delete(Key::from_wire(name(&dictionary).as_bytes()), &cx).await.unwrap();

    let reader = bench.cache();
    for _ in 0..3 {
        assert_eq!(reader.get::<Profile>("k").await.unwrap(), None);
    }
    let stats = reader.stats();
    assert_eq!((stats.refused.get("dictionary"), stats.refused.get("corrupt")), (Some(&3), None));
    assert_eq!((stats.dictionaries_missing, stats.dictionaries_read), (1, 0));
    assert!(
        matches!(bench.strict().get::<Profile>("k").await, Err(Error::Refused(refusal)) if refusal.class() == "dictionary")
    );
    // A loader runs as for any miss, and its value stands from then on.
    assert_eq!(*reader.get_or_load("k", async || profiles(1, 8).remove(0)).await.unwrap(), profiles(1, 8)[0]);

    // It came back: found after a pause, and not before.
    put(&bench, &name(&dictionary), kept).await;
    writer.set("k", &profiles(1, 7)[0]).await.unwrap();
    let reader = bench.cache();
    assert_eq!(*reader.get::<Profile>("k").await.unwrap().unwrap(), profiles(1, 7)[0]);
}

#[tokio::test]
async fn a_writer_puts_back_what_the_store_lost_and_replaces_what_somebody_changed() {
    let (bench, dictionary) = (Bench::new(), trained(1));
    let (writer, value) = (writing(&bench, &dictionary), profiles(1, 7).remove(0));
    writer.prepare().await.unwrap();
    let cx = Cx::within(Duration::from_secs(1));
    bench.store.delete(Key::from_wire(name(&dictionary).as_bytes()), &cx).await.unwrap();
    writer.set("k", &value).await.unwrap();
    assert!(raw(&bench, &name(&dictionary)).await.is_some(), "it looks with the first write");
    // Another dictionary under its name, whole and checked as an entry: its content says what it is.
    let wire = name(&dictionary);
    let entry = NewEntry { wire_key: wire.as_bytes(), meta: Meta::default(), tags: &[] };
    put(&bench, &wire, Codec::default().encode_bytes(&entry, trained(2).content()).unwrap()).await;
    let reader = bench.cache();
    assert_eq!(reader.get::<Profile>("k").await.unwrap(), None);
    assert_eq!((reader.stats().dictionaries_missing, reader.stats().refused.get("dictionary")), (1, Some(&1)));
    let told = reader.stored_dictionary(dictionary.id()).await.unwrap_err();
    assert!(matches!(told, Error::Dictionary(DictionaryError::WrongContent { .. })), "{told}");
    // A minute later the writer looks again.
    bench.clock.advance(Duration::from_secs(61));
    writer.set("again", &value).await.unwrap();
    assert_eq!(*bench.cache().get::<Profile>("k").await.unwrap().unwrap(), value);
    assert_eq!(writer.stats().dictionaries_written, 3);
}

#[tokio::test]
async fn a_store_that_cannot_take_the_dictionary_gets_entries_without_it() {
    let (bench, dictionary) = (Bench::new(), trained(1));
    let (writer, value) = (writing(&bench, &dictionary), profiles(1, 7).remove(0));
    bench.store.set_outage(true);
    writer.set("a", &value).await.unwrap();
    bench.store.set_outage(false);
    assert!(writer.prepare().await.is_ok());
    writer.set("b", &value).await.unwrap();
    let stored = raw(&bench, "ck:default:b").await.unwrap();
    assert_eq!(Envelope::parse(&stored).unwrap().dictionary(), Some(dictionary.id()));
    assert_eq!(writer.stats().dictionaries_written, 1);
}

#[tokio::test]
async fn clearing_a_namespace_leaves_the_dictionary_of_the_others() {
    let (bench, dictionary) = (Bench::new(), trained(1));
    let writer = writing(&bench, &dictionary);
    writer.prepare().await.unwrap();
    let other = writer.namespace("other").unwrap();
    other.set("k", &profiles(1, 7)[0]).await.unwrap();
    writer.set("k", &profiles(1, 7)[0]).await.unwrap();
    writer.clear().await.unwrap();
    assert!(raw(&bench, &name(&dictionary)).await.is_some());
    let reader = bench.cache().namespace("other").unwrap();
    assert!(reader.get::<Profile>("k").await.unwrap().is_some());
}

#[tokio::test]
async fn without_a_store_the_dictionary_serves_l1() {
    let dictionary = trained(1);
    let plain = Cache::builder().build().unwrap();
    let with = Cache::builder().dictionary(dictionary).build().unwrap();
    for cache in [&plain, &with] {
        for (number, profile) in profiles(20, 7).iter().enumerate() {
            cache.set(format!("k{number}"), profile).await.unwrap();
            assert_eq!(&*cache.get::<Profile>(format!("k{number}")).await.unwrap().unwrap(), profile);
        }
    }
    let bytes = |cache: &Cache| cache.stats().l1.unwrap().bytes;
    assert!(bytes(&with) < bytes(&plain), "{} {}", bytes(&with), bytes(&plain));
}

#[test]
fn a_dictionary_beside_another_compression_is_refused() {
    for compression in [Compression::None, Compression::Lz4 { threshold: 64 }] {
        let built = Cache::builder().dictionary(trained(1)).compression(compression).build();
        assert!(matches!(built, Err(Error::Dictionary(DictionaryError::NotZstd))));
    }
}
