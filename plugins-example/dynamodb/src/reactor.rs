//! Which tokio runtime carries sockets and timers.
//!
//! The caller's, if it has one; in a loaded library that is the library's own. A linked program without one gets a thread of
//! this crate's, begun with the first call.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use cachekit_plugin::{BackendError, Fut, Kind, Operation};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::BACKEND;

/// Polls work inside a runtime, whoever polls.
pub(crate) struct Within<'a, T>(pub(crate) Operation, pub(crate) Fut<'a, T>);

impl<T> Future for Within<'_, T> {
    type Output = Result<T, BackendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let operation = self.0;
        if Handle::try_current().is_ok() {
            return self.1.as_mut().poll(cx);
        }
        let Some(own) = own() else {
            let reason = "the system gives no thread for a runtime";
            return Poll::Ready(Err(BackendError::new(Kind::Internal, operation, reason).on(BACKEND)));
        };
        let _entered = own.enter();
        self.1.as_mut().poll(cx)
    }
}

/// Kept for ever, one per process: a child after `fork()` has none of its parent's threads.
fn own() -> Option<&'static Runtime> {
    static OWN: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if let Some((_, runtime)) = own.filter(|(whose, _)| *whose == process) {
        return Some(runtime);
    }
    let begun = Builder::new_multi_thread().worker_threads(1).thread_name("ck-dynamodb").enable_all().build().ok()?;
    let begun: &'static Runtime = Box::leak(Box::new(begun));
    *own = Some((process, begun));
    Some(begun)
}
