//! Which tokio runtime carries sockets and timers.
//!
//! The caller's, if it has one: connections opened there are cheapest to use from there. A program without a runtime gets
//! a small one of our own, so that a linked backend does not panic where a loaded one would have worked.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::Timeout;

use crate::error::Trouble;

/// Enters a runtime if there is none yet.
fn enter() -> Result<Option<EnterGuard<'static>>, Trouble> {
    static OWN: OnceLock<Option<Runtime>> = OnceLock::new();
    if Handle::try_current().is_ok() {
        return Ok(None);
    }
    let own = OWN.get_or_init(|| {
        Builder::new_multi_thread().worker_threads(1).thread_name("ck-redis").enable_all().build().ok()
    });
    own.as_ref().map(|own| Some(own.enter())).ok_or(Trouble::Ended("the system gives no thread for a runtime"))
}

/// Work of somebody else's that may look for a runtime whenever it moves.
pub(crate) async fn entered<F: Future + Unpin>(mut work: F) -> Result<F::Output, Trouble> {
    std::future::poll_fn(move |cx| {
        let _runtime = match enter() {
            Ok(runtime) => runtime,
            Err(trouble) => return Poll::Ready(Err(trouble)),
        };
        Pin::new(&mut work).poll(cx).map(Ok)
    })
    .await
}

/// Runs `work` beside the caller.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Result<JoinHandle<()>, Trouble> {
    let _runtime = enter()?;
    Ok(tokio::spawn(work))
}

/// Waits for `work`, but not longer than `limit`.
pub(crate) fn timeout<F: Future>(limit: Duration, work: F) -> Result<Timeout<F>, Trouble> {
    let _runtime = enter()?;
    Ok(tokio::time::timeout(limit, work))
}
