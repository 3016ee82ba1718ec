#![forbid(unsafe_code)]
//! A two-tier cache for Rust programs: values live in the process and, behind it, in any store.
//!
//! The store is a backend this program was built with, or a shared library that its configuration names. Which one it is
//! changes in a file, not in the program.
//!
//! ```
//! use cachekit::Cache;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! // L1 alone; `cachekit::from_env()` takes the second tier from the environment or from cachekit.toml.
//! let cache = Cache::builder().namespace("users").build()?;
//! let user = cache.get_or_load("42", async || String::from("Ada")).await?;
//! assert_eq!(*user, "Ada");
//! # Ok::<(), cachekit::Error>(()) }).unwrap();
//! ```
//!
//! Programs without a runtime take [`Cache::blocking`].

mod backends;
#[cfg(feature = "macros")]
pub mod cached;
#[cfg(feature = "metrics")]
pub mod metrics;
mod process_default;
mod sources;
#[cfg(feature = "testing")]
pub mod testing;

pub use backends::{backend, built_in};
pub use cachekit_core::behind::{BehindStats, WriteBehind};
pub use cachekit_core::cache::{
    CacheHealth, DataLoader, DataLoaderConfig, Found, FromDocument, Interop, KeyPage, LoadOptions, SetOptions,
    TagError, ToDocument, Value,
};
pub use cachekit_core::codec::{Compression, Serializer};
pub use cachekit_core::config::{
    Config, ConfigError, EngineServices, Environment, Setting, Source, Sources, TierChoice,
};
pub use cachekit_core::crypto::{Encryption, Keyring, MasterKey};
pub use cachekit_core::guard::adaptive::AdaptiveConfig;
pub use cachekit_core::guard::breaker::{BreakerConfig, BreakerState};
pub use cachekit_core::guard::bulkhead::BulkheadConfig;
pub use cachekit_core::guard::deadline::within;
pub use cachekit_core::guard::retry::RetryConfig;
pub use cachekit_core::guard::stack::{GuardHealth, Shed};
pub use cachekit_core::l1::L1Config;
pub use cachekit_core::tier::chain::{TierSpec, TierStats, WritePolicy};
pub use cachekit_core::tier::registry::Registry;
pub use cachekit_core::{Cache, CacheBuilder, Error, LoadError, Stats};
pub use cachekit_core::{blocking, clock, codec, config, crypto, interop, key};
#[cfg(feature = "macros")]
pub use cachekit_macros::cached;
pub use cachekit_plugin as plugin;
pub use process_default::{default_backend, default_cache, set_default_backend, set_default_cache};
pub use sources::{
    builder, config_from_env, from_env, from_file, open, secure_from_env, user_cache_dir, user_config_file,
};
#[cfg(feature = "file")]
pub use sources::{embedded, embedded_tier};

#[cfg(feature = "dynamic-plugins")]
pub use cachekit_core::tier::plugin::{libraries, policy as plugin_policy, search_path as plugin_search_path};

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
