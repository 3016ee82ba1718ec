//! The one error of a backend: what was attempted, why it failed, and whether trying again can help.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// Why an operation failed. For people and metrics; machines that decide about retries read [`Retry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A defect of the backend or of its client.
    Internal,
    /// The backend panicked; the panic was caught at its border.
    Panic,
    /// The store could not be reached or dropped the exchange.
    Transient,
    /// The deadline passed.
    Timeout,
    /// The store asked for fewer requests.
    Throttled,
    /// Credentials were refused or missing.
    Auth,
    /// The configuration cannot work.
    Config,
    /// Key or value beyond what the store takes.
    TooLarge,
    /// The store lacks this power.
    Unsupported,
    /// The store answered with bytes that cannot be right.
    Corrupt,
    /// The instance was opened in a parent process and cannot be used after `fork()`.
    Forked,
}

impl Kind {
    /// A stable name for metrics and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Panic => "panic",
            Self::Transient => "transient",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::Auth => "auth",
            Self::Config => "config",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::Forked => "forked",
        }
    }

    /// What a kind says about retrying when the backend has no better idea.
    const fn usual_retry(self) -> Retry {
        match self {
            Self::Transient | Self::Timeout => Retry::Now,
            // A throttled caller without a hint waits as long as a client library usually does.
            Self::Throttled => Retry::After(Duration::from_millis(100)),
            _ => Retry::No,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the same operation may succeed if it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It would fail the same way.
    No,
    /// It may succeed at once.
    Now,
    /// It may succeed after a pause.
    After(Duration),
}

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant is the method of the same name")]
pub enum Operation {
    Open,
    Get,
    Set,
    Delete,
    Exists,
    Health,
    Close,
    GetMany,
    SetMany,
    DeleteMany,
    Ttl,
    Touch,
    Lock,
    Unlock,
    GetVersion,
    SetIf,
    Scan,
    Read,
    Clear,
    Watch,
    GetDated,
    SetStale,
}

impl Operation {
    /// The name of the method.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Exists => "exists",
            Self::Health => "health",
            Self::Close => "close",
            Self::GetMany => "get_many",
            Self::SetMany => "set_many",
            Self::DeleteMany => "delete_many",
            Self::Ttl => "ttl",
            Self::Touch => "touch",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::GetVersion => "get_version",
            Self::SetIf => "set_if",
            Self::Scan => "scan",
            Self::Read => "read",
            Self::Clear => "clear",
            Self::Watch => "watch",
            Self::GetDated => "get_dated",
            Self::SetStale => "set_stale",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed operation. One word wide, so that the success path stays small.
///
/// ```
/// use cachekit_plugin::{BackendError, Kind, Operation, Retry};
/// let error = BackendError::new(Kind::Transient, Operation::Get, "connection reset by the server").on("redis");
/// assert_eq!(error.retry(), Retry::Now);
/// assert_eq!(error.to_string(), "get on redis failed (transient): connection reset by the server");
/// ```
pub struct BackendError(Box<Inner>);

struct Inner {
    kind: Kind,
    retry: Retry,
    operation: Operation,
    backend: Option<Cow<'static, str>>,
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl BackendError {
    /// `message` says why in words an operator can act on. It must hold no key, value or secret.
    pub fn new(kind: Kind, operation: Operation, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: kind.usual_retry(),
            operation,
            backend: None,
            message: message.into(),
            source: None,
        }))
    }

    /// The store lacks this power.
    pub fn unsupported(operation: Operation) -> Self {
        Self::new(Kind::Unsupported, operation, "this backend cannot do that")
    }

    /// The deadline passed before the operation was done.
    pub fn timeout(operation: Operation) -> Self {
        Self::new(Kind::Timeout, operation, "the deadline passed")
    }

    /// Keeps the error underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Overrides what the kind says about retrying.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Names the backend. The first name stays: it is the one closest to the store.
    #[must_use]
    pub fn on(mut self, backend: impl Into<Cow<'static, str>>) -> Self {
        self.0.backend.get_or_insert_with(|| backend.into());
        self
    }

    /// Why it failed.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// What was attempted.
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// On which backend, if it said so.
    pub fn backend(&self) -> Option<&str> {
        self.0.backend.as_deref()
    }

    /// The reason alone, without the sentence around it.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Debug for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendError")
            .field("kind", &self.0.kind)
            .field("retry", &self.0.retry)
            .field("operation", &self.0.operation)
            .field("backend", &self.0.backend)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, operation, backend, message, .. } = &*self.0;
        match backend {
            Some(backend) => write!(f, "{operation} on {backend} failed ({kind}): {message}"),
            None => write!(f, "{operation} failed ({kind}): {message}"),
        }
    }
}

impl StdError for BackendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
