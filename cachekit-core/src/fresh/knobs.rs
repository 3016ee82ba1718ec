//! The builder's methods for [`FreshnessConfig`], one for each setting.

use std::time::Duration;

use super::FreshnessConfig;
use crate::builder::CacheBuilder;

impl CacheBuilder {
    /// All that concerns age at once.
    #[must_use]
    pub fn freshness(mut self, config: FreshnessConfig) -> Self {
        self.freshness = config;
        self
    }

    /// For how long after its life a value is served while it is refreshed: [`FreshnessConfig::stale`].
    #[must_use]
    pub const fn stale(mut self, window: Duration) -> Self {
        self.freshness.stale = Some(window);
        self
    }

    /// For how long after that a value is served if its loader fails: [`FreshnessConfig::stale_if_error`].
    #[must_use]
    pub const fn stale_if_error(mut self, window: Duration) -> Self {
        self.freshness.stale_if_error = Some(window);
        self
    }

    /// From which fraction of its life on a value without a stale window is refreshed (0.5):
    /// [`FreshnessConfig::refresh_ahead`].
    #[must_use]
    pub const fn refresh_ahead(mut self, fraction: f64) -> Self {
        self.freshness.refresh_ahead = Some(fraction);
        self
    }

    /// Values are loaded anew after their end, never before.
    #[must_use]
    pub const fn without_refresh_ahead(mut self) -> Self {
        self.freshness.refresh_ahead = None;
        self
    }

    /// How eagerly a value is refreshed by chance, by what its load costs: [`FreshnessConfig::early_refresh`].
    #[must_use]
    pub const fn early_refresh(mut self, beta: f64) -> Self {
        self.freshness.early_refresh = Some(beta);
        self
    }

    /// By which fraction the lives of loaded values are spread (0.1): [`FreshnessConfig::jitter`].
    #[must_use]
    pub const fn jitter(mut self, fraction: f64) -> Self {
        self.freshness.jitter = fraction;
        self
    }

    /// How long a caller waits for a loader that it has a value instead of: [`FreshnessConfig::soft_timeout`].
    #[must_use]
    pub const fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.freshness.soft_timeout = Some(timeout);
        self
    }

    /// How long a loader may take: [`FreshnessConfig::hard_timeout`].
    #[must_use]
    pub const fn hard_timeout(mut self, timeout: Duration) -> Self {
        self.freshness.hard_timeout = Some(timeout);
        self
    }

    /// How long it is remembered that a loader found nothing: [`FreshnessConfig::negative_ttl`].
    #[must_use]
    pub const fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.freshness.negative_ttl = Some(ttl);
        self
    }

    /// A get that finds less than this fraction of a life left gives the entry its life anew:
    /// [`FreshnessConfig::extend_on_get`].
    #[must_use]
    pub const fn extend_on_get(mut self, fraction: f64) -> Self {
        self.freshness.extend_on_get = Some(fraction);
        self
    }

    /// How many refreshes run at once (32): [`FreshnessConfig::max_refreshes`].
    #[must_use]
    pub const fn max_refreshes(mut self, most: usize) -> Self {
        self.freshness.max_refreshes = most;
        self
    }

    /// How long a key is left alone after its refresh failed (10 s): [`FreshnessConfig::retry_interval`].
    #[must_use]
    pub const fn refresh_retry_interval(mut self, interval: Duration) -> Self {
        self.freshness.retry_interval = interval;
        self
    }

    /// Whether `get` returns what is stale: [`FreshnessConfig::get_serves_stale`].
    #[must_use]
    pub const fn get_serves_stale(mut self, serves: bool) -> Self {
        self.freshness.get_serves_stale = serves;
        self
    }

    /// What lives are spread and early refreshes drawn with, for tests that must come out the same. Nothing that has to stay
    /// secret is made of it.
    #[must_use]
    pub const fn random_seed(mut self, seed: u64) -> Self {
        self.random_seed = Some(seed);
        self
    }
}
