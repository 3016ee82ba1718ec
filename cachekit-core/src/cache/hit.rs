//! What L1 has of a key: bytes, or a decoded copy that is shared and not decoded again.
//!
//! A hit that is simply taken ends here, and nothing is built for the way beyond. What needs a closer look (its tags, its times) is
//! looked at by those who own them: `tags.rs`, [`fresh`](crate::fresh).

use std::sync::Arc;

use super::{At, Cache, Value};
use crate::codec::Opened;
use crate::error::Error;
use crate::key::WireKeyRef;
use crate::l1::{Hit, KeyHash, Seen};

impl Cache {
    /// Looks in L1 and nowhere else. A hit ends here, so nothing is built for the way beyond.
    pub(super) fn in_l1<T>(
        &self,
        key: &[u8],
        read: impl FnOnce(&Self, &[u8], Hit) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.check_open()?;
        let mut room = None;
        let rest = self.namespace.rest(key, &mut room)?;
        let hit = self.hit(self.scope.hash(rest), self.namespace.parts(rest));
        Ok(hit.and_then(|hit| self.namespace.joined(rest, |wire| read(self, wire, hit))))
    }

    /// As [`Self::in_l1`], the decoded value: the shortest way there is. Nothing is put together, and of the entry nothing
    /// is touched but what is compared.
    #[inline]
    pub(super) fn typed_in_l1<T: Value>(&self, key: &[u8]) -> Result<Option<Arc<T>>, Error> {
        self.taken_in_l1(key, |value| value, |wire, hit| self.typed(wire, hit))
    }

    /// The same for who may find more in an entry that is not simply taken: its tags, its times, or its bytes.
    #[inline]
    pub(super) fn taken_in_l1<T: Value, R>(
        &self,
        key: &[u8],
        take: impl FnOnce(Arc<T>) -> R,
        look_closer: impl FnOnce(&[u8], Hit) -> Option<R>,
    ) -> Result<Option<R>, Error> {
        self.check_open()?;
        let mut room = None;
        let rest = self.namespace.rest(key, &mut room)?;
        let near = &*self.near;
        if !near.settings.use_l1 {
            return Ok(None);
        }
        let (hash, epoch) = (self.scope.hash(rest), near.writes.epoch(self.slot));
        let hit = match near.l1.get_typed(hash, self.namespace.parts(rest), epoch) {
            Some(Seen::Decoded(value, true)) => return Ok(Some(take(value))),
            Some(Seen::Decoded(_, false)) => None,
            Some(Seen::Stored(hit)) => match if hit.is_tagged() { self.tagged_hit(hit) } else { Some(hit) } {
                None => return Ok(None),
                hit => hit,
            },
            None => return Ok(None),
        };
        Ok(self.namespace.joined(rest, |wire| {
            let hit = hit.or_else(|| near.l1.peek(hash, wire, epoch))?;
            look_closer(wire, hit)
        }))
    }

    pub(super) fn l1_hit(&self, at: &At) -> Option<Hit> {
        self.hit(at.hash, at.wire.as_bytes().into())
    }

    pub(super) fn hit(&self, hash: KeyHash, wire: WireKeyRef<'_>) -> Option<Hit> {
        let near = &*self.near;
        if !near.settings.use_l1 {
            return None;
        }
        let hit = near.l1.get(hash, wire, near.writes.epoch(self.slot))?;
        if hit.is_tagged() { self.tagged_hit(hit) } else { Some(hit) }
    }

    /// As [`Self::l1_hit`], and counted as neither hit nor miss.
    pub(super) fn l1_peek(&self, at: &At) -> Option<Hit> {
        let near = &*self.near;
        let epoch = near.writes.epoch(self.slot);
        let hit = near.settings.use_l1.then(|| near.l1.peek(at.hash, at.wire.as_bytes(), epoch)).flatten()?;
        if hit.is_tagged() { self.tagged_hit(hit) } else { Some(hit) }
    }

    /// The decoded copy of a hit, made now if there is none.
    pub(super) fn typed<T: Value>(&self, wire: &[u8], hit: Hit) -> Option<Arc<T>> {
        if !hit.is_fresh() {
            return self.get_takes_hit(wire, &hit).then(|| self.decoded(wire, &hit)).flatten();
        }
        if let Some(value) = hit.typed() {
            return Some(value);
        }
        let value = Arc::new(self.opened(wire, &hit)?.decode::<T>().ok()?);
        hit.attach_typed(Arc::clone(&value));
        Some(value)
    }

    /// What L1 holds, checked as if it came from the store: the wall clock may have passed the entry's end meanwhile.
    pub(super) fn opened(&self, wire: &[u8], hit: &Hit) -> Option<Opened> {
        let engine = &*self.engine;
        let opened = engine.codec.open(&hit.to_bytes(), wire, engine.clock.unix_ms()).ok()?;
        let takes = hit.is_fresh() || !self.asks_store_first(opened.meta());
        (takes && self.get_takes(opened.meta())).then_some(opened)
    }
}
