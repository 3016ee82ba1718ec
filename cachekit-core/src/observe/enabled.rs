//! How long exchanges with the second tier and loads take, told to whatever recorder the program has installed.
//!
//! Told at once and not collected, because a distribution cannot be pulled from a counter. Nothing here is on the way of an
//! L1 hit.

use std::time::Instant;

use cachekit_plugin::{MetricKind, Operation};

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

/// A number that a plugin told. Not pulled, because the plugin's counters are out of reach; its exchanges take longer than this.
pub(crate) fn of_plugin(plugin: &str, kind: MetricKind, name: &str, value: u64) {
    let labels = [("plugin", plugin.to_owned())];
    match kind {
        MetricKind::Counter => metrics::counter!(format!("cachekit_plugin_{name}_total"), &labels).increment(value),
        MetricKind::Gauge => metrics::gauge!(format!("cachekit_plugin_{name}"), &labels).set(value as f64),
    }
}
