//! What the cache did, in numbers, and how long it took. Counted with relaxed atomics: each number is right, their moment is
//! not the same.

#[cfg(feature = "metrics")]
mod enabled;
#[cfg(not(feature = "metrics"))]
#[path = "observe/disabled.rs"]
mod enabled;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use serde::Serialize;
use tracing::{Instrument, Span};

use crate::behind::BehindStats;
use crate::codec::Refusal;
use crate::guard::stack::GuardCounts;
use crate::l1::L1Stats;
use crate::tier::chain::TierStats;
pub(crate) use enabled::{Stopwatch, of_plugin};

/// The name of the histogram of exchanges with the second tier.
pub const L2_SECONDS: &str = "cachekit_l2_seconds";
/// The name of the histogram of loads.
pub const LOAD_SECONDS: &str = "cachekit_load_seconds";

/// Runs a loader inside its span, and measures it.
///
/// On the heap: it may be the whole of another load, and each future that it is handed through would hold it twice.
pub(crate) fn loading<T, E>(
    span: Span,
    load: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    let stopwatch = Stopwatch::start();
    Box::pin(load).instrument(span).inspect(move |loaded| stopwatch.load(loaded.is_ok()))
}

macro_rules! counters {
    ($($(#[doc = $text:literal])* $name:ident),* $(,)? ; $($(#[doc = $derived_text:literal])* $derived:ident: $from:ident),* $(,)?) => {
        /// The engine's counters.
        #[derive(Debug)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            refused: [Counter; Refusal::CLASSES.len()],
        }

        /// What the cache did since it was built.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $text])* pub $name: u64,)*
            $($(#[doc = $derived_text])* pub $derived: u64,)*
            /// Entries of the second tier that were refused, by class; each was a miss.
            pub refused: BTreeMap<&'static str, u64>,
            /// What each tier in front of the last one did, from near to far.
            pub fronts: Vec<TierStats>,
            /// Entries that each previous master key has opened, newest key first: when a number stops growing, its key can
            /// go. Counted per keyring, which several caches may share; empty without previous keys.
            pub opened_by_previous_key: Vec<u64>,
            /// What waits to be written to the second tier, unless nothing is written behind.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub behind: Option<BehindStats>,
            /// The in-process tier, unless it is off.
            pub l1: Option<L1Stats>,
        }

        /// Every counter of [`Stats`] with what it counts, but for those of the first tier and the refusals.
        pub const COUNTERS: &[(&str, &str)] = &[
            $((stringify!($name), concat!($($text),*)),)*
            $((stringify!($derived), concat!($($derived_text),*)),)*
        ];

        impl Counters {
            pub(crate) fn new() -> Self {
                Self { $($name: Counter::default(),)* refused: Default::default() }
            }

            pub(crate) fn read(
                &self,
                guards: GuardCounts,
                fronts: Vec<TierStats>,
                opened_by_previous_key: Vec<u64>,
                l1: Option<L1Stats>,
            ) -> Stats {
                let refused = Refusal::CLASSES.iter().zip(&self.refused);
                Stats {
                    $($name: self.$name.get(),)*
                    $($derived: guards.$from,)*
                    refused: refused.map(|(class, n)| (*class, n.get())).filter(|(_, n)| *n > 0).collect(),
                    fronts,
                    opened_by_previous_key,
                    behind: None,
                    l1,
                }
            }
        }
    };
}

counters! {
    /// Values found in the second tier.
    l2_hits,
    /// Keys the second tier did not have.
    l2_misses,
    /// Operations on the second tier that failed.
    l2_errors,
    /// Of these, the ones that ran into their deadline, or into the adaptive timeout at their last try.
    l2_timeouts,
    /// Values written.
    sets,
    /// Values written to the first tier alone, because the second failed; lost, if there is no first.
    sets_l1_only,
    /// Values that were accepted to be written to the second tier later; they count as sets as well.
    writes_behind,
    /// Values that went through, because as much waited as may.
    writes_behind_through,
    /// Values whose life ended while they waited to be written.
    writes_expired,
    /// Values that were accepted and given up: the second tier never got them, or nobody knows.
    writes_lost,
    /// Deletions.
    deletes,
    /// Tags that were invalidated here.
    tags_invalidated,
    /// Entries that were not served, because a tag of theirs or their namespace was invalidated since they were written.
    invalidated,
    /// Exchanges with the second tier for the epochs of tags and namespaces alone.
    epoch_reads,
    /// Loaders that ran.
    loads,
    /// Loaders that failed.
    load_failures,
    /// Callers that waited for another's loader instead of running their own.
    coalesced,
    /// Values that were served in their stale window.
    stale_served,
    /// Values past their time that were served because a loader failed.
    stale_if_error,
    /// Refreshes begun of something that was still there.
    refreshes,
    /// Of these, the ones of values that were still fresh.
    early_refreshes,
    /// Refreshes that failed: what was there stayed.
    refresh_failures,
    /// Refreshes and extensions that were not begun, and slow loads whose callers waited on, because too many were running.
    refreshes_refused,
    /// Loads that were spared by knowing that there is nothing.
    negative_hits,
    /// Callers that were served a value past its time because the loader was slow.
    soft_timeouts,
    /// Loaders that were dropped because they took too long; they count as failures as well.
    hard_timeouts,
    /// Entries that a get gave their life anew.
    lives_extended,
    /// Entries that a previous master key had opened and that were written anew under the current one.
    entries_resealed,
    /// Values that were not kept, because a write or a deletion of their key came while they were on their way.
    overtaken,
    /// Fill locks taken: loads that no other process runs at the same time.
    fill_locks_taken,
    /// Misses whose fill lock another process had.
    fill_lock_waits,
    /// Of these, the ones whose patience ended: they loaded as well.
    fill_locks_given_up,
    /// Fill locks that the second tier could neither give nor refuse: loads that other processes may have run as well.
    fill_lock_failures,
    /// Misses whose value another process had stored by the second look.
    fills_by_others,
    /// Loaded values that were not stored, because another process wrote, deleted or cleared their key meanwhile.
    fills_fenced,
    /// Calls of loaders that load several keys.
    batch_loads,
    /// Keys they were called for; each is a load as well.
    batch_keys,
    /// Of these calls, the ones that failed as a whole.
    batch_failures,
    /// Changes by other writers that the second tier told of.
    changes_told,
    /// Entries that the first tier forgot because of one of them.
    changes_forgotten,
    /// Times the second tier could no longer tell: the first tier forgot everything.
    watches_lost,
    /// Snapshots of the first tier that were written.
    snapshots_saved,
    /// Snapshots that could not be used, which made a cold start.
    snapshots_refused,
    /// Entries that came from a snapshot.
    snapshot_restored,
    /// Compression dictionaries that were read from the second tier.
    dictionaries_read,
    /// Compression dictionaries that were asked of the second tier in vain, or were not what their id says. Entries that
    /// need one are counted among the refused ones.
    dictionaries_missing,
    /// Times this cache put its compression dictionary into the second tier, which did not have it.
    dictionaries_written,
    ;
    // Kept by the guards.
    /// Operations on the second tier that the circuit breaker refused; they count as errors as well.
    l2_shed: shed_by_breaker,
    /// Operations that the bulkhead refused because its queue was full; they count as errors as well.
    l2_shed_full: shed_full,
    /// Operations that waited in the bulkhead's queue for as long as they may; they count as errors as well.
    l2_shed_waited: shed_waited,
    /// Tries after the first.
    l2_retries: retries,
    /// Tries that were not made, because too many were in proportion to the calls.
    l2_retries_over_budget: retries_over_budget,
    /// Tries that were not made, because they could not have ended before the deadline.
    l2_retries_too_late: retries_too_late,
    /// Tries that were given up because they took much longer than such answers do (adaptive timeout).
    l2_cut: cut,
}

impl Counters {
    pub(crate) fn refuse(&self, refusal: Refusal) {
        if let Some(class) = Refusal::CLASSES.iter().position(|class| *class == refusal.class()) {
            self.refused[class].add();
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.add_n(1);
    }

    pub(crate) fn add_n(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
