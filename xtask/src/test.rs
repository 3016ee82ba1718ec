//! Everything that has to hold, from nothing: the README's test command, which is also what the continuous integration
//! runs.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::cargo::cargo;
use crate::{root, run, setup, step, tidy};

pub(crate) fn run_tests() -> Result<()> {
    let began = Instant::now();
    let programs = [setup::CC, setup::CXX, setup::MAKE, setup::VALGRIND, setup::PYTHON];
    let servers = [setup::REDIS, setup::MEMCACHED, setup::CURL];
    setup::ensure(programs.iter().chain(&servers))?;
    foreign_compiler()?;
    component("rustfmt", "fmt")?;
    component("clippy", "clippy")?;

    step("format");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    step("tidy");
    tidy::check(&root())?;
    step("lints");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    step("features that are off");
    let small = ["check", "--quiet", "-p", "cachekit", "--no-default-features", "--all-targets"];
    run(cargo().args(small).env("RUSTFLAGS", "-D warnings").env("CARGO_TARGET_DIR", root().join("target/small")))?;
    step("documentation");
    let doc = ["doc", "--workspace", "--no-deps", "--quiet"];
    run(cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    // Before the others, which load what this builds.
    example("http")?;
    example("dynamodb")?;
    step("tests: unit, doc, conformance, end to end");
    run(cargo().args(["test", "--workspace", "--no-fail-fast"]))?;
    step(&format!("all passed in {} s", began.elapsed().as_secs()));
    Ok(())
}

/// An example plugin in Rust, from its own manifest: nothing of the workspace names it. Its dependencies are compiled in a folder
/// of their own, and once.
fn example(name: &str) -> Result<()> {
    let manifest = root().join("plugins-example").join(name).join("Cargo.toml");
    let task = |command: &str, arguments: &[&str]| {
        let mut task = cargo();
        task.arg(command).arg("--manifest-path").arg(&manifest).args(arguments);
        task.env("CARGO_TARGET_DIR", root().join("target").join(name));
        run(&mut task)
    };
    step(&format!("the example plugin {name}: format, lints, tests"));
    task("fmt", &["--check"])?;
    task("clippy", &["--all-targets", "--quiet", "--", "-D", "warnings"])?;
    task("test", &["--no-fail-fast"])
}

/// A second compiler for the plugins that a host of this one loads: nightly where rustup has it, else the distribution's.
fn foreign_compiler() -> Result<()> {
    let nightly = Command::new("rustup").args(["run", "nightly", "rustc", "--version"]).output();
    if nightly.is_ok_and(|output| output.status.success()) || setup::has("rustc-web") {
        return Ok(());
    }
    let packaged = Command::new("/usr/bin/rustc").arg("--version").output();
    if packaged.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    step("a second Rust compiler is needed, to load plugins of another compiler");
    setup::install(&["rustc-web", "cargo-web"])
}

/// A part of the toolchain that minimal installations lack.
fn component(name: &str, subcommand: &str) -> Result<()> {
    let there = cargo().args([subcommand, "--version"]).output().is_ok_and(|output| output.status.success());
    if there {
        return Ok(());
    }
    step(&format!("rustup component add {name}"));
    run(Command::new("rustup").args(["component", "add", name]))
}
