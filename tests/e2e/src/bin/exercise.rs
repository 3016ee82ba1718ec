#![forbid(unsafe_code)]
//! Uses libraries in a process of its own, where nothing else makes threads, opens files or touches memory:
//!
//! * `exercise cycles LIBRARY OPTIONS`: opens and closes an instance a hundred times and prints what the process has, before and
//!   after: descriptors, threads, mapped libraries.
//! * `exercise calls LIBRARY…`: every operation, small and large values, calls that are cancelled. For memory checkers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachekit_core::blocking::wait;
use cachekit_host::{Plugin, Policy};
use cachekit_plugin::{Backend, BackendError, Cx, HostServices, Key, Ttl};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["cycles", library, options] => cycles(Path::new(library), options),
        ["calls", libraries @ ..] => libraries.iter().for_each(|library| calls(Path::new(library))),
        _ => panic!("usage: exercise cycles LIBRARY OPTIONS | calls LIBRARY…"),
    }
}

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(60))
}

/// Three cycles warm up what is made once; a hundred more must add nothing.
fn cycles(library: &Path, options: &str) {
    for n in 0..103 {
        if n == 3 {
            println!("{}", counted());
        }
        let plugin = Plugin::open(library, &Policy::default()).unwrap();
        let backend = plugin.create(options.as_bytes(), HostServices::none()).unwrap();
        // A store that cannot be reached has an answer too.
        let _ = set(&backend, b"k", Bytes::from_static(b"v"));
        let _ = get(&backend, b"k");
        let _ = wait(backend.close(&cx()));
    }
    println!("{}", counted());
}

/// Descriptors, threads, mapped libraries. Threads that are on their way out are waited for.
fn counted() -> String {
    let entries = |what: &str| std::fs::read_dir(what).unwrap().count();
    let (mut threads, mut same) = (entries("/proc/self/task"), 0);
    while same < 20 {
        std::thread::sleep(Duration::from_millis(5));
        let now = entries("/proc/self/task");
        same = if now == threads { same + 1 } else { 0 };
        threads = now;
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libraries = maps.lines().filter(|line| line.contains(".so")).count();
    format!("{} descriptors, {threads} threads, {libraries} mapped parts", entries("/proc/self/fd"))
}

fn set(backend: &Arc<dyn Backend>, key: &[u8], value: Bytes) -> Result<(), BackendError> {
    wait(async { backend.set(Key::from_wire(key), value, Ttl::Never, &cx()).await })
}

fn get(backend: &Arc<dyn Backend>, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
    wait(async { backend.get(Key::from_wire(key), &cx()).await })
}

fn calls(library: &Path) {
    let plugin = Plugin::open(library, &Policy::default()).unwrap();
    // The chaos plugin wants to be told to behave, the others take no options.
    let chaos = plugin.identity().id == "test.chaos";
    let options = if chaos { br#"{"mode":"sleep","macros":true,"counts":true}"#.as_slice() } else { b"" };
    let backend = plugin.create(options, HostServices::none()).unwrap();
    let mut held = Vec::new();
    for size in [0, 1, 100, 5000, 100_000] {
        let value = Bytes::from(vec![7_u8; size]);
        let _ = set(&backend, b"k", value.clone());
        if let Ok(Some(found)) = get(&backend, b"k") {
            assert!(found == value, "{library:?}: {size} bytes came back as {}", found.len());
            held.push(found);
        }
        let _ = wait(async { backend.exists(Key::from_wire(b"k"), &cx()).await });
        let _ = wait(async { backend.delete(Key::from_wire(b"k"), &cx()).await });
    }
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..5 {
        let cx = cx();
        let mut call = backend.get(Key::from_wire(b"k"), &cx);
        let _ = call.as_mut().poll(&mut context);
    }
    let _ = wait(async { backend.health(&cx()).await });
    let _ = wait(async { backend.close(&cx()).await });
    drop(backend);
    // Values outlive their instance.
    let sum: u64 = held.iter().flat_map(|value| value.iter()).map(|byte| u64::from(*byte)).sum();
    println!("{}: {} values, sum {sum}", library.display(), held.len());
}
