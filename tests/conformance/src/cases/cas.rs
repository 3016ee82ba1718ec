//! Writes that happen only if nobody else wrote in between.

use cachekit_plugin::{Bytes, Version};

use crate::case::{Case, Failure, case, ensure};
use crate::instance::{DEFAULT_LIFE, Instance};
use crate::life;
use crate::sample::{describe, echo};
use crate::subject::Subject;

use super::concurrency::at_once;

pub(super) const CASES: &[Case] = &[
    case!(Cas, get_version_agrees_with_get, [Cas]),
    case!(Cas, a_version_changes_with_the_value, [Cas]),
    case!(Cas, set_if_stores_only_at_the_version_seen, [Cas]),
    case!(Cas, set_if_absent_stores_only_where_nothing_is, [Cas]),
    case!(Cas, set_if_after_a_delete_stores_nothing, [Cas]),
    case!(Cas, set_if_gives_the_life_it_was_told, [Cas], 120, waits),
    case!(Cas, exactly_one_of_many_writers_wins, [Cas], 60),
    case!(Cas, no_increment_of_many_writers_is_lost, [Cas], 120),
];

fn version(b: &Instance, key: &[u8]) -> Result<Version, Failure> {
    match b.get_version(key)? {
        Some((_, version)) => Ok(version),
        None => Err(Failure::Refuted("get_version finds nothing where something was stored".into())),
    }
}

fn get_version_agrees_with_get(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    ensure!(b.get_version(&key)?.is_none(), "get_version finds a key nobody wrote");
    for value in [echo(&key), Bytes::new(), Bytes::from_static(b"other")] {
        b.set(&key, value.clone())?;
        let found = b.get_version(&key)?;
        let found = found.map(|(value, _)| value);
        ensure!(found == Some(value), "get_version returns {}, not what was set", describe(found.as_deref()));
    }
    ensure!(version(b, &key)? == version(b, &key)?, "a version changes without a write");
    b.delete(&key)?;
    ensure!(b.get_version(&key)?.is_none(), "get_version finds a key that was deleted");
    Ok(())
}

fn a_version_changes_with_the_value(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    let mut seen: Vec<Version> = Vec::new();
    // A store with nothing better may take a digest of the value, so only different values must differ.
    for write in 0..20 {
        b.set(&key, format!("value {write}"))?;
        let version = version(b, &key)?;
        ensure!(!seen.contains(&version), "two different values of a key have the same version");
        seen.push(version);
    }
    Ok(())
}

fn set_if_stores_only_at_the_version_seen(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    b.set(&key, &b"first"[..])?;
    let first = version(b, &key)?;
    ensure!(b.set_if(&key, &b"second"[..], DEFAULT_LIFE, Some(first))?, "set_if is false though nobody wrote");
    b.expect(&key, Some(b"second"), "after set_if")?;
    ensure!(!b.set_if(&key, &b"third"[..], DEFAULT_LIFE, Some(first))?, "set_if is true for an old version");
    b.expect(&key, Some(b"second"), "after a set_if that was refused")?;
    let second = version(b, &key)?;
    b.set(&key, &b"between"[..])?;
    ensure!(!b.set_if(&key, &b"third"[..], DEFAULT_LIFE, Some(second))?, "set_if overlooks a plain set");
    b.expect(&key, Some(b"between"), "after a set_if that was refused")
}

fn set_if_absent_stores_only_where_nothing_is(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    ensure!(b.set_if(&key, &b"first"[..], DEFAULT_LIFE, None)?, "set_if absent is false for an absent key");
    b.expect(&key, Some(b"first"), "after set_if absent")?;
    ensure!(!b.set_if(&key, &b"second"[..], DEFAULT_LIFE, None)?, "set_if absent is true for a key that is there");
    b.expect(&key, Some(b"first"), "after a set_if absent that was refused")?;
    b.set(&key, Bytes::new())?;
    ensure!(!b.set_if(&key, &b"second"[..], DEFAULT_LIFE, None)?, "set_if takes an empty value for an absent key");
    b.delete(&key)?;
    ensure!(b.set_if(&key, &b"third"[..], DEFAULT_LIFE, None)?, "set_if absent is false for a deleted key");
    b.expect(&key, Some(b"third"), "after set_if absent")
}

fn set_if_after_a_delete_stores_nothing(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    b.set(&key, &b"first"[..])?;
    let seen = version(b, &key)?;
    b.delete(&key)?;
    ensure!(!b.set_if(&key, &b"second"[..], DEFAULT_LIFE, Some(seen))?, "set_if is true for a deleted key");
    b.expect(&key, None, "after delete and a set_if that was refused")
}

fn set_if_gives_the_life_it_was_told(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    let begin = |life_ms| {
        b.set(&key, &b"first"[..])?;
        let seen = version(b, &key)?;
        ensure!(b.set_if(&key, echo(&key), life::ms(life_ms), Some(seen))?, "set_if is false though nobody wrote");
        Ok(())
    };
    life::watch(s, "an entry stored by set_if", begin, || Ok(b.get(&key)?.is_some()))
}

fn exactly_one_of_many_writers_wins(s: &Subject) -> Result<(), Failure> {
    for round in 0..20 {
        let key = s.key(&format!("k{round}"));
        // Every other round starts from an absent key.
        let seen = if round % 2 == 0 {
            None
        } else {
            s.backend().set(&key, &b"first"[..])?;
            Some(version(s.backend(), &key)?)
        };
        let value = |caller: usize| format!("writer {caller}");
        let won = at_once(16, |caller| s.backend().set_if(&key, value(caller), DEFAULT_LIFE, seen))?;
        let winners: Vec<usize> = (0..16).filter(|caller| won[*caller]).collect();
        let [winner] = winners[..] else {
            return Err(Failure::Refuted(format!("{} of 16 writers won", winners.len())));
        };
        s.backend().expect(&key, Some(value(winner).as_bytes()), "after one of many writers won")?;
    }
    Ok(())
}

fn no_increment_of_many_writers_is_lost(s: &Subject) -> Result<(), Failure> {
    const WRITERS: usize = 8;
    const INCREMENTS: usize = 10;
    let key = s.key("counter");
    s.backend().set(&key, &b"0"[..])?;
    at_once(WRITERS, |_| {
        for _ in 0..INCREMENTS {
            // A writer loses a race at most once for every increment of another.
            let mut stored = false;
            for _ in 0..=WRITERS * INCREMENTS {
                let Some((value, seen)) = s.backend().get_version(&key)? else {
                    return Err(Failure::Refuted("the counter is gone".into()));
                };
                let count: Option<u64> = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                let Some(count) = count else {
                    return Err(Failure::Refuted("the counter holds what nobody wrote".into()));
                };
                stored = s.backend().set_if(&key, (count + 1).to_string(), DEFAULT_LIFE, Some(seen))?;
                if stored {
                    break;
                }
            }
            ensure!(stored, "set_if is refused more often than anybody else writes");
        }
        Ok(())
    })?;
    let total = (WRITERS * INCREMENTS).to_string();
    s.backend().expect(&key, Some(total.as_bytes()), "of a counter that 8 writers raised by 10 each")
}
