//! Why a server does not start.

use std::io;
use std::net::SocketAddr;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Nobody could use it.
    #[error("no API key: a server without one answers nobody")]
    NoKeys,
    /// Too many of them.
    #[error("{count} API keys, the limit is {max}")]
    TooManyKeys {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A tenant's name.
    #[error("tenant {0:?}: a name is 1 to 64 of the characters A-Z a-z 0-9 _ -")]
    Tenant(String),
    /// An API key; the key itself is not shown.
    #[error("an API key of {owner}: {reason}")]
    Key {
        /// Whose key it is.
        owner: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A bound that lets nothing through.
    #[error("{0}: out of range (not zero, and max_buffered at least max_value)")]
    Bound(&'static str),
    /// The store takes no keys that the server could give it.
    #[error("the store takes keys of {max_key} bytes, tenant {tenant:?} needs {needed}")]
    StoreKeys {
        /// What the store takes.
        max_key: u32,
        /// Whose name is too long for it.
        tenant: String,
        /// What is needed.
        needed: usize,
    },
    /// Neither TLS nor the word that it is not wanted.
    #[error("neither a certificate nor plain HTTP was chosen")]
    NoTransport,
    /// Certificate or key.
    #[error("the TLS {what} cannot be used: {reason}")]
    Tls {
        /// Which of them.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The address.
    #[error("{addr} cannot be listened on")]
    Bind {
        /// Where.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}
