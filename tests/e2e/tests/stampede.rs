//! Several real processes of many callers each want one cold key from a real Redis: how often it is loaded, also if the process
//! that loads is killed, or stopped for longer than its lock; and what stands in the store afterwards.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cachekit::Cache;
use cachekit_backend_redis::RedisBackend;
use cachekit_plugin::{HostServices, Open};
use cachekit_test_servers::redis::Redis;
use serde_json::{Value as Json, json};

const PROCESSES: u64 = 8;
const CALLERS: u64 = 1000;
/// Longer than any test.
const LONG_MS: u64 = 600_000;

struct Crowd {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    loads: u64,
}

impl Crowd {
    fn start(server: &Redis, hold_ms: u64, locks: &str, load_ms: u64, value: u64) -> Self {
        let numbers = [CALLERS, hold_ms, LONG_MS].map(|number| number.to_string());
        let mut child = Command::new(env!("CARGO_BIN_EXE_crowd"))
            .arg(server.url())
            .args(numbers)
            .arg(locks)
            .args([load_ms.to_string(), value.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the crowd was built with this test");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut crowd = Self { child, stdin, lines, loads: 0 };
        assert_eq!(crowd.line().as_deref(), Some("ready"));
        crowd
    }

    fn line(&mut self) -> Option<String> {
        self.lines.recv_timeout(Duration::from_secs(120)).ok()
    }

    fn go(&mut self) {
        self.stdin.write_all(b"go\n").unwrap();
    }

    fn is_loading(&mut self) {
        assert_eq!(self.line().as_deref(), Some("loading"));
        self.loads += 1;
    }

    /// What it says at the end; every caller got the same value.
    fn end(self) -> (u64, u64, Json) {
        let (got, loads, stats) = self.end_with_each();
        assert_eq!(got.len(), 1, "{got:?}");
        (got[0], loads, stats)
    }

    /// The same, for callers who may have got different values: which.
    fn end_with_each(mut self) -> (Vec<u64>, u64, Json) {
        loop {
            let line = self.line().expect("it says what it got within two minutes");
            if line == "loading" {
                self.loads += 1;
                continue;
            }
            let said: Json = serde_json::from_str(&line).unwrap();
            let got = said["got"].as_object().unwrap();
            let callers: u64 = got.values().map(|callers| callers.as_u64().unwrap()).sum();
            assert_eq!(callers, CALLERS);
            assert_eq!(said["stats"]["loads"], self.loads, "{said}");
            let values = got.keys().map(|value| value.parse().expect("a value and no error")).collect();
            return (values, self.loads, said["stats"].clone());
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cache(server: &Redis) -> cachekit_core::blocking::BlockingCache {
    let options = json!({ "url": server.url() }).to_string();
    let backend = RedisBackend::open_json(options.as_bytes(), HostServices::none()).unwrap();
    Cache::builder()
        .backend(Arc::new(backend))
        .without_l1()
        .strict(true)
        .deadline(Duration::from_secs(60))
        .build()
        .unwrap()
        .blocking()
}

fn in_store(server: &Redis) -> Option<u64> {
    cache(server).get::<u64>("cold").unwrap().map(|value| *value)
}

#[test]
fn eight_processes_of_a_thousand_callers_load_a_cold_key_once_and_without_locks_many_times() {
    for locks in ["fenced", "unfenced", "none"] {
        let server = Redis::start();
        // Long enough that without locks everybody misses before anybody has stored.
        let load_ms = if locks == "none" { 1500 } else { 100 };
        let mut crowds: Vec<Crowd> =
            (0..PROCESSES).map(|n| Crowd::start(&server, LONG_MS, locks, load_ms, n + 1)).collect();
        let began = Instant::now();
        crowds.iter_mut().for_each(Crowd::go);
        let ends: Vec<(u64, u64, Json)> = crowds.into_iter().map(Crowd::end).collect();
        let took = began.elapsed();
        let loads: u64 = ends.iter().map(|(_, loads, _)| loads).sum();
        println!(
            "{locks}: {PROCESSES} processes of {CALLERS} callers, a load of {load_ms} ms: {loads} loads, {took:?}"
        );
        if locks == "none" {
            assert!(loads > 1, "{loads}");
        } else {
            assert_eq!(loads, 1);
            assert!(ends.iter().all(|(value, ..)| Some(*value) == in_store(&server)), "everybody got the one value");
            assert_eq!(server.command(&["EXISTS", "ck:default:cold:lock"]), "0", "the lock was given back");
        }
    }
}

#[test]
fn if_the_process_that_loads_is_killed_one_of_the_others_takes_its_place() {
    let server = Redis::start();
    let hold_ms = 3000;
    // Its loader would never end.
    let mut leader = Crowd::start(&server, hold_ms, "fenced", LONG_MS, 1);
    let mut others: Vec<Crowd> = (1..PROCESSES).map(|n| Crowd::start(&server, LONG_MS, "fenced", 20, n + 1)).collect();
    leader.go();
    leader.is_loading();
    others.iter_mut().for_each(Crowd::go);
    let killed = Instant::now();
    leader.signal("KILL");
    let ends: Vec<(u64, u64, Json)> = others.into_iter().map(Crowd::end).collect();
    let loads: u64 = ends.iter().map(|(_, loads, _)| loads).sum();
    println!("leader killed, hold {hold_ms} ms: {} loads, everybody served {:?} after it", loads + 1, killed.elapsed());
    assert_eq!(loads, 1);
    assert!(ends.iter().all(|(value, ..)| Some(*value) == in_store(&server)));
}

/// A leader is stopped until its lock is over and another process has loaded (`others`), or stored something by itself, and then
/// goes on. What it got, what the store has, how many loads there were, and what the leader says.
fn stopped_leader(locks: &str, others: bool) -> (Vec<u64>, Option<u64>, u64, Json) {
    let server = Redis::start();
    // It is stopped before its loader ends, however slow this machine is, within reason.
    let mut leader = Crowd::start(&server, 500, locks, 3000, 1);
    let mut second = Crowd::start(&server, LONG_MS, locks, 20, 2);
    leader.go();
    leader.is_loading();
    leader.signal("STOP");
    let mut loads = 0;
    if others {
        second.go();
        let (value, others_loads, _) = second.end();
        assert_eq!(value, 2);
        loads += others_loads;
    } else {
        cache(&server).set("cold", &2_u64).unwrap();
    }
    assert_eq!(in_store(&server), Some(2));
    leader.signal("CONT");
    let (values, own_loads, stats) = leader.end_with_each();
    (values, in_store(&server), loads + own_loads, stats)
}

#[test]
fn a_process_that_is_stopped_past_its_lock_overwrites_nothing_and_without_the_fence_it_does() {
    let told = std::thread::scope(|scope| {
        let cases = [("fenced", true), ("fenced", false), ("unfenced", true), ("unfenced", false)];
        let told = cases.map(|(locks, others)| scope.spawn(move || stopped_leader(locks, others)));
        told.map(|told| told.join().unwrap())
    });
    for ((own, stands, loads, stats), (must_stand, others)) in
        told.into_iter().zip([(2, true), (2, false), (1, true), (1, false)])
    {
        println!("leader stopped past its lock: {loads} loads, {} held back, {stands:?} stands", stats["fills_fenced"]);
        // Who leads gets what it loaded. Who joined it after the newer value was there looks for itself.
        assert!(own == [1] || (must_stand == 2 && own == [1, 2]), "{own:?}");
        assert_eq!((stands, loads), (Some(must_stand), 1 + u64::from(others)));
        assert_eq!(stats["fills_fenced"], u64::from(must_stand == 2));
    }
}
