//! One key with its store and its place in L1, used as `cache.rs` uses them: what must hold, whoever comes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shuttle::thread;

use super::*;

/// The key, and others of its stripe.
const KEY: u64 = 2;
const NEIGHBOUR: u64 = 4;

/// Values are numbers that grow with each write, so that older is smaller.
#[derive(Default)]
struct Key {
    generation: Generation,
    /// Orders the writes of this process.
    turn: Mutex<()>,
    store: Mutex<u64>,
    l1: Mutex<Option<u64>>,
    /// The newest value of which a caller was told that it is stored.
    finished: AtomicU64,
    /// A write of this process that the store does not have was reported as done.
    in_vain: AtomicBool,
}

impl Key {
    fn in_store(&self) -> u64 {
        *self.store.lock().expect("no property panics with it")
    }

    /// Puts the next value into the store.
    fn put(&self) -> u64 {
        let mut store = self.store.lock().expect("no property panics with it");
        *store += 1;
        *store
    }

    fn in_l1(&self) -> Option<u64> {
        *self.l1.lock().expect("no property panics with it")
    }

    fn keep(&self, value: Option<u64>) {
        *self.l1.lock().expect("no property panics with it") = value;
    }

    /// A miss in L1 that reads the store and fills L1.
    fn read(&self) -> u64 {
        if let Some(value) = self.in_l1() {
            return value;
        }
        let noted = self.generation.note();
        let value = self.in_store();
        self.generation.keep_if_still(KEY, noted, || self.keep(Some(value)));
        value
    }

    /// A write of this process.
    fn write(&self) {
        self.generation.advance(KEY);
        let mine = self.generation.note();
        let value = {
            let _turn = self.turn.lock().expect("no property panics with it");
            let value = self.put();
            let settled = self.generation.settle(KEY, mine);
            let kept = settled.and_then(|settled| self.generation.keep_if_still(KEY, settled, || self.keep(Some(value))));
            if kept.is_none() {
                self.keep(None);
            }
            value
        };
        self.finished.fetch_max(value, Ordering::SeqCst);
    }

    /// A write of another process, and the event that tells of it.
    fn change(&self) {
        self.put();
        self.generation.tell(KEY);
        self.keep(None);
    }

    /// A write of this process that does not come to the store and is in L1 alone, which its caller is told.
    fn write_in_vain(&self) {
        self.generation.advance(KEY);
        let mine = self.generation.note();
        let _turn = self.turn.lock().expect("no property panics with it");
        self.generation.settle(KEY, mine);
        self.in_vain.store(true, Ordering::SeqCst);
    }

    /// A load that puts its value over what it saw, and over nothing else.
    fn load(&self) {
        let noted = self.generation.note();
        let is_first = !self.in_vain.load(Ordering::SeqCst);
        let seen = self.in_store();
        thread::yield_now();
        let _turn = self.turn.lock().expect("no property panics with it");
        if !self.generation.still_here(KEY, noted) {
            return;
        }
        let mut store = self.store.lock().expect("no property panics with it");
        if *store == seen {
            *store += 1;
            assert!(
                !(is_first && self.in_vain.load(Ordering::SeqCst)),
                "a load that began before a write of this process was stored after it"
            );
        }
    }
}

fn all(key: &Arc<Key>, steps: &[fn(&Key)]) {
    let threads: Vec<_> = steps
        .iter()
        .map(|step| {
            let (key, step) = (Arc::clone(key), *step);
            thread::spawn(move || step(&key))
        })
        .collect();
    for thread in threads {
        thread.join().expect("a property that fails in a thread fails");
    }
}

fn read(key: &Key) {
    key.read();
}

/// When everybody is done, L1 has nothing or what the store has.
pub(super) fn l1_ends_with_what_the_store_has() {
    let key = Arc::new(Key::default());
    all(&key, &[Key::write, Key::change, read]);
    assert!(key.in_l1().is_none_or(|value| value == key.in_store()), "L1 and the store differ for good");
}

/// Whoever looks after a write was reported as stored sees it, or something newer.
pub(super) fn no_look_goes_back_behind_a_finished_write() {
    let key = Arc::new(Key::default());
    let look = |key: &Key| {
        for _ in 0..2 {
            let finished = key.finished.load(Ordering::SeqCst);
            assert!(key.read() >= finished, "an older value came back");
        }
    };
    all(&key, &[Key::write, look, look]);
    look(&key);
}

/// Once a change by another process was told, L1 has nothing older.
pub(super) fn nothing_older_is_kept_after_a_change_was_told() {
    let key = Arc::new(Key::default());
    all(&key, &[Key::change, read, read]);
    assert!(key.in_l1().is_none_or(|value| value == key.in_store()), "what was told is still there");
}

/// An epoch is an entry: a slow read of the older one never undoes a newer one, for whoever asks L1 afterwards.
pub(super) fn an_epoch_that_was_renewed_stays_so() {
    let key = Arc::new(Key::default());
    let invalidate = |key: &Key| {
        let before = key.in_store();
        key.write();
        assert!(key.read() > before, "the older epoch is in force again");
    };
    all(&key, &[invalidate, read, read]);
    assert!(key.read() > 0);
}

/// What a caller of this process was told is older in no tier, also where the store, which knows nothing of it, would agree.
pub(super) fn a_fenced_load_puts_nothing_over_what_never_came_to_the_store() {
    let key = Arc::new(Key::default());
    all(&key, &[Key::load, Key::write_in_vain, Key::change]);
}

/// Few enough of them to be known.
pub(super) fn a_change_of_a_neighbour_is_none() {
    let key = Arc::new(Key::default());
    let neighbour = |key: &Key| {
        key.generation.tell(NEIGHBOUR);
        key.generation.advance(NEIGHBOUR);
    };
    all(&key, &[neighbour, read]);
    assert_eq!(key.in_l1(), Some(0), "the read was not kept");
    key.write();
    assert_eq!(key.in_l1(), Some(1));
}

/// Also where so many come after its own that it is not among the last any more.
pub(super) fn many_changes_of_neighbours_hide_none_of_its_own() {
    let key = Arc::new(Key::default());
    let neighbours = |key: &Key| (0..KNOWN).for_each(|_| key.generation.tell(NEIGHBOUR));
    all(&key, &[Key::change, neighbours, read]);
    assert!(key.in_l1().is_none_or(|value| value == key.in_store()), "what was told is still there");
}
