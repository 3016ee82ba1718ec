//! A backend for a test, with short words for what tests do.

#![allow(dead_code, reason = "each test file uses what it needs")]

use std::sync::Arc;
use std::time::Duration;

use cachekit_backend_redis::RedisBackend;
use cachekit_plugin::{Backend, BackendError, Bytes, Cx, HostServices, Key, Open, Ttl};
use serde_json::Value;

/// Long enough for a busy machine; no test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn open(options: Value) -> Arc<RedisBackend> {
    try_open(options).unwrap()
}

pub(crate) fn try_open(options: Value) -> Result<Arc<RedisBackend>, BackendError> {
    RedisBackend::open_json(options.to_string().as_bytes(), HostServices::none()).map(Arc::new)
}

pub(crate) async fn get(backend: &RedisBackend, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
    backend.get(Key::from_wire(key), &Cx::within(PATIENCE)).await
}

pub(crate) async fn get_within(
    backend: &RedisBackend,
    key: &[u8],
    budget: Duration,
) -> Result<Option<Bytes>, BackendError> {
    backend.get(Key::from_wire(key), &Cx::within(budget)).await
}

pub(crate) async fn set(backend: &RedisBackend, key: &[u8], value: &[u8]) -> Result<(), BackendError> {
    set_for(backend, key, value, Ttl::Never).await
}

pub(crate) async fn set_for(backend: &RedisBackend, key: &[u8], value: &[u8], ttl: Ttl) -> Result<(), BackendError> {
    backend.set(Key::from_wire(key), Bytes::copy_from_slice(value), ttl, &Cx::within(PATIENCE)).await
}

pub(crate) async fn delete(backend: &RedisBackend, key: &[u8]) -> Result<bool, BackendError> {
    backend.delete(Key::from_wire(key), &Cx::within(PATIENCE)).await
}

/// Asks again and again until the answer is yes; how long that took.
pub(crate) async fn until(what: &str, ask: impl AsyncFnMut() -> bool) -> Duration {
    until_within(PATIENCE, what, ask).await
}

/// As [`until`], for what takes longer.
pub(crate) async fn until_within(limit: Duration, what: &str, mut ask: impl AsyncFnMut() -> bool) -> Duration {
    let begun = std::time::Instant::now();
    while !ask().await {
        assert!(begun.elapsed() < limit, "{what} did not come about within {limit:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}
