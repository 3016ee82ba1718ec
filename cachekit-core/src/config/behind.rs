//! `[write_behind]`: whether sets return before the second tier has their values, and how much may wait.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::file::{Field, File, Size, at_least_one, duration};
use super::show::Shown;
use super::{Config, ConfigError, Setting};
use crate::behind::{LONGEST_PAUSE, WriteBehind};
use crate::builder::CacheBuilder;

/// One setting for each field of [`WriteBehind`], and whether it is on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WriteBehindSettings {
    /// Whether sets are written behind.
    pub enabled: Setting<bool>,
    /// See [`WriteBehind::max_bytes`].
    pub max_bytes: Setting<u64>,
    /// See [`WriteBehind::max_entries`].
    pub max_entries: Setting<usize>,
    /// See [`WriteBehind::attempts`].
    pub attempts: Setting<u32>,
    /// See [`WriteBehind::pause`].
    pub pause: Setting<Duration>,
}

impl Default for WriteBehindSettings {
    fn default() -> Self {
        let config = WriteBehind::default();
        Self {
            enabled: Setting::default_to(false),
            max_bytes: Setting::default_to(config.max_bytes),
            max_entries: Setting::default_to(config.max_entries),
            attempts: Setting::default_to(config.attempts),
            pause: Setting::default_to(config.pause),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    enabled: Field<bool>,
    max_bytes: Field<Size>,
    max_entries: Field<u32>,
    attempts: Field<u32>,
    pause: Field<String>,
}

impl Fields {
    pub(super) fn apply(&self, file: &File, config: &mut Config) -> Result<(), ConfigError> {
        let to = &mut config.write_behind;
        file.take(&self.enabled, &mut to.enabled, "write_behind.enabled", |on| Ok(*on))?;
        file.take(&self.max_bytes, &mut to.max_bytes, "write_behind.max_bytes", at_least_one)?;
        file.take(&self.max_entries, &mut to.max_entries, "write_behind.max_entries", |most| match *most {
            0 => Err("no value at all; set write_behind.enabled = false instead".into()),
            most => Ok(most as usize),
        })?;
        file.take(&self.attempts, &mut to.attempts, "write_behind.attempts", |attempts| match *attempts {
            attempts if attempts <= WriteBehind::MAX_ATTEMPTS => Ok(attempts),
            attempts => Err(format!("{attempts} is outside 0 to 100")),
        })?;
        file.take(&self.pause, &mut to.pause, "write_behind.pause", |text| match duration(text)? {
            pause if !pause.is_zero() && pause <= LONGEST_PAUSE => Ok(pause),
            _ => Err(format!("{text:?} is not more than 0 and at most 5s")),
        })
    }
}

impl WriteBehindSettings {
    pub(super) fn apply_to(&self, builder: CacheBuilder) -> CacheBuilder {
        if !self.enabled.value {
            return builder.without_write_behind();
        }
        builder.write_behind(WriteBehind {
            max_bytes: self.max_bytes.value,
            max_entries: self.max_entries.value,
            attempts: self.attempts.value,
            pause: self.pause.value,
        })
    }

    pub(super) fn show(&self, into: &mut BTreeMap<String, Shown>) {
        fn shown<T>(setting: &Setting<T>, value: impl Fn(&T) -> Json) -> Shown {
            Shown { value: value(&setting.value), source: setting.source.to_string() }
        }
        for (name, shown) in [
            ("enabled", shown(&self.enabled, |on| json!(on))),
            ("max_bytes", shown(&self.max_bytes, |bytes| json!(bytes))),
            ("max_entries", shown(&self.max_entries, |entries| json!(entries))),
            ("attempts", shown(&self.attempts, |attempts| json!(attempts))),
            ("pause", shown(&self.pause, |pause| json!(humantime::format_duration(*pause).to_string()))),
        ] {
            into.insert(format!("write_behind.{name}"), shown);
        }
    }
}
