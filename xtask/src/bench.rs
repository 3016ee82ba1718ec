//! Benches side by side with their peers, in a workspace of their own so that peers never enter `cargo test`.

use anyhow::{Result, bail};

use crate::cargo::cargo;
use crate::setup;

pub(crate) fn run(name: &str, rest: &[&str]) -> Result<()> {
    if !["crossing", "crossing-ir", "file", "l1"].contains(&name) {
        bail!("no bench {name:?}; there are crossing, crossing-ir, file, l1");
    }
    if name == "crossing-ir" {
        setup::ensure(&[setup::VALGRIND])?;
    }
    let manifest = ["run", "--release", "--manifest-path", "benches-compare/Cargo.toml", "--", name];
    crate::run(cargo().args(manifest).args(rest))
}
