//! Lives in memcached's seconds.
//!
//! The server counts ticks: an entry with a life of N seconds is gone N ticks later, up to a second early. Whole seconds from
//! ten upwards are sent as the family sends them, byte for byte; for shorter lives and those with a fraction that second
//! would matter, so they get one more. Beyond 30 days memcached would read a point in time, so longer lives become 30 days.

use cachekit_plugin::Ttl;

/// 30 days: the longest life memcached takes for a life.
pub(crate) const LONGEST_SECS: u64 = 2_592_000;
const EXACT_FROM_MS: u64 = 10_000;

/// What stands behind the `T` of a command; 0 means never.
pub(crate) fn seconds(ttl: Ttl) -> u32 {
    let Some(ms) = ttl.as_ms() else { return 0 };
    let early = ms < EXACT_FROM_MS || ms % 1000 != 0;
    (ms.div_ceil(1000).saturating_add(u64::from(early))).min(LONGEST_SECS) as u32
}

/// What a server said is left: `-1` means for ever.
pub(crate) fn left(seconds: i64) -> Option<Ttl> {
    match seconds {
        -1 => Some(Ttl::Never),
        // Its last second has begun: more than nothing, and nothing is no life.
        0 => Ttl::from_ms(1),
        1.. => Ttl::from_ms((seconds as u64).saturating_mul(1000)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_never_round_down_to_nothing_and_never_become_a_date() {
        let secs = |ms| seconds(Ttl::from_ms(ms).unwrap());
        assert_eq!((secs(1), secs(999), secs(1000), secs(1001)), (2, 2, 2, 3));
        assert_eq!((secs(9_000), secs(10_000), secs(10_001), secs(60_000)), (10, 10, 12, 60));
        assert_eq!((secs(2_592_000_000), secs(2_592_000_001), secs(u64::MAX)), (2_592_000, 2_592_000, 2_592_000));
        assert_eq!(secs(40 * 86_400_000), 2_592_000);
        assert_eq!(seconds(Ttl::Never), 0);
    }

    #[test]
    fn what_is_left_is_read_back() {
        assert_eq!(left(-1), Some(Ttl::Never));
        assert_eq!(left(60), Ttl::from_ms(60_000));
        assert_eq!(left(0), Ttl::from_ms(1));
        assert_eq!(left(-2), None);
    }
}
