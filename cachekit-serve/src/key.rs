//! From a path segment to the key of the store, so that no spelling of a key reaches another tenant's entries.
//!
//! ```text
//! cks:<tenant>:<key>                       where the store takes it
//! cks:<tenant>:#<BLAKE2b-256 in hex>       where the key is too long for the store or has bytes it does not take
//! ```
//! A tenant's name holds no `:`, so one tenant's keys are no prefix of another's. The entry holds the whole key as it was
//! given (see `entry`), so two keys with one hash would be misses, not each other's values.

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use cachekit_plugin::Limits;
use percent_encoding::percent_decode_str;

use crate::refusal::Refusal;

/// Longest key, bytes after decoding.
const MAX_KEY: usize = 400;

/// Segments that mean something else, or nothing, in a path.
const RESERVED: [&[u8]; 5] = [b".", b"..", b"health", b"ttl", b"lock"];

/// Which keys are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyRule {
    /// Those that cachekit.io takes: `A-Z a-z 0-9 _ . : -`, no `..`.
    #[default]
    CachekitIo,
    /// Any bytes.
    Any,
}

/// A key as the client named it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientKey(Vec<u8>);

impl ClientKey {
    /// Reads a segment of a path, as it stands there.
    pub(crate) fn from_segment(segment: &str, rule: KeyRule) -> Result<Self, Refusal> {
        // Three characters for each byte at most; what is longer need not be decoded to be too long.
        if segment.len() > MAX_KEY * 3 {
            return Err(Refusal::key("the key has more than 400 bytes"));
        }
        if !well_escaped(segment.as_bytes()) {
            return Err(Refusal::key("the key has a % that begins no escape"));
        }
        let key: Vec<u8> = percent_decode_str(segment).collect();
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Refusal::key("a key has 1 to 400 bytes"));
        }
        if RESERVED.contains(&&*key) {
            return Err(Refusal::key("the key is a reserved word"));
        }
        if rule == KeyRule::CachekitIo && !is_of_cachekit_io(&key) {
            return Err(Refusal::key("a key holds A-Z a-z 0-9 _ . : - and no two dots in a row"));
        }
        Ok(Self(key))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its name in the store.
    pub(crate) fn for_store(&self, prefix: &str, limits: &Limits) -> Vec<u8> {
        let plain = [prefix.as_bytes(), &self.0].concat();
        // A client's own # must not read as one of ours.
        if self.0[0] != b'#' && limits.takes_key(&plain) {
            return plain;
        }
        hashed(prefix, &self.0)
    }
}

fn is_of_cachekit_io(key: &[u8]) -> bool {
    let taken = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(byte);
    key.iter().all(taken) && !key.windows(2).any(|pair| pair == b"..")
}

fn well_escaped(segment: &[u8]) -> bool {
    let mut rest = segment;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        match &rest[at + 1..] {
            [high, low, more @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest = more,
            _ => return false,
        }
    }
    true
}

fn hashed(prefix: &str, key: &[u8]) -> Vec<u8> {
    use std::fmt::Write;
    let mut name = format!("{prefix}#");
    for byte in Blake2b::<U32>::digest(key) {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.into_bytes()
}

/// What every key of a tenant begins with.
pub(crate) fn prefix(tenant: &str) -> String {
    format!("cks:{tenant}:")
}

/// The shortest key that a store must take to serve a tenant.
pub(crate) fn needed(prefix: &str) -> Vec<u8> {
    hashed(prefix, b"")
}

#[cfg(test)]
mod tests {
    use cachekit_plugin::KeyBytes;

    use super::*;

    fn read(segment: &str, rule: KeyRule) -> Option<Vec<u8>> {
        ClientKey::from_segment(segment, rule).ok().map(|key| key.0)
    }

    #[test]
    fn segments_are_decoded_once() {
        assert_eq!(read("users%3Aget_user%3Aabc", KeyRule::CachekitIo).unwrap(), b"users:get_user:abc");
        assert_eq!(read("a%2541", KeyRule::Any).unwrap(), b"a%41");
        assert_eq!(read("%00%ff", KeyRule::Any).unwrap(), [0, 0xff]);
    }

    #[test]
    fn what_is_reserved_is_refused_however_it_is_spelt() {
        for wrong in
            ["", ".", "..", "health", "ttl", "lock", "%2e", "%2E%2e", ".%2E", "%68ealth", "tt%6c", "%6c%6F%63k"]
        {
            assert_eq!(read(wrong, KeyRule::Any), None, "{wrong}");
        }
        for right in ["Health", "ttl2", "...", "lock:", "a"] {
            assert!(read(right, KeyRule::Any).is_some(), "{right}");
        }
    }

    #[test]
    fn cachekit_io_takes_its_own_alphabet_alone() {
        for wrong in ["a%2Fb", "a%20b", "a%0d%0ab", "a..b", "%00", "z%C5%BC", "a~b", "a%", "a%4", "a%zz", "a@b"] {
            assert_eq!(read(wrong, KeyRule::CachekitIo), None, "{wrong}");
        }
        assert!(read(&"k".repeat(400), KeyRule::CachekitIo).is_some());
        assert_eq!(read(&"k".repeat(401), KeyRule::CachekitIo), None);
        assert_eq!(read(&"%6B".repeat(401), KeyRule::Any), None);
    }

    #[test]
    fn a_store_of_short_printable_keys_gets_hashes_of_the_others() {
        let limits = Limits::new(250, 1 << 20).with_key_bytes(KeyBytes::Printable);
        let name = |key: &[u8]| ClientKey(key.to_vec()).for_store(&prefix("a"), &limits);
        assert_eq!(name(b"k"), b"cks:a:k");
        for hashed in [&[b'k'; 300][..], b"with space", b"#0000"] {
            let name = name(hashed);
            assert!(name.starts_with(b"cks:a:#") && name.len() == 71 && limits.takes_key(&name));
        }
        // Somebody who names a hash gets the hash of that name.
        let of_long = name(&[b'k'; 300]);
        assert_ne!(name(&of_long[6..]), of_long);
    }
}
