//! A server process that cannot outlive its test.
//!
//! Dropping it kills it. For the case that nothing is dropped (a static, an abort, a `kill -9` of the test) the kernel
//! does it: the process asks for SIGKILL on its parent's death. That signal is tied to the *thread* that started it, and
//! tests run on threads that end, so all servers are started from one thread that never does.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take until it answers: an idle machine needs a fraction of a second, a test run on a busy one
/// more.
pub const READY_WITHIN: Duration = Duration::from_secs(30);

/// Above the ports of well-known servers.
const LOWEST_PORT: u16 = 13_000;

/// A running server.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with its output in `dir`. `package` is what brings it, for the failure text.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start<S: AsRef<OsStr>>(program: &str, package: &str, dir: &Path, arguments: &[S]) -> Self {
        let found = find(program).unwrap_or_else(|| {
            panic!(
                "{program} is missing: `apt-get install {package}`, or `cargo xtask test`, which installs what it may"
            )
        });
        let name = found.file_name().map_or(program.into(), |name| name.to_string_lossy());
        let log = dir.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).expect("the directory is ours");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(found).args(arguments);
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a descriptor")).stderr(output);
        let child = spawn_from_a_thread_that_stays(command)
            .unwrap_or_else(|error| panic!("setpriv (package util-linux) cannot start {program}: {error}"));
        Self { child, log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it without ending it: it answers nothing, its connections stay open. Returns when all its threads have stopped,
    /// which on a busy machine is a while after the signal.
    ///
    /// # Panics
    /// If that takes longer than [`READY_WITHIN`].
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        until("all threads have stopped", READY_WITHIN, || self.has_stopped());
    }

    /// Lets it go on.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        // Also when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Memory of the process in kB, as the kernel counts it.
    pub fn resident_kb(&self) -> u64 {
        resident_kb(self.pid())
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn has_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid())) else { return true };
        threads.flatten().all(|thread| {
            // A thread that is gone runs no more. The name before the state may hold anything, also parentheses.
            let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { return true };
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['T', 'Z', 'X']))
        })
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a child has an id");
        kill_process(pid, signal).expect("a child that was not waited for can be signalled");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Memory of any process in kB.
pub fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}

/// Asks until the answer is yes.
///
/// # Panics
/// If it is not within `within`, with `what` was waited for.
pub fn until(what: &str, within: Duration, mut ask: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !ask() {
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    began.elapsed()
}

/// A loopback port that was free a moment ago. Somebody else may take it before the server does; that is why servers are
/// asked who they are.
pub fn free_port() -> u16 {
    listener().local_addr().expect("it is bound").port()
}

/// Listens on a loopback port that can be left and taken again.
///
/// A port that the kernel chooses is one it gives to outgoing connections too: while a server is down, its port may become
/// that of somebody's connection, even of a client that tries to reach the server and reaches itself. So this takes one from
/// below those where there are any.
pub(crate) fn listener() -> TcpListener {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static BEGIN: OnceLock<u16> = OnceLock::new();
    let several = lowest_outgoing_port().saturating_sub(LOWEST_PORT);
    // Processes begin at different places, and one goes on where it was, so that it hands out none twice.
    let begin = *BEGIN.get_or_init(|| RandomState::new().hash_one(std::process::id()) as u16);
    let own = (several >= 1000).then(|| {
        (0..1000).find_map(|_| {
            let place = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % several;
            TcpListener::bind((Ipv4Addr::LOCALHOST, LOWEST_PORT + place)).ok()
        })
    });
    own.flatten().unwrap_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are free ports"))
}

/// From which on the kernel chooses; 0 where that is not known.
fn lowest_outgoing_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|lowest| lowest.parse().ok()).unwrap_or(0)
}

/// Starts a server again where it was, and once more where somebody is at its place for a moment.
pub(crate) fn where_it_was(what: &str, mut start: impl FnMut() -> Result<(), String>) {
    let began = Instant::now();
    while let Err(said) = start() {
        let taken = said.to_lowercase().contains("address already in use");
        assert!(taken && began.elapsed() < READY_WITHIN, "{what} did not start again:\n{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Starts a server on a port of its own, and again on another one where somebody was faster.
pub(crate) fn on_a_free_port<T>(what: &str, mut start: impl FnMut(u16) -> Result<T, String>) -> T {
    let mut said = String::new();
    for _ in 0..5 {
        match start(free_port()) {
            Ok(server) => return server,
            Err(error) => said = error,
        }
    }
    panic!("{what} did not start on five ports; the last time it said:\n{said}")
}

fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

type Order = (Command, Sender<io::Result<Child>>);

fn spawn_from_a_thread_that_stays(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::Builder::new()
            .name("test-servers".into())
            .spawn(move || {
                for (mut command, answer) in orders {
                    // Whoever ordered it waits for the answer.
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        sender
    });
    let (sender, answer) = channel();
    spawner.send((command, sender)).map_err(|_| io::Error::other("the starting thread is gone"))?;
    answer.recv().map_err(|_| io::Error::other("the starting thread is gone"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start("sleep", "coreutils", dir.path(), &["600"]);
        let entry = format!("/proc/{}", process.pid());
        assert!(Path::new(&entry).exists());
        drop(process);
        assert!(!Path::new(&entry).exists());
    }

    #[test]
    fn a_process_has_stopped_when_stop_returns() {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start("sh", "dash", dir.path(), &["-c", "while :; do :; done"]);
        for _ in 0..50 {
            assert!(!process.has_stopped());
            process.stop();
            assert!(process.has_stopped());
            process.cont();
        }
    }

    #[test]
    fn a_process_outlives_the_thread_that_ordered_it_but_asks_to_die_with_the_test() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let order = std::thread::spawn(move || Process::start("sleep", "coreutils", &path, &["600"]));
        let mut process = order.join().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(!process.has_ended());
        // The parent of the process is this one, whose death the kernel reports.
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
        assert!(status.contains(&format!("PPid:\t{}\n", std::process::id())), "{status}");
    }

    #[test]
    fn ports_are_none_of_those_of_outgoing_connections_and_none_comes_twice() {
        let mut ports: Vec<u16> = (0..200).map(|_| free_port()).collect();
        let most = ports.iter().max().unwrap();
        let lowest = lowest_outgoing_port();
        assert!(*most < lowest || lowest < LOWEST_PORT + 1000, "{most} of {lowest} and more");
        ports.sort_unstable();
        ports.dedup();
        // Where the kernel chooses, it may choose one again.
        assert!(ports.len() == 200 || lowest < LOWEST_PORT + 1000, "{}", ports.len());
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let dir = tempfile::tempdir().unwrap();
        let start = || Process::start("no-such-server", "its-package", dir.path(), &["x"]);
        let panic = std::panic::catch_unwind(start).unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().contains("apt-get install its-package"));
    }
}
