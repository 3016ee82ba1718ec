//! A table on a running moto, and the ways to it.
#![allow(dead_code, reason = "each test binary uses some of it")]

pub mod rewriter;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cachekit_conformance::{Harness, Opened};
use cachekit_dynamodb::DynamoDbBackend;
use cachekit_plugin::open::Services;
use cachekit_plugin::{Backend, BackendError, Bytes, Cx, HostServices, Key, LogLevel, Open, Ttl};
use cachekit_test_servers::moto;
use serde_json::{Value as Json, json};

/// A host that resolves every secret reference to a word.
pub fn secrets() -> HostServices {
    struct Test;
    impl Services for Test {
        fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
        fn secret(&self, _: &str) -> Result<String, String> {
            Ok("test".into())
        }
    }
    HostServices::new(Arc::new(Test))
}

/// Options that lead to a table that nobody else has, made on first use.
pub fn options(url: &str) -> Json {
    static TABLES: AtomicU32 = AtomicU32::new(0);
    let table = format!("table-{}-{}", std::process::id(), TABLES.fetch_add(1, Ordering::Relaxed));
    json!({
        "table": table,
        "endpoint_url": url,
        "region": "us-east-1",
        "access_key_id": { "$secret": "env:TEST_KEY_ID" },
        "secret_access_key": { "$secret": "env:TEST_KEY" },
        "create_table": true,
        // moto counts a value as the base64 of it.
        "max_value": 300_000,
        // A Python process answers, on a machine that does other things as well.
        "timeout": 10.0,
    })
}

/// `options` with others over them.
pub fn with(options: &Json, more: &Json) -> Json {
    let mut options = options.clone();
    for (name, value) in more.as_object().unwrap() {
        options[name] = value.clone();
    }
    options
}

pub fn open(options: &Json) -> DynamoDbBackend {
    try_open(options).unwrap_or_else(|error| panic!("{options} does not open: {error}"))
}

pub fn try_open(options: &Json) -> Result<DynamoDbBackend, BackendError> {
    DynamoDbBackend::open_json(options.to_string().as_bytes(), secrets())
}

/// Time for an operation that is to succeed, on any machine.
pub fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(30))
}

pub fn key(text: &str) -> Key<'_> {
    Key::from_wire(text.as_bytes())
}

pub fn life(ms: u64) -> Ttl {
    Ttl::from_ms(ms).unwrap()
}

pub async fn set(backend: &DynamoDbBackend, name: &str, value: &'static [u8]) {
    backend.set(key(name), Bytes::from_static(value), Ttl::Never, &cx()).await.unwrap();
}

pub async fn get(backend: &DynamoDbBackend, name: &str) -> Option<Bytes> {
    backend.get(key(name), &cx()).await.unwrap()
}

/// One verb of `peer.py`.
pub fn peer(verb: &str, url: &str, options: &Json, rest: &[&str]) -> Json {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer.py");
    let mut arguments = vec![verb, url, options["table"].as_str().unwrap()];
    arguments.extend(rest);
    moto::python(&script, &arguments)
}

/// Now on this machine's clock, Unix seconds.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// The backend over one table, with secrets.
pub struct Table {
    options: Json,
    unreachable: Json,
}

impl Table {
    pub fn new(options: Json) -> Self {
        let unreachable = with(&options, &json!({ "endpoint_url": "http://127.0.0.1:1", "timeout": 0.2 }));
        Self { options, unreachable }
    }
}

fn native(json: &[u8]) -> Opened {
    DynamoDbBackend::open_json(json, secrets()).map(|backend| Arc::new(backend) as Arc<dyn Backend>)
}

impl Harness for Table {
    fn open(&self) -> Opened {
        native(self.options.to_string().as_bytes())
    }

    fn shares_one_store(&self) -> bool {
        true
    }

    fn open_isolated(&self) -> Option<Opened> {
        let url = self.options["endpoint_url"].as_str()?;
        Some(native(options(url).to_string().as_bytes()))
    }

    fn open_unreachable(&self) -> Option<Opened> {
        Some(native(self.unreachable.to_string().as_bytes()))
    }

    fn open_with_options(&self, json: &[u8]) -> Option<Opened> {
        Some(native(json))
    }

    fn options_schema(&self) -> Option<Json> {
        Some(DynamoDbBackend::schema())
    }
}
