//! From what a writer wants to the times of an entry.
//!
//! ```text
//! created          + ttl               + stale                + stale if error
//!    |---- fresh -----|------ stale ------|--- stale if error -----|  over: the store may forget it
//! ```

use std::time::Duration;

use super::Fresh;
use crate::cache::SetOptions;
use crate::codec::Times;
use crate::error::Error;

impl Fresh {
    /// The times of an entry that is made at `now_ms`. What was `loaded` gets a life that is a little longer or shorter than
    /// asked: longer only where that eats into a stale window, because nothing is served beyond what its writer allowed.
    ///
    /// # Errors
    /// [`Error::ZeroTtl`]; [`Error::Freshness`] for a stale window behind a life that does not end.
    pub(crate) fn times(
        &self,
        options: &SetOptions,
        default_ttl: Option<Duration>,
        now_ms: u64,
        loaded: bool,
    ) -> Result<Times, Error> {
        let created_ms = now_ms;
        let Some(ttl) = options.life(default_ttl)? else { return Ok(Times { created_ms, ..Times::default() }) };
        let ttl_ms = whole_ms(ttl);
        let stale_ms = whole_ms(options.stale.or(self.config.stale).unwrap_or_default());
        let error_ms = whole_ms(options.stale_if_error.or(self.config.stale_if_error).unwrap_or_default());
        let spread = if loaded { self.dice.either_way() * self.config.jitter } else { 0.0 };
        if stale_ms == 0 && error_ms == 0 {
            let life_ms = scaled(ttl_ms, 1.0 - spread.abs()).max(1);
            return Ok(Times { created_ms, expires_ms: created_ms.saturating_add(life_ms), ..Times::default() });
        }
        let serve_ms = ttl_ms.saturating_add(stale_ms);
        let fresh_for_ms = scaled(ttl_ms, 1.0 + spread).clamp(1, serve_ms);
        Ok(Times {
            created_ms,
            fresh_for_ms,
            stale_until_ms: if stale_ms == 0 { 0 } else { created_ms.saturating_add(serve_ms) },
            expires_ms: created_ms.saturating_add(serve_ms.saturating_add(error_ms)),
        })
    }

    /// The times of the knowledge that there is nothing.
    pub(crate) fn negative_times(&self, ttl: Duration, now_ms: u64) -> Times {
        let spread = self.dice.unit() * self.config.jitter;
        let life_ms = scaled(whole_ms(ttl), 1.0 - spread).max(1);
        Times { created_ms: now_ms, expires_ms: now_ms.saturating_add(life_ms), ..Times::default() }
    }
}

/// Rounded up: a life is never shorter than asked because of a unit. One that no number holds is the longest there is.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A number of milliseconds times a small factor. Floats saturate when they become integers.
pub(super) fn scaled(ms: u64, factor: f64) -> u64 {
    // Exact where nothing is changed, also beyond the 53 bits of a double.
    if factor == 1.0 { ms } else { (ms as f64 * factor) as u64 }
}
