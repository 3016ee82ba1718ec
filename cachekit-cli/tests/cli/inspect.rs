//! `inspect`: what a stored entry is.

use serde_json::json;

use crate::program::Home;

fn stored_hex(home: &Home, key: &str) -> String {
    home.run(["raw", "get", &format!("ck:default:{key}"), "--hex"]).expect(0).out().trim().to_owned()
}

#[test]
fn an_entry_of_the_store_is_shown_with_its_header() {
    let home = Home::new();
    home.run(["set", "k", "value", "--ttl", "1h"]).expect(0);
    let report = home.run(["inspect", "k", "--json"]).expect(0).json();
    for (field, expected) in [
        ("format", json!("native")),
        ("encrypted", json!(false)),
        ("ok", json!(true)),
        ("payload_hex", json!("76616c7565")),
        ("value", json!("value")),
        ("reason", json!(null)),
        ("key", json!("k")),
        ("wire_key", json!("ck:default:k")),
        ("encoding", json!("bytes")),
        ("compressor", json!("none")),
        ("freshness", json!("fresh")),
        ("payload_bytes", json!(5)),
    ] {
        assert_eq!(report[field], expected, "{field}");
    }
    let life = report["expires_ms"].as_u64().unwrap() - report["created_ms"].as_u64().unwrap();
    assert_eq!(life, 3_600_000);
    assert!(home.run(["inspect", "k"]).expect(0).out().contains("ok = true\n"));
    home.run(["inspect", "absent"]).expect(1);
}

#[test]
fn a_compressed_payload_is_shown_as_it_was() {
    let home = Home::new();
    home.feed(["set", "k", "-"], &vec![b'a'; 10_000]).expect(0);
    let report = home.run(["inspect", "k", "--json"]).expect(0).json();
    assert_eq!((&report["compressor"], &report["payload_bytes"]), (&json!("zstd"), &json!(10_000)));
    assert_eq!(report["value"], "a".repeat(10_000));
}

#[test]
fn a_damaged_entry_is_described_and_its_value_is_not_shown() {
    let home = Home::new();
    home.run(["set", "k", "value"]).expect(0);
    home.damage_the_entry(1);
    let report = home.run(["inspect", "k", "--json"]).expect(4).json();
    assert_eq!((&report["ok"], &report["payload_hex"], &report["value"]), (&json!(false), &json!(null), &json!(null)));
    assert!(report["reason"].as_str().unwrap().contains("damaged"));
    assert_eq!(report["key"], "k");
}

#[test]
fn an_entry_given_as_hex_is_checked_against_its_key() {
    let home = Home::new();
    home.run(["set", "k", "value"]).expect(0);
    let hex = stored_hex(&home, "k");
    for key in ["k", "ck:default:k"] {
        assert_eq!(home.run(["inspect", "--hex", &hex, "--key", key, "--json"]).expect(0).json()["value"], "value");
    }
    let other = home.run(["inspect", "--hex", &hex, "--key", "other", "--json"]).expect(4).json();
    assert!(other["reason"].as_str().unwrap().contains("another key"), "{other}");
    let cut = &hex[..hex.len() - 2];
    assert_eq!(home.run(["inspect", "--hex", cut, "--key", "k", "--json"]).expect(4).json()["ok"], false);
    assert_eq!(home.feed(["inspect", "--hex", "-", "--key", "k"], hex.as_bytes()).code, 0);
}

#[test]
fn an_entry_whose_life_is_over_is_whole_all_the_same() {
    let home = Home::new();
    home.run(["set", "k", "value", "--ttl", "1ms"]).expect(0);
    // The file is kept a second longer than the entry.
    let file = std::fs::read(&home.entry_files()[0]).unwrap();
    let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
    let report = home.run(["inspect", "--hex", &hex, "--key", "k", "--json"]).expect(0).json();
    assert_eq!(
        (&report["ok"], &report["freshness"], &report["value"]),
        (&json!(true), &json!("expired"), &json!("value"))
    );
}

#[test]
fn a_file_is_its_header_and_what_is_inside() {
    let home = Home::new();
    home.run(["set", "k", "value", "--ttl", "1h"]).expect(0);
    let file = std::fs::read(&home.entry_files()[0]).unwrap();
    let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
    for format in [&["--as", "file"][..], &[]] {
        let args = ["inspect", "--hex", &hex, "--key", "k", "--json"];
        let report = home.run(args.iter().chain(format)).expect(0).json();
        assert_eq!(
            (&report["format"], &report["content"], &report["value"]),
            (&json!("file"), &json!("native"), &json!("value"))
        );
        assert!(report["file_expires_s"].as_u64().unwrap() > 1_700_000_000);
    }
    // What another member of the family stored: the same header, and no envelope.
    let plain =
        home.run(["inspect", "--hex", "434b0100000000000000000000006869", "--key", "k", "--json"]).expect(0).json();
    assert_eq!(
        (&plain["format"], &plain["content"], &plain["value"], &plain["payload_hex"], &plain["file_expires_s"]),
        (&json!("file"), &json!("plain"), &json!("hi"), &json!("6869"), &json!(null))
    );
    for wrong in ["434b01", "434b02000000000000000000000068", "434b01010000000000000000000068"] {
        let report = home.run(["inspect", "--hex", wrong, "--as", "file", "--key", "k", "--json"]).expect(4).json();
        assert_eq!(report["ok"], false, "{wrong}");
    }
}

#[test]
fn what_is_none_of_them_is_refused() {
    let home = Home::new();
    let report = home.run(["inspect", "--hex", "c1", "--key", "k", "--json"]).expect(4).json();
    assert_eq!((&report["format"], &report["ok"]), (&json!("unknown"), &json!(false)));
    home.run(["inspect", "--hex", "0g", "--key", "k"]).expect(2);
    home.run(["inspect", "--hex", "00"]).expect(2);
    home.run(["inspect", "k", "--hex", "00", "--key", "k"]).expect(2);
    home.run(["inspect"]).expect(2);
}
