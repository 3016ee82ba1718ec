//! Stores that are wrong in one way each: every one of them is caught, and the right one is not.

use std::collections::HashMap;

use super::Checker;

/// Applies operations to a map, wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Not,
    ReturnsTheValueBefore,
    SwapsTwoKeys,
    AnswersOneReplyLate,
    IgnoresDeletes,
    TearsValues,
    FlipsABit,
    InventsValues,
    LosesEverything,
}

fn violations(wrong: Wrong) -> u64 {
    let checker = Checker::new(4);
    let mut store: HashMap<u64, Vec<Vec<u8>>> = HashMap::new();
    let mut late: Option<Vec<u8>> = None;
    for round in 0..200 {
        let key = round % 4;
        if round % 7 == 3 {
            let writing = checker.delete(key);
            if wrong != Wrong::IgnoresDeletes {
                store.remove(&key);
            }
            writing.done();
        } else if round % 3 == 0 {
            let (writing, value) = checker.set(key, (round % 50) as usize);
            store.entry(key).or_default().push(value);
            writing.done();
        }
        let reading = checker.read(key);
        let asked = if wrong == Wrong::SwapsTwoKeys && key < 2 { 1 - key } else { key };
        let values = store.get(&asked).map_or(&[][..], Vec::as_slice);
        let mut found = values.last().cloned();
        match wrong {
            Wrong::ReturnsTheValueBefore if values.len() > 1 => found = values.get(values.len() - 2).cloned(),
            Wrong::AnswersOneReplyLate => std::mem::swap(&mut found, &mut late),
            Wrong::TearsValues => found = found.map(|value| value[..value.len() - 3].to_vec()),
            Wrong::FlipsABit => found.iter_mut().for_each(|value| value[20] ^= 1),
            Wrong::InventsValues => {
                found = Some(crate::value::make(crate::value::Claim { key, write: 1 << 40 }, 3));
            }
            Wrong::LosesEverything => found = None,
            _ => {}
        }
        reading.returned(found.as_deref());
    }
    checker.wrong()
}

#[test]
fn every_wrong_store_is_caught_and_the_right_one_is_not() {
    assert_eq!(violations(Wrong::Not), 0);
    assert_eq!(violations(Wrong::LosesEverything), 0, "a cache may lose");
    for wrong in [
        Wrong::ReturnsTheValueBefore,
        Wrong::SwapsTwoKeys,
        Wrong::AnswersOneReplyLate,
        Wrong::IgnoresDeletes,
        Wrong::TearsValues,
        Wrong::FlipsABit,
        Wrong::InventsValues,
    ] {
        assert!(violations(wrong) > 0, "{wrong:?} was not caught");
    }
}

#[test]
fn unknown_writes_may_take_effect_late_and_known_ones_may_not() {
    let checker = Checker::new(1);
    // Never said to be done.
    let (_unknown, first) = checker.set(0, 8);
    let (known, second) = checker.set(0, 8);
    known.done();
    checker.read(0).returned(Some(&first));
    checker.read(0).returned(Some(&second));
    assert_eq!(checker.wrong(), 0);
    let (later, _) = checker.set(0, 8);
    later.done();
    checker.read(0).returned(Some(&second));
    assert_eq!(checker.wrong(), 1, "{:?}", checker.said());
}

#[test]
fn writes_that_overlap_come_in_any_order() {
    let checker = Checker::new(1);
    let (one, first) = checker.set(0, 8);
    let (two, second) = checker.set(0, 8);
    two.done();
    one.done();
    checker.read(0).returned(Some(&first));
    checker.read(0).returned(Some(&second));
    // A read that began before the replacing write had returned may still see the old value.
    let early = checker.read(0);
    let (three, _) = checker.set(0, 8);
    three.done();
    early.returned(Some(&second));
    assert_eq!(checker.wrong(), 0, "{:?}", checker.said());
}

#[test]
fn what_a_dead_primary_did_not_replicate_is_forgiven_once() {
    let checker = Checker::new(1);
    let (one, first) = checker.set(0, 8);
    one.done();
    let (two, _) = checker.set(0, 8);
    two.done();
    checker.doubt();
    checker.read(0).returned(Some(&first));
    checker.trust();
    checker.read(0).returned(Some(&first));
    assert_eq!(checker.wrong(), 0);
    let (three, _) = checker.set(0, 8);
    three.done();
    checker.read(0).returned(Some(&first));
    assert_eq!(checker.wrong(), 1);
}
