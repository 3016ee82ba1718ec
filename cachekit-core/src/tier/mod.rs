//! The slot of the second tier: wire keys become the store's keys, and every call ends by its deadline.

pub mod chain;
mod outage;
#[cfg(feature = "dynamic-plugins")]
pub mod plugin;
#[cfg(not(feature = "dynamic-plugins"))]
#[path = "plugin_disabled.rs"]
pub mod plugin;
pub mod registry;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{
    Answers, Backend, BackendError, Cas, Cx, Dated, Deadline, Enumerates, Fut, Health, Key, Kind, Limits, Operation,
    Page, SetItem, Ttl, Version, WatchGuard, WatchSink,
};
use futures_util::{FutureExt, StreamExt, TryFutureExt, stream};
use tracing::{Instrument, Span};

use crate::clock::Clock;
use crate::guard::breaker::{self, BreakerState};
use crate::guard::deadline::within;
use crate::guard::stack::{GuardConfig, GuardCounts, GuardHealth, Guards};
use crate::key::WireKey;
use crate::observe::Stopwatch;
use chain::{Chain, TierStats};
use outage::Outage;

/// Single operations under way for a batch on a store without batches.
const EMULATED_IN_FLIGHT: usize = 16;

/// A store with its limits.
#[derive(Clone)]
pub struct Tier {
    backend: Arc<dyn Backend>,
    limits: Limits,
    guards: Arc<Guards>,
    outage: Arc<Outage>,
    /// If the store is a chain of several.
    chain: Option<Arc<Chain>>,
}

impl Tier {
    /// Takes a store, linked or loaded, and puts up the guards before it.
    pub(crate) fn new(backend: Arc<dyn Backend>, guards: GuardConfig, clock: Arc<dyn Clock>) -> Self {
        let limits = backend.limits();
        let guards = Arc::new(Guards::new(guards, clock));
        Self { backend, limits, guards, outage: Arc::default(), chain: None }
    }

    /// Takes several. Each has its guards already, so none stand before all of them.
    pub(crate) fn chained(chain: Chain, clock: Arc<dyn Clock>) -> Self {
        let chain = Arc::new(chain);
        Self { chain: Some(Arc::clone(&chain)), ..Self::new(chain, GuardConfig::NONE, clock) }
    }

    /// What each tier in front of the last one did.
    pub(crate) fn front_stats(&self) -> Vec<TierStats> {
        self.chain.as_ref().map(|chain| chain.stats()).unwrap_or_default()
    }

    /// Whether what is read here may be a copy, so that nobody can vouch for it.
    pub(crate) fn has_fronts(&self) -> bool {
        self.chain.is_some()
    }

    #[cfg(test)]
    pub(crate) fn chain(&self) -> Option<&Arc<Chain>> {
        self.chain.as_ref()
    }

    /// The tier whose guards are told of: the last of a chain.
    fn guarded(&self) -> &Guards {
        self.chain.as_ref().map_or(&self.guards, |chain| &chain.last().guards)
    }

    /// What the breaker is doing, if there is one.
    pub fn breaker_state(&self) -> Option<BreakerState> {
        self.guarded().breaker_state()
    }

    /// What the guards before the store are doing.
    pub fn guard_health(&self) -> GuardHealth {
        self.guarded().health()
    }

    /// What the guards decided.
    pub(crate) fn guard_counts(&self) -> GuardCounts {
        self.guarded().counts()
    }

    /// Tells the log of a failure.
    pub(crate) fn tell(&self, error: &BackendError) {
        self.outage.tell(error);
    }

    /// One exchange with the store behind its guards: `work` once, or once for each try.
    fn exchange<'a, T>(
        &self,
        deadline: Deadline,
        operation: Operation,
        work: impl FnMut() -> Fut<'a, T>,
    ) -> impl Future<Output = Result<T, BackendError>> {
        let stopwatch = Stopwatch::start();
        let answer = self.guards.run(deadline, operation, |_| None, work).instrument(span(operation));
        answer.inspect(move |answer| stopwatch.exchange(operation, answer.is_ok())).inspect_ok(|_| self.outage.end())
    }

    /// The same for a batch, which has failed when all of it has.
    fn exchange_many<'a, T>(
        &self,
        deadline: Deadline,
        operation: Operation,
        work: impl FnMut() -> Fut<'a, Answers<T>>,
    ) -> impl Future<Output = Result<Answers<T>, BackendError>> {
        let stopwatch = Stopwatch::start();
        let answer = self.guards.run(deadline, operation, failure_of_all, work).instrument(span(operation));
        answer.inspect(move |answer| stopwatch.exchange(operation, answer.is_ok())).inspect_ok(|answers| {
            if answers.iter().any(Result::is_ok) {
                self.outage.end();
            }
        })
    }

    /// What the store takes.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The store itself, for tools that look below the envelope.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The deadline the store suggests.
    pub fn deadline_hint(&self) -> Option<Duration> {
        (self.limits.deadline_hint_ms > 0).then(|| Duration::from_millis(self.limits.deadline_hint_ms.into()))
    }

    fn key<'a>(&self, wire: &'a WireKey, operation: Operation) -> Result<Cow<'a, [u8]>, BackendError> {
        wire.for_store(&self.limits)
            .map_err(|error| BackendError::new(Kind::TooLarge, operation, error.to_string()).with_source(error))
    }

    /// A life that the store takes: the longest it has, if it is longer.
    fn ttl(&self, ttl: Ttl) -> Ttl {
        match ttl {
            Ttl::Ms(ms) if ms.get() > self.limits.ttl_max_ms => Ttl::from_ms(self.limits.ttl_max_ms).unwrap_or(ttl),
            as_it_is => as_it_is,
        }
    }

    pub(crate) async fn get(&self, wire: &WireKey, deadline: Deadline) -> Result<Option<Bytes>, BackendError> {
        let (key, cx) = (self.key(wire, Operation::Get)?, Cx::new(deadline));
        self.exchange(deadline, Operation::Get, || self.backend.get(Key::from_wire(&key), &cx)).await
    }

    /// As [`Self::get`], with what the store says of the entry's age; of a store that says nothing all is fresh.
    pub(crate) async fn get_dated(&self, wire: &WireKey, deadline: Deadline) -> Result<Option<Dated>, BackendError> {
        let Some(freshness) = self.backend.freshness() else {
            let stored = self.get(wire, deadline).await?;
            return Ok(stored.map(|value| Dated { value, stale: false, fresh_for_ms: None }));
        };
        let (key, cx) = (self.key(wire, Operation::Get)?, Cx::new(deadline));
        self.exchange(deadline, Operation::Get, || freshness.get_dated(Key::from_wire(&key), &cx)).await
    }

    /// Whether the store knows a stale window.
    pub(crate) fn has_freshness(&self) -> bool {
        self.backend.freshness().is_some()
    }

    /// As [`Self::set`], with a stale window after the entry's life.
    pub(crate) async fn set_stale(
        &self,
        wire: &WireKey,
        stored: Bytes,
        ttl: Ttl,
        stale_ms: NonZeroU64,
        deadline: Deadline,
    ) -> Result<(), BackendError> {
        let (key, cx) = (self.key(wire, Operation::Set)?, Cx::new(deadline));
        let freshness = self.backend.freshness().ok_or_else(|| BackendError::unsupported(Operation::Set))?;
        let set = || freshness.set_stale(Key::from_wire(&key), stored.clone(), self.ttl(ttl), stale_ms, &cx);
        self.exchange(deadline, Operation::Set, set).await
    }

    pub(crate) async fn set(
        &self,
        wire: &WireKey,
        stored: Bytes,
        ttl: Ttl,
        deadline: Deadline,
    ) -> Result<(), BackendError> {
        let (key, cx) = (self.key(wire, Operation::Set)?, Cx::new(deadline));
        let set = || self.backend.set(Key::from_wire(&key), stored.clone(), self.ttl(ttl), &cx);
        self.exchange(deadline, Operation::Set, set).await
    }

    pub(crate) async fn delete(&self, wire: &WireKey, deadline: Deadline) -> Result<bool, BackendError> {
        let (key, cx) = (self.key(wire, Operation::Delete)?, Cx::new(deadline));
        self.exchange(deadline, Operation::Delete, || self.backend.delete(Key::from_wire(&key), &cx)).await
    }

    pub(crate) async fn get_many(
        &self,
        wires: &[&WireKey],
        deadline: Deadline,
    ) -> Result<Answers<Option<Bytes>>, BackendError> {
        let Some(batch) = self.backend.batch() else {
            // Collected, because a lazy map over borrowed keys makes a future that cannot be sent to another thread.
            let gets: Vec<_> = wires.iter().map(|wire| self.get(wire, deadline)).collect();
            return Ok(stream::iter(gets).buffered(EMULATED_IN_FLIGHT).collect().await);
        };
        let cx = Cx::new(deadline);
        let stored = self.keys(wires, Operation::GetMany)?;
        let keys: Vec<Key<'_>> = stored.iter().map(|key| Key::from_wire(key)).collect();
        let answers = self.exchange_many(deadline, Operation::GetMany, || batch.get_many(&keys, &cx)).await?;
        checked(answers, wires.len(), Operation::GetMany)
    }

    pub(crate) async fn set_many(
        &self,
        items: &[(&WireKey, Bytes, Ttl)],
        deadline: Deadline,
    ) -> Result<Answers<()>, BackendError> {
        let Some(batch) = self.backend.batch() else {
            let sets: Vec<_> =
                items.iter().map(|(wire, stored, ttl)| self.set(wire, stored.clone(), *ttl, deadline)).collect();
            // A key that stands twice must end with its last value, so its writes must not overtake each other.
            let mut keys: Vec<&[u8]> = items.iter().map(|(wire, ..)| wire.as_bytes()).collect();
            keys.sort_unstable();
            let in_flight = if keys.windows(2).any(|pair| pair[0] == pair[1]) { 1 } else { EMULATED_IN_FLIGHT };
            return Ok(stream::iter(sets).buffered(in_flight).collect().await);
        };
        let cx = Cx::new(deadline);
        let wires: Vec<&WireKey> = items.iter().map(|(wire, ..)| *wire).collect();
        let stored = self.keys(&wires, Operation::SetMany)?;
        let sets: Vec<SetItem<'_>> = stored
            .iter()
            .zip(items)
            .map(|(key, (_, value, ttl))| SetItem {
                key: Key::from_wire(key),
                value: value.clone(),
                ttl: self.ttl(*ttl),
            })
            .collect();
        let answers = self.exchange_many(deadline, Operation::SetMany, || batch.set_many(&sets, &cx)).await?;
        checked(answers, items.len(), Operation::SetMany)
    }

    pub(crate) async fn delete_many(
        &self,
        wires: &[&WireKey],
        deadline: Deadline,
    ) -> Result<Answers<bool>, BackendError> {
        let Some(batch) = self.backend.batch() else {
            let deletes: Vec<_> = wires.iter().map(|wire| self.delete(wire, deadline)).collect();
            return Ok(stream::iter(deletes).buffered(EMULATED_IN_FLIGHT).collect().await);
        };
        let cx = Cx::new(deadline);
        let stored = self.keys(wires, Operation::DeleteMany)?;
        let keys: Vec<Key<'_>> = stored.iter().map(|key| Key::from_wire(key)).collect();
        let answers = self.exchange_many(deadline, Operation::DeleteMany, || batch.delete_many(&keys, &cx)).await?;
        checked(answers, wires.len(), Operation::DeleteMany)
    }

    fn keys<'a>(&self, wires: &[&'a WireKey], operation: Operation) -> Result<Vec<Cow<'a, [u8]>>, BackendError> {
        wires.iter().map(|wire| self.key(wire, operation)).collect()
    }

    /// Whether conditional writes are possible.
    pub(crate) fn has_cas(&self) -> bool {
        self.backend.cas().is_some()
    }

    pub(crate) async fn get_version(
        &self,
        wire: &WireKey,
        deadline: Deadline,
    ) -> Result<Option<(Bytes, Version)>, BackendError> {
        let (key, cx) = (self.key(wire, Operation::GetVersion)?, Cx::new(deadline));
        let cas = self.cas(Operation::GetVersion)?;
        self.exchange(deadline, Operation::GetVersion, || cas.get_version(Key::from_wire(&key), &cx)).await
    }

    pub(crate) async fn set_if(
        &self,
        wire: &WireKey,
        stored: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        deadline: Deadline,
    ) -> Result<bool, BackendError> {
        let (key, cx) = (self.key(wire, Operation::SetIf)?, Cx::new(deadline));
        let cas = self.cas(Operation::SetIf)?;
        let set = || cas.set_if(Key::from_wire(&key), stored.clone(), self.ttl(ttl), expect, &cx);
        self.exchange(deadline, Operation::SetIf, set).await
    }

    fn cas(&self, operation: Operation) -> Result<&dyn Cas, BackendError> {
        self.backend.cas().ok_or_else(|| BackendError::unsupported(operation))
    }

    /// Whether keys can be locked across processes.
    pub(crate) fn has_locks(&self) -> bool {
        self.backend.locks().is_some()
    }

    /// Takes the lock of a key if nobody has it.
    pub(crate) async fn lock(
        &self,
        wire: &WireKey,
        token: &[u8],
        hold_ms: u64,
        deadline: Deadline,
    ) -> Result<bool, BackendError> {
        let (key, cx) = (self.key(wire, Operation::Lock)?, Cx::new(deadline));
        let locks = self.backend.locks().ok_or_else(|| BackendError::unsupported(Operation::Lock))?;
        self.exchange(deadline, Operation::Lock, || locks.lock(Key::from_wire(&key), token, hold_ms, &cx)).await
    }

    pub(crate) async fn unlock(&self, wire: &WireKey, token: &[u8], deadline: Deadline) -> Result<bool, BackendError> {
        let (key, cx) = (self.key(wire, Operation::Unlock)?, Cx::new(deadline));
        let locks = self.backend.locks().ok_or_else(|| BackendError::unsupported(Operation::Unlock))?;
        self.exchange(deadline, Operation::Unlock, || locks.unlock(Key::from_wire(&key), token, &cx)).await
    }

    /// Whether everything of a namespace can be found and removed.
    pub(crate) fn empties_namespaces(&self) -> bool {
        if self.chain.as_ref().is_some_and(|chain| !chain.fronts_empty_namespaces()) {
            return false;
        }
        let clears = self.backend.clear().is_some() && self.limits.enumerates != Enumerates::Ids;
        clears || self.enumerates() != Enumerates::No
    }

    /// What can be listed.
    pub(crate) fn enumerates(&self) -> Enumerates {
        if self.backend.scan().is_some() { self.limits.enumerates } else { Enumerates::No }
    }

    pub(crate) async fn scan(
        &self,
        prefix: &[u8],
        cursor: Option<&[u8]>,
        max: usize,
        deadline: Deadline,
    ) -> Result<Page, BackendError> {
        let cx = Cx::new(deadline);
        let scan = self.backend.scan().ok_or_else(|| BackendError::unsupported(Operation::Scan))?;
        self.exchange(deadline, Operation::Scan, || scan.next(prefix, cursor, max, &cx)).await
    }

    pub(crate) async fn read(&self, id: &[u8], deadline: Deadline) -> Result<Option<Bytes>, BackendError> {
        let cx = Cx::new(deadline);
        let scan = self.backend.scan().ok_or_else(|| BackendError::unsupported(Operation::Read))?;
        self.exchange(deadline, Operation::Read, || scan.read(id, &cx)).await
    }

    /// Removes everything with a prefix, where the store can; `None` if it cannot tell keys apart.
    pub(crate) async fn clear(&self, prefix: &[u8], deadline: Deadline) -> Result<Option<u64>, BackendError> {
        let Some(clear) = self.backend.clear().filter(|_| self.limits.enumerates != Enumerates::Ids) else {
            // What only a front has is in no listing of the last tier.
            self.clear_fronts(prefix, deadline).await?;
            return Ok(None);
        };
        let cx = Cx::new(deadline);
        match self.exchange(deadline, Operation::Clear, || clear.clear(prefix, &cx)).await {
            Err(error) if error.kind() == Kind::Unsupported => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// From now on reads pass by the fronts that hold these bytes under a key.
    pub(crate) async fn refuse_copies(&self, wire: &WireKey, stored: &Bytes, deadline: Deadline) {
        if let (Some(chain), Ok(key)) = (&self.chain, self.key(wire, Operation::Get)) {
            // Boxed: the fronts are tiers as well, although no chains.
            Box::pin(chain.refuse_copies(&key, stored, deadline)).await;
        }
    }

    /// Removes all copies with a prefix, if the store is a chain.
    pub(crate) async fn clear_fronts(&self, prefix: &[u8], deadline: Deadline) -> Result<(), BackendError> {
        match &self.chain {
            // Boxed: the fronts are tiers as well, although no chains.
            Some(chain) => Box::pin(chain.clear_fronts(prefix, deadline)).await,
            None => Ok(()),
        }
    }

    /// Whether the store tells of changes by others.
    pub(crate) fn has_watch(&self) -> bool {
        self.backend.watch().is_some()
    }

    /// Begins a watch. Past the breaker: whether the store can tell says nothing about whether it can serve.
    pub(crate) async fn watch(
        &self,
        prefix: &[u8],
        sink: Arc<dyn WatchSink>,
        deadline: Deadline,
    ) -> Result<WatchGuard, BackendError> {
        let cx = Cx::new(deadline);
        let watch = self.backend.watch().ok_or_else(|| BackendError::unsupported(Operation::Watch))?;
        within(deadline, Operation::Watch, watch.watch(prefix, sink, &cx)).await
    }

    pub(crate) async fn health(&self, deadline: Deadline) -> Result<Health, BackendError> {
        within(deadline, Operation::Health, self.backend.health(&Cx::new(deadline))).await
    }

    pub(crate) async fn close(&self, deadline: Deadline) -> Result<(), BackendError> {
        within(deadline, Operation::Close, self.backend.close(&Cx::new(deadline))).await
    }
}

/// Of one exchange, with its waiting and its retries. Its key stands in the events of the cache, as a digest.
fn span(operation: Operation) -> Span {
    tracing::debug_span!(target: "cachekit", "l2", operation = operation.as_str())
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Why a batch failed, if nothing of it went well.
fn failure_of_all<T>(answers: &Answers<T>) -> Option<&BackendError> {
    let failed = |one: &Result<T, BackendError>| one.as_ref().is_err_and(breaker::counts);
    answers.first().filter(|_| answers.iter().all(failed))?.as_ref().err()
}

/// A batch that is answered short or long cannot be matched to its keys.
fn checked<T>(answers: Answers<T>, asked: usize, operation: Operation) -> Result<Answers<T>, BackendError> {
    if answers.len() == asked {
        return Ok(answers);
    }
    let text = format!("{} answers to a batch of {asked}", answers.len());
    Err(BackendError::new(Kind::Corrupt, operation, text))
}
