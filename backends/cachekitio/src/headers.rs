//! The names of the protocol's headers, and the ones every request carries.

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Seconds an entry lives.
pub(crate) const TTL: HeaderName = HeaderName::from_static("x-cachekit-ttl");
/// Seconds for which it may be handed out as stale after its life.
pub(crate) const STALE_TTL: HeaderName = HeaderName::from_static("x-cachekit-stale-ttl");
/// `fresh`, or not.
pub(crate) const FRESHNESS: HeaderName = HeaderName::from_static("x-cachekit-freshness");
/// Seconds for which a value may be kept elsewhere.
pub(crate) const FRESH_FOR: HeaderName = HeaderName::from_static("x-cachekit-fresh-for");
/// The lease to give back. In a header and not in the URL, because URLs stand in the logs of whoever they pass.
pub(crate) const LOCK_ID: HeaderName = HeaderName::from_static("x-cachekit-lock-id");
/// Whether a delete found something, said by `cachekit serve`, which answers one that did not like one that did.
pub(crate) const DELETED: HeaderName = HeaderName::from_static("x-cachekit-deleted");
/// Why a request was refused that is within the rate: a quota. Asking again changes nothing.
pub(crate) const DENY_REASON: HeaderName = HeaderName::from_static("x-cachekit-deny-reason");
/// Whose request it is, in W3C form.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The protocol's longest life, stale window included: 30 days.
pub(crate) const MAX_TTL_SECS: u64 = 2_592_000;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Octets,
    Json,
}

/// Of every request.
pub(crate) fn of_every_request(authorization: &HeaderValue, content: Content, trace: Option<&str>) -> HeaderMap {
    let content = match content {
        // Also on requests without a body, as the family sends it.
        Content::Octets => "application/octet-stream",
        Content::Json => "application/json",
    };
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(AUTHORIZATION, authorization.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("cachekit-cachekitio/", env!("CARGO_PKG_VERSION"))));
    // Without this a server may compress, and a value that was compressed on the way is not the value that was stored.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(trace) = trace.filter(|trace| is_traceparent(trace)).and_then(|trace| trace.parse().ok()) {
        headers.insert(TRACEPARENT, trace);
    }
    headers
}

/// `00-<32 hex>-<16 hex>-<2 hex>`: nothing else leaves this host under that name.
fn is_traceparent(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([2, 32, 16, 2]) && text.bytes().all(|byte| byte == b'-' || matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The bearer token as a header that is never printed and never put into a compression table.
pub(crate) fn authorization(api_key: &str) -> Result<HeaderValue, String> {
    const FORM: &str = "api_key: takes a token of letters, digits and -._~+/, with = at its end only";
    let token = api_key.trim_end_matches('=');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if token.is_empty() || api_key.len() > MAX_API_KEY_BYTES || !token.bytes().all(plain) {
        return Err(FORM.into());
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {api_key}")).map_err(|_| FORM.to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Longest API key, bytes: headers beyond a few kilobytes are refused by servers.
const MAX_API_KEY_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_in_its_form_is_handed_on() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let key = authorization("k").unwrap();
        for (trace, sent) in
            [(good, true), ("00-x-y-01", false), ("a\r\nb: c", false), (&good[1..], false), ("", false)]
        {
            let headers = of_every_request(&key, Content::Octets, Some(trace));
            assert_eq!(headers.contains_key(TRACEPARENT), sent, "{trace}");
        }
    }

    #[test]
    fn the_api_key_is_never_printed() {
        let value = authorization("ck_live_canary").unwrap();
        let headers = of_every_request(&value, Content::Json, None);
        for text in [format!("{value:?}"), format!("{headers:?}")] {
            assert!(!text.contains("canary"), "{text}");
        }
        let error = authorization("canary with spaces").unwrap_err();
        assert!(!error.contains("canary"), "{error}");
    }
}
