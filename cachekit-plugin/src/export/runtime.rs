//! The plugin's own tokio runtime.
//!
//! A library has its own copy of tokio's statics, so a host's runtime is invisible to it: a plugin future that touched a
//! socket would panic for want of a reactor. The runtime starts with the first instance that wants one, once per
//! library, and is entered around every call that runs the backend's code. Connection tasks live on it.

use std::sync::OnceLock;

use tokio::runtime::{Builder, EnterGuard, Runtime};

pub(super) type Guard = EnterGuard<'static>;

/// Two threads carry the socket work of a client library; the callers' tasks drive everything else.
const WORKERS: usize = 2;

/// Enters the runtime if the backend wants one. `None` if it wants none, or if the system gives no threads: then the
/// backend's first socket reports that itself.
pub(super) fn enter(wanted: bool) -> Option<Guard> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    if !wanted {
        return None;
    }
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread().worker_threads(WORKERS).thread_name("ck-plugin").enable_all().build().ok()
    });
    runtime.as_ref().map(Runtime::enter)
}

/// Whether backends may ask for a runtime.
pub(super) const AVAILABLE: bool = true;
