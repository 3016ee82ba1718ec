//! A child made by `fork()` goes on with what its parent had in L1, and ends it on time: no clock of the engine depends on a
//! thread that the child lacks. A program of its own without the test harness, because a process that forks should have no
//! threads but those of the engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_core::Cache;
use cachekit_core::blocking::wait;
use cachekit_core::cache::SetOptions;
use cachekit_e2e::{Place, artifacts};
use cachekit_host::{Plugin, Policy};
use cachekit_plugin::{Backend, Cx, HostServices, Key, Kind, Ttl};

const LIFE: Duration = Duration::from_millis(300);
/// However slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn alarm(seconds: u32) -> u32;
    fn _exit(status: i32) -> !;
}

async fn is_there(cache: &Cache, key: &str) -> bool {
    cache.get::<String>(key).await.expect("a cache without a store answers").is_some()
}

/// Waits until the value is over; `false` if it never is.
async fn ends(cache: &Cache, key: &str) -> bool {
    let begun = Instant::now();
    while is_there(cache, key).await {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// What the child does; its exit status.
async fn in_child(cache: &Cache) -> i32 {
    if !is_there(cache, "for good").await {
        return 1;
    }
    if !ends(cache, "inherited").await {
        return 2;
    }
    let options = SetOptions::default().with_ttl(LIFE);
    if cache.set_with("its own", "v", options).await.is_err() {
        return 3;
    }
    if !ends(cache, "its own").await {
        return 4;
    }
    let loaded = cache.get_or_load("loaded", async || "v".to_owned()).await;
    if loaded.is_err() || !is_there(cache, "loaded").await || !is_there(cache, "for good").await {
        return 5;
    }
    0
}

fn open(library: &std::path::Path, options: &str) -> Arc<dyn Backend> {
    let plugin = Plugin::open(library, &Policy::default()).expect("it loads");
    plugin.create(options.as_bytes(), HostServices::none()).expect("it opens")
}

fn get(backend: &dyn Backend) -> Result<Option<Bytes>, Kind> {
    let cx = Cx::within(PATIENCE);
    wait(async { backend.get(Key::from_wire(b"k"), &cx).await }).map_err(|error| error.kind())
}

fn set(backend: &dyn Backend) {
    let cx = Cx::within(PATIENCE);
    wait(async { backend.set(Key::from_wire(b"k"), Bytes::from_static(b"v"), Ttl::Never, &cx).await })
        .expect("it is kept");
}

/// What a child finds of libraries that its parent has used; its exit status.
fn libraries_in_child(in_place: &dyn Backend, pooled: &dyn Backend, with_runtime: Arc<dyn Backend>) -> i32 {
    // No thread was needed, so none is missing.
    if get(in_place) != Ok(Some(Bytes::from_static(b"v"))) {
        return 21;
    }
    // The threads stayed with the parent, and it says so instead of waiting for them.
    if get(pooled) != Err(Kind::Forked) {
        return 22;
    }
    // What waits for the parent's threads is given up, like everything that never ends.
    let cache = Cache::builder().backend(with_runtime).deadline(LIFE).strict(true).without_l1().build();
    let Ok(cache) = cache else { return 23 };
    if cache.blocking().get::<u32>("k").is_ok() {
        return 24;
    }
    // And a new instance has what it needs: its runtime is started anew.
    let again = open(artifacts::chaos_plugin(), SLEEPING);
    set(&*again);
    if get(&*again) != Ok(Some(Bytes::from_static(b"v"))) {
        return 25;
    }
    0
}

/// Wants timers and tasks of a runtime of its own for each get.
const SLEEPING: &str = r#"{"mode":"sleep"}"#;

/// A child has the libraries of its parent mapped, but not the threads they have begun.
fn libraries() {
    let place = Place::new();
    let in_place = open(&artifacts::bad_c(&place, None), "");
    let pooled = open(&artifacts::bad_c(&place, Some("SLOW")), "");
    let with_runtime = open(artifacts::chaos_plugin(), SLEEPING);
    for backend in [&in_place, &pooled, &with_runtime] {
        set(&**backend);
        assert_eq!(get(&**backend), Ok(Some(Bytes::from_static(b"v"))));
    }
    // SAFETY: the child uses what the host promises to work after a fork, and ends by `_exit`, which runs nothing of the
    // parent's; should it hang, the alarm ends it.
    let status = unsafe {
        let pid = fork();
        assert!(pid >= 0, "no child");
        if pid == 0 {
            alarm(120);
            _exit(libraries_in_child(&*in_place, &*pooled, with_runtime));
        }
        let mut status = -1;
        assert_eq!(waitpid(pid, &mut status, 0), pid);
        status
    };
    assert_eq!(status, 0, "the child failed at step {} (signal {})", status >> 8, status & 127);
    assert_eq!(get(&*with_runtime), Ok(Some(Bytes::from_static(b"v"))), "the parent goes on");
    println!("a forked child used its parent's libraries, or was told that it cannot");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let cache = Cache::builder().build().expect("a cache");
    runtime.block_on(async {
        cache.set("for good", "v").await.expect("it is kept");
        cache.set_with("inherited", "v", SetOptions::default().with_ttl(LIFE)).await.expect("it is kept");
        assert!(is_there(&cache, "for good").await);
    });
    drop(runtime);
    // SAFETY: the child uses a runtime of its own and what the engine promises to work after a fork, and ends by `_exit`, which
    // runs nothing of the parent's.
    let status = unsafe {
        let pid = fork();
        assert!(pid >= 0, "no child");
        if pid == 0 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            _exit(runtime.map_or(9, |runtime| runtime.block_on(in_child(&cache))));
        }
        let mut status = -1;
        assert_eq!(waitpid(pid, &mut status, 0), pid);
        status
    };
    assert_eq!(status, 0, "the child failed at step {}", status >> 8);
    println!("a forked child ended what it inherited and what it kept itself");
    drop(cache);
    libraries();
}
