//! Who wrote a key last through this chain: what keeps a promotion from bringing back what was deleted while it was on its
//! way. The same idea as in front of L1 (`invalidate`), for copies that cannot be kept under a lock, because writing them
//! takes time: so writers take turns, and a promotion that finds the turn taken gives up.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::process::{Anew, PerProcess};

const STRIPES: usize = 4096;

/// What writers hold while they write: a child made by `fork()` begins with all of it free.
#[derive(Default)]
struct Order {
    turns: Box<[Mutex<()>]>,
    /// Writers pass it, clearing closes it.
    gate: RwLock<()>,
}

impl Anew for Order {
    fn anew(&self) -> Self {
        Self { turns: std::iter::repeat_with(Mutex::default).take(STRIPES).collect(), gate: RwLock::default() }
    }
}

pub(super) struct Stripes {
    generations: Box<[AtomicU64]>,
    /// Moved on by whatever changes all keys.
    all: AtomicU64,
    /// How often somebody did not wait for a turn any longer (`passing.rs`).
    passed: AtomicU64,
    order: PerProcess<Order>,
    /// For the test that shows what happens without.
    #[cfg(test)]
    blind: std::sync::atomic::AtomicBool,
}

/// What a reader noted before it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    generation: u64,
    all: u64,
}

/// The right to change copies of some keys.
pub(super) struct Turn<'a> {
    stripes: &'a Stripes,
    passed: u64,
    _gate: RwLockReadGuard<'a, ()>,
    _turns: Vec<MutexGuard<'a, ()>>,
}

impl Turn<'_> {
    /// Whether somebody changed copies without a turn since this one was taken.
    pub(super) fn was_passed(&self) -> bool {
        self.stripes.passed.load(Ordering::SeqCst) != self.passed
    }
}

impl Stripes {
    pub(super) fn new() -> Self {
        Self {
            generations: std::iter::repeat_with(AtomicU64::default).take(STRIPES).collect(),
            all: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            order: PerProcess::new(Order::default().anew()),
            #[cfg(test)]
            blind: Default::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn blind(&self) {
        self.blind.store(true, Ordering::SeqCst);
    }

    pub(super) fn seen(&self, key: &[u8]) -> Seen {
        #[cfg(test)]
        if self.blind.load(Ordering::SeqCst) {
            return Seen { generation: 0, all: 0 };
        }
        let generation = self.generations[index(key)].load(Ordering::SeqCst);
        Seen { generation, all: self.all.load(Ordering::SeqCst) }
    }

    /// Makes what is on its way for these keys too late.
    pub(super) fn advance(&self, keys: &[&[u8]]) {
        for key in keys {
            self.generations[index(key)].fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(super) fn advance_all(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(super) fn passes(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    /// Tells whoever has a turn that somebody does not wait for it.
    pub(super) fn pass(&self) {
        self.passed.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits for the turns of these keys, in the order of the stripes so that two batches cannot block each other.
    pub(super) async fn turns(&self, keys: &[&[u8]]) -> Turn<'_> {
        let order = self.order.get();
        let gate = order.gate.read().await;
        let mut indexes: Vec<usize> = keys.iter().map(|key| index(key)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mut turns = Vec::with_capacity(indexes.len());
        for index in indexes {
            turns.push(order.turns[index].lock().await);
        }
        self.taken(gate, turns)
    }

    /// The turn of a key, if nobody has it.
    pub(super) fn try_turn(&self, key: &[u8]) -> Option<Turn<'_>> {
        let order = self.order.get();
        let gate = order.gate.try_read().ok()?;
        let turn = order.turns[index(key)].try_lock().ok()?;
        Some(self.taken(gate, vec![turn]))
    }

    fn taken<'a>(&'a self, gate: RwLockReadGuard<'a, ()>, turns: Vec<MutexGuard<'a, ()>>) -> Turn<'a> {
        Turn { stripes: self, passed: self.passed.load(Ordering::SeqCst), _gate: gate, _turns: turns }
    }

    /// Waits until nobody changes anything, and lets nobody begin.
    pub(super) async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.order.get().gate.write().await
    }
}

/// A fixed seed: whoever chooses keys to meet in one stripe makes them wait for each other, as one key would.
fn index(key: &[u8]) -> usize {
    (FixedState::default().hash_one(key) >> 32) as usize % STRIPES
}
