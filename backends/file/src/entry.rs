//! The bytes of an entry on disk: its name, its 14-byte header, and when it is over.
//!
//! ```text
//! offset  size
//! 0       2     43 4b     "CK"
//! 2       1     01        version
//! 3       1     00        reserved
//! 4       2     u16be     flags, 0
//! 6       8     u64be     expiry, Unix seconds, 0 = never
//! 14      …     payload   the stored value, verbatim; may be empty
//! ```
//! The format belongs to the whole family: Python `cachekit` 0.24.1 and `cachekit-rs` 0.13 read and write the same
//! directory. Pinned by `tests/vectors/file_backend.json`.

use std::fmt;
use std::time::Duration;

use blake2::{Blake2b, Digest, digest::consts::U16};
use cachekit_plugin::{Key, Ttl};

/// Bytes before the payload.
pub(crate) const HEADER_LEN: usize = 14;
/// Where the expiry stands; [`Expiry::touch`](cachekit_plugin::Expiry::touch) rewrites these eight bytes in place.
pub(crate) const EXPIRY_OFFSET: u64 = 6;
/// Ten years: the longest life the family accepts, seconds.
pub(crate) const MAX_TTL_SECS: u64 = 315_360_000;
/// Whole seconds from here on end in the very second in which Python ends them.
const FAMILY_ROUNDING_MS: u64 = 10_000;

const MAGIC_AND_VERSION: [u8; 3] = *b"CK\x01";

/// The file name of an entry: 32 lower-case hex digits of the BLAKE2b-128 of the key.
///
/// Every name that reaches a system call as an entry is one of these, so no key can name a path, and a file system that
/// folds case cannot merge two of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name([u8; 32]);

impl Name {
    pub(crate) fn of(key: Key<'_>) -> Self {
        let digest = Blake2b::<U16>::digest(key.as_bytes());
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        Self(hex)
    }

    /// A name found in the directory or handed in as an id; `None` unless it is exactly 32 lower-case hex digits.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let hex: [u8; 32] = bytes.try_into().ok()?;
        hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(hex))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        // Both constructors admit hex digits alone.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The first byte of the hash: which stripe the key belongs to.
    pub(crate) fn first_byte(&self) -> u8 {
        let digit = |hex: u8| if hex.is_ascii_digit() { hex - b'0' } else { hex - b'a' + 10 };
        digit(self.0[0]) << 4 | digit(self.0[1])
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a header says about its entry, in the order of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Too short, not ours, or over: delete it.
    Dead,
    /// Of a later dialect (reserved byte or flags set): a miss, and not ours to delete, even when it is over.
    Foreign,
    /// May be served; Unix seconds, 0 = never.
    Live {
        /// Unix seconds, 0 = never.
        expiry: u64,
    },
}

/// Judges the first bytes of a file at `now` (since the Unix epoch).
pub(crate) fn judge(bytes: &[u8], now: Duration) -> Verdict {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Verdict::Dead };
    if header[..3] != MAGIC_AND_VERSION {
        return Verdict::Dead;
    }
    if header[3..6] != [0; 3] {
        return Verdict::Foreign;
    }
    let [.., a, b, c, d, e, f, g, h] = *header;
    let expiry = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    if expiry != 0 && now.as_secs() >= expiry {
        return Verdict::Dead;
    }
    Verdict::Live { expiry }
}

/// The header of an entry that is over at `expiry`.
pub(crate) fn header(expiry: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..3].copy_from_slice(&MAGIC_AND_VERSION);
    header[6..].copy_from_slice(&expiry.to_be_bytes());
    header
}

/// The Unix second at which a life of `ttl` from `now` is over; 0 for never. Lives beyond ten years become ten years.
///
/// The header has whole seconds and the contract wants lives rounded **up**, so that none is over early; the family
/// writes `int(now + ttl)`, up to a second early. Whole seconds from ten upwards follow the family, byte for byte: the
/// difference is below the ±10 % by which lives are spread anyway. Shorter ones, and fractions, round up.
pub(crate) fn expiry(ttl: Ttl, now: Duration) -> u64 {
    let Some(ms) = ttl.as_ms() else { return 0 };
    let ms = ms.min(MAX_TTL_SECS * 1000);
    let end = now.saturating_add(Duration::from_millis(ms));
    let as_the_family = ms % 1000 == 0 && ms >= FAMILY_ROUNDING_MS;
    let round_up = !as_the_family && end.subsec_nanos() != 0;
    // Zero would mean "never": a clock that stands at the epoch must not make entries immortal.
    end.as_secs().saturating_add(u64::from(round_up)).max(1)
}

/// The life an entry has left at `now`.
pub(crate) fn remaining(expiry: u64, now: Duration) -> Ttl {
    if expiry == 0 {
        return Ttl::Never;
    }
    // At least a millisecond: the entry was judged live by the same clock reading.
    Ttl::from_duration(Duration::from_secs(expiry).saturating_sub(now).max(Duration::from_millis(1)))
        .unwrap_or(Ttl::Never)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1_764_700_000_250);

    fn ms(ms: u64) -> Ttl {
        Ttl::from_ms(ms).unwrap()
    }

    #[test]
    fn whole_seconds_end_where_python_ends_them() {
        assert_eq!(expiry(ms(100_000), NOW), 1_764_700_100);
        assert_eq!(expiry(ms(10_000), NOW), 1_764_700_010);
        assert_eq!(expiry(Ttl::Never, NOW), 0);
        assert_eq!(expiry(ms(MAX_TTL_SECS * 1000), NOW), 1_764_700_000 + MAX_TTL_SECS);
    }

    #[test]
    fn short_lives_and_fractions_round_up_so_that_none_is_over_early() {
        for life in [1, 250, 749, 750, 751, 999, 1_000, 1_001, 1_500, 9_000, 10_001, 100_500] {
            let end = Duration::from_secs(expiry(ms(life), NOW));
            assert!(end >= NOW + Duration::from_millis(life), "{life} ms");
            assert!(end < NOW + Duration::from_millis(life + 1_000), "{life} ms");
        }
    }

    #[test]
    fn a_life_beyond_ten_years_becomes_ten_years_and_nothing_overflows() {
        let ten_years = 1_764_700_000 + MAX_TTL_SECS;
        assert_eq!(expiry(ms(MAX_TTL_SECS * 1000 + 1), NOW), ten_years);
        assert_eq!(expiry(ms(u64::MAX), NOW), ten_years);
        assert_eq!(expiry(ms(1), Duration::MAX), u64::MAX);
        assert_eq!(remaining(u64::MAX, NOW), Ttl::Never);
    }

    #[test]
    fn no_clock_makes_a_mortal_entry_immortal() {
        assert_eq!(expiry(ms(1_000), Duration::ZERO), 1);
        assert_ne!(expiry(ms(1), Duration::ZERO), 0);
    }

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_of_its_fixed_part_is_noticed() {
        let good = header(1_764_700_100);
        assert_eq!(judge(&good, NOW), Verdict::Live { expiry: 1_764_700_100 });
        for bit in 0..48 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(judge(&bad, NOW), Verdict::Live { .. }), "bit {bit}");
        }
        for len in 0..HEADER_LEN {
            assert_eq!(judge(&good[..len], NOW), Verdict::Dead);
        }
    }

    #[test]
    fn only_32_lower_case_hex_digits_are_a_name() {
        assert!(Name::parse(b"91c0925c4d980fcf491f0a60b5093185").is_some());
        for bad in ["", "..", "../../../../../../../../etc/passwd", "91C0925C4D980FCF491F0A60B5093185", ".cas.00"] {
            assert!(Name::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert_eq!(Name::parse(b"a7000000000000000000000000000000").unwrap().first_byte(), 0xa7);
    }
}
