#![forbid(unsafe_code)]
//! A call into a plugin stays as cheap as it was: instructions are counted, because times move with the machine.
//!
//! Both sides are built as they are shipped, with optimisation; an unoptimised border would say nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use cachekit_crossing::{BOUNDS, Bound, Count, Counter, Operation, Way, misses, table};
use serde_json::Value as Json;

/// Builds with `arguments`; the first file that `find` sees in cargo's messages about the target `name`.
///
/// In a folder of its own: a crate that is both cdylib and rlib gets no link-time optimisation where it is built as a
/// dependency, and both ways write the same file. Here the library always comes last.
fn build(arguments: &[&str], name: &str, find: impl Fn(&Json) -> Option<&str>) -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).arg("--message-format=json-render-diagnostics");
    cargo.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("crossing"));
    let output = cargo.stderr(Stdio::inherit()).output().expect("cargo can be run");
    assert!(output.status.success(), "{cargo:?} ended with {}", output.status);
    let messages = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let mut of_target =
        messages.filter(|message: &Json| message["reason"] == "compiler-artifact" && message["target"]["name"] == name);
    let found = of_target.find_map(|message| find(&message).map(PathBuf::from));
    found.unwrap_or_else(|| panic!("{cargo:?} made no {name}"))
}

/// Built and counted once for all tests here.
fn counts() -> &'static [Count] {
    static COUNTS: OnceLock<Vec<Count>> = OnceLock::new();
    COUNTS.get_or_init(|| {
        let program = ["build", "--release", "-p", "cachekit-crossing", "--bin", "crossing"];
        let program = build(&program, "crossing", |message| message["executable"].as_str());
        let library = ["rustc", "--release", "-p", "null-plugin", "--lib", "--crate-type", "cdylib"];
        let library = build(&library, "null_plugin", |message| {
            let files = message["filenames"].as_array()?;
            files.iter().filter_map(Json::as_str).find(|file| file.ends_with(".so"))
        });
        let counts = Counter { program, library }.count().unwrap_or_else(|failure| panic!("{failure}"));
        println!("{}", table(&counts));
        counts
    })
}

#[test]
fn a_call_into_a_plugin_stays_within_its_bounds() {
    let missed = misses(counts(), &BOUNDS);
    assert!(missed.is_empty(), "{}\n\n{}", missed.join("\n"), table(counts()));
}

#[test]
fn every_operation_was_counted_and_costs_something() {
    assert_eq!(counts().len(), 3 * Operation::ALL.len());
    for count in counts() {
        assert!(count.instructions >= 1.0, "{count:?}");
    }
}

/// The negative control: with what no border can hold the same comparison of the same counts goes red.
#[test]
fn bounds_that_no_border_can_hold_are_reported_as_missed() {
    let impossible: Vec<Bound> = BOUNDS
        .into_iter()
        .filter(|bound| bound.operation != Operation::Limits)
        .map(|bound| Bound { above_linked: if bound.way == Way::Tables { -1000.0 } else { 0.0 }, ..bound })
        .collect();
    let missed = misses(counts(), &impossible);
    assert_eq!(missed.len(), impossible.len(), "{missed:#?}\n\n{}", table(counts()));
    let get = [Bound { way: Way::Tables, operation: Operation::Get64, above_linked: 0.0 }];
    let missed = misses(counts(), &get);
    assert!(missed.len() == 1 && missed[0].starts_with("get 64 B by C ABI: +"), "{missed:?}");
}

#[test]
fn what_was_not_counted_is_a_miss() {
    let without_linked: Vec<Count> = counts().iter().filter(|count| count.way != Way::Linked).copied().collect();
    assert_eq!(misses(&without_linked, &BOUNDS).len(), BOUNDS.len());
    assert_eq!(misses(&[], &BOUNDS).len(), BOUNDS.len());
}
