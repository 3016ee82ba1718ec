//! Values that say whose they are, which write made them and whether they are whole.
//!
//! `magic 4 | key 8 | write 8 | length 4 | pattern | sum 8`: a reader needs nothing else to know what it holds.

use crate::random::Random;

const MAGIC: &[u8; 4] = b"ckch";
const HEAD: usize = 4 + 8 + 8 + 4;
const TAIL: usize = 8;

/// What a value says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The key it was made for.
    pub key: u64,
    /// The write that made it.
    pub write: u64,
}

/// The value of one write: `size` bytes of a pattern that belongs to that write alone.
pub fn make(claim: Claim, size: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD + size + TAIL);
    value.extend_from_slice(MAGIC);
    value.extend_from_slice(&claim.key.to_le_bytes());
    value.extend_from_slice(&claim.write.to_le_bytes());
    value.extend_from_slice(&(size as u32).to_le_bytes());
    let mut pattern = Random::new(claim.key, claim.write);
    while value.len() < HEAD + size {
        let left = HEAD + size - value.len();
        value.extend_from_slice(&pattern.draw().to_le_bytes()[..left.min(8)]);
    }
    let sum = sum(&value);
    value.extend_from_slice(&sum.to_le_bytes());
    value
}

/// What a value says, if it is whole.
pub fn read(value: &[u8]) -> Option<Claim> {
    let (body, tail) = value.split_last_chunk::<TAIL>()?;
    let number = |from: usize| body.get(from..from + 8)?.try_into().ok().map(u64::from_le_bytes);
    let size = u32::from_le_bytes(body.get(20..HEAD)?.try_into().ok()?) as usize;
    let whole = body.starts_with(MAGIC) && body.len() == HEAD + size && *tail == sum(body).to_le_bytes();
    whole.then_some(Claim { key: number(4)?, write: number(12)? })
}

/// FNV-1a over eight bytes at a time.
fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_byte_any_missing_byte_and_any_added_byte_is_seen() {
        let claim = Claim { key: 7, write: 9 };
        let value = make(claim, 100);
        assert_eq!(read(&value), Some(claim));
        for place in 0..value.len() {
            let mut torn = value.clone();
            torn[place] ^= 0x10;
            assert_eq!(read(&torn), None, "byte {place}");
            assert_eq!(read(&value[..place]), None, "length {place}");
        }
        assert_eq!(read(&[&*value, b"x"].concat()), None);
        assert_eq!(read(&[&*value, &*value].concat()), None);
        assert_eq!(read(&make(claim, 0)), Some(claim));
    }
}
