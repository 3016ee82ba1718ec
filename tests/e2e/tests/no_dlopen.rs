//! A program that was built without plugins has no way to load one: it does not even import the function.

use std::fs;
use std::path::Path;
use std::process::Command;

use cachekit_e2e::{artifacts, output, root};
use object::read::elf::{ElfFile64, FileHeader};
use object::{Endianness, Object, ObjectSymbol};
use serde_json::Value as Json;

/// An example that takes its configuration from the environment, built with these features beside the other builds of these tests.
fn example(features: &str) -> Vec<u8> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(root()).args(["build", "-p", "cachekit", "--example", "redis_from_env"]);
    build.args(["--no-default-features", "--features", features, "--message-format=json-render-diagnostics"]);
    build.env("CARGO_TARGET_DIR", root().join("target/e2e/workspace"));
    let messages = output(&mut build).stdout;
    let program = messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Json>(line).ok())
        .filter(|message| message["target"]["name"] == "redis_from_env")
        .find_map(|message| message["executable"].as_str().map(str::to_owned));
    fs::read(Path::new(&program.expect("cargo tells where it put the program"))).unwrap()
}

/// What a program takes from the libraries that it is linked with.
fn imports(program: &[u8]) -> Vec<String> {
    let file = ElfFile64::<Endianness>::parse(program).unwrap();
    assert!(file.elf_header().is_class_64());
    let undefined = file.dynamic_symbols().filter(|symbol| symbol.is_undefined());
    undefined.filter_map(|symbol| symbol.name().ok().map(str::to_owned)).collect()
}

fn can_load(imports: &[String]) -> bool {
    imports.iter().any(|name| ["dlopen", "dlmopen", "__libc_dlopen_mode"].contains(&name.as_str()))
}

#[test]
fn a_build_without_plugins_imports_no_dlopen() {
    let without = imports(&example("file"));
    assert!(without.len() > 20 && without.iter().any(|name| name == "malloc"), "{without:?}");
    assert!(!can_load(&without), "{without:?}");
    // The control: a program with plugins.
    assert!(can_load(&imports(&fs::read(artifacts::program()).unwrap())));
}
