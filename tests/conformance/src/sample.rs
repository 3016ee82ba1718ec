//! Values that say where they belong, so that a swapped, torn or cut one is seen by looking at it.

use cachekit_plugin::Bytes;

/// FNV-1a, for seeds and short names of values in reasons.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finalizer of SplitMix64: a bijection in which every input bit reaches every output bit.
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// `len` bytes without visible pattern, the same ones for the same seed: nothing compresses or aligns them away.
pub(crate) fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut state = seed;
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bytes.extend_from_slice(&mix(state).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// A value that names its key.
pub(crate) fn echo(key: &[u8]) -> Bytes {
    [b"value of ", key].concat().into()
}

/// A value that says which key it is for and which write made it, with noise that depends on both: 16 bytes and `len`.
pub(crate) fn signed(key: &[u8], write: u64, len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(16 + len);
    bytes.extend_from_slice(&fnv1a(key).to_le_bytes());
    bytes.extend_from_slice(&write.to_le_bytes());
    bytes.extend_from_slice(&noise(fnv1a(key) ^ mix(write), len));
    bytes.into()
}

/// Which write of `key` made `value`; the error says what is wrong with it.
pub(crate) fn check_signed(key: &[u8], value: &[u8]) -> Result<u64, &'static str> {
    let (Some(owner), Some(write)) = (value.first_chunk::<8>(), value.get(8..16).and_then(|w| w.first_chunk::<8>()))
    else {
        return Err("it is shorter than anything that was written");
    };
    if u64::from_le_bytes(*owner) != fnv1a(key) {
        return Err("it was written to another key");
    }
    let write = u64::from_le_bytes(*write);
    if *value != *signed(key, write, value.len() - 16) {
        return Err("it is no single write, but parts of several");
    }
    Ok(write)
}

/// A value in a reason: its length and a digest.
pub(crate) fn describe(value: Option<&[u8]>) -> String {
    match value {
        None => "nothing".into(),
        Some(value) => format!("{} bytes (#{:08x})", value.len(), fnv1a(value) as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_value_tells_what_happened_to_it() {
        let value = signed(b"a", 7, 100);
        assert_eq!(check_signed(b"a", &value), Ok(7));
        assert!(check_signed(b"b", &value).unwrap_err().contains("another key"));
        assert!(check_signed(b"a", &value[..10]).unwrap_err().contains("shorter"));
        let torn = [&value[..60], &signed(b"a", 8, 100)[60..]].concat();
        assert!(check_signed(b"a", &torn).unwrap_err().contains("parts of several"));
    }
}
