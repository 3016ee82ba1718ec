#![forbid(unsafe_code)]
//! Uses libraries in a process of its own, where nothing else makes threads or opens files, and which they may end:
//!
//! * `exercise cycles LIBRARY OPTIONS`: opens and closes an instance a hundred times and prints what the process has, before and
//!   after: descriptors, threads, mapped libraries.
//! * `exercise once LIBRARY OPTIONS`: one instance, one set, one get; then says that it is still there.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_core::blocking::wait;
use cachekit_host::{Plugin, Policy};
use cachekit_plugin::{Backend, BackendError, Cx, HostServices, Key, Ttl};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["cycles", library, options] => cycles(Path::new(library), options),
        ["once", library, options] => {
            cycle(Path::new(library), options);
            println!("still there");
        }
        _ => panic!("usage: exercise cycles|once LIBRARY OPTIONS"),
    }
}

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(60))
}

/// Three cycles warm up what is made once; a hundred more must add nothing.
///
/// What is on its way out is counted until it is gone, so whoever finds a difference counts again, for ten seconds. Where there
/// is less than before, it was the first count that saw something on its way out, and a hundred more are held to the second.
fn cycles(library: &Path, options: &str) {
    (0..3).for_each(|_| cycle(library, options));
    let mut before = counted();
    loop {
        (0..100).for_each(|_| cycle(library, options));
        let (asked, mut after) = (Instant::now(), counted());
        while after != before && asked.elapsed() < Duration::from_secs(10) {
            after = counted();
        }
        let grew = after.iter().zip(&before).any(|((_, after), (_, before))| after > before);
        if after == before || grew {
            println!("{}\n{}", told(&before), told(&after));
            return;
        }
        before = after;
    }
}

fn told(counted: &Counted) -> String {
    counted.map(|(what, count)| format!("{count} {what}")).join(", ")
}

/// An instance from its begin to its end.
fn cycle(library: &Path, options: &str) {
    let plugin = Plugin::open(library, &Policy::default()).unwrap();
    let backend = plugin.create(options.as_bytes(), HostServices::none()).unwrap();
    // A store that cannot be reached has an answer too.
    let _ = set(&backend, b"k", Bytes::from_static(b"v"));
    let _ = get(&backend, b"k");
    let _ = wait(backend.close(&cx()));
}

type Counted = [(&'static str, usize); 3];

/// Descriptors, threads, mapped libraries. Threads that are on their way out are waited for.
fn counted() -> Counted {
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
    [("descriptors", entries("/proc/self/fd")), ("threads", threads), ("mapped parts", libraries)]
}

fn set(backend: &Arc<dyn Backend>, key: &[u8], value: Bytes) -> Result<(), BackendError> {
    wait(async { backend.set(Key::from_wire(key), value, Ttl::Never, &cx()).await })
}

fn get(backend: &Arc<dyn Backend>, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
    wait(async { backend.get(Key::from_wire(key), &cx()).await })
}
