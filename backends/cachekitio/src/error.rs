//! Failures of the exchange with the service, and what they mean to the caller.
//!
//! The table follows the family's: 401 and 403 are credentials, 429 and 5xx pass, other refusals do not. Tamper, wrong
//! configuration and outage stay apart: an answer that cannot be right is `Corrupt`, a redirect or a missing path is
//! `Config`. No failure carries a key, a value, the API key or the URL it was sent to.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use cachekit_plugin::{BackendError, Kind, Operation, Retry};
use http::StatusCode;

use crate::guarded_dns::DnsRefusal;
use crate::path::MAX_KEY_BYTES;

/// The name of this backend in errors and health.
pub(crate) const BACKEND: &str = "cachekitio";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// Options that cannot work; the text says which and why.
    #[error("{0}")]
    Refused(String),
    #[error("a key of {len} bytes is longer than the service takes ({MAX_KEY_BYTES})")]
    KeyTooLong { len: usize },
    #[error("the key {0:?} is a path segment that the protocol keeps for itself")]
    ReservedKey(&'static str),
    #[error("a value of {len} bytes is larger than max_value allows ({max} bytes)")]
    ValueTooLarge { len: usize, max: u64 },
    #[error("the service holds a value that is larger than max_value allows ({max} bytes)")]
    AnswerTooLarge { max: u64 },
    #[error("the service answered {}{}", .0.status, .0.meaning())]
    Status(Refusal),
    /// What came back cannot be right.
    #[error("{0}")]
    Corrupt(&'static str),
    #[error("the deadline passed; what the service did by then stays done")]
    Late,
    #[error("the exchange failed: {}", root_of(.0))]
    Exchange(#[source] reqwest::Error),
    #[error("the backend is closed")]
    Closed,
    #[error("opened in a parent process; open another one after fork()")]
    Forked,
    #[error("no tokio runtime runs the caller's task, and this backend needs its reactor")]
    NoRuntime,
}

/// An answer that is none of the expected ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// `Retry-After`, where it is plain seconds.
    pub(crate) retry_after: Option<Duration>,
    /// `X-CacheKit-Deny-Reason` came along: a quota, not a rate.
    pub(crate) denied: bool,
}

impl Refusal {
    fn class(&self) -> (Kind, Option<Retry>) {
        let later = self.retry_after.map(Retry::After);
        match self.status.as_u16() {
            401 | 403 => (Kind::Auth, None),
            429 if self.denied => (Kind::Throttled, Some(Retry::No)),
            429 => (Kind::Throttled, later),
            405 | 501 => (Kind::Unsupported, None),
            // 408 and 425 ask for the same request again.
            408 | 425 | 500..=599 => (Kind::Transient, later),
            413 | 414 | 431 => (Kind::TooLarge, None),
            300..=399 | 404 => (Kind::Config, None),
            400..=499 => (Kind::Internal, None),
            _ => (Kind::Corrupt, None),
        }
    }

    /// What it means, for whoever reads the error.
    fn meaning(&self) -> &'static str {
        match self.status.as_u16() {
            300..=399 => ": a redirect, which is never followed, because the API key would follow it",
            400 => ": it does not take this request; keys of the service hold A-Z a-z 0-9 _ . : - only",
            401 | 403 => ": it does not take the API key",
            404 => ": there is no such path; is the URL that of a cachekit service?",
            413 => ": the value is larger than it takes",
            429 if self.denied => ": a quota is used up",
            _ => "",
        }
    }
}

impl ServiceError {
    /// From the client library, without the URL, because that holds the key of the entry.
    pub(crate) fn exchange(error: reqwest::Error) -> Self {
        Self::Exchange(error.without_url())
    }

    pub(crate) fn class(&self) -> (Kind, Option<Retry>) {
        match self {
            Self::Refused(_) => (Kind::Config, None),
            Self::KeyTooLong { .. } | Self::ReservedKey(_) => (Kind::TooLarge, None),
            Self::ValueTooLarge { .. } | Self::AnswerTooLarge { .. } => (Kind::TooLarge, None),
            Self::Status(refusal) => refusal.class(),
            Self::Corrupt(_) => (Kind::Corrupt, None),
            Self::Late => (Kind::Timeout, None),
            Self::Exchange(error) => class_of_exchange(error),
            Self::Closed | Self::NoRuntime => (Kind::Internal, None),
            Self::Forked => (Kind::Forked, None),
        }
    }

    /// The error of the contract.
    pub(crate) fn during(self, operation: Operation) -> BackendError {
        let (kind, retry) = self.class();
        let error = BackendError::new(kind, operation, self.to_string()).on(BACKEND);
        let error = match retry {
            Some(retry) => error.with_retry(retry),
            None => error,
        };
        match self {
            Self::Exchange(source) => error.with_source(source),
            _ => error,
        }
    }
}

fn class_of_exchange(error: &reqwest::Error) -> (Kind, Option<Retry>) {
    if error.is_timeout() {
        return (Kind::Timeout, None);
    }
    for cause in causes(error) {
        if cause.is::<DnsRefusal>() {
            return (Kind::Config, None);
        }
        // The next attempt meets the same certificate. Transient all the same, as in the family: certificates are renewed.
        if matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return (Kind::Transient, Some(Retry::No));
        }
    }
    (Kind::Transient, None)
}

/// The error and everything underneath. What an `io::Error` wraps is not its `source`, but the error itself.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    fn next<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    }
    std::iter::successors(Some(error), |error| next(*error))
}

/// The cause at the bottom: client libraries say "error sending request" and leave the reason to the source.
fn root_of(error: &reqwest::Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, denied: bool, retry_after: Option<u64>) -> (Kind, Retry) {
        let status = StatusCode::from_u16(status).unwrap();
        let refusal = Refusal { status, retry_after: retry_after.map(Duration::from_secs), denied };
        let error = ServiceError::Status(refusal).during(Operation::Get);
        (error.kind(), error.retry())
    }

    #[test]
    fn statuses_are_classed_as_the_family_classes_them() {
        assert_eq!(class(401, false, None), (Kind::Auth, Retry::No));
        assert_eq!(class(403, false, None), (Kind::Auth, Retry::No));
        assert_eq!(class(429, false, Some(7)), (Kind::Throttled, Retry::After(Duration::from_secs(7))));
        assert_eq!(class(429, true, Some(7)), (Kind::Throttled, Retry::No));
        assert_eq!(class(503, false, Some(1)), (Kind::Transient, Retry::After(Duration::from_secs(1))));
        assert_eq!(class(500, false, None), (Kind::Transient, Retry::Now));
        assert_eq!(class(408, false, None), (Kind::Transient, Retry::Now));
        assert_eq!(class(413, false, None), (Kind::TooLarge, Retry::No));
        assert_eq!(class(302, false, None), (Kind::Config, Retry::No));
        assert_eq!(class(404, false, None), (Kind::Config, Retry::No));
        assert_eq!(class(418, false, None), (Kind::Internal, Retry::No));
        assert_eq!(class(501, false, None), (Kind::Unsupported, Retry::No));
        assert_eq!(class(206, false, None), (Kind::Corrupt, Retry::No));
    }

    #[test]
    fn what_an_io_error_wraps_is_found() {
        let wrapped = io::Error::other(io::Error::other(DnsRefusal::Inside));
        assert!(causes(&wrapped).any(|cause| cause.is::<DnsRefusal>()));
        assert_eq!(causes(&wrapped).last().unwrap().to_string(), DnsRefusal::Inside.to_string());
    }
}
