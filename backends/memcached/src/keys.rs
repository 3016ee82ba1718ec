//! From the key of the contract to the key on the wire.
//!
//! Commands are lines of text: a space, a line break or a NUL inside a key would end it and begin a command of whoever made
//! the key. So every key, prefix included, is checked here, on the only way to a command, and nothing else makes a
//! [`WireKey`]. The family's Python client lets two control characters pass (0x01, 0x7f); they are refused here.

use std::borrow::Cow;

use cachekit_plugin::Key;

use crate::error::Failure;

/// Longest key, bytes, prefix included.
pub(crate) const LONGEST: usize = 250;
/// What the key of a lease begins with. No key of the engine does (`ck:` and a namespace), and no interop key has so many
/// parts, so a lease never meets an entry.
const LEASE: &[u8] = b"ck.lock:";

/// A key that may stand in a command.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct WireKey<'a>(Cow<'a, [u8]>);

impl<'a> WireKey<'a> {
    /// The key of an entry.
    pub(crate) fn of_entry(prefix: &str, key: Key<'a>) -> Result<Self, Failure> {
        let key = key.as_bytes();
        if key.is_empty() || prefix.len() + key.len() > LONGEST || !key.iter().all(u8::is_ascii_graphic) {
            return Err(Failure::Key);
        }
        Ok(Self(if prefix.is_empty() { Cow::Borrowed(key) } else { Cow::Owned([prefix.as_bytes(), key].concat()) }))
    }

    /// The key of the lease of an entry. A long one is cut and ends in a digest of the whole: should two ever have the same,
    /// they share a lease, which excludes too much and never too little.
    pub(crate) fn of_lease(prefix: &str, key: Key<'_>) -> Result<WireKey<'static>, Failure> {
        const DIGEST: usize = 17;
        let entry = WireKey::of_entry(prefix, key)?;
        let room = LONGEST - LEASE.len() - prefix.len();
        let key = key.as_bytes();
        let mut lease = Vec::with_capacity(LONGEST);
        lease.extend_from_slice(prefix.as_bytes());
        lease.extend_from_slice(LEASE);
        if key.len() <= room {
            lease.extend_from_slice(key);
        } else {
            lease.extend_from_slice(&key[..room - DIGEST]);
            lease.extend_from_slice(format!("#{:016x}", fnv1a(entry.as_bytes())).as_bytes());
        }
        Ok(WireKey(Cow::Owned(lease)))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Equal in every program of a fleet, which the standard library's hash is not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(prefix: &str, key: &[u8]) -> Option<Vec<u8>> {
        WireKey::of_entry(prefix, Key::from_wire(key)).ok().map(|key| key.as_bytes().to_vec())
    }

    #[test]
    fn what_could_end_a_key_inside_a_command_is_refused() {
        for byte in 0..=255_u8 {
            let key = [b'k', byte, b'k'];
            assert_eq!(entry("", &key).is_some(), (b'!'..=b'~').contains(&byte), "{byte:#04x}");
        }
        assert_eq!(entry("", b""), None);
    }

    #[test]
    fn the_length_counts_the_prefix() {
        assert!(entry("", &[b'k'; 250]).is_some());
        assert!(entry("", &[b'k'; 251]).is_none());
        assert!(entry("pppppppppp", &[b'k'; 240]).is_some());
        assert!(entry("pppppppppp", &[b'k'; 241]).is_none());
        assert_eq!(entry("app:", b"k").as_deref(), Some(&b"app:k"[..]));
    }

    #[test]
    fn leases_of_long_keys_stay_apart() {
        let lease = |prefix: &str, key: &[u8]| WireKey::of_lease(prefix, Key::from_wire(key)).ok().unwrap();
        for (prefix, length) in [("", 250), ("p:", 248), ("", 243), ("", 242), ("", 1)] {
            let (mut one, mut other) = (vec![b'k'; length], vec![b'k'; length]);
            one[length - 1] = b'1';
            other[length - 1] = b'2';
            let (one, other) = (lease(prefix, &one), lease(prefix, &other));
            assert!(one != other && one.as_bytes().len() <= LONGEST, "{prefix} {length}");
            assert!(one.as_bytes().iter().all(u8::is_ascii_graphic));
            assert!(one.as_bytes().starts_with(format!("{prefix}ck.lock:").as_bytes()));
        }
        let long = "p".repeat(128);
        assert_eq!(lease(&long, &[b'k'; 122]).as_bytes().len(), LONGEST);
    }
}
