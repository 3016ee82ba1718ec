// Not `forbid`: the line that exports the library names its symbol, which counts as unsafe.
#![deny(unsafe_code)]
//! A cachekit plugin for key-value stores behind HTTP. Which URL, verb and status mean what is configuration: enough for
//! Cloudflare KV and its likes, for `cachekit serve`, and for the cache that somebody wrote in-house.
//!
//! What it protects: the secret, which goes to the one origin that was configured and nowhere else; the requests of others,
//! because no key can become another path, query or header; and the caller, who gets the value that was stored or an error,
//! within the deadline, whatever the other side sends.
//!
//! Read in this order: `config` (options), `template` (how a key becomes part of a URL), `life` (how a life becomes a
//! parameter), `auth` and `tls` (who we are, whom we believe), `plan` (the options, checked and ready), `request` (what is sent),
//! `status` (what an answer means), `body` (reading what is sent back), `retry`, `client` (one exchange), `backend` (the trait
//! of the contract) and `error`.

mod auth;
mod backend;
mod body;
mod client;
mod config;
mod error;
mod life;
mod plan;
mod request;
mod retry;
mod status;
mod template;
mod tls;

pub use backend::HttpBackend;
pub use config::HttpConfig;

cachekit_plugin::export_backend! { id: "example.http", backend: HttpBackend, powers: [] }
