//! The options: what an operator writes below `[tier.options]`.
//!
//! A field's comment is its description in the schema that hosts show and check. Unknown options are errors, because an
//! option that is silently ignored is a surprise kept for later.

use cachekit_plugin::{BackendError, Kind, Operation};
use schemars::JsonSchema;
use serde::Deserialize;

const MAX_NAME: usize = 64;
const BYTES: std::ops::RangeInclusive<u64> = 2_097_152..=1_099_511_627_776;

/// Options of the backend.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Instances of one process that are opened with the same name share one store.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// Memory for keys and values, bytes, from 2 MiB to 1 TiB. When it is full, the oldest entries make room.
    #[schemars(range(min = 2_097_152, max = 1_099_511_627_776_u64))]
    pub max_bytes: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            name: "default".into(),
            max_bytes: 64 << 20,
        }
    }
}

impl MemoryConfig {
    /// Says what cannot work: the field, its value, what it takes.
    pub(crate) fn check(&self) -> Result<(), BackendError> {
        let refuse = |reason: String| Err(BackendError::new(Kind::Config, Operation::Open, reason));
        if self.name.is_empty() || self.name.len() > MAX_NAME {
            return refuse(format!(
                "name = {:?}: takes 1 to {MAX_NAME} bytes",
                self.name
            ));
        }
        if !BYTES.contains(&self.max_bytes) {
            let (least, most) = BYTES.into_inner();
            return refuse(format!(
                "max_bytes = {}: takes {least} to {most}",
                self.max_bytes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        assert!(MemoryConfig::default().check().is_ok());
        let with = |name: &str, max_bytes| MemoryConfig {
            name: name.into(),
            max_bytes,
        };
        for (config, field) in [
            (with("", 1 << 24), "name"),
            (with(&"n".repeat(65), 1 << 24), "name"),
            (with("n", 0), "max_bytes"),
        ] {
            let error = config.check().unwrap_err();
            assert!(error.message().contains(field), "{error}");
        }
    }
}
