//! The runtime that connections and timers of this backend live on.
//!
//! The one the caller is on: in a library that is the plugin's own, linked it is the program's. A program without one (the
//! blocking facade, a tool) gets a single thread of ours, started with its first operation.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, Sleep};

use crate::error::Failure;

fn own() -> Option<&'static Runtime> {
    static OWN: OnceLock<Option<Runtime>> = OnceLock::new();
    let start = || Builder::new_multi_thread().worker_threads(1).thread_name("ck-memcached").enable_all().build().ok();
    OWN.get_or_init(start).as_ref()
}

/// The runtime for a connection that is opened now.
pub(crate) fn current() -> Result<Handle, Failure> {
    match Handle::try_current() {
        Ok(handle) => Ok(handle),
        Err(_) => own().map(|runtime| runtime.handle().clone()).ok_or(Failure::NoRuntime),
    }
}

/// A timer that works on whatever thread the caller polls.
pub(crate) fn sleep_until(then: Instant) -> Result<Sleep, Failure> {
    let _entered = match Handle::try_current() {
        Ok(_) => None,
        Err(_) => Some(own().ok_or(Failure::NoRuntime)?.enter()),
    };
    Ok(tokio::time::sleep_until(then))
}
