//! Headers: those that identify us, and those that everybody may see.
//!
//! What it protects: the secret. It is fetched from the host by its reference when the instance is opened, is marked as
//! sensitive, so that no client library prints it, and stands in no error. A header that would change how a request is framed
//! or where it goes is no option.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cachekit_plugin::{BackendError, HostServices, SecretRef};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::config::HttpConfig;
use crate::error::{STORE, refused};

/// Headers that belong to the exchange and not to the application (RFC 9110 sections 7.6.1 and 8.6), or that would make the body another
/// one than the value.
const RESERVED: [&str; 13] = [
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
    "proxy-authorization",
    "proxy-connection",
];
/// Headers that are secrets by their nature.
const SECRET: [&str; 2] = ["authorization", "cookie"];
/// Longest secret, bytes: servers take about 8 KiB for a header.
const MAX_SECRET_BYTES: usize = 8 << 10;

/// The name of a header that an option may set. `field` is where it stands.
pub(crate) fn header_name(field: &str, name: &str, secret: bool) -> Result<HeaderName, String> {
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{field}: a name that is none of a header"))?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(format!("{field}.{parsed}: belongs to the exchange, and is not set by options"));
    }
    if !secret && SECRET.contains(&parsed.as_str()) {
        return Err(format!("{field}.{parsed}: is a secret; use bearer, user and password, or secret_headers"));
    }
    Ok(parsed)
}

/// Whether there is anything that must not be read on the way.
pub(crate) fn has_secret(config: &HttpConfig) -> bool {
    config.bearer.is_some()
        || config.password.is_some()
        || !config.secret_headers.is_empty()
        || config.client_key.is_some()
}

/// The headers that identify us.
pub(crate) fn credentials(config: &HttpConfig, host: &HostServices) -> Result<HeaderMap, BackendError> {
    let mut headers = HeaderMap::new();
    for (name, reference) in &config.secret_headers {
        let field = format!("secret_headers.{name}");
        let name = header_name("secret_headers", name, true).map_err(refused)?;
        headers.insert(name, sensitive(&field, &secret(&field, reference, host)?)?);
    }
    let authorization = match (&config.bearer, &config.user, &config.password) {
        (None, None, None) => None,
        (Some(token), None, None) => Some(format!("Bearer {}", secret("bearer", token, host)?)),
        (None, Some(user), Some(password)) => {
            if user.contains(':') {
                return Err(refused("user: holds a colon, which separates it from the password".into()));
            }
            let password = secret("password", password, host)?;
            Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        (None, ..) => return Err(refused("user and password: need each other".into())),
        (Some(_), ..) => return Err(refused("bearer: excludes user and password".into())),
    };
    if let Some(authorization) = authorization {
        if headers.contains_key(AUTHORIZATION) {
            return Err(refused("secret_headers.authorization: excludes bearer, user and password".into()));
        }
        headers.insert(AUTHORIZATION, sensitive("bearer or password", &authorization)?);
    }
    Ok(headers)
}

fn secret(field: &str, reference: &SecretRef, host: &HostServices) -> Result<String, BackendError> {
    let secret = reference.resolve(host).map_err(|error| error.on(STORE))?;
    if secret.is_empty() || secret.len() > MAX_SECRET_BYTES {
        return Err(refused(format!("{field}: the secret is empty, or has more than {MAX_SECRET_BYTES} bytes")));
    }
    Ok(secret)
}

fn sensitive(field: &str, text: &str) -> Result<HeaderValue, BackendError> {
    let plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let value = plain.then(|| HeaderValue::from_str(text).ok()).flatten();
    let mut value = value.ok_or_else(|| refused(format!("{field}: the secret holds a byte that no header takes")))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cachekit_plugin::{LogLevel, Services};

    use super::*;

    /// A host whose secrets are what follows `env:`.
    struct Echo;
    impl Services for Echo {
        fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
        fn secret(&self, reference: &str) -> Result<String, String> {
            Ok(reference.trim_start_matches("env:").to_owned())
        }
    }

    fn of(json: &str) -> Result<HeaderMap, String> {
        let config = HttpConfig::from_json(json.as_bytes())?;
        credentials(&config, &HostServices::new(Arc::new(Echo))).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn each_form_of_credentials_becomes_its_header() {
        let authorization = |json: &str| of(json).unwrap()[AUTHORIZATION].to_str().unwrap().to_owned();
        assert_eq!(authorization(r#"{"bearer": {"$secret": "env:t0k"}}"#), "Bearer t0k");
        assert_eq!(authorization(r#"{"user": "u", "password": {"$secret": "env:p"}}"#), "Basic dTpw");
        let own = of(r#"{"secret_headers": {"X-Api-Key": {"$secret": "env:t0k"}}}"#).unwrap();
        assert_eq!(own["x-api-key"], "t0k");
        assert!(own["x-api-key"].is_sensitive() && !format!("{own:?}").contains("t0k"));
        assert!(of("{}").unwrap().is_empty());
    }

    #[test]
    fn credentials_that_cannot_be_are_refused_and_not_repeated() {
        for (field, json) in [
            ("password", r#"{"user": "u"}"#),
            ("password", r#"{"password": {"$secret": "env:hunter2"}}"#),
            ("bearer", r#"{"bearer": {"$secret": "env:hunter2"}, "user": "u", "password": {"$secret": "env:p"}}"#),
            ("user", r#"{"user": "a:b", "password": {"$secret": "env:hunter2"}}"#),
            ("bearer", r#"{"bearer": {"$secret": "env:hunter2\r\nX: y"}}"#),
            ("bearer", r#"{"bearer": {"$secret": "env:"}}"#),
            ("secret_headers.host", r#"{"secret_headers": {"Host": {"$secret": "env:hunter2"}}}"#),
            ("secret_headers", r#"{"secret_headers": {"a b": {"$secret": "env:hunter2"}}}"#),
            (
                "secret_headers.authorization",
                r#"{"bearer": {"$secret": "env:x"}, "secret_headers": {"Authorization": {"$secret": "env:hunter2"}}}"#,
            ),
        ] {
            let told = of(json).unwrap_err();
            assert!(told.contains(field) && !told.contains("hunter2"), "{json}: {told}");
        }
    }

    #[test]
    fn plain_headers_hold_no_secrets_and_frame_nothing() {
        for name in
            ["Authorization", "Cookie", "Content-Length", "Transfer-Encoding", "Host", "Accept-Encoding", "a\r\nb", ""]
        {
            assert!(header_name("headers", name, false).is_err(), "{name:?}");
        }
        assert!(header_name("headers", "X-Team", false).is_ok());
    }
}
