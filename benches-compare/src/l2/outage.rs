//! Redis gone for a minute under load: what callers that hit L1 notice, how long the others wait, and what the breaker does.
//!
//! Twice: stopped (SIGSTOP), so that nothing answers and nothing is refused, and killed, so that connections are refused until
//! it is started again. Both contenders keep L1; sixteen callers ask for keys that are in neither tier, a thread hits a
//! hundred hot keys in bursts, and a third watches the breaker.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use cachekit_core::Cache;
use cachekit_core::guard::breaker::BreakerState;
use cachekit_plugin::{HostServices, Open};
use cachekit_rs::reliability::{CircuitState, ReliabilityConfig};
use cachekit_test_servers::redis::Redis;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::callers::Answer;
use crate::report::{Figure, Goal, Report, Row};
use crate::{Effort, Failure};

/// Deadline of the production preset, and what the project allows on top.
const DEADLINE: Duration = Duration::from_millis(250);
const SLACK: Duration = Duration::from_millis(50);
const HOT_KEYS: usize = 100;
const CALLERS: usize = 16;

trait Subject: Send + Sync {
    /// Whether a hot key is there, at once.
    fn hit(&self, key: &str) -> bool;
    /// A get of a key that nobody has; whether it was an error.
    fn miss<'a>(&'a self, key: &'a str) -> Answer<'a, bool>;
    fn set<'a>(&'a self, key: &'a str) -> Answer<'a, ()>;
    fn is_open(&self) -> Option<bool>;
}

struct Ours(Cache);

impl Subject for Ours {
    fn hit(&self, key: &str) -> bool {
        at_once(self.0.get::<String>(key)).is_some_and(|found| matches!(found, Ok(Some(_))))
    }
    fn miss<'a>(&'a self, key: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { self.0.get::<String>(key).await.is_err() })
    }
    fn set<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { drop(self.0.set(key, "value").await) })
    }
    fn is_open(&self) -> Option<bool> {
        Some(self.0.tier()?.breaker_state()? != BreakerState::Closed)
    }
}

struct Peer(cachekit_rs::CacheKit);

impl Subject for Peer {
    fn hit(&self, key: &str) -> bool {
        at_once(self.0.get::<String>(key)).is_some_and(|found| matches!(found, Ok(Some(_))))
    }
    fn miss<'a>(&'a self, key: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { self.0.get::<String>(key).await.is_err() })
    }
    fn set<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { drop(self.0.set(key, &"value").await) })
    }
    fn is_open(&self) -> Option<bool> {
        Some(self.0.circuit_state()? != CircuitState::Closed)
    }
}

/// What a future gives without waiting.
fn at_once<T>(work: impl Future<Output = T>) -> Option<T> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

pub(super) fn run(effort: Effort) -> Result<Report, Failure> {
    let (healthy, dead) = match effort {
        Effort::Quick => (Duration::from_secs(2), Duration::from_secs(4)),
        Effort::Full => (Duration::from_secs(20), Duration::from_secs(60)),
    };
    let mut report = Report::begin("outage");
    report.notes.push(format!(
        "{CALLERS} callers ask for absent keys, {HOT_KEYS} keys are hit in L1 in bursts; healthy {healthy:?}, then dead {dead:?}"
    ));
    report.notes.push(
        "ours: production preset's deadline of 250 ms, guards as they come; cachekit-rs: L1 and reliability on".into(),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for outage in [Outage::Stopped, Outage::Killed] {
        // Each has a server of its own and connects to it when its turn comes: a connection that the other's outage broke
        // before the first figure was taken would say nothing about this one.
        let server = Redis::start();
        let found_ours = watch(&runtime, &server, outage, &ours(&server.url())?, healthy, dead);
        let server = Redis::start();
        let found_peer = watch(&runtime, &server, outage, &peer(&runtime, &server.url())?, healthy, dead);
        rows(outage, &[found_ours, found_peer], &mut report);
    }
    Ok(report)
}

fn ours(url: &str) -> Result<Arc<dyn Subject>, Failure> {
    let options = json!({ "url": url }).to_string();
    let backend = cachekit_backend_redis::RedisBackend::open_json(options.as_bytes(), HostServices::none())?;
    Ok(Arc::new(Ours(Cache::builder().backend(Arc::new(backend)).deadline(DEADLINE).build()?)))
}

fn peer(runtime: &Runtime, url: &str) -> Result<Arc<dyn Subject>, Failure> {
    let backend = cachekit_rs::backend::redis::RedisBackend::builder().url(url).build()?;
    runtime.block_on(backend.connect())?;
    let client = cachekit_rs::CacheKit::builder().backend(Arc::new(backend)).reliability(ReliabilityConfig::default());
    Ok(Arc::new(Peer(client.build()?)))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outage {
    Stopped,
    Killed,
}

/// What was seen of one contender.
struct Seen {
    /// Nanoseconds, sorted; healthy and dead.
    hits: [Vec<u32>; 2],
    /// Hot keys that were not there at once; healthy and dead.
    absent: [u64; 2],
    /// Milliseconds, sorted.
    waits: Vec<f64>,
    errors: usize,
    opened_ms: Option<f64>,
    closed_ms: Option<f64>,
}

fn watch(
    runtime: &Runtime,
    server: &Redis,
    outage: Outage,
    subject: &Arc<dyn Subject>,
    healthy: Duration,
    dead: Duration,
) -> Seen {
    let keys: Arc<[String]> = (0..HOT_KEYS).map(|n| format!("hot-{n:03}-of-usual-length")).collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let write = async |subject: &Arc<dyn Subject>| {
        for key in keys.iter() {
            subject.set(key).await;
        }
    };
    runtime.block_on(write(subject));
    // What was read while others could change it is forgotten when they can no longer be heard, so it is written anew.
    let writer = runtime.spawn({
        let (subject, keys, is_over) = (Arc::clone(subject), Arc::clone(&keys), Arc::clone(&is_over));
        async move {
            while !is_over.load(Ordering::Relaxed) {
                for key in keys.iter() {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    subject.set(key).await;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    });
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (subject, is_over) = (Arc::clone(subject), Arc::clone(&is_over));
            runtime.spawn(async move {
                let mut calls = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let failed = subject.miss(&format!("absent-{caller}-{}", calls.len())).await;
                    calls.push((begun, begun.elapsed().as_secs_f64() * 1e3, failed));
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                calls
            })
        })
        .collect();
    let mut hits = [Vec::new(), Vec::new()];
    let mut absent = [0, 0];
    hit(subject, &keys, Instant::now() + healthy, &mut hits[0], &mut absent[0]);

    let fault = Instant::now();
    match outage {
        Outage::Stopped => server.stop(),
        Outage::Killed => server.kill(),
    }
    let watcher = std::thread::spawn({
        let subject = Arc::clone(subject);
        move || until(fault + dead, || subject.is_open() == Some(true))
    });
    // The first second is the fall itself: hot keys are forgotten, and written anew.
    std::thread::sleep(Duration::from_secs(1).min(dead / 2));
    hit(subject, &keys, fault + dead, &mut hits[1], &mut absent[1]);
    let opened = watcher.join().expect("it only watches");

    match outage {
        Outage::Stopped => server.cont(),
        Outage::Killed => server.restart(),
    }
    let back = Instant::now();
    let closed = until(back + Duration::from_secs(60), || subject.is_open() == Some(false));
    is_over.store(true, Ordering::Relaxed);
    let _ = runtime.block_on(writer);
    let mut calls = Vec::new();
    for caller in callers {
        calls.extend(runtime.block_on(caller).expect("callers do not panic"));
    }
    let during: Vec<_> = calls.iter().filter(|(begun, ..)| *begun >= fault && *begun < back).collect();
    let mut waits: Vec<f64> = during.iter().map(|(_, ms, _)| *ms).collect();
    waits.sort_by(f64::total_cmp);
    hits.iter_mut().for_each(|hits| hits.sort_unstable());
    let ms = |since: Instant, at: Option<Instant>| at.map(|at| at.duration_since(since).as_secs_f64() * 1e3);
    Seen {
        hits,
        absent,
        errors: during.iter().filter(|(.., failed)| *failed).count(),
        waits,
        opened_ms: ms(fault, opened),
        closed_ms: ms(back, closed),
    }
}

/// Hits the hot keys in bursts, so that the rest of the machine has its turn in between.
fn hit(subject: &Arc<dyn Subject>, keys: &[String], end: Instant, hits: &mut Vec<u32>, absent: &mut u64) {
    while Instant::now() < end {
        for key in keys {
            let begun = Instant::now();
            let was_there = subject.hit(key);
            let ns = begun.elapsed().as_nanos();
            match was_there {
                true => hits.push(u32::try_from(ns).unwrap_or(u32::MAX)),
                false => *absent += 1,
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// When `what` came true, if it did before `end`.
fn until(end: Instant, what: impl Fn() -> bool) -> Option<Instant> {
    loop {
        let now = Instant::now();
        if what() {
            return Some(now);
        }
        if now >= end {
            return None;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn quantile<T: Copy + Into<f64>>(sorted: &[T], quantile: f64) -> f64 {
    let at = (sorted.len() as f64 * quantile) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).map_or(f64::NAN, |value| (*value).into())
}

fn rows(outage: Outage, found: &[Seen; 2], report: &mut Report) {
    let name = match outage {
        Outage::Stopped => "stopped",
        Outage::Killed => "killed",
    };
    let names = ["Cache", "cachekit-rs"];
    for (who, seen) in names.iter().zip(found) {
        for (what, at) in [("p50", 0.50), ("p99", 0.99)] {
            let [healthy, dead] = seen.hits.each_ref().map(|hits| quantile(hits, at));
            let goal = (*who == "Cache" && what == "p99").then_some(Goal::RatioAtMost(1.10));
            let (dead, healthy) = (Figure::new(*who, dead), Figure::new("healthy", healthy));
            report.rows.push(Row::beside(format!("L1 hit {what}, {name}: {who}"), "ns", dead, healthy, goal));
        }
    }
    let pairs = |value: fn(&Seen) -> f64| {
        let [ours, theirs] = found.each_ref().map(value);
        (Figure::new(names[0], ours), Figure::new(names[1], theirs))
    };
    let bound = (DEADLINE + SLACK).as_secs_f64() * 1e3;
    let cases: [(&str, &'static str, fn(&Seen) -> f64, Option<f64>); 7] = [
        ("longest wait of a caller", "ms", |seen| quantile(&seen.waits, 1.0), Some(bound)),
        ("p99 wait of a caller", "ms", |seen| quantile(&seen.waits, 0.99), None),
        ("p50 wait of a caller", "ms", |seen| quantile(&seen.waits, 0.50), None),
        ("calls that became errors", "", |seen| seen.errors as f64, Some(0.0)),
        ("hot keys that were not there", "", |seen| seen.absent[1] as f64, None),
        ("breaker opens after", "ms", |seen| seen.opened_ms.unwrap_or(f64::INFINITY), None),
        ("breaker closes after its return", "ms", |seen| seen.closed_ms.unwrap_or(f64::INFINITY), None),
    ];
    for (case, unit, value, at_most) in cases {
        let (ours, theirs) = pairs(value);
        report.rows.push(Row::beside(format!("{case}, {name}"), unit, ours, theirs, at_most.map(Goal::AtMost)));
    }
}
