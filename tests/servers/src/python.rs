//! The Python peer: the published package, in a virtual environment of its own, asked through `tests/interop/peer.py`.
//!
//! Recorded vectors show what the package once did; the peer shows what it does with our bytes. Variables of the caller
//! never reach it, because a `CACHEKIT_*` of somebody's shell would change what is tested.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value as Json;

use crate::root;

/// The release whose formats we speak.
const PACKAGE: &str = "cachekit[memcached]==0.24.1";
/// It answers with its version only when all of it is there.
const ASKS: &str = "import cachekit, pymemcache, redis; print(cachekit.__version__)";

/// Runs one verb of the peer and returns the last line it printed.
///
/// # Panics
/// If the package raised or the verb is wrong.
pub fn peer(arguments: &[&str]) -> Json {
    let mut answer = answer(arguments);
    assert_eq!(answer.code, 0, "peer {}: {answer:?}", arguments[0]);
    answer.lines.pop().expect("the peer prints a line")
}

/// What the peer printed and how it ended: 0 done, 1 the package raised, 2 wrong usage.
#[derive(Debug)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// One value for each line.
    pub lines: Vec<Json>,
    /// What it wrote to stderr.
    pub said: String,
}

/// Runs one verb of the peer, whatever comes of it.
pub fn answer(arguments: &[&str]) -> Answer {
    let output = command(arguments).output().expect("the peer's Python was just found");
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Answer {
        code: output.status.code().unwrap_or(-1),
        lines: lines.filter_map(|line| serde_json::from_slice(line).ok()).collect(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A verb that goes on, such as `lock`; ended when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// Starts a verb that goes on.
pub fn start(arguments: &[&str]) -> Running {
    let mut child = command(arguments).stdout(Stdio::piped()).spawn().expect("the peer's Python was just found");
    let lines = BufReader::new(child.stdout.take().expect("it is piped"));
    Running { child, lines }
}

impl Running {
    /// The next line it prints; null at its end.
    pub fn line(&mut self) -> Json {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap_or(0);
        if read == 0 { Json::Null } else { serde_json::from_str(&line).unwrap_or(Json::Null) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The peer with these arguments, without the variables that the package reads.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(interpreter());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CACHEKIT_", "CACHE_", "REDIS_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    // No compiled copies among the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(root().join("tests/interop/peer.py")).args(arguments);
    command
}

/// A Python that has the package, installed when it is first needed.
///
/// # Panics
/// If it cannot be installed.
pub fn interpreter() -> &'static Path {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| {
        let peers = root().join("target/peers");
        fs::create_dir_all(&peers).expect("the target folder is ours");
        // Test binaries run beside each other; one of them installs.
        let lock = File::create(peers.join("python.lock")).expect("the target folder is ours");
        lock.lock().expect("a file of ours can be locked");
        let venv = peers.join("python");
        let python = venv.join("bin/python3");
        if !has_package(&python) {
            eprintln!("installing {PACKAGE} into {}", venv.display());
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), "python3-venv");
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE];
            run(Command::new(&python).args(pip), "python3-venv");
            assert!(has_package(&python), "{PACKAGE} was installed, but cannot be imported");
        }
        python
    })
}

fn has_package(python: &Path) -> bool {
    let asks = Command::new(python).args(["-c", ASKS]).output();
    asks.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0.24.1")
}

/// Runs a command of the set-up; `package` brings its program.
pub(crate) fn run(command: &mut Command, package: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; apt-get install {package}"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
}
