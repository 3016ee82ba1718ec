//! What a library leaves behind in its host: nothing that grows. And the plugin in C below the sanitizers of its compiler.

use std::path::Path;
use std::process::Command;

use cachekit_e2e::{Place, artifacts, output};
use cachekit_test_servers::redis::Redis;
use serde_json::json;

fn exercise() -> Command {
    Command::new(env!("CARGO_BIN_EXE_exercise"))
}

#[test]
fn a_hundred_instances_leave_no_descriptor_no_thread_and_no_mapping() {
    let place = Place::new();
    let chaos = json!({ "mode": "sleep", "macros": true, "counts": true }).to_string();
    let file = json!({ "dir": place.path().join("store") }).to_string();
    let server = Redis::start();
    let redis = json!({ "url": server.url() }).to_string();
    // Nobody listens there: what a connection that failed leaves behind counts as well.
    let nobody = json!({ "url": "redis://127.0.0.1:1", "socket_connect_timeout": 0.2 }).to_string();
    for (name, library, options) in [
        ("C", artifacts::bad_c(&place, None), ""),
        ("C, asynchronous", artifacts::bad_c(&place, Some("ASYNC_GOOD")), ""),
        ("C, blocking", artifacts::bad_c(&place, Some("SLOW")), ""),
        ("chaos", artifacts::chaos_plugin().to_owned(), &chaos),
        ("file", artifacts::file_plugin().to_owned(), &file),
        ("redis", artifacts::redis_plugin().to_owned(), &redis),
        ("redis, of which there is none", artifacts::redis_plugin().to_owned(), &nobody),
    ] {
        let began = std::time::Instant::now();
        let printed = String::from_utf8(output(exercise().arg("cycles").arg(&library).arg(options)).stdout).unwrap();
        let [before, after] = printed.lines().collect::<Vec<_>>()[..] else { panic!("{name}: {printed}") };
        println!("{name}: {before}; after a hundred more: {after}; {:?}", began.elapsed());
        assert_eq!(before, after, "{name}");
    }
}

/// The control: an instance that leaves a thread behind is seen.
#[test]
fn a_library_that_leaves_a_thread_behind_each_time_is_seen() {
    let place = Place::new();
    let library = artifacts::bad_c(&place, Some("THREAD_OUTLIVES"));
    let printed = String::from_utf8(output(exercise().arg("cycles").arg(library).arg("")).stdout).unwrap();
    let [before, after] = printed.lines().collect::<Vec<_>>()[..] else { panic!("{printed}") };
    assert_ne!(before, after);
}

/// Of the plugin in C, in one piece with the sanitizers of its compiler: address and undefined behaviour, then threads.
#[test]
fn the_plugin_in_c_is_clean_below_the_sanitizers() {
    let place = Place::new();
    let source = cachekit_e2e::root().join("plugins-example/c-memory");
    let copy = place.path().join("c-memory");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
    }
    let include: &Path = &cachekit_e2e::root().join("cachekit-abi/include");
    let mut make = Command::new("make");
    make.arg("--silent").arg("-C").arg(&copy).arg(format!("CACHEKIT_INCLUDE={}", include.display())).arg("test");
    println!("{}", String::from_utf8_lossy(&output(&mut make).stdout));
}
