//! By how much the entries' weights exceed their charges: what has to be taken off to tell how many bytes are held.
//!
//! With a bound on the number of entries a light entry weighs more than it is charged for (`policy.rs`). The store adds up
//! weights; this adds up the differences. It is raised before an insert and lowered after a departure, so that at no moment it
//! is too small, and what is reported never more than what is held, nor more than the bound.

use std::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Slack(AtomicU64);

impl Slack {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Inserts an entry of so much slack.
    pub(super) fn inserting<T>(&self, by: u64, insert: impl FnOnce() -> T) -> T {
        // Without a bound on the number there is none, and inserts of all threads share no counter.
        if by > 0 {
            self.0.fetch_add(by, Ordering::Relaxed);
        }
        insert()
    }

    /// An entry has left.
    pub(super) fn lower(&self, by: u64) {
        if by > 0 {
            self.0.fetch_sub(by, Ordering::Relaxed);
        }
    }

    /// The bytes that entries of this weight are charged for, or less while others are at work.
    pub(super) fn bytes(&self, weight: u64) -> u64 {
        weight.saturating_sub(self.0.load(Ordering::Relaxed))
    }
}
