// Not `forbid`: the line that exports the library names its symbol, which counts as unsafe.
#![deny(unsafe_code)]
//! The Redis backend of cachekit: one server, a cluster or a sentinel group, shared with the other members of the family.
//!
//! What it protects: a caller never gets another caller's reply, whoever leaves early; no call waits for a server that
//! does not answer beyond its deadline; and nothing a server sends can take more memory than a value may have. The
//! client library `redis` speaks the protocol and keeps requests and replies in step. Everything around it is here,
//! because its own pieces end in panics, endless queues or the process's default TLS provider.
//!
//! Read in this order: `config` and `url` (where the server is), `wire` (what a connection may carry), `line` (one
//! connection and its callers), `link` (a connection that comes back), `node` with `unsettled`, `cluster` and `sentinel` (which server),
//! `client` (whichever of them), `command` and `reply` (the words), `backend` (the traits of the contract), and beside it
//! `batch`, `leases`, `scan`, `script` and `watch`.
//!
//! ```
//! use cachekit_backend_redis::{RedisBackend, RedisConfig};
//! use cachekit_plugin::{Backend, HostServices, Open};
//! // Nothing is connected yet: that happens at the first request.
//! let backend = RedisBackend::open(RedisConfig::new("redis://localhost:6379").with_tenant("acme"), HostServices::none())?;
//! assert_eq!(backend.limits().ttl_step_ms, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backend;
mod batch;
mod client;
mod cluster;
mod command;
mod config;
mod endpoint;
mod error;
mod leases;
mod line;
mod link;
mod node;
mod reactor;
mod reply;
mod scan;
mod script;
mod sentinel;
mod tls;
mod unsettled;
mod url;
mod watch;
mod wire;

pub use backend::RedisBackend;
pub use config::RedisConfig;

cachekit_plugin::export_backend! {
    id: "cachekit.redis",
    backend: RedisBackend,
    powers: [batch, ttl, lock, cas, scan, clear, watch],
}
