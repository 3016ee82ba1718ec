//! Every backend as its users have it: the library that a host loads, in front of a real store.

use std::any::Any;
use std::sync::Arc;

use cachekit_conformance::Memory;
use cachekit_host::{Plugin, Policy};
use cachekit_plugin::open::Services;
use cachekit_plugin::{Backend, HostServices, LogLevel, Open};
use cachekit_serve::{KeyRule, Server};
use cachekit_test_servers::certificates::Authority;
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::redis::Redis;
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use crate::{Place, artifacts};

/// A loaded backend and what it talks to.
pub struct Store {
    /// Which.
    pub name: &'static str,
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// Ends with the store.
    _behind: Box<dyn Any + Send + Sync>,
}

/// Loads a library and opens an instance.
pub fn load(library: &std::path::Path, options: &Json) -> Arc<dyn Backend> {
    let plugin = Plugin::open(library, &Policy::default()).expect("our own library loads");
    let created = plugin.create(options.to_string().as_bytes(), secrets());
    created.unwrap_or_else(|error| panic!("{options} does not open: {error}"))
}

/// A host that resolves every secret reference to itself.
pub fn secrets() -> HostServices {
    struct Itself;
    impl Services for Itself {
        fn log(&self, _: LogLevel, _: &str, _: &str, _: &[(&str, &str)]) {}
        fn secret(&self, reference: &str) -> Result<String, String> {
            Ok(reference.to_owned())
        }
    }
    HostServices::new(Arc::new(Itself))
}

/// A directory.
pub fn file() -> Store {
    let place = Place::new();
    let backend = load(artifacts::file_plugin(), &json!({ "dir": place.path().join("store") }));
    Store { name: "file", backend, _behind: Box::new(place) }
}

/// A server.
pub fn redis(server: Arc<Redis>) -> Store {
    let backend = load(artifacts::redis_plugin(), &json!({ "url": server.url() }));
    Store { name: "redis", backend, _behind: Box::new(server) }
}

/// Three servers.
pub fn memcached(servers: Arc<[Memcached; 3]>) -> Store {
    let addresses: Vec<String> = servers.iter().map(Memcached::addr).collect();
    let backend = load(artifacts::memcached_plugin(), &json!({ "servers": addresses }));
    Store { name: "memcached", backend, _behind: Box::new(servers) }
}

/// A server of the cachekit.io API, over TLS.
pub fn cachekitio() -> Store {
    let served = Served::start(1, KeyRule::Any);
    let backend = load(artifacts::cachekitio_plugin(), &served.options(0));
    Store { name: "cachekitio", backend, _behind: Box::new(served) }
}

/// A running server of the cachekit.io API in this process, with tenants that share nothing.
pub struct Served {
    authority: Authority,
    port: u16,
    _server: Server,
    _runtime: Runtime,
}

impl Served {
    /// With so many tenants.
    pub fn start(tenants: usize, rule: KeyRule) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("the system has threads");
        let authority = Authority::new();
        let identity = authority.server(&["127.0.0.1"]);
        let read = |path| std::fs::read(path).expect("it was just written");
        // Larger than what the client takes, with what the server puts beside a value.
        let memory = Memory::open_json(br#"{ "max_value": 67108864 }"#, HostServices::none()).expect("it takes this");
        let mut builder = Server::builder(Arc::new(memory)).key_rule(rule);
        for tenant in 0..tenants {
            builder = builder.api_key(format!("tenant-{tenant}"), api_key(tenant));
        }
        let builder = builder.tls(read(identity.cert()), read(identity.key())).bind(([127, 0, 0, 1], 0).into());
        let server = runtime.block_on(builder.start()).expect("the choices can work");
        Self { authority, port: server.addr().port(), _server: server, _runtime: runtime }
    }

    /// What a client of one tenant opens with.
    pub fn options(&self, tenant: usize) -> Json {
        json!({
            "api_url": format!("https://127.0.0.1:{}", self.port),
            "api_key": { "$secret": api_key(tenant) },
            "allow_private_host": true,
            "ca_file": self.authority.ca(),
        })
    }
}

fn api_key(tenant: usize) -> String {
    format!("ck_test_0123456789abcdef-{tenant}")
}
