//! What an entry's age means for whoever has found it.

use super::Fresh;
use super::windows::scaled;
use crate::codec::{Freshness, Meta, Times};

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it; it will end soon enough to be refreshed now.
    Due,
    /// Past its life. Serve it, and refresh it.
    Stale,
    /// Load anew; serve it if that fails.
    Fallback,
    /// Not to be served.
    Over,
}

/// No draw of the dice is further from the end than so many times the cost: −ln(2⁻⁵³).
const FURTHEST_DRAW: f64 = 36.8;
/// How much earlier than at its fraction a refresh ahead may be due: the family draws from 0.9 to 1.1 per read.
const AHEAD_SPREAD: f64 = 0.1;

impl Fresh {
    /// What the age of an entry at `now_ms` means for a caller that has a loader. `beta`: how eager this one is.
    pub(crate) fn verdict(&self, meta: &Meta, now_ms: u64, beta: Option<f64>) -> Verdict {
        match meta.times.freshness(now_ms) {
            Freshness::Fresh if self.is_due(meta, now_ms, beta) => Verdict::Due,
            Freshness::Fresh => Verdict::Fresh,
            Freshness::Stale => Verdict::Stale,
            Freshness::StaleIfError => Verdict::Fallback,
            Freshness::Expired | Freshness::FromTheFuture => Verdict::Over,
        }
    }

    fn is_due(&self, meta: &Meta, now_ms: u64, beta: Option<f64>) -> bool {
        let times = &meta.times;
        let Some(fresh_until_ms) = times.fresh_until_ms() else { return false };
        if let Some(ratio) = self.ahead(times) {
            let life_ms = fresh_until_ms.saturating_sub(times.created_ms);
            let at_ms = scaled(life_ms, ratio * AHEAD_SPREAD.mul_add(self.dice.either_way(), 1.0));
            if now_ms.saturating_sub(times.created_ms) > at_ms {
                return true;
            }
        }
        let Some(beta) = beta.or(self.config.early_refresh) else { return false };
        // XFetch (Vattani, Chierichetti, Lowenstein 2015): refresh if now − cost · β · ln(U) has reached the end. The logarithm is
        // negative, so the sum lies ahead of now, the further the dearer the load.
        let ahead_ms = meta.load_cost_us as f64 / 1000.0 * beta * -self.dice.unit().ln();
        now_ms as f64 + ahead_ms >= fresh_until_ms as f64
    }

    /// The fraction of its life from which on an entry is refreshed ahead. What has a stale window needs none: it is refreshed
    /// there, without being loaded more often.
    fn ahead(&self, times: &Times) -> Option<f64> {
        self.config.refresh_ahead.filter(|_| times.stale_until_ms == 0)
    }

    /// Whether so little of an entry's life is left that a get gives it its life anew.
    pub(crate) fn wants_extension(&self, times: &Times, now_ms: u64) -> bool {
        self.extends_at_ms(times).is_some_and(|at_ms| now_ms > at_ms) && times.freshness(now_ms) == Freshness::Fresh
    }

    fn extends_at_ms(&self, times: &Times) -> Option<u64> {
        let threshold = self.config.extend_on_get?;
        let end_ms = times.fresh_until_ms()?;
        Some(end_ms.saturating_sub(scaled(end_ms.saturating_sub(times.created_ms), threshold)))
    }

    /// From when on (by the wall) a reader must look at the entry's times instead of just taking it. `None`: never.
    pub(crate) fn look_closer_at_ms(&self, times: &Times, cost_us: impl FnOnce() -> u64) -> Option<u64> {
        let end_ms = times.fresh_until_ms()?;
        let life_ms = end_ms.saturating_sub(times.created_ms);
        let mut at_ms = end_ms;
        if let Some(ratio) = self.ahead(times) {
            at_ms = at_ms.min(times.created_ms.saturating_add(scaled(life_ms, ratio * (1.0 - AHEAD_SPREAD))));
        }
        if let Some(beta) = self.config.early_refresh {
            let ahead_ms = cost_us() as f64 / 1000.0 * beta * FURTHEST_DRAW;
            at_ms = at_ms.min(end_ms.saturating_sub(ahead_ms as u64));
        }
        if let Some(extends_at_ms) = self.extends_at_ms(times) {
            at_ms = at_ms.min(extends_at_ms);
        }
        Some(at_ms)
    }
}
