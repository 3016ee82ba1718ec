//! The example plugin on the SDK of AWS, as a host has it: loaded, in front of moto's DynamoDB.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cachekit_conformance::{Case, Group, Harness, Patience, run_all_with};
use cachekit_e2e::harness::Loaded;
use cachekit_e2e::{Place, artifacts, output, stores};
use cachekit_host::{Plugin, Policy};
use cachekit_test_servers::moto::Moto;
use serde_json::{Value as Json, json};

/// Options that lead to a table of their own.
fn options(url: &str) -> Json {
    static TABLES: AtomicU32 = AtomicU32::new(0);
    json!({
        "table": format!("table-{}", TABLES.fetch_add(1, Ordering::Relaxed)),
        "create_table": true,
        "endpoint_url": url,
        "access_key_id": { "$secret": "env:KEY_ID" },
        "secret_access_key": { "$secret": "env:KEY" },
        "timeout": 10.0,
        // moto counts a value as the base64 of it.
        "max_value": 300_000,
    })
}

/// Through the blocking tables what differs is the way of a call, not the store, so a part of the table is asked again there.
#[test]
fn every_case_passes_through_the_library() {
    let moto = Moto::start();
    // A thousand deletions are a thousand exchanges with a Python process.
    let patience = Patience { operation: Duration::from_secs(60), case: Some(Duration::from_secs(600)) };
    for (form, blocking) in [("loaded", false), ("loaded, blocking", true)] {
        let policy = Policy::default().with_prefer_blocking(blocking);
        let plugin = Plugin::open(artifacts::dynamodb_plugin(), &policy).unwrap();
        let url = moto.url();
        let unreachable = options("http://127.0.0.1:1");
        let harness = Loaded::new(plugin, options(&url), Box::new(move || options(&url)))
            .with_services(stores::secrets())
            .with_unreachable(unreachable);
        let harness: Arc<dyn Harness> = Arc::new(harness);
        let asked = |case: &Case| !blocking || matches!(case.group, Group::Locks | Group::Cas | Group::Faults);
        let report = run_all_with(&harness, patience, asked);
        println!("dynamodb, {form}: {} passed, {} failed", report.passed, report.failed);
        assert!(report.is_ok() && report.passed > 0, "dynamodb, {form}\n{report}");
    }
}

/// A configuration names the file; the program is not rebuilt.
#[test]
fn a_program_caches_in_dynamodb_by_configuration_alone() {
    let (moto, place) = (Moto::start(), Place::new());
    let config = place.path().join("cachekit.toml");
    // The first operation makes the table too, in half a dozen exchanges with a Python process.
    let text = format!(
        "deadline = \"30s\"\n[[tier]]\npath = {:?}\n[tier.options]\ntable = \"http_cache\"\ncreate_table = true\nendpoint_url = {:?}\n\
         timeout = 10.0\naccess_key_id = {{ \"$secret\" = \"env:KEY_ID\" }}\nsecret_access_key = {{ \"$secret\" = \"env:KEY\" }}\n",
        artifacts::dynamodb_plugin().display().to_string(),
        moto.url(),
    );
    std::fs::write(&config, text).unwrap();
    let cachekit = |arguments: &[&str]| {
        let mut command = Command::new(artifacts::program());
        command.arg("--config").arg(&config).args(arguments);
        String::from_utf8(output(command.env("KEY_ID", "test").env("KEY", "test")).stdout).unwrap()
    };
    cachekit(&["set", "greeting", "hello", "--ttl", "10m"]);
    assert_eq!(cachekit(&["get", "greeting"]).trim(), "hello");
    assert!(cachekit(&["keys"]).contains("greeting"));
    cachekit(&["del", "greeting"]);
    assert!(!cachekit(&["keys"]).contains("greeting"));
}

/// A server that says nothing costs a caller its deadline, also across the border.
#[test]
fn a_silent_server_costs_the_deadline_and_no_more() {
    let moto = Moto::start();
    let backend = stores::load(artifacts::dynamodb_plugin(), &options(&moto.url()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let get = |budget| {
        let cx = cachekit_plugin::Cx::within(budget);
        let work = backend.get(cachekit_plugin::Key::from_wire(b"k"), &cx);
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await.expect("it hangs") })
    };
    assert_eq!(get(Duration::from_secs(30)).unwrap(), None);
    moto.stop();
    assert_eq!(get(Duration::from_millis(300)).unwrap_err().kind(), cachekit_plugin::Kind::Timeout);
    moto.cont();
    assert_eq!(get(Duration::from_secs(30)).unwrap(), None);
}
