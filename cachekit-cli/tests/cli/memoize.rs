//! `run`: the output of a command, stored once and replayed.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::program::Home;

/// A script that leaves a line in `marker` each time it runs.
fn counting(home: &Home, script: &str) -> String {
    format!("echo ran >> {}; {script}", home.path().join("marker").display())
}

fn runs(home: &Home) -> usize {
    std::fs::read_to_string(home.path().join("marker")).map_or(0, |text| text.lines().count())
}

#[test]
fn both_streams_and_the_exit_code_are_replayed_byte_for_byte() {
    let home = Home::patient();
    let script = counting(&home, r"printf 'out\000\377'; printf 'err\r\n' >&2; exit 7");
    let first = home.run(["run", "--ttl", "10m", "--", "sh", "-c", &script]).expect(7);
    let second = home.run(["run", "--ttl", "10m", "--", "sh", "-c", &script]).expect(7);
    assert_eq!(runs(&home), 1);
    for ran in [first, second] {
        assert_eq!((&*ran.out, &*ran.err), (&b"out\0\xff"[..], "err\r\n"));
    }
}

#[test]
fn the_key_holds_arguments_directory_and_named_variables() {
    let home = Home::patient();
    let script = counting(&home, "echo $0");
    let run = |more: &[&str]| home.run(["run", "--ttl", "10m", "--", "sh", "-c", &script].iter().chain(more)).expect(0);
    run(&["a"]);
    run(&["a"]);
    assert_eq!(runs(&home), 1);
    run(&["b"]);
    assert_eq!(runs(&home), 2);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = home.command(["run", "--ttl", "10m", "--", "sh", "-c", &script, "a"]);
    assert!(command.current_dir(elsewhere.path()).stdout(Stdio::null()).status().unwrap().success());
    assert_eq!(runs(&home), 3);
    for (value, expected) in [("1", 4), ("1", 4), ("2", 5)] {
        let mut command = home.command(["run", "--ttl", "10m", "--env", "SHADE", "--", "sh", "-c", &script, "a"]);
        assert!(command.env("SHADE", value).stdout(Stdio::null()).status().unwrap().success());
        assert_eq!(runs(&home), expected);
    }
}

#[test]
fn a_key_of_ones_own_names_the_entry() {
    let home = Home::patient();
    home.run(["run", "--ttl", "10m", "--key", "job", "--", "echo", "one"]).expect(0);
    assert_eq!(home.run(["run", "--ttl", "10m", "--key", "job", "--", "echo", "two"]).expect(0).out(), "one\n");
    home.run(["del", "job"]).expect(0);
    assert_eq!(home.run(["run", "--ttl", "10m", "--key", "job", "--", "echo", "two"]).expect(0).out(), "two\n");
    home.run(["run", "--ttl", "10m", "--key", "job", "--env", "X", "--", "true"]).expect(2);
}

#[test]
fn a_command_that_cannot_be_started_is_a_document_too() {
    let home = Home::patient();
    // The second time shows that the lease was given back; the last has no store that could be opened.
    let in_the_way = home.write("file", "where the directory should be");
    let broken = format!("file://{}", in_the_way.display());
    for (store, program, code) in [
        (&[][..], "./nothing", 127),
        (&[], "./nothing", 127),
        (&[], "/", 126),
        (&["--backend", &broken], "./nothing", 127),
    ] {
        let ran = home.run(store.iter().chain(&["--json", "run", "--ttl", "1m", "--", program])).expect(code);
        let error = &ran.json()["error"];
        assert_eq!(error["kind"], "not_started", "{ran:?}");
        assert!(error["message"].as_str().unwrap().contains("cannot be started"), "{ran:?}");
        assert!(ran.err.contains("cannot be started"), "{ran:?}");
    }
}

#[test]
fn refresh_runs_now_and_replaces_what_is_stored() {
    let home = Home::patient();
    let job = |args: &[&str], word: &str| {
        let start = ["run", "--ttl", "10m", "--key", "job"];
        home.run(start.iter().chain(args).chain(&["--", "echo", word])).expect(0).out().to_owned()
    };
    assert_eq!(job(&[], "one"), "one\n");
    assert_eq!(job(&["--refresh"], "two"), "two\n");
    assert_eq!(job(&[], "three"), "two\n");
}

#[test]
fn failures_are_stored_too_unless_only_successes_are_wanted() {
    let home = Home::patient();
    let script = counting(&home, "exit 1");
    for expected in [1, 2] {
        home.run(["run", "--ttl", "10m", "--success-only", "--", "sh", "-c", &script]).expect(1);
        assert_eq!(runs(&home), expected);
    }
    for _ in 0..2 {
        home.run(["run", "--ttl", "10m", "--", "sh", "-c", &script]).expect(1);
        assert_eq!(runs(&home), 3);
    }
}

#[test]
fn a_command_that_a_signal_ended_is_not_stored() {
    let home = Home::patient();
    let script = counting(&home, "kill -KILL $$");
    for expected in [1, 2] {
        home.run(["run", "--ttl", "10m", "--", "sh", "-c", &script]).expect(137);
        assert_eq!(runs(&home), expected);
    }
}

#[test]
fn a_command_that_cannot_be_started_has_the_exit_codes_of_shells() {
    let home = Home::patient();
    assert!(home.run(["run", "--ttl", "1m", "--", "no-such-command"]).expect(127).err.contains("no-such-command"));
    let file = home.write("not-executable", "");
    home.run(["run", "--ttl", "1m", "--", file.to_str().unwrap()]).expect(126);
    assert!(home.run(["keys"]).expect(0).out.is_empty());
}

#[test]
fn a_command_reads_nothing_that_is_not_in_its_key() {
    let home = Home::patient();
    assert_eq!(home.feed(["run", "--ttl", "1m", "--", "cat"], b"input").expect(0).out, b"");
}

#[test]
fn output_beyond_the_limit_is_shown_and_not_stored() {
    let home = Home::patient();
    let config = home.write("c.toml", "max_value = 1000\n");
    let script = counting(&home, "head -c 5000 /dev/zero");
    for expected in [1, 2] {
        let ran = home.run(["--config", config.to_str().unwrap(), "run", "--ttl", "1m", "--", "sh", "-c", &script]);
        assert_eq!((ran.code, ran.out.len(), runs(&home)), (0, 5000, expected));
        assert!(ran.err.contains("not stored"), "{}", ran.err);
    }
}

#[test]
fn an_outage_does_not_keep_the_command_from_running() {
    let home = Home::patient();
    let file = home.write("file", "");
    let url = format!("file://{}/below", file.display());
    let ran = home.run(["--backend", &url, "run", "--ttl", "1m", "--", "sh", "-c", "echo out; exit 5"]).expect(5);
    assert!(ran.out() == "out\n" && ran.err.contains("uncached"), "{}", ran.err);
}

#[test]
fn a_mistake_in_the_configuration_does() {
    let home = Home::patient();
    let script = counting(&home, "true");
    home.run(["--backend", "file://relative", "run", "--ttl", "1m", "--", "sh", "-c", &script]).expect(2);
    home.run(["run", "--", "sh", "-c", &script]).expect(2);
    home.run(["run", "--ttl", "0", "--", "sh", "-c", &script]).expect(2);
    assert_eq!(runs(&home), 0);
}

#[test]
fn a_damaged_entry_is_replaced_by_running_again() {
    let home = Home::patient();
    let script = counting(&home, "echo out");
    let run = || home.run(["run", "--ttl", "10m", "--", "sh", "-c", &script]).expect(0);
    run();
    home.damage_the_entry(1);
    let again = run();
    assert!(again.out() == "out\n" && again.err.contains("refused"), "{}", again.err);
    assert!(run().err.is_empty());
    assert_eq!(runs(&home), 2);
}

#[test]
fn somebody_elses_entry_is_left_alone() {
    let home = Home::patient();
    home.run(["set", "job", "precious"]).expect(0);
    let ran = home.run(["run", "--ttl", "1m", "--key", "job", "--", "echo", "out"]).expect(0);
    assert!(ran.out() == "out\n" && ran.err.contains("left alone"), "{}", ran.err);
    assert_eq!(home.run(["get", "job"]).expect(0).out(), "precious");
}

#[test]
fn a_hundred_at_once_run_the_command_once() {
    let home = Home::patient();
    let script = counting(&home, "sleep 1; echo done");
    let children: Vec<_> = (0..100)
        .map(|_| {
            let mut command = home.command(["run", "--ttl", "10m", "--", "sh", "-c", &script]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == b"done\n", "{:?} {err}", output.status);
    }
    assert_eq!(runs(&home), 1);
}

#[test]
fn a_command_that_takes_longer_than_a_lease_is_still_run_once() {
    let home = Home::patient();
    // A lease is held for 10 s and renewed.
    let script = counting(&home, "sleep 12; echo done");
    let run = || {
        let mut command = home.command(["run", "--ttl", "10m", "--", "sh", "-c", &script]);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let children = [run(), run(), run()];
    for child in children {
        assert_eq!(child.wait_with_output().unwrap().stdout, b"done\n");
    }
    assert_eq!(runs(&home), 1);
}

#[test]
fn a_waiter_runs_the_command_itself_in_the_end() {
    let home = Home::patient();
    // The first one ends when the second has begun to run it: that is what it waits for.
    let script = counting(&home, "until [ \"$(wc -l < marker)\" -ge 2 ]; do sleep 0.05; done");
    let mut first = home.command(["run", "--ttl", "10m", "--", "sh", "-c", &script]).spawn().unwrap();
    while runs(&home) == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = home.run(["run", "--ttl", "10m", "--wait", "100ms", "--", "sh", "-c", &script]).expect(0);
    assert!(second.err.contains("run here too"), "{}", second.err);
    assert!(first.wait().unwrap().success());
    assert_eq!(runs(&home), 2);
}

#[test]
fn a_killed_holder_keeps_others_waiting_no_longer_than_its_lease() {
    let home = Home::patient();
    let script = counting(&home, "[ -e go ] || exec sleep 20; echo done");
    let command = ["run", "--ttl", "10m", "--", "sh", "-c", &script];
    let mut holder = home.command(command).spawn().unwrap();
    while runs(&home) == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    home.write("go", "");
    let waiter = home.run(command).expect(0);
    // Not because it lost patience: that it would have said.
    assert_eq!((waiter.out(), &*waiter.err), ("done\n", ""));
    assert_eq!(runs(&home), 2);
}

#[test]
fn whoever_ends_the_program_ends_the_command_and_nothing_is_stored() {
    let home = Home::patient();
    let script = counting(&home, "trap 'kill $!; exit 9' TERM; echo partial; sleep 600 & wait");
    let child = home.command(["run", "--ttl", "10m", "--", "sh", "-c", &script]).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    // Its trap is set once it has printed.
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert!(home.run(["keys"]).expect(0).out.is_empty());
}

#[test]
fn with_json_the_output_is_in_the_document() {
    let home = Home::patient();
    let run =
        || home.run(["--json", "run", "--ttl", "10m", "--key", "j", "--", "sh", "-c", "echo o; echo e >&2; exit 4"]);
    let expected = |hit| {
        json!({
            "key": "j", "hit": hit, "stored": true, "exit_code": 4,
            "stdout": "o\n", "stdout_hex": "6f0a", "stderr": "e\n", "stderr_hex": "650a",
        })
    };
    for hit in [false, true] {
        let ran = run().expect(4);
        assert_eq!((ran.json(), &*ran.err), (expected(hit), ""));
    }
}
