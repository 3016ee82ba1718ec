//! Redis and Memcached over loopback: the whole cache with L1 off, linked and through the `.so`, beside the clients of the field.
//!
//! Values of 100 bytes, many callers as in [`callers`](crate::callers). The servers are started for the bench and end with
//! it. Peers are used as their own documentation shows: one multiplexed connection, one connection manager, one fred client,
//! one cachekit-rs client without its L1, one classic Memcached client on tokio's blocking threads.

mod batch;
mod completion;
mod memcached;
mod outage;
mod overload;
mod redis;
mod stall;

use cachekit_core::Cache;
use cachekit_host::{Plugin, Policy};
use cachekit_plugin::HostServices;
use tokio::runtime::Runtime;

use crate::callers::{Load, Operation, compare};
use crate::report::Report;
use crate::{Effort, Failure};

const REDIS: Load = Load { store: "redis", value_bytes: VALUE_BYTES, keys_per_caller: 8 };
const MEMCACHED: Load = Load { store: "memcached", ..REDIS };
const VALUE_BYTES: usize = 100;
const CALLERS: [usize; 3] = [1, 16, 256];

/// Which part of the bench runs; the default is all of it, any choice leaves the gets.
#[derive(Debug, Default)]
pub struct Part {
    /// `redis` or `memcached` alone.
    pub store: Option<String>,
    /// This number of callers alone.
    pub callers: Option<usize>,
}

impl Part {
    fn has_store(&self, store: &str) -> bool {
        self.store.as_deref().is_none_or(|only| only == store)
    }

    fn callers(&self) -> Vec<usize> {
        self.callers.map_or(CALLERS.to_vec(), |only| vec![only])
    }

    fn is_whole(&self) -> bool {
        self.store.is_none() && self.callers.is_none()
    }
}

fn runtime() -> Result<(Runtime, usize), Failure> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    Ok((tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?, workers))
}

/// Runs the bench on servers of its own.
pub fn run(effort: Effort, part: &Part) -> Result<Report, Failure> {
    let mut report = Report::begin("l2");
    let (runtime, workers) = runtime()?;
    report.notes.push(format!("values of {} bytes over loopback; servers run on the same cores", REDIS.value_bytes));
    report.notes.push(format!(
        "tokio multi_thread, {workers} workers; one task per caller, {} keys each",
        REDIS.keys_per_caller
    ));
    report.notes.push("Cache: get_bytes and set_bytes with L1 off; .so: the same over the loaded library".into());

    if part.has_store("redis") {
        redis(effort, part, &runtime, &mut report)?;
    }
    if part.has_store("memcached") {
        memcached(effort, part, &runtime, &mut report)?;
    }
    Ok(report)
}

/// Runs gets of one contender on Redis and nothing else, for a profiler.
pub fn calls(who: &str, count: usize, callers: usize) -> Result<(), Failure> {
    let server = cachekit_test_servers::redis::Redis::start();
    let (runtime, _) = runtime()?;
    let contenders = redis::of_gets(&runtime, &server.url(), callers)?;
    let Some(contender) = contenders.iter().find(|contender| contender.name == who) else {
        let names: Vec<&str> = contenders.iter().map(|contender| contender.name).collect();
        return Err(format!("{who}: none of {}", names.join(", ")).into());
    };
    crate::callers::calls(&runtime, REDIS, callers, count, contender)
}

/// How long a get takes while the server does not answer, beside cachekit-rs.
pub fn run_stall(effort: Effort) -> Result<Report, Failure> {
    stall::run(effort)
}

/// A minute without Redis, beside cachekit-rs.
pub fn run_outage(effort: Effort) -> Result<Report, Failure> {
    outage::run(effort)
}

/// Ten times more calls than the store can serve.
pub fn run_overload(effort: Effort) -> Result<Report, Failure> {
    overload::run(effort)
}

fn redis(effort: Effort, part: &Part, runtime: &Runtime, report: &mut Report) -> Result<(), Failure> {
    let server = cachekit_test_servers::redis::Redis::start();
    for callers in part.callers() {
        let contenders = redis::of_gets(runtime, &server.url(), callers)?;
        compare(effort, runtime, REDIS, callers, Operation::Get, &contenders, report)?;
    }
    if !part.is_whole() {
        return Ok(());
    }
    for callers in CALLERS {
        let contenders = redis::of_sets(runtime, &server.url())?;
        compare(effort, runtime, REDIS, callers, Operation::Set, &contenders, report)?;
    }
    batch::compare(effort, runtime, &redis::loaded(&server.url())?, "redis", report)
}

fn memcached(effort: Effort, part: &Part, runtime: &Runtime, report: &mut Report) -> Result<(), Failure> {
    let server = cachekit_test_servers::memcached::Memcached::start();
    let address = format!("127.0.0.1:{}", server.port());
    for callers in part.callers() {
        let contenders = memcached::of_gets(&address, callers)?;
        compare(effort, runtime, MEMCACHED, callers, Operation::Get, &contenders, report)?;
    }
    if !part.is_whole() {
        return Ok(());
    }
    for callers in CALLERS {
        let contenders = memcached::of_sets(&address)?;
        compare(effort, runtime, MEMCACHED, callers, Operation::Set, &contenders, report)?;
    }
    batch::compare(effort, runtime, &memcached::loaded(&address)?, "memcached", report)
}

/// A cache without L1 over a loaded library. Strict, so that an outage ends the bench instead of being a fast miss.
fn over_library(library: &std::path::Path, options: &serde_json::Value) -> Result<Cache, Failure> {
    let backend =
        Plugin::open(library, &Policy::default())?.create(options.to_string().as_bytes(), HostServices::none())?;
    Ok(over(backend)?)
}

fn over(backend: std::sync::Arc<dyn cachekit_plugin::Backend>) -> Result<Cache, cachekit_core::Error> {
    let deadline = std::time::Duration::from_secs(10);
    Cache::builder().backend(backend).strict(true).without_l1().deadline(deadline).build()
}
