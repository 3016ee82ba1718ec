//! Plugins that end the process they are in. Nothing inside of that process can contain them, so each is used in a child of this test,
//! and how the child ends is the evidence. What helps is a process of its own, which `cachekit plugin test` gives to each case.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Output};

use cachekit_e2e::artifacts;
use serde_json::Value as Json;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// With this code.
    Exit(i32),
    /// By this signal, of this name.
    Signal(i32, &'static str),
}

use Death::{Exit, Signal};

/// Variants of `tests/fixtures/bad-c`, what they do, how they end their host.
pub(crate) const FATAL: &[(&str, &str, Death)] = &[
    ("EXITS", "calls `exit(7)` in a call", Exit(7)),
    ("EXITS_AT_ONCE", "calls `_exit(7)` in a call", Exit(7)),
    ("EXITS_IN_CONSTRUCTOR", "calls `_exit(7)` when it is loaded", Exit(7)),
    ("ABORTS", "calls `abort` in a call", Signal(6, "SIGABRT")),
    ("ASSERTS", "an `assert` of its own fails", Signal(6, "SIGABRT")),
    ("RAISES", "sends a signal to its own process", Signal(15, "SIGTERM")),
    ("WILD_POINTER", "writes where it has no memory", Signal(11, "SIGSEGV")),
];

impl Death {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit(code),
            (None, Some(signal)) => Signal(signal, ""),
            (None, None) => unreachable!("it has ended"),
        }
    }

    fn is(self, other: Self) -> bool {
        match (self, other) {
            (Exit(code), Exit(same)) => code == same,
            (Signal(number, _), Signal(same, _)) => number == same,
            _ => false,
        }
    }

    /// What the document says of it.
    pub(crate) fn words(self) -> String {
        match self {
            Exit(code) => format!("**ends its host**: exit code {code}"),
            Signal(_, name) => format!("**ends its host**: {name}"),
        }
    }

    /// What `cachekit plugin test` says of it.
    pub(crate) fn told_as(self) -> String {
        match self {
            Exit(code) => format!("its process ended without a result (exit status: {code})"),
            Signal(number, name) => format!("its process was ended by {name} ({number})"),
        }
    }
}

fn ran(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Uses a library as any host does, in a child, and sees that it does not come back.
pub(crate) fn ends_its_host(name: &str, library: &Path, death: Death) {
    let used = ran(Command::new(env!("CARGO_BIN_EXE_exercise")).arg("once").arg(library).arg(""));
    let said = String::from_utf8_lossy(&used.stdout);
    assert!(death.is(Death::of(used.status)), "{name}: {} {said}", used.status);
    assert!(!said.contains("still there"), "{name}: {said}");
}

/// The control: a host that uses a right plugin is still there.
pub(crate) fn stays(library: &Path) {
    let used = ran(Command::new(env!("CARGO_BIN_EXE_exercise")).arg("once").arg(library).arg(""));
    assert_eq!((Death::of(used.status), &*used.stdout), (Exit(0), &b"still there\n"[..]));
}

/// The program, at home where the library lies.
fn program(library: &Path) -> Command {
    let mut program = Command::new(artifacts::program());
    program.env_clear().env("HOME", library.parent().expect("it lies in a directory"));
    program
}

/// What the program says to the author of such a library: it lives, and names how the case ended.
pub(crate) fn told_by_the_test(name: &str, library: &Path, death: Death) {
    let mut test = program(library);
    test.args(["plugin", "test", "--store-per-instance", "--json"]);
    let told = ran(test.args(["--case", "a_missing_key_is_an_answer_and_no_error"]).arg(library));
    assert_eq!(told.status.code(), Some(5), "{name}: {told:?}");
    let document: Json = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{name}: {told:?}"));
    // One that does not survive being loaded is one error and not a failure of each case.
    let reason = document["cases"][0]["reason"].as_str().or(document["error"]["message"].as_str());
    let reason = reason.unwrap_or_else(|| panic!("{name}: {document}"));
    assert!(reason.contains(&death.told_as()), "{name}: {reason}");
}

/// What is measured is measured here, without a process between: the program goes with the plugin, as any host does.
pub(crate) fn ends_the_bench(name: &str, library: &Path, death: Death) {
    let mut bench = program(library);
    bench.args(["plugin", "bench", "--duration", "1s"]).arg(library);
    let ended = ran(&mut bench);
    assert!(death.is(Death::of(ended.status)), "{name}: {ended:?}");
}
