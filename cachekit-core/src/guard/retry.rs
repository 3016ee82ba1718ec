//! Asks a store again where that can help: after failures that pass, for operations that bear it, within a budget.
//!
//! What it protects is the caller, from a connection that broke or an answer that got lost; and the store, from callers that
//! multiply their calls when it is weakest: retries are at most a tenth of the calls, and none is made that could not end
//! before the deadline. It stands inside the breaker, which sees how a call ended after its last try.
//!
//! What bears repetition is decided here, by operation (`Repeats`), and by what the error says of itself ([`Retry`]).

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachekit_plugin::{BackendError, Deadline, Kind, Operation, Retry};

/// How often and how soon a failed call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// Tries in all (3, from 2 to 10).
    pub tries: u32,
    /// Longest pause before the second try (10 ms, longer than zero). Doubles with each try; the pause is drawn between zero
    /// and that, so that callers who failed together do not come back together.
    pub pause: Duration,
    /// Longest pause before any try (1 s, not shorter than `pause`).
    pub pause_max: Duration,
    /// Retries per hundred calls (10, from 1 to 100), after a reserve of ten.
    pub budget_percent: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { tries: 3, pause: Duration::from_millis(10), pause_max: Duration::from_secs(1), budget_percent: 10 }
    }
}

impl RetryConfig {
    /// What cannot work, in words.
    ///
    /// # Errors
    /// The field and what it must be.
    pub fn check(&self) -> Result<(), &'static str> {
        if !(2..=10).contains(&self.tries) {
            return Err("tries must be from 2 to 10");
        }
        if self.pause.is_zero() || self.pause_max < self.pause {
            return Err("pause must be longer than zero and not longer than pause_max");
        }
        if !(1..=100).contains(&self.budget_percent) {
            return Err("budget_percent must be from 1 to 100");
        }
        Ok(())
    }
}

/// What an operation bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// It changes nothing: it may be given up early and asked again after any failure that passes.
    Reads,
    /// It leaves the same however often it happens. After a timeout it may happen yet, and later than what comes after its
    /// repetition, so it is repeated only after a failure that ended it.
    Writes,
    /// Once too often is wrong: a conditional write that landed and whose answer was lost fails when it is repeated, and a lock
    /// that was taken is seen as somebody else's.
    Never,
}

impl Repeats {
    pub(crate) const fn of(operation: Operation) -> Self {
        match operation {
            Operation::Get
            | Operation::GetDated
            | Operation::GetMany
            | Operation::GetVersion
            | Operation::Exists
            | Operation::Ttl
            | Operation::Scan
            | Operation::Read => Self::Reads,
            Operation::Set
            | Operation::SetStale
            | Operation::SetMany
            | Operation::Delete
            | Operation::DeleteMany
            | Operation::Touch => Self::Writes,
            // Clearing is long, and is finished page by page by who asked for it.
            _ => Self::Never,
        }
    }

    const fn after(self, kind: Kind) -> bool {
        match self {
            Self::Reads => matches!(kind, Kind::Transient | Kind::Timeout),
            Self::Writes => matches!(kind, Kind::Transient),
            Self::Never => false,
        }
    }
}

/// What one retry costs; a call brings `budget_percent`.
const PRICE: u64 = 100;
/// Retries that may be made before any call has brought anything, and the most that are saved up.
const RESERVE: u64 = 10;

/// The retries of one store.
pub(crate) struct Retries {
    config: RetryConfig,
    budget: AtomicU64,
    /// For jitter alone; nothing depends on its quality.
    random: AtomicU64,
    made: AtomicU64,
    over_budget: AtomicU64,
    too_late: AtomicU64,
}

impl Retries {
    pub(crate) fn new(config: RetryConfig) -> Self {
        Self::seeded(config, RandomState::new().hash_one(0_u8))
    }

    pub(crate) const fn seeded(config: RetryConfig, seed: u64) -> Self {
        Self {
            config,
            budget: AtomicU64::new(RESERVE * PRICE),
            random: AtomicU64::new(seed),
            made: AtomicU64::new(0),
            over_budget: AtomicU64::new(0),
            too_late: AtomicU64::new(0),
        }
    }

    /// A call began, and brings its share.
    #[inline]
    pub(crate) fn call_began(&self) {
        // A load first: while nothing fails the reserve is full, and there is nothing to write.
        if self.budget.load(Ordering::Relaxed) < RESERVE * PRICE {
            self.save();
        }
    }

    #[cold]
    fn save(&self) {
        let more = |saved: u64| Some((saved + u64::from(self.config.budget_percent)).min(RESERVE * PRICE));
        let _ = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// How long to wait before the next try, after `tries` that failed, the last one with `error`; `None` if there is to be
    /// none. `needs` is what a try usually takes.
    #[cold]
    pub(crate) fn pause(
        &self,
        operation: Operation,
        error: &BackendError,
        tries: u32,
        deadline: Deadline,
        needs: Duration,
    ) -> Option<Duration> {
        if tries >= self.config.tries || !Repeats::of(operation).after(error.kind()) {
            return None;
        }
        let asked = match error.retry() {
            Retry::No => return None,
            Retry::Now => Duration::ZERO,
            Retry::After(pause) => pause,
        };
        let left = deadline.remaining().unwrap_or(Duration::MAX);
        if left.is_zero() {
            return None;
        }
        let pause = asked.saturating_add(self.jitter(tries));
        if pause.saturating_add(needs) >= left {
            self.too_late.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(PRICE)).is_err() {
            self.over_budget.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        Some(pause)
    }

    /// Anything between nothing and the longest pause of this try ("full jitter"), which spreads callers best.
    fn jitter(&self, tries: u32) -> Duration {
        let longest = self.config.pause.saturating_mul(1 << (tries - 1).min(16)).min(self.config.pause_max);
        let longest_us = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX).max(1);
        // SplitMix64: its state is a counter, so that threads share it without a loop.
        let mut mixed = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Duration::from_micros((mixed ^ (mixed >> 31)) % longest_us)
    }

    /// Retries that were made, that the budget refused, and for which there was no time left.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.made, &self.over_budget, &self.too_late].map(|count| count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
