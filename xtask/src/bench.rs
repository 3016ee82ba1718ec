//! Benches side by side with their peers, in a workspace of their own so that peers never enter `cargo test`.

use anyhow::{Result, bail};

use crate::cargo::cargo;

pub(crate) fn run(name: &str, rest: &[&str]) -> Result<()> {
    if name == "coherence" {
        return coherence();
    }
    if !["codec", "crossing", "file", "l1", "l2", "outage", "overload", "secure", "stall"].contains(&name) {
        bail!("no bench {name:?}; there are codec, coherence, crossing, file, l1, l2, outage, overload, secure, stall");
    }
    let manifest = ["run", "--release", "--manifest-path", "benches-compare/Cargo.toml", "--", name];
    crate::run(cargo().args(manifest).args(rest))
}

/// How soon a write in one process evicts L1 in another: the test of that, for longer. It has no peers.
fn coherence() -> Result<()> {
    let test = ["test", "--release", "-p", "cachekit-e2e", "--test", "invalidation"];
    let name = ["--", "--exact", "--nocapture", "a_write_in_one_process_evicts_l1_in_another"];
    for over in ["a Unix socket", "the loopback device"] {
        println!("Redis over {over}:");
        let mut command = cargo();
        command.args(test).args(name).env("CACHEKIT_COHERENCE_ROUNDS", "5000");
        if over == "the loopback device" {
            command.env("CACHEKIT_COHERENCE_TCP", "1");
        }
        crate::run(&mut command)?;
    }
    Ok(())
}
