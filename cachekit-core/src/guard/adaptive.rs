//! Gives up on an answer that takes much longer than answers of this store do, so that it can be asked again.
//!
//! What it protects is the caller's deadline: an answer that got lost would cost all of it, where the next try is there in a
//! millisecond. It cuts reads alone: a write that is given up may happen yet. It stands around each try and measures it.
//!
//! The limit is a multiple of the 99th percentile of recent answers, never below a floor, and never beyond the deadline. A try
//! that is cut doubles it at once, because a store that has become slow must not look dead: after a few cuts the deadline
//! alone is in force, until answers have been seen again.
//!
//! Times are read from the coarse clock, which is exact to one tick of the kernel (1 to 10 ms): the floor is far above that.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How long an answer may take, compared with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdaptiveConfig {
    /// Shortest limit (50 ms, at least 20 ms). A pause of the store's process, or of this one, is no reason to ask twice.
    pub min: Duration,
    /// Longest limit (30 s, not shorter than `min`). The deadline ends a call as well.
    pub max: Duration,
    /// How many times the 99th percentile of recent answers (3, from 2 to 100).
    pub factor: u32,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self { min: Duration::from_millis(50), max: Duration::from_secs(30), factor: 3 }
    }
}

impl AdaptiveConfig {
    /// What cannot work, in words.
    ///
    /// # Errors
    /// The field and what it must be.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.min < Duration::from_millis(20) || self.max < self.min {
            return Err(
                "min must be at least 20 ms, twice a tick of the clock it is measured by, and not longer than max",
            );
        }
        if !(2..=100).contains(&self.factor) {
            return Err("factor must be from 2 to 100");
        }
        Ok(())
    }
}

/// Answers between two looks at their times.
const LOOK_EVERY: u32 = 256;
/// Answers after which older ones count half.
const REMEMBERED: u32 = 4_096;
/// No limit: too few answers were seen, or too many cut.
const NONE: u64 = u64::MAX;
/// Milliseconds one by one up to 16, then eight steps for each doubling, up to 131 s.
const BUCKETS: usize = 16 + 13 * 8;

/// The times of one kind of call.
pub(crate) struct Adaptive {
    config: AdaptiveConfig,
    limit_ms: AtomicU64,
    /// The 99th percentile as it was seen last.
    usual_ms: AtomicU64,
    seen: AtomicU32,
    /// All but the first: what is not in another bucket was at once.
    slower: [AtomicU32; BUCKETS],
    cut: AtomicU64,
}

impl Adaptive {
    pub(crate) fn new(config: AdaptiveConfig) -> Self {
        Self {
            config,
            limit_ms: AtomicU64::new(NONE),
            usual_ms: AtomicU64::new(0),
            seen: AtomicU32::new(0),
            slower: std::array::from_fn(|_| AtomicU32::new(0)),
            cut: AtomicU64::new(0),
        }
    }

    /// How long the next try may take, milliseconds; `None` while the deadline alone decides.
    #[inline]
    pub(crate) fn limit_ms(&self) -> Option<u64> {
        Some(self.limit_ms.load(Ordering::Relaxed)).filter(|limit| *limit != NONE)
    }

    /// What nearly every answer takes at most.
    pub(crate) fn usual(&self) -> Duration {
        Duration::from_millis(self.usual_ms.load(Ordering::Relaxed))
    }

    /// An answer came after this time.
    #[inline]
    pub(crate) fn answered(&self, took_ms: u64) {
        if took_ms > 0 {
            self.slower[bucket(took_ms)].fetch_add(1, Ordering::Relaxed);
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if seen.is_multiple_of(LOOK_EVERY) {
            self.look(seen);
        }
    }

    /// A try was given up after its limit.
    #[cold]
    pub(crate) fn gave_up(&self, limit_ms: u64) {
        self.cut.fetch_add(1, Ordering::Relaxed);
        self.slower[bucket(limit_ms)].fetch_add(1, Ordering::Relaxed);
        self.seen.fetch_add(1, Ordering::Relaxed);
        // By the limit it had: of many that were cut together one raises it.
        let doubled = limit_ms.saturating_mul(2);
        let raised = if doubled > millis(self.config.max) { NONE } else { doubled };
        let _ = self.limit_ms.compare_exchange(limit_ms, raised, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    /// Sets the limit by what was seen.
    #[cold]
    fn look(&self, seen: u32) {
        let counts: [u32; BUCKETS] = std::array::from_fn(|at| self.slower[at].load(Ordering::Relaxed));
        // Of a hundred answers one may be slower.
        let mut may_be_slower = seen / 100;
        let usual_ms = counts
            .iter()
            .enumerate()
            .rev()
            .find(|(_, count)| {
                let beyond = may_be_slower < **count;
                may_be_slower = may_be_slower.saturating_sub(**count);
                beyond
            })
            .map_or(1, |(at, _)| upper_ms(at));
        self.usual_ms.store(usual_ms, Ordering::Relaxed);
        let limit_ms = usual_ms.saturating_mul(self.config.factor.into());
        let (min, max) = (millis(self.config.min), millis(self.config.max));
        self.limit_ms.store(limit_ms.clamp(min, max), Ordering::Relaxed);
        if seen >= REMEMBERED {
            self.forget_half(seen, &counts);
        }
    }

    /// Answers that come in between may be counted in one half of this only. It is an estimate, and two may look at the same
    /// time: what both take away is no less than nothing.
    fn forget_half(&self, seen: u32, counts: &[u32; BUCKETS]) {
        let take = |from: &AtomicU32, count: u32| {
            let less = |now: u32| Some(now.saturating_sub(count));
            let _ = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        };
        take(&self.seen, seen / 2);
        for (slower, count) in self.slower.iter().zip(counts).filter(|(_, count)| **count > 0) {
            take(slower, count.div_ceil(2));
        }
    }
}

/// Where a time is counted.
const fn bucket(ms: u64) -> usize {
    if ms < 16 {
        return ms as usize;
    }
    let power = ms.ilog2() as usize;
    let at = 16 + (power - 4) * 8 + ((ms >> (power - 3)) & 7) as usize;
    if at < BUCKETS { at } else { BUCKETS - 1 }
}

/// The first time beyond those that are counted there.
const fn upper_ms(bucket: usize) -> u64 {
    if bucket < 16 {
        return bucket as u64 + 1;
    }
    let (power, step) = ((bucket - 16) / 8 + 4, (bucket - 16) % 8);
    (step as u64 + 9) << (power - 3)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
