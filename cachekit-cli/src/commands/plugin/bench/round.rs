//! One store, each operation for its time, by so many callers. A closed loop: a caller waits before it asks again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit::within;
use cachekit_plugin::{Backend, BackendError, Cx, Deadline, Key, Operation, Ttl};
use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::cli::PluginBenchArgs;
use crate::exit::Failure;
use crate::output::hex;

/// What is measured, in this order. `noop` asks for a key that is not there and wants nothing of it: the least that can be
/// asked of a store.
pub(super) const OPERATIONS: [&str; 4] = ["noop", "get_miss", "get_hit", "set"];

/// How the keys begin that nobody ever writes.
pub(super) const ABSENT: &str = "ck:bench-absent";

/// Life of what is written, should the program be killed before it removes it.
const LIFE: Duration = Duration::from_secs(3600);
/// Longest latency that is told apart, nanoseconds: a minute.
const MAX_NS: u64 = 60_000_000_000;

/// The bytes of every value.
pub(super) fn value(len: usize) -> Bytes {
    (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

#[derive(Clone)]
pub(super) struct Round {
    backend: Arc<dyn Backend>,
    prefix: Arc<str>,
    value: Bytes,
    callers: u16,
    keys: u32,
    duration: Duration,
    deadline: Duration,
}

impl Round {
    pub(super) fn new(backend: Arc<dyn Backend>, args: &PluginBenchArgs) -> Result<Self, Failure> {
        let limits = backend.limits();
        let (asked, max) = (args.value_size, limits.max_value);
        if asked as u64 > max {
            return Err(Failure::Usage(format!("values of {asked} bytes were asked for, the store takes {max}")));
        }
        let mut random = [0_u8; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Failure::io("the system gives no random bytes")(error.into()))?;
        let this = Self {
            backend,
            prefix: format!("ck:bench-{}:", hex(&random)).into(),
            value: value(asked),
            callers: args.callers,
            keys: args.keys,
            duration: args.duration,
            deadline: args.deadline,
        };
        if !limits.takes_key(&this.key(args.keys)) {
            let max = limits.max_key;
            return Err(Failure::Usage(format!("the store takes keys of {max} bytes, too short for a bench")));
        }
        Ok(this)
    }

    /// Every operation in turn.
    pub(super) async fn run(&self) -> Result<Vec<Figure>, Failure> {
        for number in 0..self.keys {
            self.set(&self.key(number)).await?;
        }
        let mut figures = Vec::new();
        for operation in OPERATIONS {
            figures.push(self.measure(operation).await);
        }
        Ok(figures)
    }

    async fn measure(&self, operation: &'static str) -> Figure {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        let begun = Instant::now();
        for number in 0..self.callers {
            callers.spawn(call(self.clone(), operation, u32::from(number), Arc::clone(&stop)));
        }
        tokio::time::sleep(self.duration).await;
        stop.store(true, Relaxed);
        let took = begun.elapsed();
        let mut figure = Figure::default();
        // Each ends with the operation it is at, which has a deadline.
        while let Some(of_one) = callers.join_next().await {
            if let Ok(of_one) = of_one {
                figure.add(&of_one);
            }
        }
        figure.seconds = took.as_secs_f64();
        figure
    }

    fn key(&self, number: u32) -> Vec<u8> {
        format!("{}{number}", self.prefix).into_bytes()
    }

    async fn set(&self, key: &[u8]) -> Result<(), BackendError> {
        let deadline = Deadline::after(self.deadline);
        let (cx, ttl) = (Cx::new(deadline), Ttl::from_duration(LIFE).unwrap_or(Ttl::Never));
        within(deadline, Operation::Set, self.backend.set(Key::from_wire(key), self.value.clone(), ttl, &cx)).await
    }

    /// Whether the answer was the right one.
    async fn ask(&self, operation: &str, key: &[u8]) -> Result<bool, BackendError> {
        let deadline = Deadline::after(self.deadline);
        let cx = Cx::new(deadline);
        let wire = Key::from_wire(key);
        match operation {
            "noop" => within(deadline, Operation::Exists, self.backend.exists(wire, &cx)).await.map(|there| !there),
            "get_miss" => {
                within(deadline, Operation::Get, self.backend.get(wire, &cx)).await.map(|found| found.is_none())
            }
            "get_hit" => {
                let found = within(deadline, Operation::Get, self.backend.get(wire, &cx)).await?;
                Ok(found.is_some_and(|found| found == self.value))
            }
            _ => self.set(key).await.map(|()| true),
        }
    }

    /// Removes every key and returns how many could not be.
    pub(super) async fn remove(&self) -> u32 {
        let mut left = 0;
        for number in 0..self.keys {
            let (key, deadline) = (self.key(number), Deadline::after(self.deadline));
            let cx = Cx::new(deadline);
            let removal = self.backend.delete(Key::from_wire(&key), &cx);
            if within(deadline, Operation::Delete, removal).await.is_err() {
                left += 1;
                // The store is gone: each of the others would take a deadline to say so.
                if left > 20 {
                    return self.keys - number + left - 1;
                }
            }
        }
        left
    }

    pub(super) async fn close(&self) {
        let deadline = Deadline::after(self.deadline);
        let cx = Cx::new(deadline);
        // The process ends anyway.
        let _ = within(deadline, Operation::Close, self.backend.close(&cx)).await;
    }
}

async fn call(round: Round, operation: &'static str, number: u32, stop: Arc<AtomicBool>) -> Figure {
    // Made before, so that the clock runs over the operation alone. A handful is enough for a key to be another each time.
    let absent = matches!(operation, "noop" | "get_miss");
    let keys: Vec<Vec<u8>> = (0..round.keys.min(1024))
        .map(|at| (at + number * 7919) % round.keys)
        .map(|at| if absent { format!("{ABSENT}:{at}").into_bytes() } else { round.key(at) })
        .collect();
    let mut figure = Figure::default();
    for key in keys.iter().cycle() {
        let begun = Instant::now();
        let answer = round.ask(operation, key).await;
        figure.record(begun.elapsed(), answer);
        if stop.load(Relaxed) {
            break;
        }
        // A store that never waits would keep this thread from the other callers.
        tokio::task::consume_budget().await;
    }
    figure
}

/// Of one operation.
pub(super) struct Figure {
    /// Nanoseconds of what was answered, three digits. `None` where a histogram could not be made.
    latency: Option<Histogram<u64>>,
    pub(super) errors: u64,
    pub(super) wrong: u64,
    seconds: f64,
}

impl Default for Figure {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, MAX_NS, 3).ok();
        Self { latency, errors: 0, wrong: 0, seconds: 0.0 }
    }
}

impl Figure {
    fn record(&mut self, took: Duration, answer: Result<bool, BackendError>) {
        match answer {
            Err(_) => self.errors += 1,
            Ok(right) => {
                self.wrong += u64::from(!right);
                let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                self.latency.iter_mut().for_each(|latency| latency.saturating_record(took_ns));
            }
        }
    }

    fn add(&mut self, other: &Self) {
        if let (Some(latency), Some(other)) = (&mut self.latency, &other.latency) {
            // Histograms of the same bounds fit each other.
            let _ = latency.add(other);
        }
        self.errors += other.errors;
        self.wrong += other.wrong;
    }

    fn count(&self) -> u64 {
        self.latency.as_ref().map_or(0, Histogram::len)
    }

    fn at_us(&self, quantile: f64) -> f64 {
        self.latency.as_ref().map_or(0.0, |latency| latency.value_at_quantile(quantile) as f64 / 1e3)
    }

    fn max_us(&self) -> f64 {
        self.latency.as_ref().map_or(0.0, |latency| latency.max() as f64 / 1e3)
    }

    fn per_second(&self) -> f64 {
        self.count() as f64 / self.seconds.max(1e-9)
    }

    /// By the medians: they bear a busy machine best.
    fn ratio(&self, null: &Self) -> Option<f64> {
        let of_null = null.at_us(0.5);
        (of_null > 0.0 && self.count() > 0).then(|| self.at_us(0.5) / of_null)
    }

    pub(super) fn document(&self, nothing: &Self) -> Json {
        json!({
            "count": self.count(), "per_second": self.per_second(), "errors": self.errors, "wrong_answers": self.wrong,
            "latency_us": { "p50": self.at_us(0.5), "p99": self.at_us(0.99), "max": self.max_us() },
            "null_p50_us": nothing.at_us(0.5), "ratio_to_null": self.ratio(nothing),
        })
    }

    pub(super) fn line(&self, null: &Self) -> String {
        let ratio = self.ratio(null).map_or("-".into(), |ratio| format!("{ratio:.1}"));
        let us = |us: f64| format!("{us:.2} µs");
        let mut line = format!(
            "{:>12.0}{:>11}{:>11}{:>11}{ratio:>13}",
            self.per_second(),
            us(self.at_us(0.5)),
            us(self.at_us(0.99)),
            us(self.max_us())
        );
        if self.errors > 0 {
            line += &format!("  {} errors", self.errors);
        }
        if self.wrong > 0 {
            line += &format!("  {} WRONG ANSWERS", self.wrong);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_counts_what_was_right_wrong_and_failed() {
        let (mut figure, mut null) = (Figure::default(), Figure::default());
        null.record(Duration::from_nanos(100), Ok(true));
        figure.record(Duration::from_nanos(400), Ok(true));
        figure.record(Duration::from_nanos(400), Ok(false));
        figure.record(Duration::from_secs(1), Err(BackendError::unsupported(Operation::Get)));
        figure.seconds = 2.0;
        let document = figure.document(&null);
        assert_eq!(
            (&document["count"], &document["errors"], &document["wrong_answers"]),
            (&json!(2), &json!(1), &json!(1))
        );
        assert_eq!((&document["per_second"], &document["ratio_to_null"]), (&json!(1.0), &json!(4.0)));
        assert_eq!(Figure::default().document(&null)["ratio_to_null"], Json::Null);
    }
}
