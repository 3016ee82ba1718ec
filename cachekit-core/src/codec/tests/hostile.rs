//! Damaged, moved and malicious bytes: never a value, never a panic, never an allocation the bytes did not pay for.

use serde::de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor};

use super::super::{depth, envelope};
use super::*;

fn refusal(stored: impl Into<Bytes>) -> Option<Refusal> {
    Codec::default().open(&stored.into(), KEY, NOW).err()
}

/// `stored` with a change, and the checksum made right again: what a writer who means harm can do.
fn forge(stored: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut forged = stored.to_vec();
    change(&mut forged);
    envelope::set_checksum(&mut forged);
    Bytes::from(forged)
}

fn set_payload_len(entry: &mut [u8], len: u64) {
    entry[72..80].copy_from_slice(&len.to_le_bytes());
}

fn samples() -> Vec<Bytes> {
    let tags = [Tag { name: b"team:7", epoch: 3 }, Tag { name: b"", epoch: u64::MAX }];
    let tagged = NewEntry { tags: &tags, ..entry() };
    let zeros = NewEntry { meta: Meta::default(), ..entry() };
    let text = "the same words again and again; ".repeat(40);
    let mut samples = Vec::new();
    for compression in COMPRESSIONS {
        let codec = codec(compression);
        samples.push(codec.encode(&tagged, &text).unwrap());
        samples.push(codec.encode(&zeros, &(1, "two")).unwrap());
        samples.push(codec.encode_bytes(&entry(), b"").unwrap());
        samples.push(codec.encode_bytes(&entry(), &noise(700)).unwrap());
        samples.push(Codec { serializer: Serializer::Json, ..codec }.encode(&tagged, &text).unwrap());
    }
    samples
}

#[test]
fn every_altered_byte_is_refused() {
    for stored in samples() {
        assert_eq!(refusal(stored.clone()), None);
        let mut altered = stored.to_vec();
        for position in 0..stored.len() {
            // All 255 wrong values in the header, the bits one by one behind it.
            let flips: &[u8] = if position < HEADER_LEN { &ALL } else { &[1, 2, 4, 8, 16, 32, 64, 128, 255] };
            for flip in flips {
                altered[position] ^= flip;
                assert!(refusal(altered.clone()).is_some(), "byte {position} ^ {flip:#x}");
                altered[position] ^= flip;
            }
        }
    }
}

const ALL: [u8; 255] = {
    let mut all = [0; 255];
    let mut index = 0;
    while index < 255 {
        all[index] = index as u8 + 1;
        index += 1;
    }
    all
};

#[test]
fn bytes_of_a_large_payload_altered_anywhere_are_refused() {
    for compression in COMPRESSIONS {
        let text: String = (0..20_000u32).map(|n| format!("{:x} ", n.wrapping_mul(2_654_435_761))).collect();
        let stored = codec(compression).encode(&entry(), &text).unwrap();
        let mut altered = stored.to_vec();
        for step in 0..1_000 {
            let position = HEADER_LEN + step * (stored.len() - HEADER_LEN) / 1_000;
            altered[position] ^= 1 << (step % 8);
            assert_eq!(refusal(altered.clone()), Some(Refusal::Corrupt), "byte {position}");
            altered[position] ^= 1 << (step % 8);
        }
    }
}

#[test]
fn it_is_the_checksum_that_refuses_alterations() {
    // The control: the same flips with the checksum made right are accepted wherever no other check looks.
    let stored = codec(Compression::None).encode_bytes(&entry(), &noise(700)).unwrap();
    for position in [24, 32, 56, 64, 88 + KEY.len(), stored.len() - 1] {
        let mut altered = stored.to_vec();
        altered[position] ^= 1;
        assert_eq!(refusal(altered), Some(Refusal::Corrupt), "byte {position}");
        assert_eq!(refusal(forge(&stored, |entry| entry[position] ^= 1)), None, "byte {position}");
    }
}

#[test]
fn a_right_checksum_does_not_excuse_what_has_but_one_right_value() {
    let stored = codec(Compression::None).encode(&entry(), &1).unwrap();
    let forged = |position: usize| refusal(forge(&stored, |entry| entry[position] ^= 0x10));
    assert_eq!([0, 1, 2, 3].map(forged), [Some(Refusal::Foreign); 4]);
    assert_eq!(forged(4), Some(Refusal::Version));
    assert_eq!([5, 6, 7, 86, 87].map(forged), [Some(Refusal::Corrupt); 5]);
    assert_eq!([16, 17, 18].map(forged), [Some(Refusal::Version); 3]);
    // A dictionary beside a compressor that has none; with zstd it would be one that is not at hand.
    assert_eq!([20, 21, 22, 23].map(forged), [Some(Refusal::Corrupt); 4]);
    assert_eq!(forged(HEADER_LEN), Some(Refusal::WrongKey));
    let sealed = forge(&stored, |entry| {
        entry[19] = 1;
        entry.extend_from_slice(&[0; 28]);
    });
    let mut sealed = sealed.to_vec();
    assert_eq!(refusal(sealed.clone()), Some(Refusal::Sealed));
    sealed[19] = 2;
    assert_eq!(refusal(sealed.clone()), Some(Refusal::Sealed));
    assert_eq!(Envelope::parse(&sealed.clone().into()).err(), Some(Refusal::Sealed));
    sealed.truncate(HEADER_LEN + KEY.len() + 27);
    assert_eq!(refusal(sealed), Some(Refusal::Truncated));
    let backwards = forge(&stored, |entry| entry[48..56].copy_from_slice(&1u64.to_le_bytes()));
    assert_eq!(refusal(backwards), Some(Refusal::Corrupt));
    let keyless = forge(&stored, |entry| {
        entry.drain(HEADER_LEN..HEADER_LEN + KEY.len());
        entry[80..84].fill(0);
    });
    assert_eq!(Codec::default().open(&keyless, b"", NOW).unwrap_err(), Refusal::Corrupt);
}

#[test]
fn every_cut_and_every_extension_is_refused() {
    for stored in samples() {
        for len in 0..stored.len() {
            assert!(refusal(stored.slice(..len)).is_some(), "cut to {len}");
        }
        for extra in [&[0u8][..], &[0xff], &stored] {
            assert_eq!(refusal([&stored[..], extra].concat()), Some(Refusal::Corrupt));
        }
    }
    let stored = codec(Compression::None).encode_bytes(&entry(), &noise(700)).unwrap();
    for len in MAGIC.len()..stored.len() {
        assert_eq!(refusal(stored.slice(..len)), Some(Refusal::Truncated));
    }
}

#[test]
fn a_torn_entry_is_refused() {
    // The front of one version and the back of another, and a back never written.
    let text = |word: &str| codec(Compression::None).encode(&entry(), &word.repeat(1000)).unwrap();
    let (old, new) = (text("aaaa"), text("bbbb"));
    assert_eq!(old.len(), new.len());
    for cut in (1..old.len()).step_by(97) {
        let torn = [&new[..cut], &old[cut..]].concat();
        let whole = torn == old || torn == new;
        assert_eq!(refusal(torn), if whole { None } else { Some(Refusal::Corrupt) }, "torn at {cut}");
        let unwritten = [&new[..cut], &vec![0; new.len() - cut]].concat();
        assert!(refusal(unwritten).is_some(), "unwritten from {cut}");
    }
}

#[test]
fn entries_swapped_between_keys_are_refused() {
    let codec = Codec::default();
    let other = NewEntry { wire_key: b"ck:users:43", ..entry() };
    let [mine, others] = [entry(), other].map(|entry| codec.encode(&entry, &1).unwrap());
    assert_eq!(codec.open(&others, KEY, NOW).unwrap_err(), Refusal::WrongKey);
    assert_eq!(codec.open(&mine, b"ck:users:43", NOW).unwrap_err(), Refusal::WrongKey);
    // A prefix of the key, and a key that would swallow the payload's first bytes.
    assert_eq!(codec.open(&mine, &KEY[..KEY.len() - 1], NOW).unwrap_err(), Refusal::WrongKey);
    assert_eq!(codec.open(&mine, &mine[HEADER_LEN..], NOW).unwrap_err(), Refusal::WrongKey);
    assert_eq!(codec.open(&mine, b"", NOW).unwrap_err(), Refusal::WrongKey);
}

#[test]
fn lengths_beyond_the_bytes_are_refused() {
    let stored = codec(Compression::None).encode(&entry(), &1).unwrap();
    let forged =
        |at: usize, bytes: &[u8]| refusal(forge(&stored, |entry| entry[at..at + bytes.len()].copy_from_slice(bytes)));
    assert_eq!(forged(80, &u32::MAX.to_le_bytes()), Some(Refusal::Truncated));
    assert_eq!(forged(80, &(stored.len() as u32).to_le_bytes()), Some(Refusal::Truncated));
    assert_eq!(forged(84, &u16::MAX.to_le_bytes()), Some(Refusal::Truncated));
    assert_eq!(forged(72, &u64::MAX.to_le_bytes()), Some(Refusal::Truncated));
    assert_eq!(forged(72, &0u64.to_le_bytes()), Some(Refusal::Corrupt));
    let ten_bytes_of_tags = forge(&stored, |entry| {
        entry[84..86].copy_from_slice(&u16::MAX.to_le_bytes());
        entry.truncate(HEADER_LEN + KEY.len());
        entry.extend_from_slice(&[0; 10]);
    });
    assert_eq!(refusal(ten_bytes_of_tags), Some(Refusal::Truncated));
}

fn expand(compressor: Compressor, stored: &[u8], declared: u64) -> (Result<(), Refusal>, usize) {
    let mut out = Vec::new();
    let result = compressor.expand(None, stored, declared, &mut out);
    (result, out.capacity())
}

#[test]
fn a_value_declared_larger_than_the_limit_is_refused_before_it_is_expanded() {
    for compression in [ZSTD, LZ4] {
        let stored = codec(compression).encode_bytes(&entry(), &[0; 10_000]).unwrap();
        for len in [DEFAULT_MAX_VALUE + 1, 10 << 30, u64::MAX] {
            assert_eq!(refusal(forge(&stored, |entry| set_payload_len(entry, len))), Some(Refusal::TooLarge));
        }
        let small = Codec { max_value: 9_999, ..Codec::default() };
        assert_eq!(small.open(&stored, KEY, NOW).unwrap_err(), Refusal::TooLarge);
    }
}

#[test]
fn bombs_are_refused_before_anything_is_allocated() {
    let zeros = vec![0; 64 << 20];
    let bomb = zstd::bulk::compress(&zeros, 3).unwrap();
    assert!(bomb.len() < 10 << 10);
    assert_eq!(expand(Compressor::Zstd, &bomb, 64 << 20), (Err(Refusal::TooLarge), 0));
    // Declared small, to pass the ratio: the frame says otherwise.
    assert_eq!(expand(Compressor::Zstd, &bomb, 1 << 20), (Err(Refusal::Corrupt), 0));
    let stored = forge(&codec(Compression::None).encode_bytes(&entry(), &bomb).unwrap(), |entry| {
        entry[18] = Compressor::Zstd.id();
        set_payload_len(entry, 64 << 20);
    });
    let opened = Codec::default().open(&stored, KEY, NOW).unwrap();
    assert_eq!(opened.payload(), Err(Refusal::TooLarge));
    assert_eq!(opened.decode::<IgnoredAny>().err(), Some(Refusal::TooLarge));
    // LZ4 cannot expand beyond 255:1, so whoever declares more lies.
    let bomb = lz4_flex::block::compress(&zeros);
    assert_eq!(expand(Compressor::Lz4, &bomb[..bomb.len() / 2], 64 << 20), (Err(Refusal::TooLarge), 0));
    assert_eq!(expand(Compressor::Lz4, &bomb[..10], 10 << 30), (Err(Refusal::TooLarge), 0));
    assert_eq!(expand(Compressor::Lz4, b"", 65), (Err(Refusal::TooLarge), 0));
}

#[test]
fn expansion_ends_at_the_declared_length() {
    let zeros = vec![0; 100_000];
    let zstd = zstd::bulk::compress(&zeros, 3).unwrap();
    let lz4 = lz4_flex::block::compress(&zeros);
    for (compressor, stored) in [(Compressor::Zstd, &zstd), (Compressor::Lz4, &lz4)] {
        assert_eq!(expand(compressor, stored, 100_000), (Ok(()), 100_000));
        for declared in [0, 1, 99_999, 100_001] {
            let (result, capacity) = expand(compressor, stored, declared);
            assert_eq!(result, Err(Refusal::Corrupt), "{compressor:?} {declared}");
            assert!(capacity <= 100_001);
        }
        for cut in [0, 1, stored.len() / 2, stored.len() - 1] {
            assert!(expand(compressor, &stored[..cut], 100_000).0.is_err(), "{compressor:?} {cut}");
        }
    }
    // A second frame behind an honest first one.
    let two = [&zstd[..], &zstd[..]].concat();
    assert_eq!(expand(Compressor::Zstd, &two, 100_000).0, Err(Refusal::Corrupt));
    let mut roomy = Vec::with_capacity(1 << 20);
    assert_eq!(Compressor::Zstd.expand(None, &two, 100_000, &mut roomy), Err(Refusal::Corrupt));
    // A frame that records no size could only be tried.
    let mut sizeless = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    std::io::Write::write_all(&mut sizeless, &zeros).unwrap();
    assert_eq!(expand(Compressor::Zstd, &sizeless.finish().unwrap(), 100_000), (Err(Refusal::Corrupt), 0));
}

fn stored_payload(serializer: Serializer, payload: &[u8]) -> Opened {
    let stored = codec(Compression::None).encode_bytes(&entry(), payload).unwrap();
    let stored = forge(&stored, |entry| entry[17] = serializer.id());
    Codec::default().open(&stored, KEY, NOW).unwrap()
}

fn decode<T: DeserializeOwned>(serializer: Serializer, payload: &[u8]) -> Result<T, Refusal> {
    stored_payload(serializer, payload).decode()
}

#[derive(Debug, Serialize, Deserialize)]
enum Chain {
    End,
    Next(Box<Chain>),
}

const DEEP: Refusal = Refusal::Decode(DecodeFault::Depth);

#[test]
fn a_million_nested_containers_do_not_exhaust_the_stack() {
    for open in [&[0x91u8][..], &[0x81, 0xc0], &[0xdc, 0, 1], &[0xdf, 0, 0, 0, 1, 0xc0]] {
        let nested = [&open.repeat(1_000_000)[..], &[0xc0]].concat();
        assert_eq!(decode::<serde_json::Value>(Serializer::MessagePack, &nested).unwrap_err(), DEEP);
        assert_eq!(decode::<IgnoredAny>(Serializer::MessagePack, &nested).unwrap_err(), DEEP);
    }
    let chain = [&b"\x81\xa4Next".repeat(1_000_000)[..], b"\xa3End"].concat();
    assert_eq!(decode::<Chain>(Serializer::MessagePack, &chain).unwrap_err(), DEEP);

    let nested = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    assert_eq!(decode::<serde_json::Value>(Serializer::Json, nested.as_bytes()).unwrap_err(), DEEP);
    let chain = "{\"Next\":".repeat(1_000_000) + "\"End\"" + &"}".repeat(1_000_000);
    assert_eq!(decode::<Chain>(Serializer::Json, chain.as_bytes()).unwrap_err(), DEEP);
}

#[test]
fn the_deserializer_alone_would_follow_enums_to_any_depth() {
    // The control for the test above: 20 times its limit of 1024, which it does not count for enums.
    let nested = [&b"\x81\xa4Next".repeat(20_000)[..], b"\xa3End"].concat();
    let followed = std::thread::Builder::new()
        .stack_size(1 << 30)
        .spawn(move || {
            let chain: Chain = rmp_serde::from_slice(&nested).unwrap();
            let mut links = 0;
            let mut link = &chain;
            while let Chain::Next(next) = link {
                links += 1;
                link = next;
            }
            links
        })
        .unwrap();
    assert_eq!(followed.join().unwrap(), 20_000);
}

#[test]
fn nesting_is_read_up_to_the_limit_and_refused_beyond_it() {
    let nested = |levels: usize| (0..levels).fold(Chain::End, |inner, _| Chain::Next(Box::new(inner)));
    for serializer in [Serializer::MessagePack, Serializer::Json] {
        for compression in COMPRESSIONS {
            let codec = Codec { serializer, compression, ..Codec::default() };
            let read = |levels| {
                let stored = codec.encode(&entry(), &nested(levels)).unwrap();
                codec.open(&stored, KEY, NOW).unwrap().decode::<Chain>().err()
            };
            assert_eq!(read(MAX_DEPTH), None);
            assert_eq!(read(MAX_DEPTH + 1), Some(DEEP));
        }
    }
}

#[test]
fn a_type_is_never_told_to_expect_more_than_the_bytes_hold() {
    #[derive(Debug)]
    struct Trusting;
    impl<'de> Deserialize<'de> for Trusting {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Reserve;
            impl<'de> Visitor<'de> for Reserve {
                type Value = Trusting;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Trusting, A::Error> {
                    assert!(seq.size_hint().unwrap_or(0) <= 16, "a trusting type would have allocated");
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    Ok(Trusting)
                }
            }
            deserializer.deserialize_seq(Reserve)
        }
    }
    let shape = Refusal::Decode(DecodeFault::Shape);
    for lie in [&b"\xdd\xff\xff\xff\xff"[..], b"\xdc\xff\xff\x01\x02\x03", b"\xdd\x7f\xff\xff\xff\x01"] {
        assert_eq!(decode::<Trusting>(Serializer::MessagePack, lie).unwrap_err(), shape);
    }
    for lie in [&b"\xdb\xff\xff\xff\xff"[..], b"\xc6\xff\xff\xff\xffabc", b"\xc9\xff\xff\xff\xff\x01"] {
        assert_eq!(decode::<String>(Serializer::MessagePack, lie).unwrap_err(), shape);
        assert_eq!(decode::<IgnoredAny>(Serializer::MessagePack, lie).unwrap_err(), shape);
    }
}

#[test]
fn bytes_after_the_value_are_refused() {
    let trailing = Refusal::Decode(DecodeFault::Trailing);
    for (serializer, value) in [(Serializer::MessagePack, &b"\x93\x01\x02\x03"[..]), (Serializer::Json, b"[1,2,3]")] {
        assert_eq!(decode::<Vec<u8>>(serializer, value), Ok(vec![1, 2, 3]));
        // A whole second value, half of one, and a byte MessagePack never uses.
        for extra in [value, &value[..1], b"\xc1", b"\0"] {
            let longer = [value, extra].concat();
            assert_eq!(decode::<Vec<u8>>(serializer, &longer), Err(trailing), "{longer:02x?}");
        }
        assert_eq!(decode::<Vec<u8>>(serializer, b""), Err(Refusal::Decode(DecodeFault::Shape)));
        assert_eq!(decode::<Vec<u8>>(serializer, &value[..3]), Err(Refusal::Decode(DecodeFault::Shape)));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ours in 0..=8usize,
    ) {
        // Often with the right beginning, else nothing behind it would be reached.
        let mut bytes = bytes;
        let beginning = [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], VERSION, 0, 0, 0];
        let ours = ours.min(bytes.len());
        bytes[..ours].copy_from_slice(&beginning[..ours]);
        prop_assert!(refusal(bytes.clone()).is_some());
        let _ = Codec::default().inspect(&bytes.into(), NOW);
    }

    #[test]
    fn altered_entries_with_a_right_checksum_never_panic_and_keep_to_their_key(
        sample in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let samples = samples();
        let stored = forge(sample.get::<Bytes>(&samples), |entry| {
            for (position, value) in changes {
                let position = position.index(entry.len());
                entry[position] = value;
            }
            if let Some(cut) = cut {
                entry.truncate(HEADER_LEN.max(cut.index(entry.len())));
            }
        });
        let _ = Codec::default().inspect(&stored, NOW);
        if let Ok(opened) = Codec::default().open(&stored, KEY, NOW) {
            prop_assert_eq!(opened.envelope().wire_key(), KEY);
            if let Ok(payload) = opened.payload() {
                prop_assert_eq!(payload.len() as u64, opened.envelope().payload_len());
            }
            let _ = (opened.decode::<String>(), opened.decode::<Document>(), opened.bytes());
        }
    }

    #[test]
    fn arbitrary_payloads_are_decoded_or_refused_without_a_panic(
        payload in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        for serializer in [Serializer::MessagePack, Serializer::Json] {
            let opened = stored_payload(serializer, &payload);
            let _ = (opened.decode::<Document>(), opened.decode::<Chain>(), opened.decode::<serde_json::Value>());
        }
    }

    #[test]
    fn what_is_written_always_passes_the_look_at_its_depth(value in document()) {
        let bytes = rmp_serde::to_vec_named(&value).unwrap();
        prop_assert_eq!(depth::check_messagepack(&bytes), Ok(()));
    }

    #[test]
    fn arbitrary_streams_expand_to_the_declared_length_or_are_refused(
        stored in proptest::collection::vec(any::<u8>(), 0..200), declared in 0..5_000u64,
    ) {
        for compressor in [Compressor::Zstd, Compressor::Lz4] {
            let mut out = Vec::new();
            if compressor.expand(None, &stored, declared, &mut out).is_ok() {
                prop_assert_eq!(out.len() as u64, declared);
            }
        }
    }
}
