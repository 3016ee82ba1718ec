//! Values that say which key they belong to and whether they are whole.

/// The name of the n-th key.
pub fn key(n: u64) -> String {
    format!("key-{n}")
}

/// A value of `size` bytes beyond its frame, for a key.
pub fn value(key: u64, size: usize, salt: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(size + 32);
    value.extend(key.to_le_bytes());
    value.extend((size as u64).to_le_bytes());
    value.extend((0..size as u64).map(|i| (i.wrapping_mul(salt | 1) >> 7) as u8));
    value.extend(sum(&value).to_le_bytes());
    value
}

/// Whether a value is one that was made for this key, whole.
pub fn is_right(key: u64, value: &[u8]) -> bool {
    let Some((body, tail)) = value.split_last_chunk::<8>() else { return false };
    body.len() >= 16
        && body[..8] == key.to_le_bytes()
        && body[8..16] == (body.len() as u64 - 16).to_le_bytes()
        && *tail == sum(body).to_le_bytes()
}

/// FNV-1a.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_and_swapped_values_are_wrong() {
        let right = value(7, 100, 3);
        assert!(is_right(7, &right) && !is_right(8, &right));
        assert!(!is_right(7, &right[..right.len() - 1]) && !is_right(7, &[]));
        let mut torn = right.clone();
        torn[50] ^= 1;
        assert!(!is_right(7, &torn));
    }
}
