//! The error of the formats: what is a mistake of the caller, what is damage, what is an attack, and what is a setting.
//!
//! The four stay apart from the first error to the last metric: an alarm that also rings for a mistyped key is switched
//! off. None carries a key, a value or a secret; what a document holds is told by the name of its type alone.

use thiserror::Error;

use crate::crypto::KeyringError;

/// What a failure of the formats means to whoever has to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// The caller gave something that has no form in the format.
    Usage,
    /// Stored bytes that are no entry of the format.
    Corrupt,
    /// Stored bytes that are not authentic: altered, moved, of another tenant, under an unknown key, or plain where
    /// encryption is on.
    Tampered,
    /// The keys themselves cannot be used.
    Configuration,
    /// The operating system refused what it should give.
    System,
}

/// A failure of reading or writing one of the family's formats.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InteropError {
    /// A namespace or an operation that cannot stand in an interop key.
    #[error("the {segment} cannot be part of an interop key: {reason}")]
    Segment {
        /// `namespace` or `operation`.
        segment: &'static str,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// An argument without a form in a key.
    #[error("{kind} cannot be part of a key: {reason}")]
    Argument {
        /// What was given, by the name of its type.
        kind: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// A value without a form that every reader of the family takes.
    #[error("{kind} cannot be stored for the other languages: {reason}")]
    Value {
        /// What was given, by the name of its type.
        kind: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// The value's own `Serialize` failed.
    #[error("the value cannot be serialized")]
    Serialize,
    /// A document that is not well formed, or not of the type asked for.
    #[error("the document cannot be read: {0}")]
    Malformed(#[from] Malformed),
    /// A ByteStorage envelope that cannot be read.
    #[error("the ByteStorage envelope cannot be read: {0}")]
    Envelope(#[from] EnvelopeFault),
    /// A CK frame that cannot be read.
    #[error("the CK frame cannot be read: {0}")]
    Frame(&'static str),
    /// The tag does not fit: altered, moved to another key, of another tenant, or sealed under a key that is not in the ring.
    #[error("the entry is not authentic")]
    Tampered,
    /// A reader with keys met an entry that claims to need none, or one that does not say whose it is.
    #[error("the entry is suspicious: {0}")]
    Suspicious(&'static str),
    /// The keys cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Larger than the limit in force.
    #[error("it is larger than the limit of {max} bytes")]
    TooLarge {
        /// The limit, bytes.
        max: u64,
    },
    /// No random bytes for a nonce.
    #[error("the operating system gave no random bytes for a nonce")]
    Random,
}

impl InteropError {
    /// What it means to whoever has to act on it.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Segment { .. } | Self::Argument { .. } | Self::Value { .. } | Self::Serialize => Class::Usage,
            Self::Malformed(_) | Self::Envelope(_) | Self::Frame(_) | Self::TooLarge { .. } => Class::Corrupt,
            Self::Tampered | Self::Suspicious(_) => Class::Tampered,
            Self::Keyring(_) => Class::Configuration,
            Self::Random => Class::System,
        }
    }
}

/// Why bytes are no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends before what it announces, or it is empty.
    #[error("it ends too early")]
    Truncated,
    /// A whole document, then more bytes.
    #[error("bytes follow the document")]
    Trailing,
    /// The byte `c1`, which MessagePack does not use.
    #[error("it holds a byte that MessagePack does not use")]
    Reserved,
    /// Text that is no UTF-8.
    #[error("it holds text that is no UTF-8")]
    Utf8,
    /// Nested deeper than the reader's limit.
    #[error("it is nested too deeply")]
    Depth,
    /// More than 2 097 152 values in its arrays and maps.
    #[error("it holds too many values")]
    Values,
    /// It begins with `CK`: an entry of Python's default mode, or a file of the File backend.
    #[error("it begins with CK: a frame of Python's default mode, which interop mode does not read")]
    FramePrefix,
    /// A map key that the reader's rules refuse.
    #[error("a map has a key that is not allowed there")]
    MapKey,
    /// A sentinel map whose value is no date or time.
    #[error("it holds a date or a time that cannot be read")]
    Date,
    /// Well formed, but not of the type asked for.
    #[error("it is not of the type asked for")]
    Type,
    /// JSON that cannot be read.
    #[error("it is no JSON")]
    Json,
}

/// Why bytes are no ByteStorage envelope. The first is a matter of structure, the rest of integrity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum EnvelopeFault {
    /// It is not built as an envelope.
    #[error("it is not built as one")]
    Structure,
    /// The envelope, its block or its payload is beyond the limit.
    #[error("it is larger than the limit")]
    TooLarge,
    /// It claims to grow more than a thousandfold.
    #[error("it claims to grow more than a thousandfold")]
    Bomb,
    /// The compressed block is damaged.
    #[error("its compressed block is damaged")]
    Block,
    /// The checksum or the length of the payload is wrong.
    #[error("its payload is damaged")]
    Checksum,
}

impl EnvelopeFault {
    /// Whether it is one of integrity and not of structure.
    #[must_use]
    pub const fn is_integrity(self) -> bool {
        !matches!(self, Self::Structure)
    }
}
