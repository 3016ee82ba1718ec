//! Who hears of what leaves, and why; and which keys are hot.

use std::sync::atomic::AtomicUsize;

use super::*;

type Log = Arc<Mutex<Vec<(String, Cause)>>>;

fn listened(config: L1Config) -> (Fixture, Log) {
    let log = Log::default();
    let clock = Arc::new(ManualClock::new());
    let heard = Arc::clone(&log);
    let l1 = L1::new(config, clock.clone()).with_listener(Arc::new(move |left: &Departure<'_>| {
        heard.lock().unwrap().push((String::from_utf8_lossy(left.wire_key()).into_owned(), left.cause()));
    }));
    (Fixture { l1: Arc::new(l1), clock }, log)
}

fn heard(log: &Log) -> Vec<(String, Cause)> {
    std::mem::take(&mut *log.lock().unwrap())
}

fn of(key: &str, cause: Cause) -> Vec<(String, Cause)> {
    vec![(key.to_owned(), cause)]
}

#[test]
fn every_way_out_has_its_cause() {
    let (f, log) = listened(L1Config::with_max_bytes(64 << 20));
    let _ = f.put("k", "one");
    assert_eq!(heard(&log), []);
    let _ = f.put_for("k", "two", f.life(10, 10));
    assert_eq!(heard(&log), of("k", Cause::Replaced));
    f.clock.advance(Duration::from_millis(10));
    assert!(f.get("k").is_none());
    assert_eq!(heard(&log), of("k", Cause::Expired));
    let _ = f.put("k", "three");
    assert!(f.remove("k"));
    assert_eq!(heard(&log), of("k", Cause::Removed));
    let _ = f.put("k", "four");
    assert!(f.l1.get(f.l1.hash(b"k"), b"k", Epoch(EPOCH.0 + 1)).is_none());
    assert_eq!(heard(&log), of("k", Cause::Invalidated));
    let _ = f.put("k", "five");
    assert!(f.l1.forget(f.l1.hash(b"k")));
    assert_eq!(heard(&log), of("k", Cause::Invalidated));
    let _ = f.put("k", "six");
    f.l1.clear();
    assert_eq!(heard(&log), of("k", Cause::Removed));
    let _ = f.put("k", "seven");
    assert_eq!(f.put("k", vec![0; 64 << 20]), Inserted::TooLarge);
    assert_eq!(heard(&log), of("k", Cause::Removed));
    assert!(!f.remove("k"));
    assert_eq!(heard(&log), []);
}

#[test]
fn every_eviction_is_told_once_and_what_is_still_there_is_not() {
    let (f, log) = listened(L1Config::with_max_bytes(300_000));
    for i in 0..3_000 {
        let _ = f.put(&format!("k{i}"), vec![0; 500]);
    }
    let told = heard(&log);
    let stats = f.assert_stats_add_up();
    assert!(told.iter().all(|(_, cause)| *cause == Cause::Evicted));
    assert_eq!(told.len() as u64, stats.evictions);
    let keys: std::collections::HashSet<&String> = told.iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), told.len(), "twice");
    assert!(told.iter().all(|(key, _)| f.get(key).is_none()));
}

#[test]
fn a_listener_may_come_back_to_the_tier_and_may_panic() {
    let clock = Arc::new(ManualClock::new());
    let tier: Arc<std::sync::OnceLock<Arc<L1>>> = Arc::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let (inside, counted) = (Arc::clone(&tier), Arc::clone(&calls));
    let l1 = L1::new(L1Config::with_max_bytes(300_000), clock.clone()).with_listener(Arc::new(
        move |left: &Departure<'_>| {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            let l1 = inside.get().unwrap();
            // Its own shard among them: a lock that was held would end in a deadlock.
            for i in 0..20_u8 {
                let _ = l1.get(l1.hash(&[i]), &[i][..], EPOCH);
            }
            assert!(l1.get(l1.hash(left.wire_key()), left.wire_key(), EPOCH).is_none());
            if n % 3 == 0 {
                panic!("a listener of no manners");
            }
        },
    ));
    let f = Fixture { l1: Arc::new(l1), clock };
    assert!(tier.set(Arc::clone(&f.l1)).is_ok());
    for i in 0..1_000 {
        let _ = f.put(&format!("k{i}"), vec![0; 500]);
    }
    let stats = f.assert_stats_add_up();
    assert_eq!(calls.load(Ordering::SeqCst) as u64, stats.evictions);
    assert_eq!(stats.listener_panics, stats.evictions.div_ceil(3));
}

#[test]
fn an_event_shows_no_key() {
    let departure = Departure { wire_key: b"ck:n:secret-key", stored_len: 3, cause: Cause::Expired };
    let text = format!("{departure:?}");
    assert!(!text.contains("secret") && text.contains("Expired"), "{text}");
}

/// Hundred keys take half of a million calls, a hundred thousand others the rest.
#[test]
fn a_hundred_hot_keys_are_found_in_a_million_calls() {
    let f = fixture(L1Config::with_max_bytes(1 << 20));
    let l1 = L1::new(L1Config::with_max_bytes(1 << 20), f.clock.clone()).with_hot_keys(100);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for call in 0..1_000_000_u64 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let n = if call % 2 == 0 { random % 100 } else { 1_000 + random % 100_000 };
        let key = n.to_be_bytes();
        let _ = l1.read(l1.hash(&key), &key, EPOCH, <[u8]>::len);
    }
    let hot = l1.hot_keys(100);
    assert_eq!(hot.len(), 100);
    let missed = hot.iter().filter(|hot| u64::from_be_bytes(hot.wire_key().try_into().unwrap()) >= 100).count();
    assert_eq!(missed, 0, "{hot:?}");
    // 5 000 calls each; samples of one in sixteen are off by 6 % on average.
    assert!(hot.iter().all(|hot| (3_000..8_000).contains(&hot.lookups())), "{hot:?}");
    assert!(l1.hot_keys(7).len() == 7 && f.l1.hot_keys(7).is_empty(), "who does not count names nobody");
}

#[test]
fn what_was_hot_makes_way_and_memory_stays_bounded() {
    let f = fixture(L1Config::with_max_bytes(1 << 20));
    let l1 = L1::new(L1Config::with_max_bytes(1 << 20), f.clock.clone()).with_hot_keys(2);
    let ask = |key: &[u8], times: usize| {
        for _ in 0..times {
            let _ = l1.read(l1.hash(key), key, EPOCH, <[u8]>::len);
        }
    };
    ask(b"yesterday", 400_000);
    assert_eq!(l1.hot_keys(1)[0].wire_key(), b"yesterday");
    // Fewer calls than yesterday had, and enough for its counts to fade.
    for _ in 0..4 {
        ask(b"today", 350_000);
        for n in 0..50_000_u32 {
            ask(&n.to_be_bytes(), 1);
        }
    }
    let hot = l1.hot_keys(10);
    assert_eq!(hot[0].wire_key(), b"today");
    assert!(hot.len() <= 4);
    ask(&[0; 2_000], 100_000);
    assert!(l1.hot_keys(10).iter().all(|hot| hot.wire_key().len() < 2_000), "too long to be kept");
    assert!(!format!("{hot:?}").contains("116, 111, 100"), "a key is not shown");
}
