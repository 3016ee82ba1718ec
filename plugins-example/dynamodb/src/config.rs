//! The options of a DynamoDB backend: names, forms and ranges, checked once, before anything is sent.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use cachekit_plugin::SecretRef;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::item::MAX_VALUE;

/// Longest name of an attribute, bytes. DynamoDB takes 255 for most; the bound keeps what an item weighs beside its key and
/// value below `item::OVERHEAD`.
const MAX_ATTRIBUTE: usize = 64;

/// Options of a [`DynamoDbBackend`](crate::DynamoDbBackend).
///
/// ```
/// use cachekit_dynamodb::DynamoDbConfig;
/// assert!(DynamoDbConfig::new("http_cache").check().is_ok());
/// assert!(DynamoDbConfig::new("no table").check().unwrap_err().starts_with("table = "));
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DynamoDbConfig {
    /// The table: 3 to 255 of `A-Z a-z 0-9 _ . -`. Needed.
    #[schemars(length(min = 3, max = 255), regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub table: Option<String>,
    /// The region, such as `eu-west-1`. Default: that of the environment, of the profile, or of the machine in AWS.
    pub region: Option<String>,
    /// Another endpoint than the region's, `https://host[:port]`, or `http://` on this machine.
    pub endpoint_url: Option<String>,
    /// Speak `http://` to an `endpoint_url` that is not on this machine. Keys and values can be read and changed on the way.
    pub plain_http: bool,
    /// The profile of the shared configuration files. Default: `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// The access key id, by reference: `{"$secret": "env:NAME"}`. Default: the chain of the SDK (environment, profile, web
    /// identity, container, instance). Goes with `secret_access_key`.
    pub access_key_id: Option<SecretRef>,
    /// The secret access key, by reference.
    pub secret_access_key: Option<SecretRef>,
    /// The session token of temporary credentials, by reference.
    pub session_token: Option<SecretRef>,
    /// Create the table where it is missing, billed on demand, wait until it is active, and have DynamoDB remove what has
    /// expired.
    pub create_table: bool,
    /// Read what was written last. Without it reads cost half and may be a moment behind, also behind a deletion of one's own.
    pub consistent_reads: bool,
    /// The attribute of the key, a string: the table's partition key.
    #[schemars(length(min = 1, max = 64))]
    pub key_attribute: String,
    /// The attribute of the value, binary.
    #[schemars(length(min = 1, max = 64))]
    pub value_attribute: String,
    /// The attribute of the end, a number: Unix seconds.
    #[schemars(length(min = 1, max = 64))]
    pub ttl_attribute: String,
    /// The attribute that names a write, binary, for writes that depend on it.
    #[schemars(length(min = 1, max = 64))]
    pub version_attribute: String,
    /// Time for one exchange, connecting included, seconds: above 0, up to 600. The caller's deadline ends it earlier.
    #[schemars(range(min = 0.001, max = 600.0))]
    pub timeout: f64,
    /// How often the SDK sends a request that may be repeated, the first time included: 1 to 10.
    #[schemars(range(min = 1, max = 10))]
    pub max_attempts: u32,
    /// Exchanges at the same time: 1 to 1024. Further ones wait for their turn, up to their deadline.
    #[schemars(range(min = 1, max = 1024))]
    pub max_concurrency: u32,
    /// Largest value, bytes: 1 to 405504. Larger ones are refused. What DynamoDB bills grows with the size.
    #[schemars(range(min = 1, max = 405_504))]
    pub max_value: u32,
    /// Root certificates in PEM form, instead of the system's: an absolute path.
    pub ca_file: Option<PathBuf>,
}

impl Default for DynamoDbConfig {
    fn default() -> Self {
        Self {
            table: None,
            region: None,
            endpoint_url: None,
            plain_http: false,
            profile: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            create_table: false,
            consistent_reads: true,
            key_attribute: "key".into(),
            value_attribute: "value".into(),
            ttl_attribute: "ttl".into(),
            version_attribute: "version".into(),
            timeout: 1.0,
            max_attempts: 2,
            max_concurrency: 64,
            max_value: MAX_VALUE,
            ca_file: None,
        }
    }
}

impl DynamoDbConfig {
    /// The defaults, for a table.
    pub fn new(table: impl Into<String>) -> Self {
        Self { table: Some(table.into()), ..Self::default() }
    }

    /// Checks every option; the error names the field, its value where that is no secret, and what it takes.
    pub fn check(&self) -> Result<(), String> {
        self.table()?;
        // The region becomes part of a host name, so nothing but what regions are made of.
        let fits = |region: &str| {
            (1..=64).contains(&region.len()) && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if let Some(region) = self.region.as_ref().filter(|region| !fits(region)) {
            return Err(format!("region = {region:?}: takes letters, digits and -, such as eu-west-1"));
        }
        self.check_endpoint()?;
        if self.profile.as_ref().is_some_and(|profile| profile.is_empty() || profile.chars().any(char::is_control)) {
            return Err("profile: takes the name of a profile of the shared configuration files".into());
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return Err("access_key_id and secret_access_key: one without the other is no credential".into());
        }
        if self.session_token.is_some() && self.access_key_id.is_none() {
            return Err("session_token: needs access_key_id and secret_access_key".into());
        }
        if self.profile.is_some() && self.access_key_id.is_some() {
            return Err("profile and access_key_id exclude each other: both name credentials".into());
        }
        self.check_attributes()?;
        // Also refuses what is no number.
        if !(self.timeout > 0.0 && self.timeout <= 600.0) {
            return Err(format!("timeout = {}: takes seconds above 0, up to 600", self.timeout));
        }
        if !(1..=10).contains(&self.max_attempts) {
            return Err(format!("max_attempts = {}: takes 1 to 10", self.max_attempts));
        }
        if !(1..=1024).contains(&self.max_concurrency) {
            return Err(format!("max_concurrency = {}: takes 1 to 1024", self.max_concurrency));
        }
        if !(1..=MAX_VALUE).contains(&self.max_value) {
            return Err(format!("max_value = {}: takes 1 to {MAX_VALUE}", self.max_value));
        }
        if let Some(path) = self.ca_file.as_ref().filter(|path| !path.is_absolute()) {
            return Err(format!("ca_file = {path:?}: takes an absolute path"));
        }
        Ok(())
    }

    /// The name of the table. An ARN is none: it may name another region than the one that is asked.
    pub(crate) fn table(&self) -> Result<&str, String> {
        let Some(table) = &self.table else { return Err("table: is needed, the name of a DynamoDB table".into()) };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(3..=255).contains(&table.len()) || !table.bytes().all(fits) {
            return Err(format!("table = {table:?}: takes 3 to 255 of A-Z a-z 0-9 _ . -"));
        }
        Ok(table)
    }

    fn check_endpoint(&self) -> Result<(), String> {
        let Some(endpoint) = &self.endpoint_url else {
            return if self.plain_http { Err("plain_http: needs an endpoint_url".into()) } else { Ok(()) };
        };
        // Without its text: somebody may have written credentials into it.
        const FORM: &str = "endpoint_url: takes https://host[:port], or http://host[:port] on this machine";
        let uri: http::Uri = endpoint.parse().map_err(|_| FORM)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(FORM.into()) };
        if authority.as_str().contains('@') || !["", "/"].contains(&uri.path()) || uri.query().is_some() {
            return Err(FORM.into());
        }
        match scheme {
            "https" => Ok(()),
            "http" if self.plain_http || is_here(authority.host()) => Ok(()),
            "http" => Err("endpoint_url: http:// to another machine needs plain_http = true; \
                           keys and values can then be read and changed on the way"
                .into()),
            _ => Err(FORM.into()),
        }
    }

    fn check_attributes(&self) -> Result<(), String> {
        let names = [
            ("key_attribute", &self.key_attribute),
            ("value_attribute", &self.value_attribute),
            ("ttl_attribute", &self.ttl_attribute),
            ("version_attribute", &self.version_attribute),
        ];
        for (number, (field, name)) in names.iter().enumerate() {
            if !(1..=MAX_ATTRIBUTE).contains(&name.len()) || name.chars().any(char::is_control) {
                return Err(format!("{field} = {name:?}: takes 1 to {MAX_ATTRIBUTE} bytes"));
            }
            if let Some((other, _)) = names[..number].iter().find(|(_, earlier)| earlier == name) {
                return Err(format!("{field} = {name:?}: is {other} as well"));
            }
            if crate::lock::ATTRIBUTES.contains(&name.as_str()) {
                return Err(format!("{field} = {name:?}: is kept for leases"));
            }
        }
        Ok(())
    }

    pub(crate) fn exchange_time(&self) -> Duration {
        Duration::try_from_secs_f64(self.timeout).unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(1))
    }
}

/// Whether a host is this machine, by its name alone.
fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut DynamoDbConfig)) -> String {
        let mut config = DynamoDbConfig::new("http_cache");
        change(&mut config);
        config.check().unwrap_err()
    }

    fn secret() -> Option<SecretRef> {
        Some(SecretRef { reference: "env:NAME".into() })
    }

    #[test]
    fn the_defaults_work_once_there_is_a_table() {
        assert_eq!(DynamoDbConfig::new("http_cache").check(), Ok(()));
        assert!(DynamoDbConfig::default().check().unwrap_err().contains("table: is needed"));
    }

    #[test]
    fn a_table_is_a_name_and_nothing_else() {
        for table in ["", "ab", "a b c", "caf\u{e9}s", "a/b", "arn:aws:dynamodb:eu-west-1:1:table/t", &"t".repeat(256)]
        {
            assert!(refused(|config| config.table = Some(table.into())).starts_with("table = "), "{table}");
        }
        for table in ["abc", "My.Table_1-x", &"t".repeat(255)] {
            assert_eq!(DynamoDbConfig::new(table).check(), Ok(()), "{table}");
        }
    }

    #[test]
    fn an_endpoint_is_encrypted_or_on_this_machine_or_asked_for() {
        let endpoint = |url: &str, plain_http| {
            let endpoint_url = Some(url.to_owned());
            DynamoDbConfig { endpoint_url, plain_http, ..DynamoDbConfig::new("http_cache") }.check()
        };
        for url in ["https://dynamodb.example.org", "http://127.0.0.1:8000", "http://localhost:5000/", "http://[::1]:1"]
        {
            assert_eq!(endpoint(url, false), Ok(()), "{url}");
        }
        assert!(endpoint("http://10.0.0.5:8000", false).unwrap_err().contains("plain_http"));
        assert_eq!(endpoint("http://10.0.0.5:8000", true), Ok(()));
        for url in
            ["", "localhost:8000", "ftp://localhost", "https://user:hunter2@host", "https://h/path", "https://h/?q"]
        {
            let error = endpoint(url, true).unwrap_err();
            assert!(error.contains("endpoint_url") && !error.contains("hunter2"), "{url}: {error}");
        }
        assert!(refused(|config| config.plain_http = true).contains("plain_http"));
        // A name that only begins like this machine's is another machine's.
        assert!(endpoint("http://localhost.example.org", false).is_err());
        assert!(endpoint("http://127.0.0.1.example.org", false).is_err());
    }

    #[test]
    fn half_a_credential_is_none_and_two_are_one_too_many() {
        assert!(refused(|config| config.access_key_id = secret()).contains("secret_access_key"));
        assert!(refused(|config| config.secret_access_key = secret()).contains("access_key_id"));
        assert!(refused(|config| config.session_token = secret()).contains("session_token"));
        let both = |config: &mut DynamoDbConfig| {
            config.profile = Some("dev".into());
            (config.access_key_id, config.secret_access_key) = (secret(), secret());
        };
        assert!(refused(both).contains("profile"));
    }

    #[test]
    fn every_other_option_says_what_it_takes() {
        assert!(refused(|config| config.region = Some("eu/west".into())).contains("region"));
        assert!(refused(|config| config.profile = Some(String::new())).contains("profile"));
        assert!(refused(|config| config.timeout = 0.0).contains("timeout"));
        assert!(refused(|config| config.timeout = f64::NAN).contains("timeout"));
        assert!(refused(|config| config.max_attempts = 0).contains("max_attempts"));
        assert!(refused(|config| config.max_concurrency = 2000).contains("max_concurrency"));
        assert!(refused(|config| config.max_value = 405_505).contains("max_value"));
        assert!(refused(|config| config.ca_file = Some("ca.pem".into())).contains("ca_file"));
        assert!(refused(|config| config.value_attribute = "key".into()).contains("key_attribute as well"));
        assert!(refused(|config| config.ttl_attribute = String::new()).contains("ttl_attribute"));
        assert!(refused(|config| config.version_attribute = "holder".into()).contains("leases"));
    }
}
