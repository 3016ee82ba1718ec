//! L1 on disk: what comes back, for how long, and what does not.

use std::path::PathBuf;

use super::*;
use crate::clock::Clock;

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
    clock: Arc<ManualClock>,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l1.snapshot");
    Place { _dir: dir, path, clock: Arc::new(ManualClock::new()) }
}

impl Place {
    fn cache(&self) -> Cache {
        Cache::builder().clock(self.clock.clone()).build().unwrap()
    }

    /// A cache with `count` entries that live for a minute, saved.
    async fn saved(&self, count: u32) -> Cache {
        let cache = self.cache();
        for n in 0..count {
            let options = SetOptions::default().with_ttl(Duration::from_secs(60));
            cache.set_with(n.to_string(), &format!("value {n}"), options).await.unwrap();
        }
        assert_eq!(cache.save_snapshot(&self.path).unwrap(), u64::from(count));
        cache
    }

    /// What a new process has of them.
    async fn restored(&self, count: u32) -> u32 {
        let cache = self.cache();
        let told = cache.load_snapshot(&self.path);
        let mut found = 0;
        for n in 0..count {
            if let Some(value) = cache.get::<String>(n.to_string()).await.unwrap() {
                assert_eq!(*value, format!("value {n}"));
                found += 1;
            }
        }
        assert_eq!(told, u64::from(found));
        assert_eq!(cache.stats().snapshot_restored, told);
        found
    }
}

#[tokio::test]
async fn what_was_saved_comes_back_with_the_life_it_had_left() {
    let place = place();
    let cache = place.saved(100).await;
    cache.set("for good", &1).await.unwrap();
    cache.namespace("other").unwrap().set("k", &2).await.unwrap();
    cache.set_bytes("bytes", b"as they are", SetOptions::default()).await.unwrap();
    assert_eq!(cache.save_snapshot(&place.path).unwrap(), 103);
    assert_eq!(cache.stats().snapshots_saved, 2);
    place.clock.advance(Duration::from_secs(59));
    assert_eq!(place.cache().load_snapshot(&place.path), 103);
    place.clock.advance(Duration::from_secs(1));
    let again = place.cache();
    assert_eq!(again.load_snapshot(&place.path), 3, "a hundred are over");
    assert_eq!(*again.get::<i32>("for good").await.unwrap().unwrap(), 1);
    assert_eq!(*again.namespace("other").unwrap().get::<i32>("k").await.unwrap().unwrap(), 2);
    assert_eq!(&again.get_bytes("bytes").await.unwrap().unwrap()[..], b"as they are");
}

#[tokio::test]
async fn a_life_does_not_grow_when_the_wall_clock_is_set_back() {
    let place = place();
    let _cache = place.saved(1).await;
    place.clock.set_unix_ms(1_704_067_200_000 - 3_600_000);
    let cache = place.cache();
    // An entry from the future beyond the skew is not opened at all; within it, it has what it had left.
    cache.load_snapshot(&place.path);
    place.clock.advance(Duration::from_secs(60));
    assert!(cache.get::<String>("0").await.unwrap().is_none());
}

#[tokio::test]
async fn what_was_cleared_or_deleted_before_is_not_in_it_and_what_is_newer_stays() {
    let place = place();
    let cache = place.saved(10).await;
    cache.delete("3").await.unwrap();
    let other = cache.namespace("other").unwrap();
    other.set("k", &1).await.unwrap();
    other.clear().await.unwrap();
    assert_eq!(cache.save_snapshot(&place.path).unwrap(), 9);
    let cache = place.cache();
    cache.set("0", "newer").await.unwrap();
    assert_eq!(cache.load_snapshot(&place.path), 8);
    assert_eq!(*cache.get::<String>("0").await.unwrap().unwrap(), "newer");
    assert!(cache.get::<String>("3").await.unwrap().is_none());
}

#[tokio::test]
async fn what_the_store_may_change_comes_back_for_the_cap_and_no_longer() {
    let place = place();
    let store: Arc<dyn Backend> = Arc::new(Memory::new(MemoryConfig::default()));
    let build = || {
        let builder = Cache::builder().clock(place.clock.clone()).backend(Arc::clone(&store)).coherence(false);
        builder.l1_ttl_cap(Duration::from_secs(30)).build().unwrap()
    };
    let cache = build();
    cache.set("k", "older").await.unwrap();
    place.clock.advance(Duration::from_secs(10));
    assert_eq!(cache.save_snapshot(&place.path).unwrap(), 1);
    // Another process writes meanwhile.
    build().set("k", "newer").await.unwrap();
    let again = build();
    assert_eq!(again.load_snapshot(&place.path), 1);
    place.clock.advance(Duration::from_secs(19));
    assert_eq!(*again.get::<String>("k").await.unwrap().unwrap(), "older", "within the cap, as from any L1");
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(
        *again.get::<String>("k").await.unwrap().unwrap(),
        "newer",
        "30 s after it was filled, not after it was loaded"
    );
}

#[tokio::test]
async fn every_damaged_file_is_a_cold_start_and_a_counter() {
    let place = place();
    let _cache = place.saved(3).await;
    let whole = std::fs::read(&place.path).unwrap();
    assert_eq!(place.restored(3).await, 3, "the control");
    let refused = |bytes: &[u8]| {
        std::fs::write(&place.path, bytes).unwrap();
        let cache = place.cache();
        assert_eq!(cache.load_snapshot(&place.path), 0);
        assert_eq!(cache.stats().snapshots_refused, 1);
    };
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        refused(&flipped);
        refused(&whole[..at]);
    }
    refused(&[&whole[..], b"x"].concat());
    refused(b"");
    refused(b"PK\x03\x04 something of another program, long enough to hold a head and a tail");
    let mut later = whole.clone();
    later[8] = 2;
    refused(&later);
    std::fs::write(&place.path, &whole).unwrap();
    assert_eq!(place.restored(3).await, 3, "and the whole one is taken again");
}

/// The sum proves that nobody damaged a file, not that we wrote it.
#[tokio::test]
async fn a_forged_file_brings_no_value_of_another_key_and_takes_no_memory() {
    let place = place();
    let _cache = place.saved(1).await;
    let whole = std::fs::read(&place.path).unwrap();
    let sealed = |mut bytes: Vec<u8>| {
        let sum = twox_hash::XxHash3_64::oneshot(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    };
    // The last byte of the wire key, which stands in the envelope as well.
    let key_at = 20 + 16 + b"ck:default:".len();
    let mut renamed = whole[..whole.len() - 8].to_vec();
    assert_eq!(renamed[key_at], b'0');
    renamed[key_at] = b'1';
    std::fs::write(&place.path, sealed(renamed)).unwrap();
    assert_eq!(place.restored(2).await, 0);
    // Lengths beyond the file.
    for field in [20, 24] {
        let mut huge = whole[..whole.len() - 8].to_vec();
        huge[field..field + 4].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
        std::fs::write(&place.path, sealed(huge)).unwrap();
        assert_eq!(place.restored(1).await, 0);
    }
    // A file larger than L1 is not read.
    let small = Cache::builder().l1(L1Config::with_max_bytes(100)).build().unwrap();
    std::fs::write(&place.path, &whole).unwrap();
    assert_eq!((small.load_snapshot(&place.path), small.stats().snapshots_refused), (0, 1));
}

#[tokio::test]
async fn a_cache_that_is_closed_leaves_its_l1_to_the_next() {
    let place = place();
    let build = || Cache::builder().clock(place.clock.clone()).warm_start(&place.path).build().unwrap();
    let cache = build();
    assert_eq!(cache.stats().snapshots_refused, 0, "no file is a cold start like any other");
    cache.set("k", &1).await.unwrap();
    cache.close().await.unwrap();
    cache.close().await.unwrap();
    let cache = build();
    assert_eq!(*cache.get::<i32>("k").await.unwrap().unwrap(), 1);
    assert_eq!(cache.stats().snapshot_restored, 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(cache.save_snapshot("/nowhere/at/all").is_err());
}

#[test]
fn two_who_save_to_one_place_do_not_mix() {
    let place = place();
    let held = std::fs::File::create(place.path.with_file_name(".l1.snapshot.tmp")).unwrap();
    held.lock().unwrap();
    assert!(matches!(place.cache().save_snapshot(&place.path), Err(crate::cache::SnapshotError::Busy { .. })));
    drop(held);
    assert_eq!(place.cache().save_snapshot(&place.path).unwrap(), 0);
}

#[tokio::test]
async fn a_snapshot_that_is_loaded_late_brings_back_nothing_that_was_deleted_replaced_or_cleared_before() {
    let place = place();
    let saved = place.saved(4).await;
    saved.namespace("other").unwrap().set("k", &1_u32).await.unwrap();
    assert_eq!(saved.save_snapshot(&place.path).unwrap(), 5);
    let cache = place.cache();
    cache.delete("0").await.unwrap();
    cache.delete_many(&["1"]).await.unwrap();
    // Set anew, and gone again: its end is newer than the snapshot.
    cache.set_with("2", &"newer", SetOptions::default().with_ttl(Duration::from_millis(10))).await.unwrap();
    place.clock.advance(Duration::from_millis(20));
    cache.namespace("other").unwrap().clear().await.unwrap();
    assert_eq!(cache.load_snapshot(&place.path), 1);
    for n in 0..3 {
        assert_eq!(cache.get::<String>(n.to_string()).await.unwrap(), None, "{n} came back");
    }
    assert_eq!(*cache.get::<String>("3").await.unwrap().unwrap(), "value 3", "what nobody touched is restored");
    assert_eq!(cache.namespace("other").unwrap().get::<u32>("k").await.unwrap(), None);
    // Of a namespace that was cleared nothing comes back, whichever keys were touched.
    let cleared = place.cache();
    cleared.clear().await.unwrap();
    assert_eq!(cleared.load_snapshot(&place.path), 1);
    assert_eq!(*cleared.namespace("other").unwrap().get::<u32>("k").await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn who_opens_the_file_beside_before_it_takes_its_place_does_not_write_into_the_snapshot() {
    use crate::cache::snapshot::open_private;
    use std::sync::atomic::AtomicU32;

    let place = place();
    let (first, second) = (place.saved(3).await, place.cache());
    second.set("0", &"value 0").await.unwrap();
    // Others finish theirs after this one has opened the file, and before it locks it: once, then whenever it tries.
    let opened = AtomicU32::new(0);
    let overtaken = |times: u32| {
        let (first, path, opened) = (&first, &place.path, &opened);
        move |beside: &std::path::Path| {
            let file = open_private(beside)?;
            if opened.fetch_add(1, Ordering::SeqCst) < times {
                assert_eq!(first.save_snapshot(path).unwrap(), 3);
            }
            Ok(file)
        }
    };
    let busy = second.save_to(&place.path, overtaken(u32::MAX));
    assert!(matches!(busy, Err(crate::cache::SnapshotError::Busy { .. })), "{busy:?}");
    assert_eq!(place.restored(3).await, 3, "what stood there stands there still");
    opened.store(0, Ordering::SeqCst);
    assert_eq!(second.save_to(&place.path, overtaken(1)).unwrap(), 1);
    assert_eq!(opened.load(Ordering::SeqCst), 2);
    assert_eq!(place.restored(1).await, 1);
    let files = std::fs::read_dir(place.path.parent().unwrap()).unwrap().count();
    assert!(files <= 2, "one snapshot, and at most what was opened beside it");
}

/// A clock that notes who reads it.
struct Watched(ManualClock, std::sync::Mutex<Vec<std::thread::ThreadId>>);

impl Clock for Watched {
    fn unix_ms(&self) -> u64 {
        self.1.lock().unwrap().push(std::thread::current().id());
        self.0.unix_ms()
    }

    fn coarse_ms(&self) -> u64 {
        self.0.coarse_ms()
    }
}

#[tokio::test]
async fn closing_writes_the_snapshot_on_a_thread_that_runs_no_tasks_of_the_caller() {
    let place = place();
    let clock = Arc::new(Watched(ManualClock::new(), Default::default()));
    let cache = Cache::builder().clock(clock.clone()).warm_start(&place.path).build().unwrap();
    cache.set("k", &1).await.unwrap();
    clock.1.lock().unwrap().clear();
    cache.close().await.unwrap();
    assert_eq!(cache.stats().snapshots_saved, 1);
    // The file says when it was written.
    let readers = clock.1.lock().unwrap().clone();
    assert!(!readers.is_empty() && !readers.contains(&std::thread::current().id()));
    // Of two who close it at once one saves.
    let cache = Cache::builder().clock(clock.clone()).warm_start(&place.path).build().unwrap();
    let (one, other) = tokio::join!(cache.close(), cache.close());
    assert!(one.is_ok() && other.is_ok());
    assert_eq!((cache.stats().snapshots_saved, cache.stats().snapshot_restored), (1, 1));
    assert_eq!(Cache::builder().build().unwrap().load_snapshot(&place.path), 1);
}
