//! Where the answers to one caller's requests are laid until it fetches them.
//!
//! A caller that goes away leaves its inbox behind; what still arrives for it is laid there and dropped with it. So an answer
//! has one place from the moment its request is queued, and can never be handed to the next caller.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Lost, Refusal};
use crate::reply::Reply;

/// What became of one request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Reply(Reply),
    Refused(Refusal),
    /// The connection ended first. `sent`: the server may have seen the request.
    Lost {
        lost: Lost,
        sent: bool,
    },
    /// The caller's time ran out first.
    Late,
}

/// The answers to the requests of one exchange.
#[derive(Debug)]
pub(crate) struct Inbox(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    waker: Option<Waker>,
}

impl Inbox {
    pub(crate) fn new(requests: usize) -> Self {
        let outcomes = std::iter::repeat_with(|| None).take(requests).collect();
        Self(Mutex::new(Inner { outcomes, missing: requests, waker: None }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays down what became of request `place`. Wakes the caller with the last one only.
    pub(crate) fn deliver(&self, place: usize, outcome: Outcome) {
        let mut inner = self.inner();
        if let Some(slot @ None) = inner.outcomes.get_mut(place) {
            *slot = Some(outcome);
            inner.missing -= 1;
        }
        if inner.missing == 0
            && let Some(waker) = inner.waker.take()
        {
            drop(inner);
            waker.wake();
        }
    }

    /// Ready when nothing is missing.
    pub(crate) fn poll_full(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner();
        if inner.missing == 0 {
            return Poll::Ready(());
        }
        match &mut inner.waker {
            Some(waker) => waker.clone_from(context.waker()),
            empty => *empty = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Whether everything has arrived.
    pub(crate) fn is_full(&self) -> bool {
        self.inner().missing == 0
    }

    /// Whether request `place` has an outcome.
    pub(crate) fn has(&self, place: usize) -> bool {
        matches!(self.inner().outcomes.get(place), Some(Some(_)))
    }

    /// Fetches what has arrived; what has not is late.
    pub(crate) fn fetch(&self) -> Vec<Outcome> {
        let mut inner = self.inner();
        inner.missing = 0;
        std::mem::take(&mut inner.outcomes).into_iter().map(|outcome| outcome.unwrap_or(Outcome::Late)).collect()
    }
}
