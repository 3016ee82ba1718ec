//! A stale window beside the life of an entry.

use crate::case::{Case, Failure, case, ensure};
use crate::instance::DEFAULT_LIFE;
use crate::life;
use crate::sample::{describe, echo};
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(Freshness, a_fresh_value_reads_back_with_its_age, [Freshness]),
    case!(Freshness, entries_without_a_stale_window_have_an_age_too, [Freshness], 120, waits),
    case!(Freshness, a_stale_value_is_handed_out_as_stale, [Freshness], 120, waits),
    case!(Freshness, get_returns_nothing_that_is_stale, [Freshness], 120, waits),
    case!(Freshness, a_stale_window_ends, [Freshness], 120, waits),
    case!(Freshness, what_was_deleted_is_not_stale, [Freshness], 120, waits),
    case!(Freshness, a_write_over_a_stale_entry_makes_it_fresh, [Freshness], 120, waits),
    case!(Freshness, the_longest_stale_window_does_not_overflow, [Freshness]),
];

/// Longer than any case.
const LONG_MS: u64 = 600_000;

/// Fails unless `key` holds `value`, and it is stale or not as said.
fn expect(s: &Subject, key: &[u8], value: &[u8], stale: bool, when: &str) -> Result<(), Failure> {
    let Some(found) = s.backend().get_dated(key)? else {
        return Err(Failure::Refuted(format!(
            "{when}: get_dated returned nothing instead of {}",
            describe(Some(value))
        )));
    };
    ensure!(
        found.value == value,
        "{when}: get_dated returned {} instead of {}",
        describe(Some(&found.value)),
        describe(Some(value))
    );
    ensure!(found.stale == stale, "{when}: get_dated says stale = {}", found.stale);
    let step_ms = s.limits().ttl_step_ms;
    match found.fresh_for_ms {
        Some(ms) if stale => ensure!(ms == 0, "{when}: a stale value may be kept for {ms} ms"),
        Some(ms) => ensure!(
            (1..=LONG_MS + step_ms).contains(&ms),
            "{when}: a value with a life of {LONG_MS} ms may be kept for {ms} ms"
        ),
        None => {}
    }
    Ok(())
}

/// An entry that is past its life, with a window that lasts.
fn stale(s: &Subject) -> Result<Vec<u8>, Failure> {
    let key = s.key("k");
    s.backend().set_stale(&key, echo(&key), life::ms(life::short_ms(s.limits())?), LONG_MS)?;
    life::outlast(s)?;
    Ok(key)
}

fn a_fresh_value_reads_back_with_its_age(s: &Subject) -> Result<(), Failure> {
    let (b, key, empty) = (s.backend(), s.key("k"), s.key("empty"));
    ensure!(b.get_dated(&key)?.is_none(), "get_dated returned something for a key nobody wrote");
    b.set_stale(&key, echo(&key), DEFAULT_LIFE, LONG_MS)?;
    expect(s, &key, &echo(&key), false, "after set_stale")?;
    b.expect(&key, Some(&echo(&key)), "of a fresh entry with a stale window")?;
    b.set_stale(&empty, "", DEFAULT_LIFE, LONG_MS)?;
    expect(s, &empty, b"", false, "of an empty value")
}

fn entries_without_a_stale_window_have_an_age_too(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    b.set(&key, echo(&key))?;
    expect(s, &key, &echo(&key), false, "after a set without a stale window")?;
    let short = s.key("short");
    life::watch(
        s,
        "an entry without a stale window, as get_dated sees it,",
        |life_ms| b.set_for(&short, &b"v"[..], life::ms(life_ms)),
        || Ok(b.get_dated(&short)?.is_some()),
    )
}

fn a_stale_value_is_handed_out_as_stale(s: &Subject) -> Result<(), Failure> {
    let key = stale(s)?;
    expect(s, &key, &echo(&key), true, "after the life of an entry with a stale window")
}

fn get_returns_nothing_that_is_stale(s: &Subject) -> Result<(), Failure> {
    let key = stale(s)?;
    s.backend().expect(&key, None, "after the life of an entry with a stale window")?;
    ensure!(!s.backend().exists(&key)?, "exists is true for an entry that get does not return");
    Ok(())
}

fn a_stale_window_ends(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    life::watch(
        s,
        "an entry with life and stale window",
        |life_ms| b.set_stale(&key, &b"v"[..], life::ms((life_ms / 2).max(1)), life_ms.div_ceil(2)),
        || Ok(b.get_dated(&key)?.is_some()),
    )
}

fn what_was_deleted_is_not_stale(s: &Subject) -> Result<(), Failure> {
    let key = stale(s)?;
    s.backend().delete(&key)?;
    ensure!(s.backend().get_dated(&key)?.is_none(), "get_dated returned something after a stale entry was deleted");
    Ok(())
}

fn a_write_over_a_stale_entry_makes_it_fresh(s: &Subject) -> Result<(), Failure> {
    let key = stale(s)?;
    s.backend().set_stale(&key, &b"new"[..], DEFAULT_LIFE, LONG_MS)?;
    expect(s, &key, b"new", false, "of a stale entry that was written again")?;
    s.backend().expect(&key, Some(b"new"), "of a stale entry that was written again")
}

fn the_longest_stale_window_does_not_overflow(s: &Subject) -> Result<(), Failure> {
    for stale_ms in [1 << 31, 1 << 32, i64::MAX as u64, u64::MAX] {
        let key = s.key(&format!("ms{stale_ms}"));
        s.backend().set_stale(&key, echo(&key), DEFAULT_LIFE, stale_ms)?;
        expect(s, &key, &echo(&key), false, &format!("with a stale window of {stale_ms} ms"))?;
    }
    Ok(())
}
