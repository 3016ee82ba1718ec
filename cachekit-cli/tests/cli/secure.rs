//! A cache that encrypts, by the preset `secure`.

use serde_json::json;

use crate::program::{Home, Ran};

const KEY: &str = "5ec2e7ca9a2100112233445566778899aabbccddeeff00112233445566778899";
const OTHER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A home whose configuration names a key, and the path of that.
fn home(key: &str) -> (Home, String) {
    let home = Home::new();
    let config = configure(&home, key, "");
    (home, config)
}

fn configure(home: &Home, key: &str, more: &str) -> String {
    let key = home.write("key", key);
    let text = format!(
        "preset = \"secure\"\n[encryption]\nmaster_key = {{ \"$secret\" = \"file:{}\" }}\n{more}\n",
        key.display()
    );
    home.write("secure.toml", &text).to_str().unwrap().to_owned()
}

fn run(home: &Home, config: &str, words: &[&str]) -> Ran {
    home.run([words, &["--config", config]].concat())
}

#[test]
fn values_are_stored_encrypted_and_come_back() {
    let (home, config) = home(KEY);
    run(&home, &config, &["set", "k", "canary-value"]).expect(0);
    assert_eq!(run(&home, &config, &["get", "k"]).expect(0).out(), "canary-value");
    for file in home.entry_files() {
        assert!(!std::fs::read(file).unwrap().windows(12).any(|window| window == b"canary-value"));
    }
    let report = run(&home, &config, &["inspect", "k", "--json"]).expect(0).json();
    assert_eq!(
        (&report["encrypted"], &report["ok"], &report["value"]),
        (&json!(true), &json!(true), &json!("canary-value"))
    );
    run(&home, &config, &["touch", "k", "--ttl", "1h"]).expect(0);
    run(&home, &config, &["exists", "k"]).expect(0);
    // Without keys it is no value, and a matter of configuration.
    let text = format!("{:?}", home.run(["get", "k"]).expect(4));
    assert!(!text.contains(KEY) && !text.contains("canary"), "{text}");
    let report = home.run(["inspect", "k", "--json"]).expect(4).json();
    assert_eq!((&report["encrypted"], &report["value"]), (&json!(true), &json!(null)));
}

#[test]
fn what_was_altered_planted_or_sealed_under_another_key_ends_with_4() {
    let (home, config) = home(KEY);
    run(&home, &config, &["set", "k", "value"]).expect(0);
    configure(&home, OTHER, "");
    run(&home, &config, &["get", "k"]).expect(4);
    configure(&home, KEY, "");
    run(&home, &config, &["get", "k"]).expect(0);
    home.damage_the_entry(1);
    for words in [&["get", "k"][..], &["exists", "k"], &["ttl", "k"], &["inspect", "k"]] {
        run(&home, &config, words).expect(4);
    }
    // Plaintext, written where nobody encrypts.
    home.run(["set", "k", "planted"]).expect(0);
    for words in [&["get", "k"][..], &["inspect", "k"]] {
        let ran = run(&home, &config, words).expect(4);
        assert!(!ran.out().contains("planted"));
    }
    run(&home, &config, &["set", "k", "value"]).expect(0);
    run(&home, &config, &["get", "k"]).expect(0);
}

#[test]
fn a_memoized_command_is_stored_encrypted_and_not_run_over_traces() {
    let (home, config) = home(KEY);
    let words = ["run", "--ttl", "1h", "--key", "job", "--config", &config, "--", "echo", "canary-output"];
    assert_eq!(home.run(words).expect(0).out(), "canary-output\n");
    assert_eq!(home.run(words).expect(0).out(), "canary-output\n");
    for file in home.entry_files() {
        assert!(!std::fs::read(file).unwrap().windows(13).any(|window| window == b"canary-output"));
    }
    home.damage_the_entry(1);
    assert_eq!(home.run(words).expect(4).out(), "");
    configure(&home, KEY, "fail_closed = false");
    assert_eq!(home.run(words).expect(0).out(), "canary-output\n");
}

#[test]
fn a_store_learns_no_key_where_keys_are_hashed() {
    let home = Home::new();
    let config = configure(&home, KEY, "hash_keys = true");
    run(&home, &config, &["set", "ada@example.org", "value"]).expect(0);
    assert_eq!(run(&home, &config, &["get", "ada@example.org"]).expect(0).out(), "value");
    let report = run(&home, &config, &["inspect", "ada@example.org", "--json"]).expect(0).json();
    assert!(report["wire_key"].as_str().unwrap().starts_with("ck:default:~"), "{report}");
    let listed = run(&home, &config, &["keys"]).expect(0);
    assert!(listed.out().starts_with('~') && !listed.out().contains("ada"));
}

#[test]
fn without_a_key_nothing_is_opened() {
    let home = Home::new();
    let ran = format!("{:?}", home.run(["set", "k", "value", "--preset", "secure"]).expect(2));
    assert!(ran.contains("CACHEKIT_MASTER_KEY is not set") && ran.contains("openssl rand -hex 32"), "{ran}");
    assert!(!home.path().join(".cache").exists());
}
