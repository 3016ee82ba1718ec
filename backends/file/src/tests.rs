//! The backend as a whole, with its own clock and a directory of its own.

mod faults;
mod hostile;
mod limits;
mod powers;
mod races;
mod vectors;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{
    Backend, BackendError, Batch, Cas, Clear, Cx, Deadline, Expiry, Fut, HostServices, Key, Locks, Scan, Ttl, Version,
};

use crate::config::FileConfig;
use crate::entry::Name;
use crate::store::Clock;
use crate::{FileBackend, config};

pub(crate) const CX: Cx<'static> = Cx::new(Deadline::NEVER);

pub(crate) fn block_on<T>(mut future: Fut<'_, T>) -> Result<T, BackendError> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

pub(crate) fn key(text: &str) -> Key<'_> {
    Key::from_wire(text.as_bytes())
}

pub(crate) fn secs(secs: u64) -> Ttl {
    Ttl::from_ms(secs * 1000).unwrap()
}

/// A clock that stands until it is set.
#[derive(Clone)]
pub(crate) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(crate) fn at(ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(ms)))
    }

    pub(crate) fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn clock(&self) -> Clock {
        let hands = Arc::clone(&self.0);
        Arc::new(move || Duration::from_millis(hands.load(Ordering::Relaxed)))
    }
}

/// A backend in a temporary directory.
pub(crate) struct Bench {
    pub(crate) backend: FileBackend,
    pub(crate) hands: Hands,
    pub(crate) dir: PathBuf,
    pub(crate) config: FileConfig,
    _root: Arc<tempfile::TempDir>,
}

pub(crate) const START_MS: u64 = 1_764_700_000_250;

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|config| config)
    }

    pub(crate) fn with(options: impl FnOnce(FileConfig) -> FileConfig) -> Self {
        let root = Arc::new(tempfile::tempdir().unwrap());
        let dir = root.path().join("cache");
        let (config, hands) = (options(FileConfig::new(&dir)), Hands::at(START_MS));
        let backend = FileBackend::open_with(&config, HostServices::none(), hands.clock(), true).unwrap();
        Self { backend, hands, dir, config, _root: root }
    }

    /// Another instance on the same directory and clock, as another process would be.
    pub(crate) fn peer(&self, allow_inline: bool) -> Self {
        let backend =
            FileBackend::open_with(&self.config, HostServices::none(), self.hands.clock(), allow_inline).unwrap();
        let (hands, dir, config) = (self.hands.clone(), self.dir.clone(), self.config.clone());
        Self { backend, hands, dir, config, _root: Arc::clone(&self._root) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Bytes> {
        block_on(self.backend.get(key(name), &CX)).unwrap()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        block_on(self.backend.exists(key(name), &CX)).unwrap()
    }

    pub(crate) fn try_set(&self, name: &str, value: impl Into<Bytes>, ttl: Ttl) -> Result<(), BackendError> {
        block_on(self.backend.set(key(name), value.into(), ttl, &CX))
    }

    pub(crate) fn set(&self, name: &str, value: impl Into<Bytes>, ttl: Ttl) {
        self.try_set(name, value, ttl).unwrap();
    }

    pub(crate) fn delete(&self, name: &str) -> bool {
        block_on(self.backend.delete(key(name), &CX)).unwrap()
    }

    pub(crate) fn ttl(&self, name: &str) -> Option<Ttl> {
        block_on(Expiry::ttl(&self.backend, key(name), &CX)).unwrap()
    }

    pub(crate) fn touch(&self, name: &str, ttl: Ttl) -> bool {
        block_on(self.backend.touch(key(name), ttl, &CX)).unwrap()
    }

    pub(crate) fn get_version(&self, name: &str) -> Option<(Bytes, Version)> {
        block_on(self.backend.get_version(key(name), &CX)).unwrap()
    }

    pub(crate) fn set_if(&self, name: &str, value: impl Into<Bytes>, expect: Option<Version>) -> bool {
        block_on(self.backend.set_if(key(name), value.into(), Ttl::Never, expect, &CX)).unwrap()
    }

    pub(crate) fn lock(&self, name: &str, token: &str, hold_ms: u64) -> bool {
        block_on(self.backend.lock(key(name), token.as_bytes(), hold_ms, &CX)).unwrap()
    }

    pub(crate) fn unlock(&self, name: &str, token: &str) -> bool {
        block_on(self.backend.unlock(key(name), token.as_bytes(), &CX)).unwrap()
    }

    pub(crate) fn clear(&self) -> u64 {
        block_on(Clear::clear(&self.backend, b"", &CX)).unwrap()
    }

    pub(crate) fn page(&self, cursor: Option<&[u8]>, max: usize) -> cachekit_plugin::Page {
        block_on(Scan::next(&self.backend, b"ignored", cursor, max, &CX)).unwrap()
    }

    /// Where the entry of `name` lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(Name::of(key(name)).as_str())
    }

    /// Names in the directory, sorted, without our own files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all_names().into_iter().filter(|name| !name.starts_with('.')).collect()
    }

    /// Names in the directory, sorted.
    pub(crate) fn all_names(&self) -> Vec<String> {
        names(&self.dir)
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn set_mtime(path: &Path, to: Duration) {
    std::fs::File::options().write(true).open(path).unwrap().set_modified(std::time::UNIX_EPOCH + to).unwrap();
}

#[test]
fn what_was_set_is_read_until_it_is_deleted() {
    let bench = Bench::new();
    assert_eq!(bench.get("k"), None);
    bench.set("k", "value", Ttl::Never);
    assert_eq!(bench.get("k").unwrap(), "value");
    assert!(bench.exists("k"));
    bench.set("k", "", Ttl::Never);
    assert_eq!(bench.get("k").unwrap(), "");
    assert!(bench.delete("k"));
    assert!(!bench.delete("k"));
    assert_eq!(bench.get("k"), None);
}

#[test]
fn cached_reads_are_answered_inline_and_others_by_the_pool() {
    let bench = Bench::new();
    bench.set("k", "value", Ttl::Never);
    bench.get("k");
    let (inline, pool) = bench.backend.reads();
    for _ in 0..10 {
        assert_eq!(bench.get("k").unwrap(), "value");
        assert!(bench.exists("k"));
    }
    assert_eq!(bench.backend.reads(), (inline + 20, pool), "a cached entry needs no worker");

    let slow = bench.peer(false);
    assert_eq!(slow.get("k").unwrap(), "value");
    assert!(slow.exists("k"));
    assert_eq!(slow.get("absent"), None);
    assert_eq!(slow.backend.reads(), (0, 3), "without inline reads the answers are the same");
}

#[test]
fn a_large_value_is_read_by_the_pool() {
    let bench = Bench::new();
    let large = Bytes::from(vec![7; 1 << 20]);
    bench.set("large", large.clone(), Ttl::Never);
    let (inline, _) = bench.backend.reads();
    assert_eq!(bench.get("large").unwrap(), large);
    assert_eq!(bench.backend.reads().0, inline);
}

#[test]
fn batches_answer_in_order_and_the_last_of_two_equal_keys_wins() {
    use cachekit_plugin::SetItem;
    let bench = Bench::new();
    let item = |name, value: &'static str| SetItem { key: key(name), value: value.into(), ttl: Ttl::Never };
    let items = [item("a", "1"), item("b", "2"), item("a", "3")];
    assert!(block_on(bench.backend.set_many(&items, &CX)).unwrap().into_iter().all(|answer| answer.is_ok()));
    let keys = [key("a"), key("absent"), key("b")];
    for bench in [&bench, &bench.peer(false)] {
        let values: Vec<_> =
            block_on(bench.backend.get_many(&keys, &CX)).unwrap().into_iter().map(|answer| answer.unwrap()).collect();
        assert_eq!(values, [Some("3".into()), None, Some("2".into())]);
    }
    let gone: Vec<_> =
        block_on(bench.backend.delete_many(&keys, &CX)).unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(gone, [true, false, true]);
}

#[test]
fn a_batch_stops_at_its_deadline_and_says_so() {
    use cachekit_plugin::{Kind, SetItem};
    let bench = Bench::new();
    let items = [SetItem { key: key("a"), value: "1".into(), ttl: Ttl::Never }];
    let late = Cx::new(Deadline::from_monotonic_ns(1));
    assert_eq!(block_on(bench.backend.set_many(&items, &late)).unwrap_err().kind(), Kind::Timeout);
    assert_eq!(bench.names(), [""; 0]);
}

#[test]
fn health_makes_a_round_trip_and_leaves_nothing() {
    let bench = Bench::new();
    let health = block_on(bench.backend.health(&CX)).unwrap();
    assert!(health.healthy && health.backend_type == "file");
    assert_eq!(bench.all_names(), [""; 0]);
    std::fs::remove_dir_all(&bench.dir).unwrap();
    std::fs::write(&bench.dir, "in the way").unwrap();
    assert!(block_on(bench.backend.health(&CX)).is_err());
}

#[test]
fn closing_twice_is_fine_and_later_use_opens_again() {
    let bench = Bench::new();
    bench.set("k", "value", Ttl::Never);
    block_on(bench.backend.close(&CX)).unwrap();
    block_on(bench.backend.close(&CX)).unwrap();
    assert_eq!(bench.get("k").unwrap(), "value");
}

#[test]
fn the_directory_and_its_parents_are_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let config = FileConfig::new(root.path().join("a/b/c"));
    FileBackend::open_with(&config, HostServices::none(), Hands::at(START_MS).clock(), true).unwrap();
    for path in ["a", "a/b", "a/b/c"] {
        let mode = std::fs::metadata(root.path().join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{path}");
    }
    let mut wide = FileConfig::new(root.path().join("wide"));
    wide.dir_permissions = config::Permissions(0o755);
    wide.permissions = config::Permissions(0o644);
    let backend = FileBackend::open_with(&wide, HostServices::none(), Hands::at(START_MS).clock(), true).unwrap();
    block_on(backend.set(key("k"), "v".into(), Ttl::Never, &CX)).unwrap();
    assert_eq!(std::fs::metadata(&wide.dir).unwrap().permissions().mode() & 0o777, 0o755);
    let entry = wide.dir.join(Name::of(key("k")).as_str());
    assert_eq!(std::fs::metadata(entry).unwrap().permissions().mode() & 0o777, 0o644);
}
