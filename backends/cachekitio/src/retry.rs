//! When a request is sent again, and after which pause.
//!
//! By itself this client does what the protocol's clients do: a write or a delete that meets 503 with a `Retry-After` of at
//! most two seconds is sent once more. With `max_retries` an operator asks for more: then everything that may pass is tried
//! again, except the taking of a lease, which may have happened. A pause that would outlast the deadline is not begun.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cachekit_plugin::{Kind, Retry};
use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};

use crate::error::{Refusal, ServiceError};
use crate::headers::DENY_REASON;

/// How a pause is spent: by sleeping, or by a test that notes it.
pub(crate) type Pause = Arc<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The longest pause a server may ask for. Beyond it the error is the better answer.
const LONGEST_ASKED: Duration = Duration::from_secs(2);
/// First pause where the server asks for none; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Where the doubling ends.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a request allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Sent twice it does what it does sent once, and the protocol says so: PUT and DELETE of an entry.
    Write,
    /// Sent twice it does no harm.
    Harmless,
    /// Sent twice it may do something else.
    Never,
}

/// When a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// `max_retries`, if it was given.
    pub(crate) asked: Option<u32>,
}

impl Policy {
    /// The pause before attempt number `next` (1 is the first repetition), or `None` if `error` is the answer.
    pub(crate) fn pause(self, next: u32, again: Again, error: &ServiceError) -> Option<Duration> {
        let refusal = match error {
            ServiceError::Status(refusal) => Some(refusal),
            _ => None,
        };
        let asked_for = refusal.and_then(|refusal| refusal.retry_after);
        match self.asked {
            None => {
                let unavailable = refusal.is_some_and(|refusal| refusal.status == StatusCode::SERVICE_UNAVAILABLE);
                let may = next == 1 && again == Again::Write && unavailable;
                asked_for.filter(|pause| may && *pause <= LONGEST_ASKED)
            }
            Some(max) => {
                if next > max || again == Again::Never || !may_pass(error) {
                    return None;
                }
                match asked_for {
                    Some(pause) => (pause <= LONGEST_ASKED).then_some(pause),
                    None => Some(jittered(FIRST_PAUSE.saturating_mul(1 << (next - 1).min(10)).min(LONGEST_PAUSE))),
                }
            }
        }
    }
}

fn may_pass(error: &ServiceError) -> bool {
    let (kind, retry) = error.class();
    // The exchange's own time limit may pass as well; the deadline around all attempts never comes here.
    matches!(kind, Kind::Transient | Kind::Throttled | Kind::Timeout) && retry != Some(Retry::No)
}

/// Between half and one and a half of `pause`, so that clients that failed together do not return together.
fn jittered(pause: Duration) -> Duration {
    // Every state of the hasher begins with other keys from the operating system.
    let random = RandomState::new().hash_one(0_u8) >> 11;
    pause.mul_f64(0.5 + random as f64 / (1_u64 << 53) as f64)
}

/// What an answer that is none of the expected ones says.
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap) -> Refusal {
    let retry_after = headers.get(RETRY_AFTER).and_then(plain_seconds);
    Refusal { status, retry_after, denied: headers.contains_key(DENY_REASON) }
}

/// Plain digits alone: a date would have to be compared with a clock that may be wrong.
fn plain_seconds(value: &HeaderValue) -> Option<Duration> {
    let digits = value.as_bytes();
    let plain = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let text = plain.then(|| value.to_str().ok()).flatten()?;
    text.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> ServiceError {
        let status = StatusCode::from_u16(status).unwrap();
        let retry_after = retry_after.map(Duration::from_secs);
        ServiceError::Status(Refusal { status, retry_after, denied: false })
    }

    #[test]
    fn by_itself_only_a_write_is_sent_again_and_only_once() {
        let policy = Policy { asked: None };
        assert_eq!(policy.pause(1, Again::Write, &status(503, Some(2))), Some(Duration::from_secs(2)));
        assert_eq!(policy.pause(1, Again::Write, &status(503, Some(0))), Some(Duration::ZERO));
        for (next, again, error) in [
            (2, Again::Write, status(503, Some(1))),
            (1, Again::Write, status(503, Some(3))),
            (1, Again::Write, status(503, None)),
            (1, Again::Write, status(502, Some(1))),
            (1, Again::Write, status(429, Some(1))),
            (1, Again::Harmless, status(503, Some(1))),
            (1, Again::Never, status(503, Some(1))),
        ] {
            assert_eq!(policy.pause(next, again, &error), None, "{next} {again:?} {error}");
        }
    }

    #[test]
    fn asked_for_retries_cover_what_may_pass_and_end() {
        let policy = Policy { asked: Some(2) };
        for error in [status(503, None), status(500, None), status(429, None)] {
            let first = policy.pause(1, Again::Harmless, &error).unwrap();
            assert!((50..150).contains(&first.as_millis()), "{first:?}");
            assert!(policy.pause(2, Again::Write, &error).unwrap() >= Duration::from_millis(100));
            assert_eq!(policy.pause(3, Again::Harmless, &error), None);
            assert_eq!(policy.pause(1, Again::Never, &error), None);
        }
        assert_eq!(policy.pause(1, Again::Harmless, &status(401, None)), None);
        assert_eq!(policy.pause(1, Again::Harmless, &status(503, Some(60))), None, "a minute is no pause");
        let denied = ServiceError::Status(Refusal {
            status: StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(Duration::from_secs(1)),
            denied: true,
        });
        assert_eq!(policy.pause(1, Again::Harmless, &denied), None, "a quota does not come back by asking");
        assert_eq!(
            Policy { asked: Some(0) }.pause(1, Again::Write, &status(503, Some(1))),
            None,
            "0 means none at all"
        );
    }

    #[test]
    fn only_plain_seconds_are_read() {
        for (text, seconds) in [("0", Some(0)), ("2", Some(2)), ("+2", None), ("-1", None), ("1.5", None), ("", None)] {
            let value = HeaderValue::from_static(text);
            assert_eq!(plain_seconds(&value), seconds.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(plain_seconds(&HeaderValue::from_static("Wed, 21 Oct 2026 07:28:00 GMT")), None);
    }
}
