//! The conformance table on the linked crate, over both APIs of an independent server.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cachekit_conformance::{Harness, Opened, Patience, run_all_with};
use cachekit_http::HttpBackend;
use cachekit_plugin::Open;
use serde_json::Value as Json;
use tokio::runtime::{Builder, Runtime};

use crate::linked;
use crate::peer::{self, Peer};

/// One API of the peer.
struct Api {
    peer: Peer,
    options: fn(u16, &str) -> Json,
    apart: AtomicU32,
    runtime: Runtime,
}

impl Api {
    fn start(options: fn(u16, &str) -> Json) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { peer: Peer::start(), options, apart: AtomicU32::new(0), runtime }
    }

    fn open_json(&self, json: &[u8]) -> Opened {
        linked::open(json, peer::secrets(), self.runtime.handle())
    }
}

impl Harness for Api {
    fn open(&self) -> Opened {
        self.open_json((self.options)(self.peer.port, "shared").to_string().as_bytes())
    }

    fn open_isolated(&self) -> Option<Opened> {
        let space = format!("apart-{}", self.apart.fetch_add(1, Ordering::Relaxed));
        Some(self.open_json((self.options)(self.peer.port, &space).to_string().as_bytes()))
    }

    fn open_unreachable(&self) -> Option<Opened> {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Some(self.open_json((self.options)(nobody, "nowhere").to_string().as_bytes()))
    }

    fn open_with_options(&self, json: &[u8]) -> Option<Opened> {
        Some(self.open_json(json))
    }

    fn options_schema(&self) -> Option<Json> {
        Some(HttpBackend::schema())
    }
}

fn all_pass(name: &str, options: fn(u16, &str) -> Json) {
    let harness: Arc<dyn Harness> = Arc::new(Api::start(options));
    // A thousand deletions are a thousand exchanges with a Python process.
    let patience = Patience { operation: Duration::from_secs(60), case: Some(Duration::from_secs(600)) };
    let report = run_all_with(&harness, patience, |_| true);
    let not_asked: Vec<&str> =
        report.cases.iter().filter(|case| case.skipped_because.is_some()).map(|case| &*case.name).collect();
    println!("{name}: {} passed, {} failed; not asked: {not_asked:?}", report.passed, report.failed);
    assert!(report.is_ok(), "{name}\n{report}");
}

#[test]
fn the_table_holds_over_an_api_like_cloudflares() {
    all_pass("linked, like Cloudflare", peer::cloudflare);
}

#[test]
fn the_table_holds_over_an_api_of_somebodys_own() {
    all_pass("linked, of somebody's own", peer::house);
}
