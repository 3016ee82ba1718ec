//! The options of a Redis backend: names, forms and ranges, checked once, before anything is touched.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cachekit_plugin::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::url::Place;

/// What the server itself takes in one string.
const MAX_VALUE: u64 = 512 << 20;
/// A hundred years: longer offsets are typing errors, and the server's clock arithmetic stays far from its end.
const MAX_OFFSET_SECONDS: i64 = 100 * 366 * 86_400;
const MAX_CONNECTIONS: u32 = 64;
/// A multiplexed connection carries all callers at once, so it stands for ten of a pool whose connections each carry one.
const POOLED_PER_CONNECTION: u32 = 10;

/// Options of a [`RedisBackend`](crate::RedisBackend).
///
/// ```
/// use cachekit_backend_redis::RedisConfig;
/// let config = RedisConfig::new("redis://localhost:6379/1").with_tenant("acme").with_socket_timeout(0.25);
/// assert!(config.check().is_ok());
/// assert!(RedisConfig::new("redis:localhost").check().unwrap_err().contains("url"));
/// ```
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = form::with_the_familys_name)]
pub struct RedisConfig {
    /// Where the server is: `redis://[user:password@]host[:port][/db]`, `rediss://…` (TLS), `unix:///path/to/socket`,
    /// `redis+cluster://a:1,b:2,c:3`, `redis+sentinel://s1:1,s2:2/master[/db]`; `rediss+cluster` and `rediss+sentinel` too.
    #[serde(deserialize_with = "form::url", alias = "redis_url")]
    pub url: String,
    /// User of the server's access list. Excludes a user in `url`.
    #[serde(deserialize_with = "form::username")]
    pub username: Option<String>,
    /// Password, as a reference: `{"$secret": "env:NAME"}`. Excludes a password in `url`.
    pub password: Option<SecretRef>,
    /// Database number. Excludes one in `url`.
    #[serde(deserialize_with = "form::db")]
    pub db: Option<u32>,
    /// User for the sentinels themselves.
    #[serde(deserialize_with = "form::sentinel_username")]
    pub sentinel_username: Option<String>,
    /// Password for the sentinels themselves, as a reference.
    pub sentinel_password: Option<SecretRef>,
    /// File with the certificates (PEM) that a TLS server may be signed by, instead of the system's.
    #[serde(deserialize_with = "form::ca_file")]
    pub ca_file: Option<PathBuf>,
    /// Number of multiplexed connections to each server, opened when they are needed: 1 to 64, default 1. Each carries any
    /// number of callers; more than one keeps a large value from holding up small ones.
    #[serde(deserialize_with = "form::connections")]
    #[schemars(range(min = 1, max = 64))]
    pub connections: Option<u32>,
    /// The family's size of a pool whose connections carry one caller each: at least 1. Every ten make one multiplexed
    /// connection, rounded up, at most 64. `connections` wins.
    #[serde(deserialize_with = "form::connection_pool_size")]
    #[schemars(range(min = 1))]
    pub connection_pool_size: Option<u32>,
    /// How long a connection may be silent while a reply is due, seconds above 0: then it is replaced.
    #[serde(deserialize_with = "form::socket_timeout")]
    #[schemars(range(min = 0.001, max = 3600.0))]
    pub socket_timeout: f64,
    /// How long opening a connection may take, login included, seconds above 0.
    #[serde(deserialize_with = "form::socket_connect_timeout")]
    #[schemars(range(min = 0.001, max = 3600.0))]
    pub socket_connect_timeout: f64,
    /// TCP keepalive.
    #[serde(deserialize_with = "form::socket_keepalive")]
    pub socket_keepalive: bool,
    /// Tenant: every key is stored as `t:{tenant, percent-encoded}:{key}`, as the family does.
    #[serde(deserialize_with = "form::tenant")]
    pub tenant: Option<String>,
    /// What stands before every key. Excludes `tenant`.
    #[serde(deserialize_with = "form::key_prefix")]
    pub key_prefix: Option<String>,
    /// `false`: never send an expiry; entries stay until the server evicts them.
    #[serde(deserialize_with = "form::ttl")]
    pub ttl: bool,
    /// Seconds added to the life of an entry, so that what has expired can still be asked for and renewed. An entry whose
    /// life would end at or before zero gets none.
    #[serde(deserialize_with = "form::ttl_offset")]
    #[schemars(range(min = -3_162_240_000_i64, max = 3_162_240_000_i64))]
    pub ttl_offset: i64,
    /// Largest value, bytes: 1 to 536870912. A larger one is neither sent nor taken.
    #[serde(deserialize_with = "form::max_value")]
    #[schemars(range(min = 1, max = 536_870_912))]
    pub max_value: u64,
    /// Accepted because the family has it; there is no hiredis here, and it changes nothing.
    #[serde(deserialize_with = "form::disable_hiredis")]
    pub disable_hiredis: bool,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://localhost:6379".into(),
            username: None,
            password: None,
            db: None,
            sentinel_username: None,
            sentinel_password: None,
            ca_file: None,
            connections: None,
            connection_pool_size: None,
            socket_timeout: 1.0,
            socket_connect_timeout: 1.0,
            socket_keepalive: true,
            tenant: None,
            key_prefix: None,
            ttl: true,
            ttl_offset: 0,
            max_value: 100 << 20,
            disable_hiredis: false,
        }
    }
}

/// By hand, because the URL may hold a password.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("url", &Place::parse(&self.url).map_or_else(|_| "unreadable".into(), |place| place.to_string()))
            .field("username", &self.username.as_ref().map(|_| "set"))
            .field("password", &self.password)
            .field("db", &self.db)
            .field("ca_file", &self.ca_file)
            .field("connections", &self.connections())
            .field("socket_timeout", &self.socket_timeout)
            .field("socket_connect_timeout", &self.socket_connect_timeout)
            .field("socket_keepalive", &self.socket_keepalive)
            .field("tenant", &self.tenant)
            .field("key_prefix", &self.key_prefix)
            .field("ttl", &self.ttl)
            .field("ttl_offset", &self.ttl_offset)
            .field("max_value", &self.max_value)
            .finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// The defaults, at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Sets the password, as a reference that the host resolves.
    #[must_use]
    pub fn with_password(mut self, password: SecretRef) -> Self {
        self.password = Some(password);
        self
    }

    /// Sets the file of certificates that a TLS server may be signed by.
    #[must_use]
    pub fn with_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// Sets the number of multiplexed connections to each server.
    #[must_use]
    pub fn with_connections(mut self, connections: u32) -> Self {
        self.connections = Some(connections);
        self
    }

    /// Sets how long a connection may be silent while a reply is due, seconds.
    #[must_use]
    pub fn with_socket_timeout(mut self, seconds: f64) -> Self {
        self.socket_timeout = seconds;
        self
    }

    /// Sets how long opening a connection may take, seconds.
    #[must_use]
    pub fn with_socket_connect_timeout(mut self, seconds: f64) -> Self {
        self.socket_connect_timeout = seconds;
        self
    }

    /// Sets the tenant.
    #[must_use]
    pub fn with_tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Sets what stands before every key.
    #[must_use]
    pub fn with_key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = Some(prefix.into());
        self
    }

    /// Sets whether entries get an expiry at all.
    #[must_use]
    pub fn with_ttl(mut self, ttl: bool) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the seconds added to the life of an entry.
    #[must_use]
    pub fn with_ttl_offset(mut self, seconds: i64) -> Self {
        self.ttl_offset = seconds;
        self
    }

    /// Sets the largest value, bytes.
    #[must_use]
    pub fn with_max_value(mut self, bytes: u64) -> Self {
        self.max_value = bytes;
        self
    }

    /// Checks every range; the error names the field, its value (unless that may be a secret) and what it takes.
    pub fn check(&self) -> Result<(), String> {
        self.place().map(|_| ())?;
        let seconds = |field: &str, value: f64| match (0.001..=3600.0).contains(&value) {
            true => Ok(()),
            false => Err(format!("{field} = {value}: takes {}", form::SECONDS)),
        };
        seconds("socket_timeout", self.socket_timeout)?;
        seconds("socket_connect_timeout", self.socket_connect_timeout)?;
        if self.connections.is_some_and(|count| !(1..=MAX_CONNECTIONS).contains(&count)) {
            return Err(format!(
                "connections = {}: takes 1 to {MAX_CONNECTIONS}",
                self.connections.unwrap_or_default()
            ));
        }
        if self.connection_pool_size == Some(0) {
            return Err("connection_pool_size = 0: takes a whole number from 1".into());
        }
        if !(1..=MAX_VALUE).contains(&self.max_value) {
            return Err(format!("max_value = {}: takes bytes from 1 to {MAX_VALUE}", self.max_value));
        }
        if !(-MAX_OFFSET_SECONDS..=MAX_OFFSET_SECONDS).contains(&self.ttl_offset) {
            return Err(format!(
                "ttl_offset = {}: takes seconds from -{MAX_OFFSET_SECONDS} to {MAX_OFFSET_SECONDS}",
                self.ttl_offset
            ));
        }
        if self.tenant.is_some() && self.key_prefix.is_some() {
            return Err("key_prefix and tenant exclude each other: a tenant is a prefix, t:{tenant}:".into());
        }
        // The bound keeps the room for keys: see `limits` of the backend.
        if self.prefix().len() > 1024 {
            return Err("tenant or key_prefix is too long: takes at most 1024 bytes once encoded".into());
        }
        if let Some(file) = &self.ca_file
            && !file.is_absolute()
        {
            return Err(format!("ca_file = {file:?}: takes an absolute path"));
        }
        Ok(())
    }

    /// The place that `url` names, with what other options add to it.
    pub(crate) fn place(&self) -> Result<Place, String> {
        let mut place = Place::parse(&self.url)?;
        if let Some(db) = self.db {
            if place.db != 0 && place.db != db {
                return Err(format!("db = {db}: url names another database"));
            }
            place.db = db;
        }
        if place.is_cluster() && place.db != 0 {
            return Err("db: a cluster has only database 0".into());
        }
        if self.username.is_some() && place.username.is_some() {
            return Err("username and a user in url exclude each other".into());
        }
        if self.password.is_some() && place.password.is_some() {
            return Err("password and a password in url exclude each other".into());
        }
        if self.ca_file.is_some() && !place.tls {
            return Err("ca_file has a meaning for TLS only: takes a url that begins with rediss".into());
        }
        if (self.sentinel_username.is_some() || self.sentinel_password.is_some()) && !place.is_sentinel() {
            return Err("sentinel_username and sentinel_password need a url that begins with redis+sentinel://".into());
        }
        Ok(place)
    }

    /// What stands before every key.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        match (&self.tenant, &self.key_prefix) {
            (Some(tenant), _) => format!("t:{}:", percent_encoded(tenant)).into_bytes(),
            (None, Some(prefix)) => prefix.as_bytes().to_vec(),
            (None, None) => Vec::new(),
        }
    }

    pub(crate) fn connections(&self) -> usize {
        let pooled = self.connection_pool_size.map(|size| size.div_ceil(POOLED_PER_CONNECTION));
        self.connections.or(pooled).unwrap_or(1).clamp(1, MAX_CONNECTIONS) as usize
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.socket_timeout.clamp(0.001, 3600.0))
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.socket_connect_timeout.clamp(0.001, 3600.0))
    }
}

/// The family's form of a tenant inside a key: `A-Za-z0-9_.-~` stay, every other byte becomes `%XX`.
fn percent_encoded(tenant: &str) -> String {
    use fmt::Write;
    tenant.bytes().fold(String::with_capacity(tenant.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// Serde's messages name the wrong type but not the field; these add the field and the accepted form. They leave out
/// what was found where that may be a secret.
mod form {
    use super::{Deserialize, Deserializer, PathBuf};

    pub(super) const SECONDS: &str = "seconds from 0.001 to 3600";

    /// `url` has a second name, which the derived schema does not know.
    pub(super) fn with_the_familys_name(schema: &mut schemars::Schema) {
        let properties = schema.get_mut("properties").and_then(|properties| properties.as_object_mut());
        if let Some(properties) = properties
            && let Some(url) = properties.get("url").cloned()
        {
            properties.insert("redis_url".into(), url);
        }
    }

    /// A field of any type that one JSON value makes.
    macro_rules! fields {
        ($($field:ident: $type:ty = $form:expr;)*) => {$(
            pub(super) fn $field<'de, D: Deserializer<'de>>(from: D) -> Result<$type, D::Error> {
                <$type>::deserialize(from).map_err(|_| {
                    serde::de::Error::custom(format!(concat!(stringify!($field), ": takes {}"), $form))
                })
            }
        )*};
    }

    fields! {
        url: String = crate::url::FORMS;
        db: Option<u32> = "a database number from 0";
        ca_file: Option<PathBuf> = "an absolute path";
        connections: Option<u32> = "a whole number from 1 to 64";
        connection_pool_size: Option<u32> = "a whole number from 1";
        socket_timeout: f64 = SECONDS;
        socket_connect_timeout: f64 = SECONDS;
        socket_keepalive: bool = "true or false";
        ttl: bool = "true or false";
        ttl_offset: i64 = "whole seconds";
        max_value: u64 = "bytes from 1 to 536870912";
        disable_hiredis: bool = "true or false";
    }

    /// Text, or a number for text: in the options of a URL, `tenant=42` arrives as a number.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Text {
        Text(String),
        Number(serde_json::Number),
    }

    macro_rules! texts {
        ($($field:ident)*) => {$(
            pub(super) fn $field<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
                match Option::<Text>::deserialize(from) {
                    Ok(text) => Ok(text.map(|text| match text {
                        Text::Text(text) => text,
                        Text::Number(number) => number.to_string(),
                    })),
                    Err(_) => Err(serde::de::Error::custom(concat!(stringify!($field), ": takes text"))),
                }
            }
        )*};
    }

    texts! { username sentinel_username tenant key_prefix }
}

#[cfg(test)]
mod tests;
