//! The guards of the second tier in a configuration: whether each stands there, and its numbers.
//!
//! In the file each of them is `true`, `false`, or a table of its numbers, which may say `enabled` as well:
//!
//! ```toml
//! retry = false
//! breaker = { failures = 10, open = "2s" }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Value as Json, json};
use toml::Spanned;

use super::file::duration;
use super::show::Shown;
use super::{Config, ConfigError, Setting, Source};
use crate::builder::CacheBuilder;
use crate::guard::adaptive::AdaptiveConfig;
use crate::guard::breaker::BreakerConfig;
use crate::guard::bulkhead::BulkheadConfig;
use crate::guard::retry::RetryConfig;

/// The guards by the names of their tables.
const GUARDS: [&str; 4] = ["bulkhead", "breaker", "retry", "adaptive_timeout"];
/// Their numbers.
const NUMBERS: [&str; 16] = [
    "bulkhead.in_flight",
    "bulkhead.queued",
    "bulkhead.wait",
    "breaker.failures",
    "breaker.window",
    "breaker.open",
    "breaker.open_max",
    "breaker.probes",
    "breaker.successes",
    "retry.tries",
    "retry.pause",
    "retry.pause_max",
    "retry.budget_percent",
    "adaptive_timeout.min",
    "adaptive_timeout.max",
    "adaptive_timeout.factor",
];

/// The numbers of the guards. Whether each of them stands there is beside this in [`Config`].
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct GuardNumbers {
    /// Calls in flight, and calls that wait.
    pub bulkhead: BulkheadConfig,
    /// When the circuit breaker opens and closes.
    pub breaker: BreakerConfig,
    /// How failed calls are tried again.
    pub retry: RetryConfig,
    /// When a read is given up to be tried again.
    pub adaptive_timeout: AdaptiveConfig,
    /// Where a number came from, by its name (`retry.tries`), unless it is a default.
    pub sources: BTreeMap<&'static str, Source>,
}

enum Number<'a> {
    Count(&'a mut u32),
    Time(&'a mut Duration),
}

impl GuardNumbers {
    fn number(&mut self, name: &str) -> Option<Number<'_>> {
        Some(match name {
            "bulkhead.in_flight" => Number::Count(&mut self.bulkhead.in_flight),
            "bulkhead.queued" => Number::Count(&mut self.bulkhead.queued),
            "bulkhead.wait" => Number::Time(&mut self.bulkhead.wait),
            "breaker.failures" => Number::Count(&mut self.breaker.failures),
            "breaker.window" => Number::Time(&mut self.breaker.window),
            "breaker.open" => Number::Time(&mut self.breaker.open),
            "breaker.open_max" => Number::Time(&mut self.breaker.open_max),
            "breaker.probes" => Number::Count(&mut self.breaker.probes),
            "breaker.successes" => Number::Count(&mut self.breaker.successes),
            "retry.tries" => Number::Count(&mut self.retry.tries),
            "retry.pause" => Number::Time(&mut self.retry.pause),
            "retry.pause_max" => Number::Time(&mut self.retry.pause_max),
            "retry.budget_percent" => Number::Count(&mut self.retry.budget_percent),
            "adaptive_timeout.min" => Number::Time(&mut self.adaptive_timeout.min),
            "adaptive_timeout.max" => Number::Time(&mut self.adaptive_timeout.max),
            "adaptive_timeout.factor" => Number::Count(&mut self.adaptive_timeout.factor),
            _ => return None,
        })
    }

    fn set(&mut self, name: &'static str, value: &Json, source: Source) -> Result<(), String> {
        match (self.number(name), value) {
            (Some(Number::Count(count)), Json::Number(number)) => {
                let given = number.as_u64().and_then(|given| u32::try_from(given).ok());
                *count = given.ok_or_else(|| format!("{number} is no whole number from 0 to {}", u32::MAX))?;
            }
            (Some(Number::Time(time)), Json::String(text)) => *time = duration(text)?,
            (Some(Number::Count(_)), _) => return Err("must be a whole number".into()),
            (Some(Number::Time(_)), _) => return Err("must be a duration in quotes such as \"250ms\"".into()),
            (None, _) => return Err("is not known".into()),
        }
        self.sources.insert(name, source);
        Ok(())
    }

    /// What cannot work is refused whether or not the guard stands there: a later `true` would meet it. A reason begins with
    /// the field it is about.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let checked = [
            ("bulkhead", self.bulkhead.check()),
            ("breaker", self.breaker.check()),
            ("retry", self.retry.check()),
            ("adaptive_timeout", self.adaptive_timeout.check()),
        ];
        for (guard, checked) in checked {
            let Err(reason) = checked else { continue };
            let field = format!("{guard}.{}", reason.split(' ').next().unwrap_or_default());
            // The other field of the two that do not go together may be the one that was written.
            let beside = self.sources.iter().find(|(name, _)| name.starts_with(guard)).map(|(_, source)| source);
            let source = self.sources.get(&*field).or(beside).cloned().unwrap_or(Source::Default);
            return Err(ConfigError::value(field, source, reason.into()));
        }
        Ok(())
    }
}

impl Config {
    fn guard(&mut self, guard: &str) -> Option<&mut Setting<bool>> {
        match guard {
            "bulkhead" => Some(&mut self.bulkhead),
            "breaker" => Some(&mut self.breaker),
            "retry" => Some(&mut self.retry),
            "adaptive_timeout" => Some(&mut self.adaptive_timeout),
            _ => None,
        }
    }

    pub(super) fn guards_into(&self, builder: CacheBuilder) -> CacheBuilder {
        let numbers = &self.guards;
        let builder = if self.bulkhead.value { builder.bulkhead(numbers.bulkhead) } else { builder.without_bulkhead() };
        let builder = if self.breaker.value { builder.breaker(numbers.breaker) } else { builder.without_breaker() };
        let builder = if self.retry.value { builder.retry(numbers.retry) } else { builder.without_retry() };
        match self.adaptive_timeout.value {
            true => builder.adaptive_timeout(numbers.adaptive_timeout),
            false => builder.without_adaptive_timeout(),
        }
    }

    pub(super) fn show_guards(&self) -> impl Iterator<Item = (String, Shown)> {
        let mut config = self.clone();
        let mut shown = Vec::new();
        for guard in GUARDS {
            let Some(setting) = config.guard(guard) else { continue };
            let (value, source) = (json!(setting.value), setting.source.to_string());
            shown.push((guard.to_owned(), Shown { value, source }));
        }
        for name in NUMBERS {
            let source = self.guards.sources.get(name).unwrap_or(&Source::Default).to_string();
            let value = match config.guards.number(name) {
                Some(Number::Count(count)) => json!(count),
                Some(Number::Time(time)) => json!(humantime::format_duration(*time).to_string()),
                None => continue,
            };
            shown.push((name.to_owned(), Shown { value, source }));
        }
        shown.into_iter()
    }
}

/// A guard in the file.
pub(super) enum Toggle {
    Is(bool),
    Numbers(BTreeMap<String, Spanned<Json>>),
}

impl<'de> Deserialize<'de> for Toggle {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Toggle;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a table")
            }

            fn visit_bool<E>(self, is: bool) -> Result<Toggle, E> {
                Ok(Toggle::Is(is))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Toggle, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(Toggle::Numbers)
            }
        }
        from.deserialize_any(Either)
    }
}

impl Toggle {
    /// Puts what the file says of a guard into the configuration; `at` knows the line of a value.
    pub(super) fn apply(
        &self,
        guard: &str,
        config: &mut Config,
        here: Source,
        at: impl Fn(&Spanned<Json>) -> Source,
    ) -> Result<(), ConfigError> {
        let mut enable = |is: bool, source: Source| {
            if let Some(setting) = config.guard(guard) {
                setting.set(is, source);
            }
        };
        let numbers = match self {
            Self::Is(is) => {
                enable(*is, here);
                return Ok(());
            }
            Self::Numbers(numbers) => numbers,
        };
        match numbers.get("enabled").map(|value| (value.get_ref(), at(value))) {
            None => enable(true, here),
            Some((Json::Bool(is), source)) => enable(*is, source),
            Some((_, source)) => {
                return Err(ConfigError::value(format!("{guard}.enabled"), source, "must be true or false".into()));
            }
        }
        for (field, value) in numbers.iter().filter(|(field, _)| *field != "enabled") {
            let name = format!("{guard}.{field}");
            let refuse = |reason: String| ConfigError::value(&*name, at(value), reason);
            let Some(known) = NUMBERS.into_iter().find(|known| **known == name) else {
                let known = NUMBERS.iter().filter_map(|known| known.strip_prefix(guard)?.strip_prefix('.'));
                let known = known.collect::<Vec<_>>().join(", ");
                return Err(refuse(format!("unknown field `{field}`; there are enabled, {known}")));
            };
            config.guards.set(known, value.get_ref(), at(value)).map_err(refuse)?;
        }
        Ok(())
    }
}
