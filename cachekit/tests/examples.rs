//! Every example is run, and fails this test if it fails: what users copy first must be what works.
//!
//! An example asserts its own output and ends well, started as a user starts it, with nothing in its environment but what
//! its line in the table says. One that has no line fails the test as well.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cachekit_test_servers::redis::Redis;

/// What an example needs.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    /// A server, named by `CACHEKIT_REDIS_URL`.
    Redis,
    /// More than can be given here; the place that runs it.
    Elsewhere(&'static str),
}

/// All of them: the names of the files below `examples/`.
const EXAMPLES: &[(&str, Needs)] = &[
    ("axum_service", Needs::Nothing),
    ("batch_loader", Needs::Nothing),
    ("cached", Needs::Nothing),
    ("index_sources", Needs::Elsewhere("xtask/src/demo.rs")),
    ("redis_from_env", Needs::Redis),
    ("secure_sessions", Needs::Redis),
    ("tier_chain", Needs::Redis),
    ("tags", Needs::Nothing),
    ("two_processes", Needs::Redis),
    ("without_a_runtime", Needs::Nothing),
];

/// No example works for a minute; one that does hangs.
const HANGS: Duration = Duration::from_secs(120);

#[test]
fn every_example_has_its_line_and_every_line_its_example() {
    let differences = differences(&sources(), EXAMPLES);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn examples_that_need_nothing_run_to_their_end() {
    run_all(Needs::Nothing, &[]);
}

#[test]
fn examples_on_redis_run_to_their_end() {
    let server = Redis::start();
    run_all(Needs::Redis, &[("CACHEKIT_REDIS_URL", &server.url())]);
}

#[test]
fn an_example_that_fails_or_stands_in_no_table_is_seen() {
    assert!(run(Command::new("false")).is_err());
    assert!(run(Command::new("/nowhere/example")).is_err());
    assert!(run(Command::new("true")).is_ok());
    let asserting = |name: &&str| ((*name).to_owned(), "assert_eq!(1, 1)".to_owned());
    let sources = |names: &[&str]| names.iter().map(asserting).collect::<Vec<_>>();
    let known = [("a", Needs::Nothing), ("b", Needs::Nothing)];
    assert!(differences(&sources(&["a", "b"]), &known).is_empty());
    assert_eq!(differences(&sources(&["a", "b", "c"]), &known).len(), 1);
    assert_eq!(differences(&sources(&["a"]), &known).len(), 1);
    assert_eq!(differences(&[("a".to_owned(), "println!()".into())], &known[..1]).len(), 1, "it asserts nothing");
}

/// The examples with their texts.
fn sources() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    sources.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// What is wrong between the files and the table.
fn differences(sources: &[(String, String)], table: &[(&str, Needs)]) -> Vec<String> {
    let files: BTreeSet<&str> = sources.iter().map(|(name, _)| name.as_str()).collect();
    let lines: BTreeSet<&str> = table.iter().map(|(name, _)| *name).collect();
    let mut wrong: Vec<String> = files.difference(&lines).map(|name| format!("{name}.rs is run by nobody")).collect();
    wrong.extend(lines.difference(&files).map(|name| format!("there is no examples/{name}.rs")));
    for (name, needs) in table.iter().filter(|(_, needs)| *needs == Needs::Nothing) {
        let text = sources.iter().find(|(file, _)| file == name).map(|(_, text)| text.as_str());
        if *needs == Needs::Nothing && text.is_some_and(|text| !text.contains("assert")) {
            wrong.push(format!("{name}.rs asserts nothing, so it cannot fail"));
        }
    }
    for (name, needs) in table {
        if let Needs::Elsewhere(place) = needs {
            let place = cachekit_test_servers::root().join(place);
            let is_run = std::fs::read_to_string(&place).is_ok_and(|text| text.contains(name));
            if !is_run {
                wrong.push(format!("{name}.rs is not run by {}", place.display()));
            }
        }
    }
    wrong
}

fn run_all(needs: Needs, environment: &[(&str, &str)]) {
    let mut failed = Vec::new();
    for (name, _) in EXAMPLES.iter().filter(|(_, theirs)| *theirs == needs) {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(example(name));
        // Nothing of whoever runs the tests: no backend, no configuration file of his.
        command.env_clear().env("HOME", home.path()).envs(environment.iter().copied()).current_dir(home.path());
        if let Err(reason) = run(command) {
            failed.push(format!("{name}: {reason}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// The program of an example, which `cargo test` has built, unless it was told to build some targets alone.
fn example(name: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let program = deps.parent().unwrap().parent().unwrap().join("examples").join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).with_extension("rs");
    let written = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    if written(&program) < written(&source) {
        let built = Command::new(env!("CARGO")).args(["build", "-p", "cachekit", "--example", name]).status();
        assert!(built.unwrap().success(), "{name} is built");
    }
    program
}

/// Runs to the end; the error is what it said.
fn run(mut command: Command) -> Result<(), String> {
    let said = tempfile::tempfile().unwrap();
    let out = || Stdio::from(said.try_clone().unwrap());
    let child = command.stdin(Stdio::null()).stdout(out()).stderr(out()).spawn();
    let mut child = child.map_err(|error| format!("cannot be started: {error}"))?;
    let began = Instant::now();
    let ended = loop {
        match child.try_wait().unwrap() {
            Some(status) if status.success() => return Ok(()),
            Some(status) => break format!("ended with {status}"),
            None if began.elapsed() > HANGS => {
                let _ = child.kill();
                let _ = child.wait();
                break format!("did not end within {HANGS:?}");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    use std::io::{Read, Seek};
    let (mut said, mut text) = (said, String::new());
    said.rewind().and_then(|()| said.read_to_string(&mut text)).unwrap();
    Err(format!("{ended}\n{text}"))
}
