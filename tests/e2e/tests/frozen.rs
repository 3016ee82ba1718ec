//! The promise of the contract: a plugin that was built once loads in every later host, a host that knows more than a
//! plugin makes do, and a plugin that knows more than its host does as well.
//!
//! The binaries are of x86_64; elsewhere there is none to load, and this file is empty.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cachekit_conformance::{Report, run_all};
use cachekit_core::Cache;
use cachekit_e2e::harness::Loaded;
use cachekit_e2e::{Place, artifacts, output, root};
use cachekit_host::{Identity, Plugin, Policy, Support};
use cachekit_plugin::HostServices;
use serde_json::json;

fn frozen() -> PathBuf {
    root().join("tests/fixtures/frozen")
}

/// The name and digest of every file of contract 1.0, as they were committed.
fn digests() -> Vec<(String, String)> {
    let sums = fs::read_to_string(frozen().join("1.0/SHA256SUMS")).unwrap();
    sums.lines()
        .map(|line| line.split_once("  ").unwrap())
        .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
        .collect()
}

/// A copy in a directory of our own: a checkout may be open to a group, which hosts refuse.
fn installed(name: &str, place: &Place) -> PathBuf {
    let path = place.path().join(name);
    fs::copy(frozen().join("1.0").join(name), &path).unwrap();
    path
}

fn pinned(sum: &str) -> Policy {
    Policy::default().with_sha256(sum.parse().unwrap())
}

#[test]
fn every_plugin_of_contract_1_0_is_loaded_and_does_all_that_is_asked() {
    let place = Place::new();
    let mut loaded = 0;
    for (name, sum) in digests().iter().filter(|(name, _)| name.ends_with(".so")) {
        let plugin = Plugin::open(&installed(name, &place), &pinned(sum)).unwrap();
        let in_rust = name.starts_with("rust");
        assert_eq!(plugin.layouts_checked(), in_rust, "{name}: its layouts were compared with those of today");
        assert_eq!(plugin.identity().abi, "1.0", "{name}");
        let of_rust = json!({ "name": format!("shared-{name}") });
        let harness = Loaded::new(plugin, if in_rust { of_rust } else { json!({}) }, Box::new(|| json!({})));
        // The one in C keeps its entries in the instance.
        let harness = if in_rust { harness } else { harness.with_a_store_per_instance() };
        let report: Report = run_all(Arc::new(harness), |_| true);
        println!("{name}: {} passed, {} failed", report.passed, report.failed);
        assert!(report.is_ok() && report.passed > 50, "{name}\n{report}");
        loaded += 1;
    }
    assert_eq!(loaded, 4);
    for (name, sum) in digests() {
        let bytes = fs::read(frozen().join("1.0").join(&name)).unwrap();
        assert_eq!(cachekit_host::Sha256::of(&bytes).to_string(), sum, "{name} is not the file that was committed");
    }
}

/// The control: one byte of such a file is another one.
#[test]
fn a_plugin_of_contract_1_0_that_was_tampered_with_is_refused() {
    let place = Place::new();
    let (name, sum) = digests().into_iter().find(|(name, _)| name == "c-gcc.so").unwrap();
    let path = installed(&name, &place);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let refused = Plugin::open(&path, &pinned(&sum)).unwrap_err();
    assert!(refused.to_string().contains(&sum), "{refused}");
}

fn old_host(place: &Place) -> PathBuf {
    let program = place.path().join("old-host");
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"]).arg(frozen().join("1.0"));
    output(cc.arg("-o").arg(&program).arg(frozen().join("old-host.c")).arg("-ldl"));
    program
}

fn entry_of(library: &Path) -> String {
    let identity: Identity = cachekit_host::inspect(library).unwrap().identity;
    identity.entry
}

/// A host that was built from the header of 1.0 and knows one power has to work with the plugins of today, which know more.
#[test]
fn a_host_of_contract_1_0_works_with_the_plugins_of_today() {
    let place = Place::new();
    let host = old_host(&place);
    for library in [artifacts::memory_plugin(), artifacts::c_memory()] {
        output(Command::new(&host).arg(library).arg(entry_of(library)));
    }
    // A plugin of a later minor version, and one that says its root is larger than ours.
    for variant in ["WRONG_MINOR", "BIG_STRUCT"] {
        let library = artifacts::bad_c(&place, Some(variant));
        output(Command::new(&host).arg(&library).arg(entry_of(&library)));
    }
    // The control: the old host does notice what is wrong.
    for (variant, words) in [("WRONG_MAJOR", "CK_ABI_MAJOR"), ("NULL_VTABLE", "backend")] {
        let library = artifacts::bad_c(&place, Some(variant));
        let refused = Command::new(&host).arg(&library).arg(entry_of(&library)).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(words), "{variant}: {said}");
    }
}

/// What the host of today knows and a small plugin does not is made up for, or said to be absent.
#[test]
fn a_plugin_with_the_one_power_that_it_must_have_serves_a_cache_of_today() {
    let place = Place::new();
    let plugin = Plugin::open(&artifacts::bad_c(&place, None), &Policy::default()).unwrap();
    let powers = plugin.capabilities().unwrap();
    let native: Vec<_> = powers.iter().filter(|(_, support)| *support == Support::Native).map(|(id, _)| *id).collect();
    println!("{powers:?}");
    assert!(native.len() < powers.len() / 2, "it has too many powers to show anything: {native:?}");

    let backend = plugin.create(b"{}", HostServices::none()).unwrap();
    let cache = Cache::builder().backend(backend).without_l1().build().unwrap().blocking();
    cache.set("a", &1_u32).unwrap();
    cache.set("b", &2_u32).unwrap();
    let found = cache.get_many::<u32, _>(&["a", "absent", "b"]).unwrap();
    assert_eq!(found.iter().map(|value| value.as_deref().copied()).collect::<Vec<_>>(), [Some(1), None, Some(2)]);
    assert!(cache.delete("a").unwrap());
    assert_eq!(*cache.get_or_load("a", || 7_u32).unwrap(), 7);
}
