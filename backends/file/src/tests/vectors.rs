//! The recordings of Python `cachekit` 0.24.1, in both directions.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::*;

const RECORDED: &str = include_str!("../../tests/vectors/file_backend.json");
const REFUSALS: &str = include_str!("../../tests/vectors/errors.json");

fn recorded() -> Value {
    serde_json::from_str(RECORDED).unwrap()
}

fn directory(name: &str) -> Value {
    let recorded = recorded();
    let found = recorded["directories"].as_array().unwrap().iter().find(|directory| directory["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not recorded")).clone()
}

fn unhex(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn ms(seconds: &Value) -> u64 {
    (seconds.as_f64().unwrap() * 1000.0) as u64
}

fn lay_out(dir: &Path, files: &Value) {
    for file in files.as_array().unwrap() {
        let path = dir.join(file["name"].as_str().unwrap());
        if file["type"] == "symlink" {
            std::os::unix::fs::symlink(file["target"].as_str().unwrap(), path).unwrap();
        } else {
            std::fs::write(&path, unhex(&file["hex"])).unwrap();
            let mode = u32::from_str_radix(&file["mode"].as_str().unwrap()[2..], 8).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// Names, modes and bytes as recorded; our own dotfiles (never one of the recorded names) left out.
fn assert_directory(dir: &Path, expected: &Value, context: &str) {
    let expected = expected.as_array().unwrap();
    let recorded: Vec<_> = expected.iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect();
    let own = |name: &String| [".cas.", ".tally", ".evict", ".lock."].iter().any(|own| name.starts_with(own));
    let found: Vec<_> = names(dir).into_iter().filter(|name| !own(name)).collect();
    assert_eq!(found, recorded, "{context}");
    for file in expected {
        let path = dir.join(file["name"].as_str().unwrap());
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if file["type"] == "symlink" {
            assert_eq!(std::fs::read_link(&path).unwrap().to_str(), file["target"].as_str());
        } else {
            assert_eq!(std::fs::read(&path).unwrap(), unhex(&file["hex"]), "{context}: {path:?}");
            assert_eq!(format!("0o{:03o}", metadata.permissions().mode() & 0o777), file["mode"].as_str().unwrap());
        }
    }
}

fn check_reads(scenario: &Value, allow_inline: bool) {
    let name = scenario["name"].as_str().unwrap();
    let bench = Bench::new().peer(allow_inline);
    bench.hands.set(ms(&scenario["now_unix"]));
    lay_out(&bench.dir, &scenario["files"]);
    for read in scenario["reads_in_order_exists_ttl_get"].as_array().unwrap() {
        let key = read["key"].as_str().unwrap();
        let context = format!("{name}: {key}, inline {allow_inline}");
        assert_eq!(bench.path(key).file_name().unwrap().to_str(), read["file"].as_str(), "{context}");
        assert_eq!(bench.exists(key), read["exists"].as_bool().unwrap(), "{context}");
        let seconds = match bench.ttl(key) {
            Some(Ttl::Ms(ms)) => Some(ms.get() / 1000),
            Some(Ttl::Never) | None => None,
        };
        // Python rounds 2^64 - 1 - now through a float; so far away is for ever to us.
        let expected = read["get_ttl"].as_u64().filter(|&ttl| ttl < u64::MAX / 1000);
        assert_eq!(seconds, expected, "{context}");
        let expected = (!read["get"].is_null()).then(|| Bytes::from(unhex(&read["get"])));
        assert_eq!(bench.get(key), expected, "{context}");
    }
    assert_directory(&bench.dir, &scenario["files_after"], name);
}

#[test]
fn directories_that_python_wrote_read_as_python_reads_them() {
    let recorded = recorded();
    let scenarios: Vec<_> = recorded["directories"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|scenario| scenario.get("reads_in_order_exists_ttl_get").is_some())
        .collect();
    assert_eq!(scenarios.len(), 6);
    for scenario in scenarios {
        for allow_inline in [true, false] {
            check_reads(scenario, allow_inline);
        }
    }
}

#[test]
fn what_we_write_is_byte_for_byte_what_python_wrote() {
    let mut written = 0;
    for name in ["no_ttl", "ttl_far_future"] {
        let scenario = directory(name);
        let bench = Bench::new();
        bench.hands.set(ms(&scenario["now_unix"]));
        let now = ms(&scenario["now_unix"]) / 1000;
        for read in scenario["reads_in_order_exists_ttl_get"].as_array().unwrap() {
            let files = scenario["files"].as_array().unwrap();
            let Some(file) = files.iter().find(|file| file["name"] == read["file"]) else { continue };
            let bytes = unhex(&file["hex"]);
            let expiry = u64::from_be_bytes(bytes[6..14].try_into().unwrap());
            let ttl = if expiry == 0 { Ttl::Never } else { secs(expiry - now) };
            if expiry != 0 && expiry - now < 10 {
                // Python lets one second end up to a second early; the contract of backends does not.
                assert_eq!(crate::entry::expiry(ttl, bench.backend.store().now()), expiry + 1);
                bench.hands.set(now * 1000);
            }
            bench.set(read["key"].as_str().unwrap(), unhex(&read["get"]), ttl);
            written += 1;
        }
        assert_directory(&bench.dir, &scenario["files"], name);
    }
    assert_eq!(written, 7);
}

#[test]
fn renewing_rewrites_the_expiry_as_python_does() {
    let scenario = directory("refresh_ttl");
    let key = scenario["key"].as_str().unwrap();
    let bench = Bench::new();
    bench.hands.set(ms(&scenario["now_set"]));
    bench.set(key, "slide", secs(scenario["ttl_set"].as_u64().unwrap()));
    assert_directory(&bench.dir, &scenario["files"], "set");
    bench.hands.set(ms(&scenario["now_refresh"]));
    let ttl = secs(scenario["ttl_refresh"].as_u64().unwrap());
    let results = serde_json::json!([bench.touch(key, ttl), bench.touch("absent", ttl)]);
    assert_eq!(results, scenario["results_present_absent"]);
    assert_directory(&bench.dir, &scenario["files_after_refresh"], "refresh");
    assert!(bench.touch(key, Ttl::Never));
    assert_directory(&bench.dir, &scenario["files_after_refresh_to_0"], "refresh to 0");
}

/// The recording has short stems for names of entries, and Python takes any; here they are names as writers make them. What no
/// writer of the family makes stays, other than with Python.
#[test]
fn temporaries_are_swept_as_python_sweeps_them_and_nothing_else_is() {
    let mut text = directory("temp_sweep_on_open").to_string();
    for stem in ["a", "b", "l"] {
        text = text.replace(&format!("\"{stem}{stem}.tmp."), &format!("\"{}.tmp.", stem.replace('l', "f").repeat(32)));
    }
    let mut scenario: Value = serde_json::from_str(&text).unwrap();
    let files = scenario["files"].as_array().unwrap();
    let foreign = files.iter().find(|file| file["name"] == "c.tmp.x").unwrap().clone();
    let after = scenario["files_after"].as_array_mut().unwrap();
    after.push(foreign);
    after.sort_by_key(|file| file["name"].as_str().unwrap().to_owned());
    let bench = Bench::new();
    lay_out(&bench.dir, &scenario["files"]);
    for (name, age) in scenario["ages_seconds"].as_object().unwrap() {
        if let Some(age) = age.as_u64() {
            set_mtime(&bench.dir.join(name), Duration::from_millis(START_MS - age * 1000));
        }
    }
    let fresh = bench.peer(true);
    fresh.set("k", "the first write sweeps", Ttl::Never);
    assert!(fresh.delete("k"));
    assert_directory(&bench.dir, &scenario["files_after"], "sweep");
}

#[test]
fn eviction_leaves_what_python_leaves() {
    let scenario = directory("eviction_by_count");
    let bench = Bench::with(|config| config.with_max_entry_count(100));
    let name = |index: usize| format!("open-evict-{index}");
    for (index, expected) in scenario["entries_after_each_write"].as_array().unwrap().iter().enumerate() {
        bench.set(&name(index), "0123456789", Ttl::Never);
        set_mtime(&bench.path(&name(index)), Duration::from_secs(1_700_000_000 + index as u64));
        assert_eq!(bench.names().len() as u64, expected.as_u64().unwrap(), "write {index}");
    }
    let surviving: Vec<_> = (0..95).filter(|&index| bench.path(&name(index)).exists()).collect();
    assert_eq!(serde_json::json!(surviving), scenario["surviving_indexes"]);
}

#[test]
fn keys_have_the_file_names_of_the_family() {
    for name in recorded()["names"].as_array().unwrap() {
        assert_eq!(Name::of(key(name["key"].as_str().unwrap())).as_str(), name["file"].as_str().unwrap());
    }
}

#[test]
fn what_python_refuses_is_refused() {
    let refusals: Value = serde_json::from_str(REFUSALS).unwrap();
    let mut checked = 0;
    for case in refusals["cases"].as_array().unwrap() {
        let (name, ok) = (case["name"].as_str().unwrap(), case["ok"].as_bool().unwrap());
        let accepted = if case["area"] == "file_set" {
            let bench = Bench::with(|config| config.with_max_size_mb(2).with_max_value_mb(1));
            let ttl = match case["input"]["ttl"].as_i64() {
                None => Ttl::Never,
                // A negative life cannot be expressed; what its bits would say must be refused all the same.
                Some(seconds) => Ttl::from_ms((seconds as u64).saturating_mul(1000)).unwrap(),
            };
            let answer = bench.try_set("k", vec![0; case["input"]["len"].as_u64().unwrap() as usize], ttl);
            if let Err(error) = &answer {
                assert_eq!(error.retry(), cachekit_plugin::Retry::No, "{name}");
            }
            assert_eq!(bench.get("k").is_some(), answer.is_ok());
            if name.starts_with("ttl_") && !ok {
                // Where Python refuses, the contract of backends shortens: what is stored is a life Python accepts. Who
                // must refuse, because Python would, does so above.
                let ten_years = START_MS / 1000 + crate::entry::MAX_TTL_SECS;
                assert_eq!(std::fs::read(bench.path("k")).unwrap()[..14], crate::entry::header(ten_years));
                checked += 1;
                continue;
            }
            answer.is_ok()
        } else {
            let json = match name {
                "file_entry_99" => r#"{"dir":"/x","max_entry_count":99}"#,
                "file_size_0" => r#"{"dir":"/x","max_size_mb":0}"#,
                "file_lock_timeout_31" => r#"{"dir":"/x","lock_timeout_seconds":31}"#,
                "file_value_over_half" => r#"{"dir":"/x","max_size_mb":10,"max_value_mb":6}"#,
                other => panic!("unknown case {other}"),
            };
            serde_json::from_str::<FileConfig>(json).unwrap().check().is_ok()
        };
        assert_eq!(accepted, ok, "{name}");
        checked += 1;
    }
    assert_eq!(checked, 9);
}
