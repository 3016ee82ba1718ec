//! Lives as the protocol speaks of them: whole seconds, at most 30 days, 0 for no end.

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, HeaderValue};
use cachekit_plugin::{Limits, Ttl};

use crate::entry::Times;
use crate::refusal::Refusal;

/// 30 days, the ceiling of the family.
pub(crate) const MAX_SECONDS: u64 = 2_592_000;

const TTL: HeaderName = HeaderName::from_static("x-cachekit-ttl");
const STALE_TTL: HeaderName = HeaderName::from_static("x-cachekit-stale-ttl");

/// How long an entry is fresh, and how long after that it may still be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// Milliseconds; `None`: no end.
    fresh_ms: Option<u64>,
    stale_ms: u64,
}

impl Life {
    /// Of a PUT. Without a word it is the server's default.
    pub(crate) fn from_headers(headers: &HeaderMap, default_seconds: u64) -> Result<Self, Refusal> {
        let ttl = seconds(headers, &TTL)?;
        let stale = seconds(headers, &STALE_TTL)?.unwrap_or(0);
        if stale > 0 && ttl.is_none_or(|ttl| ttl == 0) {
            return Err(Refusal::life("a stale window needs a life before it: X-CacheKit-TTL of at least 1"));
        }
        Self::new(ttl.unwrap_or(default_seconds), stale * 1000)
    }

    /// `seconds` from now, 0 for no end, with a stale window of its own.
    pub(crate) fn new(seconds: u64, stale_ms: u64) -> Result<Self, Refusal> {
        let too_long = || Refusal::life("a life and its stale window together are at most 2592000 seconds");
        if seconds > MAX_SECONDS || seconds * 1000 + stale_ms > MAX_SECONDS * 1000 {
            return Err(too_long());
        }
        Ok(match seconds {
            0 => Self { fresh_ms: None, stale_ms: 0 },
            seconds => Self { fresh_ms: Some(seconds * 1000), stale_ms },
        })
    }

    /// The same from `now` on.
    pub(crate) fn times(&self, now: u64) -> Times {
        let fresh_until = self.fresh_ms.map(|ms| now.saturating_add(ms));
        Times { fresh_until, gone_from: fresh_until.map(|until| until.saturating_add(self.stale_ms)) }
    }

    /// What the store is told: until the entry is of no use any more.
    pub(crate) fn for_store(&self, limits: &Limits) -> Ttl {
        let total = self.fresh_ms.map(|fresh| (fresh + self.stale_ms).min(limits.ttl_max_ms));
        total.and_then(Ttl::from_ms).unwrap_or(Ttl::Never)
    }
}

/// One header of plain digits, once.
fn seconds(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Refusal> {
    let mut found = headers.get_all(name).iter();
    let Some(value) = found.next() else { return Ok(None) };
    let refuse = || Refusal::life("X-CacheKit-TTL and X-CacheKit-Stale-TTL take whole seconds from 0 to 2592000, once");
    let digits = |value: &HeaderValue| {
        let text = value.to_str().ok()?;
        let plain = (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten()
    };
    match (digits(value), found.next()) {
        (Some(seconds), None) if seconds <= MAX_SECONDS => Ok(Some(seconds)),
        _ => Err(refuse()),
    }
}

/// What an entry is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// For so many milliseconds more; `None`: without an end.
    Fresh(Option<u64>),
    /// Its life is over, its stale window is not.
    Stale,
    /// A miss.
    Gone,
}

impl Age {
    pub(crate) fn of(times: Times, now: u64) -> Self {
        match times {
            Times { gone_from: Some(gone), .. } if now >= gone => Self::Gone,
            Times { fresh_until: Some(until), .. } if now >= until => Self::Stale,
            Times { fresh_until, .. } => Self::Fresh(fresh_until.map(|until| until - now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(ttl: &[&str], stale: &[&str]) -> Option<(Option<u64>, u64)> {
        let mut headers = HeaderMap::new();
        for (name, values) in [(&TTL, ttl), (&STALE_TTL, stale)] {
            for value in values {
                headers.append(name, value.parse().unwrap());
            }
        }
        Life::from_headers(&headers, 60).ok().map(|life| (life.fresh_ms, life.stale_ms))
    }

    #[test]
    fn lives_are_whole_seconds_up_to_thirty_days() {
        assert_eq!(life(&["1"], &[]), Some((Some(1000), 0)));
        assert_eq!(life(&["0"], &[]), Some((None, 0)));
        assert_eq!(life(&[], &[]), Some((Some(60_000), 0)));
        assert_eq!(life(&["2592000"], &[]), Some((Some(2_592_000_000), 0)));
        assert_eq!(life(&["60"], &["30"]), Some((Some(60_000), 30_000)));
        assert_eq!(life(&[], &["0"]), Some((Some(60_000), 0)));
        for wrong in ["-1", "1.5", "", "+1", " ", "1e3", "2592001", "99999999999999999999", "0x1", "١"] {
            if let Ok(value) = HeaderValue::from_bytes(wrong.as_bytes()) {
                let headers = HeaderMap::from_iter([(TTL, value)]);
                assert!(Life::from_headers(&headers, 0).is_err(), "{wrong:?}");
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(life(&["1", "2"], &[]), None);
        assert_eq!(life(&["0"], &["30"]), None);
        assert_eq!(life(&[], &["30"]), None);
        assert_eq!(life(&["2592000"], &["1"]), None);
        assert_eq!(life(&["60"], &["30", "30"]), None);
    }

    #[test]
    fn an_entry_is_fresh_then_stale_then_gone() {
        let times = Life::new(60, 30_000).unwrap().times(1_000_000);
        assert_eq!(Age::of(times, 1_000_000), Age::Fresh(Some(60_000)));
        assert_eq!(Age::of(times, 1_059_999), Age::Fresh(Some(1)));
        assert_eq!(Age::of(times, 1_060_000), Age::Stale);
        assert_eq!(Age::of(times, 1_089_999), Age::Stale);
        assert_eq!(Age::of(times, 1_090_000), Age::Gone);
        assert_eq!(Age::of(Life::new(0, 0).unwrap().times(5), u64::MAX), Age::Fresh(None));
        // Without a window there is no moment of staleness.
        assert_eq!(Age::of(Life::new(1, 0).unwrap().times(0), 1000), Age::Gone);
    }

    #[test]
    fn a_store_with_a_ceiling_is_told_no_more_than_that() {
        let short = Limits::new(250, 1).with_ttl_max_ms(5000);
        assert_eq!(Life::new(60, 0).unwrap().for_store(&short), Ttl::from_ms(5000).unwrap());
        assert_eq!(Life::new(60, 30_000).unwrap().for_store(&Limits::new(250, 1)), Ttl::from_ms(90_000).unwrap());
        assert_eq!(Life::new(0, 0).unwrap().for_store(&short), Ttl::Never);
    }
}
