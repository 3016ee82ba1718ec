#![forbid(unsafe_code)]
//! The project's tasks, in Rust so that they run wherever the project does.
//!
//! The two that a newcomer needs are `demo` and `test`; both set up what they need and say so.

mod bench;
mod cargo;
mod demo;
mod plugins;
mod setup;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
cargo xtask <task>

  demo              a program caches an expensive job through backends it loads from shared libraries
  test              everything: format, lints, tidy, unit, doc, conformance, end-to-end
  tidy              the house rules that a machine can check
  chaos             the long faults on real servers, with figures (--quick, --json, --seed N, --list, names);
                    interleaver: what one process does, a step at a time on a store and a clock that are held
  plugins           release builds of our plugins, and where they are
  header            writes cachekit-abi/include/cachekit_plugin.h anew
  bench <name>      crossing, file, l1, l2 or stall, side by side with its peers (more arguments are passed on);
                    coherence: how soon a write in one process evicts L1 in another";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["demo"] => demo::run_demo(),
        ["test"] => test::run_tests(),
        ["tidy"] => tidy::check(&root()),
        ["chaos", "interleaver"] => interleaver(),
        ["chaos", rest @ ..] => chaos(rest),
        ["plugins"] => plugins::run(),
        ["header"] => header(),
        ["bench", name, rest @ ..] => bench::run(name, rest),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("xtask: no such task: {}\n\n{USAGE}", other.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            // What only the caller can mend is no failure of the project.
            if error.is::<setup::Missing>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Built for release: a debug build is so slow that few faults meet an operation under way.
fn chaos(arguments: &[&str]) -> Result<()> {
    setup::ensure(&[setup::REDIS, setup::MEMCACHED, setup::CURL])?;
    let program = cargo::build(&["build", "--release", "--quiet", "-p", "cachekit-cli"], "cachekit-cli", "bin")?;
    let chaos = ["run", "--release", "--quiet", "-p", "cachekit-chaos", "--", "--program"];
    run(cargo::cargo().args(chaos).arg(program).args(arguments))
}

/// As the tests of the engine do on every run, for longer: the story with the store inside, where every await is a place to stop.
fn interleaver() -> Result<()> {
    let test =
        ["test", "--release", "--quiet", "-p", "cachekit-core", "--lib", "--", "--nocapture", "tests::interleave"];
    run(cargo::cargo().args(test).env("CACHEKIT_INTERLEAVINGS", "100000"))
}

fn header() -> Result<()> {
    let path = root().join("cachekit-abi/include/cachekit_plugin.h");
    run(cargo::cargo().args(["run", "--quiet", "-p", "cachekit-abi", "--example", "header", "--"]).arg(&path))
}

/// The workspace, wherever the task was started.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Says what is done now.
fn step(text: &str) {
    eprintln!("\n==> {text}");
}

/// Runs a command to its end and fails with its words.
fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("{shown} cannot be started"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}
