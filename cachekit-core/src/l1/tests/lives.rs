//! Fresh, stale, gone: by time, by epoch, by a vouch.

use super::*;

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
