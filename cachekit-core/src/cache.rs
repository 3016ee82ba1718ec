//! The story of a get and of a set.
//!
//! ```text
//! get          key ─► l1 ─ hit ─────────────────────────────────────────► value
//!                      └─ miss ─► deadline ─► tier ─► codec (check) ─► fill l1 ─► value
//! get_or_load  … miss ─► join the flight of this key ─► look in the tier ─► loader, once ─► as set
//! set          key ─► codec (encode once) ─► turn of this key ─► tier ─► l1
//! ```
//!
//! No code below this file reads the environment, and nothing below `codec` knows values. What protects an older value
//! from coming back is in `invalidate/`; reading L1 in `cache/hit.rs`, filling it in `cache/keep.rs`; loading is in `cache/load.rs`;
//! what bounds time is in [`guard`](crate::guard).

mod adopt;
mod batch;
mod behind;
mod copies;
mod data_loader;
mod dictionaries;
mod fill;
mod hit;
mod interop;
mod keep;
mod load;
mod load_many;
mod options;
mod refresh;
mod seen;
mod snapshot;
mod tags;
#[cfg(test)]
mod tests;
mod unsettled;
mod upkeep;

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{BackendError, Deadline, Kind, Operation};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::invalidate::tags::{MAX_TAG_BYTES, MAX_TAGS, TagError};
use copies::Read;
pub use data_loader::{DataLoader, DataLoaderConfig};
pub(crate) use dictionaries::Upkeep;
use fill::Fill;
pub use interop::{Found, FromDocument, Interop, ToDocument};
use keep::{Entry, new_entry};
pub use load_many::Loaded;
pub use options::{LoadOptions, SetOptions};
pub use snapshot::SnapshotError;
use unsettled::Unsettled;
pub use upkeep::{CacheHealth, KeyPage};

use crate::codec::{Codec, Opened, Refusal, Times};
use crate::coherence::Coherence;
use crate::coherence::siblings::Siblings;
use crate::crypto::Encryption;
use crate::error::Error;
use crate::guard::deadline::within;
use crate::guard::fill_lock::{FillLocks, Held};
use crate::invalidate::{NamespaceSlot, Ticket, Turn};
use crate::key::{KeyError, Namespace, WireKey};
use crate::l1::{Hit, KeyHash, Scope};
use crate::near::Near;
use crate::tier::Tier;
use tags::{Own, Stamp, are_plausible};

/// A two-tier cache. Cheap to clone; clones and [namespaces](Cache::namespace) share both tiers.
#[derive(Clone)]
pub struct Cache {
    /// What a hit needs, one step away.
    near: Arc<Near>,
    engine: Arc<Engine>,
    namespace: Namespace,
    scope: Scope,
    slot: NamespaceSlot,
    /// `None` in the handles of tasks in the background: they must not keep alive what ends them.
    _handle: Option<Arc<Handle>>,
}

/// What all handles outside of the engine share. When it goes, nobody is left who wants what runs in the background.
struct Handle(Arc<Near>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.background.abandon();
        let lost = self.0.pending.abandon();
        if lost > 0 {
            self.0.counters.writes_lost.add_n(lost);
            tracing::warn!(target: "cachekit", lost, "the last handle of a cache went before its writes behind had landed");
        }
    }
}

pub(crate) struct Engine {
    pub(crate) near: Arc<Near>,
    /// Ends before the tier that it watches.
    pub(crate) coherence: Coherence,
    /// The other caches on this instance of the store, if it tells of changes.
    pub(crate) siblings: Option<Arc<Siblings>>,
    pub(crate) tier: Option<Tier>,
    pub(crate) codec: Codec,
    /// The fill locks that this process has.
    pub(crate) held: Arc<Held>,
    pub(crate) dictionaries: Upkeep,
    /// What the codec encrypts with, for handles that seal in another format.
    pub(crate) encryption: Option<Encryption>,
    /// How far its end has come.
    pub(crate) end: upkeep::End,
}

impl Deref for Engine {
    type Target = Near;

    fn deref(&self) -> &Near {
        &self.near
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.coherence.end();
    }
}

/// What the builder decided.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) use_l1: bool,
    /// Life of values that are set without one; `None`: no expiry.
    pub(crate) default_ttl: Option<Duration>,
    pub(crate) deadline: Duration,
    /// Longest life in L1 of anything that others can change in the second tier.
    pub(crate) l1_ttl_cap: Duration,
    pub(crate) strict: bool,
    /// Entries carry the epoch of their namespace, and are in force as long as that is.
    pub(crate) namespace_epochs: bool,
    /// How long the second tier keeps the epoch of a tag.
    pub(crate) epoch_ttl: Duration,
    /// What the store hands out is its own, and no copy that a tier in front of it keeps.
    pub(crate) is_vouchable: bool,
    /// Entries that an encrypting cache must not accept are errors, not misses.
    pub(crate) fail_closed: bool,
    /// Entries that a previous master key opened are written anew under the current one.
    pub(crate) reseal: bool,
    /// L1 keeps what the store gets and nothing decoded, because that is sealed and what is decoded is not.
    pub(crate) sealed_l1: bool,
    /// The store is known to put something before its keys.
    pub(crate) prefixed: bool,
    /// Where L1 is kept between two processes.
    pub(crate) snapshot: Option<PathBuf>,
    /// How processes agree on who loads; `None`: each for itself.
    pub(crate) fill_locks: Option<FillLocks>,
}

/// What can be cached as a value of its own type.
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}

/// A key on its way through the engine.
#[derive(Clone)]
pub(crate) struct At {
    pub(crate) wire: WireKey,
    pub(crate) hash: KeyHash,
}

impl Cache {
    pub(crate) fn assemble(engine: Engine, namespace: Namespace) -> Self {
        let slot = engine.writes.slot(&namespace);
        let near = Arc::clone(&engine.near);
        let handle = Some(Arc::new(Handle(Arc::clone(&near))));
        let scope = engine.l1.scope(namespace.prefix());
        Self { near, engine: Arc::new(engine), namespace, scope, slot, _handle: handle }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.near.settings
    }

    /// The same cache under another namespace: other keys, the same tiers and settings.
    pub fn namespace(&self, name: &str) -> Result<Self, KeyError> {
        let namespace = self.namespace.beside(name)?;
        let slot = self.engine.writes.slot(&namespace);
        let scope = self.engine.l1.scope(namespace.prefix());
        Ok(Self { namespace, scope, slot, ..self.clone() })
    }

    /// A handle for work in the background, which ends when the last other handle goes.
    pub(crate) fn borrowed(&self) -> Self {
        Self { _handle: None, ..self.clone() }
    }

    /// The value of `key`, or `None`.
    ///
    /// On an L1 hit the value is shared, not decoded again. A stored value that is not a `T` is a miss and is counted.
    ///
    /// # Errors
    /// [`Error::Key`]; if the cache is strict also the failures of the store and refused entries. If it encrypts and fails
    /// closed, [`Error::Refused`] for an entry that is not authentic, not encrypted, or sealed under a key it lacks.
    pub async fn get<T: Value>(&self, key: impl AsRef<[u8]>) -> Result<Option<Arc<T>>, Error> {
        let key = key.as_ref();
        if let Some(value) = self.typed_in_l1(key)? {
            return Ok(Some(value));
        }
        self.tier_value(&self.at(key)?).await
    }

    /// The bytes of `key` that were stored by [`Cache::set_bytes`], or `None`.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub async fn get_bytes(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let key = key.as_ref();
        let read = |cache: &Self, wire: &[u8], hit: Hit| cache.opened(wire, &hit)?.bytes().ok();
        if let Some(bytes) = self.in_l1(key, read)? {
            return Ok(Some(bytes));
        }
        let Some((opened, _)) = self.fetch(&self.at(key)?).await? else { return Ok(None) };
        self.judge(opened.bytes())
    }

    /// Stores `value` under `key` for the cache's default life.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Encode`], [`Error::TooLarge`]; if the cache is strict also the failures of the store.
    /// Otherwise a store that fails leaves the value in L1 alone, for at most the L1 cap, and is counted.
    pub async fn set<T: Serialize + ?Sized>(&self, key: impl AsRef<[u8]>, value: &T) -> Result<(), Error> {
        self.set_with(key, value, SetOptions::default()).await
    }

    /// As [`Cache::set`], with a life of its own.
    ///
    /// # Errors
    /// As [`Cache::set`], and [`Error::ZeroTtl`].
    pub async fn set_with<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
        options: SetOptions,
    ) -> Result<(), Error> {
        let at = self.at(key.as_ref())?;
        let times = self.times(&options)?;
        let tags = self.stored_tags(&options.tags)?;
        let stamp = self.stamp(&tags).await?;
        let stored = self.engine.codec.encode(&new_entry(&at, times, 0, &stamp), value)?;
        let entry = Entry { stored, times, typed: None, decodes: true };
        let Err(entry) = self.accept_behind(&at, entry, options.behind, &stamp) else { return Ok(()) };
        self.write(&at, entry, !stamp.is_invented, None, None).await.map(|_| ())
    }

    /// Stores bytes as they are. They are read back by [`Cache::get_bytes`].
    ///
    /// # Errors
    /// As [`Cache::set_with`].
    pub async fn set_bytes(&self, key: impl AsRef<[u8]>, bytes: &[u8], options: SetOptions) -> Result<(), Error> {
        let at = self.at(key.as_ref())?;
        let times = self.times(&options)?;
        let tags = self.stored_tags(&options.tags)?;
        let stamp = self.stamp(&tags).await?;
        let stored = self.engine.codec.encode_bytes(&new_entry(&at, times, 0, &stamp), bytes)?;
        let entry = Entry { stored, times, typed: None, decodes: false };
        let Err(entry) = self.accept_behind(&at, entry, options.behind, &stamp) else { return Ok(()) };
        self.write(&at, entry, !stamp.is_invented, None, None).await.map(|_| ())
    }

    /// Removes `key`; `true` if the second tier (or, without one, L1) had it. Afterwards nothing that was read, loaded or
    /// written before comes back through this process.
    ///
    /// # Errors
    /// [`Error::Key`], and always [`Error::Backend`]: a deletion that did not happen must not look like one that did.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.remove(&self.at(key.as_ref())?).await
    }

    async fn remove(&self, at: &At) -> Result<bool, Error> {
        let engine = &*self.engine;
        engine.counters.deletes.add();
        tracing::trace!(target: "cachekit", key = ?at.wire, "delete");
        self.overtake(at);
        let deadline = self.deadline();
        // L1 forgets the key however this ends: after a failure, or if the caller goes away, the outcome is unknown, and
        // L1 must not be surer than the store.
        let unsettled = Unsettled { engine, at };
        let _turn = self.count_failure(self.turn(at, deadline, Operation::Delete).await)?;
        let accepted = engine.pending.mark();
        let deleted = match &engine.tier {
            Some(tier) => Some(self.count_failure(tier.delete(&at.wire, deadline).await)),
            None => None,
        };
        // Off the list only now: until the store has lost it, and for good if it has not, a reader is to find nothing older.
        let waited = !matches!(deleted, Some(Err(_))) && engine.pending.supersede(at.wire.as_bytes(), accepted);
        match deleted {
            Some(Err(_)) => drop(unsettled),
            _ => unsettled.settle(),
        }
        let was_in_l1 = engine.l1.remove(at.hash, at.wire.as_bytes());
        Ok(deleted.transpose()?.unwrap_or(was_in_l1) || waited)
    }

    /// Whether [`Cache::get_bytes`] or [`Cache::get`] would find an entry.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let key = key.as_ref();
        let is_there = |cache: &Self, wire: &[u8], hit: Hit| cache.get_takes_hit(wire, &hit).then_some(());
        Ok(self.in_l1(key, is_there)?.is_some() || self.fetch(&self.at(key)?).await?.is_some())
    }

    /// Writes an entry to the second tier and keeps it in L1. With a ticket only if nothing overtook it, and with a fill only
    /// if nothing did in the store: else `false`. `may_wait`: should it fail, others can use it later.
    async fn write(
        &self,
        at: &At,
        entry: Entry,
        may_wait: bool,
        ticket: Option<Ticket>,
        fill: Option<&mut Fill>,
    ) -> Result<bool, Error> {
        let engine = &*self.engine;
        if let Some(tier) = &engine.tier
            && entry.stored.len() as u64 > tier.limits().max_value
        {
            let (size, max) = (entry.stored.len() as u64, tier.limits().max_value);
            return Err(Error::TooLarge { size, max });
        }
        if ticket.is_none() {
            self.overtake(at);
        }
        let mine = self.ticket(at);
        let deadline = self.deadline();
        let turn = self.count_failure(self.turn(at, deadline, Operation::Set).await);
        // Looked at inside the turn: whoever overtakes from here on waits for it and comes after this write.
        let ticket = ticket.map(|ticket| self.honoured(at, ticket));
        let is_late = ticket.is_some_and(|ticket| !engine.writes.still(self.slot, at.hash, ticket));
        // Of what others did the store knows, and a fence asks it. L1 has nothing of this value then.
        let is_fenced = fill.as_ref().is_some_and(|fill| fill.is_fenced());
        if is_late && !(is_fenced && ticket.is_some_and(|ticket| engine.writes.still_here(self.slot, at.hash, ticket)))
        {
            engine.counters.overtaken.add();
            return Ok(false);
        }
        let accepted = engine.pending.mark();
        let unsettled = Unsettled { engine, at };
        engine.counters.sets.add();
        tracing::trace!(target: "cachekit", key = ?at.wire, bytes = entry.stored.len(), "set");
        let written = match (&engine.tier, &turn) {
            (Some(tier), Ok(_)) => {
                self.offer_dictionary(tier, deadline).await;
                let ttl = entry.times.ttl(engine.clock.unix_ms());
                self.count_failure(self.land(tier, at, entry.stored.clone(), ttl, fill, deadline).await)
            }
            // Another write of this key hangs in the store, which is as good as a store that failed.
            (Some(_), Err(_)) => Err(BackendError::timeout(Operation::Set)),
            (None, _) => Ok(true),
        };
        match written {
            Ok(false) => {
                engine.counters.fills_fenced.add();
                unsettled.forget();
                Ok(false)
            }
            // `unsettled` forgets what L1 has: the store may or may not have taken the value.
            Err(error) if engine.settings.strict => Err(error.into()),
            // Nor may it be kept in L1, or wait.
            Err(_) if is_late => {
                engine.counters.overtaken.add();
                Ok(false)
            }
            answer => {
                let waits = match answer {
                    Ok(_) => {
                        engine.pending.supersede(at.wire.as_bytes(), accepted);
                        false
                    }
                    Err(_) => {
                        unsettled.doubt();
                        may_wait && self.wait_instead(at, &entry, accepted)
                    }
                };
                // Nothing to keep if a newer write waits for its turn, or somebody else's was told: theirs is what L1 is to
                // end with.
                let settled = unsettled.settle_as(mine);
                if answer.is_err() && !waits {
                    engine.counters.sets_l1_only.add();
                }
                // What the store may not have, nobody tells the end of.
                let settled = settled.map(|settled| settled.with_vouched(settled.vouched && answer.is_ok()));
                if is_late {
                    engine.counters.overtaken.add();
                }
                self.keep(at, entry, settled.filter(|_| !is_late));
                Ok(true)
            }
        }
    }

    /// Looks in the second tier and fills L1. A miss, an outage and a refused entry are all `None`, each counted.
    async fn fetch(&self, at: &At) -> Result<Option<(Opened, Option<Hit>)>, Error> {
        let engine = &*self.engine;
        let Some(tier) = &engine.tier else { return Ok(None) };
        if let Some(found) = self.held_back(at).await? {
            return Ok(Some(found));
        }
        let ticket = self.ticket(at);
        let deadline = self.deadline();
        let (stored, own) = match self.count_failure(self.ask(tier, at, deadline).await) {
            Ok(answers) => answers,
            Err(error) if engine.settings.strict => return Err(error.into()),
            Err(_) => return Ok(self.in_outage(at)),
        };
        let read = match self.read_answer(tier, at, stored, deadline).await {
            Ok(read) => read,
            Err(error) if engine.settings.strict => return Err(error.into()),
            Err(_) => return Ok(self.in_outage(at)),
        };
        self.accept(at, read, ticket, own).await
    }

    /// Checks what the second tier returned for a key, and fills L1 with it. `own`: the epoch of the namespace, if that came
    /// along.
    async fn accept(
        &self,
        at: &At,
        read: Option<Read>,
        ticket: Ticket,
        own: Own,
    ) -> Result<Option<(Opened, Option<Hit>)>, Error> {
        let Some((stored, opened)) = self.open_stored(at, read)? else { return Ok(None) };
        let in_force = self.is_in_force(&opened, own).await?;
        Ok(self.admit(at, stored, opened, ticket, in_force))
    }

    /// Checks what the second tier returned for a key, all but whether it was invalidated.
    fn open_stored(&self, at: &At, read: Option<Read>) -> Result<Option<(Bytes, Opened)>, Error> {
        let engine = &*self.engine;
        let Some((stored, opened)) = self.accept_any(at, read)? else { return Ok(None) };
        // What is past its time is for those who can load it anew, unless the cache says otherwise.
        if !self.get_takes(opened.meta()) {
            engine.counters.l2_misses.add();
            return Ok(None);
        }
        if !are_plausible(&opened) {
            return Ok(self.judge(Err(Refusal::TooLarge))?.map(|()| (stored, opened)));
        }
        Ok(Some((stored, opened)))
    }

    /// Fills L1 with a checked entry, if it is still in force.
    fn admit(
        &self,
        at: &At,
        stored: Bytes,
        opened: Opened,
        ticket: Ticket,
        in_force: bool,
    ) -> Option<(Opened, Option<Hit>)> {
        let counters = &self.engine.counters;
        if !in_force {
            counters.l2_misses.add();
            return None;
        }
        counters.l2_hits.add();
        self.extend_if_due(opened.meta(), at.wire.as_bytes());
        self.reseal_if_due(&opened, at.wire.as_bytes());
        let hit = self.fill(at, stored, &opened, ticket);
        Some((opened, hit))
    }

    async fn tier_value<T: Value>(&self, at: &At) -> Result<Option<Arc<T>>, Error> {
        self.tier_value_newer(at, 0).await
    }

    /// The same, unless it was made at that moment or before. 0: whenever.
    async fn tier_value_newer<T: Value>(&self, at: &At, newer_than_ms: u64) -> Result<Option<Arc<T>>, Error> {
        let Some((opened, hit)) = self.fetch(at).await? else { return Ok(None) };
        if newer_than_ms != 0 && opened.meta().times.created_ms <= newer_than_ms {
            return Ok(None);
        }
        let Some(value) = self.judge(opened.decode::<T>())? else { return Ok(None) };
        let value = Arc::new(value);
        if let Some(hit) = hit {
            hit.attach_typed(Arc::clone(&value));
        }
        Ok(Some(value))
    }

    /// A refused entry is a counted miss; a strict cache says so instead, except for age, which is no defect. What an
    /// encrypting cache that fails closed must not accept is said in any case: no loader runs over the traces.
    fn judge<T>(&self, checked: Result<T, Refusal>) -> Result<Option<T>, Error> {
        match checked {
            Ok(value) => Ok(Some(value)),
            Err(refusal) => {
                self.engine.counters.refuse(refusal);
                match refusal {
                    Refusal::Expired => Ok(None),
                    refusal if self.engine.settings.strict => Err(refusal.into()),
                    refusal if self.engine.settings.fail_closed && refusal.is_alarm() => Err(refusal.into()),
                    _ => Ok(None),
                }
            }
        }
    }

    fn count_failure<T>(&self, answer: Result<T, BackendError>) -> Result<T, BackendError> {
        if let Err(error) = &answer {
            self.engine.counters.l2_errors.add();
            if error.kind() == Kind::Timeout {
                self.engine.counters.l2_timeouts.add();
            }
            if let Some(tier) = &self.engine.tier {
                tier.tell(error);
            }
        }
        answer
    }

    /// Makes everything on its way for this key too late.
    fn overtake(&self, at: &At) {
        self.engine.writes.advance(at.hash);
        self.engine.flights.detach(at.hash);
    }

    /// This key's turn to write.
    async fn turn(&self, at: &At, deadline: Deadline, operation: Operation) -> Result<Turn<'_>, BackendError> {
        within(deadline, operation, async { Ok(self.engine.writes.turn(self.slot, at.hash).await) }).await
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.engine.settings.deadline)
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.near.closed.load(Ordering::Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }

    fn at(&self, key: &[u8]) -> Result<At, Error> {
        self.check_open()?;
        let wire = self.namespace.wire(key)?;
        let hash = self.near.l1.hash(wire.as_bytes());
        Ok(At { wire, hash })
    }

    /// From now until the end of a new entry's life.
    fn times(&self, options: &SetOptions) -> Result<Times, Error> {
        let near = &*self.near;
        near.fresh.times(options, near.settings.default_ttl, near.clock.unix_ms(), false)
    }

    /// The same for what was loaded, and may have been loaded by many at once.
    fn loaded_times(&self, options: &SetOptions) -> Result<Times, Error> {
        let near = &*self.near;
        near.fresh.times(options, near.settings.default_ttl, near.clock.unix_ms(), true)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("namespace", &self.namespace)
            .field("tier", &self.engine.tier)
            .field("settings", &self.engine.settings)
            .finish_non_exhaustive()
    }
}
