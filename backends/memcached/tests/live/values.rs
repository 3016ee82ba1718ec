//! Values that say where they belong, so that a swapped, torn or cut one is seen by looking at it.

use cachekit_plugin::Bytes;

/// A value of `len` bytes and more that names its key and the write that made it.
pub(crate) fn signed(key: &str, write: u64, len: usize) -> Bytes {
    let head = format!("{key}|{write}|");
    let mut bytes = head.clone().into_bytes();
    let mut state = fnv1a(head.as_bytes());
    while bytes.len() < head.len() + len {
        state = (state ^ (state >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(write);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(head.len() + len);
    let check = fnv1a(&bytes);
    bytes.extend_from_slice(&check.to_le_bytes());
    bytes.into()
}

/// Which write of `key` made `value`. `Err(true)`: it was whole and another key's, `Err(false)`: its bytes are damaged.
pub(crate) fn check(key: &str, value: &[u8]) -> Result<u64, bool> {
    let Some((content, check)) = value.split_last_chunk::<8>() else { return Err(false) };
    if u64::from_le_bytes(*check) != fnv1a(content) {
        return Err(false);
    }
    let mut parts = content.splitn(3, |byte| *byte == b'|');
    let (owner, write) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let write = std::str::from_utf8(write).ok().and_then(|write| write.parse().ok()).ok_or(false)?;
    if owner == key.as_bytes() { Ok(write) } else { Err(true) }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A sequence of numbers that look random and are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

#[test]
fn a_swapped_or_damaged_value_is_seen() {
    let value = signed("a", 7, 100);
    assert_eq!((check("a", &value), check("b", &value)), (Ok(7), Err(true)));
    let mut damaged = value.to_vec();
    damaged[20] ^= 1;
    assert_eq!((check("a", &damaged), check("a", &value[..50]), check("a", b"")), (Err(false), Err(false), Err(false)));
}
