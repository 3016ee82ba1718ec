#![forbid(unsafe_code)]
//! cachekit beside its peers, in one process, round by round.
//!
//! A figure alone says little on a shared machine; a ratio of two that were taken in alternating rounds says a lot. So
//! every bench here runs its contenders in turns ([`rounds`]), reports medians and minima, and compares the ratio with the
//! goal the project set itself ([`report`]).
//!
//! ```text
//! codec.rs      a value into its bytes and back, beside the sum of its parts and the libraries that do them
//! crossing.rs   a call into a plugin, beside the same store linked
//! callers.rs    many callers on one store, for file and l2
//! file.rs       the File backend, beside the bare system calls and cachekit-rs
//! l1.rs         the in-process tier, beside quick_cache, moka, lru and cachekit-rs
//! l2.rs         Redis and Memcached over loopback, beside redis, fred, memcache and cachekit-rs
//! secure.rs     a cache that encrypts, beside cachekit-rs doing the same
//! ```

pub mod artifacts;
mod callers;
pub mod codec;
pub mod crossing;
pub mod file;
pub mod l1;
pub mod l2;
pub mod machine;
pub mod report;
pub mod rounds;
pub mod secure;

/// How long a bench may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// A few seconds: shows that the bench works and the order of magnitude.
    Quick,
    /// Minutes: figures to decide by.
    Full,
}

/// What ends a bench.
pub type Failure = Box<dyn std::error::Error>;
