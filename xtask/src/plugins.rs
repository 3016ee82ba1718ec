//! Release builds of our plugins.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{cargo, root, step};

/// Our File backend as a library. By `cargo rustc --crate-type cdylib`, because a crate that is both cdylib and rlib gets
/// no LTO from the profile.
pub(crate) fn file() -> Result<PathBuf> {
    let arguments = ["rustc", "--release", "-p", "cachekit-backend-file", "--crate-type", "cdylib"];
    cargo::build(&arguments, "cachekit-backend-file", "cdylib")
}

/// The plugin in plain C, built beside its sources' copy in `into`.
pub(crate) fn c_memory(into: &Path) -> Result<PathBuf> {
    let source = root().join("plugins-example/c-memory");
    let library = into.join("c-memory.so");
    let include = root().join("cachekit-abi/include");
    crate::run(
        Command::new("make")
            .arg("--silent")
            .arg("-C")
            .arg(source)
            .arg(format!("CACHEKIT_INCLUDE={}", include.display()))
            .arg(format!("OUT={}", library.display())),
    )?;
    Ok(library)
}

pub(crate) fn run() -> Result<()> {
    step("release builds of our plugins");
    let file = file()?;
    let c_memory = c_memory(file.parent().unwrap_or(&file))?;
    for library in [file, c_memory] {
        println!("{}", library.display());
    }
    Ok(())
}
