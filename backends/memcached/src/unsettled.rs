//! Writes whose callers have gone before the answer came.
//!
//! Such a write is on its way and arrives when it arrives. Were the next write of that key sent on another connection, it
//! could overtake the first, and the older value would stay. So until the first is answered, or its connection is over, the
//! key keeps to that connection, where order holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::connection::Connection;

/// Entries before the settled ones are looked for; then again when there are twice as many as were left. Those that are
/// under way are bounded by the queues of the connections.
const SWEEP_AT: usize = 1024;

/// By key: the connection it is on, and its number there.
type Writes = HashMap<Box<[u8]>, (Arc<Connection>, u64)>;

#[derive(Default)]
pub(crate) struct Unsettled {
    any: AtomicBool,
    writes: Mutex<Writes>,
    sweep_at: AtomicUsize,
}

impl Unsettled {
    /// The write of `key` with number `number` is under way on `connection`, and nobody waits for it.
    pub(crate) fn note(&self, key: &[u8], connection: &Arc<Connection>, number: u64) {
        if connection.has_settled(number) {
            return;
        }
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        if writes.len() >= self.sweep_at.load(Ordering::Relaxed).max(SWEEP_AT) {
            writes.retain(|_, (connection, number)| !connection.has_settled(*number));
            self.sweep_at.store(2 * writes.len(), Ordering::Relaxed);
        }
        writes.insert(key.into(), (Arc::clone(connection), number));
        self.any.store(true, Ordering::Release);
    }

    /// The connection that requests for `key` have to keep to.
    pub(crate) fn connection_of(&self, key: &[u8]) -> Option<Arc<Connection>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let (connection, number) = writes.get(key)?;
        if !connection.has_settled(*number) && !connection.is_over() {
            return Some(Arc::clone(connection));
        }
        writes.remove(key);
        self.any.store(!writes.is_empty(), Ordering::Release);
        None
    }
}
