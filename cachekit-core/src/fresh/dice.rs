//! Randomness for lives and refreshes: it spreads, it hides nothing. Never used for keys, nonces or tokens.

use std::sync::atomic::{AtomicU64, Ordering};

/// A `SplitMix64` (Steele, Lea, Flood 2014), whose whole state is a counter: threads share it without a lock. After a `fork()` both
/// processes draw the same numbers, which spreads their refreshes less and harms nothing else.
pub(super) struct Dice(AtomicU64);

impl Dice {
    pub(super) const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(super) fn from_system() -> Self {
        // Without a random seed every process draws the same numbers, which is what this is meant to spread; still better
        // than a cache that cannot be built.
        let seed = getrandom::u64().unwrap_or(0x9e37_79b9_7f4a_7c15);
        Self::seeded(seed)
    }

    /// A number above 0 and up to 1, so that it has a logarithm.
    pub(super) fn unit(&self) -> f64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // 53 bits are what a double holds exactly.
        ((z >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A number between −1 and 1.
    pub(super) fn either_way(&self) -> f64 {
        2.0_f64.mul_add(self.unit(), -1.0)
    }
}
