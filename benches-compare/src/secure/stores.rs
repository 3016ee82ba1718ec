//! The store in memory, once for each: a map behind a lock, with a copy for every reader.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{Backend, Clear, Cx, Fut, Health, Key, Limits, Ttl, ready};

/// Behind our cache.
#[derive(Default)]
pub(super) struct Ours(Mutex<HashMap<Vec<u8>, Bytes>>);

impl Ours {
    fn entries(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Ours {
    fn limits(&self) -> Limits {
        Limits::new(1024, 64 << 20)
    }

    fn get<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move { Ok(self.entries().get(key.as_bytes()).map(|stored| Bytes::copy_from_slice(stored))) })
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, _: Ttl, _: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.entries().insert(key.as_bytes().to_vec(), value);
            Ok(())
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move { Ok(self.entries().remove(key.as_bytes()).is_some()) })
    }

    fn exists<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move { Ok(self.entries().contains_key(key.as_bytes())) })
    }

    // As most stores can. One that cannot has its namespaces cleared by an epoch, which a cache without L1 reads with every
    // value.
    fn clear(&self) -> Option<&dyn Clear> {
        Some(self)
    }

    fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
        ready(Ok(Health::up("memory", Duration::ZERO)))
    }

    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(Ok(()))
    }
}

impl Clear for Ours {
    fn clear<'a>(&'a self, prefix: &'a [u8], _: &'a Cx<'a>) -> Fut<'a, u64> {
        Box::pin(async move {
            let mut entries = self.entries();
            let before = entries.len();
            entries.retain(|key, _| !key.starts_with(prefix));
            Ok((before - entries.len()) as u64)
        })
    }
}

/// Behind the peer.
#[derive(Default)]
pub(super) struct Peers(Mutex<HashMap<String, Vec<u8>>>);

impl Peers {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Answer<'a, T> =
    std::pin::Pin<Box<dyn std::future::Future<Output = Result<T, cachekit_rs::BackendError>> + Send + 'a>>;

impl cachekit_rs::backend::Backend for Peers {
    fn get<'a, 'b, 'c>(&'a self, key: &'b str) -> Answer<'c, Option<Vec<u8>>>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async move { Ok(self.entries().get(key).cloned()) })
    }

    fn set<'a, 'b, 'c>(&'a self, key: &'b str, value: Vec<u8>, _: Option<Duration>) -> Answer<'c, ()>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async move {
            self.entries().insert(key.to_owned(), value);
            Ok(())
        })
    }

    fn delete<'a, 'b, 'c>(&'a self, key: &'b str) -> Answer<'c, bool>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async move { Ok(self.entries().remove(key).is_some()) })
    }

    fn exists<'a, 'b, 'c>(&'a self, key: &'b str) -> Answer<'c, bool>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async move { Ok(self.entries().contains_key(key)) })
    }

    fn health<'a, 'c>(&'a self) -> Answer<'c, cachekit_rs::backend::HealthStatus>
    where
        'a: 'c,
    {
        Box::pin(async {
            Ok(cachekit_rs::backend::HealthStatus {
                is_healthy: true,
                latency_ms: 0.0,
                backend_type: "memory".into(),
                details: HashMap::new(),
            })
        })
    }
}
