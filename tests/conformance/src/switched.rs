//! A store in front of another one, which fails, slows down and hangs when it is told to: outages for tests, with no server to
//! stop.
//!
//! Everything else it only forwards, so a test that needs one operation of a store to misbehave need not write out the rest.
//! It never waits by itself but for [`Fault::Slow`]: an operation that hangs goes on when the test says so, or ends by the
//! deadline of its caller.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use cachekit_plugin::{
    Answers, Backend, BackendError, Batch, Bytes, Cas, Clear, Cx, Dated, Expiry, Freshness, Fut, Health, Key, Kind,
    Limits, Locks, Operation, Page, Scan, SetItem, Ttl, Version, Watch, WatchGuard, WatchSink,
};

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Every operation fails as this kind, and changes nothing.
    Fails(Kind),
    /// So many operations fail as this kind, then all is well.
    FailsTimes(u32, Kind),
    /// Every operation takes this much longer, by the clock of the system.
    Slow(Duration),
    /// No operation ends before the trouble does.
    Hangs,
}

/// Turns the troubles of a [`Switched`] on and off, and counts what was asked of it. Cheap to clone.
///
/// ```
/// use std::sync::Arc;
/// use cachekit_conformance::{Memory, Switched, Trouble};
/// use cachekit_plugin::{Kind, Operation};
///
/// let store = Switched::new(Arc::new(Memory::default()));
/// let switch = store.switch();
/// switch.trouble(Trouble::Fails(Kind::Transient)); // everything
/// switch.trouble_with(Operation::Set, Trouble::Hangs); // writes
/// switch.heal(); // what hangs goes on
/// assert_eq!(switch.calls(Operation::Get), 0);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Switch(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    all: Option<Trouble>,
    one: BTreeMap<&'static str, Trouble>,
    calls: BTreeMap<&'static str, u64>,
    /// Who is to be woken when something changes. Bounded by the operations that a test has under way and the tasks they
    /// are polled by.
    waiting: Vec<Waker>,
    hanging: usize,
}

/// An operation that hangs, until it goes on or is dropped.
struct Hanging<'a>(&'a Switch);

impl<'a> Hanging<'a> {
    fn on(switch: &'a Switch) -> Self {
        switch.state().hanging += 1;
        Self(switch)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.state().hanging -= 1;
    }
}

impl Switch {
    /// Gives every operation a trouble, but for those that have one of their own.
    pub fn trouble(&self, trouble: Trouble) {
        self.change(|state| state.all = Some(trouble));
    }

    /// Gives one operation a trouble.
    pub fn trouble_with(&self, operation: Operation, trouble: Trouble) {
        self.change(|state| {
            state.one.insert(operation.as_str(), trouble);
        });
    }

    /// All is well again. What hangs goes on.
    pub fn heal(&self) {
        self.change(|state| {
            state.all = None;
            state.one.clear();
        });
    }

    /// How often an operation was asked for, whatever came of it.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.state().calls.get(operation.as_str()).copied().unwrap_or(0)
    }

    /// How many operations hang now.
    pub fn hanging(&self) -> usize {
        self.state().hanging
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.state();
            change(&mut state);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with this operation now, and one failure fewer to come.
    fn now(&self, operation: Operation) -> Option<Trouble> {
        let mut state = self.state();
        let State { all, one, .. } = &mut *state;
        let trouble = one.get_mut(operation.as_str()).or(all.as_mut())?;
        match trouble {
            Trouble::FailsTimes(0, _) => None,
            Trouble::FailsTimes(left, kind) => {
                *left -= 1;
                Some(Trouble::Fails(*kind))
            }
            other => Some(*other),
        }
    }

    /// Lets an operation through, as soon as it may.
    async fn pass(&self, operation: Operation) -> Result<(), BackendError> {
        *self.state().calls.entry(operation.as_str()).or_default() += 1;
        let failed = |kind| Err(BackendError::new(kind, operation, "the test says so").on("switched"));
        match self.now(operation) {
            None | Some(Trouble::FailsTimes(..)) => Ok(()),
            Some(Trouble::Fails(kind)) => failed(kind),
            Some(Trouble::Slow(time)) => {
                later(time).await;
                Ok(())
            }
            Some(Trouble::Hangs) => {
                let _hanging = Hanging::on(self);
                poll_fn(|cx| match self.now(operation) {
                    Some(Trouble::Hangs) => {
                        let mut state = self.state();
                        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                            state.waiting.push(cx.waker().clone());
                        }
                        Poll::Pending
                    }
                    _ => Poll::Ready(()),
                })
                .await;
                Ok(())
            }
        }
    }
}

/// Ends after `time`, by a thread that sleeps: this crate knows no runtime.
async fn later(time: Duration) {
    let mut begun = None::<Arc<Mutex<(bool, Option<Waker>)>>>;
    poll_fn(move |cx| {
        let state = begun.get_or_insert_with(|| {
            let state = Arc::new(Mutex::new((false, None::<Waker>)));
            let theirs = Arc::clone(&state);
            std::thread::spawn(move || {
                std::thread::sleep(time);
                let mut state = theirs.lock().unwrap_or_else(PoisonError::into_inner);
                state.0 = true;
                if let Some(waker) = state.1.take() {
                    waker.wake();
                }
            });
            state
        });
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = Some(cx.waker().clone());
        if state.0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// A store in front of another one. Clones share their switch.
#[derive(Clone)]
pub struct Switched {
    inner: Arc<dyn Backend>,
    switch: Switch,
    powers: bool,
}

impl Switched {
    /// In front of `inner`, with every power that it has.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, switch: Switch::default(), powers: true }
    }

    /// With the seven operations that every store has, and no power beside.
    #[must_use]
    pub fn without_powers(mut self) -> Self {
        self.powers = false;
        self
    }

    /// What turns its troubles on and off.
    pub fn switch(&self) -> Switch {
        self.switch.clone()
    }

    fn run<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        work: impl FnOnce(&'a dyn Backend) -> Fut<'a, T> + Send + 'a,
    ) -> Fut<'a, T> {
        Box::pin(async move {
            self.switch.pass(operation).await?;
            work(&*self.inner).await
        })
    }

    /// The same for a power, which is there, because it was asked for.
    fn power<'a, P: ?Sized + 'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        power: impl FnOnce(&'a dyn Backend) -> Option<&'a P> + Send + 'a,
        work: impl FnOnce(&'a P) -> Fut<'a, T> + Send + 'a,
    ) -> Fut<'a, T> {
        self.run(operation, move |inner| match power(inner) {
            Some(power) => work(power),
            None => Box::pin(std::future::ready(Err(BackendError::unsupported(operation)))),
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for Switched {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.run(Operation::Get, move |inner| inner.get(key, cx))
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.run(Operation::Set, move |inner| inner.set(key, value, ttl, cx))
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.run(Operation::Delete, move |inner| inner.delete(key, cx))
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.run(Operation::Exists, move |inner| inner.exists(key, cx))
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.run(Operation::Health, move |inner| inner.health(cx))
    }

    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.run(Operation::Close, move |inner| inner.close(cx))
    }

    fn batch(&self) -> Option<&dyn Batch> {
        self.inner.batch().filter(|_| self.powers).map(|_| self as &dyn Batch)
    }

    fn ttl(&self) -> Option<&dyn Expiry> {
        self.inner.ttl().filter(|_| self.powers).map(|_| self as &dyn Expiry)
    }

    fn locks(&self) -> Option<&dyn Locks> {
        self.inner.locks().filter(|_| self.powers).map(|_| self as &dyn Locks)
    }

    fn cas(&self) -> Option<&dyn Cas> {
        self.inner.cas().filter(|_| self.powers).map(|_| self as &dyn Cas)
    }

    fn scan(&self) -> Option<&dyn Scan> {
        self.inner.scan().filter(|_| self.powers).map(|_| self as &dyn Scan)
    }

    fn clear(&self) -> Option<&dyn Clear> {
        self.inner.clear().filter(|_| self.powers).map(|_| self as &dyn Clear)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.inner.watch().filter(|_| self.powers).map(|_| self as &dyn Watch)
    }

    fn freshness(&self) -> Option<&dyn Freshness> {
        self.inner.freshness().filter(|_| self.powers).map(|_| self as &dyn Freshness)
    }
}

impl Batch for Switched {
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>> {
        self.power(Operation::GetMany, |inner| inner.batch(), move |batch| batch.get_many(keys, cx))
    }

    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>> {
        self.power(Operation::SetMany, |inner| inner.batch(), move |batch| batch.set_many(items, cx))
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>> {
        self.power(Operation::DeleteMany, |inner| inner.batch(), move |batch| batch.delete_many(keys, cx))
    }
}

impl Expiry for Switched {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        self.power(Operation::Ttl, |inner| inner.ttl(), move |expiry| expiry.ttl(key, cx))
    }

    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.power(Operation::Touch, |inner| inner.ttl(), move |expiry| expiry.touch(key, ttl, cx))
    }
}

impl Locks for Switched {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.power(Operation::Lock, |inner| inner.locks(), move |locks| locks.lock(key, token, hold_ms, cx))
    }

    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.power(Operation::Unlock, |inner| inner.locks(), move |locks| locks.unlock(key, token, cx))
    }
}

impl Cas for Switched {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        self.power(Operation::GetVersion, |inner| inner.cas(), move |cas| cas.get_version(key, cx))
    }

    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool> {
        self.power(Operation::SetIf, |inner| inner.cas(), move |cas| cas.set_if(key, value, ttl, expect, cx))
    }
}

impl Scan for Switched {
    fn next<'a>(&'a self, prefix: &'a [u8], cursor: Option<&'a [u8]>, max: usize, cx: &'a Cx<'a>) -> Fut<'a, Page> {
        self.power(Operation::Scan, |inner| inner.scan(), move |scan| scan.next(prefix, cursor, max, cx))
    }

    fn read<'a>(&'a self, id: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.power(Operation::Read, |inner| inner.scan(), move |scan| scan.read(id, cx))
    }
}

impl Clear for Switched {
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64> {
        self.power(Operation::Clear, |inner| inner.clear(), move |clear| clear.clear(prefix, cx))
    }
}

impl Watch for Switched {
    fn watch<'a>(&'a self, prefix: &'a [u8], sink: Arc<dyn WatchSink>, cx: &'a Cx<'a>) -> Fut<'a, WatchGuard> {
        self.power(Operation::Watch, |inner| inner.watch(), move |watch| watch.watch(prefix, sink, cx))
    }
}

impl Freshness for Switched {
    fn get_dated<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Dated>> {
        self.power(Operation::GetDated, |inner| inner.freshness(), move |fresh| fresh.get_dated(key, cx))
    }

    fn set_stale<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        stale_ms: NonZeroU64,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, ()> {
        self.power(
            Operation::SetStale,
            |inner| inner.freshness(),
            move |fresh| fresh.set_stale(key, value, ttl, stale_ms, cx),
        )
    }
}
