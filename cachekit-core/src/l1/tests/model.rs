//! The tier against a map that cannot be wrong, under random operations, and the same check against maps that are.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Insert { key: u8, epoch: u8, len: usize, fresh_ms: u64, stale_ms: u64, reserve: u64 },
    Get { key: u8, epoch: u8 },
    Remove { key: u8 },
    Advance { ms: u64 },
    Clear,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..12_u8;
    // Mostly the current epoch, else nothing would ever hit.
    let epoch = prop_oneof![9 => Just(0_u8), 1 => Just(1)];
    // Inline, shared, and larger than the share of the tight budget.
    let len = prop_oneof![4 => 4..200_usize, 2 => 700..3_000_usize, 1 => 20_000..40_000_usize];
    let insert = (key.clone(), epoch.clone(), len, 0..40_u64, 0..40_u64, prop_oneof![Just(0), Just(64_u64)]).prop_map(
        |(key, epoch, len, fresh_ms, stale_ms, reserve)| Op::Insert { key, epoch, len, fresh_ms, stale_ms, reserve },
    );
    let op = prop_oneof![
        8 => insert,
        8 => (key.clone(), epoch).prop_map(|(key, epoch)| Op::Get { key, epoch }),
        1 => key.prop_map(|key| Op::Remove { key }),
        2 => (0..30_u64).prop_map(|ms| Op::Advance { ms }),
        1 => Just(Op::Clear),
    ];
    vec(op, 1..120)
}

#[derive(Clone, Debug, PartialEq)]
struct Found {
    value: Vec<u8>,
    fresh: bool,
}

/// What the check drives: the tier, or a map with a flaw.
trait Subject {
    fn insert(&mut self, key: u8, epoch: Epoch, value: &[u8], life: Life, reserve: u64) -> bool;
    fn get(&mut self, key: u8, epoch: Epoch) -> Option<Found>;
    fn remove(&mut self, key: u8);
    fn clear(&mut self);
}

/// How the subject's keys hash: well, or so that three share each hash.
#[derive(Clone, Copy, PartialEq)]
enum Hashing {
    Good,
    Colliding,
}

struct Tier {
    l1: L1,
    hashing: Hashing,
}

impl Tier {
    fn key(&self, key: u8) -> (KeyHash, Vec<u8>) {
        let wire_key = vec![b'k'; usize::from(key) + 1];
        let hash = match self.hashing {
            Hashing::Good => self.l1.hash(&wire_key),
            Hashing::Colliding => KeyHash::from_raw(u64::from(key % 4)),
        };
        (hash, wire_key)
    }
}

impl Subject for Tier {
    fn insert(&mut self, key: u8, epoch: Epoch, value: &[u8], life: Life, reserve: u64) -> bool {
        let (hash, key) = self.key(key);
        self.l1.insert(hash, &key, epoch, value.to_vec().into(), life, None, reserve) == Inserted::Kept
    }

    fn get(&mut self, key: u8, epoch: Epoch) -> Option<Found> {
        let (hash, key) = self.key(key);
        let hit = self.l1.get(hash, key.as_slice(), epoch)?;
        // A typed copy must belong to the bytes it was decoded from.
        if let Some(typed) = hit.typed::<Vec<u8>>() {
            assert_eq!(*typed, hit.stored());
        }
        hit.attach_typed(Arc::new(hit.stored().to_vec()));
        Some(Found { value: hit.stored().to_vec(), fresh: hit.is_fresh() })
    }

    fn remove(&mut self, key: u8) {
        let (hash, key) = self.key(key);
        self.l1.remove(hash, &key);
    }

    fn clear(&mut self) {
        self.l1.clear();
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    ComparesNoKeys,
    ForgetsExpiry,
    ForgetsFreshness,
    ForgetsEpochs,
    RefusalKeepsTheOldValue,
    RemovesNothing,
    ClearsNothing,
}

/// The tier's promises in their plainest form, with at most one of them broken.
struct Naive {
    map: HashMap<u8, (u8, Epoch, Vec<u8>, Life)>,
    flaw: Flaw,
    clock: Arc<ManualClock>,
}

impl Naive {
    fn new(flaw: Flaw, clock: &Arc<ManualClock>) -> Self {
        Self { map: HashMap::new(), flaw, clock: clock.clone() }
    }

    fn slot(&self, key: u8) -> u8 {
        if self.flaw == Flaw::ComparesNoKeys { key % 4 } else { key }
    }
}

impl Subject for Naive {
    fn insert(&mut self, key: u8, epoch: Epoch, value: &[u8], life: Life, _: u64) -> bool {
        let slot = self.slot(key);
        if value.len() > 16_000 && self.flaw != Flaw::None {
            if self.flaw != Flaw::RefusalKeepsTheOldValue {
                self.map.remove(&slot);
            }
            return false;
        }
        self.map.insert(slot, (key, epoch, value.to_vec(), life));
        true
    }

    fn get(&mut self, key: u8, epoch: Epoch) -> Option<Found> {
        let slot = self.slot(key);
        let now_ms = self.clock.coarse_ms();
        let (_, stored_epoch, value, life) = self.map.get(&slot)?;
        let outlived = now_ms >= life.expires_at_ms && self.flaw != Flaw::ForgetsExpiry;
        let outdated = *stored_epoch != epoch && self.flaw != Flaw::ForgetsEpochs;
        if outlived || outdated {
            self.map.remove(&slot);
            return None;
        }
        let fresh = now_ms < life.fresh_until_ms || self.flaw == Flaw::ForgetsFreshness;
        Some(Found { value: value.clone(), fresh })
    }

    fn remove(&mut self, key: u8) {
        if self.flaw != Flaw::RemovesNothing {
            self.map.remove(&self.slot(key));
        }
    }

    fn clear(&mut self) {
        if self.flaw != Flaw::ClearsNothing {
            self.map.clear();
        }
    }
}

/// Which misses are allowed where the model has a value.
#[derive(Clone, Copy, PartialEq)]
enum Misses {
    /// None: there is room for everything.
    Exact,
    /// Any: entries may have been evicted. A hit must be right all the same.
    Allowed,
}

fn check(subject: &mut dyn Subject, clock: &Arc<ManualClock>, ops: &[Op], misses: Misses) -> Result<(), TestCaseError> {
    let mut model = Naive::new(Flaw::None, clock);
    for (step, op) in ops.iter().enumerate() {
        match *op {
            Op::Insert { key, epoch, len, fresh_ms, stale_ms, reserve } => {
                // Every value is one of a kind, so that a stale one cannot pass for the right one.
                let mut value = vec![key; len];
                value[..4].copy_from_slice(&(step as u32).to_le_bytes());
                let now_ms = clock.coarse_ms();
                let life = Life { fresh_until_ms: now_ms + fresh_ms, expires_at_ms: now_ms + fresh_ms + stale_ms };
                let epoch = Epoch(u64::from(epoch));
                if subject.insert(key, epoch, &value, life, reserve) {
                    model.insert(key, epoch, &value, life, reserve);
                } else {
                    prop_assert!(misses == Misses::Allowed, "refused where there is room");
                    model.remove(key);
                }
            }
            Op::Get { key, epoch } => {
                let epoch = Epoch(u64::from(epoch));
                let (found, expected) = (subject.get(key, epoch), model.get(key, epoch));
                if found.is_some() || misses == Misses::Exact {
                    prop_assert_eq!(found, expected, "step {}", step);
                }
            }
            Op::Remove { key } => {
                subject.remove(key);
                model.remove(key);
            }
            Op::Advance { ms } => clock.advance(Duration::from_millis(ms)),
            Op::Clear => {
                subject.clear();
                model.clear();
            }
        }
    }
    Ok(())
}

fn check_tier(ops: &[Op], config: L1Config, hashing: Hashing, misses: Misses) -> Result<(), TestCaseError> {
    let f = fixture(config);
    let Fixture { l1, clock } = f;
    let mut tier = Tier { l1: Arc::into_inner(l1).unwrap(), hashing };
    check(&mut tier, &clock, ops, misses)?;
    let stats = tier.l1.stats();
    let gone = stats.replaced + stats.evictions + stats.expired + stats.removed;
    prop_assert_eq!(stats.entries, stats.inserts - gone);
    let charged: u64 = tier.l1.store.iter().map(|(slot, ())| charge_of(&slot.0)).sum();
    prop_assert_eq!(stats.bytes, charged);
    prop_assert!(stats.bytes <= config.max_bytes && stats.entries <= config.max_entries.unwrap_or(u64::MAX));
    Ok(())
}

proptest! {
    #[test]
    fn with_room_for_all_every_lookup_is_exactly_the_models(ops in ops()) {
        check_tier(&ops, L1Config::with_max_bytes(64 << 20), Hashing::Good, Misses::Exact)?;
    }

    #[test]
    fn when_short_of_room_and_hashes_every_hit_is_still_the_models(ops in ops()) {
        check_tier(&ops, shared(20_000, 1), Hashing::Colliding, Misses::Allowed)?;
        check_tier(&ops, shared(20_000, 4), Hashing::Good, Misses::Allowed)?;
        check_tier(&ops, L1Config { max_entries: Some(5), ..shared(60_000, 2) }, Hashing::Good, Misses::Allowed)?;
    }
}

/// The negative control of the two above: each broken promise is found, with misses allowed wherever that can be.
#[test]
fn the_check_finds_every_flaw_it_is_meant_to_find() {
    for flaw in [
        Flaw::ComparesNoKeys,
        Flaw::ForgetsExpiry,
        Flaw::ForgetsFreshness,
        Flaw::ForgetsEpochs,
        Flaw::RefusalKeepsTheOldValue,
        Flaw::RemovesNothing,
        Flaw::ClearsNothing,
    ] {
        let mut runner = TestRunner::new_with_rng(
            Config { failure_persistence: None, max_shrink_iters: 0, ..Config::default() },
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        let outcome = runner.run(&ops(), |ops| {
            let clock = Arc::new(ManualClock::new());
            check(&mut Naive::new(flaw, &clock), &clock, &ops, Misses::Allowed)
        });
        assert!(outcome.is_err(), "{flaw:?} went unnoticed");
    }
}
