//! Which keys are asked for most: a count-min sketch and the hundred or so best of it.
//!
//! Off unless asked for. A lookup then counts down a number of its own thread, and one in sixteen on average is written down,
//! if nobody else is just writing: that is what it costs, and memory is bounded whatever the keys are. The distances between
//! the samples are random, so that callers who ask in a rhythm do not fall between them. Counts fade by half
//! every 131 072 samples: what was hot yesterday makes way.
//!
//! A count is never too low by more than what was faded or not sampled, and too high where keys share all four counters of the sketch.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, TryLockError};

use cachekit_plugin::Key;

use super::KeyHash;
use crate::key::WireKeyRef;

/// Lookups per sample, on average.
const EVERY: u64 = 16;
const ROWS: usize = 4;
const COLUMNS: usize = 8_192;
/// Samples after which all counts are halved.
const FADE: u64 = 1 << 17;
/// Longest key that is kept; a longer one is not listed.
const MAX_KEY: usize = 1_024;
/// Most keys that can be asked for.
pub(super) const MAX_KEYS: usize = 10_000;

/// A key that is often asked for. Its `Debug` shows the digest; whoever wants the key asks for it.
#[derive(Clone, PartialEq, Eq)]
pub struct HotKey {
    wire_key: Vec<u8>,
    lookups: u64,
}

impl HotKey {
    /// The wire key: `ck:<namespace>:<key>`, or a key of another language as it is.
    pub fn wire_key(&self) -> &[u8] {
        &self.wire_key
    }

    /// The digest by which logs know the key.
    pub fn digest(&self) -> String {
        format!("{:?}", Key::from_wire(&self.wire_key))
    }

    /// About how many lookups there were of late.
    pub fn lookups(&self) -> u64 {
        self.lookups
    }
}

impl fmt::Debug for HotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotKey").field("key", &Key::from_wire(&self.wire_key)).field("lookups", &self.lookups).finish()
    }
}

struct Candidate {
    wire_key: Vec<u8>,
    samples: u32,
}

struct Sketch {
    counters: Box<[[u32; COLUMNS]; ROWS]>,
    /// At most `capacity`.
    best: HashMap<u64, Candidate>,
    capacity: usize,
    /// The least of `best`, once that is full.
    least: u32,
    samples: u64,
}

impl Sketch {
    fn add(&mut self, hash: u64, key: WireKeyRef<'_>) {
        self.samples += 1;
        if self.samples.is_multiple_of(FADE) {
            self.fade();
        }
        // Conservative: only the counters that are too low for the new count are raised.
        let places: [usize; ROWS] = std::array::from_fn(|row| column(hash, row));
        let seen = places.iter().zip(self.counters.iter()).map(|(at, row)| row[*at]).min().unwrap_or(0);
        let samples = seen.saturating_add(1);
        for (at, row) in places.into_iter().zip(self.counters.iter_mut()) {
            row[at] = row[at].max(samples);
        }
        if let Some(candidate) = self.best.get_mut(&hash) {
            candidate.samples = samples;
            return;
        }
        let is_full = self.best.len() >= self.capacity;
        if key.len() > MAX_KEY || (is_full && samples <= self.least) {
            return;
        }
        if is_full {
            self.make_room();
        }
        self.best.insert(hash, Candidate { wire_key: key.to_vec(), samples });
    }

    /// A walk over the candidates, paid by newcomers alone, which are rare once the best are known.
    fn make_room(&mut self) {
        let least = self.best.iter().min_by_key(|(_, candidate)| candidate.samples).map(|(hash, _)| *hash);
        if let Some(hash) = least {
            self.best.remove(&hash);
        }
        self.least = self.best.values().map(|candidate| candidate.samples).min().unwrap_or(0);
    }

    fn fade(&mut self) {
        self.counters.iter_mut().flatten().for_each(|counter| *counter /= 2);
        self.best.values_mut().for_each(|candidate| candidate.samples /= 2);
        self.least /= 2;
    }
}

/// Another column per row, out of one hash that is already random.
fn column(hash: u64, row: usize) -> usize {
    let mixed = hash.rotate_left(16 * row as u32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % COLUMNS
}

/// The hot keys of one tier.
pub(super) struct HotKeys(Mutex<Sketch>);

thread_local! {
    /// Lookups until this thread's next sample, and the state of its random distances.
    static COUNTDOWN: Cell<(u64, u64)> = const { Cell::new((0, 0x9e37_79b9_7f4a_7c15)) };
}

impl HotKeys {
    pub(super) fn new(keys: usize) -> Self {
        // Room for twice as many as are asked for: near the end of the list the order is by chance.
        let capacity = keys.clamp(1, MAX_KEYS) * 2;
        let counters = vec![[0; COLUMNS]; ROWS].into_boxed_slice();
        Self(Mutex::new(Sketch {
            counters: counters.try_into().unwrap_or_else(|_| Box::new([[0; COLUMNS]; ROWS])),
            best: HashMap::with_capacity(capacity),
            capacity,
            least: 0,
            samples: 0,
        }))
    }

    #[inline]
    pub(super) fn saw(&self, hash: KeyHash, key: WireKeyRef<'_>) {
        let (left, random) = COUNTDOWN.get();
        if left > 0 {
            COUNTDOWN.set((left - 1, random));
        } else {
            self.sample(hash, key, random);
        }
    }

    #[cold]
    fn sample(&self, hash: KeyHash, key: WireKeyRef<'_>, mut random: u64) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Between 0 and twice the average, less one for this lookup itself.
        COUNTDOWN.set((random % (2 * EVERY - 1), random));
        // A sample that would have to wait is one of many; and a child made by `fork()` may find the lock held for good.
        match self.0.try_lock() {
            Ok(mut sketch) => sketch.add(hash.as_u64(), key),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().add(hash.as_u64(), key),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// The `n` most frequent, the most frequent first.
    pub(super) fn top(&self, n: usize) -> Vec<HotKey> {
        let sketch = match self.0.try_lock() {
            Ok(sketch) => sketch,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Held for a microsecond by somebody; for good only in a child made by `fork()` in that microsecond.
            Err(TryLockError::WouldBlock) => {
                std::thread::yield_now();
                match self.0.try_lock() {
                    Ok(sketch) => sketch,
                    Err(_) => return Vec::new(),
                }
            }
        };
        let mut keys: Vec<HotKey> = sketch
            .best
            .values()
            .map(|best| HotKey { wire_key: best.wire_key.clone(), lookups: u64::from(best.samples) * EVERY })
            .collect();
        drop(sketch);
        keys.sort_by(|a, b| b.lookups.cmp(&a.lookups).then_with(|| a.wire_key.cmp(&b.wire_key)));
        keys.truncate(n);
        keys
    }
}
