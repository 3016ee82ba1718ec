//! A request through `async/1`: started on the first poll, driven by the caller's task, dropped exactly once.

use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cachekit_abi::{CK_PENDING, CkAsyncV1, CkBuf, CkError, CkOp};
use cachekit_plugin::{BackendError, raw};

use crate::instance::Inner;
use crate::request::{Outcome, Request, buffer, empty_out, status};
use crate::waker;

/// The future of one request.
pub(crate) struct AsyncCall<'a> {
    inner: &'a Arc<Inner>,
    driver: &'static CkAsyncV1,
    request: Request<'a>,
    state: State,
}

enum State {
    Unstarted,
    /// With the instance it belongs to: a future that is leaked instead of dropped never ends its operation, and an
    /// instance must not end before its operations.
    Started(*mut c_void, Arc<Inner>),
    Done,
}

// SAFETY: the state of an operation may move between threads as long as one at a time uses it, which `&mut self` gives.
unsafe impl Send for AsyncCall<'_> {}

impl<'a> AsyncCall<'a> {
    pub(crate) fn new(inner: &'a Arc<Inner>, driver: &'static CkAsyncV1, request: Request<'a>) -> Self {
        Self { inner, driver, request, state: State::Unstarted }
    }

    fn start(&mut self) -> Result<*mut c_void, BackendError> {
        let request = &mut self.request;
        // An empty value must not look like no value: the plugin takes what is behind a pointer that is not NULL.
        let mut value = request.value.take().map(raw::give);
        let opt = request.opt();
        let op = CkOp {
            struct_size: size_of::<CkOp>() as u32,
            kind: request.kind,
            key: raw::slice_of(&request.key),
            aux: raw::slice_of(&request.aux),
            val: value.as_mut().map_or(std::ptr::null_mut(), |value: &mut CkBuf| value),
            ttl_ms: request.ttl_ms,
            num: request.num,
            version: request.expect.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
            items: request.items.as_mut_ptr(),
            items_len: request.items.len(),
            opt: &opt,
        };
        let mut err = CkError::EMPTY;
        // SAFETY: the instance is alive as long as `inner`; everything in `op` lives through the call, and the items live
        // on the heap until this future is dropped, which drops the state first.
        let state = unsafe { (self.driver.start)(self.inner.ptr.0, &op, &mut err) };
        if let Some(value) = &mut value {
            // SAFETY: what the plugin did not take is still ours.
            unsafe { raw::discard(value) };
        }
        if !state.is_null() {
            // SAFETY: the error is ours; a text beside a success is dropped.
            unsafe { raw::discard(&mut err.msg) };
            return Ok(state);
        }
        let code = if err.code < 0 { err.code } else { cachekit_abi::CK_E_INTERNAL };
        // SAFETY: the plugin filled the error or left it empty.
        Err(unsafe { status(code, err, self.request.operation) }.err().unwrap_or_else(|| {
            BackendError::new(cachekit_plugin::Kind::Internal, self.request.operation, "the plugin refused to start")
        }))
    }

    fn finish(&mut self) {
        if let State::Started(state, _inner) = std::mem::replace(&mut self.state, State::Done) {
            // SAFETY: `start` gave this state out, and it is dropped here once.
            unsafe { (self.driver.drop_op)(state) };
        }
    }
}

impl Future for AsyncCall<'_> {
    type Output = Result<Outcome, BackendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let operation = this.request.operation;
        let state = match this.state {
            State::Started(state, _) => state,
            State::Unstarted => match this.start() {
                Ok(state) => {
                    this.state = State::Started(state, Arc::clone(this.inner));
                    state
                }
                Err(error) => {
                    this.state = State::Done;
                    return Poll::Ready(Err(error));
                }
            },
            State::Done => {
                let again = BackendError::new(cachekit_plugin::Kind::Internal, operation, "polled after it was ready");
                return Poll::Ready(Err(again));
            }
        };
        let (mut out, mut err) = (empty_out(), CkError::EMPTY);
        let waker = waker::lend(context.waker());
        // SAFETY: the state is alive and used by this call alone; the records are ours.
        let code = unsafe { (this.driver.poll)(state, &waker, &mut out, &mut err) };
        if code == CK_PENDING {
            return Poll::Pending;
        }
        // The answer is read before the state ends, so that a plugin may keep it inside the state until `release`.
        // SAFETY: the plugin filled the records or left them as they were.
        let answer = unsafe {
            let bytes = buffer(&mut out.buf, this.inner.max_bytes(operation), operation);
            status(code, err, operation).and_then(|status| {
                Ok(Outcome {
                    status,
                    bytes: bytes?,
                    flags: out.flags,
                    num: out.num,
                    version: raw::version_of(out.version),
                    items: std::mem::replace(&mut this.request.items, crate::request::Items::none()),
                })
            })
        };
        this.finish();
        Poll::Ready(answer)
    }
}

impl Drop for AsyncCall<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}
