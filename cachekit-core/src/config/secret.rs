//! What the engine offers to the backends it opens: its log, secrets by reference, a place for their numbers.

use cachekit_plugin::open::Services;
use cachekit_plugin::{HostServices, LogLevel, MetricKind};

/// Forwards log lines to `tracing` and resolves `env:NAME` and `file:/path`.
///
/// Secrets are read when a backend asks, not when the configuration is read, so that they stand in no structure that is
/// printed or kept. The one place below the configuration where the environment is read: the reference says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineServices;

/// Longest secret, bytes: a key or a token, not a document.
const MAX_SECRET_BYTES: u64 = 64 << 10;

impl EngineServices {
    /// As backends take them.
    pub fn shared() -> HostServices {
        HostServices::new(std::sync::Arc::new(Self))
    }
}

impl Services for EngineServices {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &[(&str, &str)]) {
        // A library's lines have its id, which operators filter by; a linked backend has none.
        let plugin = fields.iter().find(|(key, _)| *key == "plugin").map(|(_, id)| *id);
        let others = fields.iter().filter(|(key, _)| *key != "plugin");
        let fields = others.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(target: "cachekit::backend", tracing::Level::$level, plugin, from = target, fields, "{message}")
            };
        }
        match level {
            LogLevel::Error => event!(ERROR),
            LogLevel::Warn => event!(WARN),
            LogLevel::Info => event!(INFO),
            LogLevel::Debug => event!(DEBUG),
            LogLevel::Trace => event!(TRACE),
        }
    }

    fn secret(&self, reference: &str) -> Result<String, String> {
        match reference.split_once(':') {
            Some(("env", name)) if !name.is_empty() => match std::env::var(name) {
                Ok(secret) => Ok(secret),
                Err(std::env::VarError::NotPresent) => Err(format!("the variable {name} is not set")),
                Err(std::env::VarError::NotUnicode(_)) => Err(format!("the variable {name} is not UTF-8")),
            },
            Some(("file", path)) if path.starts_with('/') => {
                let mut secret = super::file::read(std::path::Path::new(path), MAX_SECRET_BYTES)
                    .map_err(|error| format!("{path}: {error}"))?;
                // Editors and `echo` end files with a line break that belongs to no secret. It is taken off in place: a
                // copy would be one more to wipe.
                if secret.ends_with('\n') {
                    secret.pop();
                }
                Ok(secret)
            }
            _ => Err("a secret is named by env:NAME or file:/absolute/path".to_owned()),
        }
    }

    fn metric(&self, plugin: &str, kind: MetricKind, name: &str, value: u64) {
        crate::observe::of_plugin(plugin, kind, name, value);
    }
}
