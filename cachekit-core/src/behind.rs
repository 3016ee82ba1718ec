//! Values that were accepted and are not in the second tier yet.
//!
//! It protects callers of a slow store from its slowness, and the host from what that costs: at most so many values and bytes
//! wait, and what does not fit goes through as it always did. One value waits per key, the newest. A reader that misses L1
//! looks here before it asks the store, so nobody in this process sees what is older than what was accepted.
//!
//! Nothing here knows the store. Who writes does it in the turn of the key (`invalidate/`), and asks *within* the turn what
//! is to be written: what was deleted, cleared or replaced until then is never written.
//!
//! A child made by `fork()` begins with nothing: what waits is its parent's to write.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::fork;
use serde::Serialize;
use tokio::sync::Notify;

use crate::cache::At;
use crate::codec::Times;
use crate::invalidate::NamespaceSlot;

/// Tasks of one cache that write behind, at most.
const LANES: usize = 16;
/// Bytes that a waiting value is counted with beside its own and its key's: its place in the tables.
const OVERHEAD: u64 = 256;
/// Longest pause between two attempts.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How much may wait to be written to the second tier, and how often that is tried. See
/// [`CacheBuilder::write_behind`](crate::CacheBuilder::write_behind).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteBehind {
    /// Most bytes that wait, keys and tables included (16 MiB).
    pub max_bytes: u64,
    /// Most values that wait (10 000).
    pub max_entries: usize,
    /// How often a write that failed is tried again, each time behind the guards and their retries, until the value is given
    /// up (8). At most 100.
    pub attempts: u32,
    /// The pause before the first of them (100 ms); doubled each time, up to 5 s.
    pub pause: Duration,
}

impl Default for WriteBehind {
    fn default() -> Self {
        Self { max_bytes: 16 << 20, max_entries: 10_000, attempts: 8, pause: Duration::from_millis(100) }
    }
}

impl WriteBehind {
    /// Most attempts after the first.
    pub(crate) const MAX_ATTEMPTS: u32 = 100;

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        match () {
            () if self.max_bytes == 0 => Err("max_bytes must be at least 1"),
            () if self.max_entries == 0 => Err("max_entries must be at least 1"),
            () if self.attempts > Self::MAX_ATTEMPTS => Err("attempts must be at most 100"),
            () if self.pause.is_zero() || self.pause > LONGEST_PAUSE => Err("pause must be more than 0 and at most 5s"),
            () => Ok(()),
        }
    }

    /// The pause after so many failures.
    pub(crate) fn pause_after(&self, failures: u32) -> Duration {
        self.pause.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
    }
}

/// What waits at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BehindStats {
    /// Values that wait to be written to the second tier.
    pub entries: u64,
    /// Their bytes, with their keys and the tables they wait in.
    pub bytes: u64,
}

/// The values of one cache that wait.
pub(crate) struct Pending {
    pub(crate) config: Option<WriteBehind>,
    state: Mutex<State>,
    /// Something was written, given up, or is due again.
    pub(crate) changed: Notify,
    /// What is left out, to see what it is good for.
    #[cfg(test)]
    pub(crate) careless: std::sync::Mutex<Option<Careless>>,
}

#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Careless {
    /// Nothing is taken off the list by who writes or deletes.
    Supersede,
    /// Nobody looks at the list.
    Find,
}

#[derive(Default)]
struct State {
    process: u32,
    closed: bool,
    /// Counts what was accepted: the order of values.
    sequence: u64,
    bytes: u64,
    lanes: usize,
    waiting: HashMap<Box<[u8]>, Waiting>,
    /// The orders of the values that wait, so that the oldest is known without a look at all of them.
    order: BTreeSet<u64>,
    due: VecDeque<Box<[u8]>>,
}

struct Waiting {
    value: Accepted,
    /// Clearings under way that will remove it.
    held: u32,
    /// Somebody is writing it, or what stood here before.
    taken: bool,
    failures: u32,
}

/// A value that was accepted.
#[derive(Clone)]
pub(crate) struct Accepted {
    pub(crate) at: At,
    pub(crate) slot: NamespaceSlot,
    pub(crate) stored: Bytes,
    pub(crate) times: Times,
    sequence: u64,
}

impl Accepted {
    pub(crate) const fn new(at: At, slot: NamespaceSlot, stored: Bytes, times: Times) -> Self {
        Self { at, slot, stored, times, sequence: 0 }
    }

    fn size(&self) -> u64 {
        (self.stored.len() + 2 * self.at.wire.as_bytes().len()) as u64 + OVERHEAD
    }
}

/// A key that somebody writes; given back however that ends.
pub(crate) struct Job {
    pending: Arc<Pending>,
    process: u32,
    pub(crate) at: At,
    pub(crate) slot: NamespaceSlot,
}

/// The right to be a task that writes.
pub(crate) struct Lane {
    pending: Arc<Pending>,
    process: u32,
    left: bool,
}

/// A clearing under way: what it will remove is still read, and not written meanwhile.
pub(crate) struct Held<'a> {
    pending: &'a Pending,
    prefix: &'a [u8],
    until: u64,
    cleared: bool,
}

impl Pending {
    pub(crate) fn new(config: Option<WriteBehind>) -> Self {
        let state = State { process: fork::generation(), ..State::default() };
        Self {
            config,
            state: Mutex::new(state),
            changed: Notify::new(),
            #[cfg(test)]
            careless: Mutex::default(),
        }
    }

    /// Takes a value, in place of an older one of its key; `false` if there is no room.
    pub(crate) fn accept(&self, value: Accepted) -> bool {
        let Some(config) = self.config else { return false };
        Self::accept_in(&mut self.lock(), config, value)
    }

    /// Takes a value that a write which went through could not store, if something waits that was accepted until then; `false`
    /// if nothing does, if that is newer, or if there is no room.
    pub(crate) fn replace(&self, value: Accepted, until: u64) -> bool {
        let Some(config) = self.config else { return false };
        let mut state = self.lock();
        let waits = |waiting: &Waiting| waiting.value.sequence <= until;
        state.waiting.get(value.at.wire.as_bytes()).is_some_and(waits) && Self::accept_in(&mut state, config, value)
    }

    fn accept_in(state: &mut State, config: WriteBehind, mut value: Accepted) -> bool {
        let key: Box<[u8]> = value.at.wire.as_bytes().into();
        let old = state.waiting.get(&key).map_or(0, |old| old.value.size());
        let bytes = state.bytes - old + value.size();
        let entries = state.waiting.len() + usize::from(old == 0);
        if state.closed || bytes > config.max_bytes || entries > config.max_entries {
            return false;
        }
        state.sequence += 1;
        value.sequence = state.sequence;
        state.bytes = bytes;
        state.order.insert(value.sequence);
        match state.waiting.get_mut(&key) {
            Some(waiting) => {
                state.order.remove(&waiting.value.sequence);
                let was_held = std::mem::take(&mut waiting.held) > 0;
                (waiting.value, waiting.failures) = (value, 0);
                // What is held was taken out of the queue.
                if was_held && !waiting.taken {
                    state.due.push_back(key);
                    state.compact();
                }
            }
            None => {
                state.waiting.insert(key.clone(), Waiting { value, held: 0, taken: false, failures: 0 });
                state.due.push_back(key);
                state.compact();
            }
        }
        true
    }

    /// What was accepted for a key and is not in the store yet.
    pub(crate) fn find(&self, wire: &[u8]) -> Option<Bytes> {
        self.config?;
        #[cfg(test)]
        if *self.careless.lock().unwrap() == Some(Careless::Find) {
            return None;
        }
        self.lock().waiting.get(wire).map(|waiting| waiting.value.stored.clone())
    }

    /// What to write for a key now: asked within its turn. With how often that failed.
    pub(crate) fn current(&self, wire: &[u8]) -> Option<Accepted> {
        let state = self.lock();
        let waiting = state.waiting.get(wire)?;
        (waiting.held == 0).then(|| waiting.value.clone())
    }

    /// It is written, or not wanted any more. A newer one of its key stays.
    pub(crate) fn done(&self, value: &Accepted) -> bool {
        self.lock().remove_until(value.at.wire.as_bytes(), value.sequence)
    }

    /// A write failed; how many have by now. `None`: there is a newer value, or none.
    pub(crate) fn failed(&self, value: &Accepted) -> Option<u32> {
        let mut state = self.lock();
        let waiting = state.waiting.get_mut(value.at.wire.as_bytes())?;
        if waiting.value.sequence != value.sequence {
            return None;
        }
        waiting.failures += 1;
        Some(waiting.failures)
    }

    /// The order of the last value that was accepted: noted in the turn of a key by who writes or deletes it.
    pub(crate) fn mark(&self) -> u64 {
        if self.config.is_none() { 0 } else { self.lock().sequence }
    }

    /// Something newer is in the store than what was accepted until then; `true` if something waited.
    pub(crate) fn supersede(&self, wire: &[u8], until: u64) -> bool {
        #[cfg(test)]
        if *self.careless.lock().unwrap() == Some(Careless::Supersede) {
            return false;
        }
        let removed = self.config.is_some() && self.lock().remove_until(wire, until);
        if removed {
            self.changed.notify_waiters();
        }
        removed
    }

    /// Before a clearing waits for the writes under way.
    pub(crate) fn hold<'a>(&'a self, prefix: &'a [u8]) -> Held<'a> {
        let mut until = 0;
        if self.config.is_some() {
            let mut state = self.lock();
            until = state.sequence;
            for waiting in state.of(prefix, until) {
                waiting.held += 1;
            }
        }
        Held { pending: self, prefix, until, cleared: false }
    }

    /// The next key to write.
    pub(crate) fn next(self: &Arc<Self>) -> Option<Job> {
        self.next_of(&mut self.lock())
    }

    fn next_of(self: &Arc<Self>, state: &mut State) -> Option<Job> {
        while let Some(key) = state.due.pop_front() {
            let process = state.process;
            let Some(waiting) = state.waiting.get_mut(&key) else { continue };
            if waiting.taken || waiting.held > 0 {
                continue;
            }
            waiting.taken = true;
            let (at, slot) = (waiting.value.at.clone(), waiting.value.slot);
            return Some(Job { pending: Arc::clone(self), process, at, slot });
        }
        None
    }

    /// The right to be one more task that writes, if there is something to write and room for it.
    pub(crate) fn lane(self: &Arc<Self>) -> Option<Lane> {
        let mut state = self.lock();
        if state.due.is_empty() || state.lanes >= LANES {
            return None;
        }
        state.lanes += 1;
        Some(Lane { pending: Arc::clone(self), process: state.process, left: false })
    }

    /// Whether something waits that was accepted until then.
    pub(crate) fn waits(&self, until: u64) -> bool {
        self.lock().order.first().is_some_and(|oldest| *oldest <= until)
    }

    /// How much of that there is.
    pub(crate) fn waiting(&self, until: u64) -> u64 {
        self.lock().order.range(..=until).count() as u64
    }

    /// Whether each value that waits has its place in the order, and nothing else has.
    #[cfg(test)]
    pub(crate) fn is_in_order(&self) -> bool {
        let state = self.lock();
        state.order == state.waiting.values().map(|waiting| waiting.value.sequence).collect()
    }

    /// How many keys stand in the queue.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.lock().due.len()
    }

    pub(crate) fn stats(&self) -> Option<BehindStats> {
        self.config?;
        let state = self.lock();
        Some(BehindStats { entries: state.waiting.len() as u64, bytes: state.bytes })
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Forgets what waits, and returns how many values that were.
    pub(crate) fn abandon(&self) -> u64 {
        let forgotten = {
            let mut state = self.lock();
            state.closed = true;
            state.bytes = 0;
            state.due.clear();
            state.order.clear();
            std::mem::take(&mut state.waiting)
        };
        self.changed.notify_waiters();
        forgotten.len() as u64
    }

    /// Nothing that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let process = fork::generation();
        if state.process != process {
            let (sequence, closed) = (state.sequence, state.closed);
            *state = State { process, sequence, closed, ..State::default() };
        }
        state
    }
}

impl State {
    /// Keys of what was deleted stay in the queue until it is their turn, and may be accepted again before; those of what a
    /// clearing held and gave back may stand there twice.
    fn compact(&mut self) {
        if self.due.len() > 2 * self.waiting.len() + 64 {
            let due = self.waiting.iter().filter(|(_, waiting)| !waiting.taken && waiting.held == 0);
            self.due = due.map(|(key, _)| key.clone()).collect();
        }
    }

    fn remove_until(&mut self, wire: &[u8], until: u64) -> bool {
        let is_older = self.waiting.get(wire).is_some_and(|waiting| waiting.value.sequence <= until);
        if is_older && let Some(removed) = self.waiting.remove(wire) {
            self.bytes -= removed.value.size();
            self.order.remove(&removed.value.sequence);
        }
        is_older
    }

    fn of(&mut self, prefix: &[u8], until: u64) -> impl Iterator<Item = &mut Waiting> {
        let waiting = self.waiting.iter_mut();
        waiting
            .filter(move |(key, waiting)| key.starts_with(prefix) && waiting.value.sequence <= until)
            .map(|(_, waiting)| waiting)
    }
}

impl Held<'_> {
    /// What was held is not wanted any more.
    pub(crate) fn cleared(mut self) {
        self.cleared = true;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.pending.config.is_none() {
            return;
        }
        let mut state = self.pending.lock();
        let mut keys = Vec::new();
        for waiting in state.of(self.prefix, self.until) {
            waiting.held = waiting.held.saturating_sub(1);
            keys.push(Box::<[u8]>::from(waiting.value.at.wire.as_bytes()));
        }
        for key in keys {
            if self.cleared {
                state.remove_until(&key, self.until);
            } else {
                // It stands there twice if nobody took it out meanwhile, which the second to take it sees.
                state.due.push_back(key);
            }
        }
        state.compact();
        drop(state);
        self.pending.changed.notify_waiters();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut state = self.pending.lock();
        let key = self.at.wire.as_bytes();
        if state.process == self.process
            && let Some(waiting) = state.waiting.get_mut(key)
        {
            waiting.taken = false;
            if waiting.held == 0 {
                state.due.push_back(key.into());
                state.compact();
            }
        }
        drop(state);
        self.pending.changed.notify_waiters();
    }
}

impl Lane {
    /// The next key to write. Without one the lane has ended, so that nothing can be accepted in between that nobody writes.
    pub(crate) fn next(&mut self) -> Option<Job> {
        let pending = Arc::clone(&self.pending);
        let mut state = pending.lock();
        let job = pending.next_of(&mut state);
        if job.is_none() {
            self.leave(&mut state);
        }
        job
    }

    fn leave(&mut self, state: &mut State) {
        if !std::mem::replace(&mut self.left, true) && state.process == self.process {
            state.lanes -= 1;
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let pending = Arc::clone(&self.pending);
        self.leave(&mut pending.lock());
    }
}
