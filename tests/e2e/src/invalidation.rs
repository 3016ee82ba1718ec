//! Two processes on one store: the other one, and a cache as both of them open it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use cachekit::Cache;
use cachekit_backend_file::FileBackend;
use cachekit_backend_memcached::MemcachedBackend;
use cachekit_backend_redis::RedisBackend;
use cachekit_plugin::{Backend, HostServices, Open};
use serde_json::Value as Json;

/// A cache on a store, by the name and the options of its backend.
///
/// # Panics
/// If it cannot be opened.
pub fn open(store: &str, options: &str, cap: Duration, listens: bool) -> Cache {
    let (options, services) = (options.as_bytes(), HostServices::none());
    let backend: Arc<dyn Backend> = match store {
        "redis" => Arc::new(RedisBackend::open_json(options, services).expect("the options are right")),
        "memcached" => Arc::new(MemcachedBackend::open_json(options, services).expect("the options are right")),
        "file" => Arc::new(FileBackend::open_json(options, services).expect("the options are right")),
        other => panic!("no store {other:?}"),
    };
    let builder = Cache::builder().backend(backend).l1_ttl_cap(cap).coherence(listens);
    // Half a minute: a server that is busy on a busy machine is no outage.
    builder.deadline(Duration::from_secs(30)).build().expect("it has no bad setting")
}

/// Nanoseconds of the clock that all processes of the machine share.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// The program `neighbour`, running.
pub struct Neighbour {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl Neighbour {
    /// Starts it on a store.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(program: &str, store: &str, options: &Json, cap: Duration) -> Self {
        let mut child = Command::new(program)
            .args([store, &options.to_string(), &cap.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was built with the test");
        let (stdin, stdout) = (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let neighbour = Self { child, stdin, answers };
        assert_eq!(neighbour.answer(), "ready");
        neighbour
    }

    /// Has it do something and returns its answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.answer()
    }

    /// Has it do something, without waiting for its answer.
    ///
    /// # Panics
    /// If it has ended.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("it runs");
    }

    /// Its next answer.
    ///
    /// # Panics
    /// If there is none within a minute.
    pub fn answer(&self) -> String {
        self.answers.recv_timeout(Duration::from_secs(60)).expect("it answers")
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
