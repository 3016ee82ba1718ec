//! Stops asking a store that does not answer: after a few failures calls fail at once, until a few probes succeed.
//!
//! What it protects is the caller: without it every call to a dead store takes its whole deadline. It stands inside the
//! deadline and before the store, and knows nothing of keys or values.
//!
//! ```text
//!            5 failures in 60 s                 open time is over               3 successes
//!  CLOSED ────────────────────────► OPEN ────────────────────────► HALF-OPEN ────────────────► CLOSED
//!                                     ▲  every call is refused        │ 3 probes at most, others are refused
//!                                     └──────── a failure ────────────┘
//! ```
//!
//! A call that is dropped says nothing about the store: its permit is given back and nothing is counted. Probes that have not
//! reported after another open time leave their places to others, so that the breaker cannot be wedged; when they report,
//! they count all the same: a store that hangs, or is slow, answers later than that.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachekit_plugin::{BackendError, Kind, Operation, Retry};

use crate::clock::Clock;

/// When a breaker opens and how it closes again. The defaults are those of the cachekit family but for the open time, which
/// is 30 s there: most outages are restarts, and a cache that comes back half a minute late has missed half a minute of hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// Failures within [`window`](Self::window) that open it (5, at least 1).
    pub failures: u32,
    /// How long a failure counts (60 s).
    pub window: Duration,
    /// How long it stays open at first (1 s). Doubles, with jitter, each time the probes fail.
    pub open: Duration,
    /// Longest time it stays open (30 s). Equal to `open`: always the same time, without jitter.
    pub open_max: Duration,
    /// Calls let through while half-open (3, at least as many as `successes`).
    pub probes: u32,
    /// Successful probes that close it (3, at least 1).
    pub successes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(60),
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
            probes: 3,
            successes: 3,
        }
    }
}

impl BreakerConfig {
    /// Open for exactly this long, however often the probes fail.
    #[must_use]
    pub const fn with_fixed_open(mut self, open: Duration) -> Self {
        self.open = open;
        self.open_max = open;
        self
    }

    /// What cannot work, in words.
    ///
    /// # Errors
    /// The field and what it must be.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.failures == 0 || self.failures > MAX_FAILURES {
            return Err("failures must be from 1 to 10000");
        }
        if self.successes == 0 || self.probes < self.successes {
            return Err("probes must be at least successes, and successes at least 1");
        }
        if self.probes > MAX_FAILURES {
            return Err("probes must be at most 10000");
        }
        if self.window < Duration::from_millis(1) {
            return Err("window must be at least 1 ms");
        }
        if self.open < Duration::from_millis(1) || self.open_max < self.open {
            return Err("open must be at least 1 ms and not longer than open_max");
        }
        Ok(())
    }
}

/// Bounds the list of recent failures.
const MAX_FAILURES: u32 = 10_000;

/// What a breaker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakerState {
    /// Every call passes.
    Closed = 0,
    /// No call passes.
    Open = 1,
    /// A few calls pass, to see whether the store is back.
    HalfOpen = 2,
}

impl BreakerState {
    /// A stable name for metrics and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The breaker of one store.
pub(crate) struct Breaker {
    config: BreakerConfig,
    clock: Arc<dyn Clock>,
    /// A copy of the state that can be read without the lock: while it is closed, a call that succeeds takes none.
    shown: AtomicU8,
    /// Calls that were refused.
    refused: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    state: BreakerState,
    /// Moments of the failures that still count, oldest first; at most `config.failures`.
    failed_at_ms: VecDeque<u64>,
    /// When it opened or became half-open.
    since_ms: u64,
    /// How long it stays open this time.
    open_ms: u64,
    /// Open times in a row.
    openings: u32,
    /// Tells probes of an earlier half-open time from those of this one.
    cycle: u64,
    /// Tells whose places those in `probes_given` are: they are given anew when their holders take too long.
    round: u64,
    probes_given: u32,
    probes_succeeded: u32,
    /// For jitter alone; nothing depends on its quality.
    random: u64,
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner {
            state: BreakerState::Closed,
            failed_at_ms: VecDeque::new(),
            since_ms: 0,
            open_ms: 0,
            openings: 0,
            cycle: 0,
            round: 0,
            probes_given: 0,
            probes_succeeded: 0,
            random: RandomState::new().hash_one(0_u8) | 1,
        };
        Self {
            config,
            clock,
            shown: AtomicU8::new(BreakerState::Closed as u8),
            refused: AtomicU64::new(0),
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.lock().state
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Lets a call pass or refuses it at once.
    pub(crate) fn admit(&self, operation: Operation) -> Result<Permit<'_>, BackendError> {
        if self.shown.load(Ordering::Relaxed) == BreakerState::Closed as u8 {
            return Ok(Permit { breaker: self, probe: None });
        }
        let now = self.clock.coarse_ms();
        let mut inner = self.lock();
        let waited_ms = now.saturating_sub(inner.since_ms);
        match inner.state {
            BreakerState::Closed => return Ok(Permit { breaker: self, probe: None }),
            BreakerState::Open | BreakerState::HalfOpen if waited_ms > inner.open_ms => {
                if inner.state == BreakerState::Open {
                    inner.cycle += 1;
                    inner.probes_succeeded = 0;
                }
                inner.round += 1;
                inner.probes_given = 0;
                inner.since_ms = now;
                self.enter(&mut inner, BreakerState::HalfOpen);
            }
            BreakerState::HalfOpen if inner.probes_given < self.config.probes => {}
            BreakerState::Open | BreakerState::HalfOpen => {
                return Err(self.refusal(operation, inner.open_ms.saturating_sub(waited_ms)));
            }
        }
        inner.probes_given += 1;
        Ok(Permit { breaker: self, probe: Some(Probe { cycle: inner.cycle, round: inner.round }) })
    }

    /// Refuses a call that would only wait to be refused. It takes no place of a probe.
    pub(crate) fn refuse_if_open(&self, operation: Operation) -> Result<(), BackendError> {
        if self.shown.load(Ordering::Relaxed) != BreakerState::Open as u8 {
            return Ok(());
        }
        let now = self.clock.coarse_ms();
        let inner = self.lock();
        let waited_ms = now.saturating_sub(inner.since_ms);
        if inner.state != BreakerState::Open || waited_ms > inner.open_ms {
            return Ok(());
        }
        Err(self.refusal(operation, inner.open_ms - waited_ms))
    }

    fn refusal(&self, operation: Operation, left_ms: u64) -> BackendError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let text = "the store failed repeatedly and is given a pause (circuit breaker)";
        let left = Duration::from_millis(left_ms.saturating_add(1));
        BackendError::new(Kind::Transient, operation, text).with_retry(Retry::After(left))
    }

    fn succeeded(&self, probe: Option<Probe>) {
        // While closed a success changes nothing, as in the family: the window alone forgets failures.
        let Some(probe) = probe else { return };
        let mut inner = self.lock();
        if inner.state != BreakerState::HalfOpen || inner.cycle != probe.cycle {
            return;
        }
        inner.probes_succeeded += 1;
        if inner.probes_succeeded >= self.config.successes {
            inner.failed_at_ms.clear();
            inner.openings = 0;
            self.enter(&mut inner, BreakerState::Closed);
            tracing::info!(target: "cachekit", "circuit breaker closed");
        }
    }

    fn failed(&self, probe: Option<Probe>) {
        let now = self.clock.coarse_ms();
        let mut inner = self.lock();
        match (inner.state, probe) {
            (BreakerState::Closed, _) => {
                let window_ms = millis(self.config.window);
                while inner.failed_at_ms.front().is_some_and(|&at| now.saturating_sub(at) > window_ms) {
                    inner.failed_at_ms.pop_front();
                }
                inner.failed_at_ms.push_back(now);
                if inner.failed_at_ms.len() >= self.config.failures as usize {
                    self.open(&mut inner, now);
                }
            }
            (BreakerState::HalfOpen, Some(probe)) if inner.cycle == probe.cycle => self.open(&mut inner, now),
            // Calls that began before it opened tell nothing new, nor do probes of an earlier half-open time.
            _ => {}
        }
    }

    /// A probe that was dropped leaves its place to another, unless that has happened already because it took too long.
    fn withdrawn(&self, probe: Probe) {
        let mut inner = self.lock();
        if inner.state == BreakerState::HalfOpen && inner.round == probe.round {
            inner.probes_given = inner.probes_given.saturating_sub(1);
        }
    }

    fn open(&self, inner: &mut Inner, now: u64) {
        let (first, most) = (millis(self.config.open), millis(self.config.open_max));
        let doubled = first.saturating_mul(1_u64.checked_shl(inner.openings).unwrap_or(u64::MAX)).min(most);
        inner.openings = inner.openings.saturating_add(1).min(63);
        inner.open_ms = if first == most { first } else { inner.jittered(doubled) };
        inner.since_ms = now;
        inner.failed_at_ms.clear();
        self.enter(inner, BreakerState::Open);
        // That the store fails was told as a warning when it began; this is what the cache does about it, again and again.
        tracing::info!(target: "cachekit", open_ms = inner.open_ms, "the store fails: circuit breaker open");
    }

    fn enter(&self, inner: &mut Inner, state: BreakerState) {
        inner.state = state;
        self.shown.store(state as u8, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Between three quarters and five quarters, so that a fleet does not probe in step (xorshift64).
    fn jittered(&mut self, ms: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (ms * 3 / 4).saturating_add(self.random % (ms / 2 + 1)).max(1)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A call that was let through. Says how it ended, or gives its place back.
#[must_use]
pub(crate) struct Permit<'a> {
    breaker: &'a Breaker,
    probe: Option<Probe>,
}

/// Which of the probes a call is.
#[derive(Clone, Copy)]
struct Probe {
    cycle: u64,
    round: u64,
}

impl Permit<'_> {
    /// Whether the store may be asked once more in the course of this call.
    pub(crate) fn may_repeat(&self) -> bool {
        self.probe.is_none() && self.breaker.shown.load(Ordering::Relaxed) == BreakerState::Closed as u8
    }

    /// Reports the end of the call; `failed` if it says that the store is not well.
    pub(crate) fn settle(self, failed: bool) {
        let (breaker, probe) = (self.breaker, self.probe);
        std::mem::forget(self);
        if failed { breaker.failed(probe) } else { breaker.succeeded(probe) }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(probe) = self.probe {
            self.breaker.withdrawn(probe);
        }
    }
}

/// Whether an error says that the store is not well, rather than that the question was wrong.
pub(crate) fn counts(error: &BackendError) -> bool {
    matches!(error.kind(), Kind::Internal | Kind::Panic | Kind::Transient | Kind::Timeout | Kind::Throttled)
}

#[cfg(test)]
mod tests;
