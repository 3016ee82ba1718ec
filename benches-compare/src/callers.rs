//! Many callers on one store: each a task of its own with keys of its own, contenders in turns.
//!
//! Throughput is what all callers together did in a round, latency the median over their single calls. Every get must find
//! its whole value: a store that answers wrongly or not at all ends the bench.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_core::Cache;
use cachekit_core::cache::SetOptions;
use cachekit_plugin::{Backend, Cx, Key, Ttl};
use tokio::runtime::Runtime;

use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::median;
use crate::{Effort, Failure};

/// What each caller does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Begins the names of the rows.
    pub(crate) store: &'static str,
    pub(crate) value_bytes: usize,
    pub(crate) keys_per_caller: usize,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Set,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
        }
    }
}

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store as these benches call it.
pub(crate) trait Store: Send + Sync {
    /// The length of the value.
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, usize>;
    fn set<'a>(&'a self, key: &'a str, value: &'a [u8]) -> Answer<'a, ()>;
}

/// Somebody who takes part.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn Store>,
    /// Who it is compared with in throughput, and the least ratio that was aimed at.
    pub(crate) beside: Vec<(&'static str, Option<f64>)>,
    /// Whose latency is its floor, and how many times that it may take alone.
    pub(crate) floor: Option<(&'static str, f64)>,
}

/// A backend without an engine.
pub(crate) struct Bare(pub(crate) Arc<dyn Backend>);

fn cx() -> Cx<'static> {
    // A deadline as the engine sets one: reading the clock is a part of every call.
    Cx::within(std::time::Duration::from_secs(10))
}

impl Store for Bare {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, usize> {
        Box::pin(async move {
            let value = self.0.get(Key::from_wire(key.as_bytes()), &cx()).await.expect("the backend works");
            value.map_or(0, |value| value.len())
        })
    }

    fn set<'a>(&'a self, key: &'a str, value: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async move {
            let (key, value) = (Key::from_wire(key.as_bytes()), Bytes::copy_from_slice(value));
            self.0.set(key, value, Ttl::Never, &cx()).await.expect("the backend works");
        })
    }
}

/// The whole engine.
pub(crate) struct Whole(pub(crate) Cache);

impl Store for Whole {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, usize> {
        Box::pin(async move { self.0.get_bytes(key).await.expect("the cache works").map_or(0, |value| value.len()) })
    }

    fn set<'a>(&'a self, key: &'a str, value: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async move { self.0.set_bytes(key, value, SetOptions::default()).await.expect("the cache works") })
    }
}

/// What a contender did in its rounds.
#[derive(Default)]
struct Rounds {
    per_second: Vec<f64>,
    latency_us: Vec<f64>,
}

impl Rounds {
    fn throughput(&mut self, name: &str) -> Figure {
        self.per_second.sort_by(f64::total_cmp);
        Figure { name: name.into(), value: median(&self.per_second), best: self.per_second.last().copied() }
    }

    fn latency(&mut self, name: &str) -> Figure {
        self.latency_us.sort_by(f64::total_cmp);
        Figure { name: name.into(), value: median(&self.latency_us), best: self.latency_us.first().copied() }
    }
}

/// Lets the contenders take turns and adds their rows.
pub(crate) fn compare(
    effort: Effort,
    runtime: &Runtime,
    load: Load,
    callers: usize,
    operation: Operation,
    contenders: &[Contender],
    report: &mut Report,
) -> Result<(), Failure> {
    let (rounds, length) = match effort {
        Effort::Quick => (3, Duration::from_millis(60)),
        Effort::Full => (9, Duration::from_millis(250)),
    };
    let mut found: Vec<Rounds> = contenders.iter().map(|_| Rounds::default()).collect();
    let value: Arc<[u8]> = (0..load.value_bytes).map(|at| b'a' + (at % 26) as u8).collect::<Vec<_>>().into();
    for (index, contender) in contenders.iter().enumerate() {
        runtime.block_on(async {
            for key in keys(load, index, callers).iter().flatten() {
                contender.store.set(key, &value).await;
            }
        });
    }
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let at = if round % 2 == 0 { turn } else { contenders.len() - 1 - turn };
            let (per_second, latency_us) =
                one_round(runtime, keys(load, at, callers), operation, &contenders[at], &value, length)?;
            found[at].per_second.push(per_second);
            found[at].latency_us.push(latency_us);
        }
    }
    let mut throughput = HashMap::new();
    let mut latency = HashMap::new();
    for (contender, rounds) in contenders.iter().zip(&mut found) {
        throughput.insert(contender.name, rounds.throughput(contender.name));
        latency.insert(contender.name, rounds.latency(contender.name));
    }
    let name = format!("{} {}", load.store, operation.name());
    let case = if callers == 1 { format!("{name}, 1 caller") } else { format!("{name}, {callers} callers") };
    for contender in contenders {
        for (peer, at_least) in &contender.beside {
            let (ours, theirs) = (throughput[contender.name].clone(), throughput[peer].clone());
            report.rows.push(Row::beside(&*case, "op/s", ours, theirs, at_least.map(Goal::RatioAtLeast)));
        }
        let Some((floor, ceiling)) = contender.floor else { continue };
        let throughputs = (throughput[contender.name].clone(), throughput[floor].clone());
        report.rows.push(Row::beside(&*case, "op/s", throughputs.0, throughputs.1, None));
        // What one call costs can be compared while nobody queues.
        if callers == 1 {
            let (ours, floor) = (latency[contender.name].clone(), latency[floor].clone());
            report.rows.push(Row::beside(
                format!("{case}, latency"),
                "µs",
                ours,
                floor,
                Some(Goal::RatioAtMost(ceiling)),
            ));
        }
    }
    Ok(())
}

/// Lets `callers` do `count` gets together.
pub(crate) fn calls(
    runtime: &Runtime,
    load: Load,
    callers: usize,
    count: usize,
    contender: &Contender,
) -> Result<(), Failure> {
    let value = vec![b'v'; load.value_bytes];
    let of_each = count / callers.max(1);
    let tasks: Vec<_> = keys(load, 0, callers)
        .into_iter()
        .map(|keys| {
            let (store, value) = (Arc::clone(&contender.store), value.clone());
            runtime.spawn(async move {
                for key in &keys {
                    store.set(key, &value).await;
                }
                for n in 0..of_each {
                    assert_eq!(store.get(&keys[n % keys.len()]).await, value.len());
                }
            })
        })
        .collect();
    tasks.into_iter().try_for_each(|task| Ok(runtime.block_on(task)?))
}

/// Keys of one contender alone: some stores are one server, and what one client wrote another does not understand.
fn keys(load: Load, contender: usize, callers: usize) -> Vec<Vec<String>> {
    let of_caller = |caller| {
        (0..load.keys_per_caller)
            .map(|n| format!("{contender}-caller-{caller:04}-key-{n:02}-of-usual-length"))
            .collect()
    };
    (0..callers).map(of_caller).collect()
}

/// Operations per second of all callers, and the median of single calls in microseconds.
fn one_round(
    runtime: &Runtime,
    keys: Vec<Vec<String>>,
    operation: Operation,
    contender: &Contender,
    value: &Arc<[u8]>,
    length: Duration,
) -> Result<(f64, f64), Failure> {
    let begun = Instant::now();
    let tasks: Vec<_> = keys
        .into_iter()
        .map(|keys| {
            let (store, value) = (Arc::clone(&contender.store), Arc::clone(value));
            runtime.spawn(async move {
                let mut latencies = Vec::new();
                let mut before = Instant::now();
                while before.duration_since(begun) < length {
                    let key = &keys[latencies.len() % keys.len()];
                    match operation {
                        Operation::Get => assert_eq!(store.get(key).await, value.len()),
                        Operation::Set => store.set(key, &value).await,
                    }
                    let after = Instant::now();
                    latencies.push(after.duration_since(before).as_secs_f64() * 1e6);
                    // A call that never waits would keep the worker to its own task.
                    tokio::task::consume_budget().await;
                    before = Instant::now();
                }
                (latencies, before)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    let mut ended = begun;
    for task in tasks {
        let (of_caller, end) = runtime.block_on(task)?;
        latencies.extend(of_caller);
        ended = ended.max(end);
    }
    let elapsed = ended.duration_since(begun).as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    Ok((latencies.len() as f64 / elapsed, median(&latencies)))
}
