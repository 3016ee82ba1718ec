//! What asking for kept answers can fail with.

use std::sync::Arc;

use cachekit_core::Error;

use crate::ConfigError;

/// What the functions beside a cached one, and a `strict` one itself, can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CachedError {
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] Error),
    /// There is no cache: the function names none, and the configuration of the process describes none that can be opened.
    #[error("the cache of this process cannot be opened: {0}")]
    Config(#[source] Arc<ConfigError>),
    /// The arguments make no key. What they are is not said here.
    #[error("the arguments make no key: {0}")]
    Key(&'static str),
}
