//! Faults of the stale window.

use std::num::NonZeroU64;

use cachekit_plugin::{Bytes, Cx, Dated, Freshness, Fut, Key, Ttl};

use super::{Fault, Faulty, guard};

impl Freshness for Faulty {
    fn get_dated<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Dated>> {
        Box::pin(async move {
            let Some(mut found) = self.memory.get_dated(key, cx).await? else { return Ok(None) };
            match self.fault {
                Fault::DatedIsAMiss => return Ok(None),
                Fault::FreshForEver if !found.stale => found.fresh_for_ms = Some(u64::MAX - 1),
                Fault::StaleIsAMiss if found.stale => return Ok(None),
                Fault::StaleIsFresh => found.stale = false,
                Fault::StaleMayBeKept if found.stale => found.fresh_for_ms = Some(1000),
                Fault::StaysStale => {
                    let mut stale = guard(&self.shared.keys);
                    if found.stale {
                        stale.insert(key.as_bytes().to_vec());
                    }
                    found.stale = found.stale || stale.contains(key.as_bytes());
                }
                _ => {}
            }
            Ok(Some(found))
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
        Box::pin(async move {
            if self.has(Fault::StaysStale) && self.memory.get_dated(key, cx).await?.is_some_and(|old| old.stale) {
                guard(&self.shared.keys).insert(key.as_bytes().to_vec());
            }
            let window = match self.fault {
                Fault::StaleForEver => NonZeroU64::MAX,
                Fault::WrapsLongWindows if stale_ms.get() as u32 == 0 => return Ok(()),
                _ => stale_ms,
            };
            self.memory.set_stale(key, value, ttl, window, cx).await
        })
    }
}
