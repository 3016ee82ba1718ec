//! Bytes of an enemy: nothing panics, and no declared size is believed before it is backed.

use proptest::prelude::*;

use crate::interop::unpack::{Reader, Token, walk};
use crate::interop::{
    Argument, Frame, InteropValue, InvalidationEvent, MAX_DEPTH, Malformed, StandardFormat, canonical_arguments,
    canonical_value, look_at_arrow, look_at_auto, look_at_orjson, read_envelope, read_standard, read_value, typed_json,
    write_envelope, write_standard,
};

fn any_value() -> impl Strategy<Value = InteropValue> {
    let leaf = prop_oneof![
        Just(InteropValue::Nil),
        any::<bool>().prop_map(InteropValue::Bool),
        (i128::from(i64::MIN)..=i128::from(u64::MAX)).prop_map(InteropValue::Int),
        prop::num::f64::NORMAL.prop_map(InteropValue::Float),
        ".{0,40}".prop_map(InteropValue::Str),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(InteropValue::Bytes),
        (-62_135_596_800_000_000_i64..253_402_300_800_000_000)
            .prop_map(|micros| InteropValue::DateTime(crate::interop::DateTime::from_unix_micros(micros).unwrap())),
    ];
    leaf.prop_recursive(5, 60, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(InteropValue::Array),
            prop::collection::btree_map("[a-z]{0,3}", inner, 0..20).prop_map(|entries| {
                InteropValue::Map(entries.into_iter().map(|(key, value)| (InteropValue::Str(key), value)).collect())
            }),
        ]
    })
}

fn any_argument() -> impl Strategy<Value = Argument> {
    let leaf = prop_oneof![
        Just(Argument::Nil),
        any::<bool>().prop_map(Argument::Bool),
        any::<i64>().prop_map(Argument::from),
        prop::num::f64::NORMAL.prop_map(Argument::Float),
        ".{0,20}".prop_map(Argument::Str),
        any::<[u8; 16]>().prop_map(Argument::Uuid),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Argument::Array),
            prop::collection::vec(inner.clone(), 0..8).prop_map(Argument::Set),
            prop::collection::btree_map("[a-z]{0,3}", inner, 0..8).prop_map(|entries| {
                Argument::Map(entries.into_iter().map(|(key, value)| (Argument::Str(key), value)).collect())
            }),
        ]
    })
}

/// The order in which an argument is given: that of maps and sets means nothing.
fn turned(argument: &Argument) -> Argument {
    match argument {
        Argument::Array(items) => Argument::Array(items.iter().map(turned).collect()),
        Argument::Set(items) => Argument::Set(items.iter().rev().chain(items.first()).map(turned).collect()),
        Argument::Map(entries) => {
            Argument::Map(entries.iter().rev().map(|(key, value)| (key.clone(), turned(value))).collect())
        }
        other => other.clone(),
    }
}

/// Every reader on the same bytes.
fn read_with_everything(bytes: &[u8]) {
    let _ = (read_value(bytes), read_standard(bytes), walk(bytes, MAX_DEPTH), InvalidationEvent::decode(bytes));
    let _ = (read_envelope(bytes, 1 << 20), look_at_orjson(bytes), look_at_arrow(bytes));
    let format = StandardFormat { integrity: true, secure: None, max_payload: 1 << 20 };
    let _ = (format.read("k", bytes), StandardFormat { integrity: false, ..format }.read("k", bytes));
    if let Ok(frame) = Frame::parse(bytes) {
        let _ = look_at_auto(&frame.header, &frame.payload, 1 << 20);
    }
}

proptest! {
    #[test]
    fn any_value_survives_and_its_bytes_are_stable(value in any_value()) {
        let document = canonical_value(&value).unwrap();
        let back = read_value(&document).unwrap();
        prop_assert_eq!(&back, &value);
        prop_assert_eq!(canonical_value(&back).unwrap(), document);
        prop_assert_eq!(&read_standard(&write_standard(&value).unwrap()).unwrap(), &value);
        let typed = typed_json::from_value(&value);
        prop_assert_eq!(typed_json::to_value(&typed).unwrap(), value);
    }

    #[test]
    fn the_order_of_maps_and_sets_changes_no_key(argument in any_argument()) {
        let canonical = canonical_arguments(std::slice::from_ref(&argument)).unwrap();
        prop_assert_eq!(&canonical_arguments(&[turned(&argument)]).unwrap(), &canonical);
        prop_assert!(walk(&canonical, MAX_DEPTH).unwrap().is_empty());
    }

    #[test]
    fn any_payload_survives_its_envelope(payload in prop::collection::vec(any::<u8>(), 0..5000)) {
        let envelope = write_envelope(&payload, "msgpack").unwrap();
        prop_assert_eq!(read_envelope(&envelope, 5000).unwrap().payload, payload);
    }

    #[test]
    fn no_bytes_panic_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_with_everything(&bytes);
        read_with_everything(&[&b"CK\x03\0\0\0\x0c{\"s\":\"auto\"}"[..], &bytes].concat());
    }

    #[test]
    fn a_mutated_entry_panics_no_reader(value in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let format = StandardFormat { integrity: true, secure: None, max_payload: 1 << 20 };
        for mut entry in [canonical_value(&value).unwrap(), format.write("k", &value).unwrap(),
                          write_envelope(&write_standard(&value).unwrap(), "msgpack").unwrap()] {
            let at = at.index(entry.len());
            entry[at] = byte;
            read_with_everything(&entry);
            read_with_everything(&entry[..at]);
        }
    }

    /// The counting check: what containers announce, all told, is at most what the input holds. A reader that reserves by
    /// announced counts therefore reserves no more than that.
    #[test]
    fn what_is_announced_is_backed(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut reader = Reader::new(&bytes);
        let mut announced = 0_usize;
        while let Ok(token) = reader.next() {
            announced += match token {
                Token::Array(len) => len,
                Token::Map(len) => 2 * len,
                _ => 0,
            };
            prop_assert!(announced <= bytes.len());
        }
    }
}

#[test]
fn counts_that_lie_are_refused_at_every_level() {
    let mut nested = Vec::new();
    for _ in 0..20 {
        nested.extend_from_slice(&[0xdc, 0, 50]);
    }
    // Each level could be backed by what is left, all of them together could not.
    nested.resize(120, 0xc0);
    for lie in [
        &nested[..],
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ] {
        assert_eq!(read_value(lie).unwrap_err(), Malformed::Truncated);
    }
}

/// One byte of input per level, a thousand levels: neither a reader's stack nor that of dropping the value ends.
#[test]
fn the_deepest_document_is_read_written_and_dropped() {
    let document = [vec![0x91; MAX_DEPTH], vec![0xc0]].concat();
    let value = read_value(&document).unwrap();
    assert_eq!(canonical_value(&value).unwrap(), document);
    assert_eq!(value.clone(), value);
    let deeper = [vec![0x91; MAX_DEPTH + 1], vec![0xc0]].concat();
    assert_eq!(read_value(&deeper).unwrap_err(), Malformed::Depth);
    assert_eq!(read_value(&[0x91; 1_000_000]).unwrap_err(), Malformed::Depth);
    // Nor may many small values take many times their bytes: no room is set aside for them.
    let nils = |count: u32| [&[0xdd][..], &count.to_be_bytes(), &vec![0xc0; count as usize]].concat();
    assert!(read_value(&nils(2 << 20)).is_ok());
    assert_eq!(read_value(&nils((2 << 20) + 1)).unwrap_err(), Malformed::Values);
}

#[test]
fn a_bomb_is_refused_before_it_is_lit() {
    // 600 000 bytes that claim to become 512 MiB, and 100 that claim a hundred thousand and one.
    let bomb = |block: usize, size: u32| {
        let len = (block as u32).to_be_bytes();
        let tail = [&[0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0xce][..], &size.to_be_bytes(), b"\xa0"].concat();
        [&b"\x94\xc6"[..], &len, &vec![0; block], &tail].concat()
    };
    for (envelope, max) in [(bomb(600_000, 512 << 20), 1 << 20), (bomb(100, 100_001), 1 << 20)] {
        assert!(read_envelope(&envelope, max).is_err());
    }
}
