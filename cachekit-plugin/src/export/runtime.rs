//! The plugin's own tokio runtime.
//!
//! A library has its own copy of tokio's statics, so a host's runtime is invisible to it: a plugin future that touched a
//! socket would panic for want of a reactor. The runtime starts with the first instance that wants one, once per
//! library and process, and is entered around every call that runs the backend's code. Connection tasks live on it. A child
//! made by `fork()` has no threads but its own, so the first instance that is opened there starts another.

use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, EnterGuard, Runtime};

pub(super) type Guard = EnterGuard<'static>;

/// Two threads carry the socket work of a client library; the callers' tasks drive everything else.
const WORKERS: usize = 2;

static RUNTIME: Started = Started::new();

/// The runtime that was started last, and by which process.
struct Started {
    process: Mutex<u32>,
    runtime: AtomicPtr<Runtime>,
}

impl Started {
    const fn new() -> Self {
        // No process has the number 0.
        Self { process: Mutex::new(0), runtime: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Starts one, unless this process has. If the system gives no threads there is none: then the backend's first socket
    /// reports that itself.
    fn start(&self, process: u32) {
        let mut of = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if *of == process {
            return;
        }
        let built = Builder::new_multi_thread().worker_threads(WORKERS).thread_name("ck-plugin").enable_all().build();
        if let Ok(runtime) = built {
            // Never ended: the one of a parent process is not ours to end, and this one serves as long as the library.
            self.runtime.store(Box::into_raw(Box::new(runtime)), Ordering::Release);
            *of = process;
        }
    }

    fn get(&self) -> Option<&'static Runtime> {
        // SAFETY: what stands there came from a box that is never freed, and is only shared.
        unsafe { self.runtime.load(Ordering::Acquire).as_ref() }
    }
}

/// Sees to it that there is a runtime in this process, before an instance is opened that wants one. Not with each call,
/// because to ask for the number of the process is a system call.
pub(super) fn start(wanted: bool) {
    if wanted {
        RUNTIME.start(std::process::id());
    }
}

/// Enters the runtime if the backend wants one.
pub(super) fn enter(wanted: bool) -> Option<Guard> {
    if !wanted {
        return None;
    }
    RUNTIME.get().map(Runtime::enter)
}

/// Whether backends may ask for a runtime.
pub(super) const AVAILABLE: bool = true;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_runtime_and_its_child_another() {
        let started = Started::new();
        assert!(started.get().is_none());
        let mut seen = Vec::new();
        for process in [1, 1, 2] {
            started.start(process);
            seen.push(std::ptr::from_ref(started.get().unwrap()));
        }
        assert!(seen[0] == seen[1] && seen[1] != seen[2]);
        let alive = started.get().unwrap().block_on(async { tokio::spawn(async { 7 }).await.unwrap() });
        assert_eq!(alive, 7);
    }
}
