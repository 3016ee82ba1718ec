//! The address of the service: what of a URL is taken, and what is refused before anything is sent.
//!
//! What it protects: the API key goes to the one host that stands here and nowhere else. So the URL has no second reading:
//! no credentials, no backslash, no query, no host that turns out to be an address in disguise. The host is one of the
//! service's own, unless the operator says otherwise; one inside her network needs a second word of hers.

use std::net::IpAddr;

use reqwest::Url;

use crate::address::{Allowed, Reach, reach};

/// Hosts of the service.
const SERVICE_HOSTS: [&str; 2] = ["api.cachekit.io", "api.staging.cachekit.io"];

/// Longest URL of a service, bytes.
const MAX_URL_BYTES: usize = 2048;

/// What the operator allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Permissions {
    pub(crate) custom_host: bool,
    /// Includes custom hosts: nobody's private network is on the list of the service.
    pub(crate) private_host: bool,
    pub(crate) plain_http: bool,
}

impl Permissions {
    /// Where connections may go.
    pub(crate) fn addresses(self) -> Allowed {
        match (self.plain_http, self.private_host) {
            (true, _) => Allowed::Private,
            (false, true) => Allowed::PublicAndPrivate,
            (false, false) => Allowed::Public,
        }
    }
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Scheme, host, port and base path, without a slash at its end.
    base: String,
}

impl Endpoint {
    /// Reads `text` (`https://host[:port][/base]`). The error says what is wrong without repeating the text, which may hold
    /// a password.
    pub(crate) fn parse(text: &str, permissions: Permissions) -> Result<Self, String> {
        if text.len() > MAX_URL_BYTES {
            return Err(format!("it has more than {MAX_URL_BYTES} characters"));
        }
        // Parsers drop tabs and turn backslashes, and then the host is not the one that was read.
        if text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'\\') {
            return Err("it holds a space, a backslash, a control character or a letter that is not ASCII".into());
        }
        let (scheme, rest) = text.split_once("://").ok_or("it is no URL such as https://api.cachekit.io")?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme != if permissions.plain_http { "http" } else { "https" } {
            return Err(match (&*scheme, permissions.plain_http) {
                ("http", _) => "it must be https://; http:// needs plain_http, and a private host".into(),
                ("https", true) => "it is https://, and plain_http asks for http://".into(),
                _ => "it must be https://".into(),
            });
        }
        if rest.contains(['?', '#']) {
            return Err("it must have no query and no fragment".into());
        }
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.contains('@') {
            return Err("it must hold no credentials (user:password@); the API key is an option of its own".into());
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err("it must name a host".into());
        }
        if authority.contains('%') {
            return Err("its host must be written plainly, without %".into());
        }
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let host = url.host_str().ok_or("it must name a host")?;
        check_host(host, permissions)?;
        if url.port() == Some(0) {
            return Err("its port must be 1 to 65535".into());
        }
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base })
    }

    /// The URL of what stands under `/v1/cache/`; `None` if it would not be that one.
    pub(crate) fn url(&self, place: &str) -> Option<Url> {
        let text = format!("{}/v1/cache/{place}", self.base);
        // A parser that changed anything, a `..` above all, would ask for something else.
        Url::parse(&text).ok().filter(|url| url.as_str() == text)
    }

    /// For people: scheme, host, port and base path.
    pub(crate) fn as_str(&self) -> &str {
        &self.base
    }
}

/// `host` as the parser wrote it: numbers are addresses by now, names are lower-case.
fn check_host(host: &str, permissions: Permissions) -> Result<(), String> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        match reach(address) {
            Reach::Special => return Err(format!("{address} is an address where no service is")),
            Reach::Private if !permissions.private_host => {
                return Err(format!(
                    "{address} is a private address; a service of your own there needs allow_private_host"
                ));
            }
            Reach::Public if permissions.plain_http => {
                return Err(format!("{address} is a public address, and plain_http is for private ones"));
            }
            _ => {}
        }
    } else {
        let name = bare.strip_suffix('.').unwrap_or(bare);
        // As such, whatever they resolve to.
        if (name == "localhost" || name.ends_with(".localhost")) && !permissions.private_host {
            return Err("its host is this machine; a service of your own there needs allow_private_host".into());
        }
    }
    if SERVICE_HOSTS.contains(&bare) || permissions.custom_host || permissions.private_host {
        return Ok(());
    }
    Err(format!("its host is none of {}; another one needs allow_custom_host", SERVICE_HOSTS.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUSTOM: Permissions = Permissions { custom_host: true, private_host: false, plain_http: false };
    const PRIVATE: Permissions = Permissions { custom_host: false, private_host: true, plain_http: false };
    const PLAIN: Permissions = Permissions { custom_host: false, private_host: true, plain_http: true };

    #[test]
    fn addresses_in_disguise_are_refused_whatever_their_spelling() {
        for host in [
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "017700000001",
            "0177.0.0.1",
            "127.0.0.1.",
            "10.1",
            "0",
            "0.0.0.0",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.169.254",
            "0xa9fea9fe",
            "100.64.0.1",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fc00::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b::10.0.0.1]",
            "[2002:7f00:1::]",
            "[2002:c0a8:0101::1]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "a.localhost.",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            let error = Endpoint::parse(&format!("https://{host}/"), CUSTOM);
            assert!(error.is_err(), "{host}: {error:?}");
        }
    }

    #[test]
    fn a_private_host_needs_its_own_word_and_special_ones_have_none() {
        for host in ["127.0.0.1", "10.0.0.5", "[::1]", "[fd00::1]", "localhost", "cache.internal", "127.1"] {
            assert!(Endpoint::parse(&format!("https://{host}:8443"), PRIVATE).is_ok(), "{host}");
        }
        for host in ["169.254.169.254", "0.0.0.0", "[::]", "[fe80::1]", "[ff02::1]", "[64:ff9b::a9fe:a9fe]"] {
            assert!(Endpoint::parse(&format!("https://{host}"), PRIVATE).is_err(), "{host}");
        }
    }

    #[test]
    fn without_encryption_only_private_addresses_are_spoken_to() {
        assert!(Endpoint::parse("http://127.0.0.1:80", PLAIN).is_ok());
        assert!(
            Endpoint::parse("http://cache.internal", PLAIN).is_ok(),
            "its addresses are looked at when it is resolved"
        );
        for wrong in ["http://8.8.8.8", "https://127.0.0.1"] {
            assert!(Endpoint::parse(wrong, PLAIN).is_err(), "{wrong}");
        }
        assert!(Endpoint::parse("http://127.0.0.1", PRIVATE).unwrap_err().contains("plain_http"));
    }

    #[test]
    fn a_url_has_one_reading_only() {
        for wrong in [
            "https://@api.cachekit.io",
            "https://user@api.cachekit.io",
            "https://api.cachekit.io\\@evil.example",
            "https://api.cachekit.io\\.evil.example",
            "https://api.cachekit.io?x=1",
            "https://api.cachekit.io/#x",
            "https://api.cach\tekit.io",
            " https://api.cachekit.io",
            "https://api.cachekit.io\n",
            "https:\\\\api.cachekit.io",
            "https:api.cachekit.io",
            "https:///api.cachekit.io",
            "https://:443",
            "https://api%2ecachekit.io",
            "https://\u{ff11}27.0.0.1",
            "https://api.cachekit.io:0",
            "https://api.cachekit.io:65536",
            "https://api.cachekit.io:x",
            "",
        ] {
            let error = Endpoint::parse(wrong, CUSTOM);
            assert!(error.is_err(), "{wrong:?}: {error:?}");
        }
        assert!(Endpoint::parse(&format!("https://api.cachekit.io/{}", "x".repeat(2048)), CUSTOM).is_err());
    }

    #[test]
    fn no_refusal_repeats_a_password() {
        for wrong in ["https://user:hunter2@api.cachekit.io", "http://user:hunter2@x", "https://user:hunter2@x?y"] {
            let error = Endpoint::parse(wrong, Permissions::default()).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_base_path_is_kept_and_no_place_leaves_the_cache() {
        let endpoint = Endpoint::parse("https://API.cachekit.io:443/base//", CUSTOM).unwrap();
        assert_eq!(endpoint.as_str(), "https://api.cachekit.io/base");
        assert_eq!(endpoint.url("a%3Ab").unwrap().as_str(), "https://api.cachekit.io/base/v1/cache/a%3Ab");
        for leaving in ["..", "../x", "%2e%2e", ".%2E/x", "a/../../x"] {
            assert!(endpoint.url(leaving).is_none(), "{leaving}");
        }
    }
}
