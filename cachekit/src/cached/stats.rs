//! How often a cached function was called and what came of it, at a price that a hit does not feel.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What the calls of one function came to in this process. Every call that returned is one of `hits` and `misses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct FunctionStats {
    /// Calls that were answered without running the function, by the cache or by the run of another caller.
    pub hits: u64,
    /// Calls that ran the function.
    pub misses: u64,
    /// Times the cache could not be used, and the function ran without it or the error was returned.
    pub bypassed: u64,
}

/// Threads share a stripe of counters with few others, because one for all would pass from core to core with every call.
const STRIPES: usize = 16;

#[repr(align(128))]
#[derive(Debug)]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Counts {
    stripes: [Stripe; STRIPES],
    bypassed: AtomicU64,
}

impl Counts {
    pub(super) const fn new() -> Self {
        let stripes = [const { Stripe { hits: AtomicU64::new(0), misses: AtomicU64::new(0) } }; STRIPES];
        Self { stripes, bypassed: AtomicU64::new(0) }
    }

    /// A call has its answer.
    pub(super) fn call(&self, ran: bool) {
        let stripe = &self.stripes[stripe()];
        let counter = if ran { &stripe.misses } else { &stripe.hits };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn bypassed(&self) {
        self.bypassed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> FunctionStats {
        let sum = |counter: fn(&Stripe) -> &AtomicU64| {
            self.stripes.iter().map(|stripe| counter(stripe).load(Ordering::Relaxed)).sum()
        };
        FunctionStats {
            hits: sum(|stripe| &stripe.hits),
            misses: sum(|stripe| &stripe.misses),
            bypassed: self.bypassed.load(Ordering::Relaxed),
        }
    }
}

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const NOT_YET: usize = usize::MAX;
    thread_local!(static MINE: Cell<usize> = const { Cell::new(NOT_YET) });
    MINE.with(|mine| match mine.get() {
        NOT_YET => {
            let stripe = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
            mine.set(stripe);
            stripe
        }
        stripe => stripe,
    })
}
