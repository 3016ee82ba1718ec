//! The variables of the environment: `CACHEKIT_*`, and `REDIS_URL` as a fallback.
//!
//! They are the ones of the cachekit family, so that one environment configures a Rust and a Python service alike. Ranges
//! and defaults are in `docs/configuration.md`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::{Config, ConfigError, Source, TierChoice, url};
use crate::codec::Compression;

/// The variables that a program was started with, as far as they concern a cache.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

/// The names alone: values may be keys, or URLs with passwords.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// Something odd that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

/// Every variable that is read. Those of backends that a program was not built with select them all the same, and the
/// error that follows says so.
pub const KNOWN_VARIABLES: &[&str] = &[
    "CACHEKIT_API_KEY",
    "CACHEKIT_BACKEND",
    "CACHEKIT_COMPRESSION_LEVEL",
    "CACHEKIT_CONFIG",
    "CACHEKIT_DEFAULT_TTL",
    "CACHEKIT_ENABLE_COMPRESSION",
    "CACHEKIT_FILE_CACHE_DIR",
    "CACHEKIT_FILE_DIR_PERMISSIONS",
    "CACHEKIT_FILE_LOCK_TIMEOUT_SECONDS",
    "CACHEKIT_FILE_MAX_ENTRY_COUNT",
    "CACHEKIT_FILE_MAX_SIZE_MB",
    "CACHEKIT_FILE_MAX_VALUE_MB",
    "CACHEKIT_FILE_PERMISSIONS",
    "CACHEKIT_L1_MAX_SIZE_MB",
    "CACHEKIT_MAX_VALUE_SIZE",
    "CACHEKIT_MEMCACHED_SERVERS",
    "CACHEKIT_REDIS_URL",
    "REDIS_URL",
];

/// Options of the File backend and the variables that set them.
const FILE_OPTIONS: &[(&str, &str)] = &[
    ("CACHEKIT_FILE_MAX_SIZE_MB", "max_size_mb"),
    ("CACHEKIT_FILE_MAX_VALUE_MB", "max_value_mb"),
    ("CACHEKIT_FILE_MAX_ENTRY_COUNT", "max_entry_count"),
    ("CACHEKIT_FILE_LOCK_TIMEOUT_SECONDS", "lock_timeout_seconds"),
    ("CACHEKIT_FILE_PERMISSIONS", "permissions"),
    ("CACHEKIT_FILE_DIR_PERMISSIONS", "dir_permissions"),
];

impl Environment {
    /// Takes what concerns a cache from all variables, as `std::env::vars_os()` gives them.
    pub fn from_vars(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = vars
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, value)| {
                let ours = name.starts_with("CACHEKIT_") || name.starts_with("CACHE_") || name == "REDIS_URL";
                // An empty variable is how shells and service files say "unset".
                ours && !value.is_empty()
            })
            .collect();
        Self { variables }
    }

    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.variables.get("CACHEKIT_CONFIG").map(PathBuf::from)
    }

    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        self.warn(config);
        if let Some((seconds, source)) = self.number("CACHEKIT_DEFAULT_TTL", 0, u64::MAX)? {
            // As in the family's documents: 0 is no expiry.
            config.ttl.set((seconds > 0).then(|| Duration::from_secs(seconds)), source);
        }
        if let Some((bytes, source)) = self.number("CACHEKIT_MAX_VALUE_SIZE", 1, u64::MAX)? {
            config.max_value.set(bytes, source);
        }
        if let Some((mb, source)) = self.number("CACHEKIT_L1_MAX_SIZE_MB", 1, 1 << 30)? {
            config.l1_max_bytes.set(mb << 20, source);
        }
        self.compression(config)?;
        self.choose_tier(config)?;
        self.fill_options(config)
    }

    fn compression(&self, config: &mut Config) -> Result<(), ConfigError> {
        let level = self.number("CACHEKIT_COMPRESSION_LEVEL", 1, 9)?;
        let enabled = self.boolean("CACHEKIT_ENABLE_COMPRESSION")?;
        if let Some((level, source)) = level
            && let Some(Compression::Zstd { level, threshold }) = Compression::from_seed_level(level as u8)
        {
            // The variable speaks of the level alone; from where on to compress stays as the file says.
            let threshold = match config.compression.value {
                Compression::Zstd { threshold, .. } | Compression::Lz4 { threshold } => threshold,
                Compression::None => threshold,
            };
            config.compression.set(Compression::Zstd { level, threshold }, source);
        }
        match enabled {
            Some((false, source)) => config.compression.set(Compression::None, source),
            Some((true, source)) if config.compression.value == Compression::None => {
                config.compression.set(Compression::default(), source);
            }
            _ => {}
        }
        Ok(())
    }

    fn choose_tier(&self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some((text, source)) = self.text("CACHEKIT_BACKEND")? {
            let choice = url::choose(&text).map_err(|reason| refuse("CACHEKIT_BACKEND", &reason))?;
            config.tier.set(Some(choice), source);
            return Ok(());
        }
        // A Redis URL wins over the other selectors; the unprefixed one, which other software sets too, only where the
        // configuration file chooses nothing.
        let redis = match self.text("CACHEKIT_REDIS_URL")? {
            Some(found) => Some(found),
            None if config.tier.value.is_none() => self.text("REDIS_URL")?,
            None => None,
        };
        if let Some((text, source)) = redis {
            let Source::Variable(name) = source else { return Ok(()) };
            if !["redis://", "rediss://", "unix://", "redis+"].iter().any(|scheme| text.starts_with(scheme)) {
                let reason = "a Redis URL begins with redis:// or rediss://, such as redis://localhost:6379/0";
                return Err(refuse(name, reason));
            }
            let choice = url::choose(&text).map_err(|reason| refuse(name, &reason))?;
            config.tier.set(Some(choice), source);
            return Ok(());
        }
        let selectors: Vec<&'static str> =
            ["CACHEKIT_API_KEY", "CACHEKIT_MEMCACHED_SERVERS", "CACHEKIT_FILE_CACHE_DIR"]
                .into_iter()
                .filter(|name| self.variables.contains_key(*name))
                .collect();
        match selectors.as_slice() {
            [] => Ok(()),
            ["CACHEKIT_FILE_CACHE_DIR"] => {
                let Some((dir, source)) = self.text("CACHEKIT_FILE_CACHE_DIR")? else { return Ok(()) };
                if !dir.starts_with('/') {
                    return Err(refuse("CACHEKIT_FILE_CACHE_DIR", &format!("{dir:?} is not an absolute path")));
                }
                let options = Map::from_iter([("dir".to_owned(), Json::String(dir))]);
                config.tier.set(Some(TierChoice::Builtin { scheme: "file".into(), options }), source);
                Ok(())
            }
            [name] => {
                let scheme = if *name == "CACHEKIT_API_KEY" { "cachekitio" } else { "memcached" };
                let choice = TierChoice::Builtin { scheme: scheme.into(), options: Map::new() };
                config.tier.set(Some(choice), Source::Variable(name));
                Ok(())
            }
            several => Err(refuse(
                several[0],
                &format!(
                    "{} are all set and each selects a backend; unset all but one, or name it in CACHEKIT_BACKEND",
                    several.join(", ")
                ),
            )),
        }
    }

    /// Options of the chosen backend that have variables of their own.
    pub(super) fn fill_options(&self, config: &mut Config) -> Result<(), ConfigError> {
        let by_code = matches!(config.tier.source, Source::Code(_) | Source::Variable("CACHEKIT_BACKEND"));
        let Some(TierChoice::Builtin { scheme, options }) = &mut config.tier.value else { return Ok(()) };
        if scheme != "file" {
            return Ok(());
        }
        for (name, option) in FILE_OPTIONS {
            let Some((text, _)) = self.text(name)? else { continue };
            // What stands in a URL of the same or a higher source is meant for this very backend.
            if by_code && options.contains_key(*option) {
                continue;
            }
            let value = serde_json::from_str::<Json>(&text).ok().filter(Json::is_number);
            let Some(value) = value else {
                return Err(refuse(name, &format!("{text:?} is no number")));
            };
            options.insert((*option).to_owned(), value);
        }
        Ok(())
    }

    fn warn(&self, config: &mut Config) {
        for name in self.variables.keys() {
            let right = name.strip_prefix("CACHE_").map(|rest| format!("CACHEKIT_{rest}"));
            if let Some(right) = right.filter(|right| KNOWN_VARIABLES.contains(&right.as_str())) {
                config.warnings.push(Warning(format!("{name} is not read; the variable is called {right}")));
            } else if name.starts_with("CACHEKIT_") && !KNOWN_VARIABLES.contains(&name.as_str()) {
                config.warnings.push(Warning(format!("{name} is not known to this version and has no effect")));
            }
        }
        let redis = ["CACHEKIT_REDIS_URL", "REDIS_URL"].into_iter().find(|name| self.variables.contains_key(*name));
        if let Some(redis) = redis {
            for other in ["CACHEKIT_API_KEY", "CACHEKIT_MEMCACHED_SERVERS", "CACHEKIT_FILE_CACHE_DIR"] {
                if self.variables.contains_key(other) {
                    config.warnings.push(Warning(format!("{other} is set, but {redis} selects the backend")));
                }
            }
        }
    }

    fn text(&self, name: &'static str) -> Result<Option<(String, Source)>, ConfigError> {
        let Some(value) = self.variables.get(name) else { return Ok(None) };
        match value.to_str() {
            Some(text) => Ok(Some((text.to_owned(), Source::Variable(name)))),
            None => Err(refuse(name, "it is not UTF-8")),
        }
    }

    fn number(&self, name: &'static str, min: u64, max: u64) -> Result<Option<(u64, Source)>, ConfigError> {
        let Some((text, source)) = self.text(name)? else { return Ok(None) };
        let range = if max == u64::MAX { format!("of at least {min}") } else { format!("from {min} to {max}") };
        match text.trim().parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some((number, source))),
            _ => Err(refuse(name, &format!("{text:?} is no whole number {range}"))),
        }
    }

    fn boolean(&self, name: &'static str) -> Result<Option<(bool, Source)>, ConfigError> {
        let Some((text, source)) = self.text(name)? else { return Ok(None) };
        match text.trim().to_ascii_lowercase().as_str() {
            "1" | "on" | "t" | "true" | "y" | "yes" => Ok(Some((true, source))),
            "0" | "off" | "f" | "false" | "n" | "no" => Ok(Some((false, source))),
            _ => Err(refuse(name, &format!("{text:?} is neither true nor false"))),
        }
    }
}

fn refuse(name: &'static str, reason: &str) -> ConfigError {
    ConfigError::value(name, Source::Variable(name), reason.to_owned())
}
