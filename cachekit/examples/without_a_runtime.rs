//! A program without an asynchronous runtime: threads share one cache, and each call waits where it is called.
//!
//! `cargo run --example without_a_runtime`

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use cachekit::{Cache, SetOptions};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    month: String,
    total_cents: u64,
}

static COMPUTED: AtomicU32 = AtomicU32::new(0);

/// What is worth caching.
fn compute(month: &str) -> Report {
    COMPUTED.fetch_add(1, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(50));
    Report { month: month.to_owned(), total_cents: 42_00 }
}

fn main() -> Result<(), cachekit::Error> {
    // In the process alone. `cachekit::from_env()?.blocking()` puts the configured store behind it.
    let cache = Cache::builder().namespace("reports").default_ttl(Duration::from_secs(600)).build()?.blocking();

    // Eight threads miss at once. One computes, the others wait for it.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let report = cache.get_or_load("2026-11", || compute("2026-11"))?;
                assert_eq!(report.total_cents, 42_00);
                Ok::<(), cachekit::Error>(())
            });
        }
    });
    assert_eq!(COMPUTED.load(Ordering::Relaxed), 1);
    println!("8 threads asked, {} computed", COMPUTED.load(Ordering::Relaxed));

    // A value, its life, and its end.
    let december = Report { month: "2026-12".into(), total_cents: 7 };
    cache.set_with("2026-12", &december, SetOptions::default().with_ttl(Duration::from_secs(60)))?;
    assert_eq!(cache.get::<Report>("2026-12")?.as_deref(), Some(&december));
    assert!(cache.delete("2026-12")?);
    assert_eq!(cache.get::<Report>("2026-12")?, None);

    // A loader that fails leaves nothing behind, and the next one runs.
    let failed = cache.try_get_or_load::<u32, _>("answer", || Err("the database is away"));
    assert_eq!(failed.unwrap_err().to_string(), "the loader failed: the database is away");
    assert_eq!(*cache.try_get_or_load::<u32, &str>("answer", || Ok(42)).unwrap(), 42);

    println!("{}", serde_json::to_string(&cache.stats()).unwrap_or_default());
    cache.close()
}
