//! A chain of tiers: stores in front of the one that counts, such as a directory of this machine before a Redis.
//!
//! ```text
//! get     front ─ hit ─► value                     set, delete    last first, then the fronts, from far to near
//!           └ miss, down ─► next front … ─► last ─► value, and promotion into the fronts that did not have it
//! ```
//!
//! The *last* tier is the one others share: it decides what is stored, and its powers (cas, locks, scan, watch) are the
//! chain's. The *fronts* hold copies. What this file protects: a copy is never served after this process deleted, cleared or
//! replaced the entry, whatever was under way or failed; and a front that is down costs its copies and nothing else.
//!
//! * **Order.** Writes touch the last tier first and the fronts afterwards, so that what is promoted meanwhile is wiped, and
//!   not what was just written. A copy that could not be replaced is removed; one that could not be removed is *not believed*
//!   any more (`chain/marks.rs`). A deletion that missed any tier is an error as well.
//! * **Promotion against deletion.** A promotion notes the generation of its key before it reads, takes the turn of the key
//!   before it writes, and writes nothing if the generation moved (`chain/stripes.rs`). Writers move it before and after.
//! * **A front that hangs.** What is being written to it holds the turn. A writer waits for that with half of its deadline, then
//!   it goes without, and no copy that it may have crossed with is believed (`chain/passing.rs`).
//! * **Others.** Another process is not held back by any of this, so copies live for the cap of their front at most. What the
//!   last tier tells of changes by others makes copies of these keys disbelieved.
//!
//! The chain is a [`Backend`] like any other. Keys of the engine's own (`ck::…`: epochs, dictionaries) never stand in a front:
//! what decides whether others' copies are valid must not itself be a copy.

mod batch;
mod front;
mod marks;
mod passing;
mod powers;
mod stripes;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{
    Backend, BackendError, Batch, Cas, Clear, Cx, Deadline, Expiry, Freshness, Fut, Health, Key, Kind, Limits, Locks,
    Operation, Scan, Ttl, Watch,
};
use serde::Serialize;

use self::front::Front;
use self::marks::Began;
use self::passing::Way;
use self::stripes::{Seen, Stripes};
use super::Tier;
use crate::background::{Background, DEFAULT_SPARE, Errand};
use crate::clock::Clock;
use crate::codec::Envelope;
use crate::guard::deadline::within;
use crate::key::{RESERVED, WireKey};

/// Tiers in front of the last one. Each is asked on a miss, so more than a few are a mistake.
pub const MAX_FRONTS: usize = 4;
/// Life of copies without a setting: that of L1's, for the same reason. Nobody tells this process of others' writes.
pub const DEFAULT_FRONT_TTL: Duration = Duration::from_secs(30);

/// What a set does with the copy in a front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WritePolicy {
    /// Replaces it before it returns.
    #[default]
    Through,
    /// Removes it, and puts the new one in behind the caller's back.
    Behind,
    /// Removes it. What is read next is promoted, if the front promotes.
    Remove,
}

impl WritePolicy {
    /// The name in configuration files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Through => "through",
            Self::Behind => "behind",
            Self::Remove => "none",
        }
    }

    /// The policy of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Through, Self::Behind, Self::Remove].into_iter().find(|policy| policy.as_str() == name)
    }
}

/// A tier in front of the last one.
#[derive(Clone)]
pub struct TierSpec {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) name: String,
    pub(crate) ttl: Duration,
    pub(crate) write: WritePolicy,
    pub(crate) promote: bool,
}

impl TierSpec {
    /// Copies of 30 s, written through and promoted.
    pub fn new(name: impl Into<String>, backend: Arc<dyn Backend>) -> Self {
        let (ttl, write) = (DEFAULT_FRONT_TTL, WritePolicy::default());
        Self { backend, name: name.into(), ttl, write, promote: true }
    }

    /// Longest life of a copy: how long another process's write may stay unseen here.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// What a set does.
    #[must_use]
    pub fn write(mut self, write: WritePolicy) -> Self {
        self.write = write;
        self
    }

    /// Whether a hit in a later tier is copied into this one.
    #[must_use]
    pub fn promote(mut self, promote: bool) -> Self {
        self.promote = promote;
        self
    }
}

impl fmt::Debug for TierSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TierSpec")
            .field("name", &self.name)
            .field("ttl", &self.ttl)
            .field("write", &self.write)
            .field("promote", &self.promote)
            .finish_non_exhaustive()
    }
}

/// What one front did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TierStats {
    /// Its name.
    pub name: String,
    /// Values found in it.
    pub hits: u64,
    /// Keys it did not have.
    pub misses: u64,
    /// Reads that passed it by, because its copy was not to be believed.
    pub passed_by: u64,
    /// Copies that were no whole entry of their key, or not fresh any more: passed by.
    pub refused: u64,
    /// Operations that failed; the other tiers went on.
    pub errors: u64,
    /// Of these, those its breaker refused.
    pub shed: u64,
    /// Copies that came from later tiers.
    pub promotions: u64,
    /// Promotions that did not happen: a write came in between, or too many were under way.
    pub promotions_skipped: u64,
    /// Copies written by sets.
    pub writes: u64,
    /// Copies that are not believed since somebody changed them elsewhere, or a write of them failed.
    pub distrusted: u64,
}

/// The chain.
pub struct Chain {
    inner: Arc<Inner>,
    background: Background,
}

/// What promotions share with the chain. They must not hold the table that they are in.
struct Inner {
    fronts: Vec<Front>,
    last: Tier,
    stripes: Arc<Stripes>,
    /// Numbers the marks of all fronts.
    serial: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
    /// How long whoever has a deadline waits for a turn; then it goes without (`chain/passing.rs`).
    patience: fn(Deadline) -> Deadline,
}

impl Chain {
    /// `fronts` from near to far, each with its guards; then the last tier with its own.
    pub(crate) fn new(fronts: Vec<(TierSpec, Tier)>, last: Tier, clock: Arc<dyn Clock>) -> Self {
        let serial = Arc::new(AtomicU64::new(0));
        let limits = *last.limits();
        let fronts = fronts.into_iter().map(|(spec, tier)| Front::new(&spec, tier, limits, &serial)).collect();
        Self {
            inner: Arc::new(Inner { fronts, last, stripes: Arc::new(Stripes::new()), serial, clock, patience: share }),
            background: Background::new(DEFAULT_SPARE, 0),
        }
    }

    /// What each front did.
    pub(crate) fn stats(&self) -> Vec<TierStats> {
        self.inner.fronts.iter().map(Front::stats).collect()
    }

    /// The tier that counts.
    pub(crate) fn last(&self) -> &Tier {
        &self.inner.last
    }

    /// Whether copies of a namespace can be found and removed in every front.
    pub(crate) fn fronts_empty_namespaces(&self) -> bool {
        self.inner.fronts.iter().all(|front| front.tier.empties_namespaces())
    }

    /// Tasks that run in the background.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.background.running()
    }

    /// Looks in the fronts. What is found, and how many were passed.
    async fn look(&self, key: &[u8], cx: &Cx<'_>) -> (Option<Bytes>, usize) {
        let inner = &*self.inner;
        for (at, front) in inner.fronts.iter().enumerate() {
            if let Some(stored) = front.get(key, &*inner.clock, share(cx.deadline)).await {
                return (Some(stored), at);
            }
        }
        (None, inner.fronts.len())
    }

    /// Somebody who can open entries could not open this one: the fronts that hold it are not believed for its key any more, until
    /// the next promotion or write replaces it.
    pub(crate) async fn refuse_copies(&self, key: &[u8], stored: &Bytes, deadline: Deadline) {
        for front in &self.inner.fronts {
            front.refuse(key, stored, &*self.inner.clock, share(deadline)).await;
        }
    }

    /// Copies what a later tier had into the first `before` fronts, in the background. `seen` before any tier was read.
    fn promote(&self, found: Vec<(Vec<u8>, Bytes, Seen)>, before: usize) {
        let wanted = |front: &&Front| front.promotes();
        let fronts = self.inner.fronts[..before].iter().filter(wanted).count();
        if fronts == 0 || found.is_empty() {
            return;
        }
        let count = found.len();
        let inner = Arc::clone(&self.inner);
        let work = async move {
            for (key, stored, seen) in found {
                inner.copy(&key, stored, seen, before).await;
            }
        };
        if self.background.spawn(Errand::Spare, work).is_err() {
            for front in self.inner.fronts[..before].iter().filter(wanted) {
                front.skipped(count as u64);
            }
        }
    }

    /// A write of some keys: nothing else touches the fronts for them, or nothing there is believed, and what is on its way is too
    /// late. What a reader would note right after it comes with the answer, for each key, or for none.
    async fn change<T>(
        &self,
        keys: &[&[u8]],
        operation: Operation,
        deadline: Deadline,
        work: impl Future<Output = Result<T, BackendError>>,
    ) -> (Result<T, BackendError>, Vec<Seen>) {
        let inner = &*self.inner;
        inner.stripes.advance(keys);
        let way = match inner.way(keys, operation, deadline).await {
            Ok(way) => way,
            Err(error) => return (Err(error), Vec::new()),
        };
        // Whoever goes away in the middle leaves a write that may land yet, and copies that it was to replace.
        let unsettled = Unsettled { inner, keys };
        let answer = work.await;
        std::mem::forget(unsettled);
        inner.stripes.advance(keys);
        let seen = keys.iter().map(|key| inner.stripes.seen(key)).collect();
        let seen = match &way {
            // Asked after it was noted: whoever passes moves the generation first.
            Way::Turn(turn) if !turn.was_passed() => seen,
            // Others may be writing already, or have: what is known of this one's place among them is nothing.
            Way::Turn(_) | Way::Passing { .. } => Vec::new(),
        };
        inner.arrived(way, keys);
        (answer, seen)
    }
}

/// A write whose caller went away.
struct Unsettled<'a> {
    inner: &'a Inner,
    keys: &'a [&'a [u8]],
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        for front in &self.inner.fronts {
            for key in self.keys {
                front.distrust.doubt(key, &*self.inner.clock);
            }
        }
        self.inner.stripes.advance(self.keys);
    }
}

impl Inner {
    fn began(&self) -> Began {
        Began::now(&self.serial, &*self.clock)
    }

    /// One promotion.
    async fn copy(&self, key: &[u8], stored: Bytes, seen: Seen, before: usize) {
        let now_ms = self.clock.unix_ms();
        let skip = |by: u64| self.fronts[..before].iter().filter(|front| front.promotes()).for_each(|f| f.skipped(by));
        let Some(life) = self.life(key, &stored, now_ms).await else { return };
        // Somebody writes this key: what they write is newer.
        let Some(turn) = self.stripes.try_turn(key) else { return skip(1) };
        // In this order: a change that is told from here on marks the copy, and is not settled by it.
        let began = self.began();
        if self.stripes.seen(key) != seen {
            return skip(1);
        }
        for front in self.fronts[..before].iter().filter(|front| front.promotes()) {
            front.promoted((key, &stored, life), began, &*self.clock).await;
        }
        self.leave(turn, &[key]);
    }

    /// How long a copy of `stored` may live; `None`: not at all, or nobody knows. The entry's own word, or that of its store.
    async fn life(&self, key: &[u8], stored: &Bytes, now_ms: u64) -> Option<Ttl> {
        if let Ok(envelope) = Envelope::parse(stored) {
            let times = envelope.meta().times;
            // To the end of its freshness: a copy that is stale is not served.
            let end_ms = match times.fresh_for_ms {
                0 => times.expires_ms,
                fresh_for_ms => times.created_ms.saturating_add(fresh_for_ms),
            };
            return if end_ms == 0 { Some(Ttl::Never) } else { Ttl::from_ms(end_ms.saturating_sub(now_ms)) };
        }
        let (expiry, deadline) = (self.last.backend().ttl()?, Deadline::after(LIFE_ASK));
        let cx = Cx::new(deadline);
        within(deadline, Operation::Ttl, expiry.ttl(Key::from_wire(key), &cx)).await.ok().flatten()
    }
}

/// How long a promotion asks for the life of an entry that does not say it.
const LIFE_ASK: Duration = Duration::from_millis(250);

/// The deadline of a front, and of the wait for a turn: half of what is left, so that one that hangs leaves time for the others.
fn share(deadline: Deadline) -> Deadline {
    deadline.remaining().map_or(deadline, |left| Deadline::after(left / 2))
}

/// A key of the chain on its way to the last tier, which has shortened it already.
fn whole(key: &[u8]) -> WireKey {
    WireKey::of_store(key)
}

fn is_reserved(key: &[u8]) -> bool {
    key.starts_with(RESERVED)
}

#[deny(clippy::missing_trait_methods)]
impl Backend for Chain {
    fn limits(&self) -> Limits {
        *self.inner.last.limits()
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move {
            let (inner, bytes) = (&*self.inner, key.as_bytes());
            let seen = inner.stripes.seen(bytes);
            let (found, passed) = self.look(bytes, cx).await;
            let found = match found {
                Some(found) => Some(found),
                None => inner.last.get(&whole(bytes), cx.deadline).await?,
            };
            if let Some(stored) = found.as_ref().filter(|_| passed > 0 && !is_reserved(bytes)) {
                self.promote(vec![(bytes.to_vec(), stored.clone(), seen)], passed);
            }
            Ok(found)
        })
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            let key = key.as_bytes();
            let inner = &*self.inner;
            let work = async {
                let began = inner.began();
                let written = inner.last.set(&whole(key), value.clone(), ttl, cx.deadline).await;
                for front in inner.fronts.iter().rev() {
                    let (failed, deadline) = (written.as_ref().err(), share(cx.deadline));
                    front.write((key, &value, ttl), failed, began, &*inner.clock, deadline).await;
                }
                written
            };
            let (written, seen) = self.change(&[key], Operation::Set, cx.deadline, work).await;
            if let (Ok(()), Some(&seen)) = (&written, seen.first()) {
                self.write_behind(vec![(key.to_vec(), value.clone(), ttl, seen)]);
            }
            written
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            let key = key.as_bytes();
            let inner = &*self.inner;
            let work = async {
                let began = inner.began();
                let mut answer = inner.last.delete(&whole(key), cx.deadline).await;
                for front in inner.fronts.iter().rev() {
                    let removed = front.remove(key, began, &*inner.clock, share(cx.deadline)).await;
                    answer = match (answer, removed) {
                        (Ok(had), Ok(copied)) => Ok(had || copied),
                        (Ok(_), Err(error)) => Err(front.not_removed(Operation::Delete, error)),
                        (failed, _) => failed,
                    };
                }
                answer
            };
            self.change(&[key], Operation::Delete, cx.deadline, work).await.0
        })
    }

    /// As `get` would: a copy counts.
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move { Ok(self.get(key, cx).await?.is_some()) })
    }

    /// The last tier's answer, with the fronts' among the details. Healthy if all are.
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        Box::pin(async move {
            let mut health = self.inner.last.health(cx.deadline).await?;
            let mut fronts = serde_json::Map::new();
            for front in &self.inner.fronts {
                let answer = front.tier.health(share(cx.deadline)).await;
                health.healthy &= answer.as_ref().is_ok_and(|answer| answer.healthy);
                fronts.insert(front.name.clone(), front.health_document(answer));
            }
            Ok(health.with_detail("fronts", fronts))
        })
    }

    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.background.close(share(cx.deadline)).await;
            let mut closed = Ok(());
            for front in &self.inner.fronts {
                closed = closed.and(front.tier.close(share(cx.deadline)).await);
            }
            self.inner.last.close(cx.deadline).await.and(closed)
        })
    }

    fn batch(&self) -> Option<&dyn Batch> {
        Some(self)
    }

    fn ttl(&self) -> Option<&dyn Expiry> {
        self.inner.last.backend().ttl().map(|_| self as &dyn Expiry)
    }

    fn locks(&self) -> Option<&dyn Locks> {
        self.inner.last.backend().locks().map(|_| self as &dyn Locks)
    }

    fn cas(&self) -> Option<&dyn Cas> {
        self.inner.last.backend().cas().map(|_| self as &dyn Cas)
    }

    fn scan(&self) -> Option<&dyn Scan> {
        self.inner.last.backend().scan().map(|_| self as &dyn Scan)
    }

    fn clear(&self) -> Option<&dyn Clear> {
        self.inner.last.backend().clear().map(|_| self as &dyn Clear)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.inner.last.backend().watch().map(|_| self as &dyn Watch)
    }

    fn freshness(&self) -> Option<&dyn Freshness> {
        self.inner.last.backend().freshness().map(|_| self as &dyn Freshness)
    }
}

impl Chain {
    /// Puts copies into the fronts that are written behind.
    fn write_behind(&self, items: Vec<(Vec<u8>, Bytes, Ttl, Seen)>) {
        if !self.inner.fronts.iter().any(Front::is_behind) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let work = async move {
            for (key, value, ttl, seen) in items.into_iter().filter(|(key, ..)| !is_reserved(key)) {
                let Some(turn) = inner.stripes.try_turn(&key) else { continue };
                let began = inner.began();
                if inner.stripes.seen(&key) == seen {
                    for front in inner.fronts.iter().filter(|front| front.is_behind()) {
                        front.promoted((&key, &value, ttl), began, &*inner.clock).await;
                    }
                }
                inner.leave(turn, &[&key]);
            }
        };
        // Refused: the copies stay removed, and are promoted when they are read.
        let _ = self.background.spawn(Errand::Spare, work);
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fronts: Vec<&str> = self.inner.fronts.iter().map(|front| front.name.as_str()).collect();
        f.debug_struct("Chain").field("fronts", &fronts).field("last", &self.inner.last).finish_non_exhaustive()
    }
}

/// What stands in the way of a future that borrows its keys.
fn failed_like(error: &BackendError, operation: Operation) -> BackendError {
    BackendError::new(error.kind(), operation, error.to_string()).with_retry(error.retry())
}

/// A `Kind` that says that the store is away, not that it does not like what it was given.
fn is_outage(error: &BackendError) -> bool {
    matches!(error.kind(), Kind::Transient | Kind::Timeout | Kind::Throttled | Kind::Auth | Kind::Panic)
}
