//! Everything that has to hold, from nothing: the README's test command, which is also what the continuous integration
//! runs.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value as Json;

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
    for name in EXAMPLES {
        step(&format!("the example plugin {name}: format, lints, building"));
        run(example(name, "fmt").arg("--check"))?;
        run(example(name, "clippy").args(["--all-targets", "--quiet", "--", "-D", "warnings"]))?;
        run(example(name, "test").args(["--quiet", "--no-run"]))?;
    }
    step("tests: building");
    run(cargo().args(["test", "--quiet", "--workspace", "--no-run"]))?;
    step("tests: unit, doc, conformance, end to end; beside them those of the example plugins, shown as they end");
    let results = thread::scope(|scope| {
        let beside = scope.spawn(beside_the_others);
        let others = the_others();
        [beside.join().unwrap_or_else(|_| Err(anyhow!("the tests of the example plugins were not run"))), others]
    });
    all(results)?;
    step(&format!("all passed in {} s", began.elapsed().as_secs()));
    Ok(())
}

/// Example plugins in Rust, each from its own manifest: nothing of the workspace names them.
const EXAMPLES: [&str; 2] = ["http", "dynamodb"];
/// End-to-end tests of these.
const OF_EXAMPLES: [&str; 2] = ["http_plugin", "dynamodb"];

/// Cargo on an example plugin. Its dependencies are compiled in a folder of their own, and once.
fn example(name: &str, command: &str) -> Command {
    let mut cargo = cargo();
    cargo.arg(command).arg("--manifest-path").arg(root().join("plugins-example").join(name).join("Cargo.toml"));
    cargo.env("CARGO_TARGET_DIR", root().join("target").join(name));
    cargo
}

/// The tests of the example plugins. A third of all the time goes to exchanges with servers written in Python, one after the
/// other, and the rest of the machine is free for what does not need them. Every command is run, and its output shown in one
/// piece.
fn beside_the_others() -> Result<()> {
    let native = EXAMPLES.map(|name| example(name, "test"));
    let mut loaded = cargo();
    loaded.args(["test", "--workspace"]).args(OF_EXAMPLES.iter().flat_map(|name| ["--test", name]));
    let result = |mut command: Command| {
        let shown = format!("{command:?}");
        let output = command.arg("--no-fail-fast").output().with_context(|| format!("{shown} cannot be started"))?;
        // In one piece: other tests print meanwhile.
        let text = [format!("\n==> {shown}\n").as_bytes(), &output.stdout, &output.stderr].concat();
        io::stderr().lock().write_all(&text)?;
        if output.status.success() { Ok(()) } else { bail!("{shown} ended with {}", output.status) }
    };
    all(native.into_iter().chain([loaded]).map(result))
}

/// Every failure and not the first one alone.
fn all(results: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let failed: Vec<String> = results.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    if failed.is_empty() { Ok(()) } else { bail!(failed.join("\n")) }
}

/// All tests of the workspace but those.
fn the_others() -> Result<()> {
    let metadata = cargo().args(["metadata", "--no-deps", "--format-version=1"]).output()?;
    let metadata: Json = serde_json::from_slice(&metadata.stdout).context("what cargo metadata said")?;
    let targets =
        metadata["packages"].as_array().into_iter().flatten().flat_map(|package| package["targets"].as_array());
    let names: BTreeSet<&str> = targets
        .flatten()
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|target| target["name"].as_str())
        .filter(|name| !OF_EXAMPLES.contains(name))
        .collect();
    // Were the form of the answer another, this would pass with a part of the tests.
    ensure!(names.contains("conformance"), "cargo metadata names no test targets");
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]);
    let tests = run(tests.args(names.iter().flat_map(|name| ["--test", name])));
    // They cannot be chosen along with the others.
    all([tests, run(cargo().args(["test", "--workspace", "--no-fail-fast", "--doc"]))])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_hides_no_other() {
        assert!(all([Ok(()), Ok(())]).is_ok());
        let failed = all([Err(anyhow!("first")), Ok(()), Err(anyhow!("second"))]).unwrap_err().to_string();
        assert_eq!(failed, "first\nsecond");
    }
}
