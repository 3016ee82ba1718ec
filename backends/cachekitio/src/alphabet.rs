//! This project's own keys in the letters that the service takes.
//!
//! The service takes keys of `A-Z a-z 0-9 _ . : -` without two dots in a row and refuses all others. Keys of other writers
//! go as they are, because an entry is shared only under one and the same name. Keys that begin with `ck:` are nobody's but
//! ours (the family refuses that namespace), and they may hold anything, the `#` of a shortened key above all. In those
//! every byte beside `A-Z a-z 0-9 _ : -` becomes a dot and two hex digits; what is too long then becomes its hash.
//!
//! ```text
//! ck:app:user@example.org     ck:app:user.40example.2Eorg
//! ck:app:#89ab…               ck:app:.2389ab…
//! ck:app:<too long>           ck:.-<BLAKE2b-256 of the whole key, 64 hex digits>
//! ```
//! A dot is followed by two hex digits or, in a hash, by a hyphen: so no two keys become one.

use std::borrow::Cow;
use std::fmt::Write as _;

use blake2::{Blake2b, Digest, digest::consts::U32};

use crate::path::MAX_KEY_BYTES;

const OURS: &[u8] = b"ck:";

/// `key` as the service gets it.
pub(crate) fn for_service(key: &[u8]) -> Cow<'_, [u8]> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_:-".contains(byte);
    if !key.starts_with(OURS) || (key.iter().all(plain) && key.len() <= MAX_KEY_BYTES as usize) {
        return Cow::Borrowed(key);
    }
    let mut name = String::with_capacity(key.len() + 16);
    for byte in key {
        if plain(byte) {
            name.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, ".{byte:02X}");
        }
        if name.len() > MAX_KEY_BYTES as usize {
            return Cow::Owned(hashed(key));
        }
    }
    Cow::Owned(name.into_bytes())
}

fn hashed(key: &[u8]) -> Vec<u8> {
    let mut name = String::from("ck:.-");
    for byte in Blake2b::<U32>::digest(key) {
        let _ = write!(name, "{byte:02x}");
    }
    name.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &[u8]) -> String {
        String::from_utf8(for_service(key).into_owned()).unwrap()
    }

    #[test]
    fn keys_of_other_writers_go_as_they_are() {
        for key in ["users:get_user:abc", "a b", "ck", "Ck:x y", "ns:a..b", "t:default:x.y"] {
            assert_eq!(name(key.as_bytes()), key);
        }
    }

    #[test]
    fn our_own_keys_hold_only_what_the_service_takes() {
        assert_eq!(name(b"ck:app:plain_key-1"), "ck:app:plain_key-1");
        assert_eq!(name(b"ck:app:user@example.org"), "ck:app:user.40example.2Eorg");
        assert_eq!(name(b"ck:app:#89ab"), "ck:app:.2389ab");
        let every: Vec<u8> = b"ck:".iter().copied().chain(0..=255).collect();
        for key in [&every[..100], &every[..], b"ck:a..b", b"ck:..", &[b"ck:".as_slice(), &[b'x'; 4000]].concat()] {
            let name = name(key);
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte)), "{name}");
            assert!(!name.contains("..") && name.len() <= 400, "{name}");
        }
    }

    #[test]
    fn no_two_keys_become_one() {
        let long = [b"ck:".as_slice(), &[b'@'; 200]].concat();
        let longer = [b"ck:".as_slice(), &[b'@'; 201]].concat();
        let hash_of_long = for_service(&long).into_owned();
        let keys: [&[u8]; 10] = [
            b"ck:a b",
            b"ck:a.20b",
            b"ck:a.2E20b",
            b"ck:a%20b",
            b"ck:a.b",
            b"ck:a-b",
            b"ck:.-",
            &long,
            &longer,
            &hash_of_long,
        ];
        let names: std::collections::BTreeSet<_> = keys.iter().map(|key| name(key)).collect();
        assert_eq!(names.len(), keys.len(), "{names:?}");
    }
}
