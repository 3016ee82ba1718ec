//! Lives in memcached's seconds.
//!
//! The server counts ticks: an entry with a life of N seconds is gone with the first tick whose second is N or more after that
//! of the tick before the write. A second of that had passed already when the write came just before the next tick. And ticks
//! come a second and a little apart, so now and then there is a second without one, and its neighbour's tick counts for two:
//! N seconds end up to two early, and `T2` may be gone at once. Whole seconds from ten upwards are sent as the family sends
//! them, byte for byte; for shorter lives and those with a fraction those two seconds would matter, so they get them on top.
//! Beyond 30 days memcached would read a point in time, so longer lives become 30 days.

use cachekit_plugin::Ttl;

/// 30 days: the longest life memcached takes for a life.
pub(crate) const LONGEST_SECS: u64 = 2_592_000;
const EXACT_FROM_MS: u64 = 10_000;
/// How much earlier than asked for the server may end a life.
const EARLY_SECS: u64 = 2;
/// A life lasts no longer than what was asked for, in whole seconds, and this.
pub(crate) const STEP_MS: u64 = EARLY_SECS * 1000;

/// What stands behind the `T` of a command; 0 means never.
pub(crate) fn seconds(ttl: Ttl) -> u32 {
    let Some(ms) = ttl.as_ms() else { return 0 };
    let early = if ms < EXACT_FROM_MS || ms % 1000 != 0 { EARLY_SECS } else { 0 };
    ms.div_ceil(1000).saturating_add(early).min(LONGEST_SECS) as u32
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
        assert_eq!((secs(1), secs(999), secs(1000), secs(1001)), (3, 3, 3, 4));
        assert_eq!((secs(9_000), secs(10_000), secs(10_001), secs(60_000)), (11, 10, 13, 60));
        assert_eq!((secs(2_592_000_000), secs(2_592_000_001), secs(u64::MAX)), (2_592_000, 2_592_000, 2_592_000));
        assert_eq!(secs(40 * 86_400_000), 2_592_000);
        assert_eq!(seconds(Ttl::Never), 0);
    }

    /// How long an entry lives that is written a millisecond before the server's second tick. The first is at `phase` of its
    /// clock, the second by `late` milliseconds later than it should be, and every one after it by `drift`.
    fn lived(phase: u64, late: u64, drift: u64, seconds: u64) -> u64 {
        let second = phase + 1000 + late;
        let over = phase / 1000 + seconds;
        (0..).map(|more| second + more * (1000 + drift)).find(|tick| tick / 1000 >= over).unwrap() + 1 - second
    }

    #[test]
    fn no_short_life_is_over_early_wherever_the_ticks_of_the_server_are() {
        // A second without a tick is what takes the second second: with one alone, a life of 1000 ms can be one of 1.
        assert_eq!((lived(0, 0, 0, 2), lived(999, 1, 1, 2)), (1001, 1));
        for phase in 0..1000 {
            // The server arms its timer anew after each tick, so that what one is late all after it are late.
            for (late, drift) in [(0, 0), (0, 1), (1, 1), (10, 10), (34, 1), (500, 30), (900, 1), (0, 80)] {
                for ms in [1, 40, 999, 1000, 1001, 2000, 5500, 9000, 9999, 10_001] {
                    let lived = lived(phase, late, drift, seconds(Ttl::from_ms(ms).unwrap()).into());
                    assert!(
                        lived >= ms,
                        "{ms} ms lived {lived}: ticks from {phase}, the second {late} late, then {drift}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_left_is_read_back() {
        assert_eq!(left(-1), Some(Ttl::Never));
        assert_eq!(left(60), Ttl::from_ms(60_000));
        assert_eq!(left(0), Ttl::from_ms(1));
        assert_eq!(left(-2), None);
    }
}
