//! The presets of the cachekit family, as far as they set what exists here.
//!
//! A preset is a set of defaults: whatever a file or a variable says wins over it. `io` alone is more than that, because it
//! brings its backend with it.

use std::time::Duration;

use serde_json::Map;

use super::variables::CACHEKITIO;
use super::{Config, ConfigError, Environment, PluginDemand, Source, TierChoice};

struct Preset {
    name: &'static str,
    ttl: Duration,
    deadline: Duration,
    /// The breaker, and with it retries and the adaptive timeout: the family's column "reliability".
    breaker: bool,
    /// Whether what others write evicts from L1: the family's column "invalidation". Where there are such others, loads are
    /// agreed on with them as well.
    coherence: bool,
    encryption: bool,
}

const fn preset(name: &'static str, ttl_secs: u64, deadline_ms: u64, breaker: bool, coherence: bool) -> Preset {
    let (ttl, deadline) = (Duration::from_secs(ttl_secs), Duration::from_millis(deadline_ms));
    Preset { name, ttl, deadline, breaker, coherence, encryption: false }
}

const PRESETS: [Preset; 6] = [
    preset("minimal", 300, 1000, false, false),
    preset("test", 300, 1000, false, false),
    preset("dev", 300, 1000, true, false),
    preset("production", 600, 250, true, true),
    Preset { encryption: true, ..preset("secure", 600, 1000, true, true) },
    // A request to another continent takes longer than one to a store next door.
    preset("io", 3600, 5000, true, true),
];

pub(super) fn apply(config: &mut Config, name: &str, from: Source) -> Result<(), ConfigError> {
    let Some(preset) = PRESETS.iter().find(|known| known.name == name) else {
        let known = PRESETS.each_ref().map(|known| known.name).join(", ");
        let reason = format!("{name:?} is none of {known}");
        return Err(ConfigError::value("preset", from, reason));
    };
    let source = || Source::Preset(preset.name);
    config.preset.set(Some(preset.name), from);
    config.ttl.set(Some(preset.ttl), source());
    config.deadline.set(Some(preset.deadline), source());
    config.breaker.set(preset.breaker, source());
    config.retry.set(preset.breaker, source());
    config.adaptive_timeout.set(preset.breaker, source());
    // The family's column "backpressure": on but in tests, which want to see every call arrive.
    config.bulkhead.set(preset.name != "test", source());
    // The family's column "SWR": off in the two that are as plain as can be.
    config.freshness.refresh_ahead.set(!matches!(preset.name, "minimal" | "test"), source());
    config.l1_coherence.set(preset.coherence, source());
    config.fill_locks_enabled.set(preset.coherence, source());
    // Presets of programs in service take no plugin whose bytes nobody wrote down.
    if matches!(preset.name, "production" | "secure") {
        config.plugin_trust.preset(PluginDemand::HASH, source());
    }
    if preset.encryption {
        config.encryption_enabled.set(true, source());
    }
    Ok(())
}

/// What a preset adds once everything else has spoken.
pub(super) fn complete(config: &mut Config, environment: &Environment) -> Result<(), ConfigError> {
    if !config.is_io() {
        return Ok(());
    }
    super::freshness::complete_io(config);
    match &config.tier.value {
        None => {
            let scheme = CACHEKITIO.first().copied().unwrap_or_default().to_owned();
            config.tier.set(Some(TierChoice::Builtin { scheme, options: Map::new() }), Source::Preset("io"));
            environment.fill_options(config)
        }
        Some(TierChoice::Builtin { scheme, .. }) if CACHEKITIO.contains(&scheme.as_str()) => Ok(()),
        // A library may be the same client; its id is known when it is opened.
        Some(TierChoice::Plugin { .. }) => Ok(()),
        Some(_) => {
            let reason =
                "the preset io is the cachekit.io backend, and here another one is named; leave out one of the two";
            Err(ConfigError::value("tier", config.tier.source.clone(), reason.into()))
        }
    }
}
