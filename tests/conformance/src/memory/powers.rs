//! The optional powers of the reference.

use std::num::NonZeroU64;
use std::sync::Arc;

use cachekit_plugin::{
    Answers, Batch, Bytes, Cas, Clear, Cx, Dated, Event, Expiry, Freshness, Fut, Key, Locks, Operation, Page, Scan,
    SetItem, Ttl, Version, Watch, WatchGuard, WatchSink,
};

use super::watching::Watches;
use super::{Entry, Life, Memory, write};

impl Batch for Memory {
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>> {
        self.answer(Operation::GetMany, cx, move |store| {
            Ok(keys.iter().map(|key| Ok(store.find(key.as_bytes()).map(|entry| entry.value))).collect())
        })
    }

    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>> {
        self.answer(Operation::SetMany, cx, move |store| {
            let put = |item: &SetItem<'_>| {
                store.put(
                    self.instance,
                    Operation::SetMany,
                    item.key.as_bytes(),
                    item.value.clone(),
                    item.ttl.into(),
                    |_| true,
                )
            };
            Ok(items.iter().map(|item| put(item).map(|_| ())).collect())
        })
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>> {
        self.answer(Operation::DeleteMany, cx, move |store| {
            Ok(keys.iter().map(|key| Ok(store.remove(self.instance, key.as_bytes()))).collect())
        })
    }
}

impl Expiry for Memory {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        self.answer(Operation::Ttl, cx, move |store| {
            let Some(entry) = store.find(key.as_bytes()) else { return Ok(None) };
            let Some(expires) = entry.expires else { return Ok(Some(Ttl::Never)) };
            // An entry that expires between the two looks at the clock is absent.
            Ok(Ttl::from_duration(expires.saturating_sub(store.clock.now())))
        })
    }

    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.answer(Operation::Touch, cx, move |store| {
            let mut shard = write(store.shard(key.as_bytes()));
            if store.live(&shard, key.as_bytes()).is_none() {
                return Ok(false);
            }
            let expires = store.end_of(ttl);
            let touched = shard.entries.get_mut(key.as_bytes()).is_some_and(|entry| {
                let window = entry.gone.zip(entry.expires).map(|(gone, end)| gone.saturating_sub(end));
                entry.gone = expires.and_then(|end| end.checked_add(window.unwrap_or_default()));
                entry.expires = expires;
                true
            });
            drop(shard);
            store.watches.tell(self.instance, Event::Changed(key));
            Ok(touched)
        })
    }
}

impl Locks for Memory {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.answer(Operation::Lock, cx, move |store| {
            store.lock(key.as_bytes(), token, Ttl::from_ms(hold_ms.max(1)).unwrap_or(Ttl::Never))
        })
    }

    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.answer(Operation::Unlock, cx, move |store| Ok(store.unlock(key.as_bytes(), token)))
    }
}

impl Cas for Memory {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        self.answer(Operation::GetVersion, cx, move |store| {
            Ok(store.find(key.as_bytes()).map(|entry| (entry.value, entry.version)))
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
        self.answer(Operation::SetIf, cx, move |store| {
            let is_expected = |entry: Option<&Entry>| entry.map(|entry| entry.version) == expect;
            store.put(self.instance, Operation::SetIf, key.as_bytes(), value, ttl.into(), is_expected)
        })
    }
}

impl Scan for Memory {
    fn next<'a>(&'a self, prefix: &'a [u8], cursor: Option<&'a [u8]>, max: usize, cx: &'a Cx<'a>) -> Fut<'a, Page> {
        // At least one item, or a page could never lead to the next.
        self.answer(Operation::Scan, cx, move |store| Ok(store.page(prefix, cursor, max.max(1))))
    }

    fn read<'a>(&'a self, id: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.answer(Operation::Read, cx, move |store| Ok(store.find(id).map(|entry| entry.value)))
    }
}

impl Clear for Memory {
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64> {
        self.answer(Operation::Clear, cx, move |store| Ok(store.clear(self.instance, prefix)))
    }
}

impl Watch for Memory {
    fn watch<'a>(&'a self, prefix: &'a [u8], sink: Arc<dyn WatchSink>, cx: &'a Cx<'a>) -> Fut<'a, WatchGuard> {
        self.answer(Operation::Watch, cx, move |_| Watches::begin(&self.store, self.instance, prefix, sink))
    }
}

impl Freshness for Memory {
    fn get_dated<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Dated>> {
        self.answer(Operation::GetDated, cx, move |store| {
            let Some(entry) = store.find_dated(key.as_bytes()) else { return Ok(None) };
            let left = entry.expires.map(|end| end.saturating_sub(store.clock.now()));
            let fresh_for_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            // Less than a millisecond is rounded up: it is fresh all the same.
            let stale = left.is_some_and(|left| left.is_zero());
            let fresh_for_ms = fresh_for_ms.map(|ms| if stale { 0 } else { ms.max(1) });
            Ok(Some(Dated { value: entry.value, stale, fresh_for_ms }))
        })
    }

    fn set_stale<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        stale_ms: NonZeroU64,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, ()> {
        self.answer(Operation::SetStale, cx, move |store| {
            let life = Life { ttl, stale_ms: stale_ms.get() };
            store.put(self.instance, Operation::SetStale, key.as_bytes(), value, life, |_| true).map(|_| ())
        })
    }
}
