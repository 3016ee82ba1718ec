#![forbid(unsafe_code)]
//! What the tests of the whole need: libraries built as a stranger builds them, and places to put them.
//!
//! Nothing is skipped when something is missing: a test then fails and says what it looked for.

pub mod artifacts;
pub mod canaries;
pub mod harness;
pub mod invalidation;
pub mod stores;
pub mod values;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// A private directory under its real name, as plugins and stores want it.
pub struct Place {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("the system has a place for temporary files");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).expect("it is ours");
        let path = dir.path().canonicalize().expect("it exists");
        Self { dir, path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        debug_assert!(self.dir.path().exists());
        &self.path
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a command and fails with everything it said.
pub fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
