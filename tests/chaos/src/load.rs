//! Workers that read, write and delete, and give up in the middle of it: by a deadline, by a timer, or after so many polls.
//!
//! A future that is dropped between two polls is the case that matters: its reply is still on the way, and must go to
//! nobody.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::checker::Checker;
use crate::random::Random;
use crate::store::{Failed, Store};

/// How much, and how impatiently.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Of all choices.
    pub seed: u64,
    /// Operations under way at the same time.
    pub tasks: u64,
    /// The run ends when so many operations were cancelled or timed out; workers also end when they are told to.
    pub given_up: u64,
    /// Operations that are dropped before they end, of a hundred.
    pub cancelled: u64,
    /// Operations with a deadline of at most 20 ms, of a hundred.
    pub hurried: u64,
    /// The deadline of the others.
    pub patience: Duration,
}

/// What became of the operations.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Ended as they should.
    pub done: u64,
    /// Dropped.
    pub cancelled: u64,
    /// Failed, by class: how many, and what the first one said.
    pub failed: BTreeMap<&'static str, (u64, String)>,
    /// How far the slowest went beyond its deadline.
    pub overrun: Duration,
}

impl Tally {
    /// All operations.
    pub fn all(&self) -> u64 {
        self.done + self.cancelled + self.errors()
    }

    /// Operations that failed.
    pub fn errors(&self) -> u64 {
        self.failed.values().map(|(count, _)| count).sum()
    }

    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.cancelled += other.cancelled;
        for (kind, (count, said)) in &other.failed {
            self.failed.entry(kind).or_insert_with(|| (0, said.clone())).0 += count;
        }
        self.overrun = self.overrun.max(other.overrun);
    }

    fn count(&mut self, outcome: &Option<Result<(), Failed>>) {
        match outcome {
            None => self.cancelled += 1,
            Some(Ok(())) => self.done += 1,
            Some(Err(failed)) => self.failed.entry(failed.kind).or_insert_with(|| (0, failed.said.clone())).0 += 1,
        }
    }
}

/// Runs the plan to its end, or until `stop`.
pub async fn run(
    store: &Store,
    checker: &Arc<Checker>,
    plan: &Plan,
    stop: &Arc<AtomicBool>,
    given_up: &Arc<AtomicU64>,
) -> Tally {
    let mut workers = Vec::new();
    for task in 0..plan.tasks {
        let (store, checker, plan) = (store.clone(), Arc::clone(checker), plan.clone());
        let (stop, given_up) = (Arc::clone(stop), Arc::clone(given_up));
        workers.push(tokio::spawn(async move {
            let mut random = Random::new(plan.seed, task + 1);
            let mut tally = Tally::default();
            while !stop.load(Ordering::Relaxed) && given_up.load(Ordering::Relaxed) < plan.given_up {
                let outcome = one(&store, &checker, &plan, &mut random, &mut tally).await;
                match outcome {
                    // A store that never waits would keep the other tasks, and the clock, from running.
                    Some(Ok(())) => tokio::task::yield_now().await,
                    None => drop(given_up.fetch_add(1, Ordering::Relaxed)),
                    Some(Err(failed)) if failed.is_late() => drop(given_up.fetch_add(1, Ordering::Relaxed)),
                    // A store that is away refuses at once; without a pause that would be most of the run.
                    Some(Err(_)) => tokio::time::sleep(Duration::from_micros(random.below(20_000))).await,
                }
            }
            tally
        }));
    }
    let mut all = Tally::default();
    for worker in workers {
        // A worker that panicked is a defect of this program or of what it calls; either ends the run.
        all.add(&worker.await.expect("a worker does not panic"));
    }
    all
}

async fn one(
    store: &Store,
    checker: &Checker,
    plan: &Plan,
    random: &mut Random,
    tally: &mut Tally,
) -> Option<Result<(), Failed>> {
    let key = random.below(checker.keys());
    let within =
        if random.percent(plan.hurried) { Duration::from_micros(100 + random.below(20_000)) } else { plan.patience };
    let cancel = if !random.percent(plan.cancelled) {
        Cancel::Never
    } else if random.percent(50) {
        Cancel::AfterPolls(1 + random.below(4) as u32)
    } else {
        Cancel::After(Duration::from_micros(random.below(5_000)))
    };
    let began = Instant::now();
    let outcome = match random.below(100) {
        0..58 => {
            let reading = checker.read(key);
            let answer = unless(cancel, store.get(key, within)).await;
            answer.map(|answer| answer.map(|found| reading.returned(found.as_deref())))
        }
        58..66 => {
            let keys: Vec<u64> = (0..1 + random.below(16)).map(|_| random.below(checker.keys())).collect();
            let readings: Vec<_> = keys.iter().map(|key| checker.read(*key)).collect();
            let answer = unless(cancel, store.get_many(&keys, within)).await;
            answer.map(|answer| {
                answer.map(|found| {
                    for (reading, found) in readings.into_iter().zip(found) {
                        if let Some(found) = found {
                            reading.returned(found.as_deref());
                        }
                    }
                })
            })
        }
        66..90 => {
            let size = if random.percent(4) { random.below(100_000) } else { random.below(2_000) };
            let (writing, value) = checker.set(key, size as usize);
            let answer = unless(cancel, store.set(key, value, within)).await;
            answer.map(|answer| answer.map(|()| writing.done()))
        }
        _ => {
            let writing = checker.delete(key);
            let answer = unless(cancel, store.delete(key, within)).await;
            answer.map(|answer| answer.map(|()| writing.done()))
        }
    };
    tally.overrun = tally.overrun.max(began.elapsed().saturating_sub(within));
    tally.count(&outcome);
    outcome
}

/// When an operation is dropped.
#[derive(Debug, Clone, Copy)]
enum Cancel {
    Never,
    AfterPolls(u32),
    After(Duration),
}

/// What a future returns, unless it is dropped before.
async fn unless<F: Future>(cancel: Cancel, future: F) -> Option<F::Output> {
    match cancel {
        Cancel::Never => Some(future.await),
        Cancel::After(time) => tokio::time::timeout(time, future).await.ok(),
        Cancel::AfterPolls(polls) => {
            let mut future = pin!(future);
            let mut left = polls;
            std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if left <= 1 => Poll::Ready(None),
                Poll::Pending => {
                    left -= 1;
                    Poll::Pending
                }
            })
            .await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_future_is_dropped_after_so_many_polls() {
        let endless = || tokio::time::sleep(Duration::from_secs(600));
        assert!(unless(Cancel::AfterPolls(1), endless()).await.is_none());
        assert!(unless(Cancel::After(Duration::from_millis(1)), endless()).await.is_none());
        let twice = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(unless(Cancel::AfterPolls(2), twice).await, Some(7));
    }
}
