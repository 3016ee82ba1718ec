//! `dict`: from samples to a dictionary that readers find.

use std::fs;

use serde_json::json;

use crate::program::Home;

/// Records as a service would cache them, the same on every machine.
fn record(number: u64) -> String {
    let roll =
        |sides: u64, salt: u64| (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(salt as u32) % sides;
    let plan = ["free", "team", "business"][roll(3, 7) as usize];
    let city = ["Berlin", "Warsaw", "Kraków", "Lyon", "Porto"][roll(5, 11) as usize];
    format!(
        "{{\"user_id\":{},\"plan\":\"{plan}\",\"city\":\"{city}\",\"permissions\":[\"orders:read\",\"users:read\"],\
         \"token\":\"{:016x}\",\"created_at\":\"2026-{:02}-{:02}T00:00:00Z\",\"newsletter\":\"weekly\"}}",
        roll(1_000_000, 3),
        roll(u64::MAX, 17),
        roll(12, 23) + 1,
        roll(28, 29) + 1,
    )
}

fn samples(home: &Home, count: u64) {
    let dir = home.path().join("samples/deeper");
    fs::create_dir_all(&dir).unwrap();
    for number in 0..count {
        fs::write(dir.join(format!("{number}.json")), record(number)).unwrap();
    }
}

#[test]
fn a_dictionary_is_trained_installed_and_found_by_a_reader_that_was_told_nothing() {
    let home = Home::new();
    samples(&home, 600);
    let report =
        home.run(["dict", "train", "samples", "--max-size", "4k", "--out", "app.dict", "--json"]).expect(0).json();
    assert!(report["times_smaller"].as_f64().unwrap() >= 1.5, "{report}");
    assert_eq!((&report["samples"], &report["measured_on"]), (&json!(540), &json!(60)));
    let id = report["id"].as_str().unwrap().to_owned();
    // The same samples make the same dictionary.
    let again =
        home.run(["dict", "train", "samples", "--max-size", "4k", "--out", "again.dict", "--json"]).expect(0).json();
    assert_eq!(again["id"], id.as_str());
    assert_eq!(home.run(["dict", "show", "app.dict", "--json"]).expect(0).json()["id"], id.as_str());

    let dictionary = home.path().join("app.dict");
    fs::write(home.path().join("with.toml"), format!("[compression]\ndictionary = {dictionary:?}\n")).unwrap();
    home.feed(["--config", "with.toml", "set", "k", "-"], record(1_000).as_bytes()).expect(0);
    let report = home.run(["inspect", "k", "--json"]).expect(0).json();
    assert_eq!((&report["dictionary"], &report["compressor"]), (&json!(id), &json!("zstd")));
    assert_eq!(report["value"], record(1_000));
    assert_eq!(home.run(["get", "k"]).expect(0).out, record(1_000).into_bytes());
    assert_eq!(home.run(["dict", "list", "--json"]).expect(0).json(), json!({ "dictionaries": [id] }));
    assert_eq!(home.run(["dict", "show", &id]).expect(0).out().lines().count(), 4);
    assert_eq!(home.run(["dict", "install", "app.dict", "--json"]).expect(0).json()["installed"], false);
    home.run(["dict", "show", &id, "--out", "copy.dict"]).expect(0);
    assert_eq!(fs::read(home.path().join("copy.dict")).unwrap(), fs::read(dictionary).unwrap());

    // Without the dictionary the entry is refused by its name, and not as damage.
    home.run(["raw", "del", &format!("ck::dictionary:{id}")]).expect(0);
    assert_eq!(home.run(["get", "k", "--json"]).expect(4).json()["error"]["kind"], "dictionary");
    home.run(["dict", "show", &id]).expect(1);
    assert_eq!(home.run(["dict", "install", "copy.dict", "--json"]).expect(0).json()["installed"], true);
    home.run(["get", "k"]).expect(0);
}

#[test]
fn entries_of_a_namespace_are_samples_too() {
    let home = Home::new();
    for number in 0..60 {
        home.feed(["set", &format!("k{number}"), "-"], record(number).as_bytes()).expect(0);
    }
    let report = home.run(["dict", "train", "--max-size", "1k", "--install", "--json"]).expect(0).json();
    assert_eq!((&report["samples"], &report["installed"]), (&json!(54), &json!(true)));
    let listed = home.run(["dict", "list"]).expect(0);
    assert_eq!(listed.out().trim(), report["id"].as_str().unwrap());
}

#[test]
fn too_few_samples_are_refused_with_what_would_do() {
    let home = Home::new();
    samples(&home, 20);
    let refused = home.run(["dict", "train", "samples", "--out", "x.dict"]).expect(2);
    assert!(refused.err.contains("18 samples are too few") && refused.err.contains("at least 50"), "{}", refused.err);
    samples(&home, 100);
    let refused = home.run(["dict", "train", "samples", "--out", "x.dict"]).expect(2);
    assert!(refused.err.contains("times its size") && refused.err.contains("--max-size"), "{}", refused.err);
    home.run(["dict", "train", "samples", "--max-size", "1", "--out", "x.dict"]).expect(2);
    home.run(["dict", "train", "samples"]).expect(2);
    home.run(["dict", "train", "absent", "--out", "x.dict"]).expect(2);
    assert!(!home.path().join("x.dict").exists());
    home.run(["dict", "install", "samples/deeper/1.json"]).expect(2);
}
