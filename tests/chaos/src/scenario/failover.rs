//! A primary that dies under load. The sentinel puts the replica in its place; the client has to find it.
//!
//! Replication is asynchronous, so the replica may lack the last writes: older values are no violation until the store
//! works again. Other keys' values and torn ones always are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit_test_servers::redis::Sentinel;

use super::{Background, Run, all_is_well, recovered, runtime};
use crate::checker::Checker;
use crate::load::Plan;
use crate::report::Report;
use crate::store::Store;

/// One failover.
pub fn sentinel(run: &Run<'_>) -> Report {
    let name = "sentinel-failover";
    let group = Sentinel::start();
    let runtime = runtime();
    let _entered = runtime.enter();
    let store = Store::Backend(super::redis(&group.url()));
    let checker = Arc::new(Checker::new(64));
    let mut report = Report::new(name, run.seed);
    let patience = Duration::from_millis(250);
    let plan = Plan { seed: run.seed, tasks: 8, given_up: u64::MAX, cancelled: 5, hurried: 5, patience };
    let load = Background::begin(&runtime, name, run, &store, &checker, plan);
    std::thread::sleep(Duration::from_millis(500));
    checker.doubt();
    let killed = Instant::now();
    group.kill_primary();
    report.time("failover_by_sentinel", group.failed_over());
    match runtime.block_on(recovered(&store, &checker, Duration::from_secs(30))) {
        Some(time) => {
            report.time("works_again_after_failover", time);
            report.time("outage", killed.elapsed());
        }
        None => report.wrong("not working 30 s after the failover"),
    }
    checker.trust();
    std::thread::sleep(Duration::from_millis(500));
    let tally = load.end(&runtime, true);
    report.tally(&tally);
    report.told_right(&tally);
    runtime.block_on(all_is_well(&store, &checker, &mut report));
    report.judged(&checker);
    report
}
