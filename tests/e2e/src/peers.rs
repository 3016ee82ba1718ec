//! The Python peer: the published package in a virtual environment of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{output, root};

/// The release whose files we share.
const PACKAGE: &str = "cachekit==0.24.1";

/// A Python that has the package, installed when it is first needed.
fn python() -> &'static Path {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| {
        let venv = root().join("target/peers/python");
        let python = venv.join("bin/python3");
        let has_package = |python: &Path| {
            let asks = Command::new(python).args(["-c", "import cachekit; print(cachekit.__version__)"]).output();
            asks.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0.24.1")
        };
        if !has_package(&python) {
            eprintln!("installing {PACKAGE} into {}", venv.display());
            output(Command::new("python3").arg("-m").arg("venv").arg("--clear").arg(&venv));
            output(Command::new(&python).args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                PACKAGE,
            ]));
            assert!(has_package(&python), "{PACKAGE} was installed, but cannot be imported");
        }
        python
    })
}

/// Runs our peer script on a directory and returns what it printed. Variables of the caller do not reach the package.
pub fn file_peer(arguments: &[&str]) -> String {
    let mut command = Command::new(python());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CACHEKIT_") {
            command.env_remove(name);
        }
    }
    let printed = output(command.arg(root().join("tests/interop/file_peer.py")).args(arguments)).stdout;
    String::from_utf8(printed).expect("it prints hex").trim().to_owned()
}
