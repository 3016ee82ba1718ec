//! The table of cases that every cachekit backend passes, run on this one as it is linked.
//! `cachekit plugin test` runs the same cases through the library.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cachekit_conformance::{ByOptions, run_all};
use serde_json::json;

use __CRATE__::MemoryBackend;

#[test]
fn the_backend_conforms() {
    let stores = AtomicU32::new(0);
    let empty =
        move || json!({ "name": format!("empty-{}", stores.fetch_add(1, Ordering::Relaxed)) });
    let harness = ByOptions::<MemoryBackend>::new(json!({ "name": "shared" })).with_isolated(empty);
    let report = run_all(Arc::new(harness), |_| true);
    assert!(report.is_ok(), "{report}");
}
