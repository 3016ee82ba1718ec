//! Leases that exclude other holders.

use crate::case::{Case, Failure, case, ensure};
use crate::life;
use crate::sample::echo;
use crate::subject::Subject;

use super::concurrency::at_once;

pub(super) const CASES: &[Case] = &[
    case!(Locks, a_lease_has_one_holder_at_a_time, [Locks]),
    case!(Locks, a_lease_excludes_holders_on_other_instances, [Locks]),
    case!(Locks, a_wrong_token_opens_nothing, [Locks]),
    case!(Locks, a_lease_ends_by_itself, [Locks], 120, waits),
    case!(Locks, a_late_holder_cannot_end_the_lease_of_the_next, [Locks], 120, waits),
    case!(Locks, exactly_one_of_many_contenders_gets_the_lease, [Locks], 60),
    case!(Locks, leases_of_different_keys_do_not_meet, [Locks]),
    case!(Locks, a_lease_leaves_the_value_of_its_key_alone, [Locks]),
    case!(Locks, the_longest_hold_does_not_overflow, [Locks]),
];

/// Long enough to last through a case.
const HOLD_MS: u64 = 60_000;

fn a_lease_has_one_holder_at_a_time(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    ensure!(b.lock(&key, b"one", HOLD_MS)?, "a free lease is not given");
    ensure!(!b.lock(&key, b"two", HOLD_MS)?, "a lease is given to two holders");
    ensure!(b.unlock(&key, b"one")?, "unlock is false for the holder");
    ensure!(!b.unlock(&key, b"one")?, "unlock is true for a lease that was given back");
    ensure!(b.lock(&key, b"two", HOLD_MS)?, "a lease that was given back is not given again");
    ensure!(b.unlock(&key, b"two")?, "unlock is false for the second holder");
    Ok(())
}

fn a_lease_excludes_holders_on_other_instances(s: &Subject) -> Result<(), Failure> {
    let (b, second, key) = (s.backend(), s.second()?, s.key("k"));
    ensure!(b.lock(&key, b"one", HOLD_MS)?, "a free lease is not given");
    ensure!(!second.lock(&key, b"two", HOLD_MS)?, "a lease is given to two holders on two instances");
    ensure!(b.unlock(&key, b"one")?, "unlock is false for the holder");
    ensure!(second.lock(&key, b"two", HOLD_MS)?, "a lease that was given back is not given on another instance");
    ensure!(!b.lock(&key, b"one", HOLD_MS)?, "a lease is given to two holders on two instances");
    ensure!(second.unlock(&key, b"two")?, "unlock is false for the holder");
    Ok(())
}

fn a_wrong_token_opens_nothing(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    // Tokens are bytes: a store that takes them for text or stops at zero confuses the right one with a wrong one.
    let token = b"right\0token\r\n\xff";
    let wrong: [&[u8]; 6] = [b"", b"r", b"right", b"right\0", b"right\0token\r\n\xfe", b"RIGHT\0TOKEN\r\n\xff"];
    ensure!(!b.unlock(&key, token)?, "unlock is true for a lease nobody holds");
    ensure!(b.lock(&key, token, HOLD_MS)?, "a free lease is not given");
    for (number, wrong) in wrong.into_iter().enumerate() {
        ensure!(!b.unlock(&key, wrong)?, "wrong token {number} ends a lease");
        ensure!(!b.lock(&key, b"other", HOLD_MS)?, "after wrong token {number}, a held lease is given again");
    }
    ensure!(b.unlock(&key, token)?, "the right token does not end the lease after wrong ones were tried");
    Ok(())
}

fn a_lease_ends_by_itself(s: &Subject) -> Result<(), Failure> {
    let (b, key) = (s.backend(), s.key("k"));
    let begin = |hold_ms| {
        b.unlock(&key, b"next")?;
        ensure!(b.lock(&key, b"holder", hold_ms)?, "a free lease is not given");
        Ok(())
    };
    life::watch(s, "a lease", begin, || Ok(!b.lock(&key, b"next", HOLD_MS)?))?;
    ensure!(b.unlock(&key, b"next")?, "unlock is false for a holder that came after a lease had ended");
    Ok(())
}

fn a_late_holder_cannot_end_the_lease_of_the_next(s: &Subject) -> Result<(), Failure> {
    let (b, key, unclaimed) = (s.backend(), s.key("k"), s.key("unclaimed"));
    let hold_ms = life::short_ms(s.limits())?;
    ensure!(b.lock(&key, b"late", hold_ms)?, "a free lease is not given");
    ensure!(b.lock(&unclaimed, b"late", hold_ms)?, "a free lease is not given");
    life::outlast(s)?;
    ensure!(!b.unlock(&unclaimed, b"late")?, "unlock is true for a lease that had ended");
    ensure!(b.lock(&key, b"next", HOLD_MS)?, "a lease that has ended is not given again");
    ensure!(!b.unlock(&key, b"late")?, "unlock is true for a holder whose lease had ended");
    ensure!(!b.lock(&key, b"third", HOLD_MS)?, "a late unlock ended the lease of the next holder");
    ensure!(b.unlock(&key, b"next")?, "unlock is false for the holder");
    Ok(())
}

fn exactly_one_of_many_contenders_gets_the_lease(s: &Subject) -> Result<(), Failure> {
    for round in 0..20 {
        let key = s.key(&format!("k{round}"));
        let got = at_once(16, |caller| s.backend().lock(&key, format!("caller{caller}").as_bytes(), HOLD_MS))?;
        let holders = got.iter().filter(|got| **got).count();
        ensure!(holders == 1, "{holders} of 16 contenders got the lease");
        let holder = got.iter().position(|got| *got).unwrap_or_default();
        ensure!(s.backend().unlock(&key, format!("caller{holder}").as_bytes())?, "unlock is false for the holder");
    }
    Ok(())
}

fn leases_of_different_keys_do_not_meet(s: &Subject) -> Result<(), Failure> {
    let b = s.backend();
    let names: [&[u8]; 6] = [b"a", b"b", b"A", b"a1", b"a/1", b"a*"];
    let keys: Vec<Vec<u8>> = names.iter().map(|name| s.key_of(name)).collect();
    for key in &keys {
        ensure!(b.lock(key, b"token", HOLD_MS)?, "the lease of one key blocks that of another");
    }
    for (number, key) in keys.iter().enumerate() {
        ensure!(b.unlock(key, b"token")?, "giving back the lease of one key ended that of another");
        for held in &keys[number + 1..] {
            ensure!(!b.lock(held, b"other", HOLD_MS)?, "giving back the lease of one key ended that of another");
        }
    }
    Ok(())
}

fn a_lease_leaves_the_value_of_its_key_alone(s: &Subject) -> Result<(), Failure> {
    let (b, key, empty) = (s.backend(), s.key("k"), s.key("empty"));
    b.set(&key, echo(&key))?;
    for key in [&key, &empty] {
        ensure!(b.lock(key, b"token", HOLD_MS)?, "a free lease is not given");
    }
    b.expect(&key, Some(&echo(&key)), "of a key whose lease is held")?;
    b.expect(&empty, None, "of an absent key whose lease is held")?;
    ensure!(!b.exists(&empty)?, "taking the lease of a key made it exist");
    ensure!(!b.delete(&empty)?, "taking the lease of a key made something to delete");
    ensure!(b.delete(&key)?, "delete is false for a key whose lease is held");
    b.set(&key, &b"new"[..])?;
    for key in [&key, &empty] {
        ensure!(!b.lock(key, b"other", HOLD_MS)?, "writing or deleting a key ended its lease");
        ensure!(b.unlock(key, b"token")?, "writing or deleting a key ended its lease");
    }
    b.expect(&key, Some(b"new"), "of a key whose lease was given back")
}

fn the_longest_hold_does_not_overflow(s: &Subject) -> Result<(), Failure> {
    let b = s.backend();
    for hold_ms in [1 << 31, 1 << 32, i64::MAX as u64 / 1000, i64::MAX as u64, u64::MAX] {
        let key = s.key(&format!("ms{hold_ms}"));
        ensure!(b.lock(&key, b"token", hold_ms)?, "a free lease is not given for {hold_ms} ms");
        ensure!(!b.lock(&key, b"other", HOLD_MS)?, "a lease of {hold_ms} ms ends at once");
        ensure!(b.unlock(&key, b"token")?, "a lease of {hold_ms} ms cannot be given back");
    }
    Ok(())
}
