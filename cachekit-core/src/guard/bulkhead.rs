//! Bounds how many calls are with a store at a time, how many wait for that, and how long.
//!
//! What it protects is the process: a store that becomes slow would otherwise collect callers without an end, each with its
//! memory, until nothing of the process is left for anything else. It stands inside the deadline and before the breaker.
//!
//! ```text
//!            fewer than 100 in flight                          another call ends
//!  a call ────────────────────────────► in flight ◄──────────────────────────── waits, first come, first served
//!     └──────── 1 000 wait already: refused at once             after 0.1 s: refused ──┘
//! ```
//!
//! Both numbers stand in one word, so that a call that finds room takes no lock, and neither bound is ever exceeded. A call
//! that ends hands its place to the first that waits; one that goes away while it waits, or after it was handed a place,
//! leaves both. A child made by `fork()` begins with a bulkhead of its own, in which nobody is (`process.rs`).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;

/// How many calls a store is asked to serve at once, and who waits. The defaults are those of the cachekit family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadConfig {
    /// Calls in flight at a time (100, from 1 to 1 000 000).
    pub in_flight: u32,
    /// Calls that wait for that (1000, at most 1 000 000; 0: nobody waits).
    pub queued: u32,
    /// How long one waits (100 ms, longer than zero). The deadline ends it as well.
    pub wait: Duration,
}

impl Default for BulkheadConfig {
    fn default() -> Self {
        Self { in_flight: 100, queued: 1_000, wait: Duration::from_millis(100) }
    }
}

impl BulkheadConfig {
    /// Bounds of both numbers: what waits costs memory.
    pub const MOST: u32 = 1_000_000;

    /// What cannot work, in words.
    ///
    /// # Errors
    /// The field and what it must be.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.in_flight == 0 || self.in_flight > Self::MOST {
            return Err("in_flight must be from 1 to 1000000");
        }
        if self.queued > Self::MOST {
            return Err("queued must be at most 1000000");
        }
        if self.wait.is_zero() {
            return Err("wait must be longer than zero; queued = 0 lets nobody wait");
        }
        Ok(())
    }
}

/// The bulkhead of one store.
pub(crate) struct Bulkhead {
    config: BulkheadConfig,
    /// Calls in flight in the lower half, calls that wait in the upper. While anybody waits, all places are taken.
    load: AtomicU64,
    /// Changed together with the upper half, under its lock.
    queue: Mutex<VecDeque<Arc<Ticket>>>,
}

const ONE_WAITS: u64 = 1 << 32;

const fn in_flight(load: u64) -> u32 {
    load as u32
}

const fn waiting(load: u64) -> u32 {
    (load >> 32) as u32
}

/// As many wait as may.
#[derive(Debug)]
pub(crate) struct Full;

struct Ticket {
    /// Set under the lock of the queue, by whoever leaves his place to this one.
    has_place: AtomicBool,
    waker: AtomicWaker,
}

impl Bulkhead {
    pub(crate) const fn new(config: BulkheadConfig) -> Self {
        Self { config, load: AtomicU64::new(0), queue: Mutex::new(VecDeque::new()) }
    }

    pub(crate) const fn config(&self) -> &BulkheadConfig {
        &self.config
    }

    /// Calls in flight, and calls that wait.
    pub(crate) fn load(&self) -> (u32, u32) {
        let load = self.load.load(Ordering::Relaxed);
        (in_flight(load), waiting(load))
    }

    /// A place, if there is one at once.
    #[inline]
    pub(crate) fn try_enter(&self) -> Option<Place<'_>> {
        let mut load = self.load.load(Ordering::Relaxed);
        while in_flight(load) < self.config.in_flight {
            match self.load.compare_exchange_weak(load, load + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Place { bulkhead: self }),
                Err(now) => load = now,
            }
        }
        None
    }

    /// Stands in the queue, unless that is full.
    pub(crate) fn enter(&self) -> Result<Entering<'_>, Full> {
        // Without the lock: this is what a flood of calls meets, and it must not wait for those that do get in.
        if waiting(self.load.load(Ordering::Relaxed)) >= self.config.queued {
            return self.try_enter().map(|place| Entering::In(Some(place))).ok_or(Full);
        }
        let mut queue = self.lock();
        let mut load = self.load.load(Ordering::Relaxed);
        loop {
            let has_room = in_flight(load) < self.config.in_flight;
            if !has_room && waiting(load) >= self.config.queued {
                return Err(Full);
            }
            let next = load + if has_room { 1 } else { ONE_WAITS };
            match self.load.compare_exchange_weak(load, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if has_room => return Ok(Entering::In(Some(Place { bulkhead: self }))),
                Ok(_) => break,
                Err(now) => load = now,
            }
        }
        let ticket = Arc::new(Ticket { has_place: AtomicBool::new(false), waker: AtomicWaker::new() });
        queue.push_back(Arc::clone(&ticket));
        Ok(Entering::Waits(Waits { bulkhead: self, ticket: Some(ticket) }))
    }

    fn leave(&self) {
        let mut load = self.load.load(Ordering::Relaxed);
        while waiting(load) == 0 {
            match self.load.compare_exchange_weak(load, load - 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => load = now,
            }
        }
        let mut queue = self.lock();
        let Some(next) = queue.pop_front() else {
            // Whoever waited went away meanwhile. Nobody can begin to wait before the lock is free.
            self.load.fetch_sub(1, Ordering::Release);
            return;
        };
        self.load.fetch_sub(ONE_WAITS, Ordering::Relaxed);
        next.has_place.store(true, Ordering::Release);
        drop(queue);
        // Outside of the lock: it is somebody else's code.
        next.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Ticket>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call in flight. Its end leaves the place to another.
#[must_use]
pub(crate) struct Place<'a> {
    bulkhead: &'a Bulkhead,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.bulkhead.leave();
    }
}

/// Becomes a place. Dropped before, it leaves the queue.
pub(crate) enum Entering<'a> {
    In(Option<Place<'a>>),
    Waits(Waits<'a>),
}

pub(crate) struct Waits<'a> {
    bulkhead: &'a Bulkhead,
    /// `None` once it was exchanged for a place.
    ticket: Option<Arc<Ticket>>,
}

impl<'a> Future for Entering<'a> {
    type Output = Place<'a>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Place<'a>> {
        match self.get_mut() {
            Self::In(place) => place.take().map_or(Poll::Pending, Poll::Ready),
            Self::Waits(waits) => waits.poll(context),
        }
    }
}

impl<'a> Waits<'a> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Place<'a>> {
        let Some(ticket) = &self.ticket else { return Poll::Pending };
        if !ticket.has_place.load(Ordering::Acquire) {
            ticket.waker.register(context.waker());
            // The waker before the second look: a place that comes in between calls it.
            if !ticket.has_place.load(Ordering::Acquire) {
                return Poll::Pending;
            }
        }
        self.ticket = None;
        Poll::Ready(Place { bulkhead: self.bulkhead })
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut queue = self.bulkhead.lock();
        // Whoever has waited longest goes first, so it stands at the front, or nearly.
        match queue.iter().position(|other| Arc::ptr_eq(other, &ticket)) {
            Some(at) => {
                queue.remove(at);
                self.bulkhead.load.fetch_sub(ONE_WAITS, Ordering::Relaxed);
            }
            // It was handed a place that it will not use.
            None => {
                drop(queue);
                self.bulkhead.leave();
            }
        }
    }
}

#[cfg(test)]
mod tests;
