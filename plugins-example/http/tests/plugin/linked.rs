//! The backend as a program that links the crate has it: with a runtime of the caller's. The conformance kit drives futures
//! without one, so it is entered around every poll, as the SDK does it in a loaded library.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cachekit_conformance::Opened;
use cachekit_http::HttpBackend;
use cachekit_plugin::{Backend, Bytes, Cx, Fut, Health, HostServices, Key, Limits, Open, Ttl};
use serde_json::Value as Json;
use tokio::runtime::Handle;

/// Opens, and enters `runtime` for whatever the instance does.
pub(crate) fn open(json: &[u8], services: HostServices, runtime: &Handle) -> Opened {
    let backend = HttpBackend::open_json(json, services)?;
    Ok(Arc::new(Linked { backend, runtime: runtime.clone() }))
}

/// As [`open`], for options that are right.
pub(crate) fn open_with(options: &Json, services: HostServices) -> HttpBackend {
    HttpBackend::open_json(options.to_string().as_bytes(), services)
        .unwrap_or_else(|error| panic!("{options}: {error}"))
}

struct Linked {
    backend: HttpBackend,
    runtime: Handle,
}

/// A future that finds its runtime whoever polls or drops it.
struct Entered<'a, T> {
    future: Option<Fut<'a, T>>,
    runtime: &'a Handle,
}

impl<T> Future for Entered<'_, T> {
    type Output = Result<T, cachekit_plugin::BackendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let _entered = self.runtime.enter();
        match &mut self.future {
            Some(future) => future.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Entered<'_, T> {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.future = None;
    }
}

impl Linked {
    fn enter<'a, T: 'a>(&'a self, future: Fut<'a, T>) -> Fut<'a, T> {
        Box::pin(Entered { future: Some(future), runtime: &self.runtime })
    }
}

impl Backend for Linked {
    fn limits(&self) -> Limits {
        self.backend.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.enter(self.backend.get(key, cx))
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.enter(self.backend.set(key, value, ttl, cx))
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.enter(self.backend.delete(key, cx))
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.enter(self.backend.exists(key, cx))
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.enter(self.backend.health(cx))
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.enter(self.backend.close(cx))
    }
}
