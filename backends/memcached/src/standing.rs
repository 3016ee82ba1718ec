//! When a server counts as failing, when as dead, and when it is tried again.
//!
//! Rules of the family's Python client, in a form that suits many callers at once: a server that fails is tried again,
//! `retry_attempts` times and over as many `retry_timeout`s; if it still fails it is dead, and for `dead_timeout` its keys
//! live on the others. Two differences: between two attempts requests fail at once with an error, where the Python client
//! calls a get a miss (an outage is never a miss here); and pauses begin at 50 ms and double up to `retry_timeout`, with
//! jitter, so that a server that restarts is back within moments and a fleet does not knock at the same time.
//!
//! A server that is the only one, or the last one, never leaves the list: there is nowhere to go.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The rules, from the options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) retry_attempts: u32,
    pub(crate) retry_timeout: Duration,
    /// Zero: a failing server never leaves the list.
    pub(crate) dead_timeout: Duration,
}

/// What is known about a server.
#[derive(Debug)]
pub(crate) struct Standing {
    rules: Rules,
    /// Whether there is anything to look at: the usual answer without a lock.
    troubled: AtomicBool,
    inner: Mutex<Option<Trouble>>,
}

#[derive(Debug, Clone, Copy)]
struct Trouble {
    failures: u32,
    since: Instant,
    last: Instant,
    next_attempt: Instant,
    dead_until: Option<Instant>,
}

/// Whether a server without an open connection is tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// By everybody.
    Open,
    /// By one; the others need not wait for how that ends.
    Probe,
    /// Not before this has passed.
    Pause(Duration),
}

impl Standing {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, troubled: AtomicBool::new(false), inner: Mutex::new(None) }
    }

    fn inner(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Acquire)
    }

    /// Whether keys are placed on it.
    pub(crate) fn is_candidate(&self, now: Instant) -> bool {
        if !self.is_troubled() {
            return true;
        }
        let mut inner = self.inner();
        match &mut *inner {
            Some(Trouble { dead_until: Some(until), .. }) if now < *until => false,
            // Back in the list with a clean record, as the family has it.
            Some(Trouble { dead_until: Some(_), .. }) => {
                *inner = None;
                self.troubled.store(false, Ordering::Release);
                true
            }
            _ => true,
        }
    }

    /// Whether a new connection is tried now.
    pub(crate) fn attempt(&self, now: Instant) -> Attempt {
        if !self.is_troubled() {
            return Attempt::Open;
        }
        match &*self.inner() {
            None => Attempt::Open,
            // A restart looks like this: the next attempt is for everybody who lost a connection.
            Some(Trouble { failures: 1, .. }) => Attempt::Open,
            Some(trouble) if now < trouble.next_attempt => Attempt::Pause(trouble.next_attempt - now),
            Some(_) => Attempt::Probe,
        }
    }

    /// An answer came.
    pub(crate) fn succeeded(&self) {
        if self.is_troubled() {
            *self.inner() = None;
            self.troubled.store(false, Ordering::Release);
        }
    }

    /// A connection that was begun at `born` ended by the server's fault. Connections of one time that end together are one
    /// failure.
    pub(crate) fn failed(&self, now: Instant, born: Instant) {
        let mut inner = self.inner();
        let trouble =
            inner.get_or_insert(Trouble { failures: 0, since: now, last: now, next_attempt: now, dead_until: None });
        if trouble.failures > 0 && born < trouble.last {
            return;
        }
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.last = now;
        trouble.next_attempt = now + self.pause(trouble.failures);
        let tried_long_enough = now.saturating_duration_since(trouble.since)
            >= self.rules.retry_timeout.saturating_mul(self.rules.retry_attempts);
        if trouble.failures > self.rules.retry_attempts && tried_long_enough && !self.rules.dead_timeout.is_zero() {
            trouble.dead_until = Some(now + self.rules.dead_timeout);
        }
        self.troubled.store(true, Ordering::Release);
    }

    /// Between half of it and all of it: 0 after the first failure, then 50 ms, doubling up to `retry_timeout`.
    fn pause(&self, failures: u32) -> Duration {
        if failures < 2 {
            return Duration::ZERO;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << (failures - 2).min(16));
        let full = doubled.min(self.rules.retry_timeout);
        let random = RandomState::new().hash_one(failures) as u32;
        full / 2 + (full / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// For an operator: how often it failed in a row, and whether it is dead.
    pub(crate) fn report(&self, now: Instant) -> (u32, bool) {
        match &*self.inner() {
            None => (0, false),
            Some(trouble) => (trouble.failures, trouble.dead_until.is_some_and(|until| now < until)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { retry_attempts: 2, retry_timeout: Duration::from_secs(1), dead_timeout: Duration::from_secs(60) };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_failure_asks_for_no_pause_and_the_next_ones_for_longer_ones() {
        let (standing, start) = (Standing::new(RULES), Instant::now());
        assert_eq!(standing.attempt(start), Attempt::Open);
        standing.failed(start, start);
        assert_eq!(standing.attempt(start), Attempt::Open);
        let mut now = start;
        for full in [50, 100, 200, 400, 800] {
            now += ms(1);
            standing.failed(now, now);
            let Attempt::Pause(pause) = standing.attempt(now) else { panic!() };
            assert!((ms(full / 2)..=ms(full)).contains(&pause), "{pause:?} of {full}");
            now += ms(full);
            assert_eq!(standing.attempt(now), Attempt::Probe);
        }
        for _ in 0..40 {
            now += ms(1);
            standing.failed(now, now);
            let Attempt::Pause(pause) = standing.attempt(now) else { panic!() };
            assert!(pause <= RULES.retry_timeout, "{pause:?}");
        }
    }

    #[test]
    fn a_server_that_keeps_failing_leaves_the_list_and_comes_back() {
        let (standing, start) = (Standing::new(RULES), Instant::now());
        for at in [0, 1000, 1999] {
            standing.failed(start + ms(at), start + ms(at));
            assert!(standing.is_candidate(start + ms(at)), "{at}");
        }
        standing.failed(start + ms(2000), start + ms(2000));
        let dead = start + ms(2000);
        assert!(!standing.is_candidate(dead) && !standing.is_candidate(dead + ms(59_999)));
        assert_eq!(standing.report(dead), (4, true));
        assert!(standing.is_candidate(dead + ms(60_000)));
        assert_eq!((standing.attempt(dead + ms(60_000)), standing.is_troubled()), (Attempt::Open, false));
    }

    #[test]
    fn without_attempts_the_first_failure_is_death() {
        let (standing, now) = (Standing::new(Rules { retry_attempts: 0, ..RULES }), Instant::now());
        standing.failed(now, now);
        assert!(!standing.is_candidate(now));
    }

    #[test]
    fn without_a_dead_timeout_nothing_leaves_the_list() {
        let (standing, start) = (Standing::new(Rules { dead_timeout: Duration::ZERO, ..RULES }), Instant::now());
        for at in 0..100 {
            standing.failed(start + ms(at * 1000), start + ms(at * 1000));
        }
        assert!(standing.is_candidate(start + ms(100_000)));
    }

    #[test]
    fn an_answer_clears_the_record() {
        let (standing, now) = (Standing::new(RULES), Instant::now());
        standing.failed(now, now);
        standing.failed(now + ms(1), now + ms(1));
        standing.succeeded();
        assert_eq!((standing.attempt(now + ms(1)), standing.report(now)), (Attempt::Open, (0, false)));
    }

    #[test]
    fn connections_that_end_together_are_one_failure() {
        let (standing, start) = (Standing::new(RULES), Instant::now());
        for _ in 0..10 {
            standing.failed(start + ms(5), start);
        }
        assert_eq!(standing.report(start), (1, false));
        standing.failed(start + ms(9), start + ms(6));
        assert_eq!(standing.report(start), (2, false));
    }
}
