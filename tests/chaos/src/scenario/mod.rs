//! The stories, one file each.

pub mod cancelled;
pub mod failover;
pub mod processes;
pub mod reshard;
pub mod restarts;
pub mod serve;
pub mod silent;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cachekit_plugin::{Backend, HostServices, Open};
use serde_json::Value as Json;
use tokio::runtime::{Builder, Runtime};

use crate::checker::Checker;
use crate::load::{Plan, Tally, run};
use crate::report::Report;
use crate::store::Store;

/// How long a story is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Operations that are cancelled or time out, in the stories that count them.
    pub given_up: u64,
    /// How often a server restarts.
    pub restarts: u32,
    /// How often slots move.
    pub moves: u32,
    /// How long a server stands its clients.
    pub serving: Duration,
    /// How often operations of several processes are interleaved.
    pub interleavings: u64,
}

impl Size {
    /// What a release has to stand.
    pub const FULL: Self =
        Self { given_up: 100_000, restarts: 20, moves: 4, serving: Duration::from_secs(60), interleavings: 100_000 };
    /// What every test run has time for.
    pub const QUICK: Self =
        Self { given_up: 3_000, restarts: 2, moves: 1, serving: Duration::from_secs(5), interleavings: 1_500 };
}

/// One telling.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Of all choices.
    pub seed: u64,
    /// How long.
    pub size: Size,
    /// Whether to say on stderr how far it is.
    pub progress: bool,
    /// The program `cachekit`, for the stories about it.
    pub program: Option<&'a Path>,
    /// This program, for the stories that need several processes.
    pub chaos: Option<&'a Path>,
}

/// A story.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Tells it.
    pub tell: fn(&Run<'_>) -> Report,
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "redis-cancelled",
        about: "operations on Redis are cancelled and time out anywhere, on a rough network",
        tell: cancelled::redis,
    },
    Scenario { name: "memcached-cancelled", about: "the same on Memcached", tell: cancelled::memcached },
    Scenario {
        name: "redis-garbled",
        about: "a cache on Redis whose replies also come twice and changed",
        tell: cancelled::redis_garbled,
    },
    Scenario { name: "memcached-garbled", about: "the same on Memcached", tell: cancelled::memcached_garbled },
    Scenario { name: "redis-restarts", about: "Redis is killed and starts again, under load", tell: restarts::redis },
    Scenario {
        name: "memcached-restarts",
        about: "Memcached is killed and starts again, under load",
        tell: restarts::memcached,
    },
    Scenario {
        name: "sentinel-failover",
        about: "the primary dies under load, and its replica takes its place",
        tell: failover::sentinel,
    },
    Scenario {
        name: "watch-black-hole",
        about: "a cache that follows another writer loses its connection without a word",
        tell: silent::watch,
    },
    Scenario {
        name: "serve-256-clients",
        about: "cachekit serve over Redis, behind TLS, under 256 clients that never pause",
        tell: serve::many_clients,
    },
    Scenario {
        name: "one-process",
        about: "loads, refreshes, sets, deletes and clears of one process are interleaved at random",
        tell: processes::one,
    },
    Scenario { name: "two-processes", about: "the same of two processes that share a Redis", tell: processes::two },
    Scenario {
        name: "two-coherent",
        about: "the same of two processes that follow each other's writes",
        tell: processes::coherent,
    },
    Scenario { name: "cluster-reshard", about: "slots move between nodes under load", tell: reshard::cluster },
];

/// Opens a backend by its options, as a configuration would.
pub(crate) fn open<B: Open>(options: &Json) -> Arc<dyn Backend> {
    let opened = B::open_json(options.to_string().as_bytes(), HostServices::none());
    Arc::new(opened.unwrap_or_else(|error| panic!("{options} does not open: {error}")))
}

/// Redis at a URL, with limits short enough that a silent connection is noticed during the story.
fn redis(url: &str) -> Arc<dyn Backend> {
    let options = serde_json::json!({ "url": url, "socket_timeout": 0.3, "socket_connect_timeout": 0.3 });
    open::<cachekit_backend_redis::RedisBackend>(&options)
}

/// Memcached at an address, with the same limits.
fn memcached(address: &str) -> Arc<dyn Backend> {
    let options = serde_json::json!({
        "servers": [address], "timeout": 0.3, "connect_timeout": 0.3, "retry_timeout": 0.05, "dead_timeout": 0.0,
    });
    open::<cachekit_backend_memcached::MemcachedBackend>(&options)
}

/// The two threads of a small machine.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("the system has threads")
}

/// Load in the background of a story.
struct Background {
    stop: Arc<AtomicBool>,
    workers: tokio::task::JoinHandle<Tally>,
    progress: Option<std::thread::JoinHandle<()>>,
}

impl Background {
    fn begin(
        runtime: &Runtime,
        name: &'static str,
        story: &Run<'_>,
        store: &Store,
        checker: &Arc<Checker>,
        plan: Plan,
    ) -> Self {
        let (stop, given_up) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let progress = story.progress.then(|| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&given_up));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    eprint!("\r{name}: {} given up   ", done.load(Ordering::Relaxed));
                    std::thread::sleep(Duration::from_millis(200));
                }
                eprintln!();
            })
        });
        let (store, checker, until) = (store.clone(), Arc::clone(checker), Arc::clone(&stop));
        let workers = runtime.spawn(async move { run(&store, &checker, &plan, &until, &given_up).await });
        Self { stop, workers, progress }
    }

    /// Lets the operations end that are planned, or none more.
    fn end(self, runtime: &Runtime, at_once: bool) -> Tally {
        if at_once {
            self.stop.store(true, Ordering::Relaxed);
        }
        let tally = runtime.block_on(self.workers).expect("the workers do not panic");
        self.stop.store(true, Ordering::Relaxed);
        if let Some(progress) = self.progress {
            let _ = progress.join();
        }
        tally
    }
}

/// How long until the store works again for one caller: a value is stored and comes back.
async fn recovered(store: &Store, checker: &Checker, within: Duration) -> Option<Duration> {
    let began = Instant::now();
    let patience = Duration::from_millis(250);
    while began.elapsed() < within {
        let (writing, value) = checker.set(0, 100);
        if store.set(0, value, patience).await.is_ok() {
            writing.done();
            let reading = checker.read(0);
            if let Ok(found) = store.get(0, patience).await {
                reading.returned(found.as_deref());
                return Some(began.elapsed());
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    None
}

/// After the fault everything works: each key takes a value and gives it back.
///
/// Stores and caches of the stories give up after a fraction of a second, which a busy machine takes now and then: an operation
/// that says so is begun anew, for 20 s. Any other failure, and whatever a read returns, is judged at once.
async fn all_is_well(store: &Store, checker: &Checker, report: &mut Report) {
    all_is_well_within(Duration::from_secs(20), store, checker, report).await;
}

async fn all_is_well_within(outage: Duration, store: &Store, checker: &Checker, report: &mut Report) {
    let (patience, pause) = (Duration::from_secs(5), Duration::from_millis(2));
    let mut lost = 0_u64;
    for key in 0..checker.keys() {
        let until = Instant::now() + outage;
        loop {
            let (writing, value) = checker.set(key, 300);
            match store.set(key, value, patience).await {
                Ok(()) => break writing.done(),
                Err(reason) if reason.is_an_outage() && Instant::now() < until => tokio::time::sleep(pause).await,
                Err(reason) => return report.wrong(format!("after the fault, set of key {key}: {}", reason.said)),
            }
        }
        loop {
            let reading = checker.read(key);
            match store.get(key, patience).await {
                Ok(found) => {
                    lost += u64::from(found.is_none());
                    break reading.returned(found.as_deref());
                }
                Err(reason) if reason.is_an_outage() && Instant::now() < until => tokio::time::sleep(pause).await,
                Err(reason) => return report.wrong(format!("after the fault, get of key {key}: {}", reason.said)),
            }
        }
    }
    report.holds(lost == 0, || format!("after the fault, {lost} keys were lost"));
}

#[cfg(test)]
mod tests {
    use cachekit_test_servers::redis::Redis;

    use super::*;

    /// A server that stands still for longer than its client waits, and goes on.
    #[test]
    fn a_pause_after_the_fault_is_none_of_its_consequences() {
        let (server, runtime) = (Arc::new(Redis::start()), runtime());
        let (store, checker) = (Store::Backend(redis(&server.url())), Checker::new(8));
        let mut report = Report::new("pause", 1);
        server.stop();
        let paused = Arc::clone(&server);
        let pause = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            paused.cont();
        });
        runtime.block_on(all_is_well(&store, &checker, &mut report));
        pause.join().unwrap();
        assert!(report.is_ok(), "{report}");
        assert_eq!(checker.checked(), (8, 8));
        // The control: one that does not come back.
        let gone = Store::Backend(redis("redis://127.0.0.1:1"));
        let mut report = Report::new("gone", 1);
        runtime.block_on(all_is_well_within(Duration::from_millis(100), &gone, &checker, &mut report));
        assert!(!report.is_ok(), "{report}");
    }
}
