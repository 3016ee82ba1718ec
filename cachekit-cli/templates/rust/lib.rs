#![deny(unsafe_code)]
//! `__ID__`: a cachekit backend that keeps its entries in the memory of the process.
//!
//! It works as it is. To make it yours, put your store's client in the place of `store.rs`, and call it in `backend.rs`.
//! Read `config.rs` (what an operator may set), `store.rs` (the store itself), `backend.rs` (the contract).

mod backend;
mod config;
mod store;

pub use backend::MemoryBackend;
pub use config::MemoryConfig;

cachekit_plugin::export_backend! {
    id: "__ID__",
    backend: MemoryBackend,
    powers: [clear],
}
