//! Copies that are not believed: reads pass them by until they are known to be gone.
//!
//! A copy is marked when it could not be removed, when a write of it was given up and may land yet, and when the last tier
//! told of a change. A mark ends when the copy was removed or replaced after the last write that may land, or when
//! every copy of then has ended by itself. The number of marks is bounded: one more, and for that long the whole front is
//! passed by. Without marks a look costs one atomic load.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::is_reserved;
use crate::clock::Clock;
use crate::coherence::DOUBT;
use crate::observe::Counter;

/// Keys that are marked at once.
const MAX_MARKS: usize = 10_000;

/// What one front is not believed for. Apart from the front, because events mark copies on threads of a backend, which must
/// not hold a backend.
pub(super) struct Distrust {
    ttl_ms: u64,
    /// Numbers the marks of all fronts of a chain.
    serial: Arc<AtomicU64>,
    /// Marks in the map.
    count: AtomicU64,
    /// Until when nothing of this front is believed; 0: marks alone count.
    all_until_ms: AtomicU64,
    map: Mutex<HashMap<Box<[u8]>, Mark>>,
    told: Counter,
}

/// Why and how long one copy is not believed; times on the coarse clock.
#[derive(Debug, Clone, Copy)]
struct Mark {
    serial: u64,
    /// Removing or replacing the copy helps from here on: before, a write may land that nobody waits for.
    settles_from_ms: u64,
    /// By then it has ended by itself.
    until_ms: u64,
}

/// When something began that may settle a mark: before it looked at the last tier, so that a change that was told since is not
/// taken for one that it knew.
#[derive(Debug, Clone, Copy)]
pub(super) struct Began {
    serial: u64,
    ms: u64,
}

impl Began {
    pub(super) fn now(serial: &AtomicU64, clock: &dyn Clock) -> Self {
        Self { serial: serial.load(Ordering::SeqCst), ms: clock.coarse_ms() }
    }
}

/// What is known of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belief {
    /// Nothing is said against it.
    Good,
    /// To be passed by, and writing it is of no use yet.
    Bad,
    /// To be passed by; writing it anew settles the matter.
    Replaceable,
}

impl Distrust {
    pub(super) fn new(ttl_ms: u64, serial: Arc<AtomicU64>) -> Self {
        Self {
            ttl_ms,
            serial,
            count: AtomicU64::new(0),
            all_until_ms: AtomicU64::new(0),
            map: Mutex::default(),
            told: Counter::default(),
        }
    }

    /// How often copies were marked.
    pub(super) fn told(&self) -> u64 {
        self.told.get()
    }

    /// The copy of a key is not believed any more.
    pub(super) fn mark(&self, key: &[u8], clock: &dyn Clock) {
        self.mark_for(key, clock.coarse_ms(), 0);
    }

    /// The same, and a write of it may land yet.
    pub(super) fn doubt(&self, key: &[u8], clock: &dyn Clock) {
        self.mark_for(key, clock.coarse_ms(), doubt_ms());
    }

    fn mark_for(&self, key: &[u8], now_ms: u64, doubt_ms: u64) {
        if is_reserved(key) {
            return;
        }
        self.told.add();
        let settles_from_ms = now_ms.saturating_add(doubt_ms);
        let until_ms = settles_from_ms.saturating_add(self.ttl_ms);
        let serial = self.serial.fetch_add(1, Ordering::SeqCst) + 1;
        let mut map = self.lock();
        if map.len() >= MAX_MARKS && !map.contains_key(key) {
            map.retain(|_, mark| mark.until_ms > now_ms);
        }
        if map.len() >= MAX_MARKS && !map.contains_key(key) {
            self.all_until_ms.fetch_max(until_ms, Ordering::AcqRel);
            return;
        }
        let mark = map.entry(key.into()).or_insert(Mark { serial, settles_from_ms, until_ms });
        mark.serial = mark.serial.max(serial);
        mark.settles_from_ms = mark.settles_from_ms.max(settles_from_ms);
        mark.until_ms = mark.until_ms.max(until_ms);
        self.count.store(map.len() as u64, Ordering::Release);
    }

    /// No copy that stands now is believed: until the last of them has ended.
    pub(super) fn mark_all(&self, clock: &dyn Clock) {
        self.mark_all_for(clock.coarse_ms(), 0);
    }

    /// The same, and writes of any of them may land yet.
    pub(super) fn doubt_all(&self, clock: &dyn Clock) {
        self.mark_all_for(clock.coarse_ms(), doubt_ms());
    }

    fn mark_all_for(&self, now_ms: u64, doubt_ms: u64) {
        self.told.add();
        let until_ms = now_ms.saturating_add(doubt_ms).saturating_add(self.ttl_ms);
        self.all_until_ms.fetch_max(until_ms, Ordering::AcqRel);
    }

    /// The copy was removed or replaced.
    pub(super) fn settled(&self, key: &[u8], began: Began) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut map = self.lock();
        let is_over = |mark: &Mark| mark.serial <= began.serial && began.ms >= mark.settles_from_ms;
        if map.get(key).is_some_and(is_over) {
            map.remove(key);
            self.count.store(map.len() as u64, Ordering::Release);
        }
    }

    /// Whether a copy is believed.
    pub(super) fn belief(&self, key: &[u8], clock: &dyn Clock) -> Belief {
        let all_until_ms = self.all_until_ms.load(Ordering::Acquire);
        if all_until_ms != 0 {
            if clock.coarse_ms() < all_until_ms {
                return Belief::Bad;
            }
            // Over. Somebody who marked all again meanwhile has moved it on.
            let _ = self.all_until_ms.compare_exchange(all_until_ms, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
        if self.count.load(Ordering::Acquire) == 0 {
            return Belief::Good;
        }
        let now_ms = clock.coarse_ms();
        let mut map = self.lock();
        match map.get(key) {
            None => Belief::Good,
            Some(mark) if now_ms >= mark.until_ms => {
                map.remove(key);
                self.count.store(map.len() as u64, Ordering::Release);
                Belief::Good
            }
            Some(mark) if now_ms >= mark.settles_from_ms => Belief::Replaceable,
            Some(_) => Belief::Bad,
        }
    }

    /// Nothing that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Mark>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn doubt_ms() -> u64 {
    u64::try_from(DOUBT.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    fn distrust() -> (Distrust, Arc<AtomicU64>, ManualClock) {
        let serial = Arc::new(AtomicU64::new(0));
        (Distrust::new(1_000, Arc::clone(&serial)), serial, ManualClock::new())
    }

    #[test]
    fn a_mark_ends_by_a_replacement_that_began_after_it_or_with_time() {
        let (distrust, serial, clock) = distrust();
        let before = Began::now(&serial, &clock);
        distrust.mark(b"k", &clock);
        assert_eq!(distrust.belief(b"k", &clock), Belief::Replaceable);
        assert_eq!(distrust.belief(b"other", &clock), Belief::Good);
        // It may have read what was there before the change.
        distrust.settled(b"k", before);
        assert_eq!(distrust.belief(b"k", &clock), Belief::Replaceable);
        distrust.settled(b"k", Began::now(&serial, &clock));
        assert_eq!(distrust.belief(b"k", &clock), Belief::Good);
        distrust.mark(b"k", &clock);
        clock.advance(Duration::from_millis(1_000));
        assert_eq!(distrust.belief(b"k", &clock), Belief::Good);
    }

    #[test]
    fn nothing_settles_a_doubt_before_the_write_can_no_longer_land() {
        let (distrust, serial, clock) = distrust();
        distrust.doubt(b"k", &clock);
        distrust.settled(b"k", Began::now(&serial, &clock));
        assert_eq!(distrust.belief(b"k", &clock), Belief::Bad);
        clock.advance(DOUBT);
        distrust.settled(b"k", Began::now(&serial, &clock));
        assert_eq!(distrust.belief(b"k", &clock), Belief::Good);
    }

    #[test]
    fn too_many_marks_pass_by_the_whole_front_until_all_copies_have_ended() {
        let (distrust, _, clock) = distrust();
        for key in 0..=MAX_MARKS {
            distrust.mark(&key.to_le_bytes(), &clock);
        }
        assert_eq!(distrust.lock().len(), MAX_MARKS);
        assert_eq!(distrust.belief(b"never marked", &clock), Belief::Bad);
        clock.advance(Duration::from_millis(1_000));
        assert_eq!(distrust.belief(b"never marked", &clock), Belief::Good);
    }
}
