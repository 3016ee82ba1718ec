//! What is tried again and what is not, and that the budget holds whatever happens.

use proptest::prelude::*;

use super::*;

const SOON: Duration = Duration::from_secs(60);

fn retries() -> Retries {
    Retries::seeded(RetryConfig::default(), 7)
}

fn error(kind: Kind) -> BackendError {
    BackendError::new(kind, Operation::Get, "it failed")
}

fn pause(retries: &Retries, operation: Operation, error: &BackendError, tries: u32) -> Option<Duration> {
    retries.pause(operation, error, tries, Deadline::after(SOON), Duration::ZERO)
}

#[test]
fn reads_are_repeated_after_what_passes_and_writes_only_after_what_ended_them() {
    let again = |operation, kind| pause(&retries(), operation, &error(kind), 1).is_some();
    for read in [Operation::Get, Operation::GetMany, Operation::Exists, Operation::GetVersion, Operation::Scan] {
        assert!(again(read, Kind::Transient) && again(read, Kind::Timeout), "{read}");
    }
    for write in [Operation::Set, Operation::SetMany, Operation::SetStale, Operation::Delete, Operation::DeleteMany] {
        assert!(again(write, Kind::Transient), "{write}");
        assert!(!again(write, Kind::Timeout), "{write}: it may happen yet");
    }
    for once in [Operation::SetIf, Operation::Lock, Operation::Unlock, Operation::Clear, Operation::Watch] {
        assert!(!again(once, Kind::Transient) && !again(once, Kind::Timeout), "{once}");
    }
    for kind in [Kind::Auth, Kind::Config, Kind::Corrupt, Kind::TooLarge, Kind::Throttled, Kind::Internal] {
        assert!(!again(Operation::Get, kind), "{kind}");
    }
}

#[test]
fn an_error_that_says_how_to_repeat_it_is_believed() {
    let retries = retries();
    let hinted = |retry| pause(&retries, Operation::Get, &error(Kind::Transient).with_retry(retry), 1);
    assert_eq!(hinted(Retry::No), None);
    assert!(hinted(Retry::Now).unwrap() < Duration::from_millis(10));
    let after = hinted(Retry::After(Duration::from_secs(2))).unwrap();
    assert!((2_000..2_010).contains(&after.as_millis()), "{after:?}");
    assert_eq!(hinted(Retry::After(Duration::MAX)), None);
    assert_eq!(retries.counts(), [2, 0, 1]);
}

#[test]
fn no_try_begins_that_could_not_end() {
    let retries = retries();
    let error = error(Kind::Transient);
    let in_a_second = Deadline::after(Duration::from_secs(1));
    assert_eq!(retries.pause(Operation::Get, &error, 1, in_a_second, Duration::from_secs(1)), None);
    assert_eq!(retries.counts(), [0, 0, 1]);
    let passed = Deadline::from_monotonic_ns(1);
    assert_eq!(retries.pause(Operation::Get, &error, 1, passed, Duration::ZERO), None);
    assert!(retries.pause(Operation::Get, &error, 1, Deadline::NEVER, Duration::ZERO).is_some());
}

#[test]
fn after_the_last_try_there_is_none() {
    let error = error(Kind::Transient);
    assert!(pause(&retries(), Operation::Get, &error, 2).is_some());
    assert_eq!(pause(&retries(), Operation::Get, &error, 3), None);
}

#[test]
fn pauses_double_at_most_and_are_spread_from_nothing_up() {
    let config = RetryConfig { tries: 10, pause_max: Duration::from_millis(40), ..RetryConfig::default() };
    let retries = Retries::seeded(config, 7);
    for (tries, longest_ms) in [(1, 10), (2, 20), (3, 40), (9, 40)] {
        let drawn: Vec<Duration> = (0..1_000).map(|_| retries.jitter(tries)).collect();
        let longest = Duration::from_millis(longest_ms);
        assert!(drawn.iter().all(|pause| *pause < longest));
        let average = drawn.iter().sum::<Duration>() / 1_000;
        assert!(average > longest * 45 / 100 && average < longest * 55 / 100, "{tries}: {average:?}");
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let good = RetryConfig::default();
    assert_eq!(good.check(), Ok(()));
    for bad in [
        RetryConfig { tries: 1, ..good },
        RetryConfig { tries: 11, ..good },
        RetryConfig { pause: Duration::ZERO, ..good },
        RetryConfig { pause_max: Duration::from_millis(1), ..good },
        RetryConfig { budget_percent: 0, ..good },
        RetryConfig { budget_percent: 101, ..good },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

/// Lets calls come, some of which fail, and counts the retries that are made.
fn made(percent: u32, fails: &[bool]) -> u64 {
    let retries = Retries::seeded(RetryConfig { budget_percent: percent, ..RetryConfig::default() }, 7);
    for fails in fails {
        retries.call_began();
        let mut tries = 1;
        while *fails && pause(&retries, Operation::Get, &error(Kind::Transient), tries).is_some() {
            tries += 1;
        }
    }
    retries.counts()[0]
}

proptest! {
    /// Never more than the share of the calls and the reserve; and as long as there is that much, each failure is retried.
    #[test]
    fn retries_stay_within_their_budget(percent in 1_u32..=100, fails in proptest::collection::vec(any::<bool>(), 0..400)) {
        let made = made(percent, &fails);
        prop_assert!(made <= RESERVE + fails.len() as u64 * u64::from(percent) / 100);
        let wanted = 2 * fails.iter().filter(|fails| **fails).count() as u64;
        prop_assert!(made >= wanted.min(RESERVE));
    }
}

#[test]
fn a_dead_store_is_asked_a_tenth_more_and_not_three_times_as_much() {
    assert_eq!(made(10, &[true; 10_000]), 10 + 1_000 - 1);
}
