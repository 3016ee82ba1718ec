//! One refresh per key, and none for a while after one has failed.
//!
//! Beside the flights (`guard/flight.rs`), because a refresh is noted before its task begins, and a failure afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cachekit_plugin::fork;

use crate::l1::KeyHash;

/// Keys whose failures are remembered. Beyond it the memory is cleared: a source that fails for so many keys is paused for
/// by its breaker, not by this.
const MAX_FAILURES: usize = 4096;

#[derive(Default)]
pub(crate) struct Underway {
    marks: Mutex<Marks>,
}

#[derive(Default)]
struct Marks {
    /// The process these refreshes run in; 0 until there is one.
    process: Option<u32>,
    next: u64,
    by_key: HashMap<u64, Mark>,
}

#[derive(Clone, Copy)]
enum Mark {
    Running { id: u64 },
    FailedUntil { coarse_ms: u64 },
}

/// A refresh of one key. Dropped before it is [settled](Self::settle) it has failed: it was cancelled, or it panicked.
pub(crate) struct Refreshing {
    underway: Arc<Underway>,
    hash: KeyHash,
    id: u64,
}

impl Underway {
    /// Notes a refresh, unless one is under way or has failed just now.
    pub(crate) fn begin(self: &Arc<Self>, hash: KeyHash, now_ms: u64) -> Option<Refreshing> {
        let mut marks = self.lock();
        match marks.by_key.get(&hash.as_u64()) {
            Some(Mark::Running { .. }) => return None,
            Some(Mark::FailedUntil { coarse_ms }) if now_ms < *coarse_ms => return None,
            _ => {}
        }
        let id = marks.next;
        marks.next += 1;
        marks.by_key.insert(hash.as_u64(), Mark::Running { id });
        Some(Refreshing { underway: Arc::clone(self), hash, id })
    }

    /// Nothing that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, Marks> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let process = Some(fork::generation());
        if marks.process != process {
            // What a parent process refreshes is not refreshed here.
            marks.by_key.clear();
            marks.process = process;
        }
        marks
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().by_key.len()
    }
}

impl Refreshing {
    /// It has ended well.
    pub(crate) fn settle(self) {
        // The rest is what happens to every refresh that goes.
    }

    /// It has failed: the key is left alone until then.
    pub(crate) fn fail(self, until_ms: u64) {
        let mut marks = self.underway.lock();
        if marks.by_key.len() >= MAX_FAILURES {
            marks.by_key.retain(|_, mark| matches!(mark, Mark::Running { .. }));
        }
        if let Some(mark) = marks.by_key.get_mut(&self.hash.as_u64())
            && matches!(mark, Mark::Running { id } if *id == self.id)
        {
            *mark = Mark::FailedUntil { coarse_ms: until_ms };
        }
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        let mut marks = self.underway.lock();
        let is_mine = matches!(marks.by_key.get(&self.hash.as_u64()), Some(Mark::Running { id }) if *id == self.id);
        if is_mine {
            marks.by_key.remove(&self.hash.as_u64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_refresh_at_a_time_and_rests_after_a_failure() {
        let underway = Arc::new(Underway::default());
        let hash = KeyHash::from_raw(7);
        let first = underway.begin(hash, 0).unwrap();
        assert!(underway.begin(hash, 0).is_none());
        assert!(underway.begin(KeyHash::from_raw(8), 0).is_some());
        first.settle();
        underway.begin(hash, 0).unwrap().fail(100);
        assert!(underway.begin(hash, 99).is_none());
        drop(underway.begin(hash, 100).unwrap());
        assert_eq!(underway.len(), 0);
    }

    #[test]
    fn failures_are_forgotten_before_they_fill_the_memory() {
        let underway = Arc::new(Underway::default());
        for key in 0..3 * MAX_FAILURES as u64 {
            underway.begin(KeyHash::from_raw(key), 0).unwrap().fail(u64::MAX);
        }
        assert!(underway.len() <= MAX_FAILURES);
    }
}
