//! What a program pays for a hit: the whole public `get` of a typed value, its future awaited on a runtime.

use std::hint::black_box;
use std::time::Duration;

use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{Contender, take_turns};
use crate::{Effort, Failure};

const ENTRIES: usize = 1_000;
const NAMESPACE: &str = "users";

/// Keys that with the namespace make wire keys of 91 bytes.
fn keys() -> Vec<String> {
    super::traces::shuffled(ENTRIES as u64).into_iter().map(|n| format!("profile:{n:016x}{}", "-".repeat(58))).collect()
}

pub(super) fn run(effort: Effort, report: &mut Report) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (runtime, keys) = (&runtime, &keys());
    let value = "v".repeat(super::VALUE_BYTES);

    let ours = cachekit_core::Cache::builder().namespace(NAMESPACE).default_ttl(Duration::from_secs(3600)).build()?;
    let no_expiry = cachekit_core::Cache::builder().namespace(NAMESPACE).build()?;
    let peer = cachekit_rs::CacheKit::builder()
        .backend(std::sync::Arc::new(Nothing))
        .namespace(NAMESPACE)
        .l1_capacity(4 * ENTRIES)
        .default_ttl(Duration::from_secs(3600))
        .build()?;
    runtime.block_on(async {
        for key in keys {
            ours.set(key, &value).await?;
            no_expiry.set(key, &value).await?;
            peer.set(key, &value).await?;
        }
        Ok::<(), Failure>(())
    })?;

    // The loop runs inside one `block_on`, as a request handler runs inside one task: entering a runtime is no part of a get.
    fn cachekit<'a>(
        name: &str,
        runtime: &'a tokio::runtime::Runtime,
        keys: &'a [String],
        cache: cachekit_core::Cache,
    ) -> Contender<'a> {
        let mut at = 0;
        Contender::new(name, move |count| {
            runtime.block_on(async {
                for _ in 0..count {
                    at = if at + 1 == keys.len() { 0 } else { at + 1 };
                    assert!(black_box(cache.get::<String>(&keys[at]).await).is_ok_and(|value| value.is_some()));
                }
            });
        })
    }
    let mut at = 0;
    let timings = take_turns(
        effort,
        vec![
            cachekit("Cache::get", runtime, keys, ours),
            cachekit("Cache::get, no expiry", runtime, keys, no_expiry),
            Contender::new("cachekit-rs get", move |count| {
                runtime.block_on(async {
                    for _ in 0..count {
                        at = if at + 1 == keys.len() { 0 } else { at + 1 };
                        assert!(black_box(peer.get::<String>(&keys[at]).await).is_ok_and(|value| value.is_some()));
                    }
                });
            }),
        ],
    );
    let case = "get::<String>, L1 hit, awaited";
    let (ours, peer) = (Figure::from(&timings[0]), Figure::from(&timings[2]));
    report.rows.push(Row::alone(case, "ns", ours.clone(), Some(100.0)));
    report.rows.push(Row::beside(case, "ns", ours, peer, Some(Goal::RatioAtMost(0.2))));
    report.rows.push(Row::alone(case, "ns", Figure::from(&timings[1]), None));
    Ok(())
}

/// Runs `count` gets and nothing else.
pub(super) fn calls(count: usize) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let cache = cachekit_core::Cache::builder().namespace(NAMESPACE).default_ttl(Duration::from_secs(3600)).build()?;
    let keys = keys();
    runtime.block_on(async {
        for key in &keys {
            cache.set(key, "value").await?;
        }
        for key in keys.iter().cycle().take(count) {
            assert!(black_box(cache.get::<String>(key).await).is_ok_and(|value| value.is_some()));
        }
        Ok(())
    })
}

/// A second tier for the peer, which does not do without: it takes everything and has nothing. Its L1 answers.
struct Nothing;

type Answer<'a, T> =
    std::pin::Pin<Box<dyn std::future::Future<Output = Result<T, cachekit_rs::BackendError>> + Send + 'a>>;

impl cachekit_rs::backend::Backend for Nothing {
    fn get<'a, 'b, 'c>(&'a self, _: &'b str) -> Answer<'c, Option<Vec<u8>>>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async { Ok(None) })
    }

    fn set<'a, 'b, 'c>(&'a self, _: &'b str, _: Vec<u8>, _: Option<Duration>) -> Answer<'c, ()>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async { Ok(()) })
    }

    fn delete<'a, 'b, 'c>(&'a self, _: &'b str) -> Answer<'c, bool>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async { Ok(false) })
    }

    fn exists<'a, 'b, 'c>(&'a self, _: &'b str) -> Answer<'c, bool>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async { Ok(false) })
    }

    fn health<'a, 'c>(&'a self) -> Answer<'c, cachekit_rs::backend::HealthStatus>
    where
        'a: 'c,
    {
        Box::pin(async {
            Ok(cachekit_rs::backend::HealthStatus {
                is_healthy: true,
                latency_ms: 0.0,
                backend_type: "nothing".into(),
                details: std::collections::HashMap::new(),
            })
        })
    }
}
