//! Operations that are given up at random moments, by deadline or by dropping their future: no later one may read what was
//! meant for them, and none may overtake another on its key.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cachekit_backend_memcached::{MemcachedBackend, MemcachedConfig};
use cachekit_plugin::{Backend, Cx, Ttl};
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::proxy::{Fault, Proxy};

use super::values::{Dice, check, signed};
use super::{k, open};

/// How hard a run is.
#[derive(Clone, Copy)]
struct Run {
    pool: u32,
    fault: Fault,
    tasks: u64,
    operations: u64,
    /// Operations are given up after less than this.
    patience_us: u64,
}

#[derive(Default)]
struct Counts {
    given_up: u64,
    reads: u64,
}

/// One task, alone on its keys, so that it knows what each may hold: the last write that was answered, and every one after it
/// that was given up. `None` is a deletion.
async fn give_up_at_random(backend: Arc<MemcachedBackend>, task: u64, run: Run) -> Counts {
    let mut dice = Dice(task + 1);
    let mut counts = Counts::default();
    let keys: Vec<String> = (0..6).map(|number| format!("task{task}key{number}")).collect();
    let mut possible: Vec<HashSet<Option<u64>>> = keys.iter().map(|_| HashSet::from([None])).collect();
    for write in 1..=run.operations {
        let index = dice.below(keys.len() as u64) as usize;
        let key = &keys[index];
        let patience = Duration::from_micros(dice.below(run.patience_us));
        // Half by the deadline, half by dropping the future; one in four has all the time it needs.
        let (cx, drop_after) = match dice.below(4) {
            0 => (Cx::within(Duration::from_secs(20)), None),
            1 => (Cx::within(patience), None),
            _ => (Cx::within(Duration::from_secs(20)), Some(patience)),
        };
        macro_rules! attempt {
            ($operation:expr) => {
                match drop_after {
                    None => $operation.await.ok(),
                    Some(patience) => match tokio::time::timeout(patience, $operation).await {
                        Ok(answer) => answer.ok(),
                        Err(_) => None,
                    },
                }
            };
        }
        match dice.below(5) {
            0 | 1 => {
                let value = signed(key, write, dice.below(300) as usize);
                match attempt!(backend.set(k(key), value, Ttl::Never, &cx)) {
                    Some(()) => possible[index] = HashSet::from([Some(write)]),
                    None => {
                        counts.given_up += 1;
                        possible[index].insert(Some(write));
                    }
                }
            }
            2 => match attempt!(backend.delete(k(key), &cx)) {
                Some(_) => possible[index] = HashSet::from([None]),
                None => {
                    counts.given_up += 1;
                    possible[index].insert(None);
                }
            },
            _ => match attempt!(backend.get(k(key), &cx)) {
                Some(found) => {
                    let found = found.map(|value| check(key, &value).expect("a wrong value"));
                    assert!(possible[index].contains(&found), "{key}: {found:?} is none of {:?}", possible[index]);
                    counts.reads += 1;
                }
                None => counts.given_up += 1,
            },
        }
    }
    counts
}

async fn run(run: Run) {
    let server = Memcached::start();
    let proxy = Proxy::start(server.addr());
    proxy.set(run.fault);
    let config = MemcachedConfig::new([proxy.addr().to_string()]).with_max_pool_size(run.pool).with_timeout(20.0);
    let backend = Arc::new(open(config));
    let start = |task| tokio::spawn(give_up_at_random(Arc::clone(&backend), task, run));
    let tasks: Vec<_> = (0..run.tasks).map(start).collect();
    let (mut given_up, mut reads) = (0, 0);
    for task in tasks {
        let counts = task.await.unwrap();
        (given_up, reads) = (given_up + counts.given_up, reads + counts.reads);
    }
    println!(
        "{} operations, {given_up} of them given up, {reads} reads checked; {} connections: 0 wrong",
        run.tasks * run.operations,
        proxy.connections()
    );
    assert!(given_up > 1000 && reads > 1000, "{given_up} {reads}");
    // Nothing of all this harmed a connection.
    assert!(proxy.connections() <= u64::from(run.pool), "{} connections", proxy.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_given_up_on_one_connection_bring_no_wrong_value() {
    run(Run { pool: 1, fault: Fault::None, tasks: 16, operations: 2000, patience_us: 250 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_given_up_on_many_connections_bring_no_wrong_value() {
    let fault = Fault::Delay(Duration::from_micros(500));
    run(Run { pool: 10, fault, tasks: 400, operations: 200, patience_us: 6_000 }).await;
}
