//! `plugin new`, as far as nothing has to be compiled for it: what it writes, and what it says to mistakes. That what it writes
//! builds and conforms is shown by `tests/e2e/tests/stranger.rs`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::program::Home;

/// The checkout in which this test was built.
fn checkout() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.canonicalize().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_project_says_where_it_is_and_what_comes_next() {
    let home = Home::new();
    let (place, sdk) = (home.path().canonicalize().unwrap(), checkout());
    let ran = home.run(["plugin", "new", "acme.shelf", "--lang", "rust", "--sdk", &sdk]).expect(0);
    let steps = ["cd acme.shelf", "cargo build --release", "plugin test ./target/release/libacme_shelf.so", "health"];
    assert!(steps.iter().all(|step| ran.out().contains(step)), "{ran:?}");
    let document =
        home.run(["plugin", "new", "acme.other", "--lang", "c", "--dir", "elsewhere", "--json"]).expect(0).json();
    assert_eq!(
        (&document["id"], &document["lang"], &document["sdk"]),
        (&json!("acme.other"), &json!("c"), &json!(null))
    );
    assert_eq!(document["dir"], json!(place.join("elsewhere")));
    assert_eq!(document["library"], json!(place.join("elsewhere/acme.other.so")));
    assert_eq!(document["next"][1], "make");
    for file in document["files"].as_array().unwrap() {
        assert!(place.join("elsewhere").join(file.as_str().unwrap()).is_file(), "{file}");
    }
    for file in
        ["Cargo.toml", "src/lib.rs", "README.md", "LICENSE", ".gitignore", "cachekit.toml", ".github/workflows/ci.yml"]
    {
        assert!(place.join("acme.shelf").join(file).is_file(), "{file}");
    }
}

#[test]
fn a_program_that_stands_in_a_checkout_takes_its_sdk_and_another_asks_for_one() {
    let home = Home::new();
    let place = home.path().canonicalize().unwrap();
    for (folder, name) in [("cachekit-plugin", "cachekit-plugin"), ("tests/conformance", "cachekit-conformance")] {
        home.write(&format!("checkout/{folder}/Cargo.toml"), &format!("[package]\nname = \"{name}\"\n"));
    }
    let run = |folder: &str| {
        let program = place.join(folder).join("cachekit");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_cachekit"), &program).unwrap();
        let mut command = std::process::Command::new(&program);
        let output = command.args(["plugin", "new", "shelf", "--lang", "rust", "--json"]).current_dir(&place).output();
        std::fs::remove_file(program).unwrap();
        output.unwrap()
    };
    let output = run("installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("where is the SDK?") && said.contains("--sdk takes a checkout of cachekit"), "{said}");
    assert!(!place.join("shelf").exists());
    let document: serde_json::Value =
        serde_json::from_slice(&run("checkout/target/debug").stdout).expect("one document");
    assert_eq!(document["sdk"], json!(place.join("checkout")));
}

#[test]
fn mistakes_are_told_in_words_and_leave_nothing_behind() {
    let home = Home::new();
    home.write("taken/file", "mine");
    home.write("not-a-folder", "mine");
    std::os::unix::fs::symlink("nowhere", home.path().join("dangling")).unwrap();
    let sdk = checkout();
    for (arguments, said) in [
        (&["shelf", "--lang", "go"][..], "possible values: rust, c"),
        (&["shelf"][..], "--lang"),
        (&["taken", "--lang", "c"][..], "nothing is overwritten"),
        (&["not-a-folder", "--lang", "c"][..], "nothing is overwritten"),
        (&["shelf", "--lang", "c", "--dir", "dangling"][..], "nothing is overwritten"),
        (&["shelf", "--lang", "c", "--dir", "no/such/place"][..], "cannot be made"),
        (&["acme/shelf", "--lang", "c"][..], "is a name, not a path"),
        (&["../shelf", "--lang", "c"][..], "is a name, not a path"),
        (&["..", "--lang", "c"][..], "is a name, not a path"),
        (&["Shelf", "--lang", "c"][..], "lower-case letters: shelf"),
        (&["match", "--lang", "rust", "--sdk", &sdk][..], "is a word of Rust"),
        (&["shelf", "--lang", "rust", "--sdk", "0.1"][..], "no registry yet"),
        (&["shelf", "--lang", "rust", "--sdk", "taken"][..], "no crate cachekit-plugin"),
        (&["shelf", "--lang", "rust", "--sdk", "nowhere"][..], "cannot be found"),
        (&["shelf", "--lang", "rust", "--sdk", "http://host/cachekit"][..], "take https://"),
    ] {
        let ran = home.run(["plugin", "new"].iter().chain(arguments)).expect(2);
        assert!(ran.err.contains(said), "{arguments:?}: {ran:?}");
    }
    let mut left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["dangling", "not-a-folder", "taken"]);
    assert_eq!(std::fs::read_to_string(home.path().join("taken/file")).unwrap(), "mine");
}

#[test]
fn folders_are_the_users_own_under_any_umask_and_a_loose_one_is_named() {
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_cachekit");
    for (umask, is_loose) in [("002", true), ("022", false), ("077", false)] {
        let name = format!("shelf-{umask}");
        let line = format!("umask {umask} && exec {program} plugin new {name} --lang rust --sdk {} --json", checkout());
        let mut shell = std::process::Command::new("sh");
        let output = shell.args(["-c", &line]).current_dir(home.path()).output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one document");
        let names_it = document["next"].as_array().unwrap().contains(&json!("umask 022"));
        assert_eq!(names_it, is_loose, "umask {umask}: {document}");
        for folder in ["", "src", ".github/workflows"] {
            let mode = home.path().join(&name).join(folder).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o022, 0, "umask {umask}, {folder:?}: {mode:o}");
        }
    }
}
