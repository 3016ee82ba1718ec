//! The twin of `plugin.rs` for builds that load nothing.

use std::sync::Arc;

use cachekit_plugin::{Backend, HostServices};
use serde_json::{Map, Value as Json};

use crate::config::{Config, ConfigError, LibraryChoice};

pub(crate) fn open(
    config: &Config,
    _: &LibraryChoice,
    _: Option<&str>,
    _: &Map<String, Json>,
    _: HostServices,
) -> Result<Arc<dyn Backend>, ConfigError> {
    let reason = "this program was built without the feature dynamic-plugins and loads no libraries".into();
    Err(ConfigError::value("tier", config.tier.source.clone(), reason))
}

/// Nothing is loaded here, whoever asks.
pub(crate) fn is_privileged() -> bool {
    false
}
