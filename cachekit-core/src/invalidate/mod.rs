//! Who wrote last: what keeps a slow read, load or write from bringing back a value that was overwritten or deleted.
//!
//! Three things per stripe of keys. A *generation* counts writes and deletions (`generations.rs`): whoever fills L1 with
//! something it read or loaded noted the number before it began, and keeps nothing if the number moved by this key, or by so
//! much that nobody knows. A *turn* orders the writes of this process to the second tier, so that what stands there last is
//! what L1 was told last. And per stripe of namespaces an *epoch* with a *gate*: clearing changes the epoch, then waits until
//! the writes under way have landed. Beside these a stripe may be in *doubt*: a write that nobody waits for any more may land yet.
//!
//! What others changed moves the generation as well, and what this process did is counted apart: a load whose value has a
//! fence in the store (`cache/fill.rs`) is stored by the word of the store itself, whatever was told meanwhile.
//!
//! What is invalidated by name and not by key is in `tags.rs`; the numbers by which other processes see it, in `epochs.rs`.
//!
//! Turns and gates are those of one process: a child made by `fork()` begins with all of them free (`process.rs`).
//!
//! Stripes are shared by keys, which costs a fill where many of them change at once, and bounds the memory. They order this
//! process alone: two processes that write one key are ordered by the store.

pub(crate) mod epochs;
mod generations;
pub(crate) mod tags;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

use generations::{Generation, Noted};

use crate::key::Namespace;
use crate::l1::{Epoch, KeyHash};
use crate::process::{Anew, PerProcess};

const KEY_STRIPES: usize = 4096;
const NAMESPACE_STRIPES: usize = 256;

#[derive(Default)]
struct KeyStripe {
    generation: Generation,
    /// Until when a write of one of its keys may land that was given up; 0: none was.
    doubted_until_ms: AtomicU64,
}

/// What writers hold while they write.
struct Order {
    /// Per stripe of keys.
    turns: Box<[Mutex<()>]>,
    /// Per stripe of namespaces.
    gates: Box<[RwLock<()>]>,
}

impl Order {
    fn new() -> Self {
        Self { turns: many(KEY_STRIPES), gates: many(NAMESPACE_STRIPES) }
    }
}

impl Anew for Order {
    fn anew(&self) -> Self {
        Self::new()
    }
}

pub(crate) struct Writes {
    keys: Box<[KeyStripe]>,
    /// The epochs of namespaces.
    epochs: Box<[AtomicU64]>,
    /// How often each was cleared by name, here or elsewhere: an epoch also ends because anything may have changed.
    clearings: Box<[AtomicU64]>,
    order: PerProcess<Order>,
}

fn many<T: Default>(count: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(count).collect()
}

/// Which stripe a namespace belongs to; computed once per cache handle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamespaceSlot(usize);

/// What a reader noted before it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    generation: Noted,
    pub(crate) epoch: Epoch,
    clearings: u64,
    /// Whether changes by others were being told already (`coherence.rs`).
    pub(crate) vouched: bool,
}

impl Ticket {
    /// The same, for an entry that somebody vouches for, or not.
    pub(crate) const fn with_vouched(self, vouched: bool) -> Self {
        Self { vouched, ..self }
    }
}

/// The right to write, held until the write has landed.
pub(crate) struct Turn<'a> {
    _gate: RwLockReadGuard<'a, ()>,
    _turns: Vec<MutexGuard<'a, ()>>,
}

impl Writes {
    pub(crate) fn new() -> Self {
        Self {
            keys: many(KEY_STRIPES),
            epochs: many(NAMESPACE_STRIPES),
            clearings: many(NAMESPACE_STRIPES),
            order: PerProcess::new(Order::new()),
        }
    }

    pub(crate) fn slot(&self, namespace: &Namespace) -> NamespaceSlot {
        let hash = namespace
            .prefix()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        NamespaceSlot((hash >> 32) as usize % NAMESPACE_STRIPES)
    }

    pub(crate) fn epoch(&self, slot: NamespaceSlot) -> Epoch {
        Epoch(self.epochs[slot.0].load(Ordering::Acquire))
    }

    /// What to note before reading or loading.
    pub(crate) fn ticket(&self, slot: NamespaceSlot, hash: KeyHash) -> Ticket {
        let (clearings, epoch) = (self.clearings(slot), self.epoch(slot));
        Ticket { generation: self.stripe(hash).generation.note(), epoch, clearings, vouched: false }
    }

    fn clearings(&self, slot: NamespaceSlot) -> u64 {
        self.clearings[slot.0].load(Ordering::Acquire)
    }

    /// A ticket as of the time when this cache was built: `None` if this key was written, deleted or told since, its namespace
    /// or one that shares its stripe was cleared, or so much happened that nobody knows.
    pub(crate) fn untouched(&self, slot: NamespaceSlot, hash: KeyHash) -> Option<Ticket> {
        let ticket = self.ticket(slot, hash);
        let untouched = self.stripe(hash).generation.still(hash.as_u64(), Noted::FIRST);
        (untouched && ticket.epoch == Epoch(0)).then_some(ticket)
    }

    /// Whether nothing was written, deleted or cleared since.
    pub(crate) fn still(&self, slot: NamespaceSlot, hash: KeyHash, ticket: Ticket) -> bool {
        self.stripe(hash).generation.still(hash.as_u64(), ticket.generation) && self.epoch(slot) == ticket.epoch
    }

    /// Whether nothing was written, deleted or cleared since but by others, key by key.
    pub(crate) fn still_here(&self, slot: NamespaceSlot, hash: KeyHash, ticket: Ticket) -> bool {
        self.stripe(hash).generation.still_here(hash.as_u64(), ticket.generation)
            && self.clearings(slot) == ticket.clearings
    }

    /// Runs `keep` if nothing was written or deleted since, and lets nothing come in between. What it returns is dropped
    /// by the caller, outside the lock.
    pub(crate) fn keep_if_still<T>(&self, hash: KeyHash, ticket: Ticket, keep: impl FnOnce() -> T) -> Option<T> {
        self.stripe(hash).generation.keep_if_still(hash.as_u64(), ticket.generation, keep)
    }

    /// Makes everything that is on its way for this key too late.
    pub(crate) fn advance(&self, hash: KeyHash) {
        self.stripe(hash).generation.advance(hash.as_u64());
    }

    /// The same for a change by others.
    pub(crate) fn tell(&self, hash: KeyHash) {
        self.stripe(hash).generation.tell(hash.as_u64());
    }

    /// A write of this key was given up and may land yet. Said before the generation moves on, so that whoever notes the new
    /// one knows.
    pub(crate) fn doubt(&self, hash: KeyHash, until_ms: u64) {
        self.stripe(hash).doubted_until_ms.fetch_max(until_ms, Ordering::AcqRel);
    }

    /// The same for all keys: a clearing was given up.
    pub(crate) fn doubt_all(&self, until_ms: u64) {
        self.keys.iter().for_each(|key| _ = key.doubted_until_ms.fetch_max(until_ms, Ordering::AcqRel));
    }

    /// Until when a write of this key may land that was given up.
    pub(crate) fn doubted_until_ms(&self, hash: KeyHash) -> u64 {
        self.stripe(hash).doubted_until_ms.load(Ordering::Acquire)
    }

    /// Ends a write that has landed: makes too late what saw the store before it, and returns what to keep its value under,
    /// unless somebody wrote or told of a change meanwhile.
    pub(crate) fn settle(&self, hash: KeyHash, mine: Ticket) -> Option<Ticket> {
        let generation = self.stripe(hash).generation.settle(hash.as_u64(), mine.generation)?;
        Some(Ticket { generation, ..mine })
    }

    /// The same for a batch. Keys that share a stripe are settled together, so that none makes another too late.
    pub(crate) fn settle_many(&self, writes: impl Iterator<Item = (KeyHash, Ticket)>) -> Vec<Option<Ticket>> {
        let writes: Vec<_> = writes.collect();
        let mut settled = vec![None; writes.len()];
        let mut stripes: HashMap<usize, Vec<usize>> = HashMap::with_capacity(writes.len());
        for (at, (hash, _)) in writes.iter().enumerate() {
            stripes.entry(self.index(*hash)).or_default().push(at);
        }
        for (stripe, places) in stripes {
            let mine: Vec<_> = places.iter().map(|at| (writes[*at].0.as_u64(), writes[*at].1.generation)).collect();
            for (at, generation) in places.iter().zip(self.keys[stripe].generation.settle_many(&mine)) {
                settled[*at] = generation.map(|generation| Ticket { generation, ..writes[*at].1 });
            }
        }
        settled
    }

    /// Waits for this key's turn to write.
    pub(crate) async fn turn(&self, slot: NamespaceSlot, hash: KeyHash) -> Turn<'_> {
        let order = self.order.get();
        let gate = order.gates[slot.0].read().await;
        let turn = order.turns[self.index(hash)].lock().await;
        Turn { _gate: gate, _turns: vec![turn] }
    }

    /// Waits for the turns of several keys, in the order of the stripes so that two batches cannot block each other.
    pub(crate) async fn turns(&self, slot: NamespaceSlot, hashes: impl Iterator<Item = KeyHash>) -> Turn<'_> {
        let order = self.order.get();
        let gate = order.gates[slot.0].read().await;
        let mut stripes: Vec<usize> = hashes.map(|hash| self.index(hash)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let mut turns = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            turns.push(order.turns[stripe].lock().await);
        }
        Turn { _gate: gate, _turns: turns }
    }

    /// Makes every entry of the namespace in L1 unreachable and every fill on its way too late.
    pub(crate) fn new_epoch(&self, slot: NamespaceSlot) {
        self.clearings[slot.0].fetch_add(1, Ordering::AcqRel);
        self.epochs[slot.0].fetch_add(1, Ordering::AcqRel);
    }

    /// The same for every namespace, because anything may have changed.
    pub(crate) fn new_epochs(&self) {
        for epoch in &self.epochs {
            epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Waits until every write that began before the new epoch has landed. Writes that come later are not held up for
    /// longer than it takes to pass.
    pub(crate) async fn barrier(&self, slot: NamespaceSlot) {
        drop(self.order.get().gates[slot.0].write().await);
    }

    fn stripe(&self, hash: KeyHash) -> &KeyStripe {
        &self.keys[self.index(hash)]
    }

    /// Which stripe a key belongs to.
    pub(crate) fn index(&self, hash: KeyHash) -> usize {
        hash.stripe(KEY_STRIPES)
    }
}
