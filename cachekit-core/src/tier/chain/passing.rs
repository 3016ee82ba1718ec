//! Who does not get the turn in time: writes all the same, and leaves copies that are not believed.
//!
//! A turn is held while copies are written, so a front that hangs holds it for as long as somebody waits for that front. What a
//! writer has to do in the last tier must not wait for that. So it waits for a part of its deadline, and passes.
//!
//! What follows from it: whoever holds the turn may put an older copy into a front after the writer has been there, and others
//! may begin while it is under way. So the copies are in doubt from before the last tier is touched, and anew from its end on;
//! whoever has the turn of anything meanwhile is told, and believes the copies that it leaves as little. A doubt lasts longer
//! than a promotion may take; that holders are told covers those with deadlines that are longer still.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use cachekit_plugin::{BackendError, Deadline, Operation};
use tokio::sync::RwLockWriteGuard;

use super::Inner;
use super::stripes::Turn;
use crate::guard::deadline::within;

/// A change without the turn.
pub(super) struct Passing<'a> {
    inner: &'a Inner,
    /// `None`: of all keys.
    keys: Option<&'a [&'a [u8]]>,
}

impl<'a> Passing<'a> {
    fn begin(inner: &'a Inner, keys: Option<&'a [&'a [u8]]>) -> Self {
        let passing = Self { inner, keys };
        passing.tell();
        passing
    }

    /// The generation first: whoever found that it had not moved began before the doubt, and does not settle it.
    fn tell(&self) {
        let Inner { fronts, stripes, clock, .. } = self.inner;
        match self.keys {
            Some(keys) => {
                stripes.advance(keys);
                fronts.iter().for_each(|front| keys.iter().for_each(|key| front.distrust.doubt(key, &**clock)));
            }
            None => {
                stripes.advance_all();
                fronts.iter().for_each(|front| front.distrust.doubt_all(&**clock));
            }
        }
        stripes.pass();
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}

/// The turns of a writer, or its way past them.
pub(super) enum Way<'a> {
    Turn(Turn<'a>),
    /// Held for its end.
    Passing {
        _passing: Passing<'a>,
    },
}

/// Nobody changes copies, or none are believed.
pub(super) enum Alone<'a> {
    Gate { _gate: RwLockWriteGuard<'a, ()> },
    Passing { _passing: Passing<'a> },
}

impl Inner {
    /// The turns of some keys, as far as they come in time.
    ///
    /// # Errors
    /// There is no time left for what they are wanted for.
    pub(super) async fn way<'a>(
        &'a self,
        keys: &'a [&'a [u8]],
        operation: Operation,
        deadline: Deadline,
    ) -> Result<Way<'a>, BackendError> {
        match in_time(self.stripes.turns(keys), (self.patience)(deadline), operation).await {
            Some(turn) => Ok(Way::Turn(turn)),
            None if deadline.has_passed() => Err(BackendError::timeout(operation)),
            None => Ok(Way::Passing { _passing: Passing::begin(self, Some(keys)) }),
        }
    }

    /// The end of a change of some keys. If somebody passed meanwhile, nobody knows in which order the copies were written.
    pub(super) fn arrived(&self, way: Way<'_>, keys: &[&[u8]]) {
        match way {
            Way::Turn(turn) => self.leave(turn, keys),
            Way::Passing { .. } => drop(way),
        }
    }

    /// Gives a turn back.
    pub(super) fn leave(&self, turn: Turn<'_>, keys: &[&[u8]]) {
        if turn.was_passed() {
            self.fronts.iter().for_each(|front| keys.iter().for_each(|key| front.distrust.mark(key, &*self.clock)));
        }
        drop(turn);
    }

    /// The gate, if it closes in time.
    ///
    /// # Errors
    /// There is no time left for what it is wanted for.
    pub(super) async fn alone(&self, deadline: Deadline) -> Result<Alone<'_>, BackendError> {
        match in_time(self.stripes.alone(), (self.patience)(deadline), Operation::Clear).await {
            Some(gate) => Ok(Alone::Gate { _gate: gate }),
            None if deadline.has_passed() => Err(BackendError::timeout(Operation::Clear)),
            None => Ok(Alone::Passing { _passing: Passing::begin(self, None) }),
        }
    }
}

/// What `place` comes to until then; without any time, what it is already.
async fn in_time<T>(place: impl Future<Output = T>, until: Deadline, operation: Operation) -> Option<T> {
    let mut place = pin!(place);
    if until.has_passed() {
        let now = poll_fn(|context| Poll::Ready(place.as_mut().poll(context))).await;
        return match now {
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        };
    }
    within(until, operation, async { Ok(place.await) }).await.ok()
}
