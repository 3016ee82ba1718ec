//! Who wrote a key last through this chain: what keeps a promotion from bringing back what was deleted while it was on its
//! way. The same idea as in front of L1 (`invalidate`), for copies that cannot be kept under a lock, because writing them
//! takes time: so writers take turns, and a promotion that finds the turn taken gives up.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

const STRIPES: usize = 4096;

#[derive(Default)]
struct Stripe {
    generation: AtomicU64,
    turn: Mutex<()>,
}

pub(super) struct Stripes {
    stripes: Box<[Stripe]>,
    /// Moved on by whatever changes all keys.
    all: AtomicU64,
    /// Writers pass it, clearing closes it.
    gate: RwLock<()>,
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
    _gate: RwLockReadGuard<'a, ()>,
    _turns: Vec<MutexGuard<'a, ()>>,
}

impl Stripes {
    pub(super) fn new() -> Self {
        let mut stripes = Vec::new();
        stripes.resize_with(STRIPES, Stripe::default);
        Self {
            stripes: stripes.into(),
            all: AtomicU64::new(0),
            gate: RwLock::new(()),
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
        let generation = self.stripes[index(key)].generation.load(Ordering::SeqCst);
        Seen { generation, all: self.all.load(Ordering::SeqCst) }
    }

    /// Makes what is on its way for these keys too late.
    pub(super) fn advance(&self, keys: &[&[u8]]) {
        for key in keys {
            self.stripes[index(key)].generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(super) fn advance_all(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits for the turns of these keys, in the order of the stripes so that two batches cannot block each other.
    pub(super) async fn turns(&self, keys: &[&[u8]]) -> Turn<'_> {
        let gate = self.gate.read().await;
        let mut indexes: Vec<usize> = keys.iter().map(|key| index(key)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mut turns = Vec::with_capacity(indexes.len());
        for index in indexes {
            turns.push(self.stripes[index].turn.lock().await);
        }
        Turn { _gate: gate, _turns: turns }
    }

    /// The turn of a key, if nobody has it.
    pub(super) fn try_turn(&self, key: &[u8]) -> Option<Turn<'_>> {
        let gate = self.gate.try_read().ok()?;
        let turn = self.stripes[index(key)].turn.try_lock().ok()?;
        Some(Turn { _gate: gate, _turns: vec![turn] })
    }

    /// Waits until nobody changes anything, and lets nobody begin.
    pub(super) async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }
}

/// A fixed seed: whoever chooses keys to meet in one stripe makes them wait for each other, as one key would.
fn index(key: &[u8]) -> usize {
    (FixedState::default().hash_one(key) >> 32) as usize % STRIPES
}
