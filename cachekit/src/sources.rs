//! Caches from the environment and from files: the one place where both are read.

use std::path::{Path, PathBuf};

use cachekit_core::Cache;
use cachekit_core::config::{Config, ConfigError, EngineServices, Environment, Sources};
#[cfg(feature = "file")]
use cachekit_core::config::{Source, TierChoice};
use cachekit_core::tier::registry::Registry;

/// The backends this program was built with.
pub fn built_in() -> Registry {
    let registry = Registry::default();
    #[cfg(feature = "file")]
    let registry = registry.with::<cachekit_backend_file::FileBackend>("file");
    registry
}

/// The cache that the environment and, if there is one, the user's `cachekit.toml` describe. With nothing configured it
/// has L1 alone, and says so in the log.
///
/// # Errors
/// [`ConfigError`], naming the field, where its value came from, and what is accepted.
pub fn from_env() -> Result<Cache, ConfigError> {
    let config = Config::resolve(&Sources {
        environment: Environment::from_vars(std::env::vars_os()),
        default_file: user_config_file(),
        ..Sources::default()
    })?;
    if config.tier.value.is_none() {
        tracing::warn!(target: "cachekit", "no second tier is configured: this cache keeps values in the process alone");
    }
    open(&config)
}

/// The cache that a configuration file describes, with the environment above it.
///
/// # Errors
/// As [`from_env`].
pub fn from_file(path: impl AsRef<Path>) -> Result<Cache, ConfigError> {
    open(&Config::resolve(&Sources {
        file: Some(path.as_ref().to_owned()),
        environment: Environment::from_vars(std::env::vars_os()),
        ..Sources::default()
    })?)
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
    for warning in &config.warnings {
        tracing::warn!(target: "cachekit", "{}", warning.0);
    }
    Ok(config.builder(&built_in(), EngineServices::shared())?.build()?)
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
