//! What must hold while entries come and go.

use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Observed;

use shuttle::thread;

use super::*;

/// Of the entries that are held, added up by the threads that hold them. No point where the scheduler acts, so what is compared
/// with it is of the same moment.
fn check(slack: &Slack, held: &Observed) {
    let counted = slack.0.load(Ordering::Relaxed);
    let held = held.load(Ordering::Relaxed);
    assert!(counted >= held, "{counted} for {held}");
}

pub fn it_is_never_too_small_and_nothing_in_the_end() {
    let (slack, held) = (Arc::new(Slack::new()), Arc::new(Observed::new(0)));
    let threads: Vec<_> = [3, 5]
        .into_iter()
        .map(|by| {
            let (slack, held) = (Arc::clone(&slack), Arc::clone(&held));
            thread::spawn(move || {
                for _ in 0..2 {
                    slack.inserting(by, || held.fetch_add(by, Ordering::Relaxed));
                    check(&slack, &held);
                    held.fetch_sub(by, Ordering::Relaxed);
                    slack.lower(by);
                }
            })
        })
        .collect();
    for _ in 0..3 {
        check(&slack, &held);
        // A weight that is less than the slack, because its entry is not in yet.
        assert!(slack.bytes(4) <= 4);
    }
    for thread in threads {
        thread.join().expect("a property that fails in a thread fails");
    }
    assert_eq!(slack.0.load(Ordering::Relaxed), 0);
    assert_eq!(slack.bytes(7), 7);
}
