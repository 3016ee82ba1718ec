//! The backend on real memcached servers, behind a network that fails, and before servers that lie.

mod cancel;
mod conformance;
mod faults;
mod hostile;
mod lies;
mod outage;
mod values;
mod vectors;

use std::future::Future;
use std::time::{Duration, Instant};

use cachekit_backend_memcached::{MemcachedBackend, MemcachedConfig};
use cachekit_plugin::{Backend, BackendError, Bytes, Cx, HostServices, Key, Open, Ttl};

fn open(config: MemcachedConfig) -> MemcachedBackend {
    MemcachedBackend::open(config, HostServices::none()).unwrap()
}

/// On one server.
fn on(server: impl Into<String>) -> MemcachedBackend {
    open(MemcachedConfig::new([server]))
}

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(5))
}

fn k(key: &str) -> Key<'_> {
    Key::from_wire(key.as_bytes())
}

async fn get(backend: &MemcachedBackend, key: &str) -> Result<Option<Bytes>, BackendError> {
    backend.get(k(key), &cx()).await
}

async fn set(backend: &MemcachedBackend, key: &str, value: impl Into<Bytes>) -> Result<(), BackendError> {
    backend.set(k(key), value.into(), Ttl::Never, &cx()).await
}

/// Asks until the answer is `Ok`, and says how long that took.
async fn until_ok<T, F: Future<Output = Result<T, BackendError>>>(what: &str, mut ask: impl FnMut() -> F) -> Duration {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(_) => return began.elapsed(),
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{what}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
