//! Copies that cannot be opened: what a tier in front of the last one holds is believed no more than any store.
//!
//! A chain passes on what looks like an entry. Whether it is one, with its seal, is known here alone: damage to a copy must
//! neither hide the good entry behind it nor pass for an attack on the store that counts. So it is counted by its class, the copy is not
//! believed any more, and the tiers behind it are asked; what they have takes its place. What none of them can answer with
//! is refused as without a chain, and an outage behind a damaged copy is an outage.

use bytes::Bytes;
use cachekit_plugin::{BackendError, Deadline};

use super::{At, Cache};
use crate::codec::{Opened, Refusal};
use crate::tier::Tier;
use crate::tier::chain::MAX_FRONTS;

/// What a tier has under a key, and what the codec says to it.
pub(super) struct Read {
    pub(super) stored: Bytes,
    pub(super) opened: Result<Opened, Refusal>,
}

impl Cache {
    /// What stands under a key, opened whatever its age.
    pub(super) fn read(&self, at: &At, stored: Bytes) -> Read {
        let engine = &*self.engine;
        let opened = engine.codec.open(&stored, at.wire.as_bytes(), engine.clock.unix_ms());
        Read { stored, opened }
    }

    /// The same of what `tier` answered with, past copies that cannot be opened.
    pub(super) async fn read_answer(
        &self,
        tier: &Tier,
        at: &At,
        stored: Option<Bytes>,
        deadline: Deadline,
    ) -> Result<Option<Read>, BackendError> {
        let Some(stored) = stored else { return Ok(None) };
        self.need_dictionary(tier, Some(&stored), deadline).await;
        let read = self.read(at, stored);
        match &read.opened {
            Err(refusal) if tier.has_fronts() && is_damage(*refusal) => {
                // Boxed, so that the futures of those who need it not stay small.
                Box::pin(self.read_behind(tier, at, read, deadline)).await
            }
            _ => Ok(Some(read)),
        }
    }

    async fn read_behind(
        &self,
        tier: &Tier,
        at: &At,
        mut read: Read,
        deadline: Deadline,
    ) -> Result<Option<Read>, BackendError> {
        // Each tier may be damaged in its own way.
        for _ in 0..=MAX_FRONTS {
            let Err(refusal) = &read.opened else { break };
            if !is_damage(*refusal) {
                break;
            }
            tier.refuse_copies(&at.wire, &read.stored, deadline).await;
            let answer = self.count_failure(tier.get(&at.wire, deadline).await);
            if matches!(&answer, Ok(Some(stored)) if *stored == read.stored) {
                // It is what the last tier has.
                break;
            }
            self.engine.counters.refuse(*refusal);
            let Some(stored) = answer? else { return Ok(None) };
            self.need_dictionary(tier, Some(&stored), deadline).await;
            read = self.read(at, stored);
        }
        Ok(Some(read))
    }
}

/// What another copy of the same entry may not have wrong with it: neither its age nor what this process lacks.
const fn is_damage(refusal: Refusal) -> bool {
    !matches!(refusal, Refusal::Expired | Refusal::FromTheFuture | Refusal::Dictionary)
}
