//! The powers of a chain: those of its last tier. What they change there makes the copies go.

use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use cachekit_plugin::{
    BackendError, Cas, Clear, Cx, Dated, Deadline, Event, Expiry, Freshness, Fut, Key, Locks, Operation, Page, Scan,
    Ttl, Version, Watch, WatchGuard, WatchSink,
};

use super::marks::Distrust;
use super::stripes::Stripes;
use super::{Chain, Inner, share, whole};
use crate::clock::Clock;
use crate::guard::deadline::within;

impl Chain {
    /// A change in the last tier, after which no front has a copy.
    async fn change_last<T>(
        &self,
        key: &[u8],
        operation: Operation,
        cx: &Cx<'_>,
        work: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let inner = &*self.inner;
        let work = async {
            let began = inner.began();
            let answer = work.await;
            for front in inner.fronts.iter().rev() {
                // Its outcome is known to the marks.
                let _ = front.remove(key, began, &*inner.clock, share(cx.deadline)).await;
            }
            answer
        };
        self.change(&[key], operation, cx.deadline, work).await.0
    }

    /// Removes all copies with a prefix, for a last tier that is emptied otherwise.
    pub(crate) async fn clear_fronts(&self, prefix: &[u8], deadline: Deadline) -> Result<(), BackendError> {
        let inner = &*self.inner;
        inner.stripes.advance_all();
        let alone = inner.alone(deadline).await?;
        let cleared = inner.clear_fronts(prefix, deadline).await;
        inner.stripes.advance_all();
        drop(alone);
        cleared
    }
}

impl Inner {
    /// All of them, and the first failure.
    async fn clear_fronts(&self, prefix: &[u8], deadline: Deadline) -> Result<(), BackendError> {
        let mut cleared = Ok(());
        for front in self.fronts.iter().rev() {
            let clearing = Clearing { fronts: std::slice::from_ref(front), inner: self };
            let answer = front.clear(prefix, &*self.clock, share(deadline)).await;
            clearing.done();
            cleared = cleared.and(answer);
        }
        cleared
    }
}

/// Whoever goes away while fronts are cleared, or are about to be, leaves copies that must not be served.
struct Clearing<'a> {
    fronts: &'a [super::Front],
    inner: &'a Inner,
}

impl Clearing<'_> {
    fn done(mut self) {
        self.fronts = &[];
    }
}

impl Drop for Clearing<'_> {
    fn drop(&mut self) {
        for front in self.fronts {
            front.distrust.mark_all(&*self.inner.clock);
        }
    }
}

fn unsupported(operation: Operation) -> BackendError {
    BackendError::unsupported(operation)
}

#[deny(clippy::missing_trait_methods)]
impl Clear for Chain {
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64> {
        Box::pin(async move {
            let inner = &*self.inner;
            let clear = inner.last.backend().clear().ok_or_else(|| unsupported(Operation::Clear))?;
            inner.stripes.advance_all();
            let alone = inner.alone(cx.deadline).await?;
            let clearing = Clearing { fronts: &inner.fronts, inner };
            // Past the breaker's back, so that a refusal by alphabet or power comes as the store says it.
            let cleared = within(cx.deadline, Operation::Clear, clear.clear(prefix, cx)).await;
            let copies = inner.clear_fronts(prefix, cx.deadline).await;
            clearing.done();
            inner.stripes.advance_all();
            drop(alone);
            let cleared = cleared?;
            copies.map(|()| cleared)
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Expiry for Chain {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        match self.inner.last.backend().ttl() {
            Some(expiry) => expiry.ttl(key, cx),
            None => Box::pin(std::future::ready(Err(unsupported(Operation::Ttl)))),
        }
    }

    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            let inner = &*self.inner;
            self.change_last(key.as_bytes(), Operation::Touch, cx, async {
                let expiry = inner.last.backend().ttl().ok_or_else(|| unsupported(Operation::Touch))?;
                expiry.touch(key, ttl, cx).await
            })
            .await
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Cas for Chain {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        Box::pin(async move { self.inner.last.get_version(&whole(key.as_bytes()), cx.deadline).await })
    }

    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool> {
        Box::pin(async move {
            let inner = &*self.inner;
            self.change_last(key.as_bytes(), Operation::SetIf, cx, async {
                inner.last.set_if(&whole(key.as_bytes()), value, ttl, expect, cx.deadline).await
            })
            .await
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Locks for Chain {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move { self.inner.last.lock(&whole(key.as_bytes()), token, hold_ms, cx.deadline).await })
    }

    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move { self.inner.last.unlock(&whole(key.as_bytes()), token, cx.deadline).await })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Scan for Chain {
    fn next<'a>(&'a self, prefix: &'a [u8], cursor: Option<&'a [u8]>, max: usize, cx: &'a Cx<'a>) -> Fut<'a, Page> {
        Box::pin(async move { self.inner.last.scan(prefix, cursor, max, cx.deadline).await })
    }

    fn read<'a>(&'a self, id: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move { self.inner.last.read(id, cx.deadline).await })
    }
}

/// Dated values come from the last tier: a copy does not know how old its entry was when it was made.
#[deny(clippy::missing_trait_methods)]
impl Freshness for Chain {
    fn get_dated<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Dated>> {
        Box::pin(async move { self.inner.last.get_dated(&whole(key.as_bytes()), cx.deadline).await })
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
            let inner = &*self.inner;
            self.change_last(key.as_bytes(), Operation::Set, cx, async {
                inner.last.set_stale(&whole(key.as_bytes()), value, ttl, stale_ms, cx.deadline).await
            })
            .await
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Watch for Chain {
    fn watch<'a>(&'a self, prefix: &'a [u8], sink: Arc<dyn WatchSink>, cx: &'a Cx<'a>) -> Fut<'a, WatchGuard> {
        let inner = &*self.inner;
        let distrust = inner.fronts.iter().map(|front| Arc::clone(&front.distrust)).collect();
        let (stripes, clock) = (Arc::clone(&inner.stripes), Arc::clone(&inner.clock));
        let sink = Arc::new(Relay { distrust, stripes, clock, sink });
        Box::pin(async move { self.inner.last.watch(prefix, sink, cx.deadline).await })
    }
}

/// Copies of what was changed are not believed before whoever watches is told: else they would be read anew from them.
/// It holds nothing of a backend: an event comes on a thread of one, which must not be the last to let go of it.
struct Relay {
    distrust: Vec<Arc<Distrust>>,
    stripes: Arc<Stripes>,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn WatchSink>,
}

impl WatchSink for Relay {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Changed(key) => {
                self.stripes.advance(&[key.as_bytes()]);
                self.distrust.iter().for_each(|front| front.mark(key.as_bytes(), &*self.clock));
            }
            Event::Everything => {
                self.stripes.advance_all();
                self.distrust.iter().for_each(|front| front.mark_all(&*self.clock));
            }
            // What is not told any more is seen after the cap, as ever.
            Event::Lost => {}
        }
        self.sink.event(event);
    }
}
