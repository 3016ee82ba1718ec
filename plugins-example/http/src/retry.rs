//! When a request is sent again, and after which pause.
//!
//! What it protects: a server that is already struggling. Every request earns a tenth of a repetition, so repetitions stay
//! below ten per cent however long an outage is; a server that names a pause gets it; clients that failed together do not
//! come back together. The cache above retries as well, with a budget of its own: this one is for a single lost packet.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cachekit_plugin::{Kind, Retry};
use reqwest::Method;

use crate::error::HttpError;

/// What a repetition costs, in tenths of one.
const PRICE: u32 = 10;
/// Repetitions that can be saved up, in tenths.
const SAVED: u32 = 10 * PRICE;
/// The longest pause a server may ask for. Beyond it the error, which carries the pause, is the better answer.
const LONGEST_ASKED: Duration = Duration::from_secs(2);
/// First pause where the server asks for none; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// Counts what may be repeated.
#[derive(Debug)]
pub(crate) struct Retries {
    most: u32,
    tenths: AtomicU32,
}

impl Retries {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, tenths: AtomicU32::new(SAVED) }
    }

    /// A request is made that is no repetition.
    pub(crate) fn earn(&self) {
        let _ = self
            .tenths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| (tenths < SAVED).then(|| tenths + 1));
    }

    /// The pause before repetition number `next` (from 1), or `None` if `error` is the answer.
    pub(crate) fn pause(&self, next: u32, method: &Method, error: &HttpError) -> Option<Duration> {
        let (kind, retry) = error.class();
        let may_pass = matches!(kind, Kind::Transient | Kind::Throttled | Kind::Timeout) && retry != Some(Retry::No);
        if next > self.most || !may_pass || !is_harmless(method, error) {
            return None;
        }
        let pause = match error.asked_pause() {
            Some(asked) => Some(asked).filter(|asked| *asked <= LONGEST_ASKED)?,
            None => jittered(FIRST_PAUSE * (1 << next.min(6))),
        };
        let paid = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| tenths.checked_sub(PRICE));
        paid.is_ok().then_some(pause)
    }
}

/// Whether the request may arrive twice.
fn is_harmless(method: &Method, error: &HttpError) -> bool {
    match *method {
        Method::GET | Method::HEAD | Method::PUT => true,
        // The second of two deletes finds nothing, and would say so of the first.
        _ => error.surely_not_done(),
    }
}

/// Between half and all of `pause`.
fn jittered(pause: Duration) -> Duration {
    // Every state of the hasher begins with other keys from the operating system.
    let random = RandomState::new().hash_one(0_u8) >> 11;
    pause.mul_f64(0.5 + 0.5 * random as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::*;
    use crate::config::StatusConfig;
    use crate::status::Failures;

    fn status(status: u16, retry_after: Option<&'static str>) -> HttpError {
        let headers: HeaderMap =
            retry_after.map(|text| (RETRY_AFTER, HeaderValue::from_static(text))).into_iter().collect();
        let failures = Failures::new(&StatusConfig::default()).unwrap();
        HttpError::Status(failures.refusal(StatusCode::from_u16(status).unwrap(), &headers))
    }

    #[test]
    fn only_what_may_pass_and_does_no_harm_is_repeated() {
        let retries = Retries::new(2);
        for (method, error, repeated) in [
            (Method::GET, status(503, None), true),
            (Method::PUT, status(500, None), true),
            (Method::GET, HttpError::Late, true),
            (Method::DELETE, status(503, None), false),
            (Method::DELETE, status(429, Some("0")), true),
            (Method::POST, HttpError::Late, false),
            (Method::POST, status(429, Some("1")), true),
            (Method::GET, status(401, None), false),
            (Method::GET, status(404, None), false),
            (Method::GET, status(429, Some("60")), false),
            (Method::GET, HttpError::Corrupt("nonsense"), false),
        ] {
            assert_eq!(retries.pause(1, &method, &error).is_some(), repeated, "{method} {error}");
        }
        assert_eq!(retries.pause(3, &Method::GET, &status(503, None)), None, "no more than `retries`");
        assert_eq!(Retries::new(0).pause(1, &Method::GET, &status(503, None)), None);
    }

    #[test]
    fn an_outage_is_met_by_one_repetition_in_ten_requests() {
        let retries = Retries::new(1);
        let mut repeated = 0;
        for _ in 0..1000 {
            retries.earn();
            repeated += usize::from(retries.pause(1, &Method::GET, &status(503, None)).is_some());
        }
        assert!((100..=110).contains(&repeated), "{repeated}");
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_to_and_others_differ() {
        let retries = Retries::new(5);
        assert_eq!(retries.pause(1, &Method::GET, &status(503, Some("1"))), Some(Duration::from_secs(1)));
        let pauses: Vec<_> =
            (1..4).map(|next| retries.pause(next, &Method::GET, &status(503, None)).unwrap()).collect();
        assert!(pauses[0] >= FIRST_PAUSE && pauses[2] >= FIRST_PAUSE * 4, "{pauses:?}");
    }

    #[test]
    fn clients_that_failed_together_do_not_come_back_together() {
        let retries = Retries::new(1);
        let pauses: Vec<_> = (0..8).map(|_| retries.pause(1, &Method::GET, &status(503, None)).unwrap()).collect();
        assert!(pauses.iter().all(|pause| (FIRST_PAUSE..=FIRST_PAUSE * 2).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }
}
