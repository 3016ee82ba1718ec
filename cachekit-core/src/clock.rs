//! The engine's only source of time, so that a test owns every second of it.
//!
//! Two readings, because one clock cannot serve both needs. Lives, windows and deadlines inside this process are counted
//! on the *coarse monotonic* clock: it never jumps and costs about 5 ns. Times that leave the process (the envelope's
//! created and expires) are *wall* times, which jump when somebody sets the clock; nothing in L1 trusts them.
//!
//! There is no ticking helper thread: a child made by `fork()` has no threads but its own, and would live in a frozen moment.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Time as the engine sees it. Injected once, when a cache is built.
pub trait Clock: Any + Send + Sync {
    /// Milliseconds of a clock that never goes backwards, from an arbitrary start. It may lag by one kernel tick (1 to
    /// 10 ms), so an entry can outlive its expiry by that much.
    fn coarse_ms(&self) -> u64;

    /// Milliseconds since the Unix epoch, by the wall clock. It may jump either way.
    fn unix_ms(&self) -> u64;
}

/// The operating system's clocks.
///
/// Like `Instant`, the coarse clock stands still while the machine is suspended: an entry's life in L1 resumes where it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Linux keeps a monotonic time per tick and reads it in the vdso without touching the counter: 5 ns instead of 21.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const COARSE: ClockId = ClockId::MonotonicCoarse;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const COARSE: ClockId = ClockId::Monotonic;

impl Clock for SystemClock {
    #[inline]
    fn coarse_ms(&self) -> u64 {
        let now = clock_gettime(COARSE);
        // Neither field is negative for a monotonic clock; the casts only change the type.
        now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
    }

    fn unix_ms(&self) -> u64 {
        // Before 1970 reads as 0: such a machine has no usable wall clock, and 0 makes what it writes look old, never new.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The coarse clock of somebody who reads it all the time. A clock that is injected is called through a pointer, which costs a
/// hit in L1 a nanosecond of its twenty-five; the system's own is called by name.
pub(crate) enum Ticks {
    System,
    Injected(Arc<dyn Clock>),
}

impl Ticks {
    pub(crate) fn of(clock: Arc<dyn Clock>) -> Self {
        let any: &dyn Any = &*clock;
        if any.is::<SystemClock>() { Self::System } else { Self::Injected(clock) }
    }

    #[inline]
    pub(crate) fn coarse_ms(&self) -> u64 {
        match self {
            Self::System => SystemClock.coarse_ms(),
            Self::Injected(clock) => clock.coarse_ms(),
        }
    }
}

/// A clock that moves only when it is told to. For tests, yours included.
///
/// ```
/// use std::time::Duration;
/// use cachekit_core::clock::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// let before = (clock.coarse_ms(), clock.unix_ms());
/// clock.advance(Duration::from_secs(30));
/// assert_eq!((clock.coarse_ms(), clock.unix_ms()), (before.0 + 30_000, before.1 + 30_000));
///
/// clock.set_unix_ms(0); // Somebody set the wall clock back; the monotonic one knows nothing of it.
/// assert_eq!(clock.coarse_ms(), before.0 + 30_000);
/// ```
pub struct ManualClock {
    coarse_ms: AtomicU64,
    unix_ms: AtomicU64,
}

impl ManualClock {
    /// Starts at an ordinary moment (2024-01-01 UTC by the wall, some minutes after boot), never at 0, which code under
    /// test might mistake for "none".
    pub fn new() -> Self {
        Self { coarse_ms: AtomicU64::new(600_000), unix_ms: AtomicU64::new(1_704_067_200_000) }
    }

    /// Lets `by` pass on both clocks, in whole milliseconds.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.coarse_ms.fetch_add(ms, Ordering::AcqRel);
        self.unix_ms.fetch_add(ms, Ordering::AcqRel);
    }

    /// Sets the wall clock alone, as an administrator or NTP would.
    pub fn set_unix_ms(&self, unix_ms: u64) {
        self.unix_ms.store(unix_ms, Ordering::Release);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("coarse_ms", &self.coarse_ms()).field("unix_ms", &self.unix_ms()).finish()
    }
}

impl Clock for ManualClock {
    fn coarse_ms(&self) -> u64 {
        self.coarse_ms.load(Ordering::Acquire)
    }

    fn unix_ms(&self) -> u64 {
        self.unix_ms.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_never_goes_backwards() {
        let readings: Vec<u64> = (0..10_000).map(|_| SystemClock.coarse_ms()).collect();
        assert!(readings.is_sorted());
        assert!(readings[0] > 0);
    }

    #[test]
    fn system_wall_clock_is_in_this_century() {
        let ms = SystemClock.unix_ms();
        assert!((1_704_067_200_000..4_102_444_800_000).contains(&ms), "{ms}");
    }
}
