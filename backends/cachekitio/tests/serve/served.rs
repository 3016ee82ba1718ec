//! A `cachekit serve` of the test's own over real TLS, and the ways to it.

use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use cachekit_backend_cachekitio::CachekitIoBackend;
use cachekit_conformance::{Harness, Memory, Opened};
use cachekit_plugin::open::Services;
use cachekit_plugin::{
    Backend, BackendError, Bytes, Cx, Dated, Expiry, Freshness, Fut, Health, HostServices, Key, Limits, Locks,
    LogLevel, Open, Ttl,
};
use cachekit_serve::{Bounds, KeyRule, Server};
use cachekit_test_servers::certificates::Authority;
use serde_json::{Value as Json, json};
use tokio::runtime::{Handle, Runtime};

/// Stores that nobody else uses.
const TENANTS: usize = 64;

fn api_key(tenant: usize) -> String {
    format!("ck_test_0123456789abcdef-{tenant}")
}

/// Resolves every reference to itself.
struct Secrets;

impl Services for Secrets {
    fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
    fn secret(&self, reference: &str) -> Result<String, String> {
        Ok(reference.to_owned())
    }
}

/// A server, and the ways to it.
pub(crate) struct Served {
    pub(crate) runtime: Runtime,
    authority: Authority,
    pub(crate) port: u16,
    next: AtomicUsize,
    _server: Server,
}

impl Served {
    pub(crate) fn start(rule: KeyRule) -> Self {
        Self::start_over(Arc::new(Memory::default()), Bounds::default(), rule)
    }

    /// Over a store of the test's.
    pub(crate) fn start_over(store: Arc<dyn Backend>, bounds: Bounds, rule: KeyRule) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let authority = Authority::new();
        let identity = authority.server(&["127.0.0.1"]);
        let read = |path| std::fs::read(path).unwrap();
        let mut builder = Server::builder(store).bounds(bounds);
        for tenant in 0..TENANTS {
            builder = builder.api_key(format!("tenant-{tenant}"), api_key(tenant));
        }
        let builder = builder.tls(read(identity.cert()), read(identity.key())).key_rule(rule);
        let server = runtime.block_on(builder.bind(([127, 0, 0, 1], 0).into()).start()).unwrap();
        let port = server.addr().port();
        Self { runtime, authority, port, next: AtomicUsize::new(1), _server: server }
    }

    fn options(&self, tenant: usize) -> Json {
        self.options_at(self.port, tenant)
    }

    /// The same server behind another port.
    fn options_at(&self, port: u16, tenant: usize) -> Json {
        json!({
            "url": format!("cachekitio://127.0.0.1:{port}"),
            "api_key": { "$secret": api_key(tenant) },
            "ca_file": self.authority.ca(),
            "allow_private_host": true,
            // Below what the store behind the server takes.
            "max_value": 4 << 20,
        })
    }

    /// Opens the shared store behind another port.
    pub(crate) fn open_at(&self, port: u16) -> Opened {
        self.open_json(self.options_at(port, 0).to_string().as_bytes())
    }

    /// Opens the shared store with this much time for one exchange, seconds.
    pub(crate) fn open_patient(&self, timeout: f64) -> Opened {
        let mut options = self.options(0);
        options["timeout"] = json!(timeout);
        self.open_json(options.to_string().as_bytes())
    }

    fn open_json(&self, json: &[u8]) -> Opened {
        let backend = CachekitIoBackend::open_json(json, HostServices::new(Arc::new(Secrets)))?;
        Ok(Arc::new(OnRuntime { backend, runtime: self.runtime.handle().clone() }))
    }
}

impl Harness for Served {
    fn open(&self) -> Opened {
        self.open_json(self.options(0).to_string().as_bytes())
    }

    fn open_isolated(&self) -> Option<Opened> {
        let tenant = self.next.fetch_add(1, Ordering::Relaxed);
        (tenant < TENANTS).then(|| self.open_json(self.options(tenant).to_string().as_bytes()))
    }

    fn open_unreachable(&self) -> Option<Opened> {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Some(self.open_at(nobody))
    }

    fn open_with_options(&self, json: &[u8]) -> Option<Opened> {
        Some(self.open_json(json))
    }

    fn options_schema(&self) -> Option<Json> {
        Some(CachekitIoBackend::schema())
    }
}

/// The backend as a linked program calls it: from tasks of a runtime. The kit has none.
struct OnRuntime {
    backend: CachekitIoBackend,
    runtime: Handle,
}

struct Entered<'a, T>(Fut<'a, T>, &'a Handle);

impl<T> Future for Entered<'_, T> {
    type Output = Result<T, BackendError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let _entered = self.1.enter();
        self.0.as_mut().poll(context)
    }
}

impl OnRuntime {
    fn entered<'a, T: 'a>(&'a self, work: Fut<'a, T>) -> Fut<'a, T> {
        Box::pin(Entered(work, &self.runtime))
    }
}

impl Backend for OnRuntime {
    fn limits(&self) -> Limits {
        self.backend.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.entered(self.backend.get(key, cx))
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.entered(self.backend.set(key, value, ttl, cx))
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.entered(self.backend.delete(key, cx))
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.entered(self.backend.exists(key, cx))
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.entered(self.backend.health(cx))
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.entered(self.backend.close(cx))
    }
    fn ttl(&self) -> Option<&dyn Expiry> {
        Some(self)
    }
    fn locks(&self) -> Option<&dyn Locks> {
        Some(self)
    }
    fn freshness(&self) -> Option<&dyn Freshness> {
        Some(self)
    }
}

impl Expiry for OnRuntime {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        self.entered(Expiry::ttl(&self.backend, key, cx))
    }
    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.entered(self.backend.touch(key, ttl, cx))
    }
}

impl Locks for OnRuntime {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.entered(self.backend.lock(key, token, hold_ms, cx))
    }
    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.entered(self.backend.unlock(key, token, cx))
    }
}

impl Freshness for OnRuntime {
    fn get_dated<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Dated>> {
        self.entered(self.backend.get_dated(key, cx))
    }
    fn set_stale<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        stale_ms: NonZeroU64,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, ()> {
        self.entered(self.backend.set_stale(key, value, ttl, stale_ms, cx))
    }
}
