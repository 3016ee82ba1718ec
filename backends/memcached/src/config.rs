//! The options of a Memcached backend: names, forms and ranges, checked once, before anything is reached for.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::placement::Address;

/// Port of a server that a URL names without one.
const USUAL_PORT: u16 = 11211;

/// Options of a [`MemcachedBackend`](crate::MemcachedBackend).
///
/// ```
/// use cachekit_backend_memcached::MemcachedConfig;
/// let config = MemcachedConfig::new(["cache-a:11211", "cache-b:11211"]).with_timeout(0.5).with_key_prefix("shop:");
/// assert!(config.check().is_ok());
/// assert!(MemcachedConfig::new(["cache-a"]).check().unwrap_err().contains("servers[0]"));
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemcachedConfig {
    /// The servers: `"host:port"` each, or the absolute path of a unix socket. The texts take part in the placement of
    /// keys, so every program of a fleet spells them alike. Neither these nor a `url`: `127.0.0.1:11211`.
    #[serde(deserialize_with = "form::servers")]
    pub servers: Option<Vec<String>>,
    /// The servers as a URL, instead of `servers`: `memcached://host:11211,other:11211` or `memcached:///path.sock`.
    #[serde(deserialize_with = "form::url")]
    pub url: Option<String>,
    /// Longest wait for a connection, seconds: 0.1 to 30.
    #[serde(deserialize_with = "form::connect_timeout")]
    #[schemars(range(min = 0.1, max = 30.0))]
    pub connect_timeout: f64,
    /// Longest wait for a server that makes no progress, seconds: 0.1 to 30. The caller's deadline ends a wait earlier.
    #[serde(deserialize_with = "form::timeout")]
    #[schemars(range(min = 0.1, max = 30.0))]
    pub timeout: f64,
    /// Most connections per server: 1 to 100. Each carries many requests at once; more are opened as load grows.
    #[serde(deserialize_with = "form::max_pool_size")]
    #[schemars(range(min = 1, max = 100))]
    pub max_pool_size: u32,
    /// How often a failing server is tried again before it counts as dead: 0 to 10.
    #[serde(deserialize_with = "form::retry_attempts")]
    #[schemars(range(min = 0, max = 10))]
    pub retry_attempts: u32,
    /// Longest pause between two attempts at a failing server, seconds: 0.05 to 60.
    #[serde(deserialize_with = "form::retry_timeout")]
    #[schemars(range(min = 0.05, max = 60.0))]
    pub retry_timeout: f64,
    /// How long the keys of a dead server live on the others, seconds: 0 to 86400. 0: never, its keys stay its own.
    #[serde(deserialize_with = "form::dead_timeout")]
    #[schemars(range(min = 0.0, max = 86_400.0))]
    pub dead_timeout: f64,
    /// Put before every key: printable ASCII without spaces, at most 128 bytes.
    #[serde(deserialize_with = "form::key_prefix")]
    #[schemars(length(max = 128))]
    pub key_prefix: String,
    /// Largest item, bytes, as the servers' `-I`: 0 to 1073741824. 0 leaves the refusal to the server.
    #[serde(deserialize_with = "form::max_item_size_bytes")]
    #[schemars(range(min = 0, max = 1_073_741_824))]
    pub max_item_size_bytes: u64,
}

impl Default for MemcachedConfig {
    fn default() -> Self {
        Self {
            servers: None,
            url: None,
            connect_timeout: 2.0,
            timeout: 1.0,
            max_pool_size: 10,
            retry_attempts: 2,
            retry_timeout: 1.0,
            dead_timeout: 60.0,
            key_prefix: String::new(),
            max_item_size_bytes: 1 << 20,
        }
    }
}

/// Most that memcached lets `-I` be.
const LARGEST_ITEM: u64 = 1 << 30;
/// What an item holds beside its value: a header of 48 bytes, the number of its write, a key of 250 bytes with its end, and
/// the line break behind the value. Seen on memcached 1.6.18: with such a key the largest value is 309 bytes smaller.
const ITEM_OVERHEAD: u64 = 48 + 8 + 251 + 2;
const LONGEST_PREFIX: usize = 128;
/// Placing a key hashes it once per server.
const MOST_SERVERS: usize = 1024;

impl MemcachedConfig {
    /// The defaults, on these servers.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self { servers: Some(servers.into_iter().map(Into::into).collect()), ..Self::default() }
    }

    /// Sets the longest wait for a connection, seconds.
    #[must_use]
    pub fn with_connect_timeout(mut self, seconds: f64) -> Self {
        self.connect_timeout = seconds;
        self
    }

    /// Sets the longest wait for a server that makes no progress, seconds.
    #[must_use]
    pub fn with_timeout(mut self, seconds: f64) -> Self {
        self.timeout = seconds;
        self
    }

    /// Sets the most connections per server.
    #[must_use]
    pub fn with_max_pool_size(mut self, connections: u32) -> Self {
        self.max_pool_size = connections;
        self
    }

    /// Sets how often a failing server is tried again before it counts as dead.
    #[must_use]
    pub fn with_retry_attempts(mut self, attempts: u32) -> Self {
        self.retry_attempts = attempts;
        self
    }

    /// Sets the longest pause between two attempts at a failing server, seconds.
    #[must_use]
    pub fn with_retry_timeout(mut self, seconds: f64) -> Self {
        self.retry_timeout = seconds;
        self
    }

    /// Sets how long the keys of a dead server live on the others, seconds; 0 for never.
    #[must_use]
    pub fn with_dead_timeout(mut self, seconds: f64) -> Self {
        self.dead_timeout = seconds;
        self
    }

    /// Sets what is put before every key.
    #[must_use]
    pub fn with_key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Sets the largest item, bytes; 0 leaves the refusal to the server.
    #[must_use]
    pub fn with_max_item_size_bytes(mut self, bytes: u64) -> Self {
        self.max_item_size_bytes = bytes;
        self
    }

    /// Checks every form and range; the error names the field, its value and what it takes.
    pub fn check(&self) -> Result<(), String> {
        self.addresses()?;
        let seconds = |field: &str, value: f64, min: f64, max: f64| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(format!("{field} = {value}: takes {min} to {max}")) }
        };
        seconds("connect_timeout", self.connect_timeout, 0.1, 30.0)?;
        seconds("timeout", self.timeout, 0.1, 30.0)?;
        seconds("retry_timeout", self.retry_timeout, 0.05, 60.0)?;
        seconds("dead_timeout", self.dead_timeout, 0.0, 86_400.0)?;
        if !(1..=100).contains(&self.max_pool_size) {
            return Err(format!("max_pool_size = {}: takes 1 to 100", self.max_pool_size));
        }
        if self.retry_attempts > 10 {
            return Err(format!("retry_attempts = {}: takes 0 to 10", self.retry_attempts));
        }
        if self.key_prefix.len() > LONGEST_PREFIX || !self.key_prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("key_prefix: takes at most {LONGEST_PREFIX} bytes of printable ASCII without spaces"));
        }
        if self.max_item_size_bytes > LARGEST_ITEM {
            return Err(format!("max_item_size_bytes = {}: takes 0 to {LARGEST_ITEM}", self.max_item_size_bytes));
        }
        Ok(())
    }

    /// Where the servers are, in the order of the options.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, String> {
        let found: Vec<Address> = match (&self.url, &self.servers) {
            (Some(_), Some(_)) => return Err("url and servers both name the servers: give one of them".into()),
            (Some(url), None) => of_url(url)?,
            (None, Some(servers)) => {
                let one = |(index, server): (usize, &String)| {
                    Address::parse(server).map_err(|reason| format!("servers[{index}]: {reason}"))
                };
                servers.iter().enumerate().map(one).collect::<Result<_, _>>()?
            }
            (None, None) => vec![Address::Tcp { host: "127.0.0.1".into(), port: USUAL_PORT }],
        };
        if found.is_empty() {
            return Err(format!("servers: takes {}; it is empty", form::SERVERS));
        }
        if found.len() > MOST_SERVERS {
            return Err(format!("servers: takes at most {MOST_SERVERS}"));
        }
        for (index, address) in found.iter().enumerate() {
            if found[..index].contains(address) {
                return Err(format!("servers[{index}]: stands twice"));
            }
        }
        Ok(found)
    }

    /// Longest wait for a connection.
    pub(crate) fn connect_patience(&self) -> Duration {
        Duration::from_secs_f64(self.connect_timeout)
    }

    /// Longest wait without progress.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }

    /// Largest value that is sent or taken: what fits into an item under any key.
    pub(crate) fn largest_value(&self) -> u64 {
        let item = if self.max_item_size_bytes == 0 { LARGEST_ITEM } else { self.max_item_size_bytes };
        if item > 2 * ITEM_OVERHEAD { item - ITEM_OVERHEAD } else { item }
    }
}

/// The servers of a URL.
fn of_url(url: &str) -> Result<Vec<Address>, String> {
    const FORM: &str = "takes memcached://host:port,host:port or memcached:///path.sock";
    let Some(place) = url.strip_prefix("memcached://") else { return Err(format!("url: {FORM}")) };
    if place.contains(['?', '#']) {
        return Err(format!("url: {FORM}; options stand beside it"));
    }
    if place.contains('@') {
        return Err(format!("url: {FORM}; user names and passwords are not supported"));
    }
    if place.starts_with('/') {
        return Address::parse(place).map(|address| vec![address]).map_err(|reason| format!("url: {reason}"));
    }
    let place = place.strip_suffix('/').unwrap_or(place);
    let named = place.split(',').map(|server| {
        let has_port = server.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let server = if has_port || server.is_empty() { server.to_owned() } else { format!("{server}:{USUAL_PORT}") };
        match Address::parse(&server) {
            Ok(address @ Address::Tcp { .. }) => Ok(address),
            _ => Err(format!("url: {FORM}")),
        }
    });
    named.collect()
}

/// Serde's messages name the wrong type but not the field; these add the field and the accepted form.
mod form {
    use std::fmt::Display;

    use super::{Deserialize, Deserializer};

    pub(super) const SERVERS: &str = "a list such as [\"127.0.0.1:11211\", \"/run/memcached.sock\"]";

    /// Text, or a number for text: in the options of a URL, `key_prefix=2024` arrives as a number.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Text {
        Text(String),
        Number(serde_json::Number),
    }

    fn named<'de, D, T>(deserializer: D, field: &str, form: impl Display) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        T::deserialize(deserializer)
            .map_err(|error| serde::de::Error::custom(format!("{field}: takes {form} ({error})")))
    }

    pub(super) fn servers<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
        named(from, "servers", SERVERS)
    }
    pub(super) fn url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        named(from, "url", "memcached://host:port,host:port or memcached:///path.sock")
    }
    pub(super) fn connect_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        named(from, "connect_timeout", "seconds from 0.1 to 30")
    }
    pub(super) fn timeout<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        named(from, "timeout", "seconds from 0.1 to 30")
    }
    pub(super) fn max_pool_size<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        named(from, "max_pool_size", "a whole number from 1 to 100")
    }
    pub(super) fn retry_attempts<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        named(from, "retry_attempts", "a whole number from 0 to 10")
    }
    pub(super) fn retry_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        named(from, "retry_timeout", "seconds from 0.05 to 60")
    }
    pub(super) fn dead_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        named(from, "dead_timeout", "seconds from 0 to 86400")
    }
    pub(super) fn key_prefix<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        Ok(match named(from, "key_prefix", "printable ASCII without spaces")? {
            Text::Text(text) => text,
            Text::Number(number) => number.to_string(),
        })
    }
    pub(super) fn max_item_size_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        named(from, "max_item_size_bytes", "bytes from 0 to 1073741824")
    }
}

#[cfg(test)]
mod tests;
