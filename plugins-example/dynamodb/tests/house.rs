//! What this plugin stands on: of ours the one crate that every author has, and of others nothing that needs a system library.

use std::path::Path;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn it_depends_on_the_one_crate_that_authors_have() {
    let manifest = file("Cargo.toml");
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let dependencies = rest.split("\n[").next().unwrap();
    let ours: Vec<&str> =
        dependencies.lines().filter(|line| line.starts_with("cachekit") || line.contains("path =")).collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert!(ours[0].starts_with("cachekit-plugin = "), "{ours:?}");
}

#[test]
fn nothing_needs_openssl_or_cmake() {
    let lock = file("Cargo.lock");
    let has = |name: &str| lock.lines().any(|line| line == format!("name = \"{name}\""));
    for banned in ["openssl", "openssl-sys", "native-tls", "aws-lc-sys", "aws-lc-rs", "cmake", "hyper-tls"] {
        assert!(!has(banned), "{banned} came in");
    }
    assert!(has("rustls") && has("ring"));
}
