//! What the in-process tier counts, at a price a hit does not feel.
//!
//! One shared counter would make every hit of every core write the same cache line, which under contention costs more than
//! the hit itself. So counters are striped, and a thread *leases* a stripe for as long as it lives. A leased stripe has
//! one writer, which adds with a plain load and store, no locked instruction; readers sum the stripes. Threads beyond the
//! 63 leases share the last stripe and add atomically there. No count is lost in either case.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the in-process tier did since it was made. Counters only grow.
///
/// When nothing is in flight, `entries == inserts - replaced - evictions - expired - removed`, and a lookup is exactly one
/// of `hits` or `misses`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct L1Stats {
    /// Lookups that returned a value.
    pub hits: u64,
    /// Lookups that did not, for whatever reason.
    pub misses: u64,
    /// Entries dropped by a lookup, because their life was over or their namespace epoch was another. Also misses.
    pub expired: u64,
    /// Values that were kept.
    pub inserts: u64,
    /// Older values that a later insert took the place of.
    pub replaced: u64,
    /// Values that were not kept: too large, or of less use than everything they would have displaced.
    pub refused: u64,
    /// Entries dropped to make room.
    pub evictions: u64,
    /// Entries dropped by `remove`, by `clear`, or because a newer value of their key was refused.
    pub removed: u64,
    /// Entries held now.
    pub entries: u64,
    /// Bytes charged for them now; never more than `max_bytes`.
    pub bytes: u64,
    /// Panics of the event listener; each was caught.
    pub listener_panics: u64,
}

/// One counted event; the position of its counter in a stripe.
#[derive(Clone, Copy)]
pub(super) enum Event {
    Hit,
    Miss,
    Expired,
    Insert,
    Replaced,
    Refused,
    Eviction,
    Removed,
}
const EVENTS: usize = Event::Removed as usize + 1;

/// 128, not 64: x86 prefetches lines in pairs, and some ARM cores have 128-byte lines.
#[repr(align(128))]
#[derive(Default)]
struct Stripe([AtomicU64; EVENTS]);

const STRIPES: usize = 64;
/// The stripe of threads without a lease.
const SHARED: usize = STRIPES - 1;

pub(super) struct Counters(Box<[Stripe; STRIPES]>);

impl Counters {
    pub(super) fn new() -> Self {
        Self(Box::new(std::array::from_fn(|_| Stripe::default())))
    }

    #[inline]
    pub(super) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    #[inline]
    pub(super) fn add(&self, event: Event, n: u64) {
        let stripe = STRIPE.get();
        match self.0.get(stripe) {
            // Not a lost update: only the holder of the lease writes here.
            Some(Stripe(counters)) if stripe < SHARED => {
                let counter = &counters[event as usize];
                counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
            }
            _ => self.add_without_lease(event, n),
        }
    }

    /// The first of a thread, and all of a thread that got no lease.
    #[cold]
    fn add_without_lease(&self, event: Event, n: u64) {
        self.0[leased_stripe()].0[event as usize].fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn sum(&self, event: Event) -> u64 {
        self.0.iter().map(|stripe| stripe.0[event as usize].load(Ordering::Relaxed)).sum()
    }
}

/// Bit `i` is set while some live thread holds stripe `i`, in every `Counters` of the process. A bitmap, not a list behind
/// a mutex: a child made by `fork()` must never find it locked.
static LEASED: AtomicU64 = AtomicU64::new(0);

/// Gives the thread's stripe back when the thread ends.
struct Lease(usize);

impl Lease {
    fn take() -> Self {
        let mut leased = LEASED.load(Ordering::Relaxed);
        loop {
            let free = leased.trailing_ones() as usize;
            if free >= SHARED {
                return Self(SHARED);
            }
            // Acquire pairs with the release below: the last holder's stores are visible before we add to them.
            match LEASED.compare_exchange_weak(leased, leased | 1 << free, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Self(free),
                Err(now) => leased = now,
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A destructor that runs after this one may still look something up.
        STRIPE.set(SHARED);
        if self.0 != SHARED {
            LEASED.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }
}

const NOT_YET: usize = usize::MAX;

thread_local! {
    static LEASE: Lease = Lease::take();
    /// The number in `LEASE`, apart: without a destructor a thread-local is one load, with no state to check first.
    static STRIPE: Cell<usize> = const { Cell::new(NOT_YET) };
}

#[inline]
fn leased_stripe() -> usize {
    let stripe = STRIPE.get();
    if stripe == NOT_YET { lease_stripe() } else { stripe }
}

#[cold]
fn lease_stripe() -> usize {
    let stripe = LEASE.try_with(|lease| lease.0).unwrap_or(SHARED);
    STRIPE.set(stripe);
    stripe
}

#[cfg(test)]
pub(super) fn has_own_stripe() -> bool {
    leased_stripe() != SHARED
}
