//! Why a configuration cannot be used: the field, where it came from, and what is accepted.

use std::path::PathBuf;

use cachekit_plugin::BackendError;

use super::Source;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML, has an unknown field, or a value of another type. The line is named and not shown: what stands in
    /// it may be a key or a password that somebody wrote where a reference belongs.
    #[error("the configuration file {path:?} is not usable: line {line}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A value that is out of range, or contradicts another.
    #[error("{field} ({origin}): {reason}")]
    Value {
        /// The field, option or variable.
        field: String,
        /// Where the value came from.
        origin: Source,
        /// What is wrong, and the accepted form.
        reason: String,
    },
    /// The backend could not be opened.
    #[error("the second tier ({origin}) cannot be opened: {source}")]
    Tier {
        /// Where it was chosen.
        origin: Source,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// The plugin was refused.
    #[cfg(feature = "dynamic-plugins")]
    #[error("the second tier ({origin}) cannot be loaded: {source}")]
    Plugin {
        /// Where it was chosen.
        origin: Source,
        /// Why.
        #[source]
        source: cachekit_host::LoadError,
    },
    /// The settings themselves are refused by the engine.
    #[error(transparent)]
    Engine(#[from] crate::error::Error),
}

impl ConfigError {
    pub(crate) fn value(field: impl Into<String>, origin: Source, reason: String) -> Self {
        Self::Value { field: field.into(), origin, reason }
    }
}
