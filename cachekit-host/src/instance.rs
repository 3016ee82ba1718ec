//! An opened plugin instance as an ordinary backend.
//!
//! Nothing it returns is trusted: lengths, statuses and texts are checked where they come in. A panic inside it is an
//! error of that call; after [`MAX_PANICS`] of them the instance is not called any more.

use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use cachekit_abi::{self as abi, CK_BACKEND_FAST, CK_OK, CkLimits};
use cachekit_plugin::blocking::Pool;
use cachekit_plugin::{
    Answers, Backend, BackendError, Batch, Cas, Clear, Cx, Dated, Enumerates, Expiry, Freshness, Fut, Health, Key,
    KeyBytes, Kind, Limits, Locks, Operation, Page, Retry, Scan, SetItem, Ttl, Version, Watch, WatchGuard, WatchSink,
    raw, ready,
};

use crate::async_call::AsyncCall;
use crate::blocking_call;
use crate::library::Library;
use crate::request::{InstancePtr, Items, Outcome, Request};
use crate::services::{Registration, ServiceTable};
use crate::tables::Tables;

/// Panics after which an instance is left alone: one may be bad luck, three are a habit.
const MAX_PANICS: u32 = 3;
/// Threads for a plugin that only has blocking functions, and calls that may wait for one.
const BLOCKING_THREADS: usize = 16;
const BLOCKING_QUEUED: usize = 1000;
/// Bound of everything a plugin returns that is no value: health report, cursor.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// What values of other writers may have beyond the limit of the backend's own.
const MAX_BEYOND: u64 = 4 << 10;

/// What a call needs of an instance, shared so that it outlives every call.
pub(crate) struct Inner {
    library: &'static Library,
    pub(crate) ptr: InstancePtr,
    pub(crate) tables: Tables,
    limits: Limits,
    panics: AtomicU32,
    /// Dropped after `destroy`, because the plugin may log while it ends.
    services: ServiceTable,
}

impl Inner {
    pub(crate) fn new(
        library: &'static Library,
        ptr: InstancePtr,
        tables: Tables,
        limits: Limits,
        services: ServiceTable,
    ) -> Self {
        Self { library, ptr, tables, limits, panics: AtomicU32::new(0), services }
    }

    /// Most bytes an operation may return.
    pub(crate) fn max_bytes(&self, operation: Operation) -> u64 {
        match operation {
            Operation::Health | Operation::Scan => MAX_TEXT_BYTES,
            _ => self.max_value_read(),
        }
    }

    /// Largest value that may come back: what other writers of the same store get in can be a little more than what the
    /// backend promises to take, because a store counts key and header too.
    fn max_value_read(&self) -> u64 {
        self.limits.max_value.saturating_add(MAX_BEYOND)
    }

    fn quarantined(&self, operation: Operation) -> Option<BackendError> {
        (self.panics.load(Ordering::Relaxed) >= MAX_PANICS).then(|| {
            BackendError::new(Kind::Panic, operation, format!("not called any more after {MAX_PANICS} panics"))
                .with_retry(Retry::No)
                .on(self.label())
        })
    }

    /// Names the plugin in an error and counts a panic.
    fn judge(&self, error: BackendError) -> BackendError {
        if error.kind() == Kind::Panic {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
        error.on(self.label())
    }

    /// The same for each answer of a batch; one that panicked for several keys panicked once.
    fn judge_each<T>(&self, answers: Answers<T>) -> Answers<T> {
        if answers.iter().any(|answer| answer.as_ref().is_err_and(|error| error.kind() == Kind::Panic)) {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
        answers.into_iter().map(|answer| answer.map_err(|error| error.on(self.label()))).collect()
    }

    fn label(&self) -> String {
        format!("plugin {}", self.library.identity.id)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _serialised = self.library.lifecycle.lock();
        // SAFETY: this is the last reference, so no call is using the instance, and none will.
        unsafe { (self.library.root.destroy)(self.ptr.0) };
    }
}

/// An instance of a plugin.
pub(crate) struct Instance {
    inner: Arc<Inner>,
    way: Way,
}

/// How calls reach the plugin.
enum Way {
    /// The caller's task polls it.
    Async,
    /// It never waits, so it is called in place.
    Inline,
    /// It may block, so threads of our own call it.
    Pool(Pool),
}

impl Instance {
    pub(crate) fn new(inner: Inner, prefer_blocking: bool) -> Self {
        let way = if inner.tables.driver.is_some() && !prefer_blocking {
            Way::Async
        } else if inner.tables.backend.flags & CK_BACKEND_FAST != 0 {
            Way::Inline
        } else {
            Way::Pool(Pool::new(&inner.library.identity.id, BLOCKING_THREADS, BLOCKING_QUEUED))
        };
        Self { inner: Arc::new(inner), way }
    }

    /// Sends a request and reads what comes back.
    fn call<'a, T: Send + 'static>(
        &'a self,
        request: Request<'a>,
        cx: &Cx<'_>,
        read: impl FnOnce(&Inner, Outcome) -> Result<T, BackendError> + Send + Unpin + 'static,
    ) -> Fut<'a, T> {
        let inner = &self.inner;
        if let Some(error) = inner.quarantined(request.operation) {
            return ready(Err(error));
        }
        match (&self.way, inner.tables.driver) {
            (Way::Async, Some(driver)) => {
                Box::pin(Answer { inner, call: AsyncCall::new(inner, driver, request), read: Some(read) })
            }
            (Way::Pool(pool), _) => {
                let shared = Arc::clone(inner);
                let (operation, request) = (request.operation, request.into_owned());
                let answer = pool.run(operation, cx, move || {
                    blocking_call::run(&shared, request).and_then(|outcome| read(&shared, outcome))
                });
                Box::pin(async move { answer.await.map_err(|error| inner.judge(error)) })
            }
            _ => {
                let answer = blocking_call::run(inner, request).and_then(|outcome| read(inner, outcome));
                ready(answer.map_err(|error| inner.judge(error)))
            }
        }
    }
}

/// An answer that is read and judged once it is there. Written out, because an `async` block keeps the call twice, as what
/// it captured and as what it awaits, and copies one into the other.
struct Answer<'a, F> {
    inner: &'a Inner,
    call: AsyncCall<'a>,
    /// `None` once it was used.
    read: Option<F>,
}

impl<T, F> Future for Answer<'_, F>
where
    F: FnOnce(&Inner, Outcome) -> Result<T, BackendError> + Unpin,
{
    type Output = Result<T, BackendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Poll::Ready(outcome) = Pin::new(&mut this.call).poll(context) else { return Poll::Pending };
        // A call that is polled after its end answers an error, so `read` is there whenever there is an outcome to read.
        let answer = outcome.and_then(|outcome| match this.read.take() {
            Some(read) => read(this.inner, outcome),
            None => Err(BackendError::new(Kind::Internal, Operation::Get, "polled after it was ready")),
        });
        Poll::Ready(answer.map_err(|error| this.inner.judge(error)))
    }
}

fn found(_: &Inner, outcome: Outcome) -> Result<Option<Bytes>, BackendError> {
    Ok((outcome.status == CK_OK).then_some(outcome.bytes))
}

/// A store that could not keep a value has to say why; "no" is no answer to a set.
fn stored(status: i32) -> Result<(), BackendError> {
    if status == CK_OK {
        return Ok(());
    }
    Err(BackendError::new(Kind::Internal, Operation::Set, "the plugin answered no to a set"))
}

fn yes(_: &Inner, outcome: Outcome) -> Result<bool, BackendError> {
    Ok(outcome.status == CK_OK)
}

impl Backend for Instance {
    fn limits(&self) -> Limits {
        self.inner.limits
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.call(Request::new(Operation::Get, abi::CK_OP_GET, key.as_bytes(), cx), cx, found)
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        let request = Request::new(Operation::Set, abi::CK_OP_SET, key.as_bytes(), cx);
        self.call(request.value(value).ttl_ms(raw::ttl_ms(ttl)), cx, |_, outcome| stored(outcome.status))
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.call(Request::new(Operation::Delete, abi::CK_OP_DELETE, key.as_bytes(), cx), cx, yes)
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.call(Request::new(Operation::Exists, abi::CK_OP_EXISTS, key.as_bytes(), cx), cx, yes)
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.call(Request::new(Operation::Health, abi::CK_OP_HEALTH, &[], cx), cx, |inner, outcome| {
            let health: Health = serde_json::from_slice(&outcome.bytes).map_err(|error| {
                BackendError::new(Kind::Corrupt, Operation::Health, "the plugin's health report is no report")
                    .with_source(error)
            })?;
            let identity = &inner.library.identity;
            Ok(health
                .with_detail("plugin", format!("{} {}", identity.id, identity.version))
                .with_detail("panics", inner.panics.load(Ordering::Relaxed)))
        })
    }

    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.call(Request::new(Operation::Close, abi::CK_OP_CLOSE, &[], cx), cx, |_, _| Ok(()))
    }

    fn batch(&self) -> Option<&dyn Batch> {
        self.inner.tables.batch.map(|_| self as &dyn Batch)
    }

    fn ttl(&self) -> Option<&dyn Expiry> {
        self.inner.tables.ttl.map(|_| self as &dyn Expiry)
    }

    fn locks(&self) -> Option<&dyn Locks> {
        self.inner.tables.lock.map(|_| self as &dyn Locks)
    }

    fn cas(&self) -> Option<&dyn Cas> {
        self.inner.tables.cas.map(|_| self as &dyn Cas)
    }

    fn scan(&self) -> Option<&dyn Scan> {
        self.inner.tables.scan.map(|_| self as &dyn Scan)
    }

    fn clear(&self) -> Option<&dyn Clear> {
        self.inner.tables.clear.map(|_| self as &dyn Clear)
    }

    fn watch(&self) -> Option<&dyn Watch> {
        self.inner.tables.watch.map(|_| self as &dyn Watch)
    }

    fn freshness(&self) -> Option<&dyn Freshness> {
        self.inner.tables.freshness.map(|_| self as &dyn Freshness)
    }
}

impl Batch for Instance {
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>> {
        let items = Items::batch(keys.iter().map(|key| (key.as_bytes(), None)));
        let request = Request::new(Operation::GetMany, abi::CK_OP_GET_MANY, &[], cx).items(items);
        self.call(request, cx, |inner, outcome| {
            let answers = outcome.items.answers(Operation::Get, inner.max_value_read(), |status, bytes| {
                Ok((status == CK_OK).then_some(bytes))
            });
            Ok(inner.judge_each(answers))
        })
    }

    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>> {
        let items = Items::batch(
            items.iter().map(|item| (item.key.as_bytes(), Some((item.value.clone(), raw::ttl_ms(item.ttl))))),
        );
        let request = Request::new(Operation::SetMany, abi::CK_OP_SET_MANY, &[], cx).items(items);
        self.call(request, cx, |inner, outcome| {
            let answers = outcome.items.answers(Operation::Set, u64::MAX, |status, _| stored(status));
            Ok(inner.judge_each(answers))
        })
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>> {
        let items = Items::batch(keys.iter().map(|key| (key.as_bytes(), None)));
        let request = Request::new(Operation::DeleteMany, abi::CK_OP_DELETE_MANY, &[], cx).items(items);
        self.call(request, cx, |inner, outcome| {
            let answers = outcome.items.answers(Operation::Delete, u64::MAX, |status, _| Ok(status == CK_OK));
            Ok(inner.judge_each(answers))
        })
    }
}

impl Expiry for Instance {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        self.call(Request::new(Operation::Ttl, abi::CK_OP_TTL, key.as_bytes(), cx), cx, |_, outcome| {
            Ok((outcome.status == CK_OK).then(|| raw::ttl_of(outcome.num)))
        })
    }

    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        let request = Request::new(Operation::Touch, abi::CK_OP_TOUCH, key.as_bytes(), cx);
        self.call(request.ttl_ms(raw::ttl_ms(ttl)), cx, yes)
    }
}

impl Locks for Instance {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        let request = Request::new(Operation::Lock, abi::CK_OP_LOCK, key.as_bytes(), cx);
        self.call(request.aux(token).ttl_ms(hold_ms.max(1)), cx, yes)
    }

    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        let request = Request::new(Operation::Unlock, abi::CK_OP_UNLOCK, key.as_bytes(), cx);
        self.call(request.aux(token), cx, yes)
    }
}

impl Cas for Instance {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        let request = Request::new(Operation::GetVersion, abi::CK_OP_GET_VERSION, key.as_bytes(), cx);
        self.call(request, cx, |_, outcome| Ok((outcome.status == CK_OK).then_some((outcome.bytes, outcome.version))))
    }

    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool> {
        let request = Request::new(Operation::SetIf, abi::CK_OP_SET_IF, key.as_bytes(), cx);
        self.call(request.value(value).ttl_ms(raw::ttl_ms(ttl)).expect(expect), cx, yes)
    }
}

impl Scan for Instance {
    fn next<'a>(&'a self, prefix: &'a [u8], cursor: Option<&'a [u8]>, max: usize, cx: &'a Cx<'a>) -> Fut<'a, Page> {
        let request = Request::new(Operation::Scan, abi::CK_OP_SCAN, prefix, cx);
        let request = request.aux(cursor.unwrap_or_default()).items(Items::room(max));
        self.call(request, cx, move |inner, outcome| {
            let len = usize::try_from(outcome.num).ok().filter(|len| *len <= max).ok_or_else(|| {
                BackendError::new(Kind::Corrupt, Operation::Scan, "the plugin claims a page longer than its room")
            })?;
            let longest = u64::from(inner.limits.max_key).max(MAX_TEXT_BYTES);
            let items = outcome.items.answers(Operation::Scan, longest, |_, bytes| Ok(bytes));
            Ok(Page {
                items: items.into_iter().take(len).collect::<Result<_, _>>()?,
                next: (!outcome.bytes.is_empty()).then_some(outcome.bytes),
            })
        })
    }

    fn read<'a>(&'a self, id: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.call(Request::new(Operation::Read, abi::CK_OP_READ, id, cx), cx, found)
    }
}

impl Clear for Instance {
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64> {
        self.call(Request::new(Operation::Clear, abi::CK_OP_CLEAR, prefix, cx), cx, |_, outcome| Ok(outcome.num))
    }
}

impl Watch for Instance {
    fn watch<'a>(&'a self, prefix: &'a [u8], sink: Arc<dyn WatchSink>, cx: &'a Cx<'a>) -> Fut<'a, WatchGuard> {
        let registration = self.inner.services.register(sink);
        let number = registration.number;
        let request = Request::new(Operation::Watch, abi::CK_OP_WATCH, prefix, cx).num(number);
        let inner = Arc::clone(&self.inner);
        let begun = self.call(request, cx, move |_, outcome| match outcome.status {
            CK_OK => Ok(Begun { number, inner }),
            _ => Err(BackendError::new(Kind::Internal, Operation::Watch, "the plugin answered no to a watch")),
        });
        // The registration stays with the caller: a blocking call runs to its end on its thread when the caller has gone, and
        // must not tell it anything until then.
        Box::pin(async move { Ok(WatchGuard::new(Watching { _registration: registration, _begun: begun.await? })) })
    }
}

/// A watch that the plugin has begun, and whose events are taken.
///
/// Dropped in this order: first the end on this side, so that whatever the plugin does, nothing is told any more.
struct Watching {
    _registration: Registration,
    _begun: Begun,
}

/// A watch that the plugin has begun.
struct Begun {
    number: u64,
    inner: Arc<Inner>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(table) = self.inner.tables.watch {
            // SAFETY: the instance is alive as long as `inner`; the table was checked.
            unsafe { (table.unwatch)(self.inner.ptr.0, self.number) };
        }
    }
}

impl Freshness for Instance {
    fn get_dated<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Dated>> {
        let request = Request::new(Operation::GetDated, abi::CK_OP_GET_DATED, key.as_bytes(), cx);
        self.call(request, cx, |_, outcome| {
            Ok((outcome.status == CK_OK).then(|| Dated {
                value: outcome.bytes,
                stale: outcome.flags & abi::CK_DATED_STALE != 0,
                fresh_for_ms: (outcome.num != abi::CK_FRESH_UNKNOWN).then_some(outcome.num),
            }))
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
        let request = Request::new(Operation::SetStale, abi::CK_OP_SET_STALE, key.as_bytes(), cx);
        let request = request.value(value).ttl_ms(raw::ttl_ms(ttl)).num(stale_ms.get());
        self.call(request, cx, |_, outcome| stored(outcome.status))
    }
}

/// Reads the limits of a new instance.
pub(crate) fn limits_of(tables: &Tables, ptr: InstancePtr) -> Result<Limits, String> {
    let mut out = CkLimits {
        struct_size: size_of::<CkLimits>() as u32,
        max_key: 0,
        key_bytes: 0,
        enumerates: 0,
        deadline_hint_ms: 0,
        reserved: 0,
        max_value: 0,
        ttl_step_ms: 0,
        ttl_max_ms: 0,
    };
    // SAFETY: the instance is alive, and `out` is ours.
    let status = unsafe { (tables.backend.limits)(ptr.0, &mut out) };
    if status != CK_OK {
        return Err(format!("`limits` answered {status}"));
    }
    if out.max_key == 0 || out.max_value == 0 || out.ttl_max_ms == 0 {
        return Err("`limits` leaves no room for keys, values or lives".into());
    }
    let key_bytes = match out.key_bytes {
        abi::CK_KEYS_ANY => KeyBytes::Any,
        // An alphabet of a later version is narrower than any byte; printable is what every store takes.
        _ => KeyBytes::Printable,
    };
    let enumerates = match out.enumerates {
        abi::CK_ENUM_KEYS => Enumerates::Keys,
        abi::CK_ENUM_IDS => Enumerates::Ids,
        _ => Enumerates::No,
    };
    Ok(Limits::new(out.max_key, out.max_value)
        .with_key_bytes(key_bytes)
        .with_ttl_step_ms(out.ttl_step_ms)
        .with_ttl_max_ms(out.ttl_max_ms)
        .with_enumerates(enumerates)
        .with_deadline_hint_ms(out.deadline_hint_ms))
}
