//! The one place where the guards of a store are stacked. Every exchange with it passes through here; nothing that the first
//! tier answers does.
//!
//! ```text
//! call ─► deadline ─► bulkhead ─► breaker ─► retry ─► adaptive timeout ─► store
//!         covers all   a place     a permit    ≤ 3 tries   around each
//! ```
//!
//! The order is what makes them work together. A call that waits for its place has asked nobody yet, so it costs the store
//! nothing; the breaker judges calls by their last try, so a lost connection does not open it; and each try is measured on
//! its own, or the first that is lost would take the time of all others with it (docs/decisions/0022). Whatever a
//! guard gave is given back when the call ends, is dropped, or panics: permits are values. While nothing is wrong, all of them
//! together are a few atomics: no lock, no allocation, no second timer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachekit_plugin::{BackendError, Deadline, Kind, Operation, Retry};

use super::adaptive::{Adaptive, AdaptiveConfig};
use super::breaker::{self, Breaker, BreakerConfig, BreakerState};
use super::bulkhead::{Bulkhead, BulkheadConfig, Place};
use super::deadline::Until;
use super::retry::{Repeats, Retries, RetryConfig};
use crate::clock::Clock;
use crate::process::{Anew, PerProcess};

/// Which guards stand before a store. `None`: that one does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuardConfig {
    pub(crate) bulkhead: Option<BulkheadConfig>,
    pub(crate) breaker: Option<BreakerConfig>,
    pub(crate) retry: Option<RetryConfig>,
    pub(crate) adaptive: Option<AdaptiveConfig>,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            bulkhead: Some(BulkheadConfig::default()),
            breaker: Some(BreakerConfig::default()),
            retry: Some(RetryConfig::default()),
            adaptive: Some(AdaptiveConfig::default()),
        }
    }
}

impl GuardConfig {
    /// Nothing but the deadline: for a chain, whose tiers have their own.
    pub(crate) const NONE: Self = Self { bulkhead: None, breaker: None, retry: None, adaptive: None };

    /// Which guard cannot work, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let checked = [
            ("bulkhead", self.bulkhead.as_ref().map(BulkheadConfig::check)),
            ("circuit breaker", self.breaker.as_ref().map(BreakerConfig::check)),
            ("retry", self.retry.as_ref().map(RetryConfig::check)),
            ("adaptive timeout", self.adaptive.as_ref().map(AdaptiveConfig::check)),
        ];
        let wrong = checked.into_iter().find_map(|(guard, checked)| Some((guard, checked?.err()?)));
        wrong.map_or(Ok(()), Err)
    }
}

/// The guards of one store.
pub(crate) struct Guards {
    bulkhead: Option<PerProcess<Bulkhead>>,
    breaker: Option<Breaker>,
    retries: Option<Retries>,
    /// Of calls for one key, and of calls for many, which take longer.
    adaptive: Option<[Adaptive; 2]>,
    clock: Arc<dyn Clock>,
    shed_full: AtomicU64,
    shed_waited: AtomicU64,
}

/// What the guards decided since they were put up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GuardCounts {
    pub(crate) shed_by_breaker: u64,
    pub(crate) shed_full: u64,
    pub(crate) shed_waited: u64,
    pub(crate) retries: u64,
    pub(crate) retries_over_budget: u64,
    pub(crate) retries_too_late: u64,
    pub(crate) cut: u64,
}

/// What the guards before a store are doing right now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuardHealth {
    /// Calls that are with the store, and the most that may be; `None` without a bulkhead.
    pub in_flight: Option<(u32, u32)>,
    /// Calls that wait to be, and the most that may.
    pub queued: Option<(u32, u32)>,
    /// How long a read of one key may take before it is asked again; `None` while the deadline alone decides.
    pub adaptive_timeout: Option<Duration>,
}

/// Why a call was refused before the store was asked. It is the source of the error, for who must tell it from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Shed {
    /// As many calls were in flight as may be, and as many waited.
    #[error("the bulkhead's queue is full")]
    Full,
    /// It waited for a place for as long as it may.
    #[error("no place became free in time")]
    Waited,
}

impl Shed {
    /// Whether an error is a refusal of the bulkhead.
    pub fn is(error: &BackendError) -> bool {
        error.kind() == Kind::Throttled && std::error::Error::source(error).is_some_and(|source| source.is::<Self>())
    }
}

impl Anew for Bulkhead {
    fn anew(&self) -> Self {
        Self::new(*self.config())
    }
}

impl Guards {
    pub(crate) fn new(config: GuardConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            bulkhead: config.bulkhead.map(|config| PerProcess::new(Bulkhead::new(config))),
            breaker: config.breaker.map(|config| Breaker::new(config, Arc::clone(&clock))),
            retries: config.retry.map(Retries::new),
            adaptive: config.adaptive.map(|config| [Adaptive::new(config), Adaptive::new(config)]),
            clock,
            shed_full: AtomicU64::new(0),
            shed_waited: AtomicU64::new(0),
        }
    }

    /// Runs one exchange with the store. `work` is what one try does; `failure` is why an answer that came is none, for
    /// batches that failed as a whole.
    #[allow(
        clippy::manual_async_fn,
        reason = "an async fn holds its arguments twice, and this future is inside every other"
    )]
    pub(crate) fn run<T, W>(
        &self,
        deadline: Deadline,
        operation: Operation,
        failure: impl Fn(&T) -> Option<&BackendError>,
        mut work: impl FnMut() -> W,
    ) -> impl Future<Output = Result<T, BackendError>>
    where
        W: Future<Output = Result<T, BackendError>> + Unpin,
    {
        async move {
            let _place = match self.bulkhead.as_ref().map(PerProcess::get) {
                None => None,
                Some(bulkhead) => match bulkhead.try_enter() {
                    Some(place) => Some(place),
                    // Boxed, so that the futures of those who need not wait stay small.
                    None => Some(Box::pin(self.wait_for_place(bulkhead, deadline, operation)).await?),
                },
            };
            let permit = match &self.breaker {
                None => None,
                Some(breaker) => Some(breaker.admit(operation)?),
            };
            if let Some(retries) = &self.retries {
                retries.call_began();
            }
            let adaptive = self.adaptive(operation);
            let mut tries = 0;
            loop {
                tries += 1;
                // For no longer than such tries usually take. One that need not wait is not measured, and reads no clock.
                let limit_ms = adaptive.and_then(Adaptive::limit_ms);
                let mut began_ms = None;
                let due = || {
                    began_ms = adaptive.map(|_| self.clock.coarse_ms());
                    limit_ms.map_or(deadline, |limit| deadline.min(Deadline::after(Duration::from_millis(limit))))
                };
                let answer = match Until::new(due, work()).await {
                    Some(answer) => {
                        if let (Some(adaptive), Ok(_)) = (adaptive, &answer) {
                            adaptive.answered(began_ms.map_or(0, |began| self.clock.coarse_ms().saturating_sub(began)));
                        }
                        answer
                    }
                    None => Err(given_up(adaptive, limit_ms, deadline, operation)),
                };
                let failed = answer.as_ref().map_or_else(Some, &failure);
                let Some(error) = failed else {
                    if let Some(permit) = permit {
                        permit.settle(false);
                    }
                    return answer;
                };
                // A probe is one question: asking again is what the breaker is there to prevent.
                let again = permit.as_ref().is_none_or(|permit| permit.may_repeat());
                if let Some(pause) = again.then(|| self.pause(operation, error, tries, deadline)).flatten() {
                    drop(answer);
                    Box::pin(Until::new(|| Deadline::after(pause), std::future::pending::<()>())).await;
                    continue;
                }
                if let Some(permit) = permit {
                    permit.settle(breaker::counts(error));
                }
                return answer;
            }
        }
    }

    #[inline]
    fn adaptive(&self, operation: Operation) -> Option<&Adaptive> {
        let [one, many] = self.adaptive.as_ref()?;
        match operation {
            Operation::GetMany => Some(many),
            // How long a page takes depends on the store's other keys.
            Operation::Scan => None,
            _ => matches!(Repeats::of(operation), Repeats::Reads).then_some(one),
        }
    }

    #[cold]
    async fn wait_for_place<'a>(
        &self,
        bulkhead: &'a Bulkhead,
        deadline: Deadline,
        operation: Operation,
    ) -> Result<Place<'a>, BackendError> {
        // Nobody waits for a place to be refused by the breaker afterwards.
        if let Some(breaker) = &self.breaker {
            breaker.refuse_if_open(operation)?;
        }
        let wait = bulkhead.config().wait;
        let (shed, count, text) = match bulkhead.enter() {
            Ok(entering) => {
                let patience = deadline.min(Deadline::after(wait));
                if let Some(place) = Until::new(|| patience, entering).await {
                    return Ok(place);
                }
                (Shed::Waited, &self.shed_waited, "no call to the store ended in time (bulkhead)")
            }
            Err(_) => (Shed::Full, &self.shed_full, "as many calls wait for the store as may (bulkhead)"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        let refusal = BackendError::new(Kind::Throttled, operation, text).with_retry(Retry::After(wait));
        Err(refusal.with_source(shed))
    }

    #[cold]
    fn pause(&self, operation: Operation, error: &BackendError, tries: u32, deadline: Deadline) -> Option<Duration> {
        let needs = self.adaptive(operation).map_or(Duration::ZERO, Adaptive::usual);
        self.retries.as_ref()?.pause(operation, error, tries, deadline, needs)
    }

    /// What the breaker is doing, if there is one.
    pub(crate) fn breaker_state(&self) -> Option<BreakerState> {
        self.breaker.as_ref().map(Breaker::state)
    }

    pub(crate) fn counts(&self) -> GuardCounts {
        let [retries, retries_over_budget, retries_too_late] = self.retries.as_ref().map_or([0; 3], Retries::counts);
        GuardCounts {
            shed_by_breaker: self.breaker.as_ref().map_or(0, Breaker::refused),
            shed_full: self.shed_full.load(Ordering::Relaxed),
            shed_waited: self.shed_waited.load(Ordering::Relaxed),
            retries,
            retries_over_budget,
            retries_too_late,
            cut: self.adaptive.as_ref().map_or(0, |adaptive| adaptive.iter().map(Adaptive::cut).sum()),
        }
    }

    pub(crate) fn health(&self) -> GuardHealth {
        let load = self.bulkhead.as_ref().map(PerProcess::get).map(|bulkhead| (bulkhead.load(), *bulkhead.config()));
        GuardHealth {
            in_flight: load.map(|((in_flight, _), config)| (in_flight, config.in_flight)),
            queued: load.map(|((_, queued), config)| (queued, config.queued)),
            adaptive_timeout: self.adaptive.as_ref().and_then(|[one, _]| one.limit_ms()).map(Duration::from_millis),
        }
    }
}

/// A try that did not end in time: in its own, or in that of the call.
#[cold]
fn given_up(
    adaptive: Option<&Adaptive>,
    limit_ms: Option<u64>,
    deadline: Deadline,
    operation: Operation,
) -> BackendError {
    match (adaptive, limit_ms) {
        (Some(adaptive), Some(limit_ms)) if !deadline.has_passed() => {
            adaptive.gave_up(limit_ms);
            let text = "it took much longer than such answers do (adaptive timeout)";
            BackendError::new(Kind::Timeout, operation, text)
        }
        _ => BackendError::timeout(operation),
    }
}

#[cfg(test)]
mod tests;
