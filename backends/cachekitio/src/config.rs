//! The options of a cachekit.io backend: names, forms and ranges, checked once, before anything is sent.

use std::path::PathBuf;
use std::time::Duration;

use cachekit_plugin::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::endpoint::{Endpoint, Permissions};
use crate::retry::Policy;

/// Where the service is.
const SERVICE: &str = "https://api.cachekit.io";
/// The scheme under which a cache's configuration names this backend.
const SCHEME: &str = "cachekitio://";

/// Options of a [`CachekitIoBackend`](crate::CachekitIoBackend).
///
/// ```
/// use cachekit_backend_cachekitio::CachekitIoConfig;
/// let config = CachekitIoConfig::new("env:CACHEKIT_API_KEY").with_timeout(2.0).with_connection_pool_size(8);
/// assert!(config.check().is_ok());
/// let elsewhere = CachekitIoConfig::new("env:CACHEKIT_API_KEY").with_api_url("https://10.0.0.5");
/// assert!(elsewhere.check().unwrap_err().contains("allow_private_host"));
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CachekitIoConfig {
    /// The service as a cache's configuration names it: `cachekitio://` for the one of `api_url`, or
    /// `cachekitio://host[:port][/base]` for another.
    #[serde(deserialize_with = "form::url")]
    pub url: Option<String>,
    /// The service: `https://host[:port][/base]`. Default: `https://api.cachekit.io`.
    #[serde(deserialize_with = "form::api_url")]
    pub api_url: Option<String>,
    /// The API key, by reference: `{"$secret": "env:CACHEKIT_API_KEY"}`. Needed.
    #[serde(deserialize_with = "form::api_key")]
    pub api_key: Option<SecretRef>,
    /// Time for one exchange, connecting included, seconds: above 0, up to 600. The caller's deadline ends it earlier.
    #[serde(deserialize_with = "form::timeout")]
    #[schemars(range(min = 0.001, max = 600.0))]
    pub timeout: f64,
    /// Exchanges at the same time, and so connections at the same time with a server that speaks HTTP/1.1: 1 to 1024.
    /// Further ones wait for their turn, up to their deadline.
    #[serde(deserialize_with = "form::connection_pool_size")]
    #[schemars(range(min = 1, max = 1024))]
    pub connection_pool_size: u32,
    /// How often a request that failed for a passing reason is sent again: 0 to 10. Without it the protocol's own rule
    /// holds: one repetition of a write or a delete that met 503 with `Retry-After` of at most 2 s.
    #[serde(deserialize_with = "form::max_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub max_retries: Option<u32>,
    /// Root certificates in PEM form, instead of the system's: an absolute path.
    #[serde(deserialize_with = "form::ca_file")]
    pub ca_file: Option<PathBuf>,
    /// Accept a host that is not the service's own. The API key is sent there.
    #[serde(deserialize_with = "form::allow_custom_host")]
    pub allow_custom_host: bool,
    /// Accept a host on this machine or in a private network, for a `cachekit serve` of one's own. Includes
    /// `allow_custom_host`. Link-local and other special addresses stay refused.
    #[serde(deserialize_with = "form::allow_private_host")]
    pub allow_private_host: bool,
    /// Speak `http://`, without encryption. Needs `allow_private_host`, and connects to private addresses alone. The API key
    /// and all values can be read on the way.
    #[serde(deserialize_with = "form::plain_http")]
    pub plain_http: bool,
    /// An HTTP proxy, `http://host:port`, that connects to the service on behalf of this client. The name of the service is
    /// then resolved by the proxy, so its address is not looked at here. The environment's proxy variables are not read.
    #[serde(deserialize_with = "form::proxy")]
    pub proxy: Option<String>,
    /// Largest value, bytes: 1 to 1073741824. Larger ones are refused on the way out and on the way in.
    #[serde(deserialize_with = "form::max_value")]
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub max_value: u64,
}

impl Default for CachekitIoConfig {
    fn default() -> Self {
        Self {
            url: None,
            api_url: None,
            api_key: None,
            timeout: 5.0,
            connection_pool_size: 32,
            max_retries: None,
            ca_file: None,
            allow_custom_host: false,
            allow_private_host: false,
            plain_http: false,
            proxy: None,
            max_value: 16 << 20,
        }
    }
}

impl CachekitIoConfig {
    /// The defaults, with the API key that `reference` (`env:NAME` or `file:/path`) leads to.
    pub fn new(reference: impl Into<String>) -> Self {
        Self { api_key: Some(SecretRef { reference: reference.into() }), ..Self::default() }
    }

    /// Sets the service.
    #[must_use]
    pub fn with_api_url(mut self, url: impl Into<String>) -> Self {
        self.api_url = Some(url.into());
        self
    }

    /// Sets the time for one exchange, seconds.
    #[must_use]
    pub fn with_timeout(mut self, seconds: f64) -> Self {
        self.timeout = seconds;
        self
    }

    /// Sets how many exchanges may be under way.
    #[must_use]
    pub fn with_connection_pool_size(mut self, size: u32) -> Self {
        self.connection_pool_size = size;
        self
    }

    /// Sets how often a request that failed for a passing reason is sent again.
    #[must_use]
    pub fn with_max_retries(mut self, retries: u32) -> Self {
        self.max_retries = Some(retries);
        self
    }

    /// Trusts the root certificates in `path` alone.
    #[must_use]
    pub fn with_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Accepts a host that is not the service's own.
    #[must_use]
    pub fn with_allow_custom_host(mut self, allow: bool) -> Self {
        self.allow_custom_host = allow;
        self
    }

    /// Accepts a host in a private network.
    #[must_use]
    pub fn with_allow_private_host(mut self, allow: bool) -> Self {
        self.allow_private_host = allow;
        self
    }

    /// Speaks without encryption, to private hosts.
    #[must_use]
    pub fn with_plain_http(mut self, plain: bool) -> Self {
        self.plain_http = plain;
        self
    }

    /// Sets the largest value, bytes.
    #[must_use]
    pub fn with_max_value(mut self, bytes: u64) -> Self {
        self.max_value = bytes;
        self
    }

    /// Checks every option; the error names the field, its value where that is no secret, and what it takes.
    pub fn check(&self) -> Result<(), String> {
        // Also refuses what is no number.
        if !(self.timeout > 0.0 && self.timeout <= 600.0) {
            return Err(format!("timeout = {}: takes seconds above 0, up to 600", self.timeout));
        }
        if !(1..=1024).contains(&self.connection_pool_size) {
            return Err(format!("connection_pool_size = {}: takes 1 to 1024", self.connection_pool_size));
        }
        if let Some(retries) = self.max_retries.filter(|retries| *retries > 10) {
            return Err(format!("max_retries = {retries}: takes 0 to 10"));
        }
        if !(1..=1 << 30).contains(&self.max_value) {
            return Err(format!("max_value = {}: takes 1 to {}", self.max_value, 1 << 30));
        }
        if let Some(path) = self.ca_file.as_ref().filter(|path| !path.is_absolute()) {
            return Err(format!("ca_file = {path:?}: takes an absolute path"));
        }
        if self.plain_http && !self.allow_private_host {
            return Err(
                "plain_http: needs allow_private_host, because only private hosts are spoken to like that".into()
            );
        }
        if self.plain_http && self.proxy.is_some() {
            return Err("plain_http and proxy exclude each other: the proxy would read the API key".into());
        }
        self.proxy_host()?;
        self.endpoint()?;
        if self.api_key.is_none() {
            return Err("api_key: is needed, by reference: {\"$secret\": \"env:CACHEKIT_API_KEY\"}".into());
        }
        Ok(())
    }

    pub(crate) fn permissions(&self) -> Permissions {
        Permissions {
            custom_host: self.allow_custom_host,
            private_host: self.allow_private_host,
            plain_http: self.plain_http,
        }
    }

    /// Where requests go.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, String> {
        let (field, text) = match (self.url.as_deref(), self.api_url.as_deref()) {
            (None, None) => ("api_url", SERVICE.to_owned()),
            (None, Some(text)) => ("api_url", text.to_owned()),
            (Some(url), api_url) => {
                let place =
                    url.strip_prefix(SCHEME).ok_or("url: takes cachekitio://, or cachekitio://host[:port][/base]")?;
                match (place, api_url) {
                    ("", api_url) => ("api_url", api_url.unwrap_or(SERVICE).to_owned()),
                    (_, Some(_)) => return Err("url names a host, so it and api_url exclude each other".into()),
                    (_, None) if self.plain_http => ("url", format!("http://{place}")),
                    (_, None) => ("url", format!("https://{place}")),
                }
            }
        };
        Endpoint::parse(&text, self.permissions()).map_err(|reason| format!("{field}: {reason}"))
    }

    /// The host of the proxy, if there is one.
    pub(crate) fn proxy_host(&self) -> Result<Option<String>, String> {
        const FORM: &str = "proxy: takes http://host:port or https://host:port, without credentials and path";
        let Some(text) = &self.proxy else { return Ok(None) };
        if text.bytes().any(|byte| !byte.is_ascii_graphic() || b"@\\?#%".contains(&byte)) || text.len() > 512 {
            return Err(FORM.into());
        }
        let url = reqwest::Url::parse(text).map_err(|_| FORM)?;
        let host = url.host_str().filter(|_| ["http", "https"].contains(&url.scheme()) && url.path() == "/");
        Ok(Some(host.ok_or(FORM)?.to_owned()))
    }

    pub(crate) fn exchange_time(&self) -> Duration {
        Duration::try_from_secs_f64(self.timeout).unwrap_or(Duration::from_secs(5)).max(Duration::from_millis(1))
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy { asked: self.max_retries }
    }
}

/// Serde's messages name the wrong type but not the field; these add the field and the accepted form.
mod form {
    use std::fmt::Display;

    use super::{Deserialize, Deserializer, PathBuf, SecretRef};

    const YES_OR_NO: &str = "true or false";

    fn named<'de, D, T>(deserializer: D, field: &str, form: impl Display) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        T::deserialize(deserializer)
            .map_err(|error| serde::de::Error::custom(format!("{field}: takes {form} ({error})")))
    }

    /// Without serde's part, which repeats what it found: an API key, if somebody put it here.
    fn quiet<'de, D, T>(deserializer: D, field: &str, form: impl Display) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        T::deserialize(deserializer).map_err(|_| serde::de::Error::custom(format!("{field}: takes {form}")))
    }

    pub(super) fn url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        quiet(from, "url", "cachekitio:// or cachekitio://host[:port][/base]")
    }
    pub(super) fn api_url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        quiet(from, "api_url", "https://host[:port][/base]")
    }
    pub(super) fn api_key<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretRef>, D::Error> {
        quiet(from, "api_key", "a reference, { \"$secret\" = \"env:NAME\" } or \"file:/path\", not the key itself")
    }
    pub(super) fn timeout<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        named(from, "timeout", "seconds above 0, up to 600")
    }
    pub(super) fn connection_pool_size<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        named(from, "connection_pool_size", "a whole number from 1 to 1024")
    }
    pub(super) fn max_retries<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
        named(from, "max_retries", "a whole number from 0 to 10")
    }
    pub(super) fn ca_file<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        named(from, "ca_file", "the absolute path of a file in PEM form")
    }
    pub(super) fn allow_custom_host<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        named(from, "allow_custom_host", YES_OR_NO)
    }
    pub(super) fn allow_private_host<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        named(from, "allow_private_host", YES_OR_NO)
    }
    pub(super) fn plain_http<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        named(from, "plain_http", YES_OR_NO)
    }
    pub(super) fn proxy<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        quiet(from, "proxy", "http://host:port")
    }
    pub(super) fn max_value<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        named(from, "max_value", "bytes, a whole number from 1 to 1073741824")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#""api_key": {"$secret": "env:K"}"#;

    fn refusal(options: &str) -> String {
        let json = format!("{{{KEY}{}{options}}}", if options.is_empty() { "" } else { ", " });
        match serde_json::from_str::<CachekitIoConfig>(&json) {
            Err(error) => error.to_string(),
            Ok(config) => config.check().unwrap_err(),
        }
    }

    #[test]
    fn the_key_alone_means_the_defaults_and_they_pass() {
        let config: CachekitIoConfig = serde_json::from_str(&format!("{{{KEY}}}")).unwrap();
        assert_eq!(config, CachekitIoConfig::new("env:K"));
        config.check().unwrap();
        assert_eq!(config.endpoint().unwrap().as_str(), SERVICE);
        assert!(CachekitIoConfig::default().check().unwrap_err().contains("api_key"));
    }

    #[test]
    fn every_refusal_names_its_field() {
        for (field, options) in [
            ("timeout", r#""timeout": 0"#),
            ("timeout", r#""timeout": -1"#),
            ("timeout", r#""timeout": 601"#),
            ("timeout", r#""timeout": "5""#),
            ("connection_pool_size", r#""connection_pool_size": 0"#),
            ("connection_pool_size", r#""connection_pool_size": 1025"#),
            ("max_retries", r#""max_retries": 11"#),
            ("max_retries", r#""max_retries": -1"#),
            ("ca_file", r#""ca_file": "roots.pem""#),
            ("max_value", r#""max_value": 0"#),
            ("max_value", r#""max_value": 1073741825"#),
            ("api_url", r#""api_url": "http://api.cachekit.io""#),
            ("api_url", r#""api_url": 7"#),
            ("api_url", r#""api_url": "https://example.com""#),
            ("url", r#""url": "https://api.cachekit.io""#),
            ("url", r#""url": "cachekitio://example.com""#),
            ("exclude", r#""url": "cachekitio://example.com", "api_url": "https://example.com""#),
            ("allow_private_host", r#""plain_http": true"#),
            ("allow_private_host", r#""url": "cachekitio://127.0.0.1:8080""#),
            ("exclude", r#""plain_http": true, "allow_private_host": true, "proxy": "http://p:1""#),
            ("proxy", r#""proxy": "http://u:p@p:1""#),
            ("proxy", r#""proxy": "socks5://p:1""#),
            ("allow_custom_host", r#""allow_custom_host": "yes""#),
            ("tiemout", r#""tiemout": 1"#),
        ] {
            let refusal = refusal(options);
            assert!(refusal.contains(field), "{options}: {refusal}");
        }
    }

    #[test]
    fn a_backend_url_names_the_service_or_leaves_it_to_api_url() {
        let base = |options: &str| {
            let config: CachekitIoConfig = serde_json::from_str(&format!("{{{KEY}, {options}}}")).unwrap();
            config.check().unwrap();
            config.endpoint().unwrap().as_str().to_owned()
        };
        assert_eq!(base(r#""url": "cachekitio://""#), SERVICE);
        assert_eq!(
            base(r#""url": "cachekitio://", "api_url": "https://api.staging.cachekit.io/""#),
            "https://api.staging.cachekit.io"
        );
        assert_eq!(
            base(r#""url": "cachekitio://cache.example:8443/base", "allow_custom_host": true"#),
            "https://cache.example:8443/base"
        );
        assert_eq!(
            base(r#""url": "cachekitio://127.0.0.1:8080", "allow_private_host": true, "plain_http": true"#),
            "http://127.0.0.1:8080"
        );
    }

    #[test]
    fn no_refusal_repeats_a_secret() {
        for json in [
            r#"{"api_key": "hunter2"}"#,
            r#"{"api_key": {"$secret": "env:K"}, "api_url": "https://u:hunter2@api.cachekit.io"}"#,
            r#"{"api_key": {"$secret": "env:K"}, "proxy": "http://u:hunter2@proxy:1"}"#,
            r#"{"api_key": {"$secret": "env:K"}, "url": "cachekitio://u:hunter2@host"}"#,
        ] {
            let error = match serde_json::from_str::<CachekitIoConfig>(json) {
                Err(error) => error.to_string(),
                Ok(config) => config.check().unwrap_err(),
            };
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
