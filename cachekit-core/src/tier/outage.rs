//! An outage is told once, when it begins, and once when it ends: a log that repeats it with every call hides what else
//! happens, and a cache in front of a server that is not there yet would fill a disk with it.

use std::sync::atomic::{AtomicU8, Ordering};

use cachekit_plugin::{BackendError, Kind};

use crate::guard::stack::Shed;

/// What was told of a store last.
#[derive(Debug, Default)]
pub(super) struct Outage(AtomicU8);

/// Nothing is wrong.
const WELL: u8 = 0;

impl Outage {
    /// Tells of a failure: as a warning if it is news, for those who look closely otherwise.
    pub(super) fn tell(&self, error: &BackendError) {
        let (kind, operation) = (error.kind().as_str(), error.operation().as_str());
        if Shed::is(error) {
            // The store is well, and has enough to do. Counted; under load there are thousands a second.
            tracing::debug!(target: "cachekit", kind, operation, "{error}");
            return;
        }
        match state(error.kind()) {
            // One key or one value: nothing that lasts.
            None => tracing::warn!(target: "cachekit", kind, operation, "{error}"),
            Some(state) if self.0.swap(state, Ordering::Relaxed) != state => {
                tracing::warn!(
                    target: "cachekit", kind, operation,
                    "the second tier fails, and values stay in the process until it answers: {error}"
                );
            }
            Some(_) => tracing::debug!(target: "cachekit", kind, operation, "{error}"),
        }
    }

    /// The store answered.
    pub(super) fn end(&self) {
        // A load first: every answer passes here, and all but a few find nothing to change.
        if self.0.load(Ordering::Relaxed) != WELL && self.0.swap(WELL, Ordering::Relaxed) != WELL {
            tracing::info!(target: "cachekit", "the second tier answers again");
        }
    }
}

/// The states that last, each told on its own: a server that came back with another password is news.
fn state(kind: Kind) -> Option<u8> {
    match kind {
        Kind::Transient | Kind::Timeout | Kind::Throttled => Some(1),
        Kind::Auth => Some(2),
        Kind::Config => Some(3),
        _ => None,
    }
}
