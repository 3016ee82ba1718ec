//! Memcached, as the distribution ships it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, READY_WITHIN, on_a_free_port, until, where_it_was};

/// Where a server listens.
#[derive(Debug, Clone)]
enum Place {
    Port(u16),
    Socket(PathBuf),
}

/// A running server, ended when it is dropped.
#[derive(Debug)]
pub struct Memcached {
    place: Place,
    arguments: Vec<String>,
    // Ends before its directory does.
    process: Mutex<Process>,
    dir: TempDir,
}

impl Memcached {
    /// A plain one with 64 MB.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// One with more arguments, such as `-m 1` for a store that evicts soon.
    pub fn with(arguments: &[&str]) -> Self {
        on_a_free_port("memcached", |port| Self::at(Place::Port(port), dir(), arguments))
    }

    /// One that listens on a Unix socket alone.
    pub fn unix() -> Self {
        let dir = dir();
        let socket = dir.path().join("memcached.sock");
        Self::at(Place::Socket(socket), dir, &[]).unwrap_or_else(|said| panic!("memcached did not start:\n{said}"))
    }

    /// Three of them, for a client that places keys.
    pub fn three() -> [Self; 3] {
        [Self::start(), Self::start(), Self::start()]
    }

    fn at(place: Place, dir: TempDir, arguments: &[&str]) -> Result<Self, String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let process = Mutex::new(launch(&place, dir.path(), &arguments));
        let server = Self { place, arguments, dir, process };
        server.ready().map(|()| server)
    }

    /// Its port on 127.0.0.1; 0 for one on a socket.
    pub fn port(&self) -> u16 {
        match self.place {
            Place::Port(port) => port,
            Place::Socket(_) => 0,
        }
    }

    /// `127.0.0.1:port`, or the path of the socket: how a list of servers names it.
    pub fn addr(&self) -> String {
        match &self.place {
            Place::Port(port) => format!("127.0.0.1:{port}"),
            Place::Socket(path) => path.display().to_string(),
        }
    }

    /// `memcached://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("memcached://{}", self.addr())
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

    /// Ends it and starts it again at the same place, empty.
    pub fn restart(&self) {
        self.kill();
        where_it_was("memcached", || {
            *self.process() = launch(&self.place, self.dir.path(), &self.arguments);
            self.ready()
        });
    }

    /// Memory of the process in kB.
    pub fn resident_kb(&self) -> u64 {
        self.process().resident_kb()
    }

    /// Sends one command and returns everything up to a line that ends with `last`; empty if the server does not answer.
    pub fn exchange(&self, command: &str, last: &str) -> String {
        match &self.place {
            Place::Port(port) => TcpStream::connect(("127.0.0.1", *port))
                .and_then(|stream| stream.set_read_timeout(Some(Duration::from_secs(5))).map(|()| stream))
                .map(|stream| talk(stream, command, last))
                .unwrap_or_default(),
            Place::Socket(path) => UnixStream::connect(path)
                .and_then(|stream| stream.set_read_timeout(Some(Duration::from_secs(5))).map(|()| stream))
                .map(|stream| talk(stream, command, last))
                .unwrap_or_default(),
        }
    }

    fn ready(&self) -> Result<(), String> {
        let ours = format!("STAT pid {}\r\n", self.pid());
        let mut ended = false;
        until("memcached answers", READY_WITHIN, || {
            ended = self.process().has_ended();
            ended || self.exchange("stats\r\n", "END\r\n").contains(&ours)
        });
        if ended { Err(self.process().log()) } else { Ok(()) }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dir() -> TempDir {
    tempfile::Builder::new().prefix("memcached-").tempdir().expect("a place for temporary files")
}

fn launch(place: &Place, dir: &Path, more: &[String]) -> Process {
    let mut arguments: Vec<String> = Vec::new();
    match place {
        Place::Port(port) => {
            arguments.extend(["-l", "127.0.0.1", "-U", "0", "-p"].map(str::to_owned));
            arguments.push(port.to_string());
        }
        Place::Socket(path) => {
            // What an earlier one left would make it refuse to start.
            let _ = std::fs::remove_file(path);
            arguments.extend(["-s".to_owned(), path.display().to_string()]);
        }
    }
    arguments.extend(["-m", "64"].map(str::to_owned));
    if rustix::process::geteuid().is_root() {
        arguments.extend(["-u", "root"].map(str::to_owned));
    }
    arguments.extend_from_slice(more);
    Process::start("memcached", "memcached", dir, &arguments)
}

fn talk(mut stream: impl Read + Write, command: &str, last: &str) -> String {
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    if stream.write_all(command.as_bytes()).is_ok() {
        while let Ok(read @ 1..) = stream.read(&mut chunk) {
            answer.extend_from_slice(&chunk[..read]);
            if answer.ends_with(last.as_bytes()) || answer.ends_with(b"ERROR\r\n") {
                break;
            }
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}
