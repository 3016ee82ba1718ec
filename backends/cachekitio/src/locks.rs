//! The service names a lease, our callers do too: which of its names belongs to which of theirs.
//!
//! The protocol answers a taken lease with an id and wants it back to end the lease, while the contract's callers come with
//! a token of their own. The pairs are kept here, for as long as the lease can last, and no more of them than a bound: a
//! pair that was dropped costs its holder the early end of the lease, which then ends by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::sync::watch;

/// Leases held at the same time through one instance. A cache fills that many keys at once only in a stampede.
const MAX_LEASES: usize = 4096;

/// Longest id that is kept, bytes; those of the family are 36.
const MAX_ID_BYTES: usize = 256;

/// Whose lease of which key.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Holder {
    key: Box<[u8]>,
    token: Box<[u8]>,
}

struct Lease {
    id: HeaderValue,
    /// When the service ends it by itself, at the latest.
    ends: Instant,
}

/// An id as it is given back, if it is one that can be.
pub(crate) fn as_header(id: &str) -> Option<HeaderValue> {
    let plain = (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let mut id = plain.then(|| HeaderValue::from_str(id).ok()).flatten()?;
    // Whoever has it can end the lease.
    id.set_sensitive(true);
    Some(id)
}

/// The leases held through one instance.
#[derive(Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<Holder, Lease>>,
    asked: Arc<Mutex<HashMap<Holder, watch::Receiver<()>>>>,
}

/// A lease that is being asked for, until this is dropped. As many of them as there are exchanges.
pub(crate) struct Asking {
    asked: Arc<Mutex<HashMap<Holder, watch::Receiver<()>>>>,
    holder: Holder,
    done: watch::Sender<()>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may ask under the same names by now.
        if asked.get(&self.holder).is_some_and(|receiver| receiver.same_channel(&self.done.subscribe())) {
            asked.remove(&self.holder);
        }
    }
}

/// A lease on its way back. Dropped before the service has answered, it is kept again for whoever tries once more.
pub(crate) struct Taken<'a> {
    leases: &'a Leases,
    pub(crate) id: HeaderValue,
    back: Option<(Holder, Lease)>,
}

impl Taken<'_> {
    /// The service has answered.
    pub(crate) fn over(mut self) {
        self.back = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some((holder, lease)) = self.back.take() {
            self.leases.held.lock().unwrap_or_else(PoisonError::into_inner).entry(holder).or_insert(lease);
        }
    }
}

impl Leases {
    /// Notes that a lease is being asked for.
    pub(crate) fn asking(&self, key: &[u8], token: &[u8]) -> Asking {
        let holder = Holder { key: key.into(), token: token.into() };
        let (done, ended) = watch::channel(());
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(holder.clone(), ended);
        Asking { asked: Arc::clone(&self.asked), holder, done }
    }

    /// What ends with the question, if one is under way.
    pub(crate) fn asked(&self, key: &[u8], token: &[u8]) -> Option<watch::Receiver<()>> {
        let holder = Holder { key: key.into(), token: token.into() };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(&holder).cloned()
    }

    /// Keeps what was taken.
    pub(crate) fn keep(&self, key: &[u8], token: &[u8], id: HeaderValue, now: Instant, hold: Duration) {
        let ends = now.checked_add(hold).unwrap_or(now);
        let mut leases = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if leases.len() >= MAX_LEASES {
            leases.retain(|_, lease| lease.ends > now);
        }
        if leases.len() >= MAX_LEASES {
            let first = leases.values().map(|lease| lease.ends).min();
            leases.retain(|_, lease| Some(lease.ends) != first);
        }
        leases.insert(Holder { key: key.into(), token: token.into() }, Lease { id, ends });
    }

    /// Takes out what was kept, to give it back.
    pub(crate) fn take(&self, key: &[u8], token: &[u8]) -> Option<Taken<'_>> {
        let holder = Holder { key: key.into(), token: token.into() };
        let lease = self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&holder)?;
        Some(Taken { leases: self, id: lease.id.clone(), back: Some((holder, lease)) })
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(30);
    const ID: HeaderValue = HeaderValue::from_static("id-1");

    #[test]
    fn a_lease_is_given_back_once_and_under_its_own_name_only() {
        let (leases, now) = (Leases::default(), Instant::now());
        leases.keep(b"key", b"token", ID, now, HOLD);
        assert!(leases.take(b"key", b"other").is_none());
        assert!(leases.take(b"other", b"token").is_none());
        let taken = leases.take(b"key", b"token").unwrap();
        assert_eq!(taken.id, "id-1");
        assert!(leases.take(b"key", b"token").is_none());
        taken.over();
        assert!(leases.take(b"key", b"token").is_none());
    }

    #[test]
    fn a_lease_whose_return_nobody_answered_can_be_given_back_once_more() {
        let (leases, now) = (Leases::default(), Instant::now());
        leases.keep(b"key", b"token", ID, now, HOLD);
        drop(leases.take(b"key", b"token").unwrap());
        assert_eq!(leases.take(b"key", b"token").unwrap().id, "id-1");
    }

    #[test]
    fn an_id_that_fits_no_header_is_no_lease() {
        assert_eq!(as_header("id-1").unwrap(), "id-1");
        for id in ["", "a b", "a\r\nX: y", "\u{17c}", &"x".repeat(257)] {
            assert_eq!(as_header(id), None, "{id:?}");
        }
    }

    #[test]
    fn as_many_leases_are_kept_as_the_bound_allows_and_ended_ones_go_first() {
        let (leases, now) = (Leases::default(), Instant::now());
        for number in 0..MAX_LEASES {
            let hold = if number == 7 { Duration::ZERO } else { HOLD + Duration::from_millis(number as u64) };
            leases.keep(&number.to_be_bytes(), b"token", ID, now, hold);
        }
        leases.keep(b"next", b"token", ID, now, HOLD * 2);
        assert!(leases.take(&7_usize.to_be_bytes(), b"token").is_none(), "the one that had ended went");
        leases.take(&0_usize.to_be_bytes(), b"token").unwrap().over();
        leases.keep(b"a", b"token", ID, now, HOLD * 2);
        leases.keep(b"b", b"token", ID, now, HOLD * 2);
        assert!(leases.take(&1_usize.to_be_bytes(), b"token").is_none(), "then the one that ends first");
        assert!(leases.held.lock().unwrap().len() <= MAX_LEASES);
    }

    #[test]
    fn a_hold_without_end_does_not_overflow() {
        let leases = Leases::default();
        leases.keep(b"key", b"token", ID, Instant::now(), Duration::MAX);
        assert!(leases.take(b"key", b"token").is_some());
    }

    #[test]
    fn what_is_asked_for_is_known_until_that_has_ended() {
        let leases = Leases::default();
        let first = leases.asking(b"key", b"token");
        let second = leases.asking(b"key", b"token");
        drop(first);
        let asked = leases.asked(b"key", b"token").expect("the second is under way");
        assert!(asked.has_changed().is_ok() && leases.asked(b"key", b"other").is_none());
        drop(second);
        assert!(asked.has_changed().is_err() && leases.asked(b"key", b"token").is_none());
    }
}
