//! Values of Rust types: what cachekit-rs stores, and the traps that its bytes hide.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::interop::{
    DateTime, InteropError, InteropValue, MAX_TYPED_DEPTH, Malformed, hex, read_typed, read_value, write_typed,
};

const LIMIT: u64 = 1 << 20;

fn write<T: Serialize>(value: &T) -> Vec<u8> {
    write_typed(value, LIMIT).unwrap()
}

fn refused<T: Serialize>(value: &T) -> bool {
    matches!(write_typed(value, LIMIT), Err(InteropError::Value { .. }))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u8,
    score: f64,
    ratio: f32,
    tags: Vec<String>,
    note: Option<String>,
    role: Role,
    pair: (i64, bool),
    #[serde(with = "serde_bytes")]
    blob: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Role {
    Admin,
    Of(String),
    Many(u8, u8),
    Named { since: i32 },
}

fn user(role: Role) -> User {
    User {
        name: "Ada".into(),
        age: 36,
        score: 2.0,
        ratio: 0.5,
        tags: vec!["a".into(), "b".into()],
        note: None,
        role,
        pair: (-70_000, true),
        blob: vec![0, 255],
    }
}

#[test]
fn a_struct_is_stored_as_cachekit_rs_stores_it() {
    for role in [Role::Admin, Role::Of("x".into()), Role::Many(1, 200), Role::Named { since: -1 }] {
        let user = user(role);
        let ours = write(&user);
        assert_eq!(hex(&ours), hex(&rmp_serde::to_vec_named(&user).unwrap()));
        assert_eq!(read_typed::<User>(&ours).unwrap(), user);
        assert_eq!(rmp_serde::from_slice::<User>(&ours).unwrap(), user);
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Only(Box<Tree>),
    Pair(Box<Tree>, u8),
    Named { below: Box<Tree> },
}

#[test]
fn what_is_nested_too_deeply_to_be_read_is_not_written() {
    type Around = fn(Box<Tree>) -> Tree;
    let kinds: [(Around, usize); 3] = [
        // A map around the next one.
        (Tree::Only, 1),
        // A map, and a list or a map inside.
        (|below| Tree::Pair(below, 1), 2),
        (|below| Tree::Named { below }, 2),
    ];
    for (around, levels) in kinds {
        let nested = |depth| (0..depth).fold(Tree::Leaf, |below, _| around(Box::new(below)));
        let deepest = MAX_TYPED_DEPTH / levels;
        let tree = nested(deepest);
        assert_eq!(read_typed::<Tree>(&write(&tree)).unwrap(), tree);
        assert!(refused(&nested(deepest + 1)));
        let wide: Vec<Tree> = (0..200).map(|_| nested(1)).collect();
        assert_eq!(read_typed::<Vec<Tree>>(&write(&wide)).unwrap(), wide, "what is beside it is not below it");
    }
}

#[test]
fn large_integers_are_integers_or_refused() {
    // rmp-serde makes 16 bytes of it.
    assert_eq!(write(&42_u128), [42]);
    assert_eq!(write(&i128::from(i64::MIN)), write(&i64::MIN));
    assert!(refused(&u128::MAX) && refused(&i128::MIN) && refused(&(1_u128 << 64)));
    assert_eq!(read_typed::<u128>(&[42]).unwrap(), 42);
    assert_eq!(read_typed::<i128>(&[0xff]).unwrap(), -1);
    // rmp-serde reads 2^128 - 1 here.
    assert!(read_typed::<u128>(&[0xff]).is_err());
    assert!(read_typed::<u8>(&write(&256)).is_err());
}

#[test]
fn whole_numbers_of_python_fill_a_float_and_floats_fill_no_integer() {
    assert_eq!(read_typed::<f64>(&write(&2)).unwrap(), 2.0);
    assert!(read_typed::<i64>(&write(&2.0)).is_err());
    assert!(refused(&f64::NAN) && refused(&f32::INFINITY) && refused(&Some(vec![f64::NEG_INFINITY])));
}

#[test]
fn keys_of_maps_are_text() {
    assert!(refused(&BTreeMap::from([(1, 1)])));
    assert!(refused(&HashMap::from([(true, 1)])));
    assert!(refused(&BTreeMap::from([(vec![1], 1)])));
    let chars = BTreeMap::from([('a', 1), ('b', 2)]);
    assert_eq!(read_typed::<BTreeMap<char, i32>>(&write(&chars)).unwrap(), chars);
    // Python may have written others.
    assert_eq!(read_typed::<BTreeMap<u8, u8>>(&[0x81, 1, 2]).unwrap(), BTreeMap::from([(1, 2)]));
}

#[test]
fn dates_are_the_familys_own() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Event {
        at: DateTime,
    }
    let event = Event { at: "2024-01-15T12:30:00.000005+02:00".parse().unwrap() };
    let document = write(&event);
    assert_eq!(read_typed::<Event>(&document).unwrap(), event);
    let as_python_sees_it = read_value(&document).unwrap();
    assert_eq!(as_python_sees_it.get("at"), Some(&InteropValue::DateTime(event.at)));
}

#[test]
fn a_map_that_readers_would_take_for_a_broken_date_is_refused() {
    #[derive(Serialize)]
    struct Forged {
        __date__: bool,
        value: &'static str,
    }
    assert!(refused(&Forged { __date__: true, value: "soon" }));
    assert!(!refused(&Forged { __date__: false, value: "soon" }));
    assert!(!refused(&Forged { __date__: true, value: "2024-01-15" }));
}

#[test]
fn bytes_of_python_fill_a_plain_vector() {
    assert_eq!(read_typed::<Vec<u8>>(&[0xc4, 2, 0, 255]).unwrap(), [0, 255]);
    assert_eq!(read_typed::<Vec<u8>>(&[0x92, 1, 2]).unwrap(), [1, 2]);
}

#[test]
fn a_document_is_read_whole_or_not_at_all() {
    for (document, why) in [
        (&b"\x01\x01"[..], Malformed::Trailing),
        (b"", Malformed::Truncated),
        (b"CK\x03", Malformed::FramePrefix),
        (b"\xa1x", Malformed::Type),
        (b"\xdd\xff\xff\xff\xff", Malformed::Truncated),
        (b"\xd4\x05\x00", Malformed::Type),
    ] {
        assert_eq!(read_typed::<u8>(document).unwrap_err(), InteropError::Malformed(why), "{document:02x?}");
    }
    // Elements that the type does not take are no next value.
    assert!(read_typed::<(u8, u8)>(&[0x93, 1, 2, 3]).is_err());
    assert!(read_typed::<((u8,), u8)>(&[0x92, 0x92, 1, 2, 3]).is_err());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nested(Vec<Nested>);

#[test]
fn nesting_is_bounded_on_both_ways() {
    let nested = |levels| (1..levels).fold(Nested(vec![]), |inner, _| Nested(vec![inner]));
    let deepest = nested(MAX_TYPED_DEPTH);
    assert_eq!(read_typed::<Nested>(&write(&deepest)).unwrap(), deepest);
    assert!(refused(&nested(MAX_TYPED_DEPTH + 1)));
    let deeper = [vec![0x91; MAX_TYPED_DEPTH], vec![0x90]].concat();
    assert_eq!(read_typed::<Nested>(&deeper).unwrap_err(), Malformed::Depth.into());
}

#[test]
fn a_value_larger_than_the_limit_is_not_written() {
    assert_eq!(write_typed("12345", 5), Err(InteropError::TooLarge { max: 5 }));
    assert!(write_typed("1234", 5).is_ok());
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(std::iter::repeat(0_u64))
        }
    }
    assert_eq!(write_typed(&Endless, 1000), Err(InteropError::TooLarge { max: 1000 }));
}

#[test]
fn skipped_and_flattened_fields_are_counted_right() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Outer {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        absent: Option<u8>,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }
    let outer = Outer { absent: None, rest: (0..20).map(|n| (format!("k{n:02}"), n)).collect() };
    let document = write(&outer);
    assert_eq!(document, rmp_serde::to_vec_named(&outer).unwrap());
    assert_eq!(read_typed::<Outer>(&document).unwrap(), outer);
}

fn any_user() -> impl Strategy<Value = User> {
    let role = prop_oneof![
        Just(Role::Admin),
        ".{0,8}".prop_map(Role::Of),
        any::<(u8, u8)>().prop_map(|(a, b)| Role::Many(a, b)),
        any::<i32>().prop_map(|since| Role::Named { since }),
    ];
    let numbers = (any::<u8>(), prop::num::f64::NORMAL, prop::num::f32::NORMAL, any::<(i64, bool)>());
    let blob = prop::collection::vec(any::<u8>(), 0..300);
    let tags = prop::collection::vec(".{0,40}", 0..20);
    (".{0,300}", numbers, tags, any::<Option<String>>(), role, blob).prop_map(
        |(name, (age, score, ratio, pair), tags, note, role, blob)| User {
            name,
            age,
            score,
            ratio,
            tags,
            note,
            role,
            pair,
            blob,
        },
    )
}

proptest! {
    #[test]
    fn any_struct_is_stored_as_cachekit_rs_stores_it_and_comes_back(user in any_user()) {
        let ours = write(&user);
        prop_assert_eq!(&ours, &rmp_serde::to_vec_named(&user).unwrap());
        prop_assert_eq!(&read_typed::<User>(&ours).unwrap(), &user);
        prop_assert!(read_value(&ours).is_ok(), "Python reads it");
    }

    #[test]
    fn no_bytes_panic_a_typed_reader(document in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_typed::<User>(&document);
        let _ = read_typed::<BTreeMap<String, Vec<Option<Nested>>>>(&document);
    }
}
