//! Redis, as the distribution ships it.

mod cluster;
mod sentinel;
mod tls;

pub use cluster::Cluster;
pub use sentinel::Sentinel;
pub use tls::Tls;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::process::{Process, READY_WITHIN, on_a_free_port, until, where_it_was};

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    password: Option<String>,
    arguments: Vec<String>,
}

impl Options {
    /// A plain server.
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands this password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.with(&["--requirepass", password])
    }

    /// Takes no more than this, such as `1mb`; `policy` says what happens then, such as `noeviction`.
    #[must_use]
    pub fn with_max_memory(self, size: &str, policy: &str) -> Self {
        self.with(&["--maxmemory", size, "--maxmemory-policy", policy])
    }

    /// A read-only copy of another server.
    #[must_use]
    pub fn with_primary(self, primary: &Redis) -> Self {
        let port = primary.port().to_string();
        self.with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"])
    }

    /// Anything else.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Starts it.
    pub fn start(self) -> Redis {
        on_a_free_port("redis-server", |port| Redis::at(port, self.clone()))
    }
}

/// A running server, ended when it is dropped.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    options: Options,
    // Ends before its directory does.
    process: Mutex<Process>,
    dir: TempDir,
}

impl Redis {
    /// A plain one: no password, nothing kept on disk.
    pub fn start() -> Self {
        Options::new().start()
    }

    /// One with more arguments.
    pub fn with(arguments: &[&str]) -> Self {
        Options::new().with(arguments).start()
    }

    pub(crate) fn at(port: u16, options: Options) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("redis-").tempdir().expect("a place for temporary files");
        let process = Mutex::new(launch(port, dir.path(), &options));
        let server = Self { port, options, dir, process };
        server.ready().map(|()| server)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:port`, without the password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:port`.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The Unix socket on which it listens too.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Stalls it (SIGSTOP): connections stay open, nothing is answered.
    pub fn stop(&self) {
        self.process().stop();
    }

    /// Lets it go on (SIGCONT).
    pub fn cont(&self) {
        self.process().cont();
    }

    /// Ends it as a crash would.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Ends it and starts it again at the same port, empty.
    pub fn restart(&self) {
        self.kill();
        where_it_was("redis-server", || {
            *self.process() = launch(self.port, self.dir.path(), &self.options);
            self.ready()
        });
    }

    /// Memory of the process in kB.
    pub fn resident_kb(&self) -> u64 {
        self.process().resident_kb()
    }

    /// What `redis-cli` prints for a command, without the last line end; errors of the server are text too.
    pub fn command(&self, arguments: &[&str]) -> String {
        let mut client = self.client();
        let printed = client.args(arguments).output().expect("redis-cli is missing: apt-get install redis-tools");
        let mut printed = printed.stdout;
        if printed.last() == Some(&b'\n') {
            printed.pop();
        }
        String::from_utf8_lossy(&printed).into_owned()
    }

    /// `redis-cli`, connected.
    pub fn client(&self) -> Command {
        let mut client = Command::new("redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(password) = &self.options.password {
            client.env("REDISCLI_AUTH", password);
        }
        client
    }

    fn ready(&self) -> Result<(), String> {
        let ours = format!("process_id:{}\r", self.pid());
        let mut ended = false;
        until("redis-server answers", READY_WITHIN, || {
            ended = self.process().has_ended();
            ended || self.command(&["INFO", "server"]).lines().any(|line| line == ours.trim_end() || line == ours)
        });
        if ended { Err(self.process().log()) } else { Ok(()) }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn launch(port: u16, dir: &Path, options: &Options) -> Process {
    let (port, dir_text) = (port.to_string(), dir.to_str().expect("temporary directories are text").to_owned());
    let (pid_file, socket) = (format!("{dir_text}/pid"), format!("{dir_text}/redis.sock"));
    // DEBUG is how tests make a server load, sleep or refuse.
    let mut arguments = vec!["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    arguments.extend(["--dir", &dir_text, "--pidfile", &pid_file, "--unixsocket", &socket]);
    arguments.extend(["--enable-debug-command", "yes"]);
    arguments.extend(options.arguments.iter().map(String::as_str));
    Process::start("redis-server", "redis-server", dir, &arguments)
}
