//! Release builds of our plugins.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{cargo, root, step};

/// Our backends.
const BACKENDS: &[&str] =
    &["cachekit-backend-cachekitio", "cachekit-backend-file", "cachekit-backend-memcached", "cachekit-backend-redis"];

/// One of our backends as a library. By `cargo rustc --crate-type cdylib`, because a crate that is both cdylib and rlib gets
/// no LTO from the profile.
fn backend(package: &str) -> Result<PathBuf> {
    cargo::build(&["rustc", "--release", "-p", package, "--crate-type", "cdylib"], package, "cdylib")
}

/// Our File backend as a library.
pub(crate) fn file() -> Result<PathBuf> {
    backend("cachekit-backend-file")
}

/// Our Redis backend as a library.
pub(crate) fn redis() -> Result<PathBuf> {
    backend("cachekit-backend-redis")
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
    let mut libraries = BACKENDS.iter().map(|package| backend(package)).collect::<Result<Vec<_>>>()?;
    let place = libraries.first().and_then(|library| library.parent()).map(Path::to_owned).unwrap_or_default();
    libraries.push(c_memory(&place)?);
    for library in libraries {
        println!("{}", library.display());
    }
    Ok(())
}
