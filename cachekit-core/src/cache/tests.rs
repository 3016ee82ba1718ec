//! The engine on the reference store, with every second of the clock in the test's hands.

mod behind;
mod coherence;
mod dictionaries;
mod failures;
mod fill;
mod flights;
mod freshness;
mod interleave;
mod interop;
mod joining;
mod load;
mod load_many;
mod outage;
mod parts_meet;
mod races;
mod secure;
mod snapshot;
mod tags;
mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cachekit_conformance::{Memory, MemoryConfig};
use cachekit_plugin::{
    Backend, BackendError, Cx, Enumerates, Fut, Health, Key, Kind, Limits, Operation, Scan, Ttl, ready,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};

use super::{Cache, SetOptions};
use crate::builder::CacheBuilder;
use crate::clock::ManualClock;
use crate::error::{Error, LoadError};
use crate::l1::L1Config;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
}

fn ada() -> User {
    User { name: "Ada".into(), age: 36 }
}

struct Bench {
    store: Memory,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        Self { store: Memory::new(MemoryConfig::default()), clock: Arc::new(ManualClock::new()) }
    }

    /// Another process on the same store.
    fn cache(&self) -> Cache {
        self.over(Arc::new(self.store.clone()))
    }

    fn over(&self, backend: Arc<dyn Backend>) -> Cache {
        self.builder(backend).build().unwrap()
    }

    fn strict(&self) -> Cache {
        self.builder(Arc::new(self.store.clone())).strict(true).build().unwrap()
    }

    /// Deaf to changes by others, which would come at their own time; `coherence.rs` listens.
    fn builder(&self, backend: Arc<dyn Backend>) -> CacheBuilder {
        Cache::builder().backend(backend).clock(self.clock.clone()).coherence(false)
    }
}

/// A store whose gets and sets can be held up, to make races happen in a known order.
struct Gated {
    inner: Memory,
    hold_get: Arc<Gate>,
    hold_set: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    closed: std::sync::atomic::AtomicBool,
    arrived: Notify,
    open: Notify,
}

impl Gate {
    async fn pass(&self) {
        if self.closed.swap(false, Ordering::SeqCst) {
            self.arrived.notify_one();
            self.open.notified().await;
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

impl Backend for Gated {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move {
            let found = self.inner.get(key, cx).await;
            self.hold_get.pass().await;
            found
        })
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.hold_set.pass().await;
            self.inner.set(key, value, ttl, cx).await
        })
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.inner.delete(key, cx)
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.inner.exists(key, cx)
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.inner.health(cx)
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.inner.close(cx)
    }
    fn scan(&self) -> Option<&dyn Scan> {
        self.inner.scan()
    }
}

/// A cache over such a store. Its deadline passes in no test, however slow the machine is.
fn gated(bench: &Bench) -> (Cache, Arc<Gate>, Arc<Gate>) {
    gated_until(bench, Duration::from_secs(3600))
}

/// The same for tests that let the deadline pass.
fn gated_until(bench: &Bench, deadline: Duration) -> (Cache, Arc<Gate>, Arc<Gate>) {
    let (hold_get, hold_set) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let store = Gated { inner: bench.store.clone(), hold_get: Arc::clone(&hold_get), hold_set: Arc::clone(&hold_set) };
    let cache = Cache::builder().backend(Arc::new(store)).clock(bench.clock.clone());
    (cache.deadline(deadline).build().unwrap(), hold_get, hold_set)
}

/// A store that lists nothing and clears nothing.
struct Opaque(Memory);

impl Backend for Opaque {
    fn limits(&self) -> Limits {
        self.0.limits().with_enumerates(Enumerates::No)
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.0.get(key, cx)
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.0.set(key, value, ttl, cx)
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.0.delete(key, cx)
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.0.exists(key, cx)
    }
    fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
        ready(Err(BackendError::new(Kind::Auth, Operation::Health, "no")))
    }
    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(Ok(()))
    }
}
