//! What accompanies one operation: until when it may take, and whose request it belongs to.

use std::time::Duration;

/// An absolute point on `CLOCK_MONOTONIC`, nanoseconds.
///
/// Absolute, so that it survives queues, retries and the plugin border without anybody subtracting; on the monotonic
/// clock of the system, so that it means the same in a plugin that was built by another compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

impl Deadline {
    /// No limit. The engine never sends this; tools may.
    pub const NEVER: Self = Self(u64::MAX);

    /// `budget` from now.
    pub fn after(budget: Duration) -> Self {
        let budget_ns = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        Self(monotonic_ns().saturating_add(budget_ns))
    }

    /// From the form that crosses the border: nanoseconds, `u64::MAX` for no limit.
    pub const fn from_monotonic_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds on `CLOCK_MONOTONIC`, `u64::MAX` for no limit.
    pub const fn as_monotonic_ns(self) -> u64 {
        self.0
    }

    /// Time left: zero once it has passed, `None` when there is no limit.
    pub fn remaining(self) -> Option<Duration> {
        (self != Self::NEVER).then(|| Duration::from_nanos(self.0.saturating_sub(monotonic_ns())))
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }
}

pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // The kernel never reports a negative monotonic time; 2^64 ns are 584 years of uptime.
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// What accompanies one operation.
#[derive(Debug, Clone, Copy)]
pub struct Cx<'a> {
    /// When the caller stops waiting. Covers everything the backend does, retries included.
    pub deadline: Deadline,
    /// W3C `traceparent` of the request, to hand on to the store where its protocol has room for it.
    pub trace: Option<&'a str>,
}

impl Cx<'static> {
    /// Without a trace.
    pub const fn new(deadline: Deadline) -> Self {
        Self { deadline, trace: None }
    }

    /// `budget` from now, without a trace.
    pub fn within(budget: Duration) -> Self {
        Self::new(Deadline::after(budget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_passes_and_never_does_not() {
        assert!(Deadline::from_monotonic_ns(1).has_passed());
        assert!(!Deadline::NEVER.has_passed());
        assert_eq!(Deadline::NEVER.remaining(), None);
        assert!(!Deadline::after(Duration::MAX).has_passed());
        assert!(Deadline::after(Duration::from_secs(60)).remaining() <= Some(Duration::from_secs(60)));
    }
}
