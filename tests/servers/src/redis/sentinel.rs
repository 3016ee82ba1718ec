//! A primary, its replica and the sentinel that puts one into the other's place.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{Options, Redis};
use crate::process::{Process, READY_WITHIN, free_port, until};

/// What the sentinel calls the service.
const NAME: &str = "mymaster";

/// A running group.
#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    servers: [Redis; 2],
    // In the order in which they end: the sentinel before its directory.
    _process: Process,
    _dir: TempDir,
}

impl Sentinel {
    /// Primary and replica in step, and a sentinel that knows both and puts the replica into the primary's place after a second
    /// without an answer.
    pub fn start() -> Self {
        Self::after(Duration::from_secs(1))
    }

    /// One that leaves the primary where it is, also where a busy machine lets it wait.
    pub fn calm() -> Self {
        Self::after(Duration::from_secs(600))
    }

    fn after(silence: Duration) -> Self {
        let primary = Redis::start();
        let replica = Options::new().with_primary(&primary).start();
        until("the replica is in step", READY_WITHIN, || {
            replica.command(&["INFO", "replication"]).contains("master_link_status:up")
        });
        let dir = tempfile::Builder::new().prefix("sentinel-").tempdir().expect("a place for temporary files");
        let port = free_port();
        let config = dir.path().join("sentinel.conf");
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", dir.path().display()),
            format!("pidfile {}/pid", dir.path().display()),
            format!("sentinel monitor {NAME} 127.0.0.1 {} 1", primary.port()),
            format!("sentinel down-after-milliseconds {NAME} {}", silence.as_millis()),
            format!("sentinel failover-timeout {NAME} 3000"),
        ];
        fs::write(&config, lines.join("\n") + "\n").expect("the directory is ours");
        let path = config.to_str().expect("temporary directories are text");
        let process = Process::start("redis-server", "redis-server", dir.path(), &[path, "--sentinel"]);
        let group = Self { port, servers: [primary, replica], _process: process, _dir: dir };
        let replica = group.servers[1].port().to_string();
        until("the sentinel knows the replica", READY_WITHIN, || {
            let known = group.ask(&["SENTINEL", "REPLICAS", NAME]);
            known.lines().any(|line| line == replica) && known.lines().any(|line| line == "slave")
        });
        group
    }

    /// `redis+sentinel://127.0.0.1:port/mymaster`.
    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/{NAME}", self.port)
    }

    /// The sentinel's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Which port the sentinel names as the primary's.
    pub fn primary_port(&self) -> u16 {
        let address = self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
        address.lines().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    /// The server that was the primary at first, and its replica.
    pub fn servers(&self) -> &[Redis; 2] {
        &self.servers
    }

    /// Ends the first primary as a crash would. The replica takes its place after a few seconds.
    pub fn kill_primary(&self) {
        self.servers[0].kill();
    }

    /// Waits until the replica is the primary; returns how long that took.
    pub fn failed_over(&self) -> Duration {
        let replica = &self.servers[1];
        until("the replica is the primary", Duration::from_secs(60), || {
            self.primary_port() == replica.port() && replica.command(&["ROLE"]).starts_with("master")
        })
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let mut client = Command::new("redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(arguments);
        let printed = client.output().expect("redis-cli is missing: apt-get install redis-tools");
        // A sentinel that is gone is a finding of the test that waits for it, not of this question.
        String::from_utf8_lossy(&printed.stdout).into_owned()
    }
}
