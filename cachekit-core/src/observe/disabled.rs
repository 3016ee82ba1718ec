//! The same surface where nobody measures: it compiles to nothing.

use cachekit_plugin::{MetricKind, Operation};

pub(crate) struct Stopwatch;

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self
    }

    pub(crate) fn exchange(&self, _operation: Operation, _succeeded: bool) {}

    pub(crate) fn load(&self, _succeeded: bool) {}
}

pub(crate) fn of_plugin(_plugin: &str, _kind: MetricKind, _name: &str, _value: u64) {}
