//! The backend of this process: what caches use that name none.
//!
//! ```text
//! a backend named in code  >  set_default_backend  >  environment  >  cachekit.toml  >  redis://localhost:6379
//! ```
//!
//! The one thing that is global here, because it exists to be: a library deep in a program opens its cache by
//! [`from_env`](crate::from_env) and gets the store that `main` chose.

use std::sync::{Arc, PoisonError, RwLock};

use cachekit_plugin::Backend;

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
