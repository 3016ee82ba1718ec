//! Plugins and hosts of different compilers: each direction runs the whole conformance table. That a host of ours takes a Rust
//! plugin of another compiler is in `conformance.rs`; here the host is the foreign one.

use std::path::Path;
use std::process::Command;

use cachekit_e2e::{Place, artifacts, output};
use serde_json::json;

/// Runs the table in the foreign host and returns what it printed.
fn in_the_foreign_host(library: &Path, options: &str, stores: &str) -> String {
    let (host, compiler) = artifacts::foreign_host();
    println!("a host built by {compiler}");
    let ran = output(Command::new(host).arg(library).args([options, stores]));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn a_host_of_another_compiler_takes_a_rust_plugin_of_ours_and_compares_its_layouts() {
    let place = Place::new();
    let options = json!({ "dir": place.path().join("store") }).to_string();
    let report = in_the_foreign_host(artifacts::file_plugin(), &options, "shared");
    assert!(report.contains("layouts checked: true") && report.contains(" 0 failed"), "{report}");
}

#[test]
fn a_host_of_another_compiler_takes_a_plugin_in_c() {
    let report = in_the_foreign_host(artifacts::c_memory(), "{}", "store-per-instance");
    assert!(report.contains("layouts checked: false") && report.contains(" 0 failed"), "{report}");
}

#[test]
fn a_host_of_another_compiler_takes_plugins_that_clang_and_zig_built() {
    for library in [artifacts::c_memory_by_clang(), artifacts::zig_memory()] {
        let report = in_the_foreign_host(library, "{}", "store-per-instance");
        assert!(report.contains("layouts checked: false") && report.contains(" 0 failed"), "{library:?}: {report}");
    }
}

#[test]
fn a_host_of_another_compiler_refuses_a_rust_plugin_of_another_contract() {
    let (host, _) = artifacts::foreign_host();
    let ran = Command::new(host).arg(artifacts::skewed_plugin()).args(["{}", "shared"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(5), "{}", String::from_utf8_lossy(&ran.stderr));
}
