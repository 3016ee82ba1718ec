//! The guard on what is kept: a number that moves on with every write, deletion and change that is told.
//!
//! Whoever fills L1 with something that it read or loaded noted the number before it began, and keeps nothing if the number is
//! another one by then. Locked for a few nanoseconds: to count, to look, or to look *and* keep. An atomic would leave a gap
//! between the last two, through which an old value slips in after a newer one was reported as stored.
//!
//! Apart from the rest of this module because `tests/models` runs this file under every order of its steps, and breaks it.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(super) struct Generation(Mutex<Noted>);

/// The number as it was at some time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    /// Of everything that counts.
    all: u64,
    /// Of that, what this process did itself. It may not have come to the store, so a fence there does not see it.
    own: u64,
}

impl Noted {
    /// Nothing ever counted.
    pub(super) fn is_first(self) -> bool {
        self == Self::default()
    }

    /// Whether this process did nothing between the two, whatever others did.
    pub(super) fn is_undisturbed_here(self, before: Self) -> bool {
        self.own == before.own
    }
}

impl Generation {
    /// What to note before reading or loading.
    pub(super) fn note(&self) -> Noted {
        *self.lock()
    }

    /// Makes everything that is on its way too late.
    pub(super) fn advance(&self) {
        let mut now = self.lock();
        now.all += 1;
        now.own += 1;
    }

    /// The same for a change by others, which the store has for certain.
    pub(super) fn tell(&self) {
        self.lock().all += 1;
    }

    /// Runs `keep` if the number is still the noted one, and lets nothing come in between.
    pub(super) fn keep_if_still<T>(&self, noted: Noted, keep: impl FnOnce() -> T) -> Option<T> {
        let now = self.lock();
        (*now == noted).then(keep)
    }

    /// Ends a write that has landed: makes too late what saw the store before it, and returns what its value may be kept
    /// under, unless somebody wrote or told of a change since it noted `mine`.
    pub(super) fn settle(&self, mine: Noted) -> Option<Noted> {
        let mut now = self.lock();
        let is_newest = *now == mine;
        now.all += 1;
        now.own += 1;
        is_newest.then_some(*now)
    }

    /// Only numbers change under this lock, so a panic leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
