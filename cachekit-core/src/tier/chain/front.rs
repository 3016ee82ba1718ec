//! One tier of copies, with its guards, its cap and what it is not believed for.
//!
//! Nothing of a front ever fails an operation of the chain, but for a removal: a copy that stays is served by other processes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{BackendError, Deadline, Enumerates, Health, Limits, Operation, Ttl};
use serde_json::{Value as Json, json};

use super::marks::{Began, Belief, Distrust};
use super::{TierSpec, TierStats, WritePolicy, failed_like, is_outage, is_reserved};
use crate::clock::Clock;
use crate::codec::{Envelope, Freshness, MAGIC};
use crate::key::WireKey;
use crate::observe::Counter;
use crate::tier::Tier;

/// How long a promotion or a write behind may take: nobody waits for it, and it holds the turn of its key.
const BEHIND: Duration = Duration::from_secs(1);
/// Items per page, and pages after which a listing is called endless.
const PAGE: usize = 256;
const MAX_PAGES: u32 = 1 << 20;

pub(super) struct Front {
    pub(super) name: String,
    pub(super) tier: Tier,
    ttl_ms: u64,
    write: WritePolicy,
    promote: bool,
    /// Of the last tier, which shortens keys before they come here.
    last: Limits,
    pub(super) distrust: Arc<Distrust>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    hits: Counter,
    misses: Counter,
    passed_by: Counter,
    refused: Counter,
    errors: Counter,
    promotions: Counter,
    promotions_skipped: Counter,
    writes: Counter,
}

impl Front {
    pub(super) fn new(spec: &TierSpec, tier: Tier, last: Limits, serial: &Arc<AtomicU64>) -> Self {
        let ttl_ms = u64::try_from(spec.ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        Self {
            name: spec.name.clone(),
            tier,
            ttl_ms,
            last,
            distrust: Arc::new(Distrust::new(ttl_ms, Arc::clone(serial))),
            write: spec.write,
            promote: spec.promote,
            counters: Counters::default(),
        }
    }

    pub(super) const fn promotes(&self) -> bool {
        self.promote
    }

    pub(super) fn is_behind(&self) -> bool {
        self.write == WritePolicy::Behind
    }

    pub(super) fn skipped(&self, count: u64) {
        self.counters.promotions_skipped.add_n(count);
    }

    pub(super) fn stats(&self) -> TierStats {
        let counters = &self.counters;
        TierStats {
            name: self.name.clone(),
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            passed_by: counters.passed_by.get(),
            refused: counters.refused.get(),
            errors: counters.errors.get(),
            shed: self.tier.guard_counts().shed_by_breaker,
            promotions: counters.promotions.get(),
            promotions_skipped: counters.promotions_skipped.get(),
            writes: counters.writes.get(),
            distrusted: self.distrust.told(),
        }
    }

    /// The copy of a key, if it is one and is believed.
    pub(super) async fn get(&self, key: &[u8], clock: &dyn Clock, deadline: Deadline) -> Option<Bytes> {
        if !self.may_ask(key, clock) {
            return None;
        }
        let answer = self.tier.get(&WireKey::again(key), deadline).await;
        self.judge(key, answer, clock)
    }

    /// The copies of some keys, in their order.
    pub(super) async fn get_many(&self, keys: &[&[u8]], clock: &dyn Clock, deadline: Deadline) -> Vec<Option<Bytes>> {
        let mut found: Vec<Option<Bytes>> = vec![None; keys.len()];
        let asked: Vec<usize> = (0..keys.len()).filter(|&at| self.may_ask(keys[at], clock)).collect();
        if asked.is_empty() {
            return found;
        }
        let wires: Vec<WireKey> = asked.iter().map(|&at| WireKey::again(keys[at])).collect();
        match self.tier.get_many(&wires.iter().collect::<Vec<_>>(), deadline).await {
            Ok(answers) => {
                for (&at, answer) in asked.iter().zip(answers) {
                    found[at] = self.judge(keys[at], answer, clock);
                }
            }
            Err(error) => self.failed(&error),
        }
        found
    }

    /// Marks the copy of a key if it is these bytes.
    pub(super) async fn refuse(&self, key: &[u8], stored: &Bytes, clock: &dyn Clock, deadline: Deadline) {
        // What is not believed was passed by already.
        if is_reserved(key) || self.distrust.belief(key, clock) != Belief::Good {
            return;
        }
        match self.tier.get(&WireKey::again(key), deadline).await {
            Ok(copy) if copy.as_ref() == Some(stored) => {
                self.counters.refused.add();
                self.distrust.mark(key, clock);
            }
            Ok(_) => {}
            Err(error) => self.failed(&error),
        }
    }

    fn may_ask(&self, key: &[u8], clock: &dyn Clock) -> bool {
        if is_reserved(key) {
            return false;
        }
        let believed = self.distrust.belief(key, clock) == Belief::Good;
        if !believed {
            self.counters.passed_by.add();
        }
        believed
    }

    /// A copy is passed on if it looks like an entry of this key that is fresh: behind one that is stale there may be what
    /// somebody refreshed. What is wrong with it otherwise is for the
    /// engine to say; here a copy that it would refuse must not hide the entry behind it.
    fn judge(&self, key: &[u8], answer: Result<Option<Bytes>, BackendError>, clock: &dyn Clock) -> Option<Bytes> {
        let stored = match answer {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                self.counters.misses.add();
                return None;
            }
            Err(error) => {
                self.failed(&error);
                return None;
            }
        };
        let is_usable = !stored.starts_with(&MAGIC)
            || Envelope::parse(&stored).is_ok_and(|envelope| {
                let freshness = envelope.meta().times.freshness(clock.unix_ms());
                let is_mine = envelope.wire_key() == key || is_shortened(key);
                is_mine && freshness == Freshness::Fresh
            });
        if !is_usable {
            self.counters.refused.add();
            return None;
        }
        self.counters.hits.add();
        Some(stored)
    }

    /// What a set does here, once the last tier has answered: `failed` if it did not take the value.
    pub(super) async fn write(
        &self,
        (key, value, ttl): (&[u8], &Bytes, Ttl),
        failed: Option<&BackendError>,
        began: Began,
        clock: &dyn Clock,
        deadline: Deadline,
    ) {
        if is_reserved(key) {
            return;
        }
        // While the last tier is away this one goes on alone, for as long as its cap. What the last tier did not like is not
        // kept here either.
        let keeps = self.write == WritePolicy::Through && failed.is_none_or(is_outage);
        if keeps && self.put((key, value, ttl), began, clock, deadline).await {
            self.counters.writes.add();
        } else {
            // Its outcome is known to the marks.
            let _ = self.remove(key, began, clock, deadline).await;
        }
    }

    /// Puts a copy in, in the background. The caller has the turn of the key.
    pub(super) async fn promoted(&self, copy: (&[u8], &Bytes, Ttl), began: Began, clock: &dyn Clock) {
        // What is in doubt may yet be overwritten by a write that nobody waits for.
        if self.distrust.belief(copy.0, clock) == Belief::Bad {
            return self.skipped(1);
        }
        if self.put(copy, began, clock, Deadline::after(BEHIND)).await {
            self.counters.promotions.add();
        } else {
            self.skipped(1);
            let _ = self.remove(copy.0, began, clock, Deadline::after(BEHIND)).await;
        }
    }

    async fn put(
        &self,
        (key, value, ttl): (&[u8], &Bytes, Ttl),
        began: Began,
        clock: &dyn Clock,
        deadline: Deadline,
    ) -> bool {
        if value.len() as u64 > self.tier.limits().max_value {
            return false;
        }
        let unsettled = Unsettled { front: self, key, clock };
        match self.tier.set(&WireKey::again(key), value.clone(), self.capped(ttl), deadline).await {
            Ok(()) => {
                std::mem::forget(unsettled);
                self.distrust.settled(key, began);
                true
            }
            Err(error) => {
                // It may have landed, or may land yet, unless it never left.
                match is_outage(&error) {
                    true => drop(unsettled),
                    false => std::mem::forget(unsettled),
                }
                self.failed(&error);
                false
            }
        }
    }

    /// Removes the copy; if that fails it is not believed any more.
    pub(super) async fn remove(
        &self,
        key: &[u8],
        began: Began,
        clock: &dyn Clock,
        deadline: Deadline,
    ) -> Result<bool, BackendError> {
        if is_reserved(key) {
            return Ok(false);
        }
        let removed = self.tier.delete(&WireKey::again(key), deadline).await;
        self.settle_removal(key, &removed, began, clock);
        removed
    }

    fn settle_removal(&self, key: &[u8], removed: &Result<bool, BackendError>, began: Began, clock: &dyn Clock) {
        match removed {
            Ok(_) => self.distrust.settled(key, began),
            Err(error) => {
                self.failed(error);
                self.distrust.mark(key, clock);
            }
        }
    }

    /// The copies of several keys, in their order.
    pub(super) async fn remove_many(
        &self,
        keys: &[&[u8]],
        began: Began,
        clock: &dyn Clock,
        deadline: Deadline,
    ) -> Vec<Result<bool, BackendError>> {
        let mine: Vec<usize> = (0..keys.len()).filter(|&at| !is_reserved(keys[at])).collect();
        let wires: Vec<WireKey> = mine.iter().map(|&at| WireKey::again(keys[at])).collect();
        let mut answers: Vec<Result<bool, BackendError>> = keys.iter().map(|_| Ok(false)).collect();
        if mine.is_empty() {
            return answers;
        }
        match self.tier.delete_many(&wires.iter().collect::<Vec<_>>(), deadline).await {
            Ok(removed) => mine.iter().zip(removed).for_each(|(&at, removed)| answers[at] = removed),
            Err(error) => mine.iter().for_each(|&at| answers[at] = Err(failed_like(&error, error.operation()))),
        }
        for &at in &mine {
            self.settle_removal(keys[at], &answers[at], began, clock);
        }
        answers
    }

    /// Removes all copies whose key begins with `prefix`; afterwards none of them is believed, whether or not that succeeded.
    ///
    /// # Errors
    /// Those of the store. One that can neither clear nor list is no error: its copies end with their cap, and this process
    /// believes none of them until then.
    pub(super) async fn clear(&self, prefix: &[u8], clock: &dyn Clock, deadline: Deadline) -> Result<(), BackendError> {
        let cleared = match self.tier.clear(prefix, deadline).await {
            Ok(Some(_)) => Ok(true),
            Ok(None) => self.sweep(prefix, deadline).await,
            Err(error) => Err(error),
        };
        if !matches!(cleared, Ok(true)) {
            self.distrust.mark_all(clock);
        }
        match cleared {
            Ok(_) => Ok(()),
            Err(error) => {
                self.failed(&error);
                Err(self.not_removed(Operation::Clear, error))
            }
        }
    }

    /// Lists what there is and removes it one by one; `false` if the store cannot list.
    async fn sweep(&self, prefix: &[u8], deadline: Deadline) -> Result<bool, BackendError> {
        let enumerates = self.tier.enumerates();
        if enumerates == Enumerates::No {
            return Ok(false);
        }
        let mut cursor: Option<Bytes> = None;
        for _ in 0..MAX_PAGES {
            let page = self.tier.scan(prefix, cursor.as_deref(), PAGE, deadline).await?;
            for item in page.items {
                // A listed key is this store's own. One that an entry tells is shortened as it was when it came here.
                let wire = match enumerates {
                    Enumerates::Keys => item.starts_with(prefix).then(|| WireKey::of_store(&item)),
                    _ => {
                        let stored = self.tier.read(&item, deadline).await?;
                        let envelope = stored.and_then(|stored| Envelope::parse(&stored).ok());
                        envelope.filter(|envelope| envelope.wire_key().starts_with(prefix)).and_then(|envelope| {
                            let whole = WireKey::again(envelope.wire_key());
                            whole.for_store(&self.last).ok().map(|key| WireKey::again(&key))
                        })
                    }
                };
                let Some(wire) = wire else { continue };
                self.tier.delete(&wire, deadline).await?;
            }
            if page.next.is_none() {
                return Ok(true);
            }
            cursor = page.next;
        }
        Ok(false)
    }

    fn capped(&self, ttl: Ttl) -> Ttl {
        let ms = ttl.as_ms().map_or(self.ttl_ms, |ms| ms.min(self.ttl_ms));
        Ttl::from_ms(ms).unwrap_or(ttl)
    }

    fn failed(&self, error: &BackendError) {
        self.counters.errors.add();
        self.tier.tell(error);
    }

    /// The error of a removal that this front kept from being whole.
    pub(super) fn not_removed(&self, operation: Operation, error: BackendError) -> BackendError {
        let text = format!("the copy in the tier {:?} is not removed: {error}", self.name);
        BackendError::new(error.kind(), operation, text).with_retry(error.retry()).with_source(error)
    }

    pub(super) fn health_document(&self, answer: Result<Health, BackendError>) -> Json {
        let breaker = self.tier.breaker_state().map(|state| format!("{state:?}").to_lowercase());
        match answer {
            Ok(health) => json!({
                "healthy": health.healthy, "type": health.backend_type, "latency_ms": health.latency_ms, "breaker": breaker,
            }),
            Err(error) => json!({ "healthy": false, "error": error.kind().as_str(), "breaker": breaker }),
        }
    }
}

/// A copy on its way in. If nobody waits for it any more it may land at any time.
struct Unsettled<'a> {
    front: &'a Front,
    key: &'a [u8],
    clock: &'a dyn Clock,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.front.distrust.doubt(self.key, self.clock);
    }
}

/// Whether the chain got the digest of a key, so that the entry's own key is another.
fn is_shortened(key: &[u8]) -> bool {
    let mut parts = key.splitn(3, |byte| *byte == b':');
    parts.nth(2).is_some_and(|rest| rest.starts_with(b"#"))
}
