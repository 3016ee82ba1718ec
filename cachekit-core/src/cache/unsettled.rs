//! Writes whose outcome is not known yet, and what becomes of L1 when it never is.

use super::{At, Engine};
use crate::invalidate::Ticket;

/// A write whose outcome is not known yet. Until it is settled, its end is that L1 forgets the key: also if the caller goes
/// away in the middle, when nobody can say whether the store has changed.
pub(super) struct Unsettled<'a> {
    pub(super) engine: &'a Engine,
    pub(super) at: &'a At,
}

impl Unsettled<'_> {
    /// The outcome is known. Readers that saw the store before it must not fill L1 any more.
    pub(super) fn settle(self) {
        self.overtake();
        std::mem::forget(self);
    }

    /// The outcome of a write is known: the same, and what its value may be kept under.
    pub(super) fn settle_as(self, mine: Ticket) -> Option<Ticket> {
        let settled = self.engine.writes.settle(self.at.hash, mine);
        self.settled();
        settled
    }

    /// As one of a batch, whose generations have been settled together.
    pub(super) fn settled(self) {
        self.engine.flights.detach(self.at.hash);
        self.tell_siblings();
        std::mem::forget(self);
    }

    /// It has landed, and the next read brings what it left.
    pub(super) fn forget(self) {
        let (engine, at) = (self.engine, self.at);
        self.settle();
        engine.l1.remove(at.hash, at.wire.as_bytes());
    }

    /// Nobody waits for it any more, and it may land yet.
    pub(super) fn doubt(&self) {
        self.engine.doubt(self.at.hash);
        if let Some(siblings) = &self.engine.siblings {
            siblings.doubt(&self.engine.near, self.at.wire.as_bytes());
        }
    }

    /// Again what was done before the write: a read or a flight that began during it may have seen the older value.
    pub(super) fn overtake(&self) {
        self.engine.writes.advance(self.at.hash);
        self.engine.flights.detach(self.at.hash);
        self.tell_siblings();
    }

    pub(super) fn tell_siblings(&self) {
        if let Some(siblings) = &self.engine.siblings {
            siblings.changed(&self.engine.near, self.at.wire.as_bytes());
        }
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.doubt();
        self.overtake();
        self.engine.l1.remove(self.at.hash, self.at.wire.as_bytes());
    }
}
