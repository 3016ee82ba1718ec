//! The backend of this process, which caches use that name none, and its cache, which functions use that name none.
//!
//! ```text
//! a backend named in code  >  set_default_backend  >  environment  >  cachekit.toml  >  redis://localhost:6379
//! ```
//!
//! The one thing that is global here, because it exists to be: a library deep in a program opens its cache by
//! [`from_env`](crate::from_env) and gets the store that `main` chose.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cachekit_core::Cache;
use cachekit_core::config::{Config, ConfigError};
use cachekit_plugin::Backend;

use crate::sources::{config_from_env_with_preset, open};

static DEFAULT: RwLock<Option<Arc<dyn Backend>>> = RwLock::new(None);

/// Chooses the backend of caches that are opened from now on without one of their own: by [`from_env`](crate::from_env),
/// [`from_file`](crate::from_file), [`open`](crate::open) and [`builder`](crate::builder). `None` clears it. Caches that
/// exist keep what they have. Callable from any thread.
///
/// It yields to a backend that is named in code: `CacheBuilder::backend`, [`Sources::backend`](crate::Sources::backend),
/// [`embedded`](crate::embedded), the preset `io`.
///
/// ```
/// # #[cfg(feature = "file")] {
/// # let dir = tempfile::tempdir()?;
/// # let url = format!("file://{}", dir.path().join("cache").display());
///
/// let store = cachekit::backend(&url)?;
/// cachekit::set_default_backend(Some(store));
/// let cache = cachekit::open(&cachekit::Config::default())?.blocking();
/// cache.set("answer", &42_u32)?;
/// cachekit::set_default_backend(None);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn set_default_backend(backend: Option<Arc<dyn Backend>>) {
    // The old one is dropped after the lock: its end may take a while, or ask for the default itself.
    let _old = std::mem::replace(&mut *DEFAULT.write().unwrap_or_else(PoisonError::into_inner), backend);
}

/// The backend that [`set_default_backend`] chose, if any.
pub fn default_backend() -> Option<Arc<dyn Backend>> {
    DEFAULT.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The caches of this process by the name of their preset; the one without is the one that is set.
static CACHES: Mutex<BTreeMap<Option<&'static str>, Cache>> = Mutex::new(BTreeMap::new());

/// The cache of this process: the one that [`set_default_cache`] chose, else the one that [`from_env`](crate::from_env) opens,
/// which is opened once.
///
/// A program that calls it at its start hears there what is wrong with its configuration; functions marked `#[cached]` would
/// say so in the log and run without a cache.
///
/// # Errors
/// [`ConfigError`], as [`from_env`](crate::from_env).
pub fn default_cache() -> Result<Cache, ConfigError> {
    opened(None)
}

/// Chooses the cache of this process, or lets the next one who asks open it anew (`None`). Functions marked `#[cached]` that
/// have been called keep what they have.
pub fn set_default_cache(cache: Option<Cache>) {
    let mut caches = CACHES.lock().unwrap_or_else(PoisonError::into_inner);
    // Ends after the lock: a cache may take a while to close its store.
    let _old = match cache {
        Some(cache) => caches.insert(None, cache),
        None => caches.remove(&None),
    };
    drop(caches);
}

/// The cache for functions that name none, and perhaps a preset.
#[cfg(feature = "macros")]
pub(crate) fn shared_cache(preset: Option<&'static str>) -> Result<Cache, Arc<ConfigError>> {
    opened(preset).map_err(Arc::new)
}

fn opened(preset: Option<&'static str>) -> Result<Cache, ConfigError> {
    // Held while it is opened, so that it is opened once.
    let mut caches = CACHES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cache) = caches.get(&preset) {
        return Ok(cache.clone());
    }
    let config: Config = config_from_env_with_preset(preset)?;
    let cache = open(&config)?;
    caches.insert(preset, cache.clone());
    Ok(cache)
}
