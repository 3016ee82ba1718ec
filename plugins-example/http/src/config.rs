//! The options of this plugin: names, forms and ranges. What they mean together is checked in `plan`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cachekit_plugin::SecretRef;
use schemars::JsonSchema;
use serde::Deserialize;

/// Options, from `[tier.options]` of the host.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where an entry is: `https://host[:port]/path/{key:percent}?query`. `{key:percent}`, `{key:base64url}` and `{key:hex}` stand for
    /// the key, `{ttl}` for its life (in `set` alone), `{name}` for one of `constants`. The host holds no placeholder. An
    /// operation can have a URL of its own, on the same origin.
    pub url: Option<String>,
    /// What `{name}` stands for in URLs and headers: account, namespace, version.
    pub constants: BTreeMap<String, String>,
    /// Reading. By default `GET`, `yes = [200]`, `no = [404, 410]`.
    pub get: OperationConfig,
    /// Writing. By default `PUT`, `yes = [200, 201, 204]`.
    pub set: OperationConfig,
    /// Removing. By default `DELETE`, `yes = [200, 202, 204]`, `no = [404, 410]`.
    pub delete: OperationConfig,
    /// Asking whether there is an entry. By default `HEAD`, `yes = [200, 204]`, `no = [404, 410]`. The body of a `GET` is not read.
    pub exists: OperationConfig,
    /// A cheap request that needs no key. Without a `url` the entry `cachekit-health` is read, and absent is healthy as well.
    pub health: OperationConfig,
    /// Ask `exists` before each `delete`, for servers that answer a delete of nothing as one of something.
    pub delete_asks_first: bool,
    /// Headers of every request. A value may hold placeholders. Secrets belong into `secret_headers`.
    pub headers: BTreeMap<String, String>,
    /// Headers of every request whose value is a secret: `{ "$secret" = "env:NAME" }` or `"file:/path"`.
    pub secret_headers: BTreeMap<String, SecretRef>,
    /// A token, by reference: `Authorization: Bearer …`.
    pub bearer: Option<SecretRef>,
    /// A user, with `password`: `Authorization: Basic …`.
    pub user: Option<String>,
    /// The password of `user`, by reference.
    pub password: Option<SecretRef>,
    /// Send secrets over `http://`, where everybody on the way can read them.
    pub allow_plain_http: bool,
    /// Root certificates in PEM form, instead of the system's: an absolute path.
    pub ca_file: Option<PathBuf>,
    /// A certificate to show to the server, PEM, with its chain: an absolute path. Needs `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// The private key of `client_certificate`, PEM, by reference.
    pub client_key: Option<SecretRef>,
    /// How a life becomes `{ttl}`.
    pub ttl: TtlConfig,
    /// Values travel inside a JSON object instead of being the body.
    pub json: Option<JsonConfig>,
    /// Which statuses are which failure, behind `yes` and `no` of the operation.
    pub status: StatusConfig,
    /// Longest key, bytes: 70 to 8192. Longer ones are shortened by the cache above.
    #[schemars(range(min = 70, max = 8192))]
    pub max_key: u32,
    /// Which bytes of keys the server takes, once the key was encoded.
    pub key_bytes: KeyAlphabet,
    /// Largest value, bytes: 1 to 1073741824. Larger ones are refused on the way out and on the way in.
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub max_value: u64,
    /// Time for one exchange, milliseconds: 1 to 600000. The caller's deadline ends it earlier.
    #[schemars(range(min = 1, max = 600_000))]
    pub timeout_ms: u32,
    /// Time for opening a connection, TLS included, milliseconds: 1 to 600000.
    #[schemars(range(min = 1, max = 600_000))]
    pub connect_timeout_ms: u32,
    /// Exchanges at the same time, and so connections: 1 to 1024. Further ones wait, up to their deadline.
    #[schemars(range(min = 1, max = 1024))]
    pub max_connections: u32,
    /// How often a request that failed for a passing reason is sent again: 0 to 5, and in the long run no more than one in
    /// ten requests. Only what does no harm when it arrives twice: `GET`, `HEAD`, `PUT`; `DELETE` where it surely did not happen.
    #[schemars(range(min = 0, max = 5))]
    pub retries: u32,
    /// Hand the `traceparent` of the caller on to the server.
    pub trace: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            url: None,
            constants: BTreeMap::new(),
            get: OperationConfig::default(),
            set: OperationConfig::default(),
            delete: OperationConfig::default(),
            exists: OperationConfig::default(),
            health: OperationConfig::default(),
            delete_asks_first: false,
            headers: BTreeMap::new(),
            secret_headers: BTreeMap::new(),
            bearer: None,
            user: None,
            password: None,
            allow_plain_http: false,
            ca_file: None,
            client_certificate: None,
            client_key: None,
            ttl: TtlConfig::default(),
            json: None,
            status: StatusConfig::default(),
            max_key: 512,
            key_bytes: KeyAlphabet::default(),
            max_value: 16 << 20,
            timeout_ms: 5_000,
            connect_timeout_ms: 2_000,
            max_connections: 32,
            retries: 1,
            trace: true,
        }
    }
}

/// What one operation sends, and what its answers mean. What is not given is the default of the operation.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OperationConfig {
    /// Instead of the common `url`, on the same origin.
    pub url: Option<String>,
    /// `GET`, `HEAD`, `PUT`, `POST`, `PATCH` or `DELETE`.
    pub method: Option<String>,
    /// Beside or instead of the common `headers`.
    pub headers: BTreeMap<String, String>,
    /// Statuses that mean found, stored, deleted, there.
    pub yes: Option<Vec<u16>>,
    /// Statuses that mean that there is no such entry.
    pub no: Option<Vec<u16>>,
    /// A header that turns a `yes` into a `no`.
    pub no_header: Option<HeaderIs>,
}

/// A header with a value, compared without regard to case.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderIs {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// How a life becomes the number that `{ttl}` stands for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TtlConfig {
    /// What the number counts.
    pub unit: Unit,
    /// Lives are rounded up to a multiple of this, milliseconds. Default: one unit.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub step_ms: Option<u64>,
    /// Shortest life that the server takes, milliseconds. 60000 at Cloudflare.
    pub minimum_ms: u64,
    /// What becomes of a shorter one.
    pub below_minimum: BelowMinimum,
    /// Longest life that the server takes, milliseconds; longer ones are shortened to it. Default: ten years, whose seconds
    /// fit into 32 bits.
    pub maximum_ms: u64,
    /// The number for an entry without an end, 0 for many servers. Default: headers and query parameters with `{ttl}`, and the
    /// field of a JSON body, are left out.
    pub never: Option<u64>,
}

impl Default for TtlConfig {
    fn default() -> Self {
        Self {
            unit: Unit::default(),
            step_ms: None,
            minimum_ms: 0,
            below_minimum: BelowMinimum::default(),
            maximum_ms: 315_360_000_000,
            never: None,
        }
    }
}

/// What a number counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    #[default]
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What becomes of a life below the server's minimum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BelowMinimum {
    /// The server keeps the entry for its minimum. The cache above serves nothing past its own end, which stands in its
    /// envelope: this costs room, not truth.
    #[default]
    Raise,
    /// An error of the kind `unsupported`, and nothing is sent.
    Refuse,
}

/// Values inside a JSON object: `{"value": "…base64…", "ttl": 60}`. Answers to `get` have the same form.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JsonConfig {
    /// The field that holds the value, in base64 with padding.
    pub value: String,
    /// The field that holds the life, a number. Without it the life is not in the body.
    pub ttl: Option<String>,
}

impl Default for JsonConfig {
    fn default() -> Self {
        Self { value: "value".into(), ttl: None }
    }
}

/// Which statuses are which failure. Whatever stands nowhere: a redirect or another 4xx is a configuration that does not fit,
/// another 5xx passes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StatusConfig {
    /// The server asks for fewer requests; `Retry-After` is respected, in seconds or as a date.
    pub throttled: Vec<u16>,
    /// It passes.
    pub transient: Vec<u16>,
    /// The credentials are not taken.
    pub auth: Vec<u16>,
    /// Key or value are too large.
    pub too_large: Vec<u16>,
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self {
            throttled: vec![429],
            transient: vec![408, 425, 500, 502, 503, 504],
            auth: vec![401, 403],
            too_large: vec![413, 414, 431],
        }
    }
}

/// Which bytes of keys a server takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyAlphabet {
    /// Printable ASCII without the space. Other keys are hashed by the cache above.
    #[default]
    Printable,
    /// Every byte, which with `{key:percent}` includes `%00`, `%2F` and bytes that are no UTF-8.
    Any,
}

impl HttpConfig {
    /// Reads options. The error names the field and what it takes, never what was found there: that may be a secret which
    /// somebody put into the wrong place.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, String> {
        let mut from = serde_json::Deserializer::from_slice(json);
        let config = serde_path_to_error::deserialize(&mut from).map_err(|error| {
            let path = error.path().to_string();
            let told = error.inner().to_string();
            if path == "." {
                without_what_was_found(&told)
            } else {
                format!("{path}: {}", without_what_was_found(&told))
            }
        })?;
        from.end().map_err(|error| error.to_string())?;
        Ok(config)
    }
}

/// Serde says what it found and what it expected; the first stays here. Names of fields are shown.
fn without_what_was_found(told: &str) -> String {
    let repeats = ["invalid type", "invalid value", "unknown variant"].iter().any(|start| told.starts_with(start));
    match told.split_once(", expected ").filter(|_| repeats) {
        Some((_, expected)) => format!("takes {expected}"),
        None => told.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        HttpConfig::from_json(json.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_refusal_names_the_field_and_not_what_was_found() {
        for (json, field) in [
            (r#"{"get": {"yes": ["hunter2"]}}"#, "get.yes[0]"),
            (r#"{"bearer": "hunter2"}"#, "bearer"),
            (r#"{"secret_headers": {"X-Token": "hunter2"}}"#, "secret_headers.X-Token"),
            (r#"{"ttl": {"unit": "hunter2"}}"#, "ttl.unit"),
            (r#"{"max_value": "hunter2"}"#, "max_value"),
            (r#"{"ttl": {"minimum": 60}}"#, "ttl.minimum"),
            (r#"{"urls": "https://x"}"#, "urls"),
        ] {
            let told = refusal(json);
            assert!(told.contains(field), "{json}: {told}");
            assert!(!told.contains("hunter2"), "{json}: {told}");
        }
        assert!(!refusal("{} {}").is_empty());
    }

    #[test]
    fn no_options_are_the_defaults() {
        let config = HttpConfig::from_json(b"{}").unwrap();
        assert_eq!((config.max_key, config.retries, config.status.throttled), (512, 1, vec![429]));
    }
}
