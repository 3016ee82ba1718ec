//! Why stored bytes are not a value, and why a value could not become stored bytes.
//!
//! A backend may return anything. Whatever is not provably the value stored under the key asked for is a [`Refusal`]: the
//! cache answers with a miss and counts the class. A refusal carries no bytes of the entry, no key and no text from a
//! deserializer (serde quotes values in its messages), so it can be logged and labelled freely.

use thiserror::Error;

/// Why an entry was refused. Copy, free of secrets; [`Refusal::class`] is the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes do not begin as a native entry does: another program's, or another format.
    #[error("the entry is not in cachekit's native format")]
    Foreign,
    /// The entry ends before the fields it announces.
    #[error("the entry is shorter than it says")]
    Truncated,
    /// Written by a format version, or with a serializer, compressor or flag, that this build does not know.
    #[error("the entry uses a format version or an option this build does not know")]
    Version,
    /// Checksum, length, reserved byte or compressed stream is wrong.
    #[error("the entry is damaged")]
    Corrupt,
    /// Intact, but stored under another key.
    #[error("the entry belongs to another key")]
    WrongKey,
    /// The value is larger than `max_value`, or claims to be larger than its compressed form can hold.
    #[error("the entry is larger than the limit")]
    TooLarge,
    /// Encrypted, and this cache holds no key or cipher for it: a matter of configuration, not an attack.
    #[error("the entry is encrypted and no matching key is configured")]
    Sealed,
    /// An encrypting cache met bytes that are not an authentic entry for this key.
    #[error("the entry is not authentic")]
    Tampered,
    /// An encrypting cache met a whole entry that is not encrypted: planted, or of a time before encryption was on.
    #[error("the entry is not encrypted and this cache accepts nothing else")]
    Plaintext,
    /// Compressed with a dictionary that is not loaded.
    #[error("the entry needs a compression dictionary that is not loaded")]
    Dictionary,
    /// The payload is intact but is no value of the type asked for.
    #[error("the value cannot be decoded: {0}")]
    Decode(DecodeFault),
    /// Past its expiry.
    #[error("the entry has expired")]
    Expired,
    /// Created later than now, beyond the clock skew allowed.
    #[error("the entry was created in the future")]
    FromTheFuture,
}

/// What kept an intact payload from becoming a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum DecodeFault {
    /// The payload is not of the type asked for, or is not well formed.
    #[error("not of the type asked for")]
    Shape,
    /// Nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("nested too deeply")]
    Depth,
    /// A whole value, then more bytes.
    #[error("bytes after the value")]
    Trailing,
    /// Raw bytes were asked for and a serialized value is stored, or the reverse.
    #[error("stored with another serializer")]
    Serializer,
}

impl Refusal {
    /// Every class there is, so that a metrics registry can start all counters at 0.
    pub const CLASSES: [&'static str; 13] = [
        "foreign",
        "truncated",
        "version",
        "corrupt",
        "wrong_key",
        "too_large",
        "sealed",
        "tampered",
        "plaintext",
        "dictionary",
        "decode",
        "expired",
        "from_the_future",
    ];

    /// Whether an encrypting cache that fails closed tells it as an error: what somebody planted or altered, and what none
    /// of the keys that are there has sealed. The last may be a mistake of configuration; whoever chooses how an entry
    /// fails must not find a class that is a mere miss.
    #[must_use]
    pub const fn is_alarm(self) -> bool {
        matches!(self, Self::Tampered | Self::Plaintext | Self::Sealed)
    }

    /// The metric label: one of [`Refusal::CLASSES`].
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Truncated => "truncated",
            Self::Version => "version",
            Self::Corrupt => "corrupt",
            Self::WrongKey => "wrong_key",
            Self::TooLarge => "too_large",
            Self::Sealed => "sealed",
            Self::Tampered => "tampered",
            Self::Plaintext => "plaintext",
            Self::Dictionary => "dictionary",
            Self::Decode(_) => "decode",
            Self::Expired => "expired",
            Self::FromTheFuture => "from_the_future",
        }
    }
}

/// Why a value did not become an entry. Nothing was written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value's `Serialize` failed while writing MessagePack.
    #[error("the value cannot be serialized to MessagePack")]
    MessagePack(#[source] rmp_serde::encode::Error),
    /// The value's `Serialize` failed while writing JSON.
    #[error("the value cannot be serialized to JSON")]
    Json(#[source] serde_json::Error),
    /// A typed value was given to a codec set to raw bytes; `encode_bytes` is the way in.
    #[error("the serializer is `raw`, which takes bytes and no typed values")]
    NotBytes,
    /// The serialized value is larger than the limit.
    #[error("the serialized value is larger than the limit of {max} bytes")]
    TooLarge {
        /// The limit, in bytes.
        max: u64,
    },
    /// The wire key is empty or longer than 2³²−1 bytes.
    #[error("a wire key of {len} bytes cannot be stored")]
    Key {
        /// Its length, in bytes.
        len: usize,
    },
    /// More than 65 535 tags, or a tag name longer than 65 535 bytes.
    #[error("{count} tags, the longest of {longest} bytes, cannot be stored; the limit of each is 65535")]
    Tags {
        /// How many tags were given.
        count: usize,
        /// The longest name, in bytes.
        longest: usize,
    },
    /// The times are not in the order created ≤ stale-until ≤ expires.
    #[error("the entry's times are not in the order created, stale-until, expires")]
    Times,
    /// The sealer could not encrypt.
    #[error("the value cannot be encrypted")]
    Seal(#[from] super::seal::SealError),
}

/// Why an entry could not be given new times.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RetimeError {
    /// The stored entry is not acceptable, so it gets no new life.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The new times cannot be stored.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
