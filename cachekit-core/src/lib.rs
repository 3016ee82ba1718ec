#![forbid(unsafe_code)]
//! The cachekit engine: an in-process tier in front of any second-tier store.
//!
//! Read [`cache`] first: it tells the whole story of a get and a set. [`CacheBuilder`] is the only place where the parts
//! are put together. Applications depend on the crate `cachekit`, which adds the built-in backends and the sources of
//! configuration.

mod activity;
mod background;
pub mod behind;
pub mod blocking;
pub mod builder;
pub mod cache;
pub mod clock;
pub mod codec;
mod coherence;
pub mod config;
pub mod crypto;
pub mod error;
pub mod fresh;
pub mod guard;
pub mod interop;
mod invalidate;
pub mod key;
pub mod l1;
mod near;
pub mod observe;
mod process;
pub mod tier;

pub use builder::CacheBuilder;
pub use cache::{Cache, LoadOptions, SetOptions};
pub use error::{Error, LoadError};
pub use observe::Stats;
