//! What a store tells of changes by others, so that what is kept in a process does not outlive them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

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

/// Where events go. Called from a thread of the backend: must not wait, and must not drop the last handle of the instance
/// that tells.
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

/// The way to one sink, with an end: what a backend tells its events through, so that it need not think of the rest.
///
/// Events go one after the other. After [`close`](Self::close) has returned none is under way and none follows, and none
/// follows [`Event::Lost`]. A sink that panics has missed something: it is told `Lost`, and no more.
pub struct Outlet {
    sink: Mutex<Option<Arc<dyn WatchSink>>>,
    /// Looked at before the lock is taken, so that a busy store that was unwatched is not held up.
    closed: AtomicBool,
    /// Who is inside the sink: a sink may end its own watch, and would else wait for itself.
    telling: Mutex<Option<ThreadId>>,
    /// A sink caused an event while it took one, which it cannot take: it is told `Lost` instead.
    missed: AtomicBool,
}

impl Outlet {
    /// The way to `sink`, open.
    pub fn new(sink: Arc<dyn WatchSink>) -> Arc<Self> {
        Arc::new(Self {
            sink: Mutex::new(Some(sink)),
            closed: AtomicBool::new(false),
            telling: Mutex::new(None),
            missed: AtomicBool::new(false),
        })
    }

    /// Tells an event; `false` if the watch is over.
    pub fn tell(&self, event: Event<'_>) -> bool {
        if self.closed.load(Ordering::Acquire) {
            return false;
        }
        if self.is_telling() {
            self.missed.store(true, Ordering::Relaxed);
            return false;
        }
        let mut sink = lock(&self.sink);
        let Some(open) = sink.as_ref().filter(|_| !self.closed.load(Ordering::Acquire)) else { return false };
        *lock(&self.telling) = Some(std::thread::current().id());
        let told = catch_unwind(AssertUnwindSafe(|| open.event(event)));
        let missed = told.is_err() || self.missed.load(Ordering::Relaxed);
        if missed && event != Event::Lost {
            let _ = catch_unwind(AssertUnwindSafe(|| open.event(Event::Lost)));
        }
        *lock(&self.telling) = None;
        let over = missed || event == Event::Lost;
        if over {
            self.closed.store(true, Ordering::Release);
        }
        // The sink is foreign code, whose end is not to happen under the lock.
        let ended = if self.closed.load(Ordering::Acquire) { sink.take() } else { None };
        drop(sink);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(ended)));
        !over
    }

    /// Ends the watch, and waits for an event that is being told by another thread.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if self.is_telling() {
            // Called by the sink itself: `tell` sees it when the sink has returned.
            return;
        }
        let ended = lock(&self.sink).take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(ended)));
    }

    /// Whether nothing will be told any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn is_telling(&self) -> bool {
        *lock(&self.telling) == Some(std::thread::current().id())
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// Foreign code that runs under these locks has its panics caught.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
