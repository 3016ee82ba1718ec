//! Failures of a memcached server, and what they mean to the caller.
//!
//! The classes follow the family's: silence is a timeout, a lost connection or a server's own trouble may pass, a key or
//! value the server cannot take will not. What a server writes into an error line is never repeated: a stream that is out of
//! step would put stored bytes there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cachekit_plugin::{BackendError, Kind, Operation, Retry};

/// The name of this backend in errors and health.
pub(crate) const BACKEND: &str = "memcached";

/// Why a connection is no more. Everything that stood on it ends with this.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the server cannot be reached")]
    Unreachable(#[source] Arc<io::Error>),
    #[error("the server took no connection in time")]
    ConnectTimeout,
    #[error("the connection broke")]
    Broken(#[source] Arc<io::Error>),
    #[error("the server closed the connection")]
    ClosedByServer,
    #[error("the server made no progress for as long as `timeout` allows")]
    Stalled,
    /// The text says what did not fit, without the bytes.
    #[error("the server's answers do not fit the requests ({0}); the connection was dropped")]
    OutOfStep(&'static str),
    #[error("the server asks for authentication, which this backend does not offer")]
    AsksForAuth,
    #[error("the server does not speak the meta protocol: memcached 1.6 or newer is needed")]
    TooOld,
    #[error("the runtime that served the connection has ended")]
    Ended,
    #[error("the backend was closed")]
    Closing,
}

impl Lost {
    /// Whether it says something about the server, and not only about us.
    pub(crate) fn is_the_servers_fault(&self) -> bool {
        !matches!(self, Self::Ended | Self::Closing)
    }

    fn class(&self) -> (Kind, Option<Retry>) {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::ClosedByServer | Self::Ended | Self::Closing => {
                (Kind::Transient, None)
            }
            Self::ConnectTimeout | Self::Stalled => (Kind::Timeout, None),
            // The next connection may well be in step.
            Self::OutOfStep(_) => (Kind::Corrupt, Some(Retry::Now)),
            Self::AsksForAuth => (Kind::Auth, None),
            Self::TooOld => (Kind::Config, None),
        }
    }

    fn source(&self) -> Option<Arc<io::Error>> {
        match self {
            Self::Unreachable(source) | Self::Broken(source) => Some(Arc::clone(source)),
            _ => None,
        }
    }
}

/// What a server answered instead of doing what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the value is too large for the server (its -I)")]
    ObjectTooLarge,
    #[error("the server is out of memory for a value of this size")]
    OutOfMemory,
    #[error("the server reports an error of its own")]
    ServerError,
    #[error("the server refuses the request as malformed")]
    ClientError,
    /// Something stored by a client with a larger limit; its bytes were passed over.
    #[error("the stored value of {0} bytes is larger than max_item_size_bytes allows")]
    StoredTooLarge(u64),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("a key takes 1 to 250 bytes of printable ASCII without spaces, prefix included")]
    Key,
    #[error("a value of {len} bytes is larger than max_item_size_bytes allows ({max})")]
    ValueTooLarge { len: usize, max: u64 },
    #[error("the deadline passed; a write that was under way may still arrive")]
    Late,
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the server failed a moment ago and is not tried again yet")]
    Failing { pause: Duration },
    #[error("opened before fork(); open it again in the child")]
    Forked,
    #[error("no thread could be started for the connections")]
    NoRuntime,
    #[error("the answer is not one this request can have")]
    Unexpected,
}

impl Failure {
    /// The error of the contract.
    pub(crate) fn during(self, operation: Operation) -> BackendError {
        let (kind, retry) = match &self {
            Self::Key | Self::ValueTooLarge { .. } => (Kind::TooLarge, None),
            Self::Late => (Kind::Timeout, None),
            Self::Lost(lost) => lost.class(),
            Self::Failing { pause } => (Kind::Transient, Some(Retry::After(*pause))),
            Self::Forked => (Kind::Forked, None),
            Self::NoRuntime => (Kind::Transient, None),
            Self::Unexpected => (Kind::Corrupt, Some(Retry::Now)),
            Self::Refused(refusal) => match refusal {
                // The family's Python client calls this transient; no retry has ever made a value smaller.
                Refusal::ObjectTooLarge | Refusal::StoredTooLarge(_) => (Kind::TooLarge, None),
                // Frees itself by eviction if at all, so not within a retry.
                Refusal::OutOfMemory => (Kind::Transient, Some(Retry::No)),
                Refusal::ServerError => (Kind::Transient, None),
                Refusal::ClientError => (Kind::Internal, None),
            },
        };
        let mut error = BackendError::new(kind, operation, self.to_string()).on(BACKEND);
        if let Some(retry) = retry {
            error = error.with_retry(retry);
        }
        match &self {
            Self::Lost(lost) => match lost.source() {
                Some(source) => error.with_source(source),
                None => error,
            },
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classed_as_the_family_classes_them() {
        let class = |failure: Failure| {
            let error = failure.during(Operation::Get);
            (error.kind(), error.retry())
        };
        let refused = || Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(class(Failure::Lost(Lost::Unreachable(refused()))), (Kind::Transient, Retry::Now));
        assert_eq!(class(Failure::Lost(Lost::ClosedByServer)), (Kind::Transient, Retry::Now));
        assert_eq!(class(Failure::Lost(Lost::Stalled)), (Kind::Timeout, Retry::Now));
        assert_eq!(class(Failure::Lost(Lost::ConnectTimeout)), (Kind::Timeout, Retry::Now));
        assert_eq!(class(Failure::Late), (Kind::Timeout, Retry::Now));
        assert_eq!(class(Failure::Refused(Refusal::ServerError)), (Kind::Transient, Retry::Now));
        assert_eq!(class(Failure::Refused(Refusal::ClientError)), (Kind::Internal, Retry::No));
        assert_eq!(class(Failure::Refused(Refusal::ObjectTooLarge)), (Kind::TooLarge, Retry::No));
        assert_eq!(class(Failure::Refused(Refusal::OutOfMemory)), (Kind::Transient, Retry::No));
        assert_eq!(class(Failure::Key), (Kind::TooLarge, Retry::No));
        assert_eq!(class(Failure::Lost(Lost::AsksForAuth)).0, Kind::Auth);
        assert_eq!(class(Failure::Lost(Lost::TooOld)).0, Kind::Config);
        let pause = Duration::from_millis(70);
        assert_eq!(class(Failure::Failing { pause }), (Kind::Transient, Retry::After(pause)));
    }

    #[test]
    fn an_error_says_what_was_attempted_and_keeps_its_source() {
        let source = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        let error = Failure::Lost(Lost::Unreachable(source)).during(Operation::Set);
        assert_eq!(error.to_string(), "set on memcached failed (transient): the server cannot be reached");
        assert!(std::error::Error::source(&error).is_some());
    }
}
