//! The other form an asynchronous border could have: the plugin runs each operation on threads of its own and tells the
//! caller when it is done.
//!
//! This is its cost without any border: the same backend, driven by a runtime of its own, one hand-over there and one back.
//! Whatever a table of completions would add comes on top. See `docs/decisions/0002-poll-style-async.md`.

use std::sync::Arc;

use bytes::Bytes;
use cachekit_plugin::{Backend, BackendError, Cx, Fut, Health, Key, Kind, Limits, Operation, Ttl};
use tokio::runtime::Runtime;

/// A backend whose operations run elsewhere.
pub(super) struct Completion<B> {
    backend: Arc<B>,
    // Ended in the background: a runtime must not be dropped inside another.
    runtime: Option<Runtime>,
}

impl<B: Backend> Completion<B> {
    pub(super) fn new(backend: Arc<B>) -> std::io::Result<Self> {
        // One worker, as a plugin has by default.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { backend, runtime: Some(runtime) })
    }

    fn elsewhere<'a, T: Send + 'static>(
        &'a self,
        operation: Operation,
        work: impl Future<Output = Result<T, BackendError>> + Send + 'static,
    ) -> Fut<'a, T> {
        let Some(runtime) = &self.runtime else {
            return cachekit_plugin::ready(Err(BackendError::new(Kind::Internal, operation, "it has ended")));
        };
        let task = runtime.spawn(work);
        Box::pin(async move {
            task.await.unwrap_or_else(|error| Err(BackendError::new(Kind::Panic, operation, error.to_string())))
        })
    }
}

impl<B> Drop for Completion<B> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl<B: Backend> Backend for Completion<B> {
    fn limits(&self) -> Limits {
        self.backend.limits()
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        let (backend, key, cx) =
            (Arc::clone(&self.backend), Bytes::copy_from_slice(key.as_bytes()), Cx::new(cx.deadline));
        self.elsewhere(Operation::Get, async move { backend.get(Key::from_wire(&key), &cx).await })
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        let (backend, key, cx) =
            (Arc::clone(&self.backend), Bytes::copy_from_slice(key.as_bytes()), Cx::new(cx.deadline));
        self.elsewhere(Operation::Set, async move { backend.set(Key::from_wire(&key), value, ttl, &cx).await })
    }

    fn delete<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        cachekit_plugin::ready(Err(BackendError::unsupported(Operation::Delete)))
    }

    fn exists<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        cachekit_plugin::ready(Err(BackendError::unsupported(Operation::Exists)))
    }

    fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
        cachekit_plugin::ready(Err(BackendError::unsupported(Operation::Health)))
    }

    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        cachekit_plugin::ready(Ok(()))
    }
}
