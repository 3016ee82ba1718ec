//! Why keys cannot be used: a matter of configuration, never of what a store returned. No variant carries anything of a key.

use thiserror::Error;

/// Why keys cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// A master key that is no text of hex digits.
    #[error("a master key must be hex digits, two for each byte")]
    NotHex,
    /// Fewer than 32 bytes.
    #[error("a master key has {len} bytes; at least {} are needed, 64 hex digits", super::keyring::MASTER_KEY_BYTES)]
    TooShort {
        /// What was given, bytes.
        len: usize,
    },
    /// A raw key that has not exactly 32 bytes.
    #[error("a raw master key has {len} bytes and must have exactly {}", super::keyring::MASTER_KEY_BYTES)]
    RawLength {
        /// What was given, bytes.
        len: usize,
    },
    /// More previous keys than are tried.
    #[error("{given} previous master keys were given, at most {} are taken", super::keyring::MAX_PREVIOUS_KEYS)]
    TooMany {
        /// How many were given.
        given: usize,
    },
    /// The current key stands among the previous ones.
    #[error("the current master key must not stand among the previous ones: rotation goes forward only")]
    CurrentIsPrevious,
    /// Two previous keys are one and the same.
    #[error("a previous master key is given twice: it would be tried twice, and hide that another one is missing")]
    Repeated,
    /// Previous keys without a current one.
    #[error("previous master keys were given without a current one")]
    PreviousAlone,
    /// An entry is sealed and there are no keys.
    #[error("the entry is encrypted and no master key is configured")]
    Missing,
    /// A tenant id that cannot be derived for.
    #[error("a tenant id must have 1 to {} bytes", super::derive::MAX_TENANT_BYTES)]
    Tenant,
    /// An empty cache key, to which nothing could be bound.
    #[error("an entry can only be bound to a cache key that is not empty")]
    CacheKey,
    /// As many messages under one key as random nonces allow.
    #[error("the key has sealed 2^32 messages, the most that random nonces allow; rotate it")]
    Exhausted,
}
