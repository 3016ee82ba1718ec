//! What a store tells of changes by others, so that what is kept in a process does not outlive them.

use std::fmt;
use std::sync::Arc;

use crate::backend::Fut;
use crate::cx::Cx;
use crate::key::Key;

/// One thing a store tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The entry of this key changed or went.
    Changed(Key<'a>),
    /// Anything may have changed.
    Everything,
    /// Changes can no longer be told. The watch is over; whoever wants another begins one.
    Lost,
}

/// Where events go. Called from a thread of the backend: must not wait.
pub trait WatchSink: Send + Sync + 'static {
    /// Takes one event.
    fn event(&self, event: Event<'_>);
}

/// A store that tells of changes by others.
pub trait Watch: Send + Sync {
    /// Begins to tell `sink` of changes to keys that begin with `prefix` (all keys if it is empty).
    ///
    /// When the future is ready, the store has confirmed: every change by another writer that happens later is told, or
    /// [`Event::Lost`] is. What this instance writes itself is not told. Silence is bounded: a connection that went dead
    /// without a word is told as lost within two seconds. After `Lost` and after the guard was dropped nothing follows.
    fn watch<'a>(&'a self, prefix: &'a [u8], sink: Arc<dyn WatchSink>, cx: &'a Cx<'a>) -> Fut<'a, WatchGuard>;
}

/// Keeps a watch alive; dropping it ends the watch.
pub struct WatchGuard(#[allow(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl WatchGuard {
    /// A watch that ends when `held` is dropped.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for WatchGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchGuard")
    }
}
