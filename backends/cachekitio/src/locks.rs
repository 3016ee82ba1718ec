//! The service names a lease, our callers do too: which of its names belongs to which of theirs.
//!
//! The protocol answers a taken lease with an id and wants it back to end the lease, while the contract's callers come with
//! a token of their own. The pairs are kept here, for as long as the lease can last, and no more of them than a bound: a
//! pair that was dropped costs its holder the early end of the lease, which then ends by itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;

/// Leases held at the same time through one instance. A cache fills that many keys at once only in a stampede.
const MAX_LEASES: usize = 4096;

/// Longest id that is kept, bytes; those of the family are 36.
const MAX_ID_BYTES: usize = 256;

/// Whose lease of which key.
#[derive(PartialEq, Eq, Hash)]
struct Holder {
    key: Box<[u8]>,
    token: Box<[u8]>,
}

struct Lease {
    id: HeaderValue,
    /// When the service ends it by itself, at the latest.
    ends: Instant,
}

/// The leases held through one instance.
#[derive(Default)]
pub(crate) struct Leases(Mutex<HashMap<Holder, Lease>>);

impl Leases {
    /// Keeps what was taken; `false` if the id is none that could be given back.
    pub(crate) fn keep(&self, key: &[u8], token: &[u8], id: &str, now: Instant, hold: Duration) -> bool {
        let plain = (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        let Some(mut id) = plain.then(|| HeaderValue::from_str(id).ok()).flatten() else { return false };
        // Whoever has it can end the lease.
        id.set_sensitive(true);
        let ends = now.checked_add(hold).unwrap_or(now);
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if leases.len() >= MAX_LEASES {
            leases.retain(|_, lease| lease.ends > now);
        }
        if leases.len() >= MAX_LEASES {
            let first = leases.values().map(|lease| lease.ends).min();
            leases.retain(|_, lease| Some(lease.ends) != first);
        }
        leases.insert(Holder { key: key.into(), token: token.into() }, Lease { id, ends });
        true
    }

    /// Takes out what was kept, to give it back.
    pub(crate) fn take(&self, key: &[u8], token: &[u8]) -> Option<HeaderValue> {
        let holder = Holder { key: key.into(), token: token.into() };
        Some(self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&holder)?.id)
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(30);

    #[test]
    fn a_lease_is_given_back_once_and_under_its_own_name_only() {
        let (leases, now) = (Leases::default(), Instant::now());
        assert!(leases.keep(b"key", b"token", "id-1", now, HOLD));
        assert_eq!(leases.take(b"key", b"other"), None);
        assert_eq!(leases.take(b"other", b"token"), None);
        assert_eq!(leases.take(b"key", b"token").unwrap(), "id-1");
        assert_eq!(leases.take(b"key", b"token"), None);
    }

    #[test]
    fn an_id_that_fits_no_header_is_no_lease() {
        let leases = Leases::default();
        for id in ["", "a b", "a\r\nX: y", "\u{17c}", &"x".repeat(257)] {
            assert!(!leases.keep(b"key", b"token", id, Instant::now(), HOLD), "{id:?}");
        }
    }

    #[test]
    fn as_many_leases_are_kept_as_the_bound_allows_and_ended_ones_go_first() {
        let (leases, now) = (Leases::default(), Instant::now());
        for number in 0..MAX_LEASES {
            let hold = if number == 7 { Duration::ZERO } else { HOLD + Duration::from_millis(number as u64) };
            leases.keep(&number.to_be_bytes(), b"token", "id", now, hold);
        }
        leases.keep(b"next", b"token", "id", now, HOLD * 2);
        assert_eq!(leases.take(&7_usize.to_be_bytes(), b"token"), None, "the one that had ended went");
        assert!(leases.take(&0_usize.to_be_bytes(), b"token").is_some());
        leases.keep(b"a", b"token", "id", now, HOLD * 2);
        leases.keep(b"b", b"token", "id", now, HOLD * 2);
        assert_eq!(leases.take(&1_usize.to_be_bytes(), b"token"), None, "then the one that ends first");
        assert!(leases.0.lock().unwrap().len() <= MAX_LEASES);
    }

    #[test]
    fn a_hold_without_end_does_not_overflow() {
        assert!(Leases::default().keep(b"key", b"token", "id", Instant::now(), Duration::MAX));
    }
}
