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
/// A reader that follows is told in a few milliseconds. One that only lets its entries end is up to 500 ms behind.
const FOLLOWED: Duration = Duration::from_millis(200);
/// After the fault: as old as its entries become by themselves, or followed again.
const RECOVERED: Duration = Duration::from_millis(700);
/// How long one look takes that finds the reader well, and how many there may be: a machine that is busy makes one event in
/// some thousands late, a reader that does not follow is late in every look.
const LOOK: Duration = Duration::from_millis(1_500);
const LOOKS: u32 = 10;

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
    // A breaker that opened would be what the reader waits for afterwards.
    let cache = |options| Cache::builder().backend(super::open::<RedisBackend>(&options)).without_breaker();
    // Nothing is wrong on the way of the writer, whose writes must not fail: to it a server that waits for a processor is no
    // outage.
    let writer = cache(serde_json::json!({ "url": server.url(), "socket_timeout": 60.0 }));
    let writer = writer.deadline(Duration::from_secs(60)).without_l1().strict(true);
    let writer = writer.build().expect("the settings are valid");
    // The reader has the limits that a user has: shorter ones would find the dead connection sooner. Entries that nobody
    // vouches for end soon, so that what is served for longer was served as coherent.
    let reader = cache(serde_json::json!({ "url": format!("redis://{}", proxy.addr()) })).deadline(short);
    let reader = reader.l1_ttl_cap(Duration::from_millis(500)).build().expect("the settings are valid");

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
    // Looks until the reader is found no more than so far behind. What a watch promises holds in every look.
    let well = |within: Duration, when: &str, report: &mut Report| {
        let (mut last, mut served) = (Duration::ZERO, 0);
        for _ in 0..LOOKS {
            (last, served, _) = oldest(LOOK);
            report.holds(last <= WINDOW + MARGIN, || format!("{name}: a value {last:?} old was served {when}"));
            if served > 100 && last <= within {
                break;
            }
        }
        report.holds(served > 100, || format!("{name}: the reader was served {served} times {when}"));
        report.holds(last <= within, || format!("{name}: {last:?} behind {when}"));
        last
    };
    // Until the watch is confirmed and followed.
    oldest(Duration::from_millis(700));
    let followed = well(FOLLOWED, "while followed", report);
    report.time(&format!("{name}_oldest_while_followed"), followed);
    proxy.set(fault);
    let (silent, served, misses) = oldest(Duration::from_secs(4));
    report.time(&format!("{name}_oldest_while_silent"), silent);
    report.fact(&format!("{name}_served_while_silent"), served);
    report.fact(&format!("{name}_missed_while_silent"), misses);
    report.holds(silent <= WINDOW + MARGIN, || format!("{name}: a value {silent:?} old was served as coherent"));
    report.holds(misses > 0, || format!("{name}: served for 4 s without its store"));
    proxy.set(Fault::None);
    oldest(Duration::from_secs(3));
    let after = well(RECOVERED, "after the fault", report);
    report.time(&format!("{name}_oldest_after"), after);
    stop.store(true, Ordering::Relaxed);
    let failed = writing.join().unwrap_or(u64::MAX);
    report.holds(failed == 0, || format!("{name}: {failed} writes failed"));
}
