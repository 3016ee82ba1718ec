//! How a value ages, and what is done about it before, at and after its end.
//!
//! It protects callers from waiting for a loader whose value could have been there already, and the source behind the
//! loaders from being asked more often than it must. It stands beside the way of a get: `cache/load.rs` and
//! `cache/refresh.rs` ask it what an entry's age means and act on the answer.
//!
//! ```text
//! mod.rs      the knobs          windows.rs  a life -> the times of an entry       verdict.rs  an entry's age -> what to do
//! dice.rs     randomness         underway.rs one refresh per key, pauses after failures      knobs.rs  the builder's methods
//! ```

mod dice;
mod knobs;
#[cfg(test)]
mod tests;
pub(crate) mod underway;
pub(crate) mod verdict;
pub(crate) mod windows;

use std::time::Duration;

use crate::background::DEFAULT_SPARE;
use crate::error::Error;
use dice::Dice;

/// The example of the page on freshness compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/freshness.md")]
struct Page;

/// Where in its life a value is refreshed ahead, unless it has a stale window: the family's 0.5.
pub const DEFAULT_REFRESH_AHEAD: f64 = 0.5;
/// By how much lives are spread: the family's and the design's ±10 %.
pub const DEFAULT_JITTER: f64 = 0.1;
/// How long a key is left alone after its refresh failed: the family's 10 s.
pub const DEFAULT_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// What a cache does about age. The defaults are the family's.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FreshnessConfig {
    /// For how long after its life a value is served while it is refreshed. `None`: not at all.
    pub stale: Option<Duration>,
    /// For how long after that it is served if its loader fails. `None`: not at all.
    pub stale_if_error: Option<Duration>,
    /// From which fraction of its life on, between 0 and 1, a value without a stale window is refreshed while it is still
    /// fresh. `None`: never.
    pub refresh_ahead: Option<f64>,
    /// How eagerly a value is refreshed before its end by chance, weighed by what its load costs: XFetch's β. 1 is its optimum,
    /// more is earlier. `None`: never.
    pub early_refresh: Option<f64>,
    /// By which fraction, 0 to 0.5, the lives of loaded values are spread, so that what was loaded together does not end
    /// together.
    pub jitter: f64,
    /// How long a caller waits for the store and a loader if there is a value past its time that it could have instead. `None`:
    /// until the loader ends.
    pub soft_timeout: Option<Duration>,
    /// How long a loader may take. `None`: as long as it likes.
    pub hard_timeout: Option<Duration>,
    /// How long it is remembered that a loader found nothing. `None`: not at all.
    pub negative_ttl: Option<Duration>,
    /// The fraction of a life, between 0 and 1, that must be left; a get that finds less gives the entry its life anew.
    /// `None`: a get changes nothing.
    pub extend_on_get: Option<f64>,
    /// How many refreshes run at once.
    pub max_refreshes: usize,
    /// How long a key is left alone after its refresh failed.
    pub retry_interval: Duration,
    /// Whether `get`, which has no loader, returns what is in its stale window; and, while the store fails, what is not over.
    pub get_serves_stale: bool,
}

impl Default for FreshnessConfig {
    fn default() -> Self {
        Self {
            stale: None,
            stale_if_error: None,
            refresh_ahead: Some(DEFAULT_REFRESH_AHEAD),
            early_refresh: None,
            jitter: DEFAULT_JITTER,
            soft_timeout: None,
            hard_timeout: None,
            negative_ttl: None,
            extend_on_get: None,
            max_refreshes: DEFAULT_SPARE,
            retry_interval: DEFAULT_RETRY_INTERVAL,
            get_serves_stale: false,
        }
    }
}

impl FreshnessConfig {
    /// Nothing is refreshed, spread or served past its time: a value is fresh, and then gone.
    pub fn off() -> Self {
        Self { refresh_ahead: None, jitter: 0.0, ..Self::default() }
    }

    /// Names the first setting that cannot work, and its accepted form.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |setting, accepts| Err(Error::Freshness { setting, accepts });
        // A NaN is in no range, so it is refused by every one of these.
        let is_fraction = |value: Option<f64>| value.is_none_or(|value| value > 0.0 && value < 1.0);
        if !is_fraction(self.refresh_ahead) {
            return refuse("refresh_ahead", "a fraction between 0 and 1");
        }
        if !is_fraction(self.extend_on_get) {
            return refuse("extend_on_get", "a fraction between 0 and 1");
        }
        if !(0.0..=0.5).contains(&self.jitter) {
            return refuse("jitter", "a fraction from 0 to 0.5");
        }
        if !is_eagerness(self.early_refresh) {
            return refuse("early_refresh", EAGERNESS);
        }
        if self.max_refreshes == 0 || self.max_refreshes > 10_000 {
            return refuse("max_refreshes", "a number from 1 to 10000");
        }
        for (setting, value) in [
            ("soft_timeout", self.soft_timeout),
            ("hard_timeout", self.hard_timeout),
            ("negative_ttl", self.negative_ttl),
        ] {
            if value.is_some_and(|value| value.is_zero()) {
                return refuse(setting, "more than zero; leave it out for none");
            }
        }
        Ok(())
    }
}

const EAGERNESS: &str = "a number above 0, at most 100";

fn is_eagerness(beta: Option<f64>) -> bool {
    beta.is_none_or(|beta| beta > 0.0 && beta <= 100.0)
}

/// As [`FreshnessConfig::check`], for what one load wants.
pub(crate) fn check_eagerness(beta: Option<f64>) -> Result<(), Error> {
    if is_eagerness(beta) { Ok(()) } else { Err(Error::Freshness { setting: "early_refresh", accepts: EAGERNESS }) }
}

/// What a cache knows about age: its knobs and its dice.
pub(crate) struct Fresh {
    pub(crate) config: FreshnessConfig,
    dice: Dice,
}

impl Fresh {
    /// `seed`: `None` for one from the operating system.
    pub(crate) fn new(config: FreshnessConfig, seed: Option<u64>) -> Self {
        Self { config, dice: seed.map_or_else(Dice::from_system, Dice::seeded) }
    }
}
