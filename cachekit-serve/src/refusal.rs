//! What a client is told when it does not get what it asked for: a status, a word for machines, a sentence for people.
//! Never a key, a tenant's name or what a store said, which may hold addresses.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use cachekit_plugin::{BackendError, Kind, Retry};
use serde_json::json;

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    kind: &'static str,
    message: &'static str,
    /// Seconds.
    retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) const fn new(status: StatusCode, kind: &'static str, message: &'static str) -> Self {
        Self { status, kind, message, retry_after: None }
    }

    /// Clients of the family try a write once more where this is 0 to 2.
    const fn later(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) const fn key(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "key", message)
    }

    pub(crate) const fn life(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ttl", message)
    }

    pub(crate) const fn json(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "json", message)
    }

    pub(crate) const fn body(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "body", message)
    }

    pub(crate) const fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "auth", "this needs Authorization: Bearer with a key that is known here")
    }

    pub(crate) const fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "auth", "this key does not open that")
    }

    pub(crate) const fn miss() -> Self {
        Self::new(StatusCode::NOT_FOUND, "miss", "there is no such entry")
    }

    pub(crate) const fn nowhere() -> Self {
        Self::new(StatusCode::NOT_FOUND, "path", "nothing is served at this path")
    }

    pub(crate) const fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path does not take this method")
    }

    pub(crate) const fn media(message: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", message)
    }

    pub(crate) const fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the value is larger than this server takes")
    }

    pub(crate) const fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body did not arrive in time")
    }

    pub(crate) const fn conflict() -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "others keep writing this entry")
    }

    pub(crate) const fn no_locks() -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "unsupported", "the store behind this server has no locks")
    }

    pub(crate) const fn too_many_of_tenant() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate", "this tenant has too many requests under way").later(1)
    }

    pub(crate) const fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "the server has too much under way").later(1)
    }

    /// What stands for an error of the store. Whatever is wrong between this server and its store is no fault of the
    /// client: its credentials were right, so 401 and 403 are not for that.
    pub(crate) fn of_store(error: &BackendError) -> Self {
        let new = Self::new;
        match error.kind() {
            Kind::Timeout => new(StatusCode::GATEWAY_TIMEOUT, "timeout", "the store did not answer in time"),
            Kind::Transient | Kind::Throttled => {
                let wait = match error.retry() {
                    Retry::After(pause) => pause.max(Duration::from_secs(1)).as_millis().div_ceil(1000).min(3600),
                    _ => 1,
                };
                new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the store is not available").later(wait as u64)
            }
            Kind::TooLarge => Self::too_large(),
            Kind::Unsupported => new(StatusCode::NOT_IMPLEMENTED, "unsupported", "the store cannot do that"),
            Kind::Auth => new(StatusCode::BAD_GATEWAY, "store_auth", "the store does not accept this server"),
            Kind::Corrupt => {
                new(StatusCode::BAD_GATEWAY, "store_corrupt", "the store gave an answer that cannot be right")
            }
            _ => new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the store failed"),
        }
    }

    pub(crate) fn into_response(self) -> Response {
        let document = json!({ "error": { "kind": self.kind, "message": self.message } });
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"cachekit\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use cachekit_plugin::Operation;

    use super::*;

    #[test]
    fn each_kind_of_error_has_its_status_and_says_nothing_of_the_store() {
        for (kind, status, retry_after) in [
            (Kind::Timeout, 504, None),
            (Kind::Transient, 503, Some(1)),
            (Kind::Throttled, 503, Some(1)),
            (Kind::TooLarge, 413, None),
            (Kind::Unsupported, 501, None),
            (Kind::Auth, 502, None),
            (Kind::Corrupt, 502, None),
            (Kind::Config, 500, None),
            (Kind::Internal, 500, None),
            (Kind::Panic, 500, None),
            (Kind::Forked, 500, None),
        ] {
            let error = BackendError::new(kind, Operation::Get, "redis at 10.0.0.7 said so");
            let refusal = Refusal::of_store(&error);
            assert_eq!((refusal.status.as_u16(), refusal.retry_after), (status, retry_after), "{kind}");
            assert!(!refusal.message.contains("10.0.0.7"));
        }
    }

    #[test]
    fn a_pause_that_the_store_asks_for_is_handed_on_in_whole_seconds() {
        let error = BackendError::new(Kind::Throttled, Operation::Get, "")
            .with_retry(Retry::After(Duration::from_millis(2100)));
        assert_eq!(Refusal::of_store(&error).retry_after, Some(3));
    }
}
