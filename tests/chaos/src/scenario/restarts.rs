//! A server that is killed under load and starts again at the same place, empty.

use std::sync::Arc;
use std::time::Duration;

use cachekit_plugin::Backend;
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::redis::Redis;

use super::{Background, Run, all_is_well, recovered, runtime};
use crate::checker::Checker;
use crate::load::Plan;
use crate::report::Report;
use crate::store::Store;

/// Redis.
pub fn redis(run: &Run<'_>) -> Report {
    let server = Redis::start();
    tell("redis-restarts", run, || super::redis(&server.url()), || server.restart())
}

/// Memcached.
pub fn memcached(run: &Run<'_>) -> Report {
    let server = Memcached::start();
    tell("memcached-restarts", run, || super::memcached(&server.addr()), || server.restart())
}

fn tell(name: &'static str, run: &Run<'_>, open: impl Fn() -> Arc<dyn Backend>, restart: impl Fn()) -> Report {
    let runtime = runtime();
    let _entered = runtime.enter();
    let store = Store::Backend(open());
    let checker = Arc::new(Checker::new(64));
    let mut report = Report::new(name, run.seed);
    let patience = Duration::from_millis(250);
    let plan = Plan { seed: run.seed, tasks: 4, given_up: u64::MAX, cancelled: 5, hurried: 5, patience };
    let load = Background::begin(&runtime, name, run, &store, &checker, plan);
    let mut times = Vec::new();
    for _ in 0..run.size.restarts {
        std::thread::sleep(Duration::from_millis(150));
        restart();
        match runtime.block_on(recovered(&store, &checker, Duration::from_secs(20))) {
            Some(time) => times.push(time),
            None => report.wrong("not working 20 s after the server was back"),
        }
    }
    let tally = load.end(&runtime, true);
    report.tally(&tally);
    report.told_right(&tally);
    report.fact("restarts", run.size.restarts);
    report.times("works_again_after_server", times);
    runtime.block_on(all_is_well(&store, &checker, &mut report));
    report.judged(&checker);
    report
}
