//! The codec as its callers see it. What each file asks: do values come back (here), are bad bytes refused (`hostile`),
//! are sealed entries closed (`sealed`), does the document tell the truth (`document`).

pub(crate) mod dictionary;
mod document;
mod hostile;
mod sealed;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

pub(super) const KEY: &[u8] = b"ck:users:42";
pub(super) const NOW: u64 = 1_700_000_000_000;

pub(super) fn meta() -> Meta {
    let times = Times { created_ms: NOW, fresh_for_ms: 10_000, stale_until_ms: NOW + 20_000, expires_ms: NOW + 60_000 };
    Meta { times, load_cost_us: 1_234, namespace_epoch: 0xfeed_f00d, is_nothing: false }
}

pub(super) fn entry() -> NewEntry<'static> {
    NewEntry { wire_key: KEY, meta: meta(), tags: &[] }
}

pub(super) fn codec(compression: Compression) -> Codec {
    Codec { compression, ..Codec::default() }
}

pub(super) const ZSTD: Compression = Compression::Zstd { level: 3, threshold: 64 };
pub(super) const LZ4: Compression = Compression::Lz4 { threshold: 64 };
pub(super) const COMPRESSIONS: [Compression; 3] = [Compression::None, ZSTD, LZ4];

/// Bytes nothing compresses.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Shape {
    Dot,
    Circle(f64),
    Line { from: (i32, i32), to: (i32, i32) },
    Group(Vec<Shape>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Document {
    id: u64,
    delta: i64,
    title: String,
    body: Option<Vec<u8>>,
    counts: BTreeMap<String, u32>,
    shapes: Vec<Shape>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Dot),
        any::<i32>().prop_map(|radius| Shape::Circle(f64::from(radius) / 8.0)),
        any::<((i32, i32), (i32, i32))>().prop_map(|(from, to)| Shape::Line { from, to }),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| proptest::collection::vec(inner, 0..5).prop_map(Shape::Group))
}

pub(super) fn document() -> impl Strategy<Value = Document> {
    (
        any::<u64>(),
        any::<i64>(),
        "\\PC{0,300}",
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..2000)),
        proptest::collection::btree_map("\\PC{0,12}", any::<u32>(), 0..40),
        proptest::collection::vec(shape(), 0..6),
    )
        .prop_map(|(id, delta, title, body, counts, shapes)| Document { id, delta, title, body, counts, shapes })
}

pub(super) fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::None),
        (1..=6i32, 0..3000usize).prop_map(|(level, threshold)| Compression::Zstd { level, threshold }),
        (0..3000usize).prop_map(|threshold| Compression::Lz4 { threshold }),
    ]
}

proptest! {
    #[test]
    fn a_typed_value_comes_back_with_its_key_tags_and_meta(
        value in document(),
        key in proptest::collection::vec(any::<u8>(), 1..300),
        tags in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), any::<u64>()), 0..6),
        compression in compression(),
        json in any::<bool>(),
        cost in any::<u64>(),
        epoch in any::<u64>(),
    ) {
        let serializer = if json { Serializer::Json } else { Serializer::MessagePack };
        let codec = Codec { serializer, compression, ..Codec::default() };
        let tags: Vec<_> = tags.iter().map(|(name, epoch)| Tag { name, epoch: *epoch }).collect();
        let meta = Meta { load_cost_us: cost, namespace_epoch: epoch, ..meta() };
        let stored = codec.encode(&NewEntry { wire_key: &key, meta, tags: &tags }, &value).unwrap();
        let opened = codec.open(&stored, &key, NOW).unwrap();
        prop_assert_eq!(opened.decode::<Document>().unwrap(), value);
        prop_assert_eq!(*opened.meta(), meta);
        prop_assert_eq!(opened.envelope().wire_key(), &key[..]);
        prop_assert!(opened.envelope().tags().eq(tags.iter().copied()));
        prop_assert_eq!(opened.envelope().serializer(), Ok(serializer));
    }

    #[test]
    fn bytes_come_back_verbatim(
        bytes in proptest::collection::vec(any::<u8>(), 0..5000),
        repeat in 1..20usize,
        compression in compression(),
    ) {
        let bytes = bytes.repeat(repeat);
        let codec = codec(compression);
        let stored = codec.encode_bytes(&entry(), &bytes).unwrap();
        prop_assert_eq!(&codec.open(&stored, KEY, NOW).unwrap().bytes().unwrap()[..], &bytes[..]);
    }

    #[test]
    fn any_codec_reads_what_any_other_wrote(value in document(), wrote in compression(), reads in compression()) {
        let stored = codec(wrote).encode(&entry(), &value).unwrap();
        let reader = Codec { serializer: Serializer::Json, ..codec(reads) };
        prop_assert_eq!(reader.open(&stored, KEY, NOW).unwrap().decode::<Document>().unwrap(), value);
    }
}

#[test]
fn an_uncompressed_payload_shares_the_buffer_it_was_read_from() {
    let stored = codec(Compression::None).encode_bytes(&entry(), &noise(500)).unwrap();
    let payload = Codec::default().open(&stored, KEY, NOW).unwrap().bytes().unwrap();
    assert!(stored.as_ptr_range().contains(&payload.as_ptr()));
    assert_eq!(payload.as_ptr_range().end, stored.as_ptr_range().end);
}

#[test]
fn compression_is_used_from_the_threshold_on_and_only_where_it_pays() {
    for (compression, compressor) in [
        (Compression::Zstd { level: 3, threshold: 1000 }, Compressor::Zstd),
        (Compression::Lz4 { threshold: 1000 }, Compressor::Lz4),
    ] {
        let codec = codec(compression);
        let used = |payload: &[u8]| {
            let stored = codec.encode_bytes(&entry(), payload).unwrap();
            let opened = codec.open(&stored, KEY, NOW).unwrap();
            assert_eq!(opened.bytes().unwrap(), payload);
            (opened.envelope().compressor().unwrap(), opened.envelope().stored_payload().len())
        };
        assert_eq!(used(&[7; 999]), (Compressor::None, 999));
        assert_eq!(used(&[7; 1000]).0, compressor);
        assert_eq!(used(&noise(100_000)), (Compressor::None, 100_000));
        // 5 % of zeros behind noise saves less than 1/16, 8 % saves more.
        let mostly_noise = |zeros: usize| [noise(100_000 - zeros), vec![0; zeros]].concat();
        assert_eq!(used(&mostly_noise(5_000)), (Compressor::None, 100_000));
        assert_eq!(used(&mostly_noise(8_000)).0, compressor);
    }
}

#[test]
fn a_run_that_zstd_folds_too_far_is_stored_as_lz4_and_read_back() {
    let run = vec![0; 20 << 20];
    let stored = codec(ZSTD).encode_bytes(&entry(), &run).unwrap();
    let opened = codec(ZSTD).open(&stored, KEY, NOW).unwrap();
    assert_eq!(opened.envelope().compressor(), Ok(Compressor::Lz4));
    assert!(stored.len() < run.len() / 200);
    assert!(opened.bytes().unwrap() == run);
    // A shorter run stays with zstd, far beyond 1000:1.
    let stored = codec(ZSTD).encode_bytes(&entry(), &run[..1 << 20]).unwrap();
    assert!(stored.len() < 300);
    assert!(codec(ZSTD).open(&stored, KEY, NOW).unwrap().bytes().unwrap() == run[..1 << 20]);
}

#[test]
fn an_entry_holds_no_more_memory_than_its_length() {
    for compression in COMPRESSIONS {
        let stored = codec(compression).encode(&entry(), &"text ".repeat(5000)).unwrap();
        // A unique Bytes gives its buffer back, spare capacity included.
        assert_eq!(Vec::from(stored.clone()).len(), stored.len());
        let unique = codec(compression).encode(&entry(), &"text ".repeat(5000)).unwrap();
        let buffer = Vec::from(unique);
        assert_eq!(buffer.capacity(), buffer.len());
    }
}

#[test]
fn a_smaller_setting_never_compresses_harder_and_the_defaults_meet() {
    let level = |setting| match Compression::from_seed_level(setting) {
        Some(Compression::Zstd { level, .. }) => level,
        other => panic!("{setting} is {other:?}"),
    };
    let levels: Vec<_> = (1..=9).map(level).collect();
    assert!(levels.is_sorted());
    assert_eq!((levels[0], levels[5], levels[8]), (1, zstd::DEFAULT_COMPRESSION_LEVEL, 6));
    assert_eq!(Compression::from_seed_level(0), None);
    assert_eq!(Compression::from_seed_level(10), None);
}

#[test]
fn the_level_set_is_the_level_used_although_contexts_are_shared() {
    let text = (0..4000u32).map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) % 7919)).collect::<String>();
    let stored_len =
        |level| codec(Compression::Zstd { level, threshold: 0 }).encode_bytes(&entry(), text.as_bytes()).unwrap().len();
    let (fast, small) = (stored_len(1), stored_len(19));
    assert!(small < fast);
    assert_eq!((stored_len(1), stored_len(19)), (fast, small));
}

#[test]
fn what_cannot_be_stored_is_an_error_that_says_why() {
    let codec = Codec { max_value: 1000, ..Codec::default() };
    assert!(matches!(codec.encode_bytes(&entry(), &[0; 1001]), Err(EncodeError::TooLarge { max: 1000 })));
    assert!(codec.encode_bytes(&entry(), &[0; 1000]).is_ok());
    for compression in COMPRESSIONS {
        for serializer in [Serializer::MessagePack, Serializer::Json] {
            let codec = Codec { serializer, compression, ..codec.clone() };
            assert!(matches!(codec.encode(&entry(), &"x".repeat(1001)), Err(EncodeError::TooLarge { max: 1000 })));
            assert!(codec.encode(&entry(), &"x".repeat(990)).is_ok());
        }
    }
    let raw = Codec { serializer: Serializer::Raw, ..Codec::default() };
    assert!(matches!(raw.encode(&entry(), &1), Err(EncodeError::NotBytes)));
    let nameless = NewEntry { wire_key: b"", ..entry() };
    assert!(matches!(codec.encode(&nameless, &1), Err(EncodeError::Key { len: 0 })));
    let tag = Tag { name: &[b'a'; 65_536], epoch: 1 };
    let long_tag = NewEntry { tags: &[tag], ..entry() };
    assert!(matches!(codec.encode(&long_tag, &1), Err(EncodeError::Tags { count: 1, longest: 65_536 })));
    let tags = vec![Tag { name: b"a", epoch: 1 }; 65_536];
    let many_tags = NewEntry { tags: &tags, ..entry() };
    assert!(matches!(codec.encode(&many_tags, &1), Err(EncodeError::Tags { count: 65_536, longest: 1 })));
    let times = Times { created_ms: NOW, expires_ms: NOW - 1, ..Times::default() };
    let backwards = NewEntry { meta: Meta { times, ..meta() }, ..entry() };
    assert!(matches!(codec.encode(&backwards, &1), Err(EncodeError::Times)));
}

#[test]
fn the_largest_tags_and_a_long_key_come_back() {
    let key = noise(100_000);
    let name = noise(65_535);
    let mut tags = vec![Tag { name: b"t", epoch: u64::MAX }; 65_534];
    tags.push(Tag { name: &name, epoch: 0 });
    let entry = NewEntry { wire_key: &key, meta: meta(), tags: &tags };
    let stored = Codec::default().encode(&entry, &5u8).unwrap();
    let opened = Codec::default().open(&stored, &key, NOW).unwrap();
    assert!(opened.envelope().tags().eq(tags.iter().copied()));
    assert_eq!(opened.decode::<u8>(), Ok(5));
}

#[test]
fn bytes_and_typed_values_are_not_taken_for_each_other() {
    let codec = Codec::default();
    let typed = codec.open(&codec.encode(&entry(), b"abc").unwrap(), KEY, NOW).unwrap();
    assert_eq!(typed.bytes(), Err(Refusal::Decode(DecodeFault::Serializer)));
    let raw = codec.open(&codec.encode_bytes(&entry(), b"\x01").unwrap(), KEY, NOW).unwrap();
    assert_eq!(raw.decode::<u8>(), Err(Refusal::Decode(DecodeFault::Serializer)));
}

#[test]
fn fields_may_be_added_and_reordered_between_releases() {
    #[derive(Serialize)]
    struct Old {
        id: u32,
        name: String,
    }
    #[derive(Deserialize, PartialEq, Debug)]
    struct New {
        name: String,
        #[serde(default)]
        email: Option<String>,
        id: u32,
    }
    let codec = Codec::default();
    let stored = codec.encode(&entry(), &Old { id: 7, name: "Ada".into() }).unwrap();
    let new = codec.open(&stored, KEY, NOW).unwrap().decode::<New>().unwrap();
    assert_eq!(new, New { name: "Ada".into(), email: None, id: 7 });
}

#[test]
fn a_value_may_use_the_codec_while_it_is_serialized() {
    struct Nested;
    impl Serialize for Nested {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let inner = codec(ZSTD).encode(&entry(), &"inner ".repeat(100)).map_err(serde::ser::Error::custom)?;
            let inner = codec(ZSTD).open(&inner, KEY, NOW).map_err(serde::ser::Error::custom)?;
            serializer.serialize_str(&inner.decode::<String>().map_err(serde::ser::Error::custom)?)
        }
    }
    let stored = codec(ZSTD).encode(&entry(), &Nested).unwrap();
    assert_eq!(codec(ZSTD).open(&stored, KEY, NOW).unwrap().decode::<String>().unwrap(), "inner ".repeat(100));
}

#[test]
fn an_entry_goes_from_fresh_to_stale_to_stale_if_error_to_expired() {
    let codec = Codec::default();
    let stored = codec.encode(&entry(), &1).unwrap();
    let at = |ms| codec.open(&stored, KEY, NOW + ms).map(|opened| opened.freshness());
    assert_eq!(at(0), Ok(Freshness::Fresh));
    assert_eq!(at(9_999), Ok(Freshness::Fresh));
    assert_eq!(at(10_000), Ok(Freshness::Stale));
    assert_eq!(at(19_999), Ok(Freshness::Stale));
    assert_eq!(at(20_000), Ok(Freshness::StaleIfError));
    assert_eq!(at(59_999), Ok(Freshness::StaleIfError));
    assert_eq!(at(60_000), Err(Refusal::Expired));
    assert_eq!(codec.open(&stored, KEY, u64::MAX).unwrap_err(), Refusal::Expired);
}

#[test]
fn zeros_in_the_times_mean_no_limit_of_that_kind() {
    let at = |times: Times, now| times.freshness(now);
    let created = Times { created_ms: NOW, ..Times::default() };
    assert_eq!(at(created, u64::MAX), Freshness::Fresh);
    let expires = Times { expires_ms: NOW + 10, ..created };
    assert_eq!(at(expires, NOW + 9), Freshness::Fresh);
    assert_eq!(at(expires, NOW + 10), Freshness::Expired);
    let fresh_for = Times { fresh_for_ms: 10, ..created };
    assert_eq!(at(fresh_for, NOW + 10), Freshness::StaleIfError);
    let stale = Times { stale_until_ms: NOW + 20, ..fresh_for };
    assert_eq!(at(stale, NOW + 19), Freshness::Stale);
    assert_eq!(at(stale, NOW + 20), Freshness::StaleIfError);
}

#[test]
fn a_clock_that_steps_back_makes_no_entry_immortal() {
    let codec = Codec::default();
    let stored = codec.encode(&entry(), &1).unwrap();
    let at = |now| codec.open(&stored, KEY, now).map(|opened| opened.freshness());
    // Within the allowance the age is 0, beyond it the entry is refused, however far back the clock goes.
    assert_eq!(at(NOW - SKEW_ALLOWANCE_MS), Ok(Freshness::Fresh));
    assert_eq!(at(NOW - SKEW_ALLOWANCE_MS - 1), Err(Refusal::FromTheFuture));
    assert_eq!(at(0), Err(Refusal::FromTheFuture));
}

proptest! {
    #[test]
    fn no_clock_serves_an_entry_outside_its_life(
        created in any::<u64>(), fresh_for in any::<u64>(), stale_until in any::<u64>(), expires in 1..=u64::MAX,
        now in any::<u64>(),
    ) {
        let times = Times {
            created_ms: created, fresh_for_ms: fresh_for, stale_until_ms: stale_until, expires_ms: expires,
        };
        let served = matches!(times.freshness(now), Freshness::Fresh | Freshness::Stale | Freshness::StaleIfError);
        let lives = now < expires.max(created) && now.saturating_add(SKEW_ALLOWANCE_MS) >= created;
        if served {
            prop_assert!(lives || now < created && created - now <= SKEW_ALLOWANCE_MS);
        } else {
            prop_assert!(!lives || expires <= created);
        }
    }
}

#[test]
fn a_touched_entry_lives_longer_and_stays_whole() {
    for compression in COMPRESSIONS {
        let codec = codec(compression);
        let tagged = NewEntry { tags: &[Tag { name: b"team", epoch: 9 }], ..entry() };
        let stored = codec.encode(&tagged, &"v".repeat(500)).unwrap();
        let later =
            codec.retime(&stored, KEY, NOW + 30_000, |times| Times { expires_ms: NOW + 600_000, ..times }).unwrap();
        let opened = codec.open(&later, KEY, NOW + 599_999).unwrap();
        assert_eq!(opened.decode::<String>().unwrap(), "v".repeat(500));
        assert_eq!(opened.meta().times, Times { expires_ms: NOW + 600_000, ..meta().times });
        assert_eq!(opened.envelope().tags().next().map(|tag| tag.epoch), Some(9));
    }
}

#[test]
fn a_touch_neither_blesses_damage_nor_wakes_the_dead() {
    let codec = Codec::default();
    let stored = codec.encode(&entry(), &1).unwrap();
    let touch =
        |stored: &Bytes, key, now| codec.retime(stored, key, now, |times| Times { expires_ms: NOW + 600_000, ..times });
    let mut damaged = stored.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let refused = |result| match result {
        Err(RetimeError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(touch(&damaged.into(), KEY, NOW)), Refusal::Corrupt);
    assert_eq!(refused(touch(&stored, b"ck:users:43", NOW)), Refusal::WrongKey);
    assert_eq!(refused(touch(&stored, KEY, NOW + 60_000)), Refusal::Expired);
    let backwards = codec.retime(&stored, KEY, NOW, |times| Times { expires_ms: 1, ..times });
    assert!(matches!(backwards, Err(RetimeError::Encode(EncodeError::Times))));
}

#[test]
fn inspection_names_the_key_and_the_damage() {
    let codec = Codec::default();
    let stored = codec.encode(&entry(), &1).unwrap();
    let seen = codec.inspect(&stored, NOW + 70_000).unwrap();
    assert_eq!((seen.verdict, seen.freshness), (Ok(()), Freshness::Expired));
    assert_eq!(seen.envelope.wire_key(), KEY);
    let mut damaged = stored.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let seen = codec.inspect(&damaged.into(), NOW).unwrap();
    assert_eq!(seen.verdict, Err(Refusal::Corrupt));
    assert_eq!(seen.envelope.meta(), &meta());
    assert_eq!(codec.inspect(&Bytes::from_static(b"\x93\x01"), NOW).unwrap_err(), Refusal::Foreign);
}

#[test]
fn neither_key_nor_value_shows_in_debug_output() {
    let secret = NewEntry { wire_key: b"canary-key", ..entry() };
    let codec = Codec::default();
    let stored = codec.encode(&secret, "canary-value").unwrap();
    let opened = codec.open(&stored, b"canary-key", NOW).unwrap();
    let inspected = codec.inspect(&stored, NOW).unwrap();
    let shown = format!("{opened:?} {inspected:?} {:?}", opened.decode::<u32>());
    assert!(shown.contains("payload_len") && !shown.contains("canary"), "{shown}");
}

#[test]
fn every_refusal_has_a_class_of_its_own_in_the_list() {
    let all = [
        Refusal::Foreign,
        Refusal::Truncated,
        Refusal::Version,
        Refusal::Corrupt,
        Refusal::WrongKey,
        Refusal::TooLarge,
        Refusal::Sealed,
        Refusal::Tampered,
        Refusal::Plaintext,
        Refusal::Dictionary,
        Refusal::Decode(DecodeFault::Shape),
        Refusal::Expired,
        Refusal::FromTheFuture,
    ];
    assert_eq!(all.map(Refusal::class), Refusal::CLASSES);
}
