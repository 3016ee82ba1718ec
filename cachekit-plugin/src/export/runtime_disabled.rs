//! The twin of `runtime.rs` for plugins without a tokio runtime.

/// Nothing to enter.
pub(super) struct Guard;

/// Starts nothing.
pub(super) fn start(wanted: bool) {
    debug_assert!(!wanted, "export checks this at compile time");
}

/// Enters nothing; a backend that asks for a runtime cannot be exported without the feature.
pub(super) fn enter(wanted: bool) -> Option<Guard> {
    debug_assert!(!wanted, "export checks this at compile time");
    None
}

/// Whether backends may ask for a runtime.
pub(super) const AVAILABLE: bool = false;
