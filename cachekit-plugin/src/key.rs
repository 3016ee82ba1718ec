//! A wire key: the bytes under which a store keeps an entry.
//!
//! The engine alone makes these, after validating what its caller gave; a backend may rely on the limits it declared
//! and on a key never being empty.

use std::fmt;

/// Wire-key bytes, borrowed for one operation.
///
/// Printed as a short digest, never as the key itself: keys carry user ids and end up in logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key<'a>(&'a [u8]);

impl<'a> Key<'a> {
    /// Takes bytes that are already a wire key. For the engine, for hosts and for tests; backends only receive keys.
    pub const fn from_wire(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the store.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The bytes as text, if they are UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }

    /// Eight hex digits that let two log lines be compared without showing the key (FNV-1a, folded to 32 bits).
    pub fn digest(self) -> KeyDigest {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for &byte in self.0 {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        KeyDigest((hash >> 32) as u32 ^ hash as u32)
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.digest())
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.digest(), f)
    }
}

/// What stands for a key in logs and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(u32);

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key#{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_printed() {
        let key = Key::from_wire(b"user:alice@example.org");
        for text in [format!("{key}"), format!("{key:?}")] {
            assert!(!text.contains("alice"), "{text}");
            assert!(text.contains("key#"), "{text}");
        }
    }

    #[test]
    fn digests_tell_keys_apart() {
        assert_ne!(Key::from_wire(b"a").digest(), Key::from_wire(b"b").digest());
    }
}
