//! How long exchanges with the second tier and loads take, told to whatever recorder the program has installed.
//!
//! Told at once and not collected, because a distribution cannot be pulled from a counter. Nothing here is on the way of an
//! L1 hit.

use std::time::Instant;

use cachekit_plugin::Operation;

/// Runs from its making until it is told what it measured.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// An exchange with the second tier has ended, its retries and its waiting for a place included.
    pub(crate) fn exchange(&self, operation: Operation, succeeded: bool) {
        let outcome = outcome(succeeded);
        let labels = [("operation", operation.as_str()), ("outcome", outcome)];
        metrics::histogram!(super::L2_SECONDS, &labels).record(self.0.elapsed());
    }

    /// A loader has ended.
    pub(crate) fn load(&self, succeeded: bool) {
        metrics::histogram!(super::LOAD_SECONDS, "outcome" => outcome(succeeded)).record(self.0.elapsed());
    }
}

fn outcome(succeeded: bool) -> &'static str {
    if succeeded { "ok" } else { "error" }
}
