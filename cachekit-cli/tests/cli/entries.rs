//! get, set, del, exists, ttl, touch, keys, clear, stats, health, raw.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use serde_json::json;

use crate::program::Home;

fn args<const N: usize>(args: [&[u8]; N]) -> [OsString; N] {
    args.map(|arg| OsStr::from_bytes(arg).to_owned())
}

#[test]
fn a_value_comes_back_byte_for_byte() {
    let home = Home::new();
    let value: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    home.feed(["set", "k", "-"], &value).expect(0);
    let got = home.run(["get", "k"]).expect(0);
    assert!(got.out == value && got.err.is_empty(), "{}", got.err);
}

#[test]
fn an_empty_value_is_a_value() {
    let home = Home::new();
    home.run(["set", "k", ""]).expect(0);
    assert_eq!(home.run(["get", "k"]).expect(0).out, b"");
}

#[test]
fn what_is_not_there_is_exit_code_1_and_says_nothing() {
    let home = Home::new();
    for command in ["get", "exists", "ttl", "touch", "del"] {
        let ran = home.run([command, "absent"]).expect(1);
        assert_eq!((ran.out(), &*ran.err), ("", ""), "{command}");
    }
}

#[test]
fn a_key_may_be_any_bytes() {
    let home = Home::new();
    for key in [&b"with space"[..], b"a\nb", b"\xff\xfe", b"#hash", "zażółć".as_bytes(), b"../../etc/passwd"] {
        home.run(args([b"set", key, b"value"])).expect(0);
        assert_eq!(home.run(args([b"get", key])).expect(0).out, b"value", "{key:?}");
    }
    let mut listed: Vec<Vec<u8>> =
        home.run(["keys", "--null"]).expect(0).out.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    assert_eq!(listed.pop().unwrap(), b"");
    listed.sort();
    let mut expected = [&b"with space"[..], b"a\nb", b"\xff\xfe", b"#hash", "zażółć".as_bytes(), b"../../etc/passwd"];
    expected.sort();
    assert_eq!(listed, expected);
    let text = home.run(["keys"]).expect(0);
    assert_eq!(text.out().lines().count(), 6);
    assert!(text.out().contains(r"a\x0ab") && text.out().contains(r"\xff\xfe"), "{}", text.out());
    let json = home.run(["keys", "--json"]).json();
    assert_eq!((json["keys"].as_array().unwrap().len(), &json["binary_keys_hex"]), (5, &json!(["fffe"])));
}

#[test]
fn a_key_that_cannot_be_used_is_a_mistake() {
    let home = Home::new();
    assert!(home.run(["get", ""]).expect(2).err.contains("empty"));
    assert!(home.run(["get", &"x".repeat(33_000)]).expect(2).err.contains("33000"));
    assert!(home.run(["get", "k", "--namespace", "a:b"]).expect(2).err.contains("namespace"));
}

#[test]
fn lives_are_set_shown_and_renewed() {
    let home = Home::new();
    home.run(["set", "k", "v"]).expect(0);
    assert_eq!(home.run(["ttl", "k"]).expect(0).out(), "never\n");
    home.run(["touch", "k", "--ttl", "10m"]).expect(0);
    let left = home.run(["ttl", "k"]).expect(0);
    let seconds: f64 = left.out().trim().parse().unwrap();
    assert!(seconds > 500.0 && seconds <= 600.0 && left.out().contains('.'), "{seconds}");
    home.run(["touch", "k", "--no-expiry"]).expect(0);
    assert_eq!(home.run(["ttl", "k", "--json"]).json(), json!({"key":"k","found":true,"expires":false,"ttl_ms":null}));
    home.run(["set", "k", "v", "--ttl", "90"]).expect(0);
    let left = home.run(["ttl", "k", "--json"]).json()["ttl_ms"].as_u64().unwrap();
    assert!(left > 60_000 && left <= 90_000, "{left}");
}

#[test]
fn a_life_that_is_over_is_a_miss() {
    let home = Home::new();
    home.run(["set", "k", "v", "--ttl", "1ms"]).expect(0);
    // The program takes longer than that to start.
    home.run(["get", "k"]).expect(1);
}

#[test]
fn lives_that_make_no_sense_are_refused() {
    let home = Home::new();
    for life in ["0", "0s", "-1", "soon", ""] {
        home.run(["set", "k", "v", &format!("--ttl={life}")]).expect(2);
    }
    home.run(["set", "k", "v", "--ttl", "1m", "--no-expiry"]).expect(2);
}

#[test]
fn del_counts_and_says_by_its_code_whether_there_was_anything() {
    let home = Home::new();
    for key in ["a", "b", "c"] {
        home.run(["set", key, "v"]).expect(0);
    }
    home.run(["exists", "a"]).expect(0);
    home.run(["del", "a"]).expect(0);
    home.run(["exists", "a"]).expect(1);
    assert_eq!(home.run(["del", "a", "b", "c", "--json"]).expect(0).json(), json!({"asked": 3, "deleted": 2}));
}

#[test]
fn keys_takes_a_pattern_and_stays_in_its_namespace() {
    let home = Home::new();
    for key in ["user:1", "user:2", "order:1"] {
        home.run(["set", key, "v"]).expect(0);
    }
    home.run(["set", "user:3", "v", "--namespace", "other"]).expect(0);
    let mut listed: Vec<String> = home.run(["keys", "user:*"]).expect(0).out().lines().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(listed, ["user:1", "user:2"]);
    let all = home.run(["keys"]).expect(0);
    assert!(all.err.contains("1 entries"), "{}", all.err);
    assert!(home.run(["keys", "[a"]).expect(2).err.contains("pattern"));
    home.run(["keys", "--null", "--json"]).expect(2);
}

#[test]
fn what_was_stored_under_a_tag_is_cleared_by_it() {
    let home = Home::new();
    home.run(["set", "a", "1", "--tag", "team:7", "--tag", "all"]).expect(0);
    home.run(["set", "b", "2", "--tag", "all", "--namespace", "other"]).expect(0);
    home.run(["set", "c", "3"]).expect(0);
    assert_eq!(home.run(["inspect", "a", "--json"]).expect(0).json()["tags"], json!(["team:7", "all"]));
    let cleared = home.run(["clear", "--tag", "team:7", "--tag", "nobody", "--json"]).expect(0).json();
    assert_eq!(cleared, json!({"namespace": "default", "invalidated": ["team:7", "nobody"]}));
    home.run(["get", "a"]).expect(1);
    home.run(["get", "b", "--namespace", "other"]).expect(0);
    home.run(["get", "c"]).expect(0);
    home.run(["set", "a", "4", "--tag", "team:7"]).expect(0);
    assert_eq!(home.run(["get", "a"]).expect(0).out, b"4");
    let listed = home.run(["keys"]).expect(0);
    let mut keys: Vec<&str> = listed.out().lines().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "c"], "epochs are no keys");
    assert!(home.run(["set", "k", "v", "--tag", ""]).expect(2).err.contains("tag"));
    assert!(home.run(["clear", "--tag", &"x".repeat(257)]).expect(2).err.contains("257"));
}

#[test]
fn clear_wants_a_yes_and_empties_one_namespace() {
    let home = Home::new();
    home.run(["set", "k", "v"]).expect(0);
    home.run(["set", "k", "v", "--namespace", "other"]).expect(0);
    assert!(home.run(["clear"]).expect(2).err.contains("--yes"));
    home.run(["get", "k"]).expect(0);
    let cleared = home.run(["clear", "--yes", "--json"]).expect(0).json();
    assert_eq!(cleared, json!({"namespace": "default", "cleared": 1}));
    home.run(["get", "k"]).expect(1);
    home.run(["get", "k", "--namespace", "other"]).expect(0);
}

#[test]
fn stats_count_what_is_there() {
    let home = Home::new();
    for key in ["a", "b"] {
        home.run(["set", key, "v"]).expect(0);
    }
    home.run(["set", "c", "v", "--namespace", "other"]).expect(0);
    let stats = home.run(["stats", "--json"]).expect(0).json();
    assert_eq!(
        (&stats["entries"], &stats["foreign"], &stats["backend"]["type"]),
        (&2.into(), &1.into(), &"file".into())
    );
    assert!(stats["powers"].as_array().unwrap().contains(&json!("lock")));
    assert!(home.run(["stats"]).expect(0).out().contains("entries = 2\n"));
}

#[test]
fn health_says_whether_the_store_answers() {
    let home = Home::new();
    assert!(home.run(["health"]).expect(0).out().starts_with("file: healthy"));
    let health = home.run(["health", "--json"]).expect(0).json();
    assert_eq!(health["healthy"], true);
    assert_eq!((&health["guards"]["breaker"], &health["guards"]["in_flight"]["most"]), (&"closed".into(), &100.into()));
}

#[test]
fn a_store_that_is_not_there_is_exit_code_3_in_every_command() {
    let home = Home::new();
    let file = home.write("file", "");
    let url = format!("file://{}/below", file.display());
    for command in [
        &["get", "k"][..],
        &["set", "k", "v"],
        &["del", "k"],
        &["exists", "k"],
        &["ttl", "k"],
        &["touch", "k"],
        &["keys"],
        &["clear", "--yes"],
        &["stats"],
        &["health"],
        &["raw", "get", "k"],
        &["inspect", "k"],
        &["config", "check"],
    ] {
        let ran = home.run(command.iter().chain(&["--backend", &url])).expect(3);
        assert!(ran.err.contains("Not a directory") && ran.out.is_empty(), "{command:?}: {}", ran.err);
        let json = home.run(command.iter().chain(&["--json", "--backend", &url])).expect(3).json();
        assert_eq!(json["error"]["kind"], "config", "{command:?}");
    }
}

#[test]
fn no_store_is_a_mistake() {
    let home = Home::new();
    for command in [&["get", "k"][..], &["stats"], &["run", "--ttl", "1m", "--", "true"], &["config", "check"]] {
        let ran = home.run(["--backend", "none"].iter().chain(command)).expect(2);
        assert!(ran.err.contains("needs a store"), "{}", ran.err);
    }
}

#[test]
fn a_damaged_entry_is_refused_and_never_a_value() {
    let home = Home::new();
    home.run(["set", "k", "the value"]).expect(0);
    home.damage_the_entry(1);
    for command in ["get", "exists", "ttl", "touch"] {
        let ran = home.run([command, "k"]).expect(4);
        assert!(ran.out.is_empty() && ran.err.contains("refused") && ran.err.contains("damaged"), "{}", ran.err);
    }
    assert_eq!(home.run(["get", "k", "--json"]).expect(4).json()["error"]["kind"], "corrupt");
    home.run(["set", "k", "anew"]).expect(0);
    assert_eq!(home.run(["get", "k"]).expect(0).out(), "anew");
}

#[test]
fn an_entry_moved_to_another_key_is_refused() {
    let home = Home::new();
    home.run(["set", "a", "of a"]).expect(0);
    let stored = home.run(["raw", "get", "ck:default:a"]).expect(0).out;
    home.feed(["raw", "set", "ck:default:b", "-"], &stored).expect(0);
    assert_eq!(home.run(["get", "b", "--json"]).expect(4).json()["error"]["kind"], "wrong_key");
}

#[test]
fn get_tells_json_readers_what_it_found() {
    let home = Home::new();
    home.run(["set", "k", "text"]).expect(0);
    assert_eq!(
        home.run(["get", "k", "--json"]).expect(0).json(),
        json!({"key": "k", "found": true, "encoding": "bytes", "value": "text", "value_hex": "74657874"})
    );
    home.feed(["set", "k", "-"], b"\xff\x00").expect(0);
    let binary = home.run(["get", "k", "--json"]).json();
    assert_eq!((&binary["value"], &binary["value_hex"]), (&json!(null), &json!("ff00")));
    assert_eq!(home.run(["get", "x", "--json"]).expect(1).json(), json!({"key": "x", "found": false}));
}

#[test]
fn values_that_programs_stored_with_types_are_shown_as_json() {
    let home = Home::new();
    home.run(["run", "--ttl", "1h", "--key", "job", "--", "echo", "hi"]).expect(0);
    let shown = home.run(["get", "job"]).expect(0);
    let expected = json!({"exit_code": 0, "stdout": {"$hex": "68690a"}, "stderr": {"$hex": ""}});
    assert_eq!(shown.json(), expected);
    let json = home.run(["get", "job", "--json"]).expect(0).json();
    assert_eq!((&json["encoding"], &json["value"]), (&json!("messagepack"), &expected));
}

#[test]
fn a_value_beyond_the_limit_is_refused_before_it_is_read_whole() {
    let home = Home::new();
    let config = home.write("c.toml", "max_value = 10\n");
    let config = config.to_str().unwrap();
    home.feed(["--config", config, "set", "k", "-"], b"0123456789").expect(0);
    assert!(home.feed(["--config", config, "set", "k", "-"], b"0123456789+").expect(2).err.contains("10 bytes"));
    home.run(["--config", config, "set", "k", "01234567890"]).expect(2);
}

#[test]
fn raw_is_what_the_backend_holds() {
    let home = Home::new();
    home.run(["raw", "set", "any:key", "00ff", "--hex"]).expect(0);
    assert_eq!(home.run(["raw", "get", "any:key"]).expect(0).out, b"\x00\xff");
    assert_eq!(home.run(["raw", "get", "any:key", "--hex"]).expect(0).out(), "00ff\n");
    assert_eq!(home.run(["raw", "get", "any:key", "--json"]).expect(0).json()["value_hex"], "00ff");
    home.run(["raw", "del", "any:key"]).expect(0);
    home.run(["raw", "del", "any:key"]).expect(1);
    home.run(["raw", "get", "any:key"]).expect(1);
    home.run(["raw", "set", "k", "0g", "--hex"]).expect(2);
    home.run(["set", "k", "v"]).expect(0);
    assert!(home.run(["raw", "get", "ck:default:k"]).expect(0).out.starts_with(b"\xc1CKN"));
}

#[test]
fn a_raw_life_ends_in_the_backend() {
    let home = Home::new();
    home.run(["raw", "set", "k", "v", "--ttl", "1h"]).expect(0);
    let file = std::fs::read(&home.entry_files()[0]).unwrap();
    let expiry = u64::from_be_bytes(file[6..14].try_into().unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(expiry > now + 3000 && expiry <= now + 3601, "{expiry} {now}");
}
