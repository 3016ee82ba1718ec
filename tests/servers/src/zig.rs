//! The Zig compiler, which comes as a Python package: a third language for plugins, and with `zig cc` a second compiler for those in C.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::python::run;
use crate::root;

/// One release, because the language still changes with each.
pub const VERSION: &str = "0.17.0";
/// Where the package keeps the compiler.
const ASKS: &str = "import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))";

/// The compiler, installed when it is first needed.
///
/// # Panics
/// If it cannot be installed.
pub fn compiler() -> &'static Path {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| {
        let peers = root().join("target/peers");
        fs::create_dir_all(&peers).expect("the target folder is ours");
        // Test binaries run beside each other; one of them installs.
        let lock = File::create(peers.join("zig.lock")).expect("the target folder is ours");
        lock.lock().expect("a file of ours can be locked");
        let venv = peers.join("zig");
        let python = venv.join("bin/python3");
        if let Some(zig) = installed(&python) {
            return zig;
        }
        eprintln!("installing ziglang {VERSION} into {}", venv.display());
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), "python3-venv");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"];
        run(Command::new(&python).args(pip).arg(format!("ziglang=={VERSION}")), "python3-venv");
        installed(&python).unwrap_or_else(|| panic!("ziglang {VERSION} was installed, but does not answer"))
    })
}

/// The compiler of this environment, if it is the release that is wanted.
fn installed(python: &Path) -> Option<PathBuf> {
    let asked = Command::new(python).args(["-c", ASKS]).output().ok().filter(|answer| answer.status.success())?;
    let zig = PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim());
    let version = Command::new(&zig).arg("version").output().ok()?;
    (version.stdout.trim_ascii() == VERSION.as_bytes()).then_some(zig)
}
