//! The house rules that a machine can check.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

use crate::cargo::cargo;

/// Who may depend on whom inside the workspace, besides tests. No arrow leads from a backend to the engine.
const LAW: &[(&str, &[&str])] = &[
    ("cachekit-abi", &[]),
    ("cachekit-plugin", &["cachekit-abi"]),
    ("cachekit-host", &["cachekit-abi", "cachekit-plugin"]),
    ("cachekit-core", &["cachekit-plugin", "cachekit-host"]),
    (
        "cachekit",
        &[
            // Behind the feature `testing`: the reference store is what users test with, too.
            "cachekit-conformance",
            "cachekit-core",
            "cachekit-macros",
            "cachekit-plugin",
            "cachekit-backend-cachekitio",
            "cachekit-backend-file",
            "cachekit-backend-memcached",
            "cachekit-backend-redis",
        ],
    ),
    (
        "cachekit-cli",
        &["cachekit", "cachekit-core", "cachekit-host", "cachekit-plugin", "cachekit-conformance", "cachekit-serve"],
    ),
    // Words into words: it knows nothing of what it writes about.
    ("cachekit-macros", &[]),
    ("cachekit-serve", &["cachekit-plugin"]),
    ("cachekit-backend-cachekitio", &["cachekit-plugin"]),
    ("cachekit-backend-file", &["cachekit-plugin"]),
    ("cachekit-backend-memcached", &["cachekit-plugin"]),
    ("cachekit-backend-redis", &["cachekit-plugin"]),
    ("cachekit-test-servers", &[]),
    ("cachekit-conformance", &["cachekit-plugin"]),
    ("cachekit-crossing", &["cachekit-abi", "cachekit-host", "cachekit-plugin", "null-plugin"]),
    ("cachekit-models", &[]),
    ("null-plugin", &["cachekit-plugin"]),
    ("xtask", &[]),
];

/// Crates whose unsafe code is their purpose.
const MAY_BE_UNSAFE: &[&str] = &["cachekit-abi", "cachekit-plugin", "cachekit-host"];
/// Crates with one place that counts as unsafe: the export of a backend names a symbol, the crossing is called by hand.
const DENY_SUFFICES: &[&str] = &[
    "cachekit-backend-cachekitio",
    "cachekit-backend-file",
    "cachekit-backend-memcached",
    "cachekit-backend-redis",
    "cachekit-crossing",
    "null-plugin",
];

/// Names that say nothing about what is inside.
const NO_ROOMS: &[&str] = &["utils", "util", "common", "helpers", "misc"];

/// Clients of stores and everything that opens sockets: the engine has none of them.
const NO_NETWORK: &[&str] = &["reqwest", "hyper", "redis", "memcache", "openssl", "native-tls", "rustls"];

/// Checks everything and names all that is wrong.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    dependencies(&mut wrong)?;
    lock_file(&fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock is part of the project")?, &mut wrong);
    let files = tracked(root)?;
    for file in &files {
        source(root, file, &mut wrong)?;
    }
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
    if architecture.lines().count() > 300 || architecture.is_empty() {
        wrong.push("ARCHITECTURE.md: must exist and stay below 300 lines".into());
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("not tidy:\n  {}", wrong.join("\n  "))
}

fn dependencies(wrong: &mut Vec<String>) -> Result<()> {
    let output = cargo().args(["metadata", "--format-version=1", "--no-deps"]).output()?;
    let metadata: Json = serde_json::from_slice(&output.stdout).context("cargo metadata is JSON")?;
    let packages = metadata["packages"].as_array().context("metadata lists packages")?;
    let law: BTreeMap<&str, &[&str]> = LAW.iter().copied().collect();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        // Tests of the whole look at the whole.
        if ["cachekit-chaos", "cachekit-e2e"].contains(&name) {
            continue;
        }
        let Some(allowed) = law.get(name) else {
            wrong.push(format!("{name}: not in the dependency law of xtask/src/tidy.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            // Tests may look at anything.
            if dependency["kind"] == "dev" {
                continue;
            }
            let ours = on.starts_with("cachekit") || law.contains_key(on);
            if ours && !allowed.contains(&on) {
                wrong.push(format!("{name}: must not depend on {on}"));
            }
            let networked = NO_NETWORK.contains(&on);
            if networked && ["cachekit-abi", "cachekit-plugin", "cachekit-host", "cachekit-core"].contains(&name) {
                wrong.push(format!("{name}: has no network client, so not {on}"));
            }
        }
    }
    Ok(())
}

/// What must not come in by any path.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "use rustls"),
    ("native-tls", "use rustls"),
    ("moka", "peers belong into benches-compare"),
    ("cachekit-rs", "peers belong into benches-compare"),
];

fn lock_file(lock: &str, wrong: &mut Vec<String>) {
    for (name, instead) in BANNED {
        if lock.lines().any(|line| line == format!("name = \"{name}\"")) {
            wrong.push(format!("Cargo.lock: {name} is banned, {instead}"));
        }
    }
}

fn source(root: &Path, file: &Path, wrong: &mut Vec<String>) -> Result<()> {
    let shown = file.display();
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if file.extension().is_none_or(|extension| extension != "rs") {
        return Ok(());
    }
    if NO_ROOMS.contains(&stem) || file.components().any(|part| NO_ROOMS.iter().any(|room| part.as_os_str() == *room)) {
        wrong.push(format!("{shown}: name the room after what is in it"));
    }
    let text = fs::read_to_string(root.join(file)).with_context(|| format!("{shown} is listed, but not there"))?;
    if !text.lines().take(12).any(|line| line.starts_with("//!")) {
        wrong.push(format!("{shown}: begins without a `//!` that says what it protects and why"));
    }
    if text.contains(concat!("#[ig", "nore")) {
        wrong.push(format!("{shown}: an ignored test is no test"));
    }
    if file.ends_with("src/lib.rs") || file.ends_with("src/main.rs") {
        crate_root(root, file, &text, wrong)?;
    }
    Ok(())
}

fn crate_root(root: &Path, file: &Path, text: &str, wrong: &mut Vec<String>) -> Result<()> {
    let Some(folder) = file.parent().and_then(Path::parent) else { return Ok(()) };
    let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap_or_default();
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).unwrap_or_default();
    // Fixtures and benches are misbehaviour and measurement on purpose.
    if MAY_BE_UNSAFE.contains(&name) || !LAW.iter().any(|(known, _)| *known == name) {
        return Ok(());
    }
    let wanted = if DENY_SUFFICES.contains(&name) { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
    if !text.lines().take(3).any(|line| line == wanted) {
        wrong.push(format!("{}: must begin with {wanted}", file.display()));
    }
    Ok(())
}

/// The files that belong to the project.
fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let listing = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").current_dir(root).args(listing).output().context("git is needed to list files")?;
    let files = String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect::<Vec<_>>();
    Ok(files.into_iter().filter(|file| root.join(file).is_file()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        check(&crate::root()).unwrap();
    }

    #[test]
    fn what_is_untidy_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("a/Cargo.toml", "name = \"cachekit-core\"\n");
        put("a/src/lib.rs", "//! Head.\n");
        put("a/src/utils.rs", "fn headless() {}\n");
        put("a/src/test.rs", concat!("//! Head.\n#[ig", "nore]\n"));
        let mut wrong = Vec::new();
        lock_file("[[package]]\nname = \"openssl-sys\"\n", &mut wrong);
        for file in ["a/src/lib.rs", "a/src/utils.rs", "a/src/test.rs"] {
            source(dir.path(), Path::new(file), &mut wrong).unwrap();
        }
        let all = wrong.join("\n");
        for word in ["forbid(unsafe_code)", "room", "without a `//!`", "ignored", "openssl-sys is banned"] {
            assert!(all.contains(word), "{word} is not in\n{all}");
        }
        assert_eq!(wrong.len(), 5, "{all}");
    }
}
