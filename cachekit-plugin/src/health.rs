//! What a store says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The answer to [`Backend::health`](crate::Backend::health).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Whether the store answered and can be used.
    pub healthy: bool,
    /// Time of one round trip, milliseconds.
    pub latency_ms: f64,
    /// Kind of store: `file`, `redis`, ….
    pub backend_type: String,
    /// Anything else worth showing to an operator: version, directory, entry count. Never a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, serde_json::Value>,
}

impl Health {
    /// A store that answered within `latency`.
    pub fn up(backend_type: impl Into<String>, latency: std::time::Duration) -> Self {
        Self {
            healthy: true,
            latency_ms: latency.as_secs_f64() * 1000.0,
            backend_type: backend_type.into(),
            details: BTreeMap::new(),
        }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with_detail(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }
}
