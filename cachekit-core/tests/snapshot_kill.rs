//! A process that is killed while it saves L1 leaves the older file or the newer, whole.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cachekit_core::Cache;
use cachekit_core::cache::SetOptions;

const PLACE: &str = "CACHEKIT_TEST_SNAPSHOT_PLACE";
const ENTRIES: u32 = 2_000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Not a test of its own: what the test below starts and kills. It saves generation after generation, each of other values.
#[test]
fn child_that_saves_until_it_is_killed() {
    let Some(path) = std::env::var_os(PLACE) else { return };
    let begun = Instant::now();
    runtime().block_on(async {
        let cache = Cache::builder().build().unwrap();
        for generation in 1_u32.. {
            let value = generation.to_le_bytes().repeat(50);
            for n in 0..ENTRIES {
                cache.set_bytes(n.to_string(), &value, SetOptions::default()).await.unwrap();
            }
            cache.save_snapshot(&path).unwrap();
            // Whoever should kill it may be gone.
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
    });
}

/// The generation that a snapshot holds, all of it.
fn generation(path: &std::path::Path) -> u32 {
    let cache = Cache::builder().build().unwrap();
    assert_eq!(cache.load_snapshot(path), u64::from(ENTRIES), "{:?}", cache.stats());
    runtime().block_on(async {
        let mut generations = Vec::new();
        for n in 0..ENTRIES {
            let value = cache.get_bytes(n.to_string()).await.unwrap().expect("all of a generation is there");
            generations.push(u32::from_le_bytes(value[..4].try_into().unwrap()));
        }
        generations.dedup();
        assert_eq!(generations.len(), 1, "two generations in one file");
        generations[0]
    })
}

#[test]
fn a_process_killed_while_it_saves_leaves_the_older_or_the_newer_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l1.snapshot");
    let (mut kills_in_the_middle, mut random) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..12 {
        let _ = std::fs::remove_file(&path);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_saves_until_it_is_killed", "--nocapture"])
            .env(PLACE, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // From the first file on, however slow the machine is.
        let begun = Instant::now();
        while !path.exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(50) && child.try_wait().unwrap().is_none(),
                "it saves nothing"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_micros(random % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(generation(&path) >= 1);
        // What the killed one was writing lies beside it, and the next one takes its place.
        kills_in_the_middle += u32::from(dir.path().join(".l1.snapshot.tmp").exists());
        let cache = Cache::builder().build().unwrap();
        assert_eq!(cache.save_snapshot(&path).unwrap(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }
    println!("{kills_in_the_middle} of 12 were killed in the middle of a save");
}
