//! What the service says of the age of a value, read so that doubt never makes a value younger.
//!
//! `X-CacheKit-Freshness` is absent or exactly `fresh`: fresh; anything else: stale. `X-CacheKit-Fresh-For` is 1 to 7 digits
//! of seconds up to 30 days; anything else: 0, which keeps the value out of other tiers; absent: unknown. Where a header
//! stands twice, one careless copy is enough.

use http::{HeaderMap, HeaderValue};

use crate::headers::{FRESH_FOR, FRESHNESS, MAX_TTL_SECS};

/// Whether the value is past its life.
pub(crate) fn is_stale(headers: &HeaderMap) -> bool {
    headers.get_all(FRESHNESS).iter().any(|value| value.as_bytes() != b"fresh")
}

/// Milliseconds for which the value may be kept elsewhere; `None` if the service did not say.
pub(crate) fn fresh_for_ms(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(FRESH_FOR).iter();
    let first = values.next()?;
    Some(if values.next().is_some() { 0 } else { seconds(first) * 1000 })
}

fn seconds(value: &HeaderValue) -> u64 {
    let digits = value.as_bytes();
    if !(1..=7).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let seconds = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    if seconds > MAX_TTL_SECS { 0 } else { seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: http::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn a_repeated_freshness_is_fresh_only_if_every_copy_says_so() {
        assert!(!is_stale(&HeaderMap::new()));
        assert!(!is_stale(&with(FRESHNESS, &["fresh", "fresh"])));
        assert!(is_stale(&with(FRESHNESS, &["fresh", "stale"])));
        assert!(is_stale(&with(FRESHNESS, &["fresh,fresh"])));
    }

    #[test]
    fn a_repeated_fresh_for_allows_no_keeping() {
        assert_eq!(fresh_for_ms(&HeaderMap::new()), None);
        assert_eq!(fresh_for_ms(&with(FRESH_FOR, &["30"])), Some(30_000));
        assert_eq!(fresh_for_ms(&with(FRESH_FOR, &["30", "30"])), Some(0));
        assert_eq!(fresh_for_ms(&with(FRESH_FOR, &["9999999"])), Some(0));
        assert_eq!(fresh_for_ms(&with(FRESH_FOR, &["30 "])), Some(0));
    }
}
