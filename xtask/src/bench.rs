//! Benches side by side with their peers, in a workspace of their own so that peers never enter `cargo test`.

use anyhow::{Result, bail};

use crate::cargo::cargo;

pub(crate) fn run(name: &str, rest: &[&str]) -> Result<()> {
    if !["crossing", "file", "l1", "l2", "stall"].contains(&name) {
        bail!("no bench {name:?}; there are crossing, file, l1, l2, stall");
    }
    let manifest = ["run", "--release", "--manifest-path", "benches-compare/Cargo.toml", "--", name];
    crate::run(cargo().args(manifest).args(rest))
}
