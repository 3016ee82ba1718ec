//! How old an entry is, and what may be done with it at that age.
//!
//! Wall clocks jump. Three rules keep a jump harmless: an entry created later than now by more than the allowed skew is
//! refused; its age is clamped to `[0, lifetime]`; and the lifetime is the difference of two times written by one clock at
//! one moment. A clock that steps back therefore lengthens a life by at most the step, and never makes an entry immortal.
//! A clock that leaps forward expires what it meets, which costs misses and nothing else.

use cachekit_plugin::Ttl;

/// Clock skew tolerated between the writer of an entry and its reader. 5 s: machines that keep time by NTP differ by
/// milliseconds, ones that do not may differ by seconds, and an error of 5 s is small beside a cache's usual lives.
pub const SKEW_ALLOWANCE_MS: u64 = 5_000;

/// When an entry was made and until when it may be used. All in milliseconds; absolute ones since the Unix epoch.
///
/// The windows follow each other: fresh until `created + fresh_for`, stale (served while one refresh runs) until
/// `stale_until`, served only if the loader fails until `expires`, then gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// When the value was loaded.
    pub created_ms: u64,
    /// How long after `created_ms` it is fresh. 0: until it expires.
    pub fresh_for_ms: u64,
    /// Until when it may be served while a refresh runs. 0: there is no such window.
    pub stale_until_ms: u64,
    /// When it is gone. 0: never by itself; its backend may drop it.
    pub expires_ms: u64,
}

/// What may be done with an entry now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Serve it.
    Fresh,
    /// Serve it, and refresh it in the background.
    Stale,
    /// Load anew; serve it only if loading fails.
    StaleIfError,
    /// Do not serve it.
    Expired,
    /// Do not serve it: some clock is wrong, so its age is unknown.
    FromTheFuture,
}

impl Times {
    /// Whether the windows follow each other. An entry for which they do not is neither written nor accepted.
    #[must_use]
    pub const fn in_order(&self) -> bool {
        let stale_after_created = self.stale_until_ms == 0 || self.stale_until_ms >= self.created_ms;
        let expires_last =
            self.expires_ms == 0 || (self.expires_ms >= self.created_ms && self.expires_ms >= self.stale_until_ms);
        stale_after_created && expires_last
    }

    /// When it stops being fresh. `None`: never.
    #[must_use]
    pub const fn fresh_until_ms(&self) -> Option<u64> {
        let end_ms = match self.expires_ms {
            0 => u64::MAX,
            end_ms => end_ms,
        };
        match self.fresh_for_ms {
            0 if end_ms == u64::MAX && self.expires_ms == 0 => None,
            0 => Some(end_ms),
            fresh_for_ms => {
                let fresh_ms = self.created_ms.saturating_add(fresh_for_ms);
                Some(if fresh_ms < end_ms { fresh_ms } else { end_ms })
            }
        }
    }

    /// Whether there is a time in which it is served only if loading fails.
    #[must_use]
    pub const fn has_error_window(&self) -> bool {
        match self.fresh_until_ms() {
            None => false,
            Some(fresh_until_ms) => {
                let served_until_ms =
                    if self.stale_until_ms > fresh_until_ms { self.stale_until_ms } else { fresh_until_ms };
                self.expires_ms == 0 || self.expires_ms > served_until_ms
            }
        }
    }

    /// The same windows for an entry made at `now_ms`.
    #[must_use]
    pub(crate) const fn shifted_to(&self, now_ms: u64) -> Self {
        const fn shifted(end_ms: u64, from_ms: u64, to_ms: u64) -> u64 {
            if end_ms == 0 { 0 } else { to_ms.saturating_add(end_ms.saturating_sub(from_ms)) }
        }
        Self {
            created_ms: now_ms,
            fresh_for_ms: self.fresh_for_ms,
            stale_until_ms: shifted(self.stale_until_ms, self.created_ms, now_ms),
            expires_ms: shifted(self.expires_ms, self.created_ms, now_ms),
        }
    }

    /// How long a store must keep the entry from `now_ms` on. At least a millisecond: a store has no shorter life, and the
    /// entry itself knows that it is over.
    #[must_use]
    pub fn ttl(&self, now_ms: u64) -> Ttl {
        match self.expires_ms {
            0 => Ttl::Never,
            end => Ttl::from_ms(end.saturating_sub(now_ms).max(1)).unwrap_or(Ttl::Never),
        }
    }

    /// What may be done with the entry at `now_ms`.
    #[must_use]
    pub const fn freshness(&self, now_ms: u64) -> Freshness {
        if self.created_ms > now_ms.saturating_add(SKEW_ALLOWANCE_MS) {
            return Freshness::FromTheFuture;
        }
        let age_ms = now_ms.saturating_sub(self.created_ms);
        // The end of a life is outside it, so a lifetime of 0 is never served.
        if self.expires_ms != 0 && age_ms >= self.expires_ms.saturating_sub(self.created_ms) {
            return Freshness::Expired;
        }
        if self.fresh_for_ms == 0 || age_ms < self.fresh_for_ms {
            return Freshness::Fresh;
        }
        if self.stale_until_ms != 0 && age_ms < self.stale_until_ms.saturating_sub(self.created_ms) {
            return Freshness::Stale;
        }
        Freshness::StaleIfError
    }
}
