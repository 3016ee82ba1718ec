//! A server process that cannot outlive its test.
//!
//! Dropping it kills it. For the case that nothing is dropped (a static, an abort, a `kill -9` of the test) the kernel
//! does it: the process asks for SIGKILL on its parent's death. That signal is tied to the *thread* that started it, and
//! tests run on threads that end, so all servers are started from one thread that never does.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take until it answers: an idle machine needs a fraction of a second, a test run on a busy one
/// more.
pub const READY_WITHIN: Duration = Duration::from_secs(30);

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

    /// Stops it without ending it: it answers nothing, its connections stay open.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
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
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are free ports");
    listener.local_addr().expect("it is bound").port()
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
    fn a_missing_program_names_its_package() {
        let dir = tempfile::tempdir().unwrap();
        let start = || Process::start("no-such-server", "its-package", dir.path(), &["x"]);
        let panic = std::panic::catch_unwind(start).unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().contains("apt-get install its-package"));
    }
}
