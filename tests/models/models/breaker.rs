//! What must hold while the breaker is half-open, whoever comes first.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicUsize;

use cachekit_core::clock::ManualClock;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::*;

const PROBES: u32 = 2;
const OPEN: Duration = Duration::from_millis(10);

/// A breaker whose open time is over.
fn about_to_probe() -> (Arc<Breaker>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let config = BreakerConfig { failures: 1, probes: PROBES, successes: PROBES, ..BreakerConfig::default() };
    let breaker = Breaker::new(config.with_fixed_open(OPEN), Arc::clone(&clock) as Arc<dyn Clock>);
    breaker.admit(Operation::Get).expect("it is closed").settle(true);
    clock.advance(OPEN * 2);
    (Arc::new(breaker), clock)
}

fn in_threads(count: usize, what: impl Fn() + Send + Sync + 'static) {
    let what = Arc::new(what);
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let what = Arc::clone(&what);
            thread::spawn(move || what())
        })
        .collect();
    for thread in threads {
        thread.join().expect("a property that fails in a thread fails");
    }
}

/// Of all places of one half-open time, those in use and those used up are never more than there are.
pub(super) fn no_more_probes_than_allowed() {
    let (breaker, _clock) = about_to_probe();
    // Successes stay counted: a place that was used is not a free one.
    let taken = AtomicUsize::new(0);
    in_threads(4, move || {
        for _ in 0..2 {
            let Ok(permit) = breaker.admit(Operation::Get) else { continue };
            if permit.probe.is_none() {
                // It has closed: calls are no probes any more.
                continue;
            }
            assert!(taken.fetch_add(1, Ordering::SeqCst) < PROBES as usize, "more probes than places");
            thread::yield_now();
            if thread_rng().gen_bool(0.5) {
                permit.settle(false);
            } else {
                taken.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
            }
        }
    });
}

/// Cancelled or panicked: the same number of probes is there for others at once.
pub(super) fn a_probe_that_goes_away_leaves_its_place() {
    let (breaker, _clock) = about_to_probe();
    let those = Arc::clone(&breaker);
    in_threads(3, move || {
        let permit = those.admit(Operation::Get);
        thread::yield_now();
        if thread_rng().gen_bool(0.5) {
            let call = AssertUnwindSafe(move || {
                let _permit = permit;
                resume_unwind(Box::new("a backend that panics"));
            });
            catch_unwind(call).expect_err("it panicked");
        }
    });
    for _ in 0..PROBES {
        breaker.admit(Operation::Get).expect("every place was given back").settle(false);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// Probes that hang leave their places to others after another open time, and when they go away at last, the places are
/// not given back a second time.
pub(super) fn a_late_probe_takes_no_place_from_another() {
    let (breaker, clock) = about_to_probe();
    let hanging: Vec<_> = (0..PROBES).map(|_| breaker.admit(Operation::Get).expect("a place")).collect();
    clock.advance(OPEN * 2);
    let taken = AtomicUsize::new(0);
    let those = Arc::clone(&breaker);
    let others = thread::spawn(move || {
        in_threads(3, move || {
            let Ok(permit) = those.admit(Operation::Get) else { return };
            assert!(taken.fetch_add(1, Ordering::SeqCst) < PROBES as usize, "more probes than places");
            thread::yield_now();
            taken.fetch_sub(1, Ordering::SeqCst);
            drop(permit);
        });
    });
    for permit in hanging {
        thread::yield_now();
        drop(permit);
    }
    others.join().expect("no more probes than places");
}

/// However success and failure of the probes interleave, a store that failed one of them ends behind an open breaker.
pub(super) fn a_failed_probe_opens_it_in_any_order() {
    let (breaker, _clock) = about_to_probe();
    let first = AtomicUsize::new(0);
    let those = Arc::clone(&breaker);
    in_threads(3, move || {
        let Ok(permit) = those.admit(Operation::Get) else { return };
        thread::yield_now();
        permit.settle(first.fetch_add(1, Ordering::SeqCst) == 0);
    });
    assert_eq!(breaker.state(), BreakerState::Open);
}

/// Whatever became of the probes, once the store is well and time passes, it closes.
pub(super) fn it_is_never_wedged() {
    let (breaker, clock) = about_to_probe();
    let (those, time) = (Arc::clone(&breaker), Arc::clone(&clock));
    in_threads(3, move || {
        let Ok(permit) = those.admit(Operation::Get) else { return };
        match thread_rng().gen_range(0..4) {
            0 => permit.settle(true),
            1 => permit.settle(false),
            2 => drop(permit),
            // It hangs for ever.
            _ => std::mem::forget(permit),
        }
        time.advance(OPEN);
    });
    clock.advance(OPEN * 3);
    for _ in 0..PROBES {
        breaker.admit(Operation::Get).expect("time has passed").settle(false);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}
