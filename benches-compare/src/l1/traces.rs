//! Keys in the order in which callers ask for them.

/// A small generator (xorshift64*): repeatable, and far from what is measured.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Every number below `n` once, shuffled.
pub(super) fn shuffled(n: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..n).collect();
    let mut random = Random::new(42);
    for at in (1..numbers.len()).rev() {
        numbers.swap(at, (random.next() % (at as u64 + 1)) as usize);
    }
    numbers
}

/// `len` draws from `keys` keys by a Zipf law of exponent 0.99, as YCSB has it; rank and number are unrelated.
pub(super) fn zipf(keys: u64, len: usize, seed: u64) -> Vec<u64> {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    let of_rank = shuffled(keys);
    let mut random = Random::new(seed);
    let draw = |_| {
        let at = random.unit() * sum;
        of_rank[cumulative.partition_point(|below| *below < at).min(of_rank.len() - 1)]
    };
    (0..len).map(draw).collect()
}

/// A Zipf trace into which scans of keys that never come back are cut: of each 10 000 requests the last 2 000.
pub(super) fn zipf_with_scans(keys: u64, len: usize) -> Vec<u64> {
    let mut trace = zipf(keys, len, 7);
    let mut never_seen = keys;
    for stretch in trace.chunks_mut(10_000) {
        let begin = stretch.len() * 4 / 5;
        for request in &mut stretch[begin..] {
            *request = never_seen;
            never_seen += 1;
        }
    }
    trace
}

/// Round and round over `keys` keys.
pub(super) fn a_loop(keys: u64, len: usize) -> Vec<u64> {
    (0..len as u64).map(|at| at % keys).collect()
}
