// Not `forbid`: the line that exports the library names its symbol, which counts as unsafe.
#![deny(unsafe_code)]
//! The cachekit.io backend of cachekit: the HTTP API of the service, or of one's own `cachekit serve`.
//!
//! What it protects: the API key, which goes to the one host that was configured and nowhere else, and the caller, who gets
//! the value that was stored, or an error, within the deadline, whatever the other side sends.
//!
//! Read in this order: `config` (options), `endpoint` and `address` (which URLs are taken), `guarded_dns` (which addresses
//! are connected to), `tls` (who is believed), `alphabet`, `path`, `headers` and `session` (what is sent), `body` and `freshness` (what is
//! read), `retry` (what is sent again), `client` (one exchange), `backend` (the traits of the contract), `lease`, `locks` and `error`.
//!
//! ```
//! use cachekit_backend_cachekitio::{CachekitIoBackend, CachekitIoConfig};
//! use cachekit_plugin::{HostServices, Kind, Open};
//! // Opening sends nothing, but the configuration must be able to work; this host knows no secrets.
//! let refused = CachekitIoBackend::open(CachekitIoConfig::new("env:CACHEKIT_API_KEY"), HostServices::none());
//! assert_eq!(refused.err().map(|error| error.kind()), Some(Kind::Config));
//! ```

mod address;
mod alphabet;
mod backend;
mod body;
mod client;
mod config;
mod endpoint;
mod error;
mod freshness;
mod guarded_dns;
mod headers;
mod lease;
mod locks;
mod path;
mod retry;
mod session;
#[cfg(test)]
mod tests;
mod tls;

pub use backend::CachekitIoBackend;
pub use config::CachekitIoConfig;

cachekit_plugin::export_backend! {
    id: "cachekit.cachekitio",
    backend: CachekitIoBackend,
    powers: [ttl, lock, freshness],
}
