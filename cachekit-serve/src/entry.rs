//! An entry as the server stores it: the value behind a head that says whose it is and how long it is fresh.
//!
//! ```text
//!  0  4  C1 'C' 'K' 'H'        C1 begins no MessagePack, so other readers of the store refuse it
//!  4  1  version, 1
//!  5  1  0
//!  6  2  length of the key     little-endian, like all numbers here
//!  8  8  fresh until           Unix time in milliseconds; 0: for ever
//! 16  8  gone from             the same, after the stale window; 0: never
//! 24  8  XXH3-64 of everything else
//! 32  n  key                   the tenant's prefix and the whole key as the client gave it
//!  …     value
//! ```
//! Stores have one life for an entry and keep no stale window, so it has to stand somewhere. The key and the checksum make
//! a store that mixes entries up, or hands out half of one, a miss: clients of this protocol store values that carry
//! neither. The price is that a Python client on the same Redis does not read these entries; it is to come through here.

use std::hash::Hasher;

use bytes::{Bytes, BytesMut};
use twox_hash::XxHash3_64;

const MAGIC: [u8; 4] = [0xC1, b'C', b'K', b'H'];
const VERSION: u8 = 1;
const HEAD: usize = 32;

/// Until when an entry is what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Times {
    /// Unix milliseconds; `None`: for ever.
    pub(crate) fresh_until: Option<u64>,
    /// Unix milliseconds; `None`: never.
    pub(crate) gone_from: Option<u64>,
}

/// An entry that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) times: Times,
    pub(crate) value: Bytes,
}

/// Bytes before the value.
pub(crate) fn overhead(prefix: &str, key: &[u8]) -> usize {
    HEAD + prefix.len() + key.len()
}

/// A buffer that a value can be appended to without moving it later.
pub(crate) fn begin(prefix: &str, key: &[u8], room: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(overhead(prefix, key) + room);
    buffer.extend_from_slice(&[0; HEAD]);
    buffer.extend_from_slice(prefix.as_bytes());
    buffer.extend_from_slice(key);
    buffer
}

/// Fills in the head of a buffer that [`begin`] began.
pub(crate) fn seal(mut buffer: BytesMut, prefix: &str, key: &[u8], times: Times) -> Bytes {
    // Prefix and key have less than 500 bytes together.
    let key_len = (prefix.len() + key.len()) as u16;
    buffer[..4].copy_from_slice(&MAGIC);
    buffer[4] = VERSION;
    buffer[6..8].copy_from_slice(&key_len.to_le_bytes());
    buffer[8..16].copy_from_slice(&times.fresh_until.unwrap_or(0).to_le_bytes());
    buffer[16..24].copy_from_slice(&times.gone_from.unwrap_or(0).to_le_bytes());
    let sum = checksum(&buffer);
    buffer[24..32].copy_from_slice(&sum.to_le_bytes());
    buffer.freeze()
}

/// The entry, if these bytes are one and belong to this key.
pub(crate) fn open(stored: Bytes, prefix: &str, key: &[u8]) -> Option<Entry> {
    let (head, rest) = stored.split_at_checked(HEAD)?;
    let number = |at: usize| head[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let key_len = usize::from(u16::from_le_bytes(*head[6..].first_chunk()?));
    let named = rest.get(..key_len)?;
    let ours = head[..4] == MAGIC && head[4] == VERSION && head[5] == 0;
    let of_this_key = named.strip_prefix(prefix.as_bytes()) == Some(key);
    if !ours || !of_this_key || number(24)? != checksum(&stored) {
        return None;
    }
    let time = |at: usize| number(at).map(|ms| Some(ms).filter(|ms| *ms != 0));
    let times = Times { fresh_until: time(8)?, gone_from: time(16)? };
    Some(Entry { times, value: stored.slice(HEAD + key_len..) })
}

/// Over everything but itself.
fn checksum(stored: &[u8]) -> u64 {
    let mut hasher = XxHash3_64::with_seed(0);
    hasher.write(&stored[..24]);
    hasher.write(&stored[HEAD..]);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { fresh_until: Some(1_000), gone_from: Some(2_000) };

    fn sealed(value: &[u8]) -> Bytes {
        let mut buffer = begin("cks:a:", b"key", value.len());
        buffer.extend_from_slice(value);
        seal(buffer, "cks:a:", b"key", TIMES)
    }

    #[test]
    fn an_entry_comes_back_with_its_times() {
        for value in [&b""[..], b"v", &[7; 100_000]] {
            let entry = open(sealed(value), "cks:a:", b"key").unwrap();
            assert_eq!((entry.times, &*entry.value), (TIMES, value));
        }
        let forever = seal(begin("p:", b"k", 0), "p:", b"k", Times::default());
        assert_eq!(open(forever, "p:", b"k").unwrap().times, Times::default());
    }

    #[test]
    fn an_entry_of_another_key_or_tenant_is_none() {
        let stored = sealed(b"value");
        for (prefix, key) in [("cks:a:", &b"kex"[..]), ("cks:b:", b"key"), ("cks:a:", b"ke"), ("cks:a:", b"keyv")] {
            assert_eq!(open(stored.clone(), prefix, key), None);
        }
    }

    #[test]
    fn any_flipped_bit_or_missing_byte_is_none() {
        let stored = sealed(b"value");
        for at in 0..stored.len() {
            for bit in 0..8 {
                let mut bad = stored.to_vec();
                bad[at] ^= 1 << bit;
                assert_eq!(open(bad.into(), "cks:a:", b"key"), None, "byte {at} bit {bit}");
            }
            assert_eq!(open(stored.slice(..at), "cks:a:", b"key"), None, "cut at {at}");
        }
        assert_eq!(open([&*stored, b"x"].concat().into(), "cks:a:", b"key"), None);
    }
}
