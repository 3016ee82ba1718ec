//! A child made by `fork()` goes on with what its parent had in L1, and ends it on time: no clock of the engine depends on a
//! thread that the child lacks. A program of its own without the test harness, because a process that forks should have no
//! threads but those of the engine.

use std::time::{Duration, Instant};

use cachekit_core::Cache;
use cachekit_core::cache::SetOptions;

const LIFE: Duration = Duration::from_millis(300);
/// However slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
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
}
