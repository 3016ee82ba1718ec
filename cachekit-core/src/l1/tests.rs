//! The tier against its promises. `model.rs` holds the comparison with a naive map.

mod bounds;
mod counting;
mod events;
mod keys;
mod lives;
mod model;
mod ratio;
mod typed;

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
