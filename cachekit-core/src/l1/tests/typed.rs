//! Typed copies: one each, of its own entry, freed outside the locks.

use super::*;

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
