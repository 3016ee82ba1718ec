//! The life of an entry in a store.

use std::num::NonZeroU64;
use std::time::Duration;

/// How long a store keeps an entry: for ever, or at least one millisecond.
///
/// Zero does not exist here: the families of caches disagree on what it means ("at once", "never"), so it is refused
/// above and cannot cross the border. A store with coarser steps rounds **up**.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// The store never expires the entry by itself.
    Never,
    /// Milliseconds from now.
    Ms(NonZeroU64),
}

impl Ttl {
    /// `ms` milliseconds; `None` for zero.
    pub const fn from_ms(ms: u64) -> Option<Self> {
        match NonZeroU64::new(ms) {
            Some(ms) => Some(Self::Ms(ms)),
            None => None,
        }
    }

    /// A duration, rounded up to whole milliseconds; `None` for zero. Longer than 584 million years is `Never`.
    pub fn from_duration(life: Duration) -> Option<Self> {
        if life.is_zero() {
            return None;
        }
        Some(match u64::try_from(life.as_nanos().div_ceil(1_000_000)) {
            Ok(ms) => Self::Ms(NonZeroU64::new(ms).unwrap_or(NonZeroU64::MIN)),
            Err(_) => Self::Never,
        })
    }

    /// Milliseconds, `None` for [`Ttl::Never`].
    pub const fn as_ms(self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::Ms(ms) => Some(ms.get()),
        }
    }

    /// Whole seconds, rounded up, `None` for [`Ttl::Never`].
    pub const fn as_secs_ceil(self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::Ms(ms) => Some(ms.get().div_ceil(1000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_life() {
        assert_eq!(Ttl::from_ms(0), None);
        assert_eq!(Ttl::from_duration(Duration::ZERO), None);
    }

    #[test]
    fn durations_round_up_and_never_overflow() {
        assert_eq!(Ttl::from_duration(Duration::from_nanos(1)).and_then(Ttl::as_ms), Some(1));
        assert_eq!(Ttl::from_duration(Duration::from_micros(1_500)).and_then(Ttl::as_ms), Some(2));
        assert_eq!(Ttl::from_duration(Duration::MAX), Some(Ttl::Never));
        assert_eq!(Ttl::from_ms(1).and_then(Ttl::as_secs_ceil), Some(1));
        assert_eq!(Ttl::from_ms(u64::MAX).and_then(Ttl::as_secs_ceil), Some(u64::MAX / 1000 + 1));
    }
}
