//! The short version of every story, and one that must go wrong.

mod careless;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use cachekit_chaos::checker::Checker;
use cachekit_chaos::load::{Plan, run};
use cachekit_chaos::scenario::processes::{self, Cast};
use cachekit_chaos::scenario::{ALL, Run, Size};
use cachekit_chaos::store::Store;
use cachekit_conformance::{Fault, Faulty, Memory};

fn tell(name: &str) {
    let scenario = ALL.iter().find(|scenario| scenario.name == name).unwrap();
    // Which cargo builds if it is not there: only where it is needed, because that takes minutes.
    let program = (name == "serve-256-clients").then(cachekit_e2e::artifacts::program);
    let chaos = Some(Path::new(env!("CARGO_BIN_EXE_chaos")));
    let report = (scenario.tell)(&Run { seed: 20, size: Size::QUICK, progress: false, program, chaos });
    println!("{report}");
    assert!(report.is_ok(), "{report}");
}

#[test]
fn cancelled_operations_on_redis_mix_up_no_replies() {
    tell("redis-cancelled");
}

#[test]
fn cancelled_operations_on_memcached_mix_up_no_replies() {
    tell("memcached-cancelled");
}

#[test]
fn a_cache_on_redis_believes_no_garbled_reply() {
    tell("redis-garbled");
}

#[test]
fn a_cache_on_memcached_believes_no_garbled_reply() {
    tell("memcached-garbled");
}

#[test]
fn redis_restarts() {
    tell("redis-restarts");
}

#[test]
fn memcached_restarts() {
    tell("memcached-restarts");
}

#[test]
fn a_sentinel_fails_over() {
    tell("sentinel-failover");
}

#[test]
fn a_cluster_moves_its_slots() {
    tell("cluster-reshard");
}

#[test]
fn a_silent_connection_serves_nothing_old_as_coherent() {
    tell("watch-black-hole");
}

#[test]
fn a_server_stands_256_clients() {
    tell("serve-256-clients");
}

#[test]
fn what_one_process_overwrote_does_not_come_back() {
    tell("one-process");
}

#[test]
fn what_two_processes_overwrote_does_not_come_back() {
    tell("two-processes");
}

#[test]
fn what_two_processes_that_follow_each_other_overwrote_does_not_come_back() {
    tell("two-coherent");
}

#[test]
fn without_fences_what_two_processes_overwrote_comes_back() {
    let chaos = Some(Path::new(env!("CARGO_BIN_EXE_chaos")));
    let size = Size { interleavings: 50, ..Size::QUICK };
    let run = Run { seed: 20, size, progress: false, program: None, chaos };
    for (fence, comes_back) in [("fenced", false), ("open", true)] {
        let report = processes::tell("two-processes", &run, Cast { fence, script: Cast::DELETED, ..Cast::TWO });
        println!("{} of {} values", report.count("resurrected"), report.count("values_checked"));
        assert_eq!(report.count("resurrected") > 0, comes_back, "the story does not see what it is about: {report}");
    }
}

#[test]
fn operations_that_fail_on_a_store_that_works_are_a_fault_of_the_story() {
    let chaos = Some(Path::new(env!("CARGO_BIN_EXE_chaos")));
    let size = Size { interleavings: 20, ..Size::QUICK };
    let run = Run { seed: 20, size, progress: false, program: None, chaos };
    let report = processes::tell("two-processes", &run, Cast { deadline: Duration::from_micros(1), ..Cast::TWO });
    println!("{report}");
    assert!(!report.is_ok() && report.count("failed") > 0, "{report}");
    assert_eq!(report.count("resurrected"), 0);
}

fn wrong_values(backend: impl cachekit_plugin::Backend, cancelled: u64) -> (u64, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (store, checker) = (Store::Backend(Arc::new(backend)), Arc::new(Checker::new(8)));
    // An operation that its deadline ends is given up as one that is cancelled is, and a busy machine is slow.
    let patience = if cancelled == 0 { Duration::from_secs(60) } else { Duration::from_millis(100) };
    let plan = Plan { seed: 20, tasks: 8, given_up: u64::MAX, cancelled, hurried: 0, patience };
    let mut done = 0;
    for _ in 0..100 {
        let (stop, given_up) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let ends = Arc::clone(&stop);
        done += runtime.block_on(async {
            let timer = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                ends.store(true, std::sync::atomic::Ordering::Relaxed);
            };
            tokio::join!(run(&store, &checker, &plan, &stop, &given_up), timer).0.done
        });
        if done > 100 {
            break;
        }
    }
    assert!(done > 100, "{done}");
    (checker.wrong(), checker.said())
}

#[test]
fn stores_that_are_wrong_are_caught_under_load_and_the_reference_is_not() {
    let (wrong, said) = wrong_values(Memory::default(), 30);
    assert_eq!(wrong, 0, "{said:?}");
    for fault in [Fault::FlipsABit, Fault::KeepsTheFirstValue, Fault::IgnoresDelete] {
        assert!(wrong_values(Faulty::new(fault), 0).0 > 0, "{fault:?} was not caught");
    }
}

#[test]
fn a_client_that_leaves_replies_behind_is_caught() {
    let server = cachekit_test_servers::redis::Redis::start();
    let careless = || careless::Careless::connect(&server.addr());
    let (wrong, said) = wrong_values(careless(), 0);
    assert_eq!(wrong, 0, "as long as nothing is cancelled it is right: {said:?}");
    server.command(&["FLUSHALL"]);
    let (wrong, said) = wrong_values(careless(), 30);
    println!("{wrong} wrong values, the first: {:?}", said.first());
    assert!(wrong > 0, "its mixed-up replies were not caught");
}
