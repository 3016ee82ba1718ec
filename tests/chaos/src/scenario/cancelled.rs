//! Operations that are dropped or run out of time while their replies are still on the way, on a network that delays,
//! stalls, cuts, resets and goes silent. A later call must never read an earlier call's reply.

use std::sync::Arc;
use std::time::Duration;

use cachekit_core::Cache;
use cachekit_plugin::Backend;
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::proxy::Proxy;
use cachekit_test_servers::redis::Redis;

use super::{Background, Run, all_is_well, recovered, runtime};
use crate::checker::Checker;
use crate::load::Plan;
use crate::report::Report;
use crate::store::Store;
use crate::weather::{Climate, Weather};

/// Redis by itself.
pub fn redis(run: &Run<'_>) -> Report {
    let server = Redis::start();
    tell("redis-cancelled", run, &server.addr(), |address| super::redis(&format!("redis://{address}")), Climate::Rough)
}

/// Memcached by itself.
pub fn memcached(run: &Run<'_>) -> Report {
    let server = Memcached::start();
    tell("memcached-cancelled", run, &server.addr(), super::memcached, Climate::Rough)
}

/// A cache in front of Redis. A reply of Redis says neither whose it is nor whether it is whole, so under changed and
/// doubled replies a client may well return what is not true; the cache must not.
pub fn redis_garbled(run: &Run<'_>) -> Report {
    let server = Redis::start();
    tell("redis-garbled", run, &server.addr(), |address| super::redis(&format!("redis://{address}")), Climate::Hostile)
}

/// The same in front of Memcached.
pub fn memcached_garbled(run: &Run<'_>) -> Report {
    let server = Memcached::start();
    tell("memcached-garbled", run, &server.addr(), super::memcached, Climate::Hostile)
}

fn tell(
    name: &'static str,
    run: &Run<'_>,
    upstream: &str,
    open: impl Fn(&str) -> Arc<dyn Backend>,
    climate: Climate,
) -> Report {
    let runtime = runtime();
    let _entered = runtime.enter();
    let proxy = Arc::new(Proxy::start(upstream));
    let backend = open(&proxy.addr().to_string());
    let patience = Duration::from_millis(250);
    let (store, given_up) = match climate {
        Climate::Rough => (Store::Backend(backend), run.size.given_up),
        Climate::Hostile => {
            let cache =
                Cache::builder().backend(backend).without_l1().without_breaker().strict(true).deadline(patience);
            (Store::Cache(cache.build().expect("the settings are valid")), run.size.given_up / 5)
        }
    };
    let checker = Arc::new(Checker::new(64));
    let mut report = Report::new(name, run.seed);
    // A doubled reply may tell a client that a write was done which was not, so an older value proves nothing.
    if climate == Climate::Hostile {
        checker.doubt();
    }
    let weather = Weather::begin(&proxy, climate, run.seed);
    let plan = Plan { seed: run.seed, tasks: 32, given_up, cancelled: 45, hurried: 30, patience };
    let tally = Background::begin(&runtime, name, run, &store, &checker, plan).end(&runtime, false);
    for (fault, times) in weather.end() {
        report.fact(fault, times);
    }
    report.tally(&tally);
    if climate == Climate::Rough {
        report.told_right(&tally);
    }
    runtime.block_on(async {
        match recovered(&store, &checker, Duration::from_secs(20)).await {
            Some(time) => report.time("works_again", time),
            None => report.wrong("not working 20 s after the last fault"),
        }
        checker.trust();
        all_is_well(&store, &checker, &mut report).await;
    });
    report.fact("connections", proxy.connections());
    report.judged(&checker);
    report
}
