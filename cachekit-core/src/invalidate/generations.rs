//! The guard on what is kept: a number that moves on with every write, deletion and change that is told.
//!
//! Whoever fills L1 with something that it read or loaded noted the number before it began, and keeps nothing if the number is
//! another one by then. Locked for a few nanoseconds: to count, to look, or to look *and* keep. An atomic would leave a gap
//! between the last two, through which an old value slips in after a newer one was reported as stored.
//!
//! Apart from the rest of this module because `tests/models` runs this file under every order of its steps, and breaks it.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(super) struct Generation(Mutex<u64>);

impl Generation {
    /// What to note before reading or loading.
    pub(super) fn note(&self) -> u64 {
        *self.lock()
    }

    /// Makes everything that is on its way too late.
    pub(super) fn advance(&self) {
        *self.lock() += 1;
    }

    /// Runs `keep` if the number is still the noted one, and lets nothing come in between.
    pub(super) fn keep_if_still<T>(&self, noted: u64, keep: impl FnOnce() -> T) -> Option<T> {
        let generation = self.lock();
        (*generation == noted).then(keep)
    }

    /// Ends a write that has landed: makes too late what saw the store before it, and returns what its value may be kept
    /// under, unless somebody wrote or told of a change since it noted `mine`.
    pub(super) fn settle(&self, mine: u64) -> Option<u64> {
        let mut generation = self.lock();
        let is_newest = *generation == mine;
        *generation += 1;
        is_newest.then_some(*generation)
    }

    /// Only a number changes under this lock, so a panic leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
