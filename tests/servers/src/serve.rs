//! `cachekit serve` as an operator starts it: the program in a process of its own, behind TLS.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::certificates::Authority;
use crate::process::{Process, READY_WITHIN, until};

/// The key of the one tenant.
pub const API_KEY: &str = "ck_test_0123456789abcdef";

/// A running server, ended when it is dropped.
#[derive(Debug)]
pub struct Serve {
    url: String,
    ca: PathBuf,
    // Ends before its directory does.
    process: Mutex<Process>,
    _dir: TempDir,
}

impl Serve {
    /// Starts `program` over the backend of a URL, with a certificate for 127.0.0.1.
    ///
    /// # Panics
    /// If it does not say where it listens.
    pub fn start(program: &Path, backend: &str, authority: &Authority) -> Self {
        let dir = tempfile::Builder::new().prefix("serve-").tempdir().expect("a place for temporary files");
        let identity = authority.server(&["127.0.0.1", "localhost"]);
        let file = |path: &Path| path.to_str().expect("temporary directories are text").to_owned();
        // A file, because keys on a command line are for everybody to read.
        let key = dir.path().join("api-key");
        std::fs::write(&key, API_KEY).expect("the directory is ours");
        let tenant = format!("tests=file:{}", key.display());
        let program = file(program);
        let process = Process::start(
            &program,
            "no package: cargo build -p cachekit-cli",
            dir.path(),
            &[
                &["--backend", backend, "serve", "--listen", "127.0.0.1:0", "--api-key", &tenant, "--keys", "any"][..],
                &["--tls-cert", &file(identity.cert()), "--tls-key", &file(identity.key())],
            ]
            .concat(),
        );
        let process = Mutex::new(process);
        let mut url = None;
        until("cachekit serve says where it listens", READY_WITHIN, || {
            let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
            let log = process.log();
            assert!(!process.has_ended(), "cachekit serve ended: {log}");
            url = log.lines().find(|line| line.starts_with("https://")).map(str::to_owned);
            url.is_some()
        });
        Self { url: url.unwrap_or_default(), ca: authority.ca().to_owned(), process, _dir: dir }
    }

    /// `https://127.0.0.1:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate to trust, a PEM file.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Memory of the process in kB.
    pub fn resident_kb(&self) -> u64 {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).resident_kb()
    }

    /// Everything that it wrote.
    pub fn log(&self) -> String {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).log()
    }
}
