//! Slots that move between the nodes of a cluster while keys in them are read and written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit_test_servers::redis::Cluster;

use super::{Background, Run, all_is_well, recovered, runtime};
use crate::checker::Checker;
use crate::load::Plan;
use crate::report::Report;
use crate::store::Store;

/// A quarter of a node's slots moves on, several times.
pub fn cluster(run: &Run<'_>) -> Report {
    let name = "cluster-reshard";
    let cluster = Cluster::start();
    let runtime = runtime();
    let _entered = runtime.enter();
    let store = Store::Backend(super::redis(&cluster.url()));
    let checker = Arc::new(Checker::new(512));
    let mut report = Report::new(name, run.seed);
    let patience = Duration::from_secs(1);
    let plan = Plan { seed: run.seed, tasks: 8, given_up: u64::MAX, cancelled: 5, hurried: 5, patience };
    let load = Background::begin(&runtime, name, run, &store, &checker, plan);
    std::thread::sleep(Duration::from_millis(300));
    let mut times = Vec::new();
    for round in 0..run.size.moves as usize {
        let began = Instant::now();
        cluster.reshard(round % 3, (round + 1) % 3, 1_000);
        report.time(&format!("move_{round}"), began.elapsed());
        match runtime.block_on(recovered(&store, &checker, Duration::from_secs(20))) {
            Some(time) => times.push(time),
            None => report.wrong("not working 20 s after slots moved"),
        }
    }
    let tally = load.end(&runtime, true);
    report.tally(&tally);
    report.told_right(&tally);
    report.fact("slots_moved", 1_000 * run.size.moves);
    report.times("works_after_move", times);
    runtime.block_on(all_is_well(&store, &checker, &mut report));
    report.judged(&checker);
    report
}
