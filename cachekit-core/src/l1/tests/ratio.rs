//! Who is kept: the tier beside the policy inside it, over traces, with the same room.
//!
//! Whatever we build around `quick_cache` (shards for the largest entry, charges, room taken off for ghosts) must not cost it
//! the entries it would have kept.

use super::*;

const VALUE: usize = 100;
const ROOM: u64 = 4_000;

/// A small generator (xorshift64*): repeatable.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Draws by a Zipf law of exponent 0.99 from ten times the room, and in each stretch of 10 000 the last fifth asks for keys that
/// never come back.
fn zipf_with_scans(len: usize) -> Vec<u64> {
    let keys = 10 * ROOM;
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    let mut random = Random(7);
    (0..len)
        .map(|at| {
            if at % 10_000 >= 8_000 {
                return keys + at as u64;
            }
            let drawn = random.unit() * sum;
            cumulative.partition_point(|below| *below < drawn) as u64
        })
        .collect()
}

fn a_loop(len: usize) -> Vec<u64> {
    (0..len as u64).map(|at| at % (ROOM * 5 / 4)).collect()
}

fn ours(trace: &[u64]) -> f64 {
    // The bound is bytes; 8 % of it goes to remembering who was evicted.
    let per_entry = ENTRY_OVERHEAD + 8 + VALUE as u64;
    let f = fixture(L1Config::with_max_bytes(ROOM * per_entry * 100 / 92));
    let hits = trace.iter().filter(|n| {
        let key = n.to_be_bytes();
        let hash = f.l1.hash(&key);
        let hit = f.l1.read(hash, &key, EPOCH, |_| ()).is_some();
        if !hit {
            let _ = f.l1.insert(hash, &key, EPOCH, vec![0; VALUE].into(), Life::FOREVER, None, 0);
        }
        hit
    });
    hits.count() as f64 / trace.len() as f64
}

fn raw(trace: &[u64]) -> f64 {
    let cache = quick_cache::sync::Cache::<u64, (), _, _, quick_cache::sync::DefaultLifecycle<u64, ()>>::with(
        ROOM as usize,
        ROOM,
        quick_cache::UnitWeighter,
        foldhash::fast::RandomState::default(),
        Default::default(),
    );
    let hits = trace.iter().filter(|n| {
        let hit = cache.get(*n).is_some();
        if !hit {
            cache.insert(**n, ());
        }
        hit
    });
    hits.count() as f64 / trace.len() as f64
}

#[test]
fn the_tier_keeps_what_its_policy_would_keep() {
    let trace = zipf_with_scans(120_000);
    let (ours, raw) = (ours(&trace), raw(&trace));
    assert!(ours >= raw - 0.01, "{ours:.4} beside {raw:.4}");
    assert!(raw > 0.3, "{raw}: a trace that nobody can serve proves nothing");
}

/// A loop larger than the cache is where an LRU has no hit at all.
#[test]
fn a_loop_larger_than_the_tier_still_hits() {
    let trace = a_loop(60_000);
    let (ours, raw) = (ours(&trace), raw(&trace));
    assert!(ours >= raw - 0.03 && ours > 0.4, "{ours:.4} beside {raw:.4}");
}
