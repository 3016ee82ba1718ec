//! The backends a program was built with, by the scheme of their URL.

use std::sync::Arc;

use cachekit_plugin::{Backend, BackendError, HostServices, Open};
use serde_json::{Map, Value as Json};

use crate::config::{ConfigError, Source};

type OpenFn = fn(&[u8], HostServices) -> Result<Arc<dyn Backend>, BackendError>;

/// Schemes and how to open what they name. One backend may stand under several.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    builtin: Vec<(&'static str, OpenFn)>,
}

impl Registry {
    /// Adds a backend under a scheme.
    #[must_use]
    pub fn with<B: Open>(mut self, scheme: &'static str) -> Self {
        self.builtin.push((scheme, |json, services| Ok(Arc::new(B::open_json(json, services)?))));
        self
    }

    /// Whether there is a backend for this scheme.
    pub fn knows(&self, scheme: &str) -> bool {
        self.builtin.iter().any(|(known, _)| *known == scheme)
    }

    pub(crate) fn open(
        &self,
        scheme: &str,
        options: &Map<String, Json>,
        services: HostServices,
        origin: impl Fn(&str) -> Source,
    ) -> Result<Arc<dyn Backend>, ConfigError> {
        let Some((_, open)) = self.builtin.iter().find(|(known, _)| *known == scheme) else {
            let known: Vec<&str> = self.builtin.iter().map(|(known, _)| *known).collect();
            let reason = format!(
                "this program has no backend for {scheme}://; it knows {}, none, and plugin:///path/to/lib.so",
                known.join(", ")
            );
            return Err(ConfigError::value("tier", origin(""), reason));
        };
        // A map of JSON values is always JSON.
        let json = serde_json::to_vec(options).unwrap_or_default();
        open(&json, services).map_err(|source| ConfigError::Tier { origin: origin(source.message()), source })
    }
}
