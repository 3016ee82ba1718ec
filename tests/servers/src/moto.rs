//! DynamoDB, as moto plays it: a Python server in a virtual environment of its own.
//!
//! It checks conditions, sizes, keys and expressions as Amazon's documents say, returns expired items as the service does, and
//! answers over plain HTTP. It does not throttle, and leaves nothing of a batch undone.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::process::{Process, READY_WITHIN, on_a_free_port, until};
use crate::root;

/// The server with what its DynamoDB needs, and the caches in Python that share tables with us. Not `moto[server]`, which
/// brings what the other services need.
const PACKAGES: [&str; 6] = [
    "moto[dynamodb]==5.2.5",
    "flask==3.1.3",
    "flask-cors==6.0.5",
    "werkzeug==3.1.9",
    "boto3==1.44.8",
    "requests-cache==1.3.3",
];
/// moto looks at a condition and writes in two steps, on a thread for each request, so two conditional writes may both happen; in
/// DynamoDB they are one step. So here one request is answered at a time.
const SERVES: &str = "
import sys, threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple
app, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()
def one_at_a_time(environ, start_response):
    with turn:
        return list(app(environ, start_response))
run_simple('127.0.0.1', int(sys.argv[1]), one_at_a_time, threaded=True, request_handler=MotoRequestHandler)
";
/// It answers with these only when all of it is there.
const ASKS: &str = "import boto3, flask, flask_cors, moto.dynamodb.models, moto.server, requests_cache; \
                    from importlib.metadata import version; \
                    print(version('moto'), version('boto3'), version('requests-cache'))";
const ANSWERS: &[u8] = b"5.2.5 1.44.8 1.3.3";

/// A running server, ended when it is dropped.
#[derive(Debug)]
pub struct Moto {
    port: u16,
    // Ends before its directory does.
    process: Mutex<Process>,
    _dir: TempDir,
}

impl Moto {
    /// An empty one.
    pub fn start() -> Self {
        on_a_free_port("moto", Self::at)
    }

    fn at(port: u16) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("moto-").tempdir().expect("a place for temporary files");
        let python = interpreter().display().to_string();
        let port_text = port.to_string();
        let arguments = ["-c", SERVES, &port_text];
        let process = Mutex::new(Process::start(&python, "python3-venv", dir.path(), &arguments));
        let server = Self { port, process, _dir: dir };
        let mut ended = false;
        // It writes the line once the port is its own.
        let ours = format!("Running on http://127.0.0.1:{port}");
        until("moto answers", READY_WITHIN, || {
            ended = server.process().has_ended();
            ended || (server.process().log().contains(&ours) && server.answers())
        });
        if ended { Err(server.process().log()) } else { Ok(server) }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
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

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
            && stream.write_all(b"GET /moto-api/data.json HTTP/1.0\r\n\r\n").is_ok()
            && stream.read_to_end(&mut answer).is_ok()
            && answer.windows(4).any(|window| window == b" 200")
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a script of Python with the packages and returns the last line it printed.
///
/// # Panics
/// If the script fails.
pub fn python(script: &Path, arguments: &[&str]) -> Json {
    let mut command = Command::new(interpreter());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    // No compiled copies among the sources, and none of the files of whoever runs the tests.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("AWS_CONFIG_FILE", "/dev/null");
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null").env("AWS_EC2_METADATA_DISABLED", "true");
    let output = command.arg(script).args(arguments).output().expect("the Python was just found");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {arguments:?}: {said}", script.display());
    let last = output.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    serde_json::from_slice(last.expect("the script prints a line")).expect("the line is JSON")
}

/// A Python that has the packages, installed when it is first needed.
///
/// # Panics
/// If they cannot be installed.
pub fn interpreter() -> &'static Path {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| {
        let peers = root().join("target/peers");
        fs::create_dir_all(&peers).expect("the target folder is ours");
        // Test binaries run beside each other; one of them installs.
        let lock = File::create(peers.join("moto.lock")).expect("the target folder is ours");
        lock.lock().expect("a file of ours can be locked");
        let venv = peers.join("moto");
        let python = venv.join("bin/python3");
        if !has_packages(&python) {
            eprintln!("installing {} into {}", PACKAGES.join(" "), venv.display());
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            run(Command::new(&python).args(pip).args(PACKAGES));
            assert!(has_packages(&python), "{PACKAGES:?} were installed, but cannot be imported");
        }
        python
    })
}

fn has_packages(python: &Path) -> bool {
    let asks = Command::new(python).args(["-c", ASKS]).output();
    asks.is_ok_and(|answer| answer.stdout.trim_ascii() == ANSWERS)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; apt-get install python3-venv"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
}
