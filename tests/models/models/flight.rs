//! What must hold of flights however their callers come, lead, wait and go away at the same time.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize};

use futures_util::FutureExt;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::*;

const HASH: KeyHash = KeyHash(1);
const KEY: &[u8] = b"k";

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

fn join(flights: &Flights) -> Part<'_> {
    block_on(flights.join(HASH, KEY))
}

fn value(n: u64) -> Landed {
    Ok(Arc::new(n))
}

fn number(landed: &Landed) -> u64 {
    *landed.as_ref().ok().and_then(|value| value.downcast_ref()).expect("a number landed")
}

/// It has loaded, has failed for itself alone, was cancelled, or panics.
fn ends_somehow(leader: Leader<'_>) {
    match thread_rng().gen_range(0..4) {
        0 => leader.land(value(1), Moment::EVERYBODY),
        1 => leader.part(),
        2 => drop(leader),
        _ => {
            let load = AssertUnwindSafe(move || {
                let _leader = leader;
                resume_unwind(Box::new("a loader that panics"));
            });
            catch_unwind(load).expect_err("it panicked");
        }
    }
}

/// While one leads, nobody else does, also if leaders go away and waiters take their place.
pub(super) fn no_two_lead_at_the_same_time() {
    let flights = Arc::new(Flights::new());
    let leading = AtomicUsize::new(0);
    let those = Arc::clone(&flights);
    in_threads(4, move || {
        if let Part::Leader(leader) = join(&those) {
            assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "another one leads");
            thread::yield_now();
            leading.fetch_sub(1, Ordering::SeqCst);
            ends_somehow(leader);
        }
    });
    assert_eq!(flights.len(), 0, "no flight outlives its callers");
}

/// Shuttle calls it a deadlock if not.
pub(super) fn whoever_waits_is_woken_whatever_becomes_of_the_leader() {
    let flights = Arc::new(Flights::new());
    let those = Arc::clone(&flights);
    in_threads(4, move || {
        // Some go away while they wait.
        let mut joining = Box::pin(those.join(HASH, KEY));
        let part = if thread_rng().gen_bool(0.2) {
            joining.as_mut().now_or_never()
        } else {
            Some(block_on(joining.as_mut()))
        };
        thread::yield_now();
        if let Some(Part::Leader(leader)) = part {
            ends_somehow(leader);
        }
    });
    assert_eq!(flights.len(), 0, "no flight outlives its callers");
}

/// Writes of this process: whoever asks after one has returned gets nothing that was read before it.
pub(super) fn after_a_write_nobody_joins_what_began_before_it() {
    let flights = Arc::new(Flights::new());
    let (source, returned) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (flights, source, returned) = (Arc::clone(&flights), Arc::clone(&source), Arc::clone(&returned));
        thread::spawn(move || {
            for n in 1..=2 {
                source.store(n, Ordering::SeqCst);
                thread::yield_now();
                flights.detach(HASH);
                returned.store(n, Ordering::SeqCst);
            }
        })
    };
    in_threads(3, move || {
        let at_least = returned.load(Ordering::SeqCst);
        match join(&flights) {
            Part::Leader(leader) => {
                let loaded = source.load(Ordering::SeqCst);
                thread::yield_now();
                leader.land(value(loaded), Moment::EVERYBODY);
            }
            Part::Follower(landed) => assert!(number(&landed) >= at_least, "it is older than the write"),
            Part::Alone => panic!("nobody parted"),
        }
    });
    writer.join().expect("it has no property");
}

/// An old leader that goes away in whatever way lets the flight of a newer one be found.
pub(super) fn a_leader_that_was_detached_takes_nothing_from_the_next() {
    let flights = Arc::new(Flights::new());
    let leading = Arc::new(AtomicUsize::new(0));
    let Part::Leader(old) = join(&flights) else { panic!("the first one leads") };
    flights.detach(HASH);
    let newer: Vec<_> = (0..2)
        .map(|_| {
            let (flights, leading) = (Arc::clone(&flights), Arc::clone(&leading));
            thread::spawn(move || {
                let Part::Leader(leader) = join(&flights) else { return };
                assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "another new one leads");
                thread::yield_now();
                leading.fetch_sub(1, Ordering::SeqCst);
                leader.land(value(2), Moment::EVERYBODY);
            })
        })
        .collect();
    ends_somehow(old);
    for thread in newer {
        thread.join().expect("a property that fails in a thread fails");
    }
    assert_eq!(flights.len(), 0, "no flight outlives its callers");
}

/// Writes of another process, which detach nothing here. The leader does as a load does: it takes a moment, asks, takes another,
/// and is refused if somebody wrote since it asked. A write of this process may take its flight away meanwhile.
pub(super) fn nobody_gets_what_another_process_had_overwritten_when_he_asked() {
    let flights = Arc::new(Flights::new());
    let store = Arc::new(AtomicU64::new(0));
    let writer = {
        let (flights, store) = (Arc::clone(&flights), Arc::clone(&store));
        thread::spawn(move || {
            for _ in 0..2 {
                thread::yield_now();
                store.fetch_add(1, Ordering::SeqCst);
                if thread_rng().gen_bool(0.2) {
                    flights.detach(HASH);
                }
            }
        })
    };
    in_threads(3, move || {
        thread::yield_now();
        let at_least = store.load(Ordering::SeqCst);
        match join(&flights) {
            Part::Leader(leader) => {
                let began = flights.moment();
                thread::yield_now();
                let loaded = store.load(Ordering::SeqCst);
                thread::yield_now();
                let stood = flights.moment();
                thread::yield_now();
                let stands = store.load(Ordering::SeqCst) == loaded;
                thread::yield_now();
                leader.land(value(loaded), if stands { stood } else { began });
            }
            Part::Follower(landed) => assert!(number(&landed) >= at_least, "it was overwritten when he asked"),
            Part::Alone => panic!("nobody parted"),
        }
    });
    writer.join().expect("it has no property");
}

/// While others lead and wait at the same time.
pub(super) fn a_load_that_asks_for_its_own_key_waits_for_nobody() {
    let flights = Arc::new(Flights::new());
    in_threads(3, move || {
        let Part::Leader(leader) = join(&flights) else { return };
        let asks = async {
            thread::yield_now();
            matches!(flights.join(HASH, KEY).await, Part::Alone)
        };
        assert!(block_on(leader.lead(asks)), "it would wait for itself");
        leader.land(value(1), Moment::EVERYBODY);
    });
}

/// The first leader is slow, or nobody drives him any more. He goes only when the rest have what the other landed, and at most one
/// leads beside him at any time, whatever becomes of that one's answer.
pub(super) fn of_all_who_wait_too_long_one_leads_beside_the_first() {
    let flights = Arc::new(Flights::new());
    let Part::Leader(first) = join(&flights) else { panic!("the first one leads") };
    match &mut *lock(&first.flight.state) {
        State::Flying { due, .. } => *due = Deadline::from_monotonic_ns(1),
        _ => panic!("it flies"),
    }
    let leading = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (flights, leading) = (Arc::clone(&flights), Arc::clone(&leading));
            thread::spawn(move || match join(&flights) {
                Part::Leader(leader) => {
                    assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "another one leads beside the first");
                    thread::yield_now();
                    leading.fetch_sub(1, Ordering::SeqCst);
                    leader.land(value(2), Moment::EVERYBODY);
                }
                Part::Follower(landed) => assert_eq!(number(&landed), 2),
                Part::Alone => panic!("nobody parted"),
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a property that fails in a thread fails");
    }
    ends_somehow(first);
    assert_eq!(flights.len(), 0, "no flight outlives its callers");
}
