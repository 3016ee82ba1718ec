//! copy: from one store to another, with lives, and nothing lost silently.

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use serde_json::json;

use crate::program::Home;

/// URL of a directory below the home.
fn dir(home: &Home, name: &str) -> String {
    format!("file://{}", home.path().join(name).display())
}

fn set(home: &Home, url: &str, key: &str, value: &str, life: &[&str]) {
    home.run([&["--backend", url, "set", key, value], life].concat()).expect(0);
}

fn get(home: &Home, url: &str, key: &str) -> String {
    home.run(["--backend", url, "get", key]).expect(0).out().to_owned()
}

#[test]
fn entries_arrive_with_the_lives_they_have_left() {
    let home = Home::new();
    let (from, to) = (dir(&home, "from"), dir(&home, "to"));
    for number in 0..25 {
        set(&home, &from, &format!("key {number}"), &format!("value {number}"), &["--ttl", "1h"]);
    }
    set(&home, &from, "for ever", "value", &["--no-expiry"]);
    set(&home, &from, "over", "value", &["--ttl", "1ms"]);
    let ran = home.run(["copy", &from, &to, "--batch", "10", "--verify", "--json"]).expect(0).json();
    assert_eq!((&ran["copied"], &ran["verified"], &ran["complete"]), (&json!(26), &json!(26), &json!(true)), "{ran}");
    assert_eq!((&ran["failed"], &ran["different"]), (&json!({}), &json!(0)));
    assert_eq!(get(&home, &to, "key 7"), "value 7");
    let left = home.run(["--backend", &to, "ttl", "key 7", "--json"]).json()["ttl_ms"].as_u64().unwrap();
    assert!(left > 3_000_000 && left <= 3_600_000, "{left}");
    assert_eq!(home.run(["--backend", &to, "ttl", "for ever"]).expect(0).out(), "never\n");
    home.run(["--backend", &to, "get", "over"]).expect(1);
    // A second time changes nothing. What is over is listed until the store has swept it, which it does when it likes.
    let ran = home.run(["copy", &from, &to]).expect(0);
    let (listed, swept) = ("26 entries of 27 copied", "26 entries of 26 copied");
    let gone = ran.out().contains("left out (gone): 1");
    assert!(ran.out().starts_with(if gone { listed } else { swept }), "{ran:?}");
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let home = Home::new();
    let (from, to) = (dir(&home, "from"), dir(&home, "to"));
    set(&home, &from, "k", "value", &[]);
    let ran = home.run(["copy", &from, &to, "--dry-run"]).expect(0);
    assert!(ran.out().starts_with("1 entries of 1 would be copied"), "{ran:?}");
    home.run(["--backend", &to, "get", "k"]).expect(1);
}

#[test]
fn a_dry_run_leaves_the_place_of_the_copy_that_is_to_go_on() {
    let home = Home::new();
    let (from, to) = (dir(&home, "from"), dir(&home, "to"));
    set(&home, &from, "k", "value", &[]);
    // As a copy between the two leaves it when it is cut off: of source, target, prefix and run, each with its length.
    let mut digest = Blake2b::<U32>::new();
    for part in [&*from, &to, "", ""] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let copy: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let text = json!({ "version": 1, "copy": copy, "cursor": null }).to_string();
    let place = home.write("place", &text);
    let args = ["copy", &from, &to, "--resume", place.to_str().unwrap()];
    home.run(args.iter().chain(&["--dry-run"])).expect(0);
    assert_eq!(std::fs::read_to_string(&place).unwrap(), text);
    home.run(args).expect(0);
    assert!(!place.exists());
}

#[test]
fn one_namespace_or_prefix_can_be_copied_alone() {
    let home = Home::new();
    let (from, to) = (dir(&home, "from"), dir(&home, "to"));
    for namespace in ["one", "two"] {
        home.run(["--backend", &from, "--namespace", namespace, "set", "k", namespace]).expect(0);
    }
    let counts = |args: &[&str]| {
        let ran = home.run([&["copy", &from, &to, "--json"], args].concat()).expect(0).json();
        (ran["listed"].clone(), ran["copied"].clone())
    };
    assert_eq!(counts(&["--namespace", "one"]), (json!(1), json!(1)));
    home.run(["--backend", &to, "--namespace", "two", "get", "k"]).expect(1);
    assert_eq!(counts(&["--prefix", "ck:t"]), (json!(1), json!(1)));
    assert_eq!(home.run(["--backend", &to, "--namespace", "two", "get", "k"]).expect(0).out(), "two");
    home.run(["copy", &from, &to, "--prefix", "ck:", "--namespace", "one"]).expect(2);
}

#[test]
fn what_cannot_be_copied_is_counted_by_its_reason_and_the_code_says_so() {
    let home = Home::new();
    let (from, to) = (dir(&home, "from"), dir(&home, "to"));
    set(&home, &from, "small", "value", &[]);
    // Bytes that do not compress, twice what the target takes.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(2_000_000)
    .collect();
    home.feed(["--backend", &from, "set", "large", "-"], &noise).expect(0);
    // Something that is not ours, stored as Python stores it.
    home.run(["--backend", &from, "raw", "set", "python:key", "python's value"]).expect(0);
    let limited = format!("{to}?max_value_mb=1");
    let ran = home.run(["copy", &from, &limited, "--json"]).expect(1).json();
    assert_eq!(ran["copied"], 1, "{ran}");
    assert_eq!(ran["left_out"], json!({"foreign": 1, "too_large": 1}), "{ran}");
    let ran = home.run(["copy", &from, &limited]).expect(1);
    assert!(ran.out().contains("left out (foreign): 1") && ran.out().contains("left out (too_large): 1"), "{ran:?}");
}

#[test]
fn a_target_that_is_not_there_is_exit_code_3_and_the_place_is_kept_for_the_next_run() {
    let home = Home::new();
    let (from, to) = (dir(&home, "from"), dir(&home, "to"));
    for number in 0..10 {
        set(&home, &from, &format!("k{number}"), "value", &[]);
    }
    let in_the_way = home.write("to", "a file where the directory should be");
    let place = home.path().join("place");
    let place = place.to_str().unwrap();
    let run = || home.run(["copy", &from, &to, "--resume", place, "--batch", "3", "--json"]);
    let failed = run();
    assert_eq!(failed.code, 3, "{failed:?}");
    assert!(failed.json()["error"]["message"].is_string() && failed.err.contains("error: "), "{failed:?}");
    std::fs::remove_file(in_the_way).unwrap();
    let ran = run().expect(0).json();
    assert_eq!((&ran["copied"], &ran["complete"]), (&json!(10), &json!(true)), "{ran}");
    assert!(!std::path::Path::new(place).exists());
}

#[test]
fn a_preset_of_ones_own_file_does_not_keep_two_named_stores_from_being_copied() {
    let home = Home::new();
    let (from, to) = (dir(&home, "from"), dir(&home, "to"));
    set(&home, &from, "k", "value", &[]);
    for text in ["preset = \"io\"\n", "preset = \"secure\"\n", "preset = \"secure\"\n[encryption]\nenabled = false\n"] {
        home.write(".config/cachekit/cachekit.toml", text);
        let ran = home.run(["copy", &from, &to, "--verify", "--json"]).expect(0).json();
        assert_eq!((&ran["copied"], &ran["verified"]), (&json!(1), &json!(1)), "{text}: {ran}");
    }
}

#[test]
fn a_file_that_is_wrong_in_itself_is_told_as_it_is() {
    let home = Home::new();
    let (from, to) = (dir(&home, "from"), dir(&home, "to"));
    for (text, tells) in [
        ("preset = \"nobody's\"\n", "nobody's"),
        ("preset = \"io\"\nttl = \"0s\"\n", "ttl"),
        ("preset = \"secure\"\nno_such_setting = 1\n", "no_such_setting"),
        ("[encryption]\nenabled = true\n", "CACHEKIT_MASTER_KEY"),
    ] {
        home.write(".config/cachekit/cachekit.toml", text);
        let ran = home.run(["copy", &from, &to]).expect(2);
        assert!(ran.err.contains(tells), "{text}: {ran:?}");
    }
}

#[test]
fn mistakes_are_said_before_anything_is_read() {
    let home = Home::new();
    let (from, to) = (dir(&home, "from"), dir(&home, "to"));
    let thesis = home.write("thesis", "not a place");
    assert!(home.run(["copy", &from, &from]).expect(2).err.contains("same"));
    assert!(home.run(["copy", &from, "none"]).expect(2).err.contains("no store"));
    assert!(home.run(["copy", &from, "/tmp/x"]).expect(2).err.contains("file:///tmp/x"));
    let ran = home.run(["copy", &from, &to, "--resume", thesis.to_str().unwrap()]).expect(2);
    assert!(ran.err.contains("no place of a copy"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(thesis).unwrap(), "not a place");
    home.run(["copy", &from, &to, "--dry-run", "--verify"]).expect(2);
    home.run(["copy", &from, &to, "--batch", "0"]).expect(2);
}
