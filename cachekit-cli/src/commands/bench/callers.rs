//! The callers: each asks, waits, asks again, until told to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::task::JoinSet;

use super::keys::{Keys, next};
use super::numbers::{Numbers, OfOperation};
use crate::cli::transfer::{BenchArgs, Work};

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const STOPPED: u8 = 2;

/// A histogram has some hundred kilobytes, too much for one of each caller; a handful of locks is seldom met by two.
const SHARDS: usize = 16;

pub(super) struct Callers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    begun: Mutex<Instant>,
}

struct Shared {
    phase: AtomicU8,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    gets: OfOperation,
    sets: OfOperation,
}

impl Callers {
    pub(super) fn start(args: &BenchArgs, keys: &Keys) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let shared = Arc::new(Shared { phase: AtomicU8::new(WARMING), shards });
        let mut tasks = JoinSet::new();
        let reads = match args.work {
            Work::Get => 100,
            Work::Set => 0,
            Work::Mixed => args.reads,
        };
        for number in 0..args.callers {
            tasks.spawn(call(shared.clone(), keys.clone(), number, reads));
        }
        Self { shared, tasks, begun: Mutex::new(Instant::now()) }
    }

    /// From now on it counts.
    pub(super) fn measure(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.shared.phase.store(MEASURING, Relaxed);
    }

    pub(super) async fn stop(mut self) -> Numbers {
        let took = self.begun.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        self.shared.phase.store(STOPPED, Relaxed);
        // Each ends with the operation it is at, which has a deadline.
        while self.tasks.join_next().await.is_some() {}
        let (mut gets, mut sets) = (OfOperation::default(), OfOperation::default());
        for shard in &self.shared.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            gets.add(&shard.gets);
            sets.add(&shard.sets);
        }
        Numbers::new(took, BTreeMap::from([("get", gets), ("set", sets)]))
    }
}

async fn call(shared: Arc<Shared>, keys: Keys, number: u16, reads: u8) {
    // Any state but zero; different for each caller.
    let mut state = 0x9E37_79B9_7F4A_7C15 ^ (u64::from(number) << 32 | 1);
    let shard = &shared.shards[usize::from(number) % SHARDS];
    loop {
        state = next(state);
        // The upper half picks the key, the lower what to do with it.
        let key = (((state >> 32) * u64::from(keys.count())) >> 32) as u32;
        let reading = state % 100 < u64::from(reads);
        let begun = Instant::now();
        let answer = if reading { keys.get(key).await } else { keys.set(key).await.map(|()| Some(true)) };
        let took = begun.elapsed();
        match shared.phase.load(Relaxed) {
            STOPPED => return,
            MEASURING => {
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let of = if reading { &mut shard.gets } else { &mut shard.sets };
                of.record(took, answer);
            }
            _ => {}
        }
        // A store that never waits would keep this thread from the other callers.
        tokio::task::consume_budget().await;
    }
}
