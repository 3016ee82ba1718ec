//! Wire keys as L1 takes them: in two parts, hashed once.
//!
//! All keys of a namespace begin alike, with `ck:<namespace>:`. That beginning is hashed when a handle of the cache is made
//! and never again, and a lookup compares both parts where they are: nothing is put together on the way of a hit. Writing a
//! key's bytes next to its prefix only to read them back at once costs ten nanoseconds, because the processor must wait for
//! what it has just written in other portions.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use crate::key::PREFIX;

/// The hash of a wire key under the seed of one [`L1`](super::L1). Equal keys have equal hashes; the reverse is only likely.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    /// A hash of the caller's choice, to make keys collide.
    #[cfg(test)]
    pub(crate) const fn from_raw(hash: u64) -> Self {
        Self(hash)
    }

    /// Which of `stripes` the key belongs to: for whatever else is kept per key, by bits that the shards do not use.
    pub(crate) const fn stripe(self, stripes: usize) -> usize {
        (self.0 >> 20) as usize % stripes
    }

    /// The number itself, as a map key inside the engine.
    pub(crate) const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for KeyHash {
    /// Not the number: it would let a reader of logs look for keys that collide.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// Hashes the wire keys of one tier.
#[derive(Default)]
pub(super) struct KeyHasher(RandomState);

impl KeyHasher {
    #[inline]
    pub(super) fn hash(&self, wire_key: &[u8]) -> KeyHash {
        match common_prefix(wire_key) {
            0 => finish(self.0.build_hasher(), wire_key),
            at => self.scope(&wire_key[..at]).hash(&wire_key[at..]),
        }
    }

    pub(super) fn scope(&self, prefix: &[u8]) -> Scope {
        let mut hasher = self.0.build_hasher();
        hasher.write(prefix);
        Scope(hasher)
    }
}

/// Hashes the keys of one namespace, from where its prefix ends.
#[derive(Clone)]
pub struct Scope(<RandomState as BuildHasher>::Hasher);

impl Scope {
    /// The hash of the wire key that is the prefix followed by `rest`.
    #[inline]
    pub fn hash(&self, rest: &[u8]) -> KeyHash {
        finish(self.0.clone(), rest)
    }
}

#[inline]
fn finish(mut hasher: impl Hasher, bytes: &[u8]) -> KeyHash {
    hasher.write(bytes);
    KeyHash(hasher.finish())
}

/// How many bytes a wire key has in common with all others of its namespace; 0 for keys that are of none. A wire key tells
/// by itself, because a namespace holds no colon.
#[inline]
fn common_prefix(wire_key: &[u8]) -> usize {
    let Some(named) = wire_key.strip_prefix(PREFIX) else { return 0 };
    match named.iter().position(|byte| *byte == b':') {
        Some(at) => PREFIX.len() + at + 1,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Namespace, WireKeyRef};

    #[test]
    fn a_key_has_one_hash_however_it_is_handed_in() {
        let hasher = KeyHasher::default();
        for name in ["n", "default", "a.b-c"] {
            let namespace = Namespace::new(name).unwrap();
            for key in [&b"k"[..], b":", b"a:b", b"#", &[0; 300]] {
                let wire = namespace.wire(key).unwrap();
                assert_eq!(common_prefix(wire.as_bytes()), namespace.prefix().len());
                assert_eq!(hasher.scope(namespace.prefix()).hash(key), hasher.hash(wire.as_bytes()));
                assert!(WireKeyRef::new(namespace.prefix(), key).is(wire.as_bytes()));
                assert!(WireKeyRef::from(wire.as_bytes()).is(wire.as_bytes()));
            }
        }
    }

    #[test]
    fn a_key_of_no_namespace_has_no_prefix() {
        for free in [&b""[..], b"ck:", b"ck:n", b"interop:key", b"CK:n:k"] {
            assert_eq!(common_prefix(free), 0);
        }
    }
}
