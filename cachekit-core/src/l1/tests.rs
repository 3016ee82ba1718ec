//! The tier against its promises. `model.rs` holds the comparison with a naive map.

mod events;
mod model;
mod ratio;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, Weak};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::policy::{ENTRY_OVERHEAD, SIDE_OVERHEAD, charge, charge_of};
use super::*;
use crate::clock::ManualClock;

const EPOCH: Epoch = Epoch(7);

struct Fixture {
    l1: Arc<L1>,
    clock: Arc<ManualClock>,
}

fn fixture(config: L1Config) -> Fixture {
    let clock = Arc::new(ManualClock::new());
    Fixture { l1: Arc::new(L1::new(config, clock.clone())), clock }
}

fn roomy() -> Fixture {
    fixture(L1Config::with_max_bytes(64 << 20))
}

impl Fixture {
    fn put(&self, key: &str, value: impl Into<Bytes>) -> Inserted {
        self.put_for(key, value, Life::FOREVER)
    }

    fn put_for(&self, key: &str, value: impl Into<Bytes>, life: Life) -> Inserted {
        let key = key.as_bytes();
        self.l1.insert(self.l1.hash(key), key, EPOCH, value.into(), life, None, 0)
    }

    /// With room for a typed copy of 100 bytes.
    fn put_roomy(&self, key: &str, value: impl Into<Bytes>) -> Inserted {
        let key = key.as_bytes();
        self.l1.insert(self.l1.hash(key), key, EPOCH, value.into(), Life::FOREVER, None, 100)
    }

    fn get(&self, key: &str) -> Option<Hit> {
        self.l1.get(self.l1.hash(key.as_bytes()), key.as_bytes(), EPOCH)
    }

    fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.get(key).map(|hit| hit.stored().to_vec())
    }

    fn remove(&self, key: &str) -> bool {
        self.l1.remove(self.l1.hash(key.as_bytes()), key.as_bytes())
    }

    fn life(&self, fresh_ms: u64, total_ms: u64) -> Life {
        let now = self.clock.coarse_ms();
        Life { fresh_until_ms: now + fresh_ms, expires_at_ms: now + total_ms }
    }

    fn assert_stats_add_up(&self) -> L1Stats {
        let stats = self.l1.stats();
        let gone = stats.replaced + stats.evictions + stats.expired + stats.removed;
        assert_eq!(stats.entries, stats.inserts - gone, "{stats:?}");
        let charged: u64 = self.l1.store.iter().map(|(slot, ())| charge_of(&slot.0)).sum();
        assert_eq!(stats.bytes, charged, "{stats:?}");
        stats
    }
}

fn shared(max_bytes: u64, share: u32) -> L1Config {
    L1Config { max_entry_share: NonZeroU32::new(share).unwrap(), ..L1Config::with_max_bytes(max_bytes) }
}

// --- one entry ---

#[test]
fn values_of_every_size_come_back_as_they_were() {
    let f = roomy();
    for len in [0, 1, 100, 700, 764, 765, 766, 767, 768, 769, 5_000, 1 << 20] {
        let value: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
        assert_eq!(f.put("k:1", value.clone()), Inserted::Kept);
        let hit = f.get("k:1").unwrap();
        assert_eq!(hit.stored(), value);
        assert_eq!(hit.to_bytes(), value);
    }
    assert_eq!(f.value(""), None);
    assert_eq!(f.put("", "the empty key"), Inserted::Kept);
    assert_eq!(f.value("").unwrap(), b"the empty key");
}

#[test]
fn large_values_are_shared_and_small_ones_let_go_of_their_buffer() {
    let f = roomy();
    let buffer = Bytes::from(vec![1; 4096]);
    let _ = f.put("large", buffer.clone());
    assert_eq!(f.get("large").unwrap().to_bytes().as_ptr(), buffer.as_ptr());
    f.remove("large");

    let _ = f.put("small", buffer.slice(..100));
    assert!(buffer.is_unique(), "100 bytes would hold the 4096 they were cut from");
}

#[test]
fn a_hit_outlives_its_entry() {
    let f = roomy();
    let _ = f.put("k", "v");
    let hit = f.get("k").unwrap();
    assert!(f.remove("k"));
    assert_eq!(hit.stored(), b"v");
    assert!(f.get("k").is_none());
}

#[test]
fn a_second_insert_replaces() {
    let f = roomy();
    let _ = f.put("k", "one");
    let _ = f.put("k", "two");
    assert_eq!(f.value("k").unwrap(), b"two");
    let stats = f.assert_stats_add_up();
    assert_eq!((stats.inserts, stats.replaced, stats.evictions, stats.entries), (2, 1, 0, 1));
}

// --- time and epochs ---

#[test]
fn an_entry_is_fresh_then_stale_then_gone() {
    let f = roomy();
    let life = f.life(10, 30);
    let _ = f.put_for("k", "v", life);
    let hit = f.get("k").unwrap();
    assert!(hit.is_fresh());
    assert_eq!((hit.fresh_until_ms(), hit.expires_at_ms()), (life.fresh_until_ms, life.expires_at_ms));
    f.clock.advance(Duration::from_millis(9));
    assert!(f.get("k").unwrap().is_fresh());
    f.clock.advance(Duration::from_millis(1));
    assert!(!f.get("k").unwrap().is_fresh());
    f.clock.advance(Duration::from_millis(19));
    assert!(!f.get("k").unwrap().is_fresh());
    f.clock.advance(Duration::from_millis(1));
    assert!(f.get("k").is_none());
    let stats = f.assert_stats_add_up();
    assert_eq!((stats.hits, stats.misses, stats.expired, stats.entries, stats.bytes), (4, 1, 1, 0, 0));
}

/// A stale window takes four bytes. Whatever is asked for, nothing is served for longer.
#[test]
fn stale_windows_keep_their_ends_as_far_as_they_fit() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let f = roomy();
    let now = f.clock.coarse_ms();
    let ends = |fresh_ms: u64, expires_at_ms: u64| {
        let _ = f.put_for("k", "v", Life { fresh_until_ms: now + fresh_ms, expires_at_ms });
        let hit = f.get("k").unwrap();
        (hit.fresh_until_ms() - now, hit.expires_at_ms())
    };
    assert_eq!(ends(5, now + 30 * DAY_MS), (5, now + 30 * DAY_MS));
    let longest = u64::from(u32::MAX - 1);
    assert_eq!(ends(5, now + 5 + longest), (5, now + 5 + longest));
    assert_eq!(ends(5, now + 5 + longest + 1), (5, now + 5 + longest), "49.7 days, not for good");
    assert_eq!(ends(5, now + 400 * DAY_MS), (5, now + 5 + longest));
    assert_eq!(ends(5, u64::MAX), (5, u64::MAX));
    f.clock.advance(Duration::from_millis(400 * DAY_MS));
    assert!(!f.get("k").unwrap().is_fresh(), "stale for good");
    // An end before the last fresh moment is the end.
    let _ = f.put_for("k", "v", Life { fresh_until_ms: u64::MAX, expires_at_ms: f.clock.coarse_ms() + 10 });
    assert!(f.get("k").unwrap().is_fresh());
    f.clock.advance(Duration::from_millis(10));
    assert!(f.get("k").is_none());
}

#[test]
fn a_look_at_the_bytes_and_a_look_for_the_copy_count_and_end_as_hits_do() {
    let f = roomy();
    let hash = f.l1.hash(b"k");
    let read = |epoch| f.l1.read(hash, b"k", epoch, <[u8]>::to_vec);
    let typed = |epoch| f.l1.get_typed::<u64>(hash, b"k", epoch);
    assert!(read(EPOCH).is_none() && typed(EPOCH).is_none());
    let life = f.life(10, 20);
    let _ = f.l1.insert(hash, b"k", EPOCH, "42".into(), life, None, 8);
    assert_eq!(read(EPOCH).unwrap(), b"42");
    let Some(Seen::Stored(hit)) = typed(EPOCH) else { panic!("no copy was attached yet") };
    assert!(hit.attach_typed(Arc::new(42_u64)));
    assert!(matches!(typed(EPOCH), Some(Seen::Decoded(value, true)) if *value == 42));
    assert!(matches!(f.l1.get_typed::<String>(hash, b"k", EPOCH), Some(Seen::Stored(_))));
    f.clock.advance(Duration::from_millis(10));
    assert!(matches!(typed(EPOCH), Some(Seen::Decoded(_, false))));
    assert!(f.l1.read(hash, b"kk", EPOCH, <[u8]>::len).is_none());
    f.clock.advance(Duration::from_millis(10));
    assert!(typed(EPOCH).is_none());
    let stats = f.assert_stats_add_up();
    assert_eq!((stats.hits, stats.misses, stats.expired), (5, 4, 1));
}

#[test]
fn a_jump_of_the_wall_clock_changes_no_life() {
    let f = roomy();
    let _ = f.put_for("k", "v", f.life(10, 30));
    f.clock.set_unix_ms(u64::MAX);
    assert!(f.get("k").unwrap().is_fresh());
}

#[test]
fn a_new_epoch_makes_every_entry_a_miss() {
    let f = roomy();
    let keys: Vec<String> = (0..1000).map(|i| format!("k{i}")).collect();
    for key in &keys {
        let _ = f.put(key, "v");
    }
    let lookups =
        |epoch| keys.iter().filter(|key| f.l1.get(f.l1.hash(key.as_bytes()), key.as_bytes(), epoch).is_some()).count();
    assert_eq!(lookups(EPOCH), 1000);
    assert_eq!(lookups(Epoch(EPOCH.0 + 1)), 0);
    // Equality, not order; and an entry of another epoch is dropped, so the old epoch finds nothing any more.
    assert_eq!(lookups(EPOCH), 0);
    assert_eq!(f.assert_stats_add_up().expired, 1000);
}

#[test]
fn dropping_an_outlived_entry_spares_the_newer_one_in_its_place() {
    let f = roomy();
    let _ = f.put_for("k", "older", f.life(10, 10));
    f.clock.advance(Duration::from_millis(10));
    let _ = f.put("k", "newer");
    // As by a reader that was overtaken between its lookup and its removal.
    f.l1.drop_outlived(f.l1.hash(b"k"), b"k".into(), EPOCH);
    assert_eq!(f.value("k").unwrap(), b"newer");
    assert_eq!(f.assert_stats_add_up().expired, 0);
    // Negative control: of the same place it drops what is over.
    f.l1.drop_outlived(f.l1.hash(b"k"), b"k".into(), Epoch(EPOCH.0 + 1));
    assert_eq!(f.assert_stats_add_up().expired, 1);
}

#[test]
fn no_reader_sees_a_value_older_than_the_last_finished_insert() {
    // Tight, so that inserts of all kinds happen: kept, replacing, displaced, refused.
    let f = fixture(L1Config::with_max_bytes(60_000));
    let finished = AtomicU64::new(0);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut hits = 0_u64;
                    loop {
                        let floor = finished.load(Ordering::Acquire);
                        if let Some(hit) = f.get("k") {
                            let version = u64::from_le_bytes(hit.stored()[..8].try_into().unwrap());
                            assert!(version >= floor, "{version} after {floor}");
                            hits += 1;
                        }
                        if floor == 20_000 {
                            return hits;
                        }
                    }
                })
            })
            .collect();
        for version in 1..=20_000_u64 {
            let mut value = version.to_le_bytes().to_vec();
            value.resize([8, 700, 5_000, 9_000][version as usize % 4], 0);
            let _ = f.put("k", value);
            finished.store(version, Ordering::Release);
            let _ = f.put(&format!("other{}", version % 50), vec![0; 3_000]);
        }
        assert!(readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>() > 0);
    });
    let stats = f.assert_stats_add_up();
    assert!(stats.refused > 1_000 && stats.replaced > 1_000, "{stats:?}");
}

// --- keys ---

#[test]
fn keys_with_the_same_hash_are_never_taken_for_each_other() {
    let f = roomy();
    let hash = KeyHash::from_raw(42);
    let kept = f.l1.insert(hash, b"alice", EPOCH, "alice's".into(), Life::FOREVER, None, 0);
    assert_eq!(kept, Inserted::Kept);
    // Negative control: the two do meet in the store, so only the comparison of keys tells them apart.
    assert!(f.l1.holds(hash));
    assert!(f.l1.get(hash, b"bob", EPOCH).is_none());
    assert!(!f.l1.remove(hash, b"bob"));
    // A prefix and an extension are other keys too: key and value are neighbours in the entry.
    assert!(f.l1.get(hash, b"alic", EPOCH).is_none());
    assert!(f.l1.get(hash, b"alicea", EPOCH).is_none());
    assert_eq!(f.l1.get(hash, b"alice", EPOCH).unwrap().stored(), b"alice's");

    let kept = f.l1.insert(hash, b"bob", EPOCH, "bob's".into(), Life::FOREVER, None, 0);
    assert_eq!(kept, Inserted::Kept);
    assert!(f.l1.get(hash, b"alice", EPOCH).is_none());
    assert_eq!(f.l1.get(hash, b"bob", EPOCH).unwrap().stored(), b"bob's");
    assert_eq!(f.assert_stats_add_up().entries, 1);
}

#[test]
fn refusing_a_key_leaves_the_other_key_of_its_hash_alone() {
    let f = fixture(L1Config::with_max_bytes(8 * 10_000));
    let hash = KeyHash::from_raw(42);
    let _ = f.l1.insert(hash, b"alice", EPOCH, "alice's".into(), Life::FOREVER, None, 0);
    let refused = f.l1.insert(hash, b"bob", EPOCH, vec![0; 10_000].into(), Life::FOREVER, None, 0);
    assert_eq!(refused, Inserted::TooLarge);
    assert_eq!(f.l1.get(hash, b"alice", EPOCH).unwrap().stored(), b"alice's");
}

#[test]
fn two_tiers_hash_differently() {
    let (a, b) = (roomy(), roomy());
    let same = (0..100u8).filter(|i| a.l1.hash(&[*i]) == b.l1.hash(&[*i])).count();
    assert_eq!(same, 0);
    assert_eq!(a.l1.hash(b"k"), a.l1.hash(b"k"));
}

// --- typed copies ---

#[test]
fn the_first_typed_copy_stays_and_is_only_given_as_its_own_type() {
    let f = roomy();
    let _ = f.put_roomy("k", "42");
    let hit = f.get("k").unwrap();
    assert!(hit.typed::<u64>().is_none());
    let value = Arc::new(42_u64);
    assert!(hit.attach_typed(value.clone()));
    assert!(!hit.attach_typed(Arc::new("42".to_owned())));
    let later = f.get("k").unwrap();
    assert!(Arc::ptr_eq(&later.typed::<u64>().unwrap(), &value));
    assert!(later.typed::<String>().is_none());
    assert!(later.typed::<i64>().is_none());
    assert_eq!(later.stored(), b"42");
}

#[test]
fn no_typed_copy_is_attached_where_no_room_was_charged() {
    let f = roomy();
    for value in [vec![0; 10], vec![0; 10_000]] {
        let _ = f.put("k", value);
        assert!(!f.get("k").unwrap().attach_typed(Arc::new(1_u64)));
        assert!(f.get("k").unwrap().typed::<u64>().is_none());
    }
}

#[test]
fn a_typed_copy_comes_with_its_insert_and_leaves_with_its_entry() {
    let f = roomy();
    let value = Arc::new(vec![1_u64; 10]);
    let weak: Weak<Vec<u64>> = Arc::downgrade(&value);
    let hash = f.l1.hash(b"k");
    let _ = f.l1.insert(hash, b"k", EPOCH, "x".into(), Life::FOREVER, Some(value), 80);
    assert_eq!(f.get("k").unwrap().typed::<Vec<u64>>().unwrap().len(), 10);
    let _ = f.put("k", "newer");
    assert!(f.get("k").unwrap().typed::<Vec<u64>>().is_none());
    assert_eq!(weak.strong_count(), 0);
}

#[test]
fn eviction_frees_typed_copies() {
    let f = fixture(L1Config::with_max_bytes(64 * 1024));
    let alive = Arc::new(());
    for i in 0..10_000 {
        let key = format!("k{i}");
        let typed: Typed = Arc::new(alive.clone());
        let hash = f.l1.hash(key.as_bytes());
        let _ = f.l1.insert(hash, key.as_bytes(), EPOCH, "v".into(), Life::FOREVER, Some(typed), 16);
    }
    let stats = f.assert_stats_add_up();
    assert!(stats.evictions > 9_000, "{stats:?}");
    assert_eq!(Arc::strong_count(&alive) as u64, 1 + stats.entries);
}

/// Its drop comes back to the tier, as a user's type may.
struct Revenant(Weak<L1>, Arc<AtomicU64>);

impl Drop for Revenant {
    fn drop(&mut self) {
        if let Some(l1) = self.0.upgrade() {
            l1.remove(l1.hash(b"other"), b"other");
            let _ = l1.insert(l1.hash(b"other"), b"other", EPOCH, "o".into(), Life::FOREVER, None, 0);
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn entries_are_freed_outside_the_locks() {
    // One shard, so that a drop under a lock would meet that lock again.
    let f = fixture(L1Config::with_max_bytes(64 * 1024));
    assert_eq!(f.l1.budget.shards, 1);
    let drops = Arc::new(AtomicU64::new(0));
    let put = |key: &str, life| {
        let typed: Typed = Arc::new(Revenant(Arc::downgrade(&f.l1), drops.clone()));
        let hash = f.l1.hash(key.as_bytes());
        let _ = f.l1.insert(hash, key.as_bytes(), EPOCH, "v".into(), life, Some(typed), 16);
    };
    let dropped = || drops.swap(0, Ordering::Relaxed);

    put("k", Life::FOREVER);
    put("k", f.life(1, 1));
    assert_eq!(dropped(), 1, "replaced");
    f.clock.advance(Duration::from_millis(1));
    assert!(f.get("k").is_none());
    assert_eq!(dropped(), 1, "expired");
    put("k", Life::FOREVER);
    f.remove("k");
    assert_eq!(dropped(), 1, "removed");
    (0..1000).for_each(|i| put(&format!("k{i}"), Life::FOREVER));
    assert!(dropped() > 500, "evicted");
    f.l1.clear();
    assert!(dropped() > 50, "cleared");
}

// --- bounds ---

#[test]
fn an_entry_of_exactly_its_share_is_kept_and_one_byte_more_is_refused() {
    for config in [
        L1Config::with_max_bytes(64 << 20),
        L1Config::with_max_bytes(100_000),
        shared(1 << 20, 1),
        shared(10_000_000, 3),
        shared(256 << 20, 100),
        L1Config { max_entries: Some(3), ..shared(1 << 20, 1) },
    ] {
        let f = fixture(config);
        let largest = f.l1.budget.largest;
        let overhead = ENTRY_OVERHEAD + SIDE_OVERHEAD + 1;
        // Full of small entries, so that there is something to displace.
        for i in 0..2000 {
            let _ = f.put(&format!("fill{i}"), vec![0; 600]);
        }
        let _ = f.put("k", "older");
        assert_eq!(f.put("k", vec![1; (largest - overhead) as usize]), Inserted::Kept, "{config:?}");
        assert_eq!(f.get("k").unwrap().stored().len() as u64, largest - overhead);
        assert_eq!(f.put("k", vec![1; (largest - overhead + 1) as usize]), Inserted::TooLarge);
        assert!(f.get("k").is_none(), "the older value is visible after a refused insert");
        let stats = f.assert_stats_add_up();
        assert_eq!(stats.refused, 1);
        assert!(stats.bytes <= config.max_bytes);
    }
}

#[test]
fn a_typed_copy_counts_towards_the_share() {
    let f = fixture(L1Config::with_max_bytes(80_000));
    let hash = f.l1.hash(b"k");
    let insert = |reserve| f.l1.insert(hash, b"k", EPOCH, "v".into(), Life::FOREVER, None, reserve);
    assert_eq!(insert(9_000), Inserted::Kept);
    assert_eq!(insert(11_000), Inserted::TooLarge);
    assert_eq!(insert(u64::MAX), Inserted::TooLarge);
    assert!(f.get("k").is_none());
}

#[test]
fn a_value_that_displaces_itself_is_reported_and_leaves_nothing_behind() {
    let f = fixture(L1Config::with_max_bytes(100_000));
    let keys: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
    for key in &keys {
        let _ = f.put(key, vec![0; 700]);
    }
    let _ = f.put("victim", "older");
    assert_eq!(f.assert_stats_add_up().evictions, 0);
    // Everyone else is in high demand.
    for key in keys.iter().cycle().take(3 * keys.len()) {
        f.get(key);
    }
    assert_eq!(f.put("victim", vec![0; 11_000]), Inserted::Displaced);
    assert!(f.get("victim").is_none());
    let stats = f.assert_stats_add_up();
    assert_eq!((stats.refused, stats.replaced, stats.evictions), (1, 1, 0));
}

#[test]
fn an_empty_budget_refuses_everything() {
    let none = L1Config { max_entries: Some(0), ..L1Config::with_max_bytes(1 << 20) };
    for config in [L1Config::with_max_bytes(0), L1Config::with_max_bytes(7), none] {
        let f = fixture(config);
        assert_eq!(f.put("k", ""), Inserted::TooLarge);
        assert!(f.get("k").is_none());
        assert_eq!(f.assert_stats_add_up().entries, 0);
    }
}

#[test]
fn the_number_of_entries_is_bounded_exactly_where_one_shard_suffices() {
    for max in [1, 2, 10, 100, 1000] {
        let f = fixture(L1Config { max_entries: Some(max), ..L1Config::with_max_bytes(8 << 20) });
        for i in 0..max {
            assert_eq!(f.put(&format!("k{i}"), "v"), Inserted::Kept);
        }
        assert_eq!(f.assert_stats_add_up().entries, max, "the bound is also reached");
        for i in 0..max {
            assert_eq!(f.put(&format!("l{i}"), "v"), Inserted::Kept);
            assert_eq!(f.l1.stats().entries, max);
        }
        assert_eq!(f.assert_stats_add_up().evictions, max);
    }
}

#[test]
fn with_mixed_sizes_one_of_the_two_bounds_is_at_least_half_used() {
    let (max_bytes, max_entries) = (1_000_000, 1000);
    let f = fixture(L1Config { max_entries: Some(max_entries), ..L1Config::with_max_bytes(max_bytes) });
    for i in 0..10_000 {
        let _ = f.put(&format!("k{i}"), vec![0; if i % 2 == 0 { 10 } else { 3000 }]);
    }
    let stats = f.assert_stats_add_up();
    assert!(stats.bytes <= max_bytes && stats.entries <= max_entries);
    assert!(stats.bytes >= max_bytes / 2 || stats.entries >= max_entries / 2, "{stats:?}");
}

/// Counts the bytes it owns for as long as it lives: what the tier holds, measured from outside.
struct Measured(Vec<u8>, Arc<AtomicU64>);

impl Measured {
    fn bytes(len: usize, held: &Arc<AtomicU64>) -> Bytes {
        held.fetch_add(len as u64, Ordering::SeqCst);
        Bytes::from_owner(Self(vec![0; len], held.clone()))
    }
}

impl AsRef<[u8]> for Measured {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len() as u64, Ordering::SeqCst);
    }
}

/// Eight threads insert, replace, read and remove as fast as they can, while this one samples. Returns the highest
/// (bytes, entries) seen, and the bytes that values held in the end.
fn burst(config: L1Config) -> (Fixture, u64, u64, u64) {
    const THREADS: usize = 8;
    let f = fixture(config);
    let held = Arc::new(AtomicU64::new(0));
    let done = AtomicBool::new(false);
    let start = Barrier::new(THREADS + 1);
    let (mut most_bytes, mut most_entries) = (0, 0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (f, held, start) = (&f, &held, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(thread as u64 + 1);
                    for _ in 0..4_000 {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let key = format!("k{}", random % 2_000);
                        match random >> 60 {
                            0 => drop(f.remove(&key)),
                            1..4 => drop(f.get(&key)),
                            _ => drop(f.put(&key, Measured::bytes(769 + (random >> 20) as usize % 12_000, held))),
                        }
                    }
                })
            })
            .collect();
        let sampler = scope.spawn(|| {
            let mut most = (0, 0);
            loop {
                // Looked at before the sample, so that the last sample is of the end.
                let last = done.load(Ordering::Acquire);
                let stats = f.l1.stats();
                most = (most.0.max(stats.bytes), most.1.max(stats.entries));
                if last {
                    return most;
                }
            }
        });
        start.wait();
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Release);
        (most_bytes, most_entries) = sampler.join().unwrap();
    });
    f.assert_stats_add_up();
    let stored: u64 = f.l1.store.iter().map(|(slot, ())| slot.0.stored_len() as u64).sum();
    assert_eq!(held.load(Ordering::SeqCst), stored, "a value was leaked, or freed while it was held");
    (f, most_bytes, most_entries, stored)
}

#[test]
fn the_byte_bound_holds_through_a_burst() {
    for config in [L1Config::with_max_bytes(2 << 20), shared(2 << 20, 64)] {
        let (f, most_bytes, _, stored) = burst(config);
        assert!(most_bytes <= config.max_bytes, "{most_bytes}");
        assert!(stored <= config.max_bytes);
        // Negative control: the burst did press against the bound.
        assert!(most_bytes > config.max_bytes * 8 / 10, "{most_bytes}");
        assert!(f.l1.stats().evictions > 1_000);
    }
}

#[test]
fn the_entry_bound_holds_through_a_burst() {
    let config = L1Config { max_entries: Some(300), ..L1Config::with_max_bytes(16 << 20) };
    let (f, most_bytes, most_entries, _) = burst(config);
    assert!(most_entries <= 300 && most_bytes <= config.max_bytes, "{most_entries} {most_bytes}");
    assert!(most_entries > 250, "{most_entries}");
    assert!(f.l1.stats().evictions > 1_000);
}

#[test]
fn clear_drops_everything_and_the_tier_goes_on() {
    let f = fixture(L1Config { max_entries: Some(5_000), ..L1Config::with_max_bytes(64 << 20) });
    for i in 0..1000 {
        let _ = f.put(&format!("k{i}"), "v");
    }
    f.l1.clear();
    assert!((0..1000).all(|i| f.get(&format!("k{i}")).is_none()));
    let stats = f.assert_stats_add_up();
    assert_eq!((stats.entries, stats.bytes, stats.removed), (0, 0, 1000));
    let _ = f.put("k1", "again");
    assert_eq!(f.value("k1").unwrap(), b"again");
}

proptest! {
    #[test]
    fn every_budget_is_within_its_configuration(
        max_bytes in prop_oneof![0..100_000_u64, 0..1_u64 << 40, any::<u64>()],
        max_entries in proptest::option::of(prop_oneof![0..5000_u64, any::<u64>()]),
        share in 1..1000_u32,
        cores in 1..512_u64,
    ) {
        let config = L1Config { max_entries, ..shared(max_bytes, share) };
        let budget = Budget::new(&config, cores);
        prop_assert!(budget.shards.is_power_of_two() && budget.shards <= 4 * cores);
        prop_assert!(u128::from(budget.shard_bytes) * u128::from(budget.shards) <= u128::from(max_bytes));
        prop_assert!(budget.largest <= max_bytes / u64::from(share));
        // The share is what limits an entry, never the size that a shard happens to have.
        if share > 1 && max_bytes > 4096 && max_entries != Some(0) {
            prop_assert_eq!(budget.largest, max_bytes / u64::from(share));
        }
        if let Some(max_entries) = max_entries {
            let per_shard = budget.shard_bytes / budget.floor;
            prop_assert!(u128::from(per_shard) * u128::from(budget.shards) <= u128::from(max_entries));
        }
        if max_bytes < 1 << 40 {
            let store = budget.build();
            prop_assert_eq!(store.num_shards() as u64, budget.shards);
            prop_assert_eq!(store.shard_capacity(), budget.shard_bytes);
        }
    }
}

#[test]
fn the_charge_covers_the_parts_it_names() {
    // A slot of the engine's slab, which `SLOT` counts on.
    let f = roomy();
    let _ = f.put("k", "v");
    assert_eq!(f.l1.store.memory_used().entries, 32);
    assert_eq!((ENTRY_OVERHEAD, SIDE_OVERHEAD), (152, 128));
    assert_eq!(f.l1.stats().bytes, 152 + 2);
    assert_eq!(charge(91, 100, false, 0), 152 + 191);
    assert_eq!(charge(91, 100, false, 50), 152 + 128 + 191 + 50);
    assert_eq!(charge(91, 1000, false, 0), 152 + 128 + 1091);
    assert_eq!(charge(usize::MAX, 1, true, u64::MAX), u64::MAX);
}

// --- counting ---

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

/// Whoever decodes an entry attaches the copy to that entry. Looked up by its key it would get to a newer one.
#[test]
fn a_copy_decoded_from_a_replaced_entry_does_not_get_to_its_successor() {
    let l1 = L1::new(L1Config::with_max_bytes(1 << 20), Arc::new(ManualClock::new()));
    let (key, epoch) = (b"k".as_slice(), Epoch(0));
    let hash = l1.hash(key);
    let put = |bytes: &'static [u8]| {
        l1.insert_deferring_drops(hash, key, epoch, Bytes::from_static(bytes), Life::FOREVER, None, 64)
    };
    let (_, old, _) = put(b"old");
    let _ = put(b"new");
    assert!(old.attach_typed(Arc::new("decoded from old")));
    let hit = l1.get(hash, key, epoch).unwrap();
    assert_eq!((hit.stored(), hit.typed::<&str>()), (&b"new"[..], None));
}

/// A typed copy's `Drop` is foreign code. Also where the newer value is refused it runs when the caller lets it.
#[test]
fn a_value_that_leaves_because_its_successor_is_too_large_is_dropped_by_the_caller() {
    struct Bell(Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let l1 = L1::new(L1Config::with_max_bytes(1 << 20), Arc::new(ManualClock::new()));
    let (key, epoch, rung) = (b"k".as_slice(), Epoch(0), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let hash = l1.hash(key);
    let typed: Typed = Arc::new(Bell(Arc::clone(&rung)));
    let _ = l1.insert(hash, key, epoch, Bytes::from_static(b"v"), Life::FOREVER, Some(typed), 64);
    let huge = Bytes::from(vec![0; 1 << 20]);
    let (inserted, _, departed) = l1.insert_deferring_drops(hash, key, epoch, huge, Life::FOREVER, None, 0);
    assert_eq!(inserted, Inserted::TooLarge);
    assert!(!rung.load(std::sync::atomic::Ordering::SeqCst));
    drop(departed);
    assert!(rung.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
fn what_is_vouched_for_is_served_while_somebody_does_and_in_its_epoch() {
    let Fixture { l1, clock } = roomy();
    let key = b"k";
    let hash = l1.hash(key);
    let put = |epoch| {
        let _kept = l1.insert(hash, key, epoch, Bytes::from_static(b"v"), Life::FOREVER, None, 0);
    };
    put(EPOCH.vouched());
    assert!(l1.get(hash, key, EPOCH).is_none(), "nobody vouches yet, and what is met so is dropped");
    l1.vouch_until(clock.coarse_ms() + 10);
    put(EPOCH.vouched());
    assert!(l1.get(hash, key, EPOCH).is_some());
    clock.advance(Duration::from_millis(9));
    assert!(l1.get(hash, key, EPOCH).is_some() && l1.is_vouched_for());
    clock.advance(Duration::from_millis(1));
    assert!(l1.get(hash, key, EPOCH).is_none() && !l1.is_vouched_for());
    l1.vouch_until(u64::MAX);
    put(EPOCH.vouched());
    assert!(l1.get(hash, key, Epoch(EPOCH.0 + 1)).is_none(), "another epoch is another epoch");
    put(EPOCH);
    l1.vouch_until(0);
    assert!(l1.get(hash, key, EPOCH).is_some(), "an entry of its own needs nobody");
    assert!(l1.holds(hash) && l1.forget(hash));
    assert!(!l1.holds(hash) && !l1.forget(hash));
    assert_eq!(l1.stats().entries, 0);
}
