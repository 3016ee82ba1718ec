//! The traits of the contract, and the decision what runs where.
//!
//! `get` and `exists` first try to answer in the caller's task (see `inline`); everything else, and every read that
//! would have to wait, goes to a bounded pool of threads. Once a hung disk holds them all, further calls are refused at
//! once instead of piling up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_plugin::blocking::{Pool, Wanted};
use cachekit_plugin::{
    Answers, Backend, BackendError, Batch, Cas, Clear, Cx, Enumerates, Expiry, Fut, Health, HostServices, Key, Kind,
    Limits, Locks, Open, Operation, Page, Scan, SetItem, Ttl, Version,
};

use crate::config::{Durability, FileConfig};
use crate::entry::{HEADER_LEN, MAX_TTL_SECS, Name, remaining};
use crate::error::{BACKEND, FileError};
use crate::inline::{self, Inline};
use crate::read::{Want, read_exactly};
use crate::store::{Clock, Store, system_clock};
use crate::write::Condition;

/// Threads for calls that wait: system calls that only move memory gain nothing from more, and a hung disk holds no more.
const MAX_THREADS: usize = 8;
/// The same where every write waits for the disk: flushes that wait together share one commit of the journal. With 8 threads
/// 16 writers reached 0.41 of the rate of `cachekit-rs`, with 32 they reach 0.92 to 0.95.
const MAX_FLUSHING_THREADS: usize = 32;
/// Calls that may wait for a thread: at 100 µs each the last one waits 13 ms.
const MAX_QUEUED: usize = 1024;

/// A directory as a second tier.
pub struct FileBackend {
    store: Arc<Store>,
    pool: Pool,
    inline_reads: AtomicU64,
    pool_reads: AtomicU64,
}

impl FileBackend {
    /// With a clock of the caller's, and inline reads only if they are allowed.
    pub(crate) fn open_with(
        config: &FileConfig,
        host: HostServices,
        clock: Clock,
        allow_inline: bool,
    ) -> Result<Self, BackendError> {
        config.check().map_err(|reason| FileError::Refused(reason).during(Operation::Open))?;
        let store = Store::new(config, host, clock, allow_inline);
        match store.directory.reopen() {
            Ok(handle) => {
                // A directory that can only be read is a cache that can only be read: some are made that way.
                let writable =
                    rustix::fs::accessat(&handle.fd, ".", rustix::fs::Access::WRITE_OK, rustix::fs::AtFlags::EACCESS);
                if let Err(errno) = writable {
                    store.warn("the cache directory can only be read", &FileError::directory("write there")(errno));
                }
            }
            Err(error) => {
                let reason = error.to_string();
                let error = error.during(Operation::Open);
                // What will not mend itself fails here; a full disk or table is an outage, and each operation tries again.
                if error.kind() == Kind::Config {
                    return Err(error);
                }
                store.warn("the cache directory cannot be opened yet", &FileError::Refused(reason));
            }
        }
        let threads = if store.durability == Durability::None { MAX_THREADS } else { MAX_FLUSHING_THREADS };
        Ok(Self {
            store: Arc::new(store),
            pool: Pool::new("file", threads, MAX_QUEUED),
            inline_reads: AtomicU64::new(0),
            pool_reads: AtomicU64::new(0),
        })
    }

    /// Runs `work` on a worker.
    fn on_pool<'a, T, F>(&'a self, operation: Operation, cx: &Cx<'_>, work: F) -> Fut<'a, T>
    where
        T: Send + 'static,
        F: FnOnce(&Store, &Wanted) -> Result<T, FileError> + Send + 'static,
    {
        let store = Arc::clone(&self.store);
        let work = move |wanted: &Wanted| work(&store, wanted).map_err(|error| error.during(operation));
        self.pool.run_while_wanted(operation, cx, work)
    }

    /// Runs `work` for each item on one worker, until the deadline.
    fn each_on_pool<'a, I, T, F>(
        &'a self,
        operation: Operation,
        cx: &Cx<'_>,
        items: Vec<I>,
        work: F,
    ) -> Fut<'a, Answers<T>>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: Fn(&Store, I, &Wanted) -> Result<T, FileError> + Send + 'static,
    {
        self.on_pool(operation, cx, move |store, wanted| {
            let answer = |item| match wanted.deadline().has_passed() {
                true => Err(BackendError::timeout(operation).on(BACKEND)),
                false => work(store, item, wanted).map_err(|error| error.during(operation)),
            };
            Ok(items.into_iter().map(answer).collect())
        })
    }

    /// What can be told about `name` without waiting.
    fn inline<T>(&self, read: impl FnOnce(&crate::client::Handle, Duration) -> Inline<T>) -> Inline<T> {
        let now = self.store.now();
        let answer = match self.store.directory.open_already() {
            Some(handle) if handle.inline => read(&handle, now),
            _ => Inline::WouldWait,
        };
        // A miss may be due to a directory that was replaced: the worker finds out.
        let answer = match answer {
            Inline::Miss if self.store.directory.comparison_is_due(now) => Inline::WouldWait,
            answer => answer,
        };
        let counter = if matches!(answer, Inline::WouldWait) { &self.pool_reads } else { &self.inline_reads };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// Reads answered in the caller's task and reads that went to a worker.
    pub(crate) fn reads(&self) -> (u64, u64) {
        (self.inline_reads.load(Ordering::Relaxed), self.pool_reads.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

impl Open for FileBackend {
    type Config = FileConfig;

    fn open(config: FileConfig, host: HostServices) -> Result<Self, BackendError> {
        Self::open_with(&config, host, system_clock(), true)
    }
}

impl Backend for FileBackend {
    fn limits(&self) -> Limits {
        // Names are digests, so any key fits; the ceiling only bounds what is hashed.
        Limits::new(65_536, self.store.max_value)
            .with_ttl_step_ms(1000)
            .with_ttl_max_ms(MAX_TTL_SECS * 1000)
            .with_enumerates(Enumerates::Ids)
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move {
            let name = Name::of(key);
            match self.inline(|handle, now| inline::read(handle, &name, now, self.store.max_value)) {
                Inline::Hit(value) => Ok(Some(value)),
                Inline::Miss => Ok(None),
                Inline::WouldWait => {
                    self.on_pool(Operation::Get, cx, move |store, wanted| {
                        Ok(store.read(&name, Want::Value, wanted.deadline())?.map(|entry| entry.value))
                    })
                    .await
                }
            }
        })
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        let name = Name::of(key);
        self.on_pool(Operation::Set, cx, move |store, wanted| {
            store.write(&name, &value, ttl, Condition::Always, wanted).map(drop)
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        let name = Name::of(key);
        self.on_pool(Operation::Delete, cx, move |store, wanted| store.delete(&name, wanted.deadline()))
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            let name = Name::of(key);
            match self.inline(|handle, now| inline::exists(handle, &name, now, self.store.max_value)) {
                Inline::Hit(()) => Ok(true),
                Inline::Miss => Ok(false),
                Inline::WouldWait => {
                    self.on_pool(Operation::Exists, cx, move |store, wanted| {
                        Ok(store.read(&name, Want::Header, wanted.deadline())?.is_some())
                    })
                    .await
                }
            }
        })
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        let (inline_reads, pool_reads) = self.reads();
        self.on_pool(Operation::Health, cx, move |store, _| {
            let begun = Instant::now();
            // Written and read back under a temporary name, which goes by itself: health checks of several processes
            // must not delete each other's probe and then report a failure.
            let probe = b"health_check_data";
            let handle = store.directory.compare(store.now())?;
            let temporary = store.fill(&handle, &Name::of(Key::from_wire(b"__health_check__")), probe, 0)?;
            let file = read_exactly(&temporary.fd, HEADER_LEN + probe.len()).map_err(FileError::file("read back"))?;
            let healthy = file.ends_with(probe);
            let mut health = Health::up(BACKEND, begun.elapsed());
            health.healthy = healthy;
            let totals = store.account.totals();
            Ok(health
                .with_detail("dir", store.directory.path().to_string_lossy())
                .with_detail("entries_estimate", totals.count)
                .with_detail("bytes_estimate", totals.bytes)
                .with_detail("inline_reads", inline_reads)
                .with_detail("pool_reads", pool_reads))
        })
    }

    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        self.store.directory.release();
        cachekit_plugin::ready(Ok(()))
    }

    fn batch(&self) -> Option<&dyn Batch> {
        Some(self)
    }

    fn ttl(&self) -> Option<&dyn Expiry> {
        Some(self)
    }

    fn locks(&self) -> Option<&dyn Locks> {
        Some(self)
    }

    fn cas(&self) -> Option<&dyn Cas> {
        Some(self)
    }

    fn scan(&self) -> Option<&dyn Scan> {
        Some(self)
    }

    fn clear(&self) -> Option<&dyn Clear> {
        Some(self)
    }
}

impl Batch for FileBackend {
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>> {
        Box::pin(async move {
            let mut answers = Answers::with_capacity(keys.len());
            let (mut waiting, mut places) = (Vec::new(), Vec::new());
            for (index, key) in keys.iter().enumerate() {
                let name = Name::of(*key);
                answers.push(Ok(
                    match self.inline(|handle, now| inline::read(handle, &name, now, self.store.max_value)) {
                        Inline::Hit(value) => Some(value),
                        Inline::Miss => None,
                        Inline::WouldWait => {
                            waiting.push(name);
                            places.push(index);
                            None
                        }
                    },
                ));
            }
            if !waiting.is_empty() {
                let late = self.each_on_pool(Operation::GetMany, cx, waiting, |store, name, wanted| {
                    Ok(store.read(&name, Want::Value, wanted.deadline())?.map(|entry| entry.value))
                });
                for (place, answer) in places.into_iter().zip(late.await?) {
                    answers[place] = answer;
                }
            }
            Ok(answers)
        })
    }

    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>> {
        let items = items.iter().map(|item| (Name::of(item.key), item.value.clone(), item.ttl)).collect();
        self.each_on_pool(Operation::SetMany, cx, items, |store, (name, value, ttl), wanted| {
            store.write(&name, &value, ttl, Condition::Always, wanted).map(drop)
        })
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>> {
        let names = keys.iter().map(|key| Name::of(*key)).collect();
        self.each_on_pool(Operation::DeleteMany, cx, names, |store, name, wanted| {
            store.delete(&name, wanted.deadline())
        })
    }
}

impl Expiry for FileBackend {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        let name = Name::of(key);
        self.on_pool(Operation::Ttl, cx, move |store, wanted| {
            let entry = store.read(&name, Want::Header, wanted.deadline())?;
            Ok(entry.map(|entry| remaining(entry.expiry, store.now())))
        })
    }

    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        let name = Name::of(key);
        self.on_pool(Operation::Touch, cx, move |store, wanted| store.touch(&name, ttl, wanted))
    }
}

impl Locks for FileBackend {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        let (name, token) = (Name::of(key), token.to_vec());
        self.on_pool(Operation::Lock, cx, move |store, wanted| store.lock(&name, &token, hold_ms, wanted))
    }

    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        let (name, token) = (Name::of(key), token.to_vec());
        self.on_pool(Operation::Unlock, cx, move |store, wanted| store.unlock(&name, &token, wanted.deadline()))
    }
}

impl Cas for FileBackend {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        let name = Name::of(key);
        self.on_pool(Operation::GetVersion, cx, move |store, wanted| {
            Ok(store.read(&name, Want::Value, wanted.deadline())?.map(|entry| (entry.value, entry.version)))
        })
    }

    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool> {
        let name = Name::of(key);
        self.on_pool(Operation::SetIf, cx, move |store, wanted| {
            store.write(&name, &value, ttl, Condition::If(expect), wanted)
        })
    }
}

impl Scan for FileBackend {
    fn next<'a>(&'a self, _: &'a [u8], cursor: Option<&'a [u8]>, max: usize, cx: &'a Cx<'a>) -> Fut<'a, Page> {
        let cursor = cursor.map(<[u8]>::to_vec);
        self.on_pool(Operation::Scan, cx, move |store, _| {
            let (names, more) = store.page(cursor.as_deref(), max)?;
            let items: Vec<_> = names.iter().map(|name| Bytes::copy_from_slice(name.as_bytes())).collect();
            Ok(Page { next: items.last().filter(|_| more).cloned(), items })
        })
    }

    fn read<'a>(&'a self, id: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        // Anything but an entry name, a path above all, names nothing here.
        let Some(name) = Name::parse(id) else { return cachekit_plugin::ready(Ok(None)) };
        self.on_pool(Operation::Read, cx, move |store, wanted| {
            Ok(store.read(&name, Want::Value, wanted.deadline())?.map(|entry| entry.value))
        })
    }
}

impl Clear for FileBackend {
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64> {
        if !prefix.is_empty() {
            return cachekit_plugin::ready(Err(BackendError::new(
                Kind::Unsupported,
                Operation::Clear,
                "file names are digests, so entries cannot be told apart by a prefix of their keys",
            )
            .on(BACKEND)));
        }
        self.on_pool(Operation::Clear, cx, move |store, wanted| store.clear(wanted.deadline()))
    }
}
