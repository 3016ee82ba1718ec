//! stdout carries values alone, survives its reader, and has one document with `--json` whatever happens.

use std::process::Stdio;

use crate::program::{Home, Ran};

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let home = Home::new();
    home.feed(["set", "k", "-"], &vec![b'x'; 1 << 20]).expect(0);
    for command in [
        &["get", "k"][..],
        &["keys"],
        &["stats"],
        &["health"],
        &["man"],
        &["completions", "bash"],
        &["--help"],
        &["--json", "get", "k"],
        &["config", "show"],
        &["inspect", "k"],
        &["raw", "get", "ck:default:k", "--hex"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran: Ran = home.command(command).stdout(writer).stderr(Stdio::piped()).output().unwrap().into();
        assert_eq!((ran.code, &*ran.err), (0, ""), "{command:?}");
    }
}

#[test]
fn a_command_learns_that_its_reader_has_gone() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = home.command(["run", "--ttl", "1m", "--", "yes"]);
    let ran: Ran = command.stdout(writer).stderr(Stdio::piped()).output().unwrap().into();
    // `yes` is ended by SIGPIPE, as it would be without us, or says that it cannot write.
    assert!(ran.code == 141 || ran.code == 1, "{ran:?}");
    assert!(home.run(["keys"]).expect(0).out.is_empty());
}

#[test]
fn usage_errors_are_a_document_too() {
    let home = Home::new();
    for command in [&["--json", "get"][..], &["--json", "nonsense"], &["get", "a", "--json", "--nonsense"]] {
        let ran = home.run(command).expect(2);
        assert_eq!(ran.json()["error"]["kind"], "usage", "{command:?}");
        assert!(ran.err.contains("Usage:"), "{}", ran.err);
    }
    let missing = home.run(["--json", "get"]).json();
    assert!(missing["error"]["message"].as_str().unwrap().contains("<KEY>"), "{missing}");
    // This one is an argument of the command that is to be run.
    assert!(home.run(["run", "--", "x", "--json"]).expect(2).out.is_empty());
}

#[test]
fn no_color_code_goes_where_no_terminal_is() {
    let home = Home::new();
    let ran = home.run(["--backend", "nonsense", "get", "k"]).expect(2);
    assert!(ran.err.starts_with("error: ") && !ran.err.contains('\x1b'), "{}", ran.err);
}

#[test]
fn logs_go_to_stderr_and_only_when_asked_for() {
    let home = Home::new();
    assert_eq!(home.run(["set", "k", "v"]).err, "");
    let mut command = home.command(["get", "k"]);
    let ran: Ran = command.env("LOG_LEVEL", "loud").output().unwrap().into();
    assert!(ran.err.contains("LOG_LEVEL") && ran.out == b"v", "{ran:?}");
}

#[test]
fn help_is_no_error() {
    let home = Home::new();
    assert!(home.run(["--help"]).expect(0).out().contains("Exit codes"));
    assert!(home.run(["--version"]).expect(0).out().starts_with("cachekit "));
    home.run([""; 0]).expect(2);
}
