//! Compression dictionaries and the second tier: readers find there the one that an entry needs, and writers put it there
//! before the first entry that needs it.
//!
//! ```text
//! ck::dictionary:<id>    an entry as any other, sealed where the cache seals: bound to its key, checked, without an end
//! ```
//!
//! What it protects: an entry is never written with a dictionary that readers cannot find, and never expanded with another
//! one: the id is a digest of the content and compared with it. Where the cache seals, the dictionary is sealed too, for two
//! reasons: it is made of people's values, and 32 bits of a digest stop accidents, not somebody who wants other values to
//! come out of authentic entries. A store may lose a dictionary as it may lose everything; entries are misses then, and
//! whoever writes with it puts it back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cachekit_plugin::{BackendError, Deadline, Enumerates, Kind, Operation, Ttl};
use tokio::sync::Mutex;

use super::Cache;
use crate::codec::{
    Codec, Compression, Dictionary, DictionaryId, Envelope, Meta, NewEntry, Refusal, Times, needed_dictionary,
};
use crate::error::Error;
use crate::guard::deadline::within;
use crate::key::WireKey;
use crate::process::{Anew, PerProcess};
use crate::tier::Tier;

/// How long a store that did not have a dictionary is not asked again, milliseconds. Short beside an outage, long beside a
/// read: until then every entry that needs it costs one read and not two.
const MISSING_FOR_MS: u64 = 5_000;
/// How often a writer looks whether the store still has its dictionary, milliseconds.
const LOOK_EVERY_MS: u64 = 60_000;
/// Items per page of a listing, and pages after which a listing is called endless: a milliard entries.
const PAGE: usize = 256;
const MAX_PAGES: u32 = 1 << 22;
/// How soon after a failure.
const RETRY_AFTER_MS: u64 = 1_000;

/// What an engine remembers of its care for dictionaries.
pub(crate) struct Upkeep {
    /// One looks for a dictionary, the others wait for what it finds: a cold start must not read one a thousand times.
    looking: PerProcess<Looking>,
    /// When the store is looked at next, on the coarse clock; 0: at once.
    look_at_ms: AtomicU64,
}

/// Held while somebody looks: a child made by `fork()` begins with its own.
#[derive(Default)]
struct Looking(Mutex<()>);

impl Anew for Looking {
    fn anew(&self) -> Self {
        Self::default()
    }
}

impl Default for Upkeep {
    fn default() -> Self {
        Self { looking: PerProcess::new(Looking::default()), look_at_ms: AtomicU64::new(0) }
    }
}

impl Cache {
    /// Puts the dictionary for writing into the store, if that does not have it. A failure costs nothing but the smaller
    /// size: until it is there, entries are written without.
    pub(super) async fn offer_dictionary(&self, tier: &Tier, deadline: Deadline) {
        let engine = &*self.engine;
        let Some(dictionary) = engine.codec.dictionaries.writing() else { return };
        let (now_ms, next) = (engine.clock.coarse_ms(), &engine.dictionaries.look_at_ms);
        let due_ms = next.load(Ordering::Relaxed);
        if now_ms < due_ms {
            return;
        }
        // Boxed, as the other rare way below: what every write holds room for is a pointer.
        Box::pin(self.look_after(tier, dictionary, deadline, due_ms)).await;
    }

    async fn look_after(&self, tier: &Tier, dictionary: &Dictionary, deadline: Deadline, due_ms: u64) {
        let engine = &*self.engine;
        let (now_ms, next) = (engine.clock.coarse_ms(), &engine.dictionaries.look_at_ms);
        // One caller looks; the others go on as things are.
        let soon = now_ms.saturating_add(RETRY_AFTER_MS);
        if next.compare_exchange(due_ms, soon, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let there = self.put_dictionary(tier, dictionary, deadline).await;
        engine.codec.dictionaries.set_ready(there.is_ok());
        match there {
            Ok(_) => next.store(now_ms.saturating_add(LOOK_EVERY_MS), Ordering::Relaxed),
            Err(error) => {
                let id = dictionary.id();
                tracing::warn!(target: "cachekit", %id, "values are stored without the dictionary: {error}");
            }
        }
    }

    /// Fetches the dictionary that `stored` says it needs, unless it is at hand. What does not come is a refusal when the
    /// entry is opened.
    pub(super) async fn need_dictionary(&self, tier: &Tier, stored: Option<&Bytes>, deadline: Deadline) {
        let Some(id) = stored.and_then(|stored| needed_dictionary(stored)) else { return };
        if self.engine.codec.dictionaries.find(id).is_none() {
            Box::pin(self.find_dictionary(tier, id, deadline)).await;
        }
    }

    async fn find_dictionary(&self, tier: &Tier, id: DictionaryId, deadline: Deadline) {
        let engine = &*self.engine;
        let dictionaries = &engine.codec.dictionaries;
        let is_settled = || dictionaries.find(id).is_some() || dictionaries.is_missing(id, engine.clock.coarse_ms());
        if is_settled() {
            return;
        }
        let looking =
            within(deadline, Operation::Get, async { Ok(engine.dictionaries.looking.get().0.lock().await) }).await;
        if looking.is_err() || is_settled() {
            return;
        }
        match self.read_dictionary(tier, id, deadline).await {
            Ok(Some(dictionary)) => {
                engine.counters.dictionaries_read.add();
                dictionaries.add(Arc::new(dictionary));
            }
            // Of an outage nothing is remembered: the guards before the store are there for that.
            Err(Error::Backend(_)) => {}
            Ok(None) | Err(_) => {
                engine.counters.dictionaries_missing.add();
                dictionaries.note_missing(id, engine.clock.coarse_ms().saturating_add(MISSING_FOR_MS));
                tracing::warn!(target: "cachekit", %id, "entries need a dictionary that the second tier does not have");
            }
        }
    }

    /// Does now what the first write does otherwise: puts the dictionary for writing into the second tier, so that even the
    /// first value is written with it. A cache without a dictionary has nothing to prepare.
    ///
    /// # Errors
    /// As [`Cache::install_dictionary`]; the cache works all the same, and writes larger entries until it succeeds.
    pub async fn prepare(&self) -> Result<(), Error> {
        let dictionaries = &self.engine.codec.dictionaries;
        if let (Some(dictionary), Some(tier)) = (dictionaries.writing(), &self.engine.tier) {
            self.put_dictionary(tier, dictionary, self.deadline()).await?;
            dictionaries.set_ready(true);
        }
        Ok(())
    }

    /// Puts a dictionary into the second tier, where every reader of its entries finds it; `false` if it was there already.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a second tier; [`Error::Backend`], [`Error::TooLarge`].
    pub async fn install_dictionary(&self, dictionary: &Dictionary) -> Result<bool, Error> {
        self.put_dictionary(self.tier_for_dictionaries()?, dictionary, self.deadline()).await
    }

    /// The dictionaries of the second tier, as far as it can list what it has. A store that lists ids instead of keys is
    /// read through, entry by entry.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the store cannot list; [`Error::Backend`].
    pub async fn stored_dictionaries(&self) -> Result<Vec<DictionaryId>, Error> {
        let tier = self.tier_for_dictionaries()?;
        let unsupported = Error::Unsupported { operation: "dict list", needs: "can list its entries" };
        let enumerates = tier.enumerates();
        if enumerates == Enumerates::No {
            return Err(unsupported);
        }
        let prefix = WireKey::reserved(DICTIONARY_NAME);
        let id_of = |wire: &[u8]| -> Option<DictionaryId> {
            std::str::from_utf8(wire.strip_prefix(prefix.as_bytes())?).ok()?.parse().ok()
        };
        let (mut ids, mut cursor) = (BTreeSet::new(), None::<Bytes>);
        for _ in 0..MAX_PAGES {
            let page = tier.scan(prefix.as_bytes(), cursor.as_deref(), PAGE, self.deadline()).await;
            let page = self.count_failure(page)?;
            for item in page.items {
                let id = match enumerates {
                    Enumerates::Keys => id_of(&item),
                    _ => {
                        let stored = self.count_failure(tier.read(&item, self.deadline()).await)?;
                        stored.and_then(|stored| id_of(Envelope::parse(&stored).ok()?.wire_key()))
                    }
                };
                ids.extend(id);
            }
            if page.next.is_none() {
                return Ok(ids.into_iter().collect());
            }
            cursor = page.next;
        }
        let endless = "the store's listing does not end";
        Err(BackendError::new(Kind::Corrupt, Operation::Scan, endless).into())
    }

    /// A dictionary of the second tier; `None` if it does not have it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a second tier; [`Error::Backend`]; [`Error::Refused`] and [`Error::Dictionary`] if what is
    /// there is not that dictionary.
    pub async fn stored_dictionary(&self, id: DictionaryId) -> Result<Option<Dictionary>, Error> {
        self.read_dictionary(self.tier_for_dictionaries()?, id, self.deadline()).await
    }

    fn tier_for_dictionaries(&self) -> Result<&Tier, Error> {
        self.check_open()?;
        let lacking = Error::Unsupported { operation: "dict", needs: "is there at all" };
        self.engine.tier.as_ref().ok_or(lacking)
    }

    async fn read_dictionary(
        &self,
        tier: &Tier,
        id: DictionaryId,
        deadline: Deadline,
    ) -> Result<Option<Dictionary>, Error> {
        let wire = wire_key(id);
        let Some(stored) = self.count_failure(tier.get(&wire, deadline).await)? else { return Ok(None) };
        let codec = self.codec_for_dictionaries();
        let content = codec.open(&stored, wire.as_bytes(), self.engine.clock.unix_ms()).and_then(|opened| {
            // A dictionary that needs another one would send readers in circles. None of ours does.
            if opened.envelope().dictionary().is_some() { Err(Refusal::Dictionary) } else { opened.bytes() }
        })?;
        Ok(Some(Dictionary::named(id, content)?))
    }

    async fn put_dictionary(&self, tier: &Tier, dictionary: &Dictionary, deadline: Deadline) -> Result<bool, Error> {
        match self.read_dictionary(tier, dictionary.id(), deadline).await {
            Ok(Some(_)) => return Ok(false),
            // What stands there is not it, and is replaced.
            Ok(None) | Err(Error::Refused(_) | Error::Dictionary(_)) => {}
            Err(error) => return Err(error),
        }
        let wire = wire_key(dictionary.id());
        let times = Times { created_ms: self.engine.clock.unix_ms(), ..Times::default() };
        let entry = NewEntry { wire_key: wire.as_bytes(), meta: Meta { times, ..Meta::default() }, tags: &[] };
        let stored = self.codec_for_dictionaries().encode_bytes(&entry, dictionary.content())?;
        let (size, max) = (stored.len() as u64, tier.limits().max_value);
        if size > max {
            return Err(Error::TooLarge { size, max });
        }
        self.count_failure(tier.set(&wire, stored, Ttl::Never, deadline).await)?;
        self.engine.counters.dictionaries_written.add();
        Ok(true)
    }

    /// Seals as the cache does, and compresses nothing: a dictionary has been squeezed by its trainer.
    fn codec_for_dictionaries(&self) -> Codec {
        Codec { compression: Compression::None, dictionaries: Arc::default(), ..self.engine.codec.clone() }
    }
}

/// What wire keys of dictionaries begin with.
pub(crate) const DICTIONARY_NAME: &str = "dictionary:";

fn wire_key(id: DictionaryId) -> WireKey {
    WireKey::reserved(&format!("{DICTIONARY_NAME}{id}"))
}
