//! Caches of one process on one instance of a backend: what an instance writes itself is not told to it, so they tell each
//! other.
//!
//! Without this a cache would vouch for what another, on the same handle, has long overwritten: a process-wide default backend
//! has several caches on it as a rule.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use cachekit_plugin::Backend;

use crate::invalidate::NamespaceSlot;
use crate::near::Near;

/// Those who listen on one instance. All who write through it hold this.
#[derive(Default)]
pub(crate) struct Siblings {
    listening: RwLock<Vec<Weak<Near>>>,
    /// Their number, so that a write that nobody else is concerned by takes no lock.
    count: AtomicUsize,
}

impl Siblings {
    /// The caches on this instance.
    pub(crate) fn of(backend: &Arc<dyn Backend>) -> Arc<Self> {
        /// By the address of the instance. It is not used again while anybody holds the siblings, because each of them holds
        /// the instance too.
        static KNOWN: Mutex<Option<HashMap<usize, Weak<Siblings>>>> = Mutex::new(None);
        let address = Arc::as_ptr(backend).cast::<()>().addr();
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        if let Some(siblings) = known.get(&address).and_then(Weak::upgrade) {
            return siblings;
        }
        known.retain(|_, siblings| siblings.strong_count() > 0);
        let siblings = Arc::new(Self::default());
        known.insert(address, Arc::downgrade(&siblings));
        siblings
    }

    /// Tells this cache of the others' writes from now on.
    pub(crate) fn listen(&self, near: &Arc<Near>) {
        let mut listening = self.listening.write().unwrap_or_else(PoisonError::into_inner);
        listening.retain(|near| near.strong_count() > 0);
        listening.push(Arc::downgrade(near));
        self.count.store(listening.len(), Ordering::SeqCst);
    }

    /// `writer` wrote, deleted or touched a key, or may have.
    pub(crate) fn changed(&self, writer: &Near, wire: &[u8]) {
        self.others(writer, |near| near.changed_beside(wire));
    }

    /// A write of `writer` was given up and may land yet.
    pub(crate) fn doubt(&self, writer: &Near, wire: &[u8]) {
        self.others(writer, |near| near.doubt(near.l1.hash(wire)));
    }

    /// `writer` cleared a namespace, or may have.
    pub(crate) fn cleared(&self, writer: &Near, slot: NamespaceSlot) {
        self.others(writer, |near| {
            near.writes.new_epoch(slot);
            near.flights.detach_all();
        });
    }

    fn others(&self, writer: &Near, tell: impl Fn(&Near)) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let others: Vec<Arc<Near>> = {
            let listening = self.listening.read().unwrap_or_else(PoisonError::into_inner);
            let alive = listening.iter().filter_map(Weak::upgrade);
            alive.filter(|near| !std::ptr::eq(&**near, writer)).collect()
        };
        // Outside of the lock: a decoded copy that goes is foreign code.
        others.iter().for_each(|near| tell(near));
    }
}
