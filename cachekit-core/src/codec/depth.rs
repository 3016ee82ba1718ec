//! How deep serialized bytes nest, found without recursion and before any deserializer runs.
//!
//! An exact walk costs about 2 ns for each number, string or container, a tenth of what decoding them does. Small payloads
//! and texts are mostly spared even that: if no more than [`MAX_DEPTH`] bytes could open a small container, and none could
//! open a large one, the nesting is within the limit whatever the bytes mean. Counting such bytes is one vectorized pass.

use super::refusal::DecodeFault;
use super::serialize::MAX_DEPTH;

/// Refuses MessagePack that nests deeper than [`MAX_DEPTH`], or whose containers announce more than they hold.
pub(super) fn check_messagepack(bytes: &[u8]) -> Result<(), DecodeFault> {
    // What is no container nests nothing: of a long text the walk looks at one byte.
    let is_container = bytes.first().is_some_and(|marker| opens_small(*marker) || opens_large(*marker));
    if is_container && is_plainly_shallow(bytes) { Ok(()) } else { walk_messagepack(bytes) }
}

/// 0x80..=0x9f.
const fn opens_small(byte: u8) -> bool {
    byte & 0xe0 == 0x80
}

/// 0xdc..=0xdf, with a count of 16 or 32 bits.
const fn opens_large(byte: u8) -> bool {
    byte & 0xfc == 0xdc
}

/// Whether the bytes nest within the limit however they are read. A large container, of a count that need not be true, is
/// always walked; the count of a small one is at most 15.
fn is_plainly_shallow(bytes: &[u8]) -> bool {
    let mut opens = 0;
    bytes.chunks(CHUNK).all(|chunk| {
        opens += count(chunk, opens_small);
        opens <= MAX_DEPTH && count(chunk, opens_large) == 0
    })
}

/// At most 255 bytes are counted in a byte; these fill whole vector registers, with no rest to be counted one by one.
const CHUNK: usize = 192;

fn count(chunk: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    chunk.iter().fold(0u8, |count, byte| count.wrapping_add(u8::from(wanted(*byte)))).into()
}

/// One value and all it nests, exactly. Bytes after the value are left to the caller.
fn walk_messagepack(bytes: &[u8]) -> Result<(), DecodeFault> {
    // Elements still to come: in the innermost open container, and in those around it.
    let mut left = 1u64;
    let mut around = [0u64; MAX_DEPTH];
    let mut depth = 0;
    let mut rest = bytes;
    loop {
        while left == 0 {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            left = around[depth];
        }
        left -= 1;
        let (&marker, after) = rest.split_first().ok_or(DecodeFault::Shape)?;
        rest = after;
        let elements = match marker {
            // Small integers, nil, booleans: nothing behind the marker.
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => continue,
            0x80..=0x8f => u64::from(marker & 0x0f) * 2,
            0x90..=0x9f => u64::from(marker & 0x0f),
            0xdc => number::<2>(&mut rest)?,
            0xdd => number::<4>(&mut rest)?,
            0xde => number::<2>(&mut rest)? * 2,
            0xdf => number::<4>(&mut rest)? * 2,
            0xc1 => return Err(DecodeFault::Shape),
            0xa0..=0xbf | 0xc4..=0xdb => {
                let skip = match marker {
                    0xa0..=0xbf => u64::from(marker & 0x1f),
                    0xc4 | 0xd9 => number::<1>(&mut rest)?,
                    0xc5 | 0xda => number::<2>(&mut rest)?,
                    0xc6 | 0xdb => number::<4>(&mut rest)?,
                    // An extension's type byte is not in its length.
                    0xc7 => number::<1>(&mut rest)? + 1,
                    0xc8 => number::<2>(&mut rest)? + 1,
                    0xc9 => number::<4>(&mut rest)? + 1,
                    0xd4..=0xd8 => (1 << (marker - 0xd4)) + 1,
                    0xcc | 0xd0 => 1,
                    0xcd | 0xd1 => 2,
                    0xca | 0xce | 0xd2 => 4,
                    _ => 8,
                };
                let skip = usize::try_from(skip).map_err(|_| DecodeFault::Shape)?;
                rest = rest.get(skip..).ok_or(DecodeFault::Shape)?;
                continue;
            }
        };
        *around.get_mut(depth).ok_or(DecodeFault::Depth)? = left;
        depth += 1;
        left = elements;
    }
}

/// A big-endian number of `N` bytes.
fn number<const N: usize>(rest: &mut &[u8]) -> Result<u64, DecodeFault> {
    let (bytes, after) = rest.split_first_chunk::<N>().ok_or(DecodeFault::Shape)?;
    *rest = after;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Whether JSON text nests at most [`MAX_DEPTH`] deep: asked only to tell why a parser refused it. Text that is no JSON gets
/// some answer.
pub(super) fn json_is_within(bytes: &[u8]) -> bool {
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_limit_itself_is_within_and_one_more_is_not() {
        for (open, close) in [(0x91u8, 0xc0u8), (0x81, 0xc0)] {
            let nested = |levels: usize| {
                let mut bytes = Vec::new();
                for _ in 0..levels {
                    bytes.push(open);
                    if open == 0x81 {
                        bytes.push(0xc0);
                    }
                }
                bytes.push(close);
                bytes
            };
            assert_eq!(check_messagepack(&nested(MAX_DEPTH)), Ok(()));
            assert_eq!(check_messagepack(&nested(MAX_DEPTH + 1)), Err(DecodeFault::Depth));
        }
        let json = |levels| "[".repeat(levels) + &"]".repeat(levels);
        assert!(json_is_within(json(MAX_DEPTH).as_bytes()));
        assert!(!json_is_within(json(MAX_DEPTH + 1).as_bytes()));
        assert!(json_is_within(format!("\"\\\"{}\"", "[".repeat(1000)).as_bytes()));
    }

    #[test]
    fn many_shallow_containers_pass_the_exact_walk() {
        let value = vec![vec![1u8]; 1000];
        let bytes = rmp_serde::to_vec(&value).unwrap();
        assert!(!is_plainly_shallow(&bytes));
        assert_eq!(walk_messagepack(&bytes), Ok(()));
    }

    #[test]
    fn counts_larger_than_the_bytes_are_refused() {
        for lie in [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xdf, 0xff, 0xff, 0xff, 0xff], &[0xdc, 0, 2, 0xc0]] {
            assert_eq!(check_messagepack(lie), Err(DecodeFault::Shape), "{lie:02x?}");
        }
        // Every level claims the rest: the sum counts, not each claim.
        let mut nested = Vec::new();
        for _ in 0..20 {
            nested.extend_from_slice(&[0xdc, 0, 50]);
        }
        nested.resize(110, 0xc0);
        assert_eq!(check_messagepack(&nested), Err(DecodeFault::Shape));
    }

    proptest! {
        #[test]
        fn what_the_quick_look_lets_pass_the_exact_walk_never_calls_deep(
            bytes in proptest::collection::vec(any::<u8>(), 0..600)
        ) {
            if is_plainly_shallow(&bytes) {
                prop_assert_ne!(walk_messagepack(&bytes), Err(DecodeFault::Depth));
            }
        }

        #[test]
        fn the_walk_agrees_with_a_deserializer_on_where_values_end(
            bytes in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            use serde::Deserialize;
            let mut reader = rmp_serde::Deserializer::new(std::io::Cursor::new(&bytes));
            let skipped = serde::de::IgnoredAny::deserialize(&mut reader).is_ok();
            prop_assert_eq!(walk_messagepack(&bytes).is_ok(), skipped);
        }
    }
}
