//! The main job on real input: one program, built once, caches an expensive job over this repository's own sources
//! through a backend that its configuration names. Then the same program, not rebuilt, with another backend.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{cargo, plugins, root, run, setup, step};

pub(crate) fn run_demo() -> Result<()> {
    setup::ensure(&[setup::CC, setup::MAKE])?;
    step("building the host program (examples/index_sources.rs) and two plugins");
    let host_arguments = ["build", "--release", "-p", "cachekit", "--example", "index_sources"];
    let host = cargo::build(&host_arguments, "cachekit", "example")?;
    let dir = tempfile::Builder::new().prefix("cachekit-demo-").tempdir()?;
    let place = dir.path().canonicalize()?;
    let file_plugin = plugins::file()?.canonicalize()?;
    let c_plugin = plugins::c_memory(&place)?;
    let config = place.join("cachekit.toml");

    let file_toml = format!(
        "namespace = \"demo\"\nttl = \"1h\"\n\n[[tier]]\npath = {file_plugin:?}\n\n[tier.options]\ndir = {:?}\n",
        place.join("store")
    );
    step("the File backend, loaded from a shared library");
    show(&config, &file_toml)?;
    step("first process: the store is empty");
    index(&host, &config)?;
    step("second process: the store still has what the first one left");
    index(&host, &config)?;

    let c_toml = format!(
        "namespace = \"demo\"\nttl = \"1h\"\n\n[[tier]]\npath = {c_plugin:?}\n\n[tier.options]\nmax_bytes = 67108864\n"
    );
    step("the same program, not rebuilt, with a backend written in C: only the configuration changes");
    show(&config, &c_toml)?;
    index(&host, &config)?;
    step("done; the same backends answer to the command-line program: cargo run -q -p cachekit-cli -- --help");
    Ok(())
}

fn show(config: &Path, toml: &str) -> Result<()> {
    fs::write(config, toml)?;
    println!("{}:", config.display());
    for line in toml.lines() {
        println!("    {line}");
    }
    Ok(())
}

fn index(host: &Path, config: &Path) -> Result<()> {
    run(Command::new(host).arg("--config").arg(config).arg(root()))
}
