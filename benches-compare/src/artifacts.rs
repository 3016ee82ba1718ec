//! What a bench needs built beside itself: plugins as they are shipped, and the program that counts allocations.
//!
//! A crate that is both cdylib and rlib gets no link-time optimisation from the profile, because the rlib could not have
//! it; `cargo rustc --crate-type cdylib` builds the library alone, with it. Where cargo left the file is read from its
//! messages, so that a target directory of the user's choice does no harm.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// The directory of this crate.
fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The library of `null-plugin`, by the profile of its own workspace.
pub fn null_plugin() -> Result<PathBuf, Failure> {
    cdylib(&here().join("../tests/crossing/null-plugin/Cargo.toml"))
}

/// The library of one of our backends, by the profile of its own workspace.
pub fn backend_plugin(name: &str) -> Result<PathBuf, Failure> {
    cdylib(&here().join(format!("../backends/{name}/Cargo.toml")))
}

fn cdylib(manifest: &Path) -> Result<PathBuf, Failure> {
    let mut cargo = cargo("rustc", manifest);
    cargo.args(["--lib", "--crate-type", "cdylib"]);
    messages(cargo, |message| {
        let files = message["filenames"].as_array()?;
        files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with(".so")).map(PathBuf::from)
    })
}

/// One of the other programs of this crate.
pub fn program(name: &str) -> Result<PathBuf, Failure> {
    let mut cargo = cargo("build", &here().join("Cargo.toml"));
    cargo.args(["--bin", name]);
    messages(cargo, |message| {
        (message["target"]["name"] == name).then(|| message["executable"].as_str()).flatten().map(PathBuf::from)
    })
}

fn cargo(command: &str, manifest: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([command, "--release", "--quiet", "--message-format=json", "--manifest-path"]).arg(manifest);
    cargo
}

/// Runs cargo; the last file that `find` sees in its messages.
fn messages(mut cargo: Command, find: impl Fn(&serde_json::Value) -> Option<PathBuf>) -> Result<PathBuf, Failure> {
    let output = cargo.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{cargo:?} failed").into());
    }
    let found =
        String::from_utf8(output.stdout)?.lines().filter_map(|line| find(&serde_json::from_str(line).ok()?)).last();
    found.ok_or_else(|| format!("{cargo:?} built nothing").into())
}
