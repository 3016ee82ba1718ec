//! `[freshness]`: what a cache does about age.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::file::{Field, File, duration};
use super::show::Shown;
use super::{Config, ConfigError, Setting, Source};
use crate::fresh::FreshnessConfig;

/// Longest life with its window that cachekit.io keeps: 30 days.
const IO_LONGEST: Duration = Duration::from_secs(2_592_000);

/// One setting for each field of [`FreshnessConfig`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FreshnessSettings {
    /// See [`FreshnessConfig::stale`].
    pub stale: Setting<Option<Duration>>,
    /// See [`FreshnessConfig::stale_if_error`].
    pub stale_if_error: Setting<Option<Duration>>,
    /// Whether values are refreshed while they are fresh: the family's `swr_enabled`.
    pub refresh_ahead: Setting<bool>,
    /// See [`FreshnessConfig::refresh_ahead`].
    pub refresh_ahead_at: Setting<f64>,
    /// See [`FreshnessConfig::early_refresh`].
    pub early_refresh: Setting<Option<f64>>,
    /// See [`FreshnessConfig::jitter`].
    pub jitter: Setting<f64>,
    /// See [`FreshnessConfig::soft_timeout`].
    pub soft_timeout: Setting<Option<Duration>>,
    /// See [`FreshnessConfig::hard_timeout`].
    pub hard_timeout: Setting<Option<Duration>>,
    /// See [`FreshnessConfig::negative_ttl`].
    pub negative_ttl: Setting<Option<Duration>>,
    /// See [`FreshnessConfig::extend_on_get`].
    pub extend_on_get: Setting<Option<f64>>,
    /// See [`FreshnessConfig::max_refreshes`].
    pub max_refreshes: Setting<usize>,
    /// See [`FreshnessConfig::retry_interval`].
    pub retry_interval: Setting<Duration>,
    /// See [`FreshnessConfig::get_serves_stale`].
    pub get_serves_stale: Setting<bool>,
}

impl Default for FreshnessSettings {
    fn default() -> Self {
        let config = FreshnessConfig::default();
        Self {
            stale: Setting::default_to(config.stale),
            stale_if_error: Setting::default_to(config.stale_if_error),
            refresh_ahead: Setting::default_to(config.refresh_ahead.is_some()),
            refresh_ahead_at: Setting::default_to(config.refresh_ahead.unwrap_or(crate::fresh::DEFAULT_REFRESH_AHEAD)),
            early_refresh: Setting::default_to(config.early_refresh),
            jitter: Setting::default_to(config.jitter),
            soft_timeout: Setting::default_to(config.soft_timeout),
            hard_timeout: Setting::default_to(config.hard_timeout),
            negative_ttl: Setting::default_to(config.negative_ttl),
            extend_on_get: Setting::default_to(config.extend_on_get),
            max_refreshes: Setting::default_to(config.max_refreshes),
            retry_interval: Setting::default_to(config.retry_interval),
            get_serves_stale: Setting::default_to(config.get_serves_stale),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    stale: Field<String>,
    stale_if_error: Field<String>,
    refresh_ahead: Field<bool>,
    refresh_ahead_at: Field<f64>,
    early_refresh: Field<f64>,
    jitter: Field<f64>,
    soft_timeout: Field<String>,
    hard_timeout: Field<String>,
    negative_ttl: Field<String>,
    extend_on_get: Field<f64>,
    max_refreshes: Field<u32>,
    retry_interval: Field<String>,
    get_serves_stale: Field<bool>,
}

impl Fields {
    pub(super) fn apply(&self, file: &File, config: &mut Config) -> Result<(), ConfigError> {
        let to = &mut config.freshness;
        let window = |text: &String| duration(text).map(Some);
        let span = |text: &String| match duration(text)? {
            Duration::ZERO => Err("more than zero is expected; leave it out for none".to_owned()),
            span => Ok(Some(span)),
        };
        file.take(&self.stale, &mut to.stale, "freshness.stale", window)?;
        file.take(&self.stale_if_error, &mut to.stale_if_error, "freshness.stale_if_error", window)?;
        file.take(&self.refresh_ahead, &mut to.refresh_ahead, "freshness.refresh_ahead", |on| Ok(*on))?;
        file.take(&self.refresh_ahead_at, &mut to.refresh_ahead_at, "freshness.refresh_ahead_at", fraction)?;
        file.take(&self.early_refresh, &mut to.early_refresh, "freshness.early_refresh", |beta| match *beta {
            beta if beta > 0.0 && beta <= 100.0 => Ok(Some(beta)),
            beta => Err(format!("{beta} is not above 0 and at most 100")),
        })?;
        file.take(&self.jitter, &mut to.jitter, "freshness.jitter", |jitter| match *jitter {
            jitter if (0.0..=0.5).contains(&jitter) => Ok(jitter),
            jitter => Err(format!("{jitter} is no fraction from 0 to 0.5")),
        })?;
        file.take(&self.soft_timeout, &mut to.soft_timeout, "freshness.soft_timeout", span)?;
        file.take(&self.hard_timeout, &mut to.hard_timeout, "freshness.hard_timeout", span)?;
        file.take(&self.negative_ttl, &mut to.negative_ttl, "freshness.negative_ttl", span)?;
        let extend = |value: &f64| fraction(value).map(Some);
        file.take(&self.extend_on_get, &mut to.extend_on_get, "freshness.extend_on_get", extend)?;
        file.take(&self.max_refreshes, &mut to.max_refreshes, "freshness.max_refreshes", |most| match *most {
            most @ 1..=10_000 => Ok(most as usize),
            most => Err(format!("{most} is outside 1 to 10000")),
        })?;
        file.take(&self.retry_interval, &mut to.retry_interval, "freshness.retry_interval", |text| duration(text))?;
        file.take(&self.get_serves_stale, &mut to.get_serves_stale, "freshness.get_serves_stale", |on| Ok(*on))
    }
}

/// NaN is between nothing.
fn fraction(value: &f64) -> Result<f64, String> {
    match *value {
        value if value > 0.0 && value < 1.0 => Ok(value),
        value => Err(format!("{value} is no fraction between 0 and 1")),
    }
}

/// The preset io keeps what is stale for as long as it was fresh, as far as its store takes both together.
pub(super) fn complete_io(config: &mut Config) {
    if let (Source::Default, Some(ttl)) = (&config.freshness.stale.source, config.ttl.value) {
        let window = ttl.min(IO_LONGEST.saturating_sub(ttl));
        config.freshness.stale.set(Some(window), Source::Preset("io"));
    }
}

impl FreshnessSettings {
    pub(super) fn to_config(&self) -> FreshnessConfig {
        FreshnessConfig {
            stale: self.stale.value,
            stale_if_error: self.stale_if_error.value,
            refresh_ahead: self.refresh_ahead.value.then_some(self.refresh_ahead_at.value),
            early_refresh: self.early_refresh.value,
            jitter: self.jitter.value,
            soft_timeout: self.soft_timeout.value,
            hard_timeout: self.hard_timeout.value,
            negative_ttl: self.negative_ttl.value,
            extend_on_get: self.extend_on_get.value,
            max_refreshes: self.max_refreshes.value,
            retry_interval: self.retry_interval.value,
            get_serves_stale: self.get_serves_stale.value,
        }
    }

    pub(super) fn show(&self, into: &mut BTreeMap<String, Shown>) {
        fn shown<T>(setting: &Setting<T>, value: impl Fn(&T) -> Json) -> Shown {
            Shown { value: value(&setting.value), source: setting.source.to_string() }
        }
        fn span(span: &Duration) -> Json {
            json!(humantime::format_duration(*span).to_string())
        }
        fn some_span(value: &Option<Duration>) -> Json {
            value.as_ref().map_or(json!("none"), span)
        }
        fn some_number(value: &Option<f64>) -> Json {
            value.map_or(json!("none"), |value| json!(value))
        }
        for (name, shown) in [
            ("stale", shown(&self.stale, some_span)),
            ("stale_if_error", shown(&self.stale_if_error, some_span)),
            ("refresh_ahead", shown(&self.refresh_ahead, |on| json!(on))),
            ("refresh_ahead_at", shown(&self.refresh_ahead_at, |at| json!(at))),
            ("early_refresh", shown(&self.early_refresh, some_number)),
            ("jitter", shown(&self.jitter, |jitter| json!(jitter))),
            ("soft_timeout", shown(&self.soft_timeout, some_span)),
            ("hard_timeout", shown(&self.hard_timeout, some_span)),
            ("negative_ttl", shown(&self.negative_ttl, some_span)),
            ("extend_on_get", shown(&self.extend_on_get, some_number)),
            ("max_refreshes", shown(&self.max_refreshes, |most| json!(most))),
            ("retry_interval", shown(&self.retry_interval, span)),
            ("get_serves_stale", shown(&self.get_serves_stale, |on| json!(on))),
        ] {
            into.insert(format!("freshness.{name}"), shown);
        }
    }
}
