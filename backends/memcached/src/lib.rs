// Not `forbid`: the line that exports the library names its symbol, which counts as unsafe.
#![deny(unsafe_code)]
//! The Memcached backend: several servers that know nothing of each other, placed as the other members of the cachekit
//! family place them, so that a Rust service and a Python service find each other's entries.
//!
//! What it protects: a caller never gets another caller's answer. Many requests are under way on one connection at once;
//! every one carries a token that its answer must repeat, every value comes back with its key, and a connection whose
//! answers do not fit the questions is dropped with all that stood on it. Lengths are checked before memory is taken.
//!
//! Read in this order: `config` (options), `placement` and `keys` (where an entry lives and under what name), `command` and
//! `reply` (the bytes of the meta protocol), `connection` (many requests in flight on one socket), `server` and `standing`
//! (connections of one server, and when it counts as failing or dead), `client` (one request from key to answer), `batch`,
//! `cas`, `locks`, `backend` (the traits of the contract).
//!
//! From the crate `memcache` come the encoder and the parser of the meta protocol and its `Router`; its own client opens
//! TCP only, has one exchange under way per connection and trusts announced lengths, so the connections are ours.
//!
//! ```
//! use cachekit_backend_memcached::{MemcachedBackend, MemcachedConfig};
//! use cachekit_plugin::{Backend, HostServices, Open};
//! // Nothing is connected yet: a program starts while its cache is away.
//! let backend = MemcachedBackend::open(MemcachedConfig::new(["127.0.0.1:11211"]), HostServices::none())?;
//! assert_eq!(backend.limits().max_key, 250);
//! # Ok::<(), cachekit_plugin::BackendError>(())
//! ```

mod backend;
mod batch;
mod cas;
mod client;
mod command;
mod config;
mod connection;
mod driver;
mod error;
mod greeting;
mod inbox;
mod keys;
mod life;
mod locks;
mod outbox;
mod placement;
mod reply;
mod runtime;
mod server;
mod socket;
mod standing;
mod unsettled;

pub use backend::MemcachedBackend;
pub use config::MemcachedConfig;
pub use placement::{Rendezvous, murmur3_x86_32};

cachekit_plugin::export_backend! {
    id: "cachekit.memcached",
    backend: MemcachedBackend,
    powers: [batch, ttl, lock, cas],
}
