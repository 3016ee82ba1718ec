//! Who wants to know what leaves L1, and why.
//!
//! A listener is called in the thread that made the entry leave, after every lock of the tier and of the engine was let go of:
//! it may come back to the cache. A queue with a thread behind it was rejected: it loses events when it is full, is not in a
//! child made by `fork()`, and costs a copy of the key for each. So a listener that is slow slows the caller whose write made
//! room, and nobody else; one that does slow work hands the event on. One that panics is counted, and the caller goes on.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cachekit_plugin::Key;

/// Why an entry left L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// A newer value of its key took its place.
    Replaced,
    /// A lookup came upon it after its end. Nobody looks for what is over: an entry that is not asked for again leaves as
    /// [`Self::Evicted`].
    Expired,
    /// Others needed the room.
    Evicted,
    /// It was deleted, or a write of its key left L1 without a value, or everything was cleared.
    Removed,
    /// Its namespace was invalidated (a lookup came upon it afterwards), or another writer's change was told of.
    Invalidated,
}

/// An entry that left.
pub struct Departure<'a> {
    pub(super) wire_key: &'a [u8],
    pub(super) stored_len: usize,
    pub(super) cause: Cause,
}

impl Departure<'_> {
    /// Its wire key: `ck:<namespace>:<key>`, or a key of another language as it is.
    pub fn wire_key(&self) -> &[u8] {
        self.wire_key
    }

    /// Why it left.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// How many bytes were stored for it.
    pub fn stored_len(&self) -> usize {
        self.stored_len
    }
}

/// Shows the digest, never the key.
impl fmt::Debug for Departure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departure")
            .field("key", &Key::from_wire(self.wire_key))
            .field("stored_len", &self.stored_len)
            .field("cause", &self.cause)
            .finish()
    }
}

/// Hears of entries that leave L1. Any function of a [`Departure`] is one.
pub trait EventListener: Send + Sync + 'static {
    /// An entry left. Called in the thread that made it leave, with no lock held. A panic is caught and counted.
    fn left(&self, departure: &Departure<'_>);
}

impl<F: Fn(&Departure<'_>) + Send + Sync + 'static> EventListener for F {
    fn left(&self, departure: &Departure<'_>) {
        self(departure);
    }
}

/// The listener of a tier and how often it panicked.
pub(super) struct Listening {
    listener: Arc<dyn EventListener>,
    pub(super) panics: AtomicU64,
}

impl Listening {
    pub(super) fn new(listener: Arc<dyn EventListener>) -> Self {
        Self { listener, panics: AtomicU64::new(0) }
    }

    pub(super) fn tell(&self, departure: &Departure<'_>) {
        if catch_unwind(AssertUnwindSafe(|| self.listener.left(departure))).is_err() {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
    }
}
