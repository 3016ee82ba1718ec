//! From a wire key to one segment of the URL's path, and to nothing else of it.
//!
//! Everything but letters, digits and `-._~` becomes `%XX`, the slash and the colon included, so that no key reaches
//! another key's path. The names that the protocol gives a meaning of their own are refused: a key `health` would ask for
//! the service's state, and `..` would leave the cache altogether.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::alphabet;
use crate::error::ServiceError;

/// Longest key, characters. Stated in the comments of the family's Python client; the service itself was not asked.
pub(crate) const MAX_KEY_BYTES: u32 = 400;

/// What becomes `%XX`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Segments with a meaning of their own, case-sensitive.
const RESERVED: [&str; 6] = ["", ".", "..", "health", "ttl", "lock"];

/// The segment of `key`.
pub(crate) fn segment(key: &[u8]) -> Result<String, ServiceError> {
    let key = &*alphabet::for_service(key);
    if key.len() > MAX_KEY_BYTES as usize {
        return Err(ServiceError::KeyTooLong { len: key.len() });
    }
    let segment = percent_encode(key, ESCAPED).to_string();
    match RESERVED.into_iter().find(|reserved| *reserved == segment) {
        Some(reserved) => Err(ServiceError::ReservedKey(reserved)),
        None => Ok(segment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_segment_of_its_own_and_stays_within_it() {
        let mut seen = std::collections::BTreeSet::new();
        for byte in 0..=255_u8 {
            let segment = segment(&[b'k', byte]).unwrap();
            assert!(segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{segment}");
            assert!(seen.insert(segment), "byte {byte} shares its segment with another");
        }
    }

    #[test]
    fn a_key_that_looks_escaped_is_escaped_again() {
        assert_eq!(segment(b"%2e%2e").unwrap(), "%252e%252e");
    }

    #[test]
    fn the_longest_key_is_taken_and_the_next_is_not() {
        assert!(segment(&[b'k'; 400]).is_ok());
        assert!(matches!(segment(&[b'k'; 401]), Err(ServiceError::KeyTooLong { len: 401 })));
    }
}
