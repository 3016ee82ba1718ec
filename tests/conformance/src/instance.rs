//! An opened backend with blocking operations that always end: the words in which cases are written.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit_plugin::{
    Answers, Backend, BackendError, Batch, Bytes, Cas, Clear, Cx, Dated, Expiry, Freshness, Fut, Health, Key, Kind,
    Limits, Locks, Operation, Page, Scan, SetItem, Ttl, Version, Watch, WatchSink,
};

use crate::case::Failure;
use crate::drive;
use crate::sample::describe;
use crate::subject::Patience;
use crate::told::{Told, Watched};

/// What an operation answered, where an error is an answer the case wants to look at.
pub(crate) type Attempt<T> = Result<Result<T, BackendError>, Failure>;

/// Items of a batch that have the time of one operation more.
const ITEMS_PER_PATIENCE: usize = 250;

/// An opened backend. Each operation gets a deadline of its own and is given up when it hangs.
#[derive(Clone)]
pub struct Instance {
    backend: Arc<dyn Backend>,
    patience: Patience,
}

/// Runs an operation that has to succeed. A store may ask for fewer requests at any time: that is no failure, so it is
/// asked again until patience ends.
macro_rules! insist {
    ($instance:expr, $operation:ident, $cx:ident => $call:expr) => {{
        let begun = Instant::now();
        loop {
            let $cx = $instance.cx();
            match $instance.finish(Operation::$operation, $call)? {
                Err(error) if error.kind() == Kind::Throttled && begun.elapsed() < $instance.patience.operation => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                answer => break answer.map_err(Failure::from),
            }
        }
    }};
}

impl Instance {
    pub(crate) fn new(backend: Arc<dyn Backend>, patience: Patience) -> Self {
        Self { backend, patience }
    }

    /// The same, for a batch of so many items: a store may have nothing but single operations, one after the other.
    fn for_batch(&self, items: usize) -> Self {
        let times = 1 + u32::try_from(items / ITEMS_PER_PATIENCE).unwrap_or(u32::MAX - 1);
        let operation = self.patience.operation.saturating_mul(times);
        Self { backend: Arc::clone(&self.backend), patience: Patience { operation, ..self.patience } }
    }

    /// The backend itself.
    pub fn as_dyn(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(crate) fn limits(&self) -> Limits {
        self.backend.limits()
    }

    /// A deadline for one operation.
    pub(crate) fn cx(&self) -> Cx<'static> {
        Cx::within(self.patience.operation)
    }

    /// Drives `future`, and gives it up when it has not come back at twice its deadline.
    pub(crate) fn finish<T>(&self, operation: Operation, mut future: Fut<'_, T>) -> Attempt<T> {
        let waited = self.patience.operation * 2;
        drive::finish(future.as_mut(), waited).ok_or(Failure::Hung { operation, waited })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Failure> {
        insist!(self, Get, cx => self.backend.get(Key::from_wire(key), &cx))
    }

    /// Stores for [`DEFAULT_LIFE`]: long enough for any case, and a shared store is clean again soon after.
    pub(crate) fn set(&self, key: &[u8], value: impl Into<Bytes>) -> Result<(), Failure> {
        self.set_for(key, value, DEFAULT_LIFE)
    }

    pub(crate) fn set_for(&self, key: &[u8], value: impl Into<Bytes>, ttl: Ttl) -> Result<(), Failure> {
        let value = value.into();
        insist!(self, Set, cx => self.backend.set(Key::from_wire(key), value.clone(), ttl, &cx))
    }

    /// Stores if the backend takes it.
    pub(crate) fn try_set(&self, key: &[u8], value: impl Into<Bytes>) -> Attempt<()> {
        let cx = self.cx();
        self.finish(Operation::Set, self.backend.set(Key::from_wire(key), value.into(), DEFAULT_LIFE, &cx))
    }

    /// Reads if the backend takes the key.
    pub(crate) fn try_get(&self, key: &[u8]) -> Attempt<Option<Bytes>> {
        let cx = self.cx();
        self.finish(Operation::Get, self.backend.get(Key::from_wire(key), &cx))
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Result<bool, Failure> {
        insist!(self, Delete, cx => self.backend.delete(Key::from_wire(key), &cx))
    }

    pub(crate) fn exists(&self, key: &[u8]) -> Result<bool, Failure> {
        insist!(self, Exists, cx => self.backend.exists(Key::from_wire(key), &cx))
    }

    pub(crate) fn health(&self) -> Result<Health, Failure> {
        insist!(self, Health, cx => self.backend.health(&cx))
    }

    pub(crate) fn close(&self) -> Result<(), Failure> {
        insist!(self, Close, cx => self.backend.close(&cx))
    }

    pub(crate) fn get_many(&self, keys: &[&[u8]]) -> Result<Answers<Option<Bytes>>, Failure> {
        let keys: Vec<Key<'_>> = keys.iter().map(|key| Key::from_wire(key)).collect();
        let batch = self.for_batch(keys.len());
        let answers = insist!(batch, GetMany, cx => batch.batch()?.get_many(&keys, &cx))?;
        one_each(answers, keys.len())
    }

    pub(crate) fn set_many(&self, items: &[(&[u8], Bytes, Ttl)]) -> Result<Answers<()>, Failure> {
        let items: Vec<SetItem<'_>> = items
            .iter()
            .map(|(key, value, ttl)| SetItem { key: Key::from_wire(key), value: value.clone(), ttl: *ttl })
            .collect();
        let batch = self.for_batch(items.len());
        let answers = insist!(batch, SetMany, cx => batch.batch()?.set_many(&items, &cx))?;
        one_each(answers, items.len())
    }

    pub(crate) fn delete_many(&self, keys: &[&[u8]]) -> Result<Answers<bool>, Failure> {
        let keys: Vec<Key<'_>> = keys.iter().map(|key| Key::from_wire(key)).collect();
        let batch = self.for_batch(keys.len());
        let answers = insist!(batch, DeleteMany, cx => batch.batch()?.delete_many(&keys, &cx))?;
        one_each(answers, keys.len())
    }

    pub(crate) fn ttl(&self, key: &[u8]) -> Result<Option<Ttl>, Failure> {
        insist!(self, Ttl, cx => self.expiry()?.ttl(Key::from_wire(key), &cx))
    }

    pub(crate) fn touch(&self, key: &[u8], ttl: Ttl) -> Result<bool, Failure> {
        insist!(self, Touch, cx => self.expiry()?.touch(Key::from_wire(key), ttl, &cx))
    }

    pub(crate) fn lock(&self, key: &[u8], token: &[u8], hold_ms: u64) -> Result<bool, Failure> {
        insist!(self, Lock, cx => self.locks()?.lock(Key::from_wire(key), token, hold_ms, &cx))
    }

    pub(crate) fn unlock(&self, key: &[u8], token: &[u8]) -> Result<bool, Failure> {
        insist!(self, Unlock, cx => self.locks()?.unlock(Key::from_wire(key), token, &cx))
    }

    pub(crate) fn get_version(&self, key: &[u8]) -> Result<Option<(Bytes, Version)>, Failure> {
        insist!(self, GetVersion, cx => self.cas()?.get_version(Key::from_wire(key), &cx))
    }

    pub(crate) fn set_if(
        &self,
        key: &[u8],
        value: impl Into<Bytes>,
        ttl: Ttl,
        expect: Option<Version>,
    ) -> Result<bool, Failure> {
        let value = value.into();
        insist!(self, SetIf, cx => self.cas()?.set_if(Key::from_wire(key), value.clone(), ttl, expect, &cx))
    }

    pub(crate) fn try_page(&self, prefix: &[u8], cursor: Option<&[u8]>, max: usize) -> Attempt<Page> {
        let cx = self.cx();
        self.finish(Operation::Scan, self.scan()?.next(prefix, cursor, max, &cx))
    }

    pub(crate) fn page(&self, prefix: &[u8], cursor: Option<&[u8]>, max: usize) -> Result<Page, Failure> {
        insist!(self, Scan, cx => self.scan()?.next(prefix, cursor, max, &cx))
    }

    pub(crate) fn read(&self, id: &[u8]) -> Result<Option<Bytes>, Failure> {
        insist!(self, Read, cx => self.scan()?.read(id, &cx))
    }

    pub(crate) fn try_clear(&self, prefix: &[u8]) -> Attempt<u64> {
        let cx = self.cx();
        self.finish(Operation::Clear, self.clear_power()?.clear(prefix, &cx))
    }

    pub(crate) fn watch(&self, prefix: &[u8]) -> Result<Watched, Failure> {
        insist!(self, Watch, cx => {
            let told = Arc::new(Told::default());
            let watch = self.watch_power()?.watch(prefix, told.clone() as Arc<dyn WatchSink>, &cx);
            Box::pin(async move { Ok(Watched::new(told, watch.await?)) })
        })
    }

    /// Begins a watch if the backend does.
    pub(crate) fn try_watch(&self, prefix: &[u8]) -> Attempt<Watched> {
        let (cx, told) = (self.cx(), Arc::new(Told::default()));
        let watch = self.watch_power()?.watch(prefix, told.clone() as Arc<dyn WatchSink>, &cx);
        self.finish(Operation::Watch, Box::pin(async move { Ok(Watched::new(told, watch.await?)) }))
    }

    pub(crate) fn get_dated(&self, key: &[u8]) -> Result<Option<Dated>, Failure> {
        insist!(self, GetDated, cx => self.freshness()?.get_dated(Key::from_wire(key), &cx))
    }

    pub(crate) fn set_stale(
        &self,
        key: &[u8],
        value: impl Into<Bytes>,
        ttl: Ttl,
        stale_ms: u64,
    ) -> Result<(), Failure> {
        let (value, stale_ms) = (value.into(), NonZeroU64::new(stale_ms).unwrap_or(NonZeroU64::MIN));
        insist!(self, SetStale, cx => {
            self.freshness()?.set_stale(Key::from_wire(key), value.clone(), ttl, stale_ms, &cx)
        })
    }

    pub(crate) fn batch(&self) -> Result<&dyn Batch, Failure> {
        self.backend.batch().ok_or_else(|| withdrawn("batch"))
    }

    pub(crate) fn expiry(&self) -> Result<&dyn Expiry, Failure> {
        self.backend.ttl().ok_or_else(|| withdrawn("ttl"))
    }

    pub(crate) fn locks(&self) -> Result<&dyn Locks, Failure> {
        self.backend.locks().ok_or_else(|| withdrawn("locks"))
    }

    pub(crate) fn cas(&self) -> Result<&dyn Cas, Failure> {
        self.backend.cas().ok_or_else(|| withdrawn("cas"))
    }

    pub(crate) fn scan(&self) -> Result<&dyn Scan, Failure> {
        self.backend.scan().ok_or_else(|| withdrawn("scan"))
    }

    pub(crate) fn clear_power(&self) -> Result<&dyn Clear, Failure> {
        self.backend.clear().ok_or_else(|| withdrawn("clear"))
    }

    pub(crate) fn watch_power(&self) -> Result<&dyn Watch, Failure> {
        self.backend.watch().ok_or_else(|| withdrawn("watch"))
    }

    pub(crate) fn freshness(&self) -> Result<&dyn Freshness, Failure> {
        self.backend.freshness().ok_or_else(|| withdrawn("freshness"))
    }

    /// Refuted unless `key` holds `expected` (`None`: nothing), as told by `get` and `exists`.
    pub(crate) fn expect(&self, key: &[u8], expected: Option<&[u8]>, when: &str) -> Result<(), Failure> {
        let found = self.get(key)?;
        if found.as_deref() != expected {
            return Err(Failure::Refuted(format!(
                "{when}: get returned {} instead of {}",
                describe(found.as_deref()),
                describe(expected)
            )));
        }
        Ok(())
    }
}

/// 10 minutes.
pub(crate) const DEFAULT_LIFE: Ttl = match Ttl::from_ms(600_000) {
    Some(life) => life,
    None => Ttl::Never,
};

fn one_each<T>(answers: Answers<T>, items: usize) -> Result<Answers<T>, Failure> {
    if answers.len() != items {
        return Err(Failure::Refuted(format!("{} answers came for a batch of {items}", answers.len())));
    }
    Ok(answers)
}

fn withdrawn(power: &str) -> Failure {
    Failure::Refuted(format!("an instance offers the power `{power}` at one time and not at another"))
}
