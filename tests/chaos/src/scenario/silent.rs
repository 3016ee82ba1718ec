//! A cache that follows another writer, and whose connection goes dead without a word: how old may a value be that it
//! still serves?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cachekit_backend_redis::RedisBackend;
use cachekit_core::Cache;
use cachekit_core::blocking::wait;
use cachekit_core::cache::SetOptions;
use cachekit_test_servers::proxy::{Fault, Proxy};
use cachekit_test_servers::redis::Redis;

use super::{Run, runtime};
use crate::report::Report;

const KEY: &str = "followed";
/// What the contract of a watch promises.
const WINDOW: Duration = Duration::from_secs(2);
/// For a reader or a timer that waits for a processor.
const MARGIN: Duration = Duration::from_millis(300);

/// One reader behind a proxy, one writer beside it.
pub fn watch(run: &Run<'_>) -> Report {
    let mut report = Report::new("watch-black-hole", run.seed);
    let redis = Redis::start();
    let runtime = runtime();
    let _entered = runtime.enter();
    let faults = [Fault::BlackHole, Fault::HalfOpen, Fault::Reset];
    for fault in faults {
        one(&redis, fault, &mut report);
    }
    report
}

fn one(server: &Redis, fault: Fault, report: &mut Report) {
    let name = format!("{fault:?}").to_lowercase();
    let proxy = Proxy::start(server.addr());
    let short = Duration::from_millis(250);
    // With the limits that a user has: shorter ones would find the dead connection sooner.
    let redis = |url: &str| super::open::<RedisBackend>(&serde_json::json!({ "url": url }));
    // A breaker that opened would be what the reader waits for afterwards.
    let cache = |url: &str| Cache::builder().backend(redis(url)).deadline(short).without_breaker();
    let writer = cache(&server.url()).without_l1().strict(true).build().expect("the settings are valid");
    // Entries that nobody vouches for end soon, so that what is served for longer was served as coherent.
    let reader = cache(&format!("redis://{}", proxy.addr())).l1_ttl_cap(Duration::from_millis(500));
    let reader = reader.build().expect("the settings are valid");

    // When each version had been replaced, for whoever reads it later.
    let replaced = Arc::new(Mutex::new(vec![Instant::now()]));
    let stop = Arc::new(AtomicBool::new(false));
    let (times, until) = (Arc::clone(&replaced), Arc::clone(&stop));
    let writing = std::thread::spawn(move || {
        let mut failed = 0_u64;
        for version in 0_u64.. {
            if until.load(Ordering::Relaxed) {
                break;
            }
            failed += u64::from(wait(writer.set_bytes(KEY, &version.to_le_bytes(), SetOptions::default())).is_err());
            times.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            std::thread::sleep(Duration::from_millis(10));
        }
        failed
    });
    let oldest = |lasting: Duration| {
        let (mut oldest, mut served, mut misses) = (Duration::ZERO, 0_u64, 0_u64);
        let began = Instant::now();
        while began.elapsed() < lasting {
            let asked = Instant::now();
            match wait(reader.get_bytes(KEY)) {
                Ok(Some(value)) => {
                    let version = u64::from_le_bytes(value.as_ref().try_into().unwrap_or_default()) as usize;
                    // Entry 0 is from before the first write; version n is replaced when write n + 1 is done.
                    let replaced = replaced.lock().unwrap_or_else(PoisonError::into_inner).get(version + 2).copied();
                    oldest = oldest.max(replaced.map_or(Duration::ZERO, |then| asked.saturating_duration_since(then)));
                    served += 1;
                }
                _ => misses += 1,
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        (oldest, served, misses)
    };
    // Until the watch is confirmed and followed.
    oldest(Duration::from_millis(700));
    let (followed, served, _) = oldest(Duration::from_millis(1_500));
    report.time(&format!("{name}_oldest_while_followed"), followed);
    report.holds(served > 100, || format!("{name}: the reader was served {served} times"));
    report.holds(followed <= Duration::from_millis(200), || format!("{name}: {followed:?} behind while followed"));
    proxy.set(fault);
    let (silent, served, misses) = oldest(Duration::from_secs(4));
    report.time(&format!("{name}_oldest_while_silent"), silent);
    report.fact(&format!("{name}_served_while_silent"), served);
    report.fact(&format!("{name}_missed_while_silent"), misses);
    report.holds(silent <= WINDOW + MARGIN, || format!("{name}: a value {silent:?} old was served as coherent"));
    report.holds(misses > 0, || format!("{name}: served for 4 s without its store"));
    proxy.set(Fault::None);
    oldest(Duration::from_secs(3));
    let (after, served, _) = oldest(Duration::from_secs(1));
    report.time(&format!("{name}_oldest_after"), after);
    report.holds(served > 100 && after <= Duration::from_millis(700), || {
        format!("{name}: {after:?} behind after the fault, served {served} times")
    });
    stop.store(true, Ordering::Relaxed);
    let failed = writing.join().unwrap_or(u64::MAX);
    report.holds(failed == 0, || format!("{name}: {failed} writes failed"));
}
