// Not `forbid`: the line that exports the library names its symbol, which counts as unsafe.
#![deny(unsafe_code)]
//! The File backend: a flat directory with one file per entry, shared with the other members of the cachekit family.
//!
//! What it protects: a reader never sees half a value, whoever is killed at whatever moment. Writers fill a temporary
//! file and rename it over the entry, and the rename is the write. Everything else (the size of the directory, the
//! litter of killed writers, leases, conditional writes) is arranged around that one atomic step, without a daemon and
//! without a lock that is held across the input and output of others.
//!
//! Read in this order: `entry` (the bytes on disk), `client` (the directory and its system calls), `read` and `write`
//! (the life of an entry), `account` and `evict` (how the directory stays within its limits), `stripe` and `locks`
//! (exclusion between processes), `backend` (the traits of the contract). Linux only: the promise that a cached read
//! never makes an async caller wait rests on `openat2(RESOLVE_CACHED)` and `preadv2(RWF_NOWAIT)`.
//!
//! ```
//! use cachekit_backend_file::{FileBackend, FileConfig};
//! use cachekit_plugin::{Backend, HostServices, Open};
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("cache");
//! let backend = FileBackend::open(FileConfig::new(path), HostServices::none())?;
//! assert_eq!(backend.limits().ttl_step_ms, 1000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod account;
mod backend;
mod client;
mod config;
mod entry;
mod error;
mod evict;
mod inline;
mod listing;
mod locks;
mod read;
mod store;
mod stripe;
mod sweep;
#[cfg(test)]
mod tests;
mod write;

pub use backend::FileBackend;
pub use config::{Durability, FileConfig, Permissions};

cachekit_plugin::export_backend! {
    id: "cachekit.file",
    backend: FileBackend,
    powers: [batch, ttl, lock, cas, scan, clear],
}
