//! How an instance comes to life: from a typed configuration and the services of its host.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::backend::Backend;
use crate::error::{BackendError, Kind, Operation};

/// A backend that can be opened by configuration. `export_backend!` asks for this.
pub trait Open: Backend + Sized {
    /// Options, read from the `[tier.options]` of the host. Derive `Deserialize` with `deny_unknown_fields`, so that a
    /// misspelt option is an error that names it, and `JsonSchema`, so that hosts can show and check them.
    type Config: DeserializeOwned + JsonSchema;

    /// Whether the client needs a tokio reactor. A library then runs a runtime of its own (feature `tokio`); a backend
    /// that is linked uses its caller's.
    const TOKIO: bool = false;

    /// Of what the library's own code and its clients say through `tracing` and `log`, what goes to the host (feature
    /// `tracing`). Client libraries are loud below this, and sometimes careless with secrets.
    const LOG_LEVEL: LogLevel = LogLevel::Info;

    /// Opens an instance. Must return soon: reach for the network on first use, not here. An outage of the store is
    /// no reason to fail; a configuration that cannot work is ([`Kind::Config`]).
    fn open(config: Self::Config, host: HostServices) -> Result<Self, BackendError>;

    /// Reads the options from JSON text; the error names the field and its accepted form.
    fn open_json(json: &[u8], host: HostServices) -> Result<Self, BackendError> {
        // Hosts pass nothing at all for "no options".
        let json = if json.is_empty() { b"{}" } else { json };
        let config = serde_json::from_slice(json)
            .map_err(|error| BackendError::new(Kind::Config, Operation::Open, error.to_string()).with_source(error))?;
        Self::open(config, host)
    }

    /// The JSON Schema of the options.
    fn schema() -> serde_json::Value {
        schemars::schema_for!(Self::Config).to_value()
    }
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error = 1,
    Warn = 2,
    Info = 3,
    Debug = 4,
    Trace = 5,
}

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// It only grows; what is told is added.
    Counter = 1,
    /// It is as it was told last.
    Gauge = 2,
}

/// What a host offers to the backends it opens. Implemented by hosts, used through [`HostServices`].
///
/// Called while an instance is being opened or ended, with that library's opening and ending serialised: an implementation
/// must not itself open or drop an instance of a plugin.
pub trait Services: Send + Sync + 'static {
    /// Takes a log line. `fields` are structured values beside the message.
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &[(&str, &str)]);

    /// Resolves a secret reference such as `env:NAME` or `file:/path`. The error says why, without the secret.
    fn secret(&self, reference: &str) -> Result<String, String>;

    /// What the cache above this instance did so far; `None` if no cache stands above it. Cheap enough for every request.
    fn activity(&self) -> Option<CacheActivity> {
        None
    }

    /// Takes a number beside the host's own. `plugin` is the id of the library it comes from, empty for one that is linked;
    /// `name` has 1 to 64 of `a` to `z`, digits and `_`. Cheap enough for every request.
    fn metric(&self, plugin: &str, kind: MetricKind, name: &str, value: u64) {
        let _ = (plugin, kind, name, value);
    }
}

/// What the cache above a backend did, for stores that are told of it in the headers of each request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheActivity {
    /// Whether there is an in-process tier at all.
    pub l1_enabled: bool,
    /// Values served from the process.
    pub l1_hits: u64,
    /// Values found in the store.
    pub l2_hits: u64,
    /// Keys found in neither.
    pub misses: u64,
}

/// The host, as a backend sees it. Cheap to clone; usable from any thread until the instance is dropped.
#[derive(Clone)]
pub struct HostServices(Arc<dyn Services>);

impl HostServices {
    /// Offers `services`.
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self(services)
    }

    /// A host that drops log lines and knows no secrets: for tests and for backends used without an engine.
    pub fn none() -> Self {
        struct Nothing;
        impl Services for Nothing {
            fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
            fn secret(&self, reference: &str) -> Result<String, String> {
                Err(format!("this host resolves no secrets, so not {reference:?} either"))
            }
        }
        Self::new(Arc::new(Nothing))
    }

    /// Sends a log line to the host, where it joins the host's own.
    pub fn log(&self, level: LogLevel, target: &str, message: &str, fields: &[(&str, &str)]) {
        self.0.log(level, target, message, fields);
    }

    /// What the cache above this instance did so far; `None` if no cache stands above it.
    pub fn activity(&self) -> Option<CacheActivity> {
        self.0.activity()
    }

    /// Adds to a counter of this backend, which stands beside the host's own: `cachekit_plugin_<name>_total`. `name` has 1 to
    /// 64 of `a` to `z`, digits and `_`; others, and more than 64 names of an instance, are dropped.
    pub fn count(&self, name: &str, more: u64) {
        if is_metric_name(name) {
            self.0.metric("", MetricKind::Counter, name, more);
        }
    }

    /// Sets a gauge of this backend: `cachekit_plugin_<name>`. Names as in [`Self::count`].
    pub fn gauge(&self, name: &str, value: u64) {
        if is_metric_name(name) {
            self.0.metric("", MetricKind::Gauge, name, value);
        }
    }

    /// As [`Services::metric`], for hosts that hand on what a library told them.
    pub fn metric_of(&self, plugin: &str, kind: MetricKind, name: &str, value: u64) {
        self.0.metric(plugin, kind, name, value);
    }

    /// Resolves a secret reference.
    pub fn secret(&self, reference: &str) -> Result<String, BackendError> {
        self.0.secret(reference).map_err(|reason| BackendError::new(Kind::Config, Operation::Open, reason))
    }
}

/// Names are part of other names, in systems that are strict about them.
fn is_metric_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

impl fmt::Debug for HostServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostServices")
    }
}

/// A secret in a configuration: a reference, `{"$secret": "env:NAME"}` or `{"$secret": "file:/path"}`, resolved by the
/// host when the backend needs it. Plain text is refused, so that no secret stands in a file that is read for its
/// structure; `Debug` shows the reference, never what it leads to.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, extend("x-secret" = true))]
pub struct SecretRef {
    /// `env:NAME` or `file:/absolute/path`.
    #[schemars(rename = "$secret")]
    pub reference: String,
}

/// By hand, because a derived reader repeats what it found in its error: here that would be the secret.
impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let found = serde_json::Value::deserialize(from)?;
        let fields = found.as_object().filter(|fields| fields.len() == 1);
        match fields.and_then(|fields| fields.get("$secret")).and_then(serde_json::Value::as_str) {
            Some(reference) => Ok(Self { reference: reference.to_owned() }),
            None => Err(D::Error::custom(
                "a secret is named, not written: { \"$secret\" = \"env:NAME\" } or \"file:/path\"",
            )),
        }
    }
}

impl SecretRef {
    /// Asks the host for the secret.
    pub fn resolve(&self, host: &HostServices) -> Result<String, BackendError> {
        host.secret(&self.reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_was_written_out_is_refused_and_not_repeated() {
        let named: SecretRef = serde_json::from_str(r#"{"$secret":"env:TOKEN"}"#).unwrap();
        assert_eq!(named.reference, "env:TOKEN");
        for wrong in [r#""hunter2""#, r#"{"$secret":["hunter2"]}"#, r#"{"$secret":"env:X","also":"hunter2"}"#, "7"] {
            let error = serde_json::from_str::<SecretRef>(wrong).unwrap_err().to_string();
            assert!(error.contains("$secret") && !error.contains("hunter2"), "{error}");
        }
    }
}
