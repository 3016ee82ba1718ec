//! A cache that encrypts: the whole public `get` and `set` on a store in memory, beside `cachekit-rs` doing the same.
//!
//! Without L1, so that every call seals or opens. The peer does not compress, so the cache it is compared with does not
//! either; what ours does by itself stands beside it. Both stores hand out a copy of what they have, as what comes from a
//! network is one, and take what they are given without copying it.

mod stores;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use cachekit_core::Cache;
use cachekit_core::codec::Compression;
use cachekit_core::crypto::{Encryption, Keyring, MasterKey};
use tokio::runtime::Runtime;

use crate::codec::document::text;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{Contender, work_in_turns};
use crate::{Effort, Failure};

const NAMESPACE: &str = "users";
const KEY: &str = "profile:5f3a9c";
const MASTER_KEY: [u8; 32] = [7; 32];
const LIFE: Duration = Duration::from_secs(3600);
/// What a nonce from the operating system costs, and a call to seal a value of a few bytes may cost more than the peer's.
const NONCE_NS: f64 = 300.0;

const SIZES: [(&str, usize); 5] =
    [("64 B", 64), ("1 KB", 1 << 10), ("4 KB", 4 << 10), ("64 KB", 64 << 10), ("1 MB", 1 << 20)];

/// Runs the bench.
pub fn run(effort: Effort) -> Result<Report, Failure> {
    let mut report = Report::begin("secure");
    report.notes.push("time of the processor, in one thread that waits for nothing".into());
    report.notes.push("no L1; values are text of JSON documents; one caller, awaited".into());
    report.notes.push("\"as it comes\": with zstd from 1 KB on, which the peer does not have".into());
    let runtime = runtime()?;
    for (name, bytes) in SIZES {
        let value = text(bytes);
        let goal = if bytes >= 4 << 10 { Goal::RatioAtMost(1.0) } else { Goal::AtMostMore(NONCE_NS) };
        let (ours, default, peer) = (cache(Some(Compression::None))?, cache(None)?, peer()?);
        for operation in ["set", "get"] {
            let contenders = vec![
                of_ours("Cache", operation, &runtime, ours.clone(), &value)?,
                of_ours("Cache, as it comes", operation, &runtime, default.clone(), &value)?,
                of_peer(operation, &runtime, &peer, &value)?,
            ];
            let timings = work_in_turns(effort, contenders);
            let [ours, default, peer] = &timings[..] else { return Err("three take part".into()) };
            let case = format!("{operation} {name}");
            report.rows.push(Row::beside(&case, "ns", Figure::from(ours), Figure::from(peer), Some(goal)));
            report.rows.push(Row::beside(&case, "ns", Figure::from(default), Figure::from(peer), None));
        }
    }
    Ok(report)
}

/// Runs `count` calls of ours and nothing else.
pub fn calls(operation: &str, bytes: usize, count: u64) -> Result<(), Failure> {
    let (runtime, value) = (runtime()?, text(bytes));
    of_ours("Cache", operation, &runtime, cache(Some(Compression::None))?, &value)?.run(count);
    Ok(())
}

fn runtime() -> Result<Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_time().build()?)
}

/// `None`: as it comes.
fn cache(compression: Option<Compression>) -> Result<Cache, Failure> {
    let ring = Keyring::new(MasterKey::from_bytes(&MASTER_KEY)?, Vec::new())?;
    let builder = Cache::builder()
        .namespace(NAMESPACE)
        .backend(Arc::new(stores::Ours::default()))
        .encryption(Encryption::new(ring))
        .default_ttl(LIFE)
        .without_l1();
    let builder = match compression {
        Some(compression) => builder.compression(compression),
        None => builder,
    };
    Ok(builder.build()?)
}

fn peer() -> Result<cachekit_rs::CacheKit, Failure> {
    Ok(cachekit_rs::CacheKit::builder()
        .backend(Arc::new(stores::Peers::default()))
        .namespace(NAMESPACE)
        .encryption_from_bytes(&MASTER_KEY, "default")?
        .default_ttl(LIFE)
        .no_l1()
        .build()?)
}

fn of_ours<'a>(
    name: &str,
    operation: &str,
    runtime: &'a Runtime,
    cache: Cache,
    value: &'a String,
) -> Result<Contender<'a>, Failure> {
    runtime.block_on(cache.set(KEY, value))?;
    let sets = operation == "set";
    Ok(Contender::new(name, move |count| {
        runtime.block_on(async {
            for _ in 0..count {
                if sets {
                    black_box(cache.set(KEY, black_box(value)).await).expect("the store takes it");
                } else {
                    let found = black_box(cache.get::<String>(KEY).await);
                    assert!(found.is_ok_and(|found| found.is_some_and(|found| found.len() == value.len())));
                }
            }
        });
    }))
}

fn of_peer<'a>(
    operation: &str,
    runtime: &'a Runtime,
    peer: &'a cachekit_rs::CacheKit,
    value: &'a String,
) -> Result<Contender<'a>, Failure> {
    runtime.block_on(peer.set(KEY, value))?;
    let sets = operation == "set";
    Ok(Contender::new("cachekit-rs", move |count| {
        runtime.block_on(async {
            for _ in 0..count {
                if sets {
                    black_box(peer.set(KEY, black_box(value)).await).expect("the store takes it");
                } else {
                    let found = black_box(peer.get::<String>(KEY).await);
                    assert!(found.is_ok_and(|found| found.is_some_and(|found| found.len() == value.len())));
                }
            }
        });
    }))
}
