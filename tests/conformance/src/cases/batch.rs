//! Several keys in one exchange.

use cachekit_plugin::{BackendError, Bytes};

use crate::case::{Case, Failure, case, ensure};
use crate::instance::DEFAULT_LIFE;
use crate::life;
use crate::sample::{describe, echo};
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(Batch, answers_come_in_the_order_of_the_keys, [Batch]),
    case!(Batch, an_empty_batch_has_no_answers, [Batch]),
    case!(Batch, a_key_that_stands_twice_is_answered_twice, [Batch]),
    case!(Batch, of_two_items_for_a_key_the_last_one_stays, [Batch]),
    case!(Batch, delete_many_tells_for_each_key, [Batch]),
    case!(Batch, batches_and_single_operations_see_each_other, [Batch]),
    case!(Batch, a_thousand_keys_fit_one_batch, [Batch], 120),
    case!(Batch, each_item_has_a_life_of_its_own, [Batch], 120, waits),
    case!(Batch, an_item_that_fails_leaves_the_others_valid, [Batch]),
];

fn slices(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    keys.iter().map(Vec::as_slice).collect()
}

fn keys(s: &Subject, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| s.key(&format!("k{number}"))).collect()
}

/// Refuted unless each answer is the echo of its key where `written` says so, and a miss elsewhere.
fn expect_echoes(s: &Subject, keys: &[&[u8]], written: impl Fn(usize) -> bool) -> Result<(), Failure> {
    for (number, answer) in s.backend().get_many(keys)?.into_iter().enumerate() {
        let (found, expected) = (answer?, written(number).then(|| echo(keys[number])));
        ensure!(
            found == expected,
            "answer {number} of {} is {} instead of {}",
            keys.len(),
            describe(found.as_deref()),
            describe(expected.as_deref())
        );
    }
    Ok(())
}

fn all_ok<T>(answers: Vec<Result<T, BackendError>>) -> Result<Vec<T>, Failure> {
    Ok(answers.into_iter().collect::<Result<_, _>>()?)
}

fn answers_come_in_the_order_of_the_keys(s: &Subject) -> Result<(), Failure> {
    let keys = keys(s, 30);
    let written = |number: usize| number % 3 != 1;
    // Written backwards, so that the order of the store is not the order of the batch.
    for (_, key) in keys.iter().enumerate().rev().filter(|(number, _)| written(*number)) {
        s.backend().set(key, echo(key))?;
    }
    expect_echoes(s, &slices(&keys), written)?;
    let mut backwards = slices(&keys);
    backwards.reverse();
    expect_echoes(s, &backwards, |number| written(29 - number))?;
    expect_echoes(s, &slices(&keys[..1]), written)
}

fn an_empty_batch_has_no_answers(s: &Subject) -> Result<(), Failure> {
    s.backend().get_many(&[])?;
    s.backend().set_many(&[])?;
    s.backend().delete_many(&[])?;
    Ok(())
}

fn a_key_that_stands_twice_is_answered_twice(s: &Subject) -> Result<(), Failure> {
    let (hit, miss) = (s.key("hit"), s.key("miss"));
    s.backend().set(&hit, echo(&hit))?;
    expect_echoes(s, &[&hit, &miss, &hit, &hit, &miss], |number| [0, 2, 3].contains(&number))
}

fn of_two_items_for_a_key_the_last_one_stays(s: &Subject) -> Result<(), Failure> {
    let (twice, once) = (s.key("twice"), s.key("once"));
    let item = |value: &'static str| Bytes::from_static(value.as_bytes());
    all_ok(s.backend().set_many(&[
        (&twice, item("first"), DEFAULT_LIFE),
        (&once, item("once"), DEFAULT_LIFE),
        (&twice, item("last"), DEFAULT_LIFE),
    ])?)?;
    s.backend().expect(&twice, Some(b"last"), "of a key that stood twice in a batch")?;
    s.backend().expect(&once, Some(b"once"), "of its neighbour")
}

fn delete_many_tells_for_each_key(s: &Subject) -> Result<(), Failure> {
    let keys = keys(s, 12);
    let kept = s.key("kept");
    for key in keys.iter().step_by(2).chain([&kept]) {
        s.backend().set(key, echo(key))?;
    }
    let told = all_ok(s.backend().delete_many(&slices(&keys))?)?;
    for (number, (key, told)) in keys.iter().zip(told).enumerate() {
        ensure!(told == (number % 2 == 0), "delete_many says {told} for key {number}, wrongly");
        s.backend().expect(key, None, "after delete_many")?;
    }
    s.backend().expect(&kept, Some(&echo(&kept)), "of a key that was not in the batch of deletes")
}

fn batches_and_single_operations_see_each_other(s: &Subject) -> Result<(), Failure> {
    let keys = keys(s, 5);
    let items: Vec<_> = keys.iter().map(|key| (key.as_slice(), echo(key), DEFAULT_LIFE)).collect();
    all_ok(s.backend().set_many(&items)?)?;
    for key in &keys {
        s.backend().expect(key, Some(&echo(key)), "after set_many")?;
    }
    s.backend().delete(&keys[3])?;
    expect_echoes(s, &slices(&keys), |number| number != 3)
}

fn a_thousand_keys_fit_one_batch(s: &Subject) -> Result<(), Failure> {
    let keys = keys(s, 1000);
    let items: Vec<_> = keys.iter().map(|key| (key.as_slice(), echo(key), DEFAULT_LIFE)).collect();
    all_ok(s.backend().set_many(&items)?)?;
    expect_echoes(s, &slices(&keys), |_| true)?;
    let told = all_ok(s.backend().delete_many(&slices(&keys))?)?;
    ensure!(told.iter().all(|told| *told), "delete_many says false for a key of a thousand that was there");
    expect_echoes(s, &slices(&keys), |_| false)
}

fn each_item_has_a_life_of_its_own(s: &Subject) -> Result<(), Failure> {
    let (before, short, after) = (s.key("before"), s.key("short"), s.key("after"));
    let begin = |life_ms| {
        let items = [
            (before.as_slice(), echo(&before), DEFAULT_LIFE),
            (short.as_slice(), echo(&short), life::ms(life_ms)),
            (after.as_slice(), echo(&after), DEFAULT_LIFE),
        ];
        all_ok(s.backend().set_many(&items)?).map(|_| ())
    };
    life::watch(s, "the short-lived item of a batch", begin, || Ok(s.backend().get(&short)?.is_some()))?;
    s.backend().expect(&before, Some(&echo(&before)), "of a long-lived item beside a short-lived one")?;
    s.backend().expect(&after, Some(&echo(&after)), "of a long-lived item beside a short-lived one")
}

fn an_item_that_fails_leaves_the_others_valid(s: &Subject) -> Result<(), Failure> {
    let max_key = s.limits().max_key as usize;
    if max_key > 64 << 10 {
        return Err(Failure::NotAsked(format!("max_key is {max_key} bytes: no item is sure to fail")));
    }
    let (before, after) = (s.key("before"), s.key("after"));
    let mut bad = s.key("bad");
    bad.resize(max_key + 1, b'x');
    let keys: [&[u8]; 3] = [&before, &bad, &after];
    let items = keys.map(|key| (key, echo(key), DEFAULT_LIFE));
    // The whole batch may be refused instead: then nothing is known and nothing can be wrong.
    let Ok(answers) = s.backend().set_many(&items) else { return Ok(()) };
    for (key, answer) in keys.into_iter().zip(answers) {
        match answer {
            Ok(()) => s.backend().expect(key, Some(&echo(key)), "of an item that was said to be stored")?,
            Err(error) => ensure!(key == bad, "an item failed because of its neighbour: {error}"),
        }
    }
    Ok(())
}
