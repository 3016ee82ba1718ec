//! A cache that the environment describes, once in async code and once in blocking code.
//!
//! `CACHEKIT_REDIS_URL=redis://localhost:6379/0 cargo run --example redis_from_env`
//!
//! Without any variable it looks for Redis at localhost. Without a server it works all the same, and keeps values in the
//! process alone until there is one.

use std::time::Duration;

use cachekit::{Cache, Error};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(in_async_code())?;
    in_blocking_code()
}

/// Values are computed once, here and in every process that shares the server.
async fn in_async_code() -> Result<(), Box<dyn std::error::Error>> {
    let cache = cachekit::from_env()?.namespace("orders")?;
    let total = cache.get_or_load("total/2026-11", async || expensive("November")).await?;
    println!("async: {total}");
    println!("{}", served_by(&cache).await);
    cache.close().await?;
    Ok(())
}

/// The same without a runtime: the cache brings what it needs.
fn in_blocking_code() -> Result<(), Box<dyn std::error::Error>> {
    let config = cachekit::config_from_env()?;
    // What only code can say goes over what was configured.
    let cache = cachekit::builder(&config)?.namespace("orders").deadline(Duration::from_secs(2)).build()?;
    let cache = cache.blocking();
    let total = cache.get_or_load("total/2026-11", || expensive("November"))?;
    println!("blocking: {total}");
    cache.close()?;
    Ok(())
}

fn expensive(month: &str) -> String {
    println!("computing {month}");
    format!("{month}: 42")
}

async fn served_by(cache: &Cache) -> String {
    match cache.health().await.tier {
        Some(Ok(health)) => format!("second tier: {}, {:.2} ms", health.backend_type, health.latency_ms),
        Some(Err(error)) => format!("second tier: not there ({})", Error::from(error)),
        None => "second tier: none".to_owned(),
    }
}
