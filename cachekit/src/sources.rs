//! Caches from the environment and from files: the one place where both are read.

use std::path::{Path, PathBuf};

use cachekit_core::config::{Config, ConfigError, EngineServices, Environment, Source, Sources, TierChoice};
use cachekit_core::{Cache, CacheBuilder};

use crate::backends::built_in;
use crate::process_default::default_backend;

/// The cache that the environment and, if there is one, the user's `cachekit.toml` describe.
///
/// With nothing configured its second tier is Redis at `redis://localhost:6379`. No server there is no error: the cache
/// keeps values in the process alone, says so once in the log, and uses the server as soon as it answers.
///
/// # Errors
/// [`ConfigError`], naming the field, where its value came from, and what is accepted.
pub fn from_env() -> Result<Cache, ConfigError> {
    open(&config_from_env()?)
}

/// As [`from_env`], with the preset `secure` below it: everything that is stored is encrypted with the key in
/// `CACHEKIT_MASTER_KEY`, and nothing else is accepted.
///
/// # Errors
/// As [`from_env`]; without a key, or with one that cannot be used, before anything is opened.
pub fn secure_from_env() -> Result<Cache, ConfigError> {
    let preset = Some("secure".to_owned());
    open(&with_default_tier(Sources { preset, default_file: user_config_file(), ..Sources::default() })?)
}

/// What [`from_env`] opens, to be looked at or changed before.
///
/// # Errors
/// As [`from_env`].
pub fn config_from_env() -> Result<Config, ConfigError> {
    with_default_tier(Sources { default_file: user_config_file(), ..Sources::default() })
}

/// As [`config_from_env`], with a preset that is named in code.
pub(crate) fn config_from_env_with_preset(preset: Option<&str>) -> Result<Config, ConfigError> {
    let preset = preset.map(str::to_owned);
    with_default_tier(Sources { default_file: user_config_file(), preset, ..Sources::default() })
}

/// The cache that a configuration file describes, with the environment above it. A file that names no backend leaves it to
/// the environment, and to Redis at `redis://localhost:6379` after that.
///
/// # Errors
/// As [`from_env`].
pub fn from_file(path: impl AsRef<Path>) -> Result<Cache, ConfigError> {
    open(&with_default_tier(Sources { file: Some(path.as_ref().to_owned()), ..Sources::default() })?)
}

/// Resolves with the environment of this process, and falls back to what the family falls back to.
fn with_default_tier(mut sources: Sources) -> Result<Config, ConfigError> {
    sources.environment = Environment::of_process();
    let mut config = Config::resolve(&sources)?;
    if config.tier.value.is_none() && default_backend().is_none() {
        match fallback() {
            Some(tier) => fall_back(&mut config, tier, &sources.environment)?,
            None => tracing::warn!(
                target: "cachekit",
                "no second tier is configured: this cache keeps values in the process alone"
            ),
        }
    }
    Ok(config)
}

/// Takes a tier that nobody named: it stands below everything that anybody says later.
fn fall_back(config: &mut Config, tier: TierChoice, environment: &Environment) -> Result<(), ConfigError> {
    config.set_default_tier(tier, "nothing is configured", environment)?;
    config.tier.source = Source::Default;
    Ok(())
}

/// Whether code chose the backend, so that no default of the process goes over it.
fn named_in_code(config: &Config) -> bool {
    matches!(config.tier.source, Source::Code(_) | Source::Preset(_))
}

/// What the family uses where nobody said anything, if this program was built with it.
fn fallback() -> Option<TierChoice> {
    let options = [("url".to_owned(), "redis://localhost:6379".into())];
    let redis = TierChoice::Builtin { scheme: "redis".into(), options: options.into_iter().collect() };
    built_in().knows("redis").then_some(redis)
}

/// A cache on files in the user's cache directory: for programs that want a cache and no configuration.
///
/// # Errors
/// [`ConfigError`] if the directory is not usable.
#[cfg(feature = "file")]
pub fn embedded() -> Result<Cache, ConfigError> {
    let mut config = Config::default();
    config.set_default_tier(embedded_tier()?, "embedded", &Environment::default())?;
    open(&config)
}

/// Opens a resolved configuration with the backends of this program.
///
/// # Errors
/// [`ConfigError`] if the second tier cannot be opened or a setting is refused.
pub fn open(config: &Config) -> Result<Cache, ConfigError> {
    Ok(builder(config)?.build()?)
}

/// A builder with a resolved configuration, for what only code can say. Where the configuration's backend was not named in
/// code, [`set_default_backend`](crate::set_default_backend) goes over it.
///
/// # Errors
/// As [`open`].
pub fn builder(config: &Config) -> Result<CacheBuilder, ConfigError> {
    for warning in &config.warnings {
        tracing::warn!(target: "cachekit", "{}", warning.0);
    }
    for note in &config.notes {
        tracing::info!(target: "cachekit", "{note}");
    }
    if config.master_key.value.is_some() && !config.encryption_enabled.value {
        // Said because the other half of the family refuses to guess: whoever sets a key may believe that it is in use.
        tracing::warn!(
            target: "cachekit",
            "a master key is configured ({}) and encrypts nothing by itself: a key is a source, not a switch",
            config.master_key.source
        );
    }
    match default_backend().filter(|_| !named_in_code(config)) {
        Some(backend) => {
            let mut config = config.clone();
            config.tier.set(Some(TierChoice::None), Source::Code("set_default_backend"));
            config.fronts.clear();
            Ok(config.builder(&built_in(), EngineServices::shared())?.backend(backend))
        }
        None => config.builder(&built_in(), EngineServices::shared()),
    }
}

/// The File backend in the user's cache directory, as a choice for a [`Config`].
///
/// # Errors
/// [`ConfigError`] if the environment names no such directory.
#[cfg(feature = "file")]
pub fn embedded_tier() -> Result<TierChoice, ConfigError> {
    let Some(dir) = user_cache_dir() else {
        return Err(ConfigError::Value {
            field: "tier".into(),
            origin: Source::Code("embedded"),
            reason: "neither XDG_CACHE_HOME nor HOME names an absolute directory; name one with file:///dir".into(),
        });
    };
    let options = [("dir".to_owned(), dir.join("cachekit").to_string_lossy().into_owned().into())];
    Ok(TierChoice::Builtin { scheme: "file".into(), options: options.into_iter().collect() })
}

/// `$XDG_CACHE_HOME`, else `~/.cache`.
pub fn user_cache_dir() -> Option<PathBuf> {
    user_dir("XDG_CACHE_HOME", ".cache")
}

/// `cachekit/cachekit.toml` in `$XDG_CONFIG_HOME`, else in `~/.config`. Never a file of the working directory: a cache
/// must not load what somebody left lying where a program was started.
pub fn user_config_file() -> Option<PathBuf> {
    user_dir("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("cachekit").join("cachekit.toml"))
}

fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_named_is_not_named_in_code() {
        let tier = TierChoice::Builtin { scheme: "redis".into(), options: Default::default() };
        let mut config = Config::default();
        fall_back(&mut config, tier.clone(), &Environment::default()).unwrap();
        assert_eq!(config.tier.value, Some(tier.clone()));
        assert!(!named_in_code(&config), "{}", config.tier.source);
        let mut chosen = Config::default();
        chosen.set_default_tier(tier, "embedded", &Environment::default()).unwrap();
        assert!(named_in_code(&chosen));
    }

    #[test]
    fn nothing_said_means_redis_on_this_machine_where_it_is_built_in() {
        let url = match fallback() {
            Some(TierChoice::Builtin { options, .. }) => options["url"].as_str().map(str::to_owned),
            _ => None,
        };
        assert_eq!(url.as_deref(), cfg!(feature = "redis").then_some("redis://localhost:6379"));
    }
}
