//! The only place where a cache is put together.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cachekit_plugin::{Backend, HostServices};

use crate::activity::ActivitySlot;
use crate::background::{Background, DEFAULT_OWED};
use crate::behind::{Pending, WriteBehind};
use crate::cache::{Cache, Engine, Settings, Upkeep};
use crate::clock::{Clock, SystemClock};
use crate::codec::dictionary::Dictionaries;
use crate::codec::{Codec, Compression, Dictionary, DictionaryError, Serializer};
use crate::coherence::Coherence;
use crate::coherence::shortened::Shortened;
use crate::coherence::siblings::Siblings;
use crate::crypto::{Encryption, NativeSealer};
use crate::error::Error;
use crate::fresh::{Fresh, FreshnessConfig};
use crate::guard::adaptive::AdaptiveConfig;
use crate::guard::breaker::BreakerConfig;
use crate::guard::bulkhead::BulkheadConfig;
use crate::guard::fill_lock::{FillLocks, Held};
use crate::guard::flight::Flights;
use crate::guard::retry::RetryConfig;
use crate::guard::stack::GuardConfig;
use crate::invalidate::Writes;
use crate::key::{DEFAULT_NAMESPACE, Namespace};
use crate::l1::{EventListener, L1, L1Config};
use crate::near::Near;
use crate::observe::Counters;
use crate::tier::Tier;
use crate::tier::chain::{Chain, MAX_FRONTS, TierSpec};

/// L1 budget without a setting: the 100 MB of the cachekit family.
pub const DEFAULT_L1_BYTES: u64 = 100 << 20;
/// Deadline of an operation when neither setting nor store suggests one.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(1);
/// Bounds of what a store may suggest.
const HINT_MIN: Duration = Duration::from_millis(50);
const HINT_MAX: Duration = Duration::from_secs(30);
/// Longest life in L1 of what others can change in the store: how stale a read can be without coherence.
pub const DEFAULT_L1_TTL_CAP: Duration = Duration::from_secs(30);

/// How long the second tier keeps the epoch of a tag: the longest life that every store of ours takes as it is.
pub const DEFAULT_EPOCH_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// What it may be set to.
pub(crate) const EPOCH_TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(315_576_000);
/// Room for epochs where L1 is off otherwise: a write must not ask for the epoch of its namespace each time.
const EPOCH_BYTES: u64 = 1 << 20;

/// When entries carry the epoch of their namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamespaceEpochs {
    /// On stores that can neither clear nor list, where a namespace could not be cleared otherwise.
    #[default]
    Auto,
    /// On every store: clearing takes one write, and nothing is removed.
    On,
    /// Never.
    Off,
}

/// Puts a cache together.
///
/// ```
/// use std::time::Duration;
/// use cachekit_core::Cache;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let cache = Cache::builder().namespace("users").default_ttl(Duration::from_secs(600)).build()?;
/// let name = cache.get_or_load("42", async || "Ada".to_owned()).await?;
/// assert_eq!(*name, "Ada");
/// assert_eq!(cache.get::<String>("42").await?, Some(name));
/// # Ok::<(), cachekit_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct CacheBuilder {
    namespace: String,
    backend: Option<Arc<dyn Backend>>,
    fronts: Vec<TierSpec>,
    l1: Option<L1Config>,
    l1_ttl_cap: Duration,
    default_ttl: Option<Duration>,
    deadline: Option<Duration>,
    guards: GuardConfig,
    fill_locks: Option<FillLocks>,
    pub(crate) freshness: FreshnessConfig,
    pub(crate) random_seed: Option<u64>,
    coherence: bool,
    activity: ActivitySlot,
    strict: bool,
    namespace_epochs: NamespaceEpochs,
    epoch_ttl: Duration,
    prefixed: bool,
    codec: Codec,
    encryption: Option<Encryption>,
    clock: Arc<dyn Clock>,
    listener: Option<Arc<dyn EventListener>>,
    hot_keys: usize,
    snapshot: Option<PathBuf>,
    write_behind: Option<WriteBehind>,
}

impl Default for CacheBuilder {
    fn default() -> Self {
        Self {
            namespace: DEFAULT_NAMESPACE.into(),
            backend: None,
            fronts: Vec::new(),
            l1: Some(L1Config::with_max_bytes(DEFAULT_L1_BYTES)),
            l1_ttl_cap: DEFAULT_L1_TTL_CAP,
            default_ttl: None,
            deadline: None,
            guards: GuardConfig::default(),
            fill_locks: Some(FillLocks::default()),
            freshness: FreshnessConfig::default(),
            random_seed: None,
            coherence: true,
            activity: ActivitySlot::default(),
            strict: false,
            namespace_epochs: NamespaceEpochs::Auto,
            epoch_ttl: DEFAULT_EPOCH_TTL,
            prefixed: false,
            codec: Codec::default(),
            encryption: None,
            clock: Arc::new(SystemClock),
            listener: None,
            hot_keys: 0,
            snapshot: None,
            write_behind: None,
        }
    }
}

impl Cache {
    /// Starts with an L1 of 100 MiB and no second tier.
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }
}

impl CacheBuilder {
    /// The namespace of the keys: printable ASCII without space and colon.
    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = name.into();
        self
    }

    /// The second tier.
    #[must_use]
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// A tier of copies in front of [`backend`](Self::backend): a directory of this machine before a Redis, say. Of several the
    /// first is asked first. `docs/tiers.md` says what holds when one is down.
    #[must_use]
    pub fn tier(mut self, front: TierSpec) -> Self {
        self.fronts.push(front);
        self
    }

    /// The bounds of L1.
    #[must_use]
    pub fn l1(mut self, config: L1Config) -> Self {
        self.l1 = Some(config);
        self
    }

    /// Every read goes to the second tier.
    #[must_use]
    pub fn without_l1(mut self) -> Self {
        self.l1 = None;
        self
    }

    /// Longest life in L1 of what others can change in the second tier (30 s). The price of an L1 hit that asks nobody:
    /// another process's write is seen at the latest after this time. Where the second tier tells of such writes, and
    /// [`coherence`](Self::coherence) is on, it is seen when it is told, and entries live to their own end.
    #[must_use]
    pub fn l1_ttl_cap(mut self, cap: Duration) -> Self {
        self.l1_ttl_cap = cap;
        self
    }

    /// Whether L1 follows the changes that a second tier tells of (`true`). One that cannot tell of any makes no difference, and
    /// none is watched before it is used for the first time. Costs a connection to the store, and an event for each change by
    /// others.
    #[must_use]
    pub fn coherence(mut self, follow: bool) -> Self {
        self.coherence = follow;
        self
    }

    /// `services` for a backend that is to stand below the cache of this builder, to open it with: they also tell what that
    /// cache did ([`HostServices::activity`]). Of several caches that are built from clones of this builder, the first.
    pub fn host_services(&self, services: HostServices) -> HostServices {
        self.activity.services(services)
    }

    /// Life of values that are set without one. Without this they do not expire.
    #[must_use]
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// When an operation gives up on the second tier: lock waits and exchanges together, loaders not included. Without
    /// this what the store suggests, else 1 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// When calls to a second tier that keeps failing are refused at once, and for how long.
    #[must_use]
    pub fn breaker(mut self, config: BreakerConfig) -> Self {
        self.guards.breaker = Some(config);
        self
    }

    /// Every call goes to the second tier, however often it failed.
    #[must_use]
    pub fn without_breaker(mut self) -> Self {
        self.guards.breaker = None;
        self
    }

    /// How many calls the second tier serves at a time, and how many wait for that, how long.
    #[must_use]
    pub fn bulkhead(mut self, config: BulkheadConfig) -> Self {
        self.guards.bulkhead = Some(config);
        self
    }

    /// Every call goes to the second tier at once, however many are there.
    #[must_use]
    pub fn without_bulkhead(mut self) -> Self {
        self.guards.bulkhead = None;
        self
    }

    /// How a call to the second tier that failed is tried again.
    #[must_use]
    pub fn retry(mut self, config: RetryConfig) -> Self {
        self.guards.retry = Some(config);
        self
    }

    /// Every call to the second tier is tried once.
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        self.guards.retry = None;
        self
    }

    /// When a read of the second tier takes so much longer than others that it is given up, to be tried again.
    #[must_use]
    pub fn adaptive_timeout(mut self, config: AdaptiveConfig) -> Self {
        self.guards.adaptive = Some(config);
        self
    }

    /// Every read of the second tier may take until its deadline.
    #[must_use]
    pub fn without_adaptive_timeout(mut self) -> Self {
        self.guards.adaptive = None;
        self
    }

    /// How processes that miss the same key agree on who loads it, where the second tier has locks.
    #[must_use]
    pub fn fill_locks(mut self, locks: FillLocks) -> Self {
        self.fill_locks = Some(locks);
        self
    }

    /// Each process loads for itself, and stores what it loaded whatever others wrote meanwhile.
    #[must_use]
    pub fn without_fill_locks(mut self) -> Self {
        self.fill_locks = None;
        self
    }

    /// Outages and refused entries become errors instead of misses.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Whether entries carry the epoch of their namespace, so that [`Cache::clear`] is one write however many there are. All
    /// who share a store must decide alike: an entry that carries none is out of force for those who look at it.
    #[must_use]
    pub fn namespace_epochs(mut self, when: NamespaceEpochs) -> Self {
        self.namespace_epochs = when;
        self
    }

    /// How long the second tier keeps the epoch of a tag from when it was made (30 days). What carries the tag is a miss
    /// afterwards, whatever its own life. From a second to ten years; what is outside is the nearer of the two. The bound on what tags that nobody uses any more leave behind.
    #[must_use]
    pub fn epoch_ttl(mut self, ttl: Duration) -> Self {
        self.epoch_ttl = ttl.clamp(*EPOCH_TTL.start(), *EPOCH_TTL.end());
        self
    }

    /// That the second tier puts a tenant or a prefix of its own before every key, which the cache cannot see. Its entries
    /// are then found by no other language, so [`Cache::interop`] refuses.
    #[must_use]
    pub fn prefixed_keys(mut self, prefixed: bool) -> Self {
        self.prefixed = prefixed;
        self
    }

    /// How typed values become bytes.
    #[must_use]
    pub fn serializer(mut self, serializer: Serializer) -> Self {
        self.codec.serializer = serializer;
        self
    }

    /// How payloads are made smaller.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.codec.compression = compression;
        self
    }

    /// A dictionary for values of 64 bytes to 16 KiB, made by `cachekit dict train`. The cache puts it into the second tier,
    /// where readers find it, before it writes the first value with it. Entries that were written with another one are read
    /// all the same, as long as the second tier has it.
    #[must_use]
    pub fn dictionary(mut self, dictionary: impl Into<Arc<Dictionary>>) -> Self {
        self.codec.dictionaries = Arc::new(Dictionaries::for_writing(dictionary.into()));
        self
    }

    /// Largest value, bytes before compression (100 MiB).
    #[must_use]
    pub fn max_value(mut self, bytes: u64) -> Self {
        self.codec.max_value = bytes;
        self
    }

    /// Who hears of every entry that leaves L1, and why. Called in the thread that made it leave, with no lock held; a panic is
    /// caught and counted.
    ///
    /// ```
    /// use cachekit_core::{Cache, l1::{Cause, Departure}};
    ///
    /// let cache = Cache::builder().on_event(|left: &Departure<'_>| {
    ///     if left.cause() == Cause::Evicted {
    ///         eprintln!("{left:?} made room"); // Shows a digest, not the key.
    ///     }
    /// }).build()?;
    /// # Ok::<(), cachekit_core::Error>(())
    /// ```
    #[must_use]
    pub fn on_event(mut self, listener: impl EventListener) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Counts which keys L1 is asked for most, so that [`Cache::hot_keys`] can name about so many (at most 10 000). 0, the
    /// default, counts nothing. Costs some 128 KiB, and something of each lookup (`docs/l1.md`).
    #[must_use]
    pub fn hot_keys(mut self, keys: usize) -> Self {
        self.hot_keys = keys;
        self
    }

    /// Begins with what L1 held when the cache that was here before was closed: the file is read when the cache is built and
    /// written by [`Cache::close`]. A file that is missing or unusable is a cold start, and all but the first is counted.
    #[must_use]
    pub fn warm_start(mut self, path: impl Into<PathBuf>) -> Self {
        self.snapshot = Some(path.into());
        self
    }

    /// Encrypts everything that is stored, and accepts nothing else.
    #[must_use]
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = Some(encryption);
        self
    }

    /// Sets return when L1 has the value, and the second tier gets it soon after, the newest of each key: for a store that is
    /// slow, and values that can be lost. A process that dies loses what waits; [`Cache::flush`] and [`Cache::close`] write it.
    /// What fails for good is counted (`writes_lost`), and no error even in a strict cache. `docs/write-behind.md` says what
    /// holds. Loads, batches and touches go through.
    #[must_use]
    pub fn write_behind(mut self, config: WriteBehind) -> Self {
        self.write_behind = Some(config);
        self
    }

    /// Sets return when the second tier has the value: the default.
    #[must_use]
    pub fn without_write_behind(mut self) -> Self {
        self.write_behind = None;
        self
    }

    /// The source of time, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Puts it together.
    ///
    /// # Errors
    /// [`Error::Key`] for an unusable namespace, [`Error::ZeroTtl`], [`Error::ZeroDeadline`], [`Error::Guard`],
    /// [`Error::FillLocks`], [`Error::Freshness`], [`Error::WriteBehind`], [`Error::Tiers`], [`Error::Keyring`], [`Error::Dictionary`] for a
    /// dictionary beside a compression other than zstd.
    pub fn build(mut self) -> Result<Cache, Error> {
        let names = match &self.encryption {
            Some(encryption) => {
                let Encryption { keyring, tenant, .. } = encryption;
                self.codec.sealer = Some(Arc::new(NativeSealer::new(Arc::clone(keyring), tenant)?));
                encryption.names()?
            }
            None => None,
        };
        let namespace = Namespace::new(&self.namespace)?.hashing(names.map(Arc::new));
        if self.default_ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Error::ZeroTtl);
        }
        if self.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err(Error::ZeroDeadline);
        }
        let is_zstd = matches!(self.codec.compression, Compression::Zstd { .. });
        if self.codec.dictionaries.writing().is_some() && !is_zstd {
            return Err(DictionaryError::NotZstd.into());
        }
        // Without a store all readers are in this process. Each cache has its own: a clone of the builder may get another
        // store, which does not have what this one has.
        let dictionaries = Dictionaries::again(&self.codec.dictionaries, self.backend.is_none());
        let codec = Codec { dictionaries: Arc::new(dictionaries), ..self.codec };
        self.freshness.check()?;
        self.write_behind.as_ref().map_or(Ok(()), WriteBehind::check).map_err(Error::WriteBehind)?;
        if let Some(locks) = &self.fill_locks {
            locks.check().map_err(Error::FillLocks)?;
        }
        self.guards.check().map_err(|(guard, reason)| Error::Guard { guard, reason })?;
        check_fronts(&self.fronts, self.backend.is_some()).map_err(Error::Tiers)?;
        // Each tier has guards of its own: one that is down must not close the way to the others.
        let guarded = |backend: Arc<dyn Backend>| Tier::new(backend, self.guards, Arc::clone(&self.clock));
        let fronts: Vec<_> = self.fronts.into_iter().map(|spec| (spec.clone(), guarded(spec.backend))).collect();
        let tier = self.backend.map(guarded).map(|last| match fronts.is_empty() {
            true => last,
            false => Tier::chained(Chain::new(fronts, last, Arc::clone(&self.clock)), Arc::clone(&self.clock)),
        });
        // A hint comes from a backend, which may be a plugin: it suggests, within reason.
        let suggested = tier.as_ref().and_then(Tier::deadline_hint).map(|hint| hint.clamp(HINT_MIN, HINT_MAX));
        let settings = Settings {
            use_l1: self.l1.is_some(),
            default_ttl: self.default_ttl,
            deadline: self.deadline.or(suggested).unwrap_or(DEFAULT_DEADLINE),
            l1_ttl_cap: self.l1_ttl_cap,
            strict: self.strict,
            namespace_epochs: match self.namespace_epochs {
                NamespaceEpochs::Auto => tier.as_ref().is_some_and(|tier| !tier.empties_namespaces()),
                NamespaceEpochs::On => tier.is_some(),
                NamespaceEpochs::Off => false,
            },
            epoch_ttl: self.epoch_ttl,
            is_vouchable: !tier.as_ref().is_some_and(Tier::has_fronts),
            fail_closed: self.encryption.as_ref().is_some_and(|encryption| encryption.keyring.is_fail_closed()),
            reseal: self.encryption.as_ref().is_some_and(|encryption| encryption.reseal),
            sealed_l1: self.encryption.as_ref().is_some_and(|encryption| !encryption.plaintext_in_l1),
            prefixed: self.prefixed,
            snapshot: self.snapshot,
            fill_locks: self.fill_locks,
        };
        let l1 = self.l1.unwrap_or(L1Config::with_max_bytes(EPOCH_BYTES));
        let watched = self.coherence && settings.use_l1 && tier.as_ref().is_some_and(Tier::has_watch);
        let near = Arc::new(Near {
            l1: match self.listener {
                Some(listener) => {
                    L1::new(l1, Arc::clone(&self.clock)).with_hot_keys(self.hot_keys).with_listener(listener)
                }
                None => L1::new(l1, Arc::clone(&self.clock)).with_hot_keys(self.hot_keys),
            },
            writes: Writes::new(),
            flights: Flights::new(),
            counters: Counters::new(),
            clock: self.clock,
            settings,
            closed: AtomicBool::new(false),
            limits: tier.as_ref().map(|tier| *tier.limits()),
            shortened: Shortened::default(),
            background: Background::new(self.freshness.max_refreshes, DEFAULT_OWED),
            pending: Arc::new(Pending::new(self.write_behind)),
            fresh: Fresh::new(self.freshness, self.random_seed),
            underway: Arc::default(),
            #[cfg(test)]
            careless: AtomicBool::new(false),
        });
        self.activity.fill(&near);
        let siblings = tier.as_ref().filter(|tier| tier.has_watch()).map(|tier| Siblings::of(tier.backend()));
        if let Some(siblings) = siblings.as_ref().filter(|_| watched) {
            siblings.listen(&near);
        }
        let engine = Engine {
            near,
            coherence: Coherence::new(watched),
            siblings,
            tier,
            codec,
            encryption: self.encryption,
            held: Arc::new(Held::default()),
            dictionaries: Upkeep::default(),
            end: Default::default(),
        };
        let cache = Cache::assemble(engine, namespace);
        if let Some(path) = &cache.settings().snapshot {
            cache.load_snapshot(path);
        }
        Ok(cache)
    }
}

fn check_fronts(fronts: &[TierSpec], has_last: bool) -> Result<(), &'static str> {
    if !fronts.is_empty() && !has_last {
        return Err("there is a tier in front of nothing; `backend` names the one behind it");
    }
    if fronts.len() > MAX_FRONTS {
        return Err("more than four tiers stand before the last one");
    }
    if fronts.iter().any(|front| front.ttl.is_zero()) {
        return Err("copies with a life of zero are none");
    }
    Ok(())
}
