//! The guard on what is kept: a number that moves on with every write, deletion and change that is told, and the keys that
//! moved it last.
//!
//! Whoever fills L1 with something that it read or loaded noted the number before it began. If it is another one by then,
//! something happened to a key of the same stripe. If it moved by a few, the keys of these changes are still known, and a
//! change of a neighbour is none. If it moved by more, nobody knows, and nothing is kept.
//!
//! Locked for a few nanoseconds: to count, to look, or to look *and* keep. An atomic would leave a gap between the last two,
//! through which an old value slips in after a newer one was reported as stored.
//!
//! Apart from the rest of this module because `tests/models` runs this file under every order of its steps, and breaks it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Changes whose keys are known. Where others change 4096 keys a second, a load of a second meets one of its stripe on average.
const KNOWN: usize = 4;

#[derive(Default)]
pub(super) struct Generation(Mutex<State>);

/// The number as it was at some time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    /// Of everything that counts.
    all: u64,
    /// Of that, what this process did itself. It may not have come to the store, so a fence there does not see it.
    own: u64,
}

impl Noted {
    /// As it was before anything.
    pub(super) const FIRST: Self = Self { all: 0, own: 0 };
}

#[derive(Default)]
struct State {
    now: Noted,
    /// The keys of the last changes, each in the place of its number. Two keys that are taken for one cost a fill.
    keys: [u64; KNOWN],
}

impl State {
    fn change(&mut self, key: u64, own: bool) {
        self.now.all += 1;
        self.now.own += u64::from(own);
        self.keys[place(self.now.all)] = marked(key, own);
    }

    /// Whether nothing happened to `key` since, which is known if little happened at all.
    fn still(&self, key: u64, noted: Noted) -> bool {
        self.knows(noted) && since(noted, self.now).all(|number| self.keys[place(number)] >> 1 != key >> 1)
    }

    /// The same of what this process did itself.
    fn still_here(&self, key: u64, noted: Noted) -> bool {
        let own = marked(key, true);
        self.now.own == noted.own
            || self.knows(noted) && since(noted, self.now).all(|number| self.keys[place(number)] != own)
    }

    fn knows(&self, noted: Noted) -> bool {
        self.now.all.wrapping_sub(noted.all) <= KNOWN as u64
    }
}

/// The numbers of the changes between two.
fn since(noted: Noted, now: Noted) -> std::ops::RangeInclusive<u64> {
    noted.all + 1..=now.all
}

fn place(number: u64) -> usize {
    (number % KNOWN as u64) as usize
}

/// The last bit of a key says who changed it.
fn marked(key: u64, own: bool) -> u64 {
    key & !1 | u64::from(own)
}

impl Generation {
    /// What to note before reading or loading.
    pub(super) fn note(&self) -> Noted {
        self.lock().now
    }

    /// Makes everything that is on its way for `key` too late.
    pub(super) fn advance(&self, key: u64) {
        self.lock().change(key, true);
    }

    /// The same for a change by others, which the store has for certain.
    pub(super) fn tell(&self, key: u64) {
        self.lock().change(key, false);
    }

    /// Whether nothing happened to `key` since.
    pub(super) fn still(&self, key: u64, noted: Noted) -> bool {
        self.lock().still(key, noted)
    }

    /// Whether this process did nothing to `key` since, whatever others did.
    pub(super) fn still_here(&self, key: u64, noted: Noted) -> bool {
        self.lock().still_here(key, noted)
    }

    /// Runs `keep` if nothing happened to `key` since, and lets nothing come in between.
    pub(super) fn keep_if_still<T>(&self, key: u64, noted: Noted, keep: impl FnOnce() -> T) -> Option<T> {
        let state = self.lock();
        state.still(key, noted).then(keep)
    }

    /// Ends a write of `key` that has landed: makes too late what saw the store before it, and returns what its value may be
    /// kept under, unless somebody wrote or told of a change since it noted `mine`.
    pub(super) fn settle(&self, key: u64, mine: Noted) -> Option<Noted> {
        let mut state = self.lock();
        let is_newest = state.still(key, mine);
        state.change(key, true);
        is_newest.then_some(state.now)
    }

    /// The same for writes that have landed together: none makes another too late. A key that stands here twice is one write.
    pub(super) fn settle_many(&self, writes: &[(u64, Noted)]) -> Vec<Option<Noted>> {
        let mut state = self.lock();
        let newest: Vec<bool> = writes.iter().map(|(key, mine)| state.still(*key, *mine)).collect();
        for (key, _) in writes {
            state.change(*key, true);
        }
        newest.into_iter().map(|is_newest| is_newest.then_some(state.now)).collect()
    }

    /// Only numbers change under this lock, so a panic leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
