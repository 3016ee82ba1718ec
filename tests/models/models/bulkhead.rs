//! What must hold however calls come, wait, end and go away at the same time.

use std::sync::atomic::AtomicUsize;

use futures_util::FutureExt;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::*;

const IN_FLIGHT: u32 = 2;
const QUEUED: u32 = 1;

fn bulkhead() -> Arc<Bulkhead> {
    let config = BulkheadConfig { in_flight: IN_FLIGHT, queued: QUEUED, ..BulkheadConfig::default() };
    Arc::new(Bulkhead::new(config))
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

fn entering(bulkhead: &Bulkhead) -> Option<Entering<'_>> {
    match bulkhead.try_enter() {
        Some(place) => Some(Entering::In(Some(place))),
        None => bulkhead.enter().ok(),
    }
}

/// Never more in flight than may be, and never more in the queue.
pub(super) fn neither_bound_is_exceeded() {
    let bulkhead = bulkhead();
    let inside = AtomicUsize::new(0);
    let those = Arc::clone(&bulkhead);
    in_threads(4, move || {
        let Some(entering) = entering(&those) else { return };
        assert!(those.lock().len() <= QUEUED as usize, "more wait than may");
        let place = block_on(entering);
        assert!(inside.fetch_add(1, Ordering::SeqCst) < IN_FLIGHT as usize, "more in flight than may");
        thread::yield_now();
        inside.fetch_sub(1, Ordering::SeqCst);
        drop(place);
    });
    assert_eq!(bulkhead.load(), (0, 0));
}

/// Whoever waits gets a place when one is left: shuttle calls it a deadlock if not.
pub(super) fn a_place_that_is_left_reaches_whoever_waits() {
    let bulkhead = bulkhead();
    let those = Arc::clone(&bulkhead);
    in_threads(IN_FLIGHT as usize + QUEUED as usize, move || {
        for _ in 0..2 {
            let entering = entering(&those).expect("there is room for all of them");
            drop(block_on(entering));
        }
    });
    assert_eq!(bulkhead.load(), (0, 0));
}

/// Those who go away while they wait, or with a place that they were just handed, leave all places to others.
pub(super) fn nothing_is_lost_with_those_who_go_away() {
    let bulkhead = bulkhead();
    let those = Arc::clone(&bulkhead);
    in_threads(4, move || {
        let Some(mut entering) = entering(&those) else { return };
        let place = (&mut entering).now_or_never();
        thread::yield_now();
        if thread_rng().gen_bool(0.5) {
            drop(entering);
            thread::yield_now();
            drop(place);
        } else {
            drop(place);
            drop(entering);
        }
    });
    assert_eq!(bulkhead.load(), (0, 0));
    let places: Vec<_> = (0..IN_FLIGHT).map(|_| bulkhead.try_enter().expect("every place is free")).collect();
    assert!(bulkhead.enter().is_ok_and(|waits| matches!(waits, Entering::Waits(_))));
    drop(places);
}
