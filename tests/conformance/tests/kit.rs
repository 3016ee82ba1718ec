//! The kit proves itself: what is right passes, and each kind of wrong is caught by name.

use std::sync::Arc;

use cachekit_conformance::{Memory, run_all};

#[test]
fn the_reference_passes_every_case_and_is_asked_each() {
    let report = run_all(Arc::new(Memory::default()), |_| true);
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.not_asked, 0, "{report}");
}
