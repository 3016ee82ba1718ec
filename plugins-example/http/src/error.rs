//! From what can go wrong with an exchange to the one error of the contract.
//!
//! No text holds a key, a value, a secret or a URL: operators see which store, which status, and what to look at.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use cachekit_plugin::{BackendError, Kind, Operation, Retry};

use crate::status::Refusal;

/// The name of this store in errors, log lines and health.
pub(crate) const STORE: &str = "http";

#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("a key of {len} bytes is longer than max_key allows ({max})")]
    KeyTooLong { len: usize, max: u32 },
    #[error("the key holds bytes that key_bytes does not allow, or none at all")]
    KeyBytes,
    #[error("the key would be a path segment with a meaning of its own (`.` or `..`)")]
    KeyIsStructure,
    #[error("a life below the server's minimum of {minimum_ms} ms, and ttl.below_minimum is \"refuse\"")]
    LifeTooShort { minimum_ms: u64 },
    #[error("a value of {len} bytes is larger than max_value allows ({max})")]
    ValueTooLarge { len: usize, max: u64 },
    #[error("the server holds a value that is larger than max_value allows ({max} bytes)")]
    AnswerTooLarge { max: u64 },
    #[error("{0}")]
    Status(Refusal),
    /// What came back cannot be right.
    #[error("{0}")]
    Corrupt(&'static str),
    #[error("the deadline passed; what the server did by then stays done")]
    Late,
    #[error("the server does not take us: {}. client_certificate and client_key say who we are", root_of(.0))]
    Unwelcome(#[source] reqwest::Error),
    #[error("the exchange failed: {}", root_of(.0))]
    Exchange(#[source] reqwest::Error),
    #[error("the backend is closed")]
    Closed,
    #[error("opened in a parent process; open another one after fork()")]
    Forked,
    #[error("no tokio runtime runs the caller's task, and this backend needs its reactor")]
    NoRuntime,
}

impl HttpError {
    /// From the client library, without the URL, because that holds the key.
    pub(crate) fn exchange(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if is_unwelcome(&error) { Self::Unwelcome(error) } else { Self::Exchange(error) }
    }

    /// What kind it is, and whether trying again can help where the kind does not say so.
    pub(crate) fn class(&self) -> (Kind, Option<Retry>) {
        match self {
            Self::KeyTooLong { .. } | Self::ValueTooLarge { .. } | Self::AnswerTooLarge { .. } => {
                (Kind::TooLarge, None)
            }
            Self::KeyBytes | Self::KeyIsStructure | Self::LifeTooShort { .. } => (Kind::Unsupported, None),
            Self::Status(refusal) => refusal.class(),
            Self::Corrupt(_) => (Kind::Corrupt, None),
            Self::Late => (Kind::Timeout, None),
            Self::Unwelcome(_) => (Kind::Auth, None),
            Self::Exchange(error) if error.is_timeout() => (Kind::Timeout, None),
            // The next attempt meets the same certificate. Transient all the same: certificates are renewed.
            Self::Exchange(error) if distrusts(error) => (Kind::Transient, Some(Retry::No)),
            Self::Exchange(_) => (Kind::Transient, None),
            Self::Closed | Self::NoRuntime => (Kind::Internal, None),
            Self::Forked => (Kind::Forked, None),
        }
    }

    /// The pause that the server asked for.
    pub(crate) fn asked_pause(&self) -> Option<Duration> {
        match self {
            Self::Status(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// Whether the server surely did nothing: it said no, or was never reached.
    pub(crate) fn surely_not_done(&self) -> bool {
        match self {
            Self::Status(refusal) => refusal.is_throttled(),
            Self::Unwelcome(_) => true,
            Self::Exchange(error) => error.is_connect(),
            _ => false,
        }
    }

    /// The error of the contract.
    pub(crate) fn during(self, operation: Operation) -> BackendError {
        let (kind, retry) = self.class();
        let error = BackendError::new(kind, operation, self.to_string()).on(STORE);
        let error = match retry {
            Some(retry) => error.with_retry(retry),
            None => error,
        };
        match self {
            Self::Exchange(source) | Self::Unwelcome(source) => error.with_source(source),
            _ => error,
        }
    }
}

/// A configuration that cannot work.
pub(crate) fn refused(reason: String) -> BackendError {
    BackendError::new(Kind::Config, Operation::Open, reason).on(STORE)
}

fn distrusts(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))))
}

/// Whether the server ended the handshake because of who we are, or are not. Its word may be lost: since TLS 1.3 it comes after
/// we may have sent a request, and a server that closes at once can take it back.
fn is_unwelcome(error: &reqwest::Error) -> bool {
    use rustls::AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        HandshakeFailure, UnknownCA, UnsupportedCertificate,
    };
    causes(error).any(|cause| {
        matches!(
            cause.downcast_ref(),
            Some(rustls::Error::AlertReceived(
                AccessDenied
                    | BadCertificate
                    | CertificateExpired
                    | CertificateRequired
                    | CertificateRevoked
                    | CertificateUnknown
                    | HandshakeFailure
                    | UnknownCA
                    | UnsupportedCertificate
            ))
        )
    })
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
