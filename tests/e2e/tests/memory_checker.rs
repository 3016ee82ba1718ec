//! Host and libraries below valgrind: no byte is used that was not given, none after it was taken back, and nothing that was given is
//! lost. A test of its own, because what is checked is built on its own: `artifacts::checked` says why.

use std::path::{Path, PathBuf};
use std::process::Command;

use cachekit_e2e::{Place, artifacts};
use serde_json::json;

/// How valgrind ends when it has heard something.
const HEARD: i32 = 99;

/// Every operation of a library, on two instances; how it ended, and all that was said.
///
/// Lost is what nobody points at any more. What threads hold that are still there at the end, and what a runtime keeps for ever on
/// purpose, is neither lost nor growing: `resources.rs` has that.
fn below_valgrind(library: &Path, options: &str) -> (Option<i32>, String) {
    let mut valgrind = Command::new("valgrind");
    valgrind.arg(format!("--error-exitcode={HEARD}"));
    valgrind.args(["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]);
    valgrind.args(["--fair-sched=yes", "--num-callers=40"]).arg(&artifacts::checked().host);
    let ran = valgrind.arg(library).args([options, "calls"]).output();
    let ran = ran.unwrap_or_else(|error| panic!("valgrind: {error}; `cargo xtask test` installs it"));
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    (ran.status.code(), said)
}

#[test]
fn no_byte_is_used_that_was_not_given_and_none_is_lost() {
    let place = Place::new();
    let c = |variant| (variant, artifacts::bad_c(&place, Some(variant)), String::new());
    let checked = artifacts::checked();
    let chaos = |mode: &str| {
        // With an allocator of its own, which ends the process when it is given what is not its.
        let options = json!({ "mode": mode, "macros": true, "counts": true, "greeting": "hello" });
        ("chaos", checked.chaos.clone(), options.to_string())
    };
    let cases: [(&str, PathBuf, String); 21] = [
        ("C", artifacts::bad_c(&place, None), String::new()),
        ("C, the example", artifacts::c_memory().to_owned(), String::new()),
        c("SLOW"),
        c("ASYNC_GOOD"),
        c("ASYNC_WAKE_TWICE"),
        c("ASYNC_SPURIOUS"),
        c("ASYNC_REFUSES"),
        c("ASYNC_LIES_READY"),
        c("LIES_LENGTH"),
        c("LIES_NULL"),
        c("LIES_MISS"),
        c("LIES_STATUS"),
        c("LIES_ERROR_LENGTH"),
        c("HUGE_ERROR"),
        c("LIES_HEALTH"),
        c("SCAN_TOO_MANY"),
        ("memory", checked.memory.clone(), String::new()),
        ("file", checked.file.clone(), json!({ "dir": place.path().join("store") }).to_string()),
        chaos("none"),
        chaos("sleep"),
        chaos("panic_in_poll"),
    ];
    for (name, library, options) in &cases {
        let began = std::time::Instant::now();
        let (code, said) = below_valgrind(library, options);
        assert_eq!(code, Some(0), "{name} {options}: {said}");
        assert!(said.contains("ERROR SUMMARY: 0 errors") && said.contains(" values of "), "{name} {options}: {said}");
        println!("{name} {options}: {:?}", began.elapsed());
    }
}

/// The controls: a value that its library has freed already, and a value that it loses.
#[test]
fn a_value_that_was_freed_and_one_that_was_lost_are_heard() {
    let place = Place::new();
    for (variant, words) in [("USE_AFTER_FREE", "Invalid read"), ("LEAKY", "definitely lost")] {
        let (code, said) = below_valgrind(&artifacts::bad_c(&place, Some(variant)), "");
        assert_eq!(code, Some(HEARD), "{variant}: {said}");
        assert!(said.contains(words), "{variant}: {said}");
    }
}
