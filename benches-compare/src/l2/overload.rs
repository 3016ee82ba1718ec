//! Ten times more calls than a store can serve: what of them is served, and how soon the others are sent away.
//!
//! Open loop: calls begin at fixed moments whether or not earlier ones have ended, and their latency counts from the moment
//! they were to begin. The store serves [`SLOTS`] requests at a time, [`SERVICE`] each, the others wait in its own queue; one that
//! was given up by its caller is served all the same, as a server does that knows nothing of it. Without a bulkhead that is
//! what it spends its time on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_core::guard::stack::Shed;
use cachekit_core::{Cache, Error};
use cachekit_plugin::{Backend, BackendError, Cx, Fut, Health, Key, Kind, Limits, Operation, Ttl};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

use crate::report::{Figure, Goal, Report, Row};
use crate::{Effort, Failure};

const SLOTS: usize = 64;
const SERVICE: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_millis(250);
/// Calls per second that the store can serve.
const CAPACITY: f64 = SLOTS as f64 / 0.020;

/// A store with a fixed capacity and a queue of its own.
struct Narrow {
    slots: Arc<Semaphore>,
    served: Arc<AtomicU64>,
}

impl Backend for Narrow {
    fn limits(&self) -> Limits {
        Limits::new(1 << 10, 1 << 20)
    }
    fn get<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        let (slots, served) = (Arc::clone(&self.slots), Arc::clone(&self.served));
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let _slot = slots.acquire_owned().await;
            tokio::time::sleep(SERVICE).await;
            served.fetch_add(1, Ordering::Relaxed);
            let _ = answer.send(());
        });
        Box::pin(async move {
            let lost = |_| BackendError::new(Kind::Transient, Operation::Get, "the store went away");
            answered.await.map(|()| None).map_err(lost)
        })
    }
    fn set<'a>(&'a self, _: Key<'a>, _: Bytes, _: Ttl, _: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async { Ok(()) })
    }
    fn delete<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async { Ok(false) })
    }
    fn exists<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async { Ok(false) })
    }
    fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
        Box::pin(async { Ok(Health::default()) })
    }
    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// What became of the calls of one step.
struct Step {
    /// Answers within the deadline, per second.
    goodput: f64,
    /// From the intended start, milliseconds, sorted: answers alone.
    latency: Vec<f64>,
    /// How long it took to be sent away at once, microseconds, sorted.
    shed: Vec<f64>,
    shed_share: f64,
    most_queued: u32,
    most_in_flight: u32,
}

pub(super) fn run(effort: Effort) -> Result<Report, Failure> {
    let length = match effort {
        Effort::Quick => Duration::from_secs(2),
        Effort::Full => Duration::from_secs(15),
    };
    let mut report = Report::begin("overload");
    report.notes.push(format!(
        "a store that serves {CAPACITY:.0} calls a second ({SLOTS} at a time, {SERVICE:?} each); open loop, {length:?} a step"
    ));
    report.notes.push("latency from the intended start; deadline 250 ms, L1 off, guards as they come".into());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let base = step(&runtime, true, 0.5, length);
    let base_p99 = quantile(&base.latency, 0.99);
    let mut knee: Option<(f64, Step)> = None;
    for load in [0.7, 0.8, 0.9, 0.95, 1.0] {
        let step = step(&runtime, true, load, length / 2);
        let p99 = quantile(&step.latency, 0.99);
        let informs =
            Row::alone(format!("p99 latency at {:.0} %", load * 100.0), "ms", Figure::new("Cache", p99), None);
        report.rows.push(informs);
        if p99 <= 5.0 * base_p99 && knee.as_ref().is_none_or(|(_, best)| step.goodput > best.goodput) {
            knee = Some((load, step));
        }
    }
    let (at, knee) = knee.ok_or("the store has no knee: even 70 % is too much for this machine")?;
    report.notes.push(format!(
        "knee: the most answers with a p99 of at most five times that at 50 %; here at {:.0} %",
        at * 100.0
    ));
    let flood = step(&runtime, true, 10.0, length);
    let control = step(&runtime, false, 10.0, length / 2);
    let after = step(&runtime, true, 0.5, length / 2);

    let knee_figure = || Figure::new("knee", knee.goodput);
    let row = |case: &str, step: &Step, goal| {
        Row::beside(case, "answers/s", Figure::new("Cache", step.goodput), knee_figure(), goal)
    };
    report.rows.push(row("goodput at 1000 %", &flood, Some(Goal::RatioAtLeast(0.90))));
    report.rows.push(row("goodput at 1000 %, without bulkhead, breaker and retries", &control, None));
    report.rows.push(row("goodput at 50 % afterwards", &after, None));
    let alone = |case: &str, unit, value: f64, at_most| Row::alone(case, unit, Figure::new("Cache", value), at_most);
    report.rows.push(alone("share of calls sent away at 1000 %", "", flood.shed_share, None));
    report.rows.push(alone("sent away at once, p50", "µs", quantile(&flood.shed, 0.50), None));
    report.rows.push(alone("sent away at once, p99", "µs", quantile(&flood.shed, 0.99), Some(100.0)));
    report.rows.push(alone("most calls in the queue", "", f64::from(flood.most_queued), Some(1_000.0)));
    report.rows.push(alone("most calls in flight", "", f64::from(flood.most_in_flight), Some(100.0)));
    let deadline_ms = DEADLINE.as_secs_f64() * 1e3;
    report.rows.push(alone(
        "p99 latency of answers at 1000 %",
        "ms",
        quantile(&flood.latency, 0.99),
        Some(deadline_ms),
    ));
    Ok(report)
}

fn step(runtime: &Runtime, with_bulkhead: bool, load: f64, length: Duration) -> Step {
    let served = Arc::new(AtomicU64::new(0));
    let store = Narrow { slots: Arc::new(Semaphore::new(SLOTS)), served: Arc::clone(&served) };
    let builder = Cache::builder().backend(Arc::new(store)).without_l1().strict(true).deadline(DEADLINE);
    let builder = if with_bulkhead { builder } else { builder.without_bulkhead().without_breaker().without_retry() };
    let cache = builder.build().expect("the settings are right");
    let _entered = runtime.enter();
    let every = Duration::from_secs_f64(1.0 / (CAPACITY * load));
    let begun = Instant::now();
    let (mut most_queued, most_in_flight) = (0, Arc::new(AtomicU32::new(0)));
    let mut calls = Vec::new();
    let mut next = begun;
    while next.duration_since(begun) < length {
        // All that were to begin by now, each with the moment it was to.
        let now = Instant::now();
        while next <= now && next.duration_since(begun) < length {
            let (cache, intended) = (cache.clone(), next);
            calls.push(runtime.spawn(async move {
                let entered = Instant::now();
                let answer = cache.get::<String>(&format!("key-{}", intended.elapsed().as_nanos())).await;
                let ended = Instant::now();
                (answer, ended.duration_since(intended), ended.duration_since(entered))
            }));
            next += every;
        }
        let health = cache.tier().expect("there is one").guard_health();
        most_queued = most_queued.max(health.queued.map_or(0, |(now, _)| now));
        most_in_flight.fetch_max(health.in_flight.map_or(0, |(now, _)| now), Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros(200));
    }
    let offered = calls.len();
    let (mut latency, mut shed, mut sent_away) = (Vec::new(), Vec::new(), 0);
    for call in calls {
        let (answer, since_intended, took) = runtime.block_on(call).expect("calls do not panic");
        match answer {
            Ok(_) => latency.push(since_intended.as_secs_f64() * 1e3),
            Err(Error::Backend(error)) if Shed::is(&error) => {
                sent_away += 1;
                // Those that waited first are another matter.
                if std::error::Error::source(&error).and_then(|source| source.downcast_ref()) == Some(&Shed::Full) {
                    shed.push(took.as_secs_f64() * 1e6);
                }
            }
            Err(_) => {}
        }
    }
    latency.sort_by(f64::total_cmp);
    shed.sort_by(f64::total_cmp);
    let deadline_ms = DEADLINE.as_secs_f64() * 1e3;
    let good = latency.iter().filter(|ms| **ms <= deadline_ms).count();
    Step {
        goodput: good as f64 / length.as_secs_f64(),
        latency,
        shed,
        shed_share: f64::from(sent_away) / offered as f64,
        most_queued,
        most_in_flight: most_in_flight.load(Ordering::Relaxed),
    }
}

fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let at = (sorted.len() as f64 * quantile) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
