//! The environment: `CACHEKIT_*`, `REDIS_URL` as a fallback, and what is odd about them.
//!
//! They are the variables of the cachekit family, so that one environment configures a Rust and a Python service alike. What
//! is known of each stands in [`variables`](super::variables); which backend they choose is told in
//! [`select`](super::select).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use zeroize::{Zeroize, Zeroizing};

use super::keys;
use super::variables::{self, Sets, Variable};
use super::{Config, ConfigError, Source, TierChoice, select, trust};
use crate::codec::Compression;

/// Names that are ours whatever stands behind them, beside the two that are not.
const PREFIX: &str = "CACHEKIT_";
/// What people write instead.
const WRONG_PREFIX: &str = "CACHE_";

/// The variables that a program was started with, as far as they concern a cache.
#[derive(Clone, Default)]
pub struct Environment {
    /// By their names in upper case.
    variables: BTreeMap<String, Given>,
    /// Whether they are those of somebody with fewer rights than this process.
    privileged: bool,
}

#[derive(Clone)]
struct Given {
    /// The name as the environment spells it.
    name: String,
    value: OsString,
}

/// Wiped, because it may be a key or hold a password. The environment itself keeps what it was given, where this process and
/// others of its user can read it; a file that a reference names does better.
impl Drop for Given {
    fn drop(&mut self) {
        std::mem::take(&mut self.value).into_encoded_bytes().zeroize();
    }
}

/// The names alone: values may be keys, or URLs with passwords.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Something odd that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

impl Environment {
    /// Takes what concerns a cache from all variables, as `std::env::vars_os()` gives them. Names are read in any case, as
    /// the family does; of two spellings the one in upper case counts.
    pub fn from_vars(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut variables = BTreeMap::new();
        for (name, value) in vars {
            let Ok(name) = name.into_string() else { continue };
            let upper = name.to_ascii_uppercase();
            let ours =
                upper.starts_with(PREFIX) || upper.starts_with(WRONG_PREFIX) || variables::known(&upper).is_some();
            // An empty variable is how shells and service files say "unset".
            if !ours || value.is_empty() || (name != upper && variables.contains_key(&upper)) {
                continue;
            }
            variables.insert(upper, Given { name, value });
        }
        Self { variables, privileged: false }
    }

    /// The environment of this process. If it has more rights than whoever started it (setuid and the like), nothing that it
    /// names is loaded.
    pub fn of_process() -> Self {
        let environment = Self::from_vars(std::env::vars_os());
        if crate::tier::plugin::is_privileged() { environment.of_a_stranger() } else { environment }
    }

    /// As that of somebody with fewer rights than this process: it names no library, no directory of libraries and no
    /// configuration file.
    #[must_use]
    pub fn of_a_stranger(self) -> Self {
        Self { privileged: true, ..self }
    }

    pub(super) fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// The names that are set, as the environment spells them: what this process sees, whatever a shell believes it has
    /// exported.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.values().map(|given| given.name.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.variables.get("CACHEKIT_CONFIG").map(|given| PathBuf::from(&given.value))
    }

    pub(super) fn apply(&self, config: &mut Config, backend_in_code: bool) -> Result<(), ConfigError> {
        self.warn(config)?;
        if self.privileged && self.has("CACHEKIT_CONFIG") {
            let text = "CACHEKIT_CONFIG is not read: this process has more rights than whoever started it".into();
            config.warnings.push(Warning(text));
        }
        if let Some(seconds) = self.whole("CACHEKIT_DEFAULT_TTL")? {
            // As in the family's documents: 0 is no expiry.
            let ttl = (seconds > 0).then(|| Duration::from_secs(seconds));
            config.ttl.set(ttl, Source::Variable("CACHEKIT_DEFAULT_TTL"));
        }
        self.sizes(config)?;
        if let Some(listen) = self.boolean("CACHEKIT_INVALIDATION_LISTENER_ENABLED")? {
            config.l1_coherence.set(listen, Source::Variable("CACHEKIT_INVALIDATION_LISTENER_ENABLED"));
        }
        self.compression(config)?;
        self.encryption(config)?;
        trust::apply(self, config)?;
        // A backend named in code is not questioned by what the environment would have chosen, however odd that is.
        // Nor by variables for the backend that the file names: its own are asked for once it has been put in place.
        if backend_in_code {
            return Ok(());
        }
        select::choose(self, config)?;
        self.fill_options(config)
    }

    fn sizes(&self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some(bytes) = self.whole("CACHEKIT_MAX_VALUE_SIZE")? {
            config.max_value.set(bytes, Source::Variable("CACHEKIT_MAX_VALUE_SIZE"));
        }
        // Values are not cut into chunks here, so the largest chunk is the largest value. It only ever lowers the limit:
        // the guide recommends it to those who are short of memory.
        if let Some(mb) = self.whole("CACHEKIT_MAX_CHUNK_SIZE_MB")?
            && mb << 20 < config.max_value.value
        {
            config.max_value.set(mb << 20, Source::Variable("CACHEKIT_MAX_CHUNK_SIZE_MB"));
        }
        if let Some(mb) = self.whole("CACHEKIT_L1_MAX_SIZE_MB")? {
            config.l1_max_bytes.set(mb << 20, Source::Variable("CACHEKIT_L1_MAX_SIZE_MB"));
        }
        Ok(())
    }

    fn compression(&self, config: &mut Config) -> Result<(), ConfigError> {
        let level = self.whole("CACHEKIT_COMPRESSION_LEVEL")?;
        let enabled = self.boolean("CACHEKIT_ENABLE_COMPRESSION")?;
        if let Some(level) = level
            && let Some(Compression::Zstd { level, threshold }) = Compression::from_seed_level(level as u8)
        {
            // The variable speaks of the level alone; from where on to compress stays as the file says.
            let threshold = match config.compression.value {
                Compression::Zstd { threshold, .. } | Compression::Lz4 { threshold } => threshold,
                Compression::None => threshold,
            };
            let source = Source::Variable("CACHEKIT_COMPRESSION_LEVEL");
            config.compression.set(Compression::Zstd { level, threshold }, source);
        }
        let source = Source::Variable("CACHEKIT_ENABLE_COMPRESSION");
        match enabled {
            Some(false) => config.compression.set(Compression::None, source),
            Some(true) if config.compression.value == Compression::None => {
                config.compression.set(Compression::default(), source);
            }
            _ => {}
        }
        Ok(())
    }

    fn encryption(&self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some(text) = self.text("CACHEKIT_MASTER_KEY")? {
            let key = keys::master(&text).map_err(|reason| refuse("CACHEKIT_MASTER_KEY", reason))?;
            config.master_key.set(Some(key), Source::Variable("CACHEKIT_MASTER_KEY"));
        }
        if let Some(text) = self.text("CACHEKIT_PREVIOUS_MASTER_KEYS")? {
            let name = "CACHEKIT_PREVIOUS_MASTER_KEYS";
            let keys = keys::previous_from_list(&text).map_err(|reason| refuse(name, reason))?;
            config.previous_master_keys.set(keys, Source::Variable(name));
        }
        if let Some(closed) = self.boolean("CACHEKIT_ENCRYPTION_FAIL_CLOSED")? {
            config.encryption_fail_closed.set(closed, Source::Variable("CACHEKIT_ENCRYPTION_FAIL_CLOSED"));
        }
        if let Some(Json::String(uuid)) = self.value("CACHEKIT_DEPLOYMENT_UUID")? {
            config.deployment_uuid.set(Some(uuid), Source::Variable("CACHEKIT_DEPLOYMENT_UUID"));
        }
        Ok(())
    }

    /// Options of the chosen backend that have variables of their own.
    pub(super) fn fill_options(&self, config: &mut Config) -> Result<(), ConfigError> {
        let by_file = matches!(config.tier.source, Source::File { .. });
        let Some(TierChoice::Builtin { scheme, options }) = &mut config.tier.value else { return Ok(()) };
        for (variable, option) in variables::options_of(scheme) {
            // What stands in a URL of the same or a higher source is meant for this very backend.
            if !self.has(variable.name) || (!by_file && says(options, option)) {
                continue;
            }
            if let Some(value) = self.value(variable.name)? {
                options.insert(option.to_owned(), value);
                config.tier_options.insert(option.to_owned(), Source::Variable(variable.name));
            }
        }
        Ok(())
    }

    fn warn(&self, config: &mut Config) -> Result<(), ConfigError> {
        for (upper, given) in &self.variables {
            let name = &given.name;
            let right = upper.strip_prefix(WRONG_PREFIX).map(|rest| format!("{PREFIX}{rest}"));
            if let Some(right) = right.filter(|right| variables::known(right).is_some()) {
                let text = format!("{name} is not read: the prefix is {PREFIX}, so the variable is called {right}");
                config.warnings.push(Warning(text));
                continue;
            }
            match variables::known(upper) {
                Some(Variable { name: known, sets: Sets::Nothing(why), .. }) => {
                    self.value(known)?;
                    config.warnings.push(Warning(format!("{name} has no effect: {why}")));
                }
                None if upper.starts_with(PREFIX) => {
                    let hint = match variables::nearest(upper) {
                        Some(nearest) => format!("; did you mean {nearest}?"),
                        None => String::new(),
                    };
                    config
                        .warnings
                        .push(Warning(format!("{name} is not known to this version and has no effect{hint}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<Zeroizing<String>>, ConfigError> {
        let Some(given) = self.variables.get(name) else { return Ok(None) };
        match given.value.to_str() {
            Some(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
            None => Err(refuse(name, "it is not UTF-8".into())),
        }
    }

    /// The value in the form that the table demands.
    pub(super) fn value(&self, name: &'static str) -> Result<Option<Json>, ConfigError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let (Some(variable), Some(given)) = (variables::known(name), self.variables.get(name)) else { return Ok(None) };
        variable.read(&text, &given.name).map(Some).map_err(|reason| refuse(name, reason))
    }

    fn whole(&self, name: &'static str) -> Result<Option<u64>, ConfigError> {
        Ok(self.value(name)?.and_then(|value| value.as_u64()))
    }

    fn boolean(&self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        Ok(self.value(name)?.and_then(|value| value.as_bool()))
    }
}

/// Whether the options already say this one: by its name, or because their URL names the host that it would.
fn says(options: &Map<String, Json>, option: &str) -> bool {
    let url = options.get("url").and_then(Json::as_str).unwrap_or_default();
    options.contains_key(option) || (option == "api_url" && !matches!(url, "" | "cachekitio://"))
}

pub(super) fn refuse(name: &'static str, reason: String) -> ConfigError {
    ConfigError::value(name, Source::Variable(name), reason)
}
