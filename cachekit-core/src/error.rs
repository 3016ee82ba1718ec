//! The one error of the engine.

use std::sync::Arc;

use cachekit_plugin::BackendError;

use crate::codec::{DictionaryError, EncodeError, Refusal};
use crate::crypto::KeyringError;
use crate::interop::InteropError;
use crate::invalidate::tags::TagError;
use crate::key::KeyError;

/// What an operation of a cache can fail with.
///
/// An outage is none of these unless the cache is strict: it makes misses, which are counted. What *cannot* be hidden is
/// always an error: a key that cannot be used, a value that cannot be stored, a deletion that did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key or the namespace cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A tag cannot be used, or there are too many.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// A life of zero.
    #[error("a time to live of zero keeps nothing; leave it out for no expiry, or delete the key")]
    ZeroTtl,
    /// Fill locks out of their range.
    #[error("the fill locks cannot work: {0}")]
    FillLocks(&'static str),
    /// A chain of tiers that cannot work.
    #[error("the chain of tiers cannot work: {0}")]
    Tiers(&'static str),
    /// A compression dictionary that cannot be used.
    #[error(transparent)]
    Dictionary(#[from] DictionaryError),
    /// A deadline of zero, which no store meets.
    #[error("a deadline of zero gives no store time to answer; leave the second tier out instead")]
    ZeroDeadline,
    /// A guard that could not work: a breaker that never closes, a bulkhead without a place.
    #[error("the {guard} cannot work: {reason}")]
    Guard {
        /// Which one.
        guard: &'static str,
        /// What of it, and what it must be.
        reason: &'static str,
    },
    /// The value cannot be turned into an entry.
    #[error("the value cannot be stored")]
    Encode(#[from] EncodeError),
    /// The entry is larger than the store takes.
    #[error("the entry has {size} bytes, the store takes {max}")]
    TooLarge {
        /// Of the entry, bytes.
        size: u64,
        /// What the store takes, bytes.
        max: u64,
    },
    /// The store failed.
    #[error("the store failed")]
    Backend(#[from] BackendError),
    /// The store returned something that is not the entry of this key: from strict caches, and from caches that encrypt and
    /// fail closed, if it is not authentic, not encrypted, or sealed under a key that is not there ([`Refusal::is_alarm`]).
    #[error("the stored entry was refused")]
    Refused(#[from] Refusal),
    /// A key, a value or a keyring that the family's formats have no room for.
    #[error(transparent)]
    Interop(#[from] InteropError),
    /// Keys that cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The store lacks a power that the operation needs.
    #[error("{operation} needs a store that {needs}")]
    Unsupported {
        /// What was asked.
        operation: &'static str,
        /// What it would take.
        needs: &'static str,
    },
    /// A setting of freshness that cannot work.
    #[error("{setting} takes {accepts}")]
    Freshness {
        /// Which.
        setting: &'static str,
        /// What it takes.
        accepts: &'static str,
    },
    /// The loader took longer than its hard timeout.
    #[error("the loader took longer than {0:?}")]
    LoadTimeout(std::time::Duration),
    /// The loader of a batch gave more or fewer answers than it got keys, so nobody knows whose they are.
    #[error("the loader gave {got} answers to {asked} keys")]
    BatchAnswers {
        /// Keys that it got.
        asked: usize,
        /// Answers that it gave.
        got: usize,
    },
    /// Not everything that was to be written behind is in the store.
    #[error("of the writes behind {waiting} still wait and {lost} were given up")]
    WritesBehind {
        /// Values that still wait.
        waiting: u64,
        /// Values that were given up while this was waited for.
        lost: u64,
    },
    /// A write-behind that could not work.
    #[error("write_behind cannot work: {0}")]
    WriteBehind(&'static str),
    /// The cache was closed.
    #[error("the cache is closed")]
    Closed,
    /// The cache broke a promise of its own: a mistake in this library, please report it. Nothing is wrong with the store or the
    /// loader, and the cache goes on.
    #[error("the cache made a mistake: {0}")]
    Internal(&'static str),
}

impl Error {
    /// Whether an entry was refused, and no store out of reach. Where outages are misses, only those that must not be passed
    /// over in silence come as far as this.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// The same once more, for who asked twice. Errors of other crates come along as their text.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Key(error) => error.clone().into(),
            Self::Tag(error) => error.clone().into(),
            Self::ZeroTtl => Self::ZeroTtl,
            Self::FillLocks(reason) => Self::FillLocks(reason),
            Self::Tiers(reason) => Self::Tiers(reason),
            Self::Dictionary(error) => error.clone().into(),
            Self::ZeroDeadline => Self::ZeroDeadline,
            Self::Guard { guard, reason } => Self::Guard { guard, reason },
            Self::Encode(error) => Self::Encode(match error {
                EncodeError::MessagePack(error) => EncodeError::MessagePack(serde::ser::Error::custom(error)),
                EncodeError::Json(error) => EncodeError::Json(serde::ser::Error::custom(error)),
                EncodeError::NotBytes => EncodeError::NotBytes,
                EncodeError::TooLarge { max } => EncodeError::TooLarge { max: *max },
                EncodeError::Key { len } => EncodeError::Key { len: *len },
                EncodeError::Tags { count, longest } => EncodeError::Tags { count: *count, longest: *longest },
                EncodeError::Times => EncodeError::Times,
                EncodeError::Seal(error) => EncodeError::Seal(*error),
            }),
            Self::TooLarge { size, max } => Self::TooLarge { size: *size, max: *max },
            Self::Backend(error) => {
                let text = error.message().to_owned();
                BackendError::new(error.kind(), error.operation(), text).with_retry(error.retry()).into()
            }
            Self::Refused(refusal) => (*refusal).into(),
            Self::Interop(error) => error.clone().into(),
            Self::Keyring(error) => (*error).into(),
            Self::Unsupported { operation, needs } => Self::Unsupported { operation, needs },
            Self::Freshness { setting, accepts } => Self::Freshness { setting, accepts },
            Self::LoadTimeout(after) => Self::LoadTimeout(*after),
            Self::BatchAnswers { asked, got } => Self::BatchAnswers { asked: *asked, got: *got },
            Self::WritesBehind { waiting, lost } => Self::WritesBehind { waiting: *waiting, lost: *lost },
            Self::WriteBehind(reason) => Self::WriteBehind(reason),
            Self::Closed => Self::Closed,
            Self::Internal(what) => Self::Internal(what),
        }
    }
}

/// What `try_get_or_load` can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError<E: std::fmt::Debug + std::fmt::Display> {
    /// The loader failed. Shared, because every caller that waited for this load gets it.
    #[error("the loader failed: {0}")]
    Loader(Arc<E>),
    /// The loader took longer than its hard timeout, and was dropped.
    #[error("the loader took longer than {0:?}")]
    Timeout(std::time::Duration),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_two_asked_for_is_the_same_to_both() {
        let custom: serde_json::Error = serde::ser::Error::custom("no such field");
        let store = BackendError::new(cachekit_plugin::Kind::Timeout, cachekit_plugin::Operation::Get, "it is slow");
        for error in [
            Error::Key(KeyError::Empty),
            Error::Tag(TagError::TooMany { count: 33 }),
            Error::ZeroTtl,
            Error::Encode(EncodeError::MessagePack(serde::ser::Error::custom("no such field"))),
            Error::Encode(EncodeError::Json(custom)),
            Error::Encode(EncodeError::TooLarge { max: 7 }),
            Error::TooLarge { size: 8, max: 7 },
            Error::Backend(store),
            Error::Refused(Refusal::Corrupt),
            Error::Freshness { setting: "stale", accepts: "a life that ends" },
            Error::BatchAnswers { asked: 2, got: 1 },
            Error::Closed,
            Error::Internal("it was not there"),
        ] {
            let again = error.again();
            assert_eq!(format!("{again:?}"), format!("{error:?}"));
            assert_eq!(again.to_string(), error.to_string());
        }
    }
}
