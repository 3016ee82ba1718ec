//! Starts a server on a free port, with a client that trusts it.

use std::sync::Arc;
use std::time::Duration;

use cachekit_conformance::{Clock as _, ManualClock, Memory, MemoryConfig};
use cachekit_plugin::Backend;
use cachekit_serve::{Bounds, Builder, Server};
use cachekit_test_servers::certificates::{Authority, Identity};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value as Json;

pub(crate) const KEY: &str = "ck_test_0123456789abcdef";
pub(crate) const OTHER_KEY: &str = "ck_test_fedcba9876543210";
pub(crate) const METRICS_KEY: &str = "ck_metrics_0123456789";

/// One clock for the store and for the server.
pub(crate) struct Hands(pub(crate) Arc<ManualClock>);

impl cachekit_serve::Clock for Hands {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.0.now().as_millis() as u64
    }
}

pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) memory: Memory,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) authority: Authority,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    /// With other choices than the usual ones.
    pub(crate) async fn with(change: impl FnOnce(Builder) -> Builder) -> Self {
        let clock = Arc::new(ManualClock::default());
        let memory = Memory::with_clock(MemoryConfig { max_value: 64 << 20, ..MemoryConfig::default() }, clock.clone());
        Self::over(Arc::new(memory.clone()), memory, clock, change).await
    }

    /// Over another store.
    pub(crate) async fn over(
        backend: Arc<dyn Backend>,
        memory: Memory,
        clock: Arc<ManualClock>,
        change: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let authority = Authority::new();
        let identity = authority.server(&["localhost", "127.0.0.1"]);
        let (cert, key) = pem(&identity);
        let builder = Server::builder(backend)
            .api_key("ours", KEY)
            .api_key("others", OTHER_KEY)
            .metrics_key(METRICS_KEY)
            .tls(cert, key)
            .clock(Arc::new(Hands(clock.clone())));
        let server = change(builder).start().await.unwrap();
        let client = client(&authority);
        Self { server, client, memory, clock, authority }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), self.url(path)).bearer_auth(KEY)
    }

    pub(crate) async fn put(&self, key: &str, value: impl Into<reqwest::Body>) -> Response {
        self.request("PUT", &format!("/v1/cache/{key}")).body(value).send().await.unwrap()
    }

    pub(crate) async fn put_for(&self, key: &str, ttl: &str, stale: &str) -> u16 {
        let request = self.request("PUT", &format!("/v1/cache/{key}")).header("X-CacheKit-TTL", ttl).body("value");
        let request = if stale.is_empty() { request } else { request.header("X-CacheKit-Stale-TTL", stale) };
        request.send().await.unwrap().status().as_u16()
    }

    pub(crate) async fn get(&self, key: &str) -> Response {
        self.request("GET", &format!("/v1/cache/{key}")).send().await.unwrap()
    }

    pub(crate) async fn status(&self, method: &str, path: &str) -> u16 {
        self.request(method, path).send().await.unwrap().status().as_u16()
    }

    /// A request in JSON: its status and the answer.
    pub(crate) async fn json(&self, method: &str, path: &str, body: &str) -> (u16, Json) {
        let request = self.request(method, path).header("Content-Type", "application/json").body(body.to_owned());
        read(request.send().await.unwrap()).await
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// The status and the answer as JSON, null if it is none.
pub(crate) async fn read(response: Response) -> (u16, Json) {
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

pub(crate) fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

pub(crate) fn pem(identity: &Identity) -> (Vec<u8>, Vec<u8>) {
    (std::fs::read(identity.cert()).unwrap(), std::fs::read(identity.key()).unwrap())
}

/// A client that trusts this authority alone.
pub(crate) fn client(authority: &Authority) -> Client {
    client_speaking(authority, &[b"h2", b"http/1.1"])
}

pub(crate) fn client_speaking(authority: &Authority, protocols: &[&[u8]]) -> Client {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(Duration::from_secs(60)).build().unwrap()
}

/// Small bounds, so that a test reaches them.
pub(crate) fn small() -> Bounds {
    Bounds { max_value: 1000, max_buffered: 64 << 10, ..Bounds::default() }
}

/// Waits until the server's numbers have a line that begins so. A test that waits in vain fails.
pub(crate) async fn counted(server: &Server, line: &str) {
    let found = async {
        while !server.metrics().lines().any(|found| found.starts_with(line)) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), found).await;
    assert!(waited.is_ok(), "{line} is not in\n{}", server.metrics());
}
