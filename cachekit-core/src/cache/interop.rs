//! The cache as the other languages of the family see it: their keys, their values, the same two tiers.
//!
//! ```text
//! get   operation, arguments ─► interop/v1 key ─► l1 (as stored) ─► deadline ─► tier, verbatim ─► open? ─► decode ─► value
//! set   value ─► document ─► seal? ─► turn of this key ─► tier, verbatim ─► l1
//! ```
//!
//! What differs from the cache's own entries: nothing but bytes is stored, so a plain entry proves neither its key nor its
//! age. L1 keeps it for at most the L1 cap, whatever watches the store, and a sealed one only as ciphertext. Its life is
//! the store's business: zero means none here, as the family has it.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{Dated, Operation, Ttl};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::seen::Seen;
use super::{At, Cache, Entry, Unsettled};
use crate::codec::{DecodeFault, Refusal, Times};
use crate::error::{Error, LoadError};
use crate::guard::flight::Moment;
use crate::interop::{
    Arguments, Binding, Class, InteropError, InteropValue, Keyring, Malformed, canonical_value, check_namespace,
    interop_key, read_typed, read_value, write_typed,
};
use crate::invalidate::Ticket;
use crate::key::WireKey;
use crate::l1::{Hit, Typed};
use crate::observe::loading;
use crate::tier::chain::MAX_FRONTS;

/// What can be stored as an interop value: whatever serializes, and [`InteropValue`], which is stored canonically.
pub trait ToDocument {
    /// Its document, at most `max_bytes` of it.
    ///
    /// # Errors
    /// [`InteropError::Value`], [`InteropError::TooLarge`], [`InteropError::Serialize`].
    fn to_document(&self, max_bytes: u64) -> Result<Vec<u8>, InteropError>;
}

/// What an interop value can be read as: whatever deserializes, and [`InteropValue`].
pub trait FromDocument: Sized + Send + Sync + 'static {
    /// Reads one document.
    ///
    /// # Errors
    /// [`InteropError::Malformed`].
    fn from_document(document: &[u8]) -> Result<Self, InteropError>;
}

impl<T: Serialize + ?Sized> ToDocument for T {
    fn to_document(&self, max_bytes: u64) -> Result<Vec<u8>, InteropError> {
        write_typed(self, max_bytes)
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> FromDocument for T {
    fn from_document(document: &[u8]) -> Result<Self, InteropError> {
        read_typed(document)
    }
}

impl ToDocument for InteropValue {
    fn to_document(&self, max_bytes: u64) -> Result<Vec<u8>, InteropError> {
        let document = canonical_value(self)?;
        if document.len() as u64 > max_bytes { Err(InteropError::TooLarge { max: max_bytes }) } else { Ok(document) }
    }
}

impl FromDocument for InteropValue {
    fn from_document(document: &[u8]) -> Result<Self, InteropError> {
        Ok(read_value(document)?)
    }
}

/// A value with what its store says of its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// The value.
    pub value: Arc<T>,
    /// Past its life, inside its stale window: to be used while it is loaded anew.
    pub stale: bool,
}

/// A namespace that is shared with other languages. Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use cachekit_core::Cache;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let users = Cache::builder().build()?.interop("users")?;
/// // What `get_user(42)` of a Python service with `@cache(namespace="users", interop="get_user")` reads and writes.
/// users.set("get_user", &(42,), "Ada", Some(Duration::from_secs(60))).await?;
/// assert_eq!(*users.get::<String>("get_user", &(42,)).await?.unwrap(), "Ada");
/// # Ok::<(), cachekit_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Interop {
    cache: Cache,
    namespace: Arc<str>,
    secure: Option<Secure>,
}

#[derive(Clone)]
struct Secure {
    keyring: Arc<Keyring>,
    tenant: Arc<str>,
}

impl Cache {
    /// The namespace `name` as the other languages of the family see it. Not that of [`Cache::namespace`]: the two never
    /// share an entry. Of a cache that encrypts, sealed with its keys for its tenant; its keys are never hashed, because the
    /// other languages would not find them.
    ///
    /// # Errors
    /// [`Error::Interop`] for a name that cannot stand in their keys, [`Error::Unsupported`] if the store is known to put
    /// something before its keys: another language would look elsewhere.
    pub fn interop(&self, name: &str) -> Result<Interop, Error> {
        check_namespace(name)?;
        if name == "ck" {
            // The beginning of this cache's own keys, and refused by Python too.
            return Err(InteropError::Segment { segment: "namespace", reason: "ck is reserved" }.into());
        }
        if self.engine.settings.prefixed {
            let needs = "keeps keys as they are; this one has a tenant or a key prefix before them";
            return Err(Error::Unsupported { operation: "interop", needs });
        }
        // A cache that encrypts does so in every format: nothing plain of it may reach the store by a side door.
        let secure = self.engine.encryption.as_ref().map(|encryption| Secure {
            keyring: Arc::clone(&encryption.keyring),
            tenant: Arc::clone(&encryption.tenant),
        });
        Ok(Interop { cache: self.namespace(name)?, namespace: name.into(), secure })
    }
}

impl Interop {
    /// The same namespace with its values sealed for `tenant` ([`DEFAULT_TENANT`](crate::interop::DEFAULT_TENANT) where
    /// there is only one). Nothing plain is written or accepted. The tenant is no part of the key: two tenants that ask
    /// for the same call need namespaces of their own, or an argument that tells them apart.
    ///
    /// # Errors
    /// [`Error::Interop`] for a tenant without a key.
    pub fn secure(mut self, keyring: Arc<Keyring>, tenant: &str) -> Result<Self, Error> {
        keyring.fingerprint(tenant).map_err(InteropError::from)?;
        self.secure = Some(Secure { keyring, tenant: tenant.into() });
        Ok(self)
    }

    /// The cache behind it, whose own keys lie elsewhere.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The key of a call.
    ///
    /// # Errors
    /// [`Error::Interop`].
    pub fn key<A: Arguments + ?Sized>(&self, operation: &str, arguments: &A) -> Result<String, Error> {
        Ok(interop_key(&self.namespace, operation, &arguments.flat())?)
    }

    /// The value of a call, or `None`. What is stale is not returned: [`Self::look_up`] does.
    ///
    /// # Errors
    /// [`Error::Interop`] for a key that cannot be made. [`Error::Refused`] for an entry that is not authentic, unless the
    /// keyring was told not to fail closed. If the cache is strict also the failures of the store and other refusals.
    pub async fn get<T: FromDocument>(
        &self,
        operation: &str,
        arguments: &(impl Arguments + ?Sized),
    ) -> Result<Option<Arc<T>>, Error> {
        Ok(self.look_up(operation, arguments).await?.filter(|found| !found.stale).map(|found| found.value))
    }

    /// The value of a call with its age, as far as the store tells it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn look_up<T: FromDocument>(
        &self,
        operation: &str,
        arguments: &(impl Arguments + ?Sized),
    ) -> Result<Option<Found<T>>, Error> {
        let call = self.call(operation, arguments)?;
        if let Some(value) = self.in_l1(&call, Cache::l1_hit)? {
            return Ok(Some(Found { value, stale: false }));
        }
        self.in_tier(&call).await
    }

    /// Stores the value of a call. `ttl`: `None` for the cache's default life; zero for none, as the family has it.
    ///
    /// # Errors
    /// [`Error::Interop`] for a key that cannot be made and for a value that another language could not read,
    /// [`Error::TooLarge`]; if the cache is strict also the failures of the store. Otherwise a store that fails leaves the
    /// value in L1 alone, and is counted.
    pub async fn set<T: ToDocument + ?Sized>(
        &self,
        operation: &str,
        arguments: &(impl Arguments + ?Sized),
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<(), Error> {
        let call = self.call(operation, arguments)?;
        let entry = self.entry(&call, value, ttl)?;
        self.cache.write(&call.at, entry, false, None, None).await.map(|_| ())
    }

    /// As [`Self::set`]; for `stale_for` after its life the value may still be handed out as stale.
    ///
    /// # Errors
    /// As [`Self::set`], and always the failures of the store; [`Error::Unsupported`] if it knows no stale window.
    pub async fn set_stale<T: ToDocument + ?Sized>(
        &self,
        operation: &str,
        arguments: &(impl Arguments + ?Sized),
        value: &T,
        ttl: Duration,
        stale_for: Duration,
    ) -> Result<(), Error> {
        let call = self.call(operation, arguments)?;
        let entry = self.entry(&call, value, Some(ttl))?;
        let engine = &*self.cache.engine;
        let needs = "knows a stale window, and a life and a window that are not zero";
        let unsupported = Error::Unsupported { operation: "set_stale", needs };
        let stale_ms = Ttl::from_duration(stale_for).and_then(Ttl::as_ms).and_then(NonZeroU64::new);
        let (Some(tier), Some(stale_ms), Some(life)) = (&engine.tier, stale_ms, Ttl::from_duration(ttl)) else {
            return Err(unsupported);
        };
        if !tier.has_freshness() {
            return Err(unsupported);
        }
        engine.counters.sets.add();
        self.cache.overtake(&call.at);
        let deadline = self.cache.deadline();
        let unsettled = Unsettled { engine, at: &call.at };
        let _turn = self.cache.count_failure(self.cache.turn(&call.at, deadline, Operation::Set).await)?;
        let written = tier.set_stale(&call.at.wire, entry.stored, life, stale_ms, deadline).await;
        self.cache.count_failure(written)?;
        // The next read brings the entry with what the store says of its age.
        unsettled.forget();
        Ok(())
    }

    /// Removes the value of a call; `true` if there was one.
    ///
    /// # Errors
    /// [`Error::Interop`], and always the failures of the store: a deletion that did not happen must not look like one that
    /// did.
    pub async fn delete(&self, operation: &str, arguments: &(impl Arguments + ?Sized)) -> Result<bool, Error> {
        let call = self.call(operation, arguments)?;
        self.cache.remove(&call.at).await
    }

    /// The value of a call, loaded and stored with the life `ttl` if there is none.
    ///
    /// # Errors
    /// As [`Self::get`]; a value that cannot be stored is returned all the same.
    pub async fn get_or_load<T, F, Fut>(
        &self,
        operation: &str,
        arguments: &(impl Arguments + ?Sized),
        ttl: Option<Duration>,
        load: F,
    ) -> Result<Arc<T>, Error>
    where
        T: ToDocument + FromDocument,
        F: FnOnce() -> Fut,
        Fut: Future<Output = T>,
    {
        let infallible = async || Ok::<T, std::convert::Infallible>(load().await);
        match self.try_get_or_load(operation, arguments, ttl, infallible).await {
            Ok(value) => Ok(value),
            Err(LoadError::Cache(error)) => Err(error),
            Err(LoadError::Timeout(after)) => Err(Error::LoadTimeout(after)),
            Err(LoadError::Loader(never)) => match *never {},
        }
    }

    /// As [`Self::get_or_load`], for a loader that can fail: then a stale value is returned, if the store has one.
    ///
    /// # Errors
    /// [`LoadError::Loader`], and [`LoadError::Cache`] as [`Self::get`].
    pub async fn try_get_or_load<T, E, F, Fut>(
        &self,
        operation: &str,
        arguments: &(impl Arguments + ?Sized),
        ttl: Option<Duration>,
        load: F,
    ) -> Result<Arc<T>, LoadError<E>>
    where
        T: ToDocument + FromDocument,
        E: fmt::Debug + fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let call = self.call(operation, arguments)?;
        if let Some(value) = self.in_l1(&call, Cache::l1_hit)? {
            return Ok(value);
        }
        let seen = self.cache.fly(&call.at, &call.flight, self.load(&call, ttl, load)).await?;
        seen.answer.ok_or(LoadError::Cache(super::load::NO_VALUE))
    }

    async fn load<T, E, F, Fut>(&self, call: &Call, ttl: Option<Duration>, load: F) -> Result<Seen<T>, LoadError<E>>
    where
        T: ToDocument + FromDocument,
        E: fmt::Debug + fmt::Display,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let engine = &*self.cache.engine;
        let ticket = engine.writes.ticket(self.cache.slot, call.at.hash);
        // A flight may have landed between this caller's first look and its own flight.
        if let Some(value) = self.in_l1(call, Cache::l1_peek)? {
            return Ok(Seen::fresh(Some(value), Moment::EVERYBODY));
        }
        let until = engine.flights.moment();
        let stale = match self.in_tier(call).await? {
            Some(Found { value, stale: false }) => return Ok(Seen::fresh(Some(value), until)),
            found => found.map(|found| found.value),
        };
        engine.counters.loads.add();
        let span = tracing::debug_span!(target: "cachekit", "load", key = ?call.at.wire);
        let value = match (loading(span, load()).await, stale) {
            (Ok(value), _) => Arc::new(value),
            (Err(_), Some(stale)) => {
                engine.counters.load_failures.add();
                return Ok(Seen::fresh(Some(stale), until));
            }
            (Err(error), None) => {
                engine.counters.load_failures.add();
                return Err(LoadError::Loader(Arc::new(error)));
            }
        };
        // The caller has what it asked for; that it could not be kept is the cache's problem, and counted.
        let kept = match self.entry(call, &*value, ttl) {
            Ok(mut entry) => {
                entry.typed = entry.decodes.then(|| Arc::clone(&value) as Typed);
                self.cache.write(&call.at, entry, false, Some(ticket), None).await.map(|_| ())
            }
            Err(error) => Err(error),
        };
        match kept {
            Err(error @ Error::Backend(_)) if engine.settings.strict => Err(error.into()),
            // Loads of other languages' keys have no fence: a mark would be damage to their readers.
            _ => Ok(Seen::fresh(Some(value), Moment::EVERYBODY)),
        }
    }

    fn call(&self, operation: &str, arguments: &(impl Arguments + ?Sized)) -> Result<Call, Error> {
        self.cache.check_open()?;
        let key = self.key(operation, arguments)?;
        let wire = WireKey::verbatim(key.as_bytes());
        let hash = self.cache.engine.l1.hash(wire.as_bytes());
        // Of two tenants that ask for one key, neither gets what was loaded for the other.
        let flight = match &self.secure {
            Some(secure) => format!("{key}\0{}", secure.tenant),
            None => key.clone(),
        };
        Ok(Call { at: At { wire, hash }, key, flight: flight.into_bytes() })
    }

    /// The entry of a value: what both tiers get.
    fn entry<T: ToDocument + ?Sized>(&self, call: &Call, value: &T, ttl: Option<Duration>) -> Result<Entry, Error> {
        let engine = &*self.cache.engine;
        let document = value.to_document(engine.codec.max_value)?;
        let stored = match &self.secure {
            Some(secure) => {
                let document = Zeroizing::new(document);
                secure.keyring.seal(&Binding::interop(&secure.tenant, &call.key), &document)?
            }
            None => document,
        };
        let created_ms = engine.clock.unix_ms();
        let expires_ms = match ttl.or(engine.settings.default_ttl).and_then(Ttl::from_duration).and_then(Ttl::as_ms) {
            Some(ttl_ms) => created_ms.saturating_add(ttl_ms),
            None => 0,
        };
        let times = Times { created_ms, expires_ms, ..Times::default() };
        // Nothing decoded is kept of what is sealed.
        Ok(Entry { stored: stored.into(), times, typed: None, decodes: self.secure.is_none() })
    }

    /// What L1 has. An entry that is not acceptable there, because it was sealed for somebody else or is of another type, is
    /// forgotten and asked of the store, which decides.
    fn in_l1<T: FromDocument>(
        &self,
        call: &Call,
        look: fn(&Cache, &At) -> Option<Hit>,
    ) -> Result<Option<Arc<T>>, Error> {
        let Some(hit) = look(&self.cache, &call.at) else { return Ok(None) };
        if self.secure.is_none()
            && let Some(value) = hit.typed()
        {
            return Ok(Some(value));
        }
        let value = match self.decode(call, hit.stored()) {
            Ok(value) => Arc::new(value),
            Err(error) if error.class() == Class::Configuration => return Err(error.into()),
            Err(_) => {
                self.cache.engine.l1.remove(call.at.hash, call.at.wire.as_bytes());
                return Ok(None);
            }
        };
        hit.attach_typed(Arc::clone(&value));
        Ok(Some(value))
    }

    /// Looks in the second tier and fills L1. A miss, an outage and a refused entry are all `None`, each counted.
    async fn in_tier<T: FromDocument>(&self, call: &Call) -> Result<Option<Found<T>>, Error> {
        let engine = &*self.cache.engine;
        let Some(tier) = &engine.tier else { return Ok(None) };
        let ticket = engine.writes.ticket(self.cache.slot, call.at.hash);
        let deadline = self.cache.deadline();
        let mut refused: Option<(Bytes, Refusal)> = None;
        let mut tiers = MAX_FRONTS + 1;
        let (Dated { value: stored, stale, fresh_for_ms }, value) = loop {
            let answer = self.cache.count_failure(tier.get_dated(&call.at.wire, deadline).await);
            if let Some((stored, refusal)) = &refused
                && !matches!(&answer, Ok(Some(dated)) if dated.value == *stored)
            {
                engine.counters.refuse(*refusal);
            }
            let dated = match answer {
                Ok(dated) => dated,
                Err(error) if engine.settings.strict => return Err(error.into()),
                Err(_) => return Ok(None),
            };
            let Some(dated) = dated else {
                engine.counters.l2_misses.add();
                return Ok(None);
            };
            match self.decode::<T>(call, &dated.value) {
                Ok(value) => break (dated, Arc::new(value)),
                Err(error) => {
                    // What is wrong with a copy must not hide the value behind it (`copies.rs`).
                    let is_last = tiers == 0 || refused.is_some_and(|(stored, _)| stored == dated.value);
                    let Some(refusal) = refusal_of(&error).filter(|_| tier.has_fronts() && !is_last) else {
                        return self.refuse(error);
                    };
                    Box::pin(tier.refuse_copies(&call.at.wire, &dated.value, deadline)).await;
                    refused = Some((dated.value, refusal));
                    tiers -= 1;
                }
            }
        };
        if stale {
            engine.counters.l2_misses.add();
            return Ok(Some(Found { value, stale }));
        }
        engine.counters.l2_hits.add();
        if fresh_for_ms != Some(0)
            && let Some(hit) = self.fill(call, stored, fresh_for_ms, ticket)
        {
            hit.attach_typed(Arc::clone(&value));
        }
        Ok(Some(Found { value, stale }))
    }

    fn fill(&self, call: &Call, stored: Bytes, fresh_for_ms: Option<u64>, ticket: Ticket) -> Option<Hit> {
        let now_ms = self.cache.engine.clock.unix_ms();
        let expires_ms = fresh_for_ms.map_or(0, |fresh_for_ms| now_ms.saturating_add(fresh_for_ms));
        let times = Times { created_ms: now_ms, expires_ms, ..Times::default() };
        self.cache.fill_l1(&call.at, Entry { stored, times, typed: None, decodes: self.secure.is_none() }, ticket)
    }

    fn decode<T: FromDocument>(&self, call: &Call, stored: &[u8]) -> Result<T, InteropError> {
        let max = self.cache.engine.codec.max_value;
        if stored.len() as u64 > max {
            return Err(InteropError::TooLarge { max });
        }
        match &self.secure {
            Some(secure) => {
                let binding = Binding::interop(&secure.tenant, &call.key);
                T::from_document(&Zeroizing::new(secure.keyring.open(&binding, stored)?))
            }
            None => T::from_document(stored),
        }
    }

    /// A refused entry is a counted miss; a strict cache says so instead. An entry that is not authentic is said in any case,
    /// unless the keyring was told otherwise, and keys that cannot be used always.
    fn refuse<T>(&self, error: InteropError) -> Result<Option<T>, Error> {
        let Some(refusal) = refusal_of(&error) else { return Err(error.into()) };
        self.cache.engine.counters.refuse(refusal);
        let fail_closed = self.secure.as_ref().is_some_and(|secure| secure.keyring.is_fail_closed());
        let is_told = self.cache.engine.settings.strict || refusal == Refusal::Tampered && fail_closed;
        if is_told { Err(refusal.into()) } else { Ok(None) }
    }
}

/// What an entry was refused for; `None` for what is wrong with the caller's keys or values.
fn refusal_of(error: &InteropError) -> Option<Refusal> {
    match error {
        InteropError::Tampered | InteropError::Suspicious(_) => Some(Refusal::Tampered),
        InteropError::TooLarge { .. } => Some(Refusal::TooLarge),
        InteropError::Malformed(Malformed::FramePrefix) => Some(Refusal::Foreign),
        InteropError::Malformed(Malformed::Truncated) => Some(Refusal::Truncated),
        InteropError::Malformed(Malformed::Depth) => Some(Refusal::Decode(DecodeFault::Depth)),
        InteropError::Malformed(Malformed::Trailing) => Some(Refusal::Decode(DecodeFault::Trailing)),
        InteropError::Malformed(_) => Some(Refusal::Decode(DecodeFault::Shape)),
        _ => None,
    }
}

/// A call on its way through the engine.
struct Call {
    at: At,
    key: String,
    /// The name of its flight.
    flight: Vec<u8>,
}

/// The namespace and whether it is sealed; nothing of the keys.
impl fmt::Debug for Interop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interop")
            .field("namespace", &self.namespace)
            .field("secure", &self.secure.is_some())
            .finish_non_exhaustive()
    }
}
