//! Bytes and entries stay within their bounds, through bursts and replacements.

use super::*;

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
