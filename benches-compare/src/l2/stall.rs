//! A server that does not answer: how long a caller waits, and how soon it is served again.
//!
//! The server is stopped (SIGSTOP), so connections stay open and nothing is refused: the outage that only a deadline ends.

use std::time::{Duration, Instant};

use cachekit_core::Cache;
use cachekit_plugin::{HostServices, Open};
use serde_json::json;

use super::redis::peer;
use crate::report::{Figure, Report, Row};
use crate::rounds::median;
use crate::{Effort, Failure};

/// Deadline of the production preset.
const DEADLINE: Duration = Duration::from_millis(250);
/// What the project allows on top.
const SLACK: Duration = Duration::from_millis(50);
/// Soonest after the server's return that a get is to work again.
const RETURN: Duration = Duration::from_secs(1);

pub(super) fn run(effort: Effort) -> Result<Report, Failure> {
    let rounds = match effort {
        Effort::Quick => 1,
        Effort::Full => 5,
    };
    let mut report = Report::begin("stall");
    report.notes.push("a get while Redis is stopped (SIGSTOP), and the first get that works after its return".into());
    report
        .notes
        .push("ours: deadline of the production preset, 250 ms, strict; cachekit-rs as its client comes".into());
    let server = cachekit_test_servers::redis::Redis::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let options = json!({ "url": server.url() }).to_string();
    let backend = cachekit_backend_redis::RedisBackend::open_json(options.as_bytes(), HostServices::none())?;
    let cache =
        Cache::builder().backend(std::sync::Arc::new(backend)).strict(true).without_l1().deadline(DEADLINE).build()?;
    let peer = peer(&runtime, &server.url())?;
    runtime.block_on(async {
        cache.set("key", "value").await?;
        peer.set("key", &"value").await?;
        Ok::<(), Failure>(())
    })?;

    let (mut waited, mut peer_waited) = (Vec::new(), Vec::new());
    let (mut back, mut peer_back) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        server.stop();
        waited.push(milliseconds(|| runtime.block_on(async { assert!(cache.get::<String>("key").await.is_err()) })));
        peer_waited
            .push(milliseconds(|| runtime.block_on(async { assert!(peer.get::<String>("key").await.is_err()) })));
        server.cont();
        let until_served = async || while !matches!(cache.get::<String>("key").await, Ok(Some(_))) {};
        back.push(milliseconds(|| runtime.block_on(until_served())));
        server.stop();
        runtime.block_on(async { assert!(peer.get::<String>("key").await.is_err()) });
        server.cont();
        let until_served = async || while !matches!(peer.get::<String>("key").await, Ok(Some(_))) {};
        peer_back.push(milliseconds(|| runtime.block_on(until_served())));
    }
    let figure = |name: &str, mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        Figure { name: name.into(), value: median(&times), best: times.first().copied() }
    };
    for (case, ours, theirs, bound) in [
        ("get, server stopped", waited, peer_waited, DEADLINE + SLACK),
        ("first get after its return", back, peer_back, RETURN),
    ] {
        let (ours, theirs) = (figure("Cache", ours), figure("cachekit-rs", theirs));
        let bound_ms = bound.as_secs_f64() * 1e3;
        report.rows.push(Row::beside(case, "ms", ours, theirs, Some(crate::report::Goal::AtMost(bound_ms))));
    }
    Ok(report)
}

fn milliseconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64() * 1e3
}
