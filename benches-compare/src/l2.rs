//! Redis and Memcached over loopback: the whole cache with L1 off, linked and through the `.so`, beside the clients of the field.
//!
//! Values of 100 bytes, many callers as in [`callers`](crate::callers). The servers are started for the bench and end with
//! it. Peers are used as their own documentation shows: one multiplexed connection, one connection manager, one fred client,
//! one cachekit-rs client without its L1, one classic Memcached client on tokio's blocking threads.

mod batch;
mod completion;
mod memcached;
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

/// Runs the bench on servers of its own.
pub fn run(effort: Effort) -> Result<Report, Failure> {
    let mut report = Report::begin("l2");
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    report.notes.push(format!("values of {} bytes over loopback; servers run on the same cores", REDIS.value_bytes));
    report.notes.push(format!(
        "tokio multi_thread, {workers} workers; one task per caller, {} keys each",
        REDIS.keys_per_caller
    ));
    report.notes.push("Cache: get_bytes and set_bytes with L1 off; .so: the same over the loaded library".into());

    redis(effort, &runtime, &mut report)?;
    memcached(effort, &runtime, &mut report)?;
    Ok(report)
}

/// How long a get takes while the server does not answer, beside cachekit-rs.
pub fn run_stall(effort: Effort) -> Result<Report, Failure> {
    stall::run(effort)
}

fn redis(effort: Effort, runtime: &Runtime, report: &mut Report) -> Result<(), Failure> {
    let server = cachekit_test_servers::redis::Redis::start();
    for callers in CALLERS {
        let contenders = redis::of_gets(runtime, &server.url(), callers)?;
        compare(effort, runtime, REDIS, callers, Operation::Get, &contenders, report)?;
    }
    for callers in CALLERS {
        let contenders = redis::of_sets(runtime, &server.url())?;
        compare(effort, runtime, REDIS, callers, Operation::Set, &contenders, report)?;
    }
    batch::compare(effort, runtime, &redis::loaded(&server.url())?, "redis", report)
}

fn memcached(effort: Effort, runtime: &Runtime, report: &mut Report) -> Result<(), Failure> {
    let server = cachekit_test_servers::memcached::Memcached::start();
    let address = format!("127.0.0.1:{}", server.port());
    for callers in CALLERS {
        let contenders = memcached::of_gets(&address, callers)?;
        compare(effort, runtime, MEMCACHED, callers, Operation::Get, &contenders, report)?;
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
