//! Lives of entries: those every store keeps, and the power to read and renew them.

use cachekit_plugin::{Bytes, Ttl};

use std::time::Instant;

use crate::case::{Case, Failure, Power, case, ensure};
use crate::instance::DEFAULT_LIFE;
use crate::life;
use crate::sample::echo;
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(Ttl, an_entry_lives_until_its_life_ends_and_no_longer, [], 120, waits),
    case!(Ttl, an_overwritten_entry_has_the_new_life, [], 120, waits),
    case!(Ttl, an_entry_without_an_end_outlives_one_with, [], 120, waits),
    case!(Ttl, the_longest_lives_do_not_overflow),
    case!(Ttl, an_expired_entry_is_absent_to_every_operation, [], 120, waits),
    case!(Ttl, the_time_left_is_read_within_its_bounds, [Ttl]),
    case!(Ttl, an_absent_key_has_no_time_left, [Ttl]),
    case!(Ttl, touch_lengthens_a_life, [Ttl], 120, waits),
    case!(Ttl, touch_shortens_a_life, [Ttl], 120, waits),
    case!(Ttl, touch_can_take_the_end_away, [Ttl], 120),
];

fn an_entry_lives_until_its_life_ends_and_no_longer(s: &Subject) -> Result<(), Failure> {
    let key = s.key("k");
    let begin = |life_ms| s.backend().set_for(&key, echo(&key), life::ms(life_ms));
    life::watch(s, "an entry", begin, || {
        let found = s.backend().get(&key)?;
        ensure!(found.is_none() || found == Some(echo(&key)), "an entry changed towards the end of its life");
        Ok(found.is_some())
    })
}

fn an_overwritten_entry_has_the_new_life(s: &Subject) -> Result<(), Failure> {
    let (longer, shorter) = (s.key("longer"), s.key("shorter"));
    let short = life::ms(life::short_ms(s.limits())?);
    s.backend().set_for(&longer, echo(&longer), short)?;
    s.backend().set_for(&longer, echo(&longer), DEFAULT_LIFE)?;
    s.backend().set_for(&shorter, echo(&shorter), DEFAULT_LIFE)?;
    let begin = |life_ms| s.backend().set_for(&shorter, echo(&shorter), life::ms(life_ms));
    life::watch(s, "an entry that was overwritten with a short life", begin, || s.backend().exists(&shorter))?;
    life::outlast(s)?;
    s.backend().expect(&longer, Some(&echo(&longer)), "past the end of a life that was overwritten with a long one")
}

fn an_entry_without_an_end_outlives_one_with(s: &Subject) -> Result<(), Failure> {
    let (overwritten, fresh) = (s.key("overwritten"), s.key("fresh"));
    s.backend().set_for(&overwritten, echo(&overwritten), life::ms(life::short_ms(s.limits())?))?;
    s.backend().set_for(&overwritten, echo(&overwritten), Ttl::Never)?;
    s.backend().set_for(&fresh, echo(&fresh), Ttl::Never)?;
    life::outlast(s)?;
    for key in [&overwritten, &fresh] {
        s.backend().expect(key, Some(&echo(key)), "of an entry without an end, when others have ended")?;
        s.backend().delete(key)?;
    }
    Ok(())
}

fn the_longest_lives_do_not_overflow(s: &Subject) -> Result<(), Failure> {
    let ceiling = s.limits().ttl_max_ms;
    let month_of_seconds = 30 * 24 * 3600 * 1000;
    let lives = [
        ceiling,
        ceiling.saturating_add(1),
        // Memcached reads more than 30 days as a point in time; 2^31 seconds and milliseconds end 32-bit counters.
        month_of_seconds,
        month_of_seconds + 1000,
        (1 << 31) - 1,
        1 << 31,
        1 << 32,
        ((1 << 31) - 1) * 1000,
        (1 << 31) * 1000,
        (1 << 32) * 1000,
        i64::MAX as u64 / 1_000_000,
        i64::MAX as u64 / 1000,
        i64::MAX as u64,
        i64::MAX as u64 + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    for life_ms in lives {
        let key = s.key(&format!("ms{life_ms}"));
        let when = format!("of an entry with a life of {life_ms} ms");
        s.backend().set_for(&key, echo(&key), life::ms(life_ms))?;
        s.backend().expect(&key, Some(&echo(&key)), &when)?;
        ensure!(s.backend().exists(&key)?, "exists is false right after a set with a life of {life_ms} ms");
        if Power::Ttl.is_offered_by(s.backend().as_dyn()) {
            ensure!(s.backend().touch(&key, life::ms(life_ms))?, "touch by {life_ms} ms finds nothing");
            s.backend().expect(&key, Some(&echo(&key)), &when)?;
        }
        s.backend().delete(&key)?;
    }
    Ok(())
}

fn an_expired_entry_is_absent_to_every_operation(s: &Subject) -> Result<(), Failure> {
    let short = life::ms(life::short_ms(s.limits())?);
    // One key for each question, because an answer may clean up behind itself.
    let keys: Vec<Vec<u8>> = (0..9).map(|number| s.key(&format!("k{number}"))).collect();
    for key in &keys {
        s.backend().set_for(key, echo(key), short)?;
    }
    life::outlast(s)?;
    let (backend, offers) = (s.backend(), |power: Power| power.is_offered_by(s.backend().as_dyn()));
    backend.expect(&keys[0], None, "of an expired entry")?;
    ensure!(!backend.exists(&keys[1])?, "exists is true for an expired entry");
    ensure!(!backend.delete(&keys[2])?, "delete is true for an expired entry");
    if offers(Power::Batch) {
        let found = backend.get_many(&[&keys[3]])?.remove(0)?;
        ensure!(found.is_none(), "get_many finds an expired entry");
        ensure!(!backend.delete_many(&[&keys[4]])?.remove(0)?, "delete_many is true for an expired entry");
    }
    if offers(Power::Ttl) {
        ensure!(backend.ttl(&keys[5])?.is_none(), "ttl finds an expired entry");
        ensure!(!backend.touch(&keys[6], DEFAULT_LIFE)?, "touch is true for an expired entry");
        backend.expect(&keys[6], None, "of an expired entry that was touched")?;
    }
    if offers(Power::Cas) {
        ensure!(backend.get_version(&keys[7])?.is_none(), "get_version finds an expired entry");
        ensure!(backend.set_if(&keys[8], &b"new"[..], DEFAULT_LIFE, None)?, "an expired entry blocks set_if");
        backend.expect(&keys[8], Some(b"new"), "of a key whose expired entry was replaced")?;
    }
    Ok(())
}

/// What a store may make of a life: rounded up to its step, shortened to its ceiling.
fn longest_ms(s: &Subject, life_ms: u64) -> u64 {
    let step = s.limits().ttl_step_ms.max(1);
    // One step more: a store that counts ticks keeps an entry through the one in which it was written.
    life_ms.min(s.limits().ttl_max_ms).div_ceil(step).saturating_add(1).saturating_mul(step)
}

fn the_time_left_is_read_within_its_bounds(s: &Subject) -> Result<(), Failure> {
    let step = s.limits().ttl_step_ms.max(1);
    for life_ms in [5 * 60_000, 24 * 3_600_000] {
        let key = s.key(&format!("ms{life_ms}"));
        for renewed in [false, true] {
            let began = Instant::now();
            if renewed {
                ensure!(s.backend().touch(&key, life::ms(life_ms))?, "touch is false for a key that is there");
            } else {
                s.backend().set_for(&key, echo(&key), life::ms(life_ms))?;
            }
            let left = s.backend().ttl(&key)?;
            let passed_ms = began.elapsed().as_millis() as u64;
            let Some(Ttl::Ms(left_ms)) = left else {
                return Err(Failure::Refuted(format!("ttl is {left:?} for an entry with a life of {life_ms} ms")));
            };
            let least = life_ms.min(s.limits().ttl_max_ms).saturating_sub(passed_ms + step);
            let most = longest_ms(s, life_ms);
            ensure!(
                (least..=most).contains(&left_ms.get()),
                "ttl is {left_ms} ms, {passed_ms} ms after a life of {life_ms} ms began"
            );
        }
        s.backend().expect(&key, Some(&echo(&key)), "of an entry whose life was renewed")?;
    }
    let endless = s.key("endless");
    s.backend().set_for(&endless, echo(&endless), Ttl::Never)?;
    let left = s.backend().ttl(&endless)?;
    s.backend().delete(&endless)?;
    // A store with a ceiling has no "never": it says how long it really keeps the entry.
    let has_ceiling = s.limits().ttl_max_ms != u64::MAX;
    ensure!(left == Some(Ttl::Never) || (has_ceiling && left.is_some()), "ttl is {left:?} for an entry without an end");
    Ok(())
}

fn an_absent_key_has_no_time_left(s: &Subject) -> Result<(), Failure> {
    let key = s.key("k");
    for absent in ["never written", "deleted"] {
        ensure!(s.backend().ttl(&key)?.is_none(), "ttl finds a key that was {absent}");
        for ttl in [DEFAULT_LIFE, Ttl::Never] {
            ensure!(!s.backend().touch(&key, ttl)?, "touch is true for a key that was {absent}");
        }
        s.backend().expect(&key, None, "of an absent key that was touched")?;
        s.backend().set(&key, Bytes::from_static(b"v"))?;
        s.backend().delete(&key)?;
    }
    Ok(())
}

/// Writes an entry with a short life and renews it. A machine that is too busy to renew it in time gets a longer one.
fn renew(s: &Subject, key: &[u8], renewed: Ttl) -> Result<(), Failure> {
    let life_ms = life::short_ms(s.limits())?;
    for factor in [1, 4, 16, 64] {
        s.backend().set_for(key, echo(key), life::ms(life_ms * factor))?;
        if s.backend().touch(key, renewed)? {
            return Ok(());
        }
    }
    Err(Failure::Refuted("touch is false for an entry that was just written".into()))
}

fn touch_lengthens_a_life(s: &Subject) -> Result<(), Failure> {
    let key = s.key("k");
    renew(s, &key, DEFAULT_LIFE)?;
    life::outlast(s)?;
    s.backend().expect(&key, Some(&echo(&key)), "past the end of a life that was renewed")
}

fn touch_shortens_a_life(s: &Subject) -> Result<(), Failure> {
    let key = s.key("k");
    let begin = |life_ms| {
        s.backend().set(&key, echo(&key))?;
        ensure!(s.backend().touch(&key, life::ms(life_ms))?, "touch is false for an entry that was just written");
        Ok(())
    };
    life::watch(s, "an entry that was touched", begin, || Ok(s.backend().get(&key)?.is_some()))
}

fn touch_can_take_the_end_away(s: &Subject) -> Result<(), Failure> {
    let key = s.key("k");
    renew(s, &key, Ttl::Never)?;
    let left = s.backend().ttl(&key)?;
    let enough = match left {
        Some(Ttl::Never) => true,
        Some(Ttl::Ms(left)) => s.limits().ttl_max_ms != u64::MAX && left.get() > s.limits().ttl_max_ms / 2,
        None => false,
    };
    ensure!(enough, "ttl is {left:?} after touch took the end away");
    s.backend().expect(&key, Some(&echo(&key)), "of an entry whose end was taken away")?;
    s.backend().delete(&key)?;
    Ok(())
}
