//! The story of somebody we never met: from an empty folder outside of this repository to a backend that a host uses which was
//! built before the backend existed. In Rust and in C, with the program as it is installed and nothing else of ours.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cachekit::{Config, EngineServices, Environment, Sources};
use cachekit_conformance::run_all;
use cachekit_e2e::harness::Loaded;
use cachekit_e2e::{Place, artifacts, output, root};
use cachekit_host::{Plugin, Policy};
use cachekit_test_servers::process::{Process, READY_WITHIN, until};
use serde_json::{Value as Json, json};

/// The program, in an empty home.
fn cachekit(place: &Place, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(artifacts::program());
    command.env_clear().env("HOME", place.path()).current_dir(folder).args(arguments);
    command
}

fn document(output: &Output) -> Json {
    let said = || format!("{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said()))
}

/// Hosts, byte for byte, as they were.
struct Hosts(HashMap<PathBuf, Vec<u8>>);

impl Hosts {
    /// Those of this test: the program, and this test itself.
    fn ours() -> Self {
        Self::of([artifacts::program().to_owned(), std::env::current_exe().unwrap()])
    }

    fn of(hosts: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(hosts.into_iter().map(|host| (host.clone(), fs::read(host).unwrap())).collect())
    }

    /// Which of them are other files by now.
    fn rebuilt(&self) -> Vec<&Path> {
        let other = |(host, was): &(&PathBuf, &Vec<u8>)| fs::read(host).map_or(true, |is| is != **was);
        self.0.iter().filter(other).map(|(host, _)| host.as_path()).collect()
    }
}

/// Begins `id` in an empty folder, lets `build` make its library, and uses it.
fn story(id: &str, lang: &[&str], build: impl FnOnce(&Path) -> PathBuf) {
    let place = Place::new();
    let before = Hosts::ours();
    let begun =
        document(&output(&mut cachekit(&place, place.path(), &[&["plugin", "new", id, "--json"], lang].concat())));
    let project = place.path().join(id);
    assert_eq!(begun["dir"], json!(project), "{begun}");

    let library = build(&project);
    assert_eq!(begun["library"], json!(library), "the library is where it was said to be");
    let library_text = library.to_str().unwrap();
    assert_eq!(
        document(&output(&mut cachekit(&place, &project, &["plugin", "inspect", library_text, "--json"])))["id"],
        id
    );
    let verified = document(&output(&mut cachekit(&place, &project, &["plugin", "verify", library_text, "--json"])));
    assert_eq!(verified["exports"].as_array().unwrap().len(), 1, "{verified}");
    assert!(
        verified["capabilities"]["backend"] == "native" && verified["capabilities"]["clear"] == "native",
        "{verified}"
    );
    let tested = document(&output(&mut cachekit(&place, &project, &["plugin", "test", library_text, "--json"])));
    let asked = tested["cases"].as_array().unwrap().iter().filter(|case| case["skipped_because"].is_null()).count();
    assert!(tested["failed"] == 0 && asked >= 40, "{asked} cases were asked: {tested}");
    // More cases with stores of their own, in this process, which was built before the library as well.
    let (plugin, stores) = (Plugin::open(&library, &Policy::default()).unwrap(), AtomicU32::new(0));
    let apart = move || json!({ "name": format!("apart-{}", stores.fetch_add(1, Ordering::Relaxed)) });
    let report = run_all(Arc::new(Loaded::new(plugin, json!({ "name": "shared" }), Box::new(apart))), |_| true);
    assert!(report.is_ok(), "{report}");

    // The configuration as it was written for the project names the library by its path.
    let config = project.join("cachekit.toml");
    let health = document(&output(&mut cachekit(&place, &project, &["--config", "cachekit.toml", "health", "--json"])));
    assert_eq!(health["backend_type"], id, "{health}");
    caches_in_a_process_that_stays(&place, &config);
    caches_in_this_process(&config);
    assert_eq!(before.rebuilt(), [] as [&Path; 0], "a host was rebuilt");
}

/// The program serves the store of `config`; two processes that come and go find in it what the other left.
fn caches_in_a_process_that_stays(place: &Place, config: &Path) {
    const KEY: &str = "ck_test_0123456789abcdef";
    let key = place.path().join("api-key");
    fs::write(&key, KEY).unwrap();
    let (config, tenant) = (config.to_str().unwrap(), format!("ours=file:{}", key.display()));
    let arguments = ["--config", config, "serve", "--listen", "127.0.0.1:0", "--plain-http", "--api-key", &tenant];
    let program = artifacts::program().to_str().unwrap();
    let mut server = Process::start(program, "no package: it was built by this test", place.path(), &arguments);
    let mut url = None;
    until("cachekit serve says where it listens", READY_WITHIN, || {
        let log = server.log();
        assert!(!server.has_ended(), "cachekit serve ended: {log}");
        url = log.lines().find(|line| line.starts_with("http://")).map(|line| format!("{line}/v1/cache/users:1"));
        url.is_some()
    });
    let url = url.unwrap();
    let curl = |more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--noproxy",
            "*",
            "--max-time",
            "30",
            "--write-out",
            " %{http_code}",
            "--oauth2-bearer",
            KEY,
        ]);
        String::from_utf8(output(curl.args(more).arg(&url)).stdout).unwrap()
    };
    assert!(curl(&[]).ends_with(" 404"), "it begins empty");
    let put = ["--request", "PUT", "--data-binary", "kept", "--header", "Content-Type: application/octet-stream"];
    assert!(curl(&[&put[..], &["--header", "X-CacheKit-TTL: 60"]].concat()).contains(" 2"));
    assert_eq!(curl(&[]), "kept 200");
    assert!(curl(&["--request", "DELETE"]).contains(" 2"));
    assert!(curl(&[]).ends_with(" 404"), "what was deleted is gone");
}

/// Two caches of this test over one instance: the second one's L1 is empty, so what it serves comes from the plugin.
fn caches_in_this_process(config: &Path) {
    let config = Config::resolve(&Sources {
        file: Some(config.to_owned()),
        environment: Environment::from_vars([]),
        ..Sources::default()
    })
    .unwrap();
    let store = config.open_tier(&cachekit::built_in(), EngineServices::shared()).unwrap().expect("it names a tier");
    let build = || config.builder(&cachekit::built_in(), EngineServices::shared()).unwrap();
    let writer = build().backend(Arc::clone(&store)).build().unwrap();
    let reader = build().backend(store).build().unwrap();
    let (writes, reads) = (writer.blocking(), reader.blocking());
    assert_eq!(reads.get::<String>("who").unwrap(), None);
    let loaded = writes.get_or_load("who", || "a stranger".to_owned()).unwrap();
    assert_eq!(*loaded, "a stranger");
    assert_eq!(reads.get_or_load("who", || unreachable!("it is in the store")).unwrap(), loaded);
    assert_eq!(reads.get::<String>("who").unwrap(), Some(loaded));
    let (wrote, read) = (writer.stats(), reader.stats());
    assert_eq!((wrote.loads, read.loads), (1, 0));
    assert_eq!((read.l2_hits, read.l1.as_ref().map(|l1| l1.hits)), (1, Some(1)), "{read:?}");
    assert_eq!((read.l2_errors, read.refused.len()), (0, 0), "{read:?}");
    assert!(reads.delete("who").unwrap());
    assert_eq!(reads.get::<String>("who").unwrap(), None);
}

/// The control of what the stories say at their end: another byte, another length, no file at all.
#[test]
fn a_host_that_was_rebuilt_is_noticed() {
    let place = Place::new();
    let [same, byte, longer, gone] = ["same", "byte", "longer", "gone"].map(|name| place.path().join(name));
    for copy in [&same, &byte, &longer, &gone] {
        fs::copy(artifacts::program(), copy).unwrap();
    }
    let before = Hosts::of([same.clone(), byte.clone(), longer.clone(), gone.clone()]);
    assert_eq!(before.rebuilt(), [] as [&Path; 0]);
    let program = fs::read(&same).unwrap();
    let mut other = program.clone();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    fs::write(&byte, other).unwrap();
    fs::write(&longer, [&program[..], b"\0"].concat()).unwrap();
    fs::remove_file(&gone).unwrap();
    // Written anew with what was there is the host that it was.
    fs::write(&same, program).unwrap();
    let mut noticed = before.rebuilt();
    noticed.sort();
    assert_eq!(noticed, [byte, gone, longer]);
}

#[test]
fn a_backend_in_rust_goes_from_an_empty_folder_into_a_host_that_is_not_rebuilt() {
    let sdk = root();
    let lang = ["--lang", "rust", "--sdk", sdk.to_str().unwrap()];
    story("acme.rust-shelf", &lang, |project| artifacts::build_as_a_stranger(project, "acme_rust_shelf"));
}

#[test]
fn a_backend_in_c_goes_from_an_empty_folder_into_a_host_that_is_not_rebuilt() {
    story("acme.c-shelf", &["--lang", "c"], |project| {
        for target in ["all-of-it", "test", "sanitize"] {
            let mut make = Command::new("make");
            // The first target of the Makefile is the library.
            output(make.arg("--silent").args((target != "all-of-it").then_some(target)).current_dir(project));
        }
        project.join("acme.c-shelf.so")
    });
}

#[test]
fn what_a_stranger_does_wrong_is_told_in_words_that_help() {
    let place = Place::new();
    output(&mut cachekit(&place, place.path(), &["plugin", "new", "shelf", "--lang", "c"]));
    let project = place.path().join("shelf");
    let refused = |folder: &Path, arguments: &[&str], code: i32, said: &str| {
        let output = cachekit(&place, folder, arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    };
    // Used before it was built: the configuration, its line and the path are named.
    refused(&project, &["--config", "cachekit.toml", "health"], 5, "cachekit.toml:6");
    refused(&project, &["plugin", "test", "./shelf.so"], 2, "cannot be found");
    // A source instead of a library.
    refused(&project, &["plugin", "test", "plugin.c"], 5, "no ELF file");
    output(Command::new("make").arg("--silent").current_dir(&project));

    // A path that depends on where the host was started.
    let config = fs::read_to_string(project.join("cachekit.toml")).unwrap();
    let absolute = format!("{:?}", project.join("shelf.so"));
    for (name, path, said) in [
        ("relative.toml", "\"shelf.so\"", "absolute"),
        ("dotted.toml", "\"./shelf.so\"", "absolute"),
        ("around.toml", &*format!("{:?}", project.join("../shelf/shelf.so")), ".."),
    ] {
        let wrong = config.replace(&absolute, path);
        assert_ne!(wrong, config, "{absolute} stands in it");
        fs::write(project.join(name), wrong).unwrap();
        let output = cachekit(&place, &project, &["--config", name, "health"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(said) && error.contains(name), "{name}: {error}");
    }
    // An option that it does not have, and a file that others may write.
    fs::write(project.join("option.toml"), config.replace("max_bytes", "max_bites")).unwrap();
    refused(&project, &["--config", "option.toml", "health"], 2, "max_bites");
    fs::set_permissions(project.join("shelf.so"), fs::Permissions::from_mode(0o664)).unwrap();
    refused(&project, &["--config", "cachekit.toml", "health"], 5, "chmod go-w");
    fs::set_permissions(project.join("shelf.so"), fs::Permissions::from_mode(0o644)).unwrap();
    output(&mut cachekit(&place, &project, &["--config", "cachekit.toml", "health"]));
}

#[test]
fn without_the_sdk_a_project_in_rust_does_not_build_and_cargo_says_which_folder_is_missing() {
    let place = Place::new();
    // A checkout in name, so that the project can be begun; then it goes.
    let sdk = place.path().join("checkout");
    for (folder, name) in [("cachekit-plugin", "cachekit-plugin"), ("tests/conformance", "cachekit-conformance")] {
        fs::create_dir_all(sdk.join(folder)).unwrap();
        fs::write(sdk.join(folder).join("Cargo.toml"), format!("[package]\nname = {name:?}\n")).unwrap();
    }
    output(&mut cachekit(&place, place.path(), &["plugin", "new", "shelf", "--lang", "rust", "--sdk", "checkout"]));
    fs::remove_dir_all(&sdk).unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built =
        Command::new(cargo).args(["build", "--offline"]).current_dir(place.path().join("shelf")).output().unwrap();
    let error = String::from_utf8_lossy(&built.stderr);
    assert!(!built.status.success() && error.contains(sdk.join("cachekit-plugin").to_str().unwrap()), "{error}");
}
