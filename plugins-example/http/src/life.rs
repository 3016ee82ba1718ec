//! From a life to the number that the server is told, and what that makes of the limits of this store.

use cachekit_plugin::Ttl;

use crate::config::{BelowMinimum, TtlConfig, Unit};
use crate::error::HttpError;

/// The longest life that is worth telling: a thousand years.
const MAX_MS: u64 = 31_536_000_000_000;

/// How lives are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lives {
    unit_ms: u64,
    step_ms: u64,
    minimum_ms: u64,
    maximum_ms: u64,
    refuses: bool,
    never: Option<u64>,
}

impl Lives {
    pub(crate) fn new(config: &TtlConfig) -> Result<Self, String> {
        let unit_ms = match config.unit {
            Unit::Seconds => 1000,
            Unit::Milliseconds => 1,
        };
        let step_ms = config.step_ms.unwrap_or(unit_ms);
        if step_ms == 0 || !step_ms.is_multiple_of(unit_ms) || step_ms > 86_400_000 {
            return Err(format!("ttl.step_ms = {step_ms}: takes multiples of {unit_ms}, the unit, up to 86400000"));
        }
        let maximum_ms = config.maximum_ms / step_ms * step_ms;
        if maximum_ms == 0 || config.maximum_ms > MAX_MS {
            return Err(format!("ttl.maximum_ms = {}: takes {step_ms}, one step, to {MAX_MS}", config.maximum_ms));
        }
        let minimum_ms = config.minimum_ms.div_ceil(step_ms).saturating_mul(step_ms);
        if minimum_ms > maximum_ms {
            return Err(format!("ttl.minimum_ms = {}: is more than maximum_ms", config.minimum_ms));
        }
        let refuses = config.below_minimum == BelowMinimum::Refuse;
        Ok(Self { unit_ms, step_ms, minimum_ms, maximum_ms, refuses, never: config.never })
    }

    /// The number for `ttl`; `None` to leave it out.
    pub(crate) fn number(&self, ttl: Ttl) -> Result<Option<u64>, HttpError> {
        let Some(life_ms) = ttl.as_ms() else { return Ok(self.never) };
        // Rounded up: an entry may stay longer than it is asked for, and must not end sooner.
        let life_ms = life_ms.min(self.maximum_ms).div_ceil(self.step_ms) * self.step_ms;
        if life_ms < self.minimum_ms && self.refuses {
            return Err(HttpError::LifeTooShort { minimum_ms: self.minimum_ms });
        }
        Ok(Some(life_ms.max(self.minimum_ms) / self.unit_ms))
    }

    pub(crate) fn knows_never(&self) -> bool {
        self.never.is_some()
    }

    /// What a life may be rounded up by. Raising a short one to the minimum is that as well.
    pub(crate) fn step_ms(&self) -> u64 {
        if self.refuses { self.step_ms } else { self.step_ms.max(self.minimum_ms) }
    }

    pub(crate) fn maximum_ms(&self) -> u64 {
        self.maximum_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(config: &TtlConfig, ms: u64) -> Option<u64> {
        Lives::new(config).unwrap().number(Ttl::from_ms(ms).unwrap()).unwrap()
    }

    #[test]
    fn lives_round_up_to_the_step_and_stay_between_the_bounds() {
        let seconds = TtlConfig::default();
        for (ms, wanted) in [(1, 1), (1000, 1), (1001, 2), (59_999, 60), (u64::MAX, 315_360_000)] {
            assert_eq!(number(&seconds, ms), Some(wanted), "{ms} ms");
        }
        let cloudflare = TtlConfig { minimum_ms: 60_000, ..TtlConfig::default() };
        for (ms, wanted) in [(1, 60), (60_000, 60), (60_001, 61)] {
            assert_eq!(number(&cloudflare, ms), Some(wanted), "{ms} ms");
        }
        let milliseconds = TtlConfig { unit: Unit::Milliseconds, step_ms: Some(250), ..TtlConfig::default() };
        assert_eq!(number(&milliseconds, 251), Some(500));
        assert_eq!(Lives::new(&cloudflare).unwrap().step_ms(), 60_000, "raising to the minimum is rounding up");
    }

    #[test]
    fn below_the_minimum_is_raised_or_refused_as_the_options_say() {
        let refuse = TtlConfig { minimum_ms: 60_000, below_minimum: BelowMinimum::Refuse, ..TtlConfig::default() };
        let lives = Lives::new(&refuse).unwrap();
        let refused = lives.number(Ttl::from_ms(59_000).unwrap()).unwrap_err();
        assert!(matches!(refused, HttpError::LifeTooShort { minimum_ms: 60_000 }), "{refused}");
        assert_eq!(lives.number(Ttl::from_ms(59_001).unwrap()).unwrap(), Some(60), "rounds up to what is taken");
        assert_eq!(lives.step_ms(), 1000);
    }

    #[test]
    fn no_end_is_left_out_or_said_as_the_options_say() {
        assert_eq!(Lives::new(&TtlConfig::default()).unwrap().number(Ttl::Never).unwrap(), None);
        let zero = TtlConfig { never: Some(0), ..TtlConfig::default() };
        assert_eq!(Lives::new(&zero).unwrap().number(Ttl::Never).unwrap(), Some(0));
    }

    #[test]
    fn bounds_that_cannot_be_are_refused_and_named() {
        for (field, config) in [
            ("ttl.step_ms", TtlConfig { step_ms: Some(0), ..TtlConfig::default() }),
            ("ttl.step_ms", TtlConfig { step_ms: Some(1500), ..TtlConfig::default() }),
            ("ttl.maximum_ms", TtlConfig { maximum_ms: 999, ..TtlConfig::default() }),
            ("ttl.maximum_ms", TtlConfig { maximum_ms: u64::MAX, ..TtlConfig::default() }),
            ("ttl.minimum_ms", TtlConfig { minimum_ms: u64::MAX, ..TtlConfig::default() }),
        ] {
            assert!(Lives::new(&config).unwrap_err().starts_with(field), "{field}");
        }
    }
}
