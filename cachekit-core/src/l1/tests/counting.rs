//! Counts that no thread loses, and debug output that tells nothing.

use super::*;

/// Held by tests that count on stripes being free.
static STRIPES_IN_TEST: Mutex<()> = Mutex::new(());

#[test]
fn a_thread_that_ends_hands_its_stripe_on() {
    let _alone = STRIPES_IN_TEST.lock();
    let exclusive = (0..300).filter(|_| thread::spawn(stats::has_own_stripe).join().unwrap()).count();
    assert!(exclusive > 64, "only {exclusive} of 300 threads, one after another, got a stripe");
}

#[test]
fn more_threads_than_stripes_lose_no_count() {
    let _alone = STRIPES_IN_TEST.lock();
    const THREADS: u64 = 80;
    let counters = Counters::new();
    let start = Barrier::new(THREADS as usize);
    // Twice, so that the second generation of threads takes over used stripes.
    for _ in 0..2 {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    (0..10_000).for_each(|_| counters.count(Event::Hit));
                    start.wait();
                });
            }
        });
    }
    assert_eq!(counters.sum(Event::Hit), 2 * THREADS * 10_000);
    assert_eq!(counters.sum(Event::Miss), 0);
}

#[test]
fn neither_keys_nor_values_are_in_debug_output() {
    let f = roomy();
    let _ = f.put_roomy("secret-key", "secret-value");
    let hit = f.get("secret-key").unwrap();
    let hash = f.l1.hash(b"secret-key");
    let text = format!("{:?} {hit:?} {hash:?}", f.l1);
    assert!(!text.contains("secret") && !text.contains(&hash.as_u64().to_string()), "{text}");
}
