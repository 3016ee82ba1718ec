//! The backends that this program was built with, one feature each.

use std::sync::Arc;

use cachekit_core::config::{Config, ConfigError, EngineServices, Environment, Sources};
use cachekit_core::tier::registry::Registry;
use cachekit_plugin::Backend;

/// The backends this program was built with, by the schemes of their URLs.
pub fn built_in() -> Registry {
    let registry = Registry::default();
    #[cfg(feature = "file")]
    let registry = registry.with::<cachekit_backend_file::FileBackend>("file");
    // One backend with several ways to a server; it reads the scheme from its URL.
    #[cfg(feature = "redis")]
    let registry = cachekit_core::config::REDIS_SCHEMES
        .iter()
        .fold(registry, |registry, scheme| registry.with::<cachekit_backend_redis::RedisBackend>(scheme));
    #[cfg(feature = "memcached")]
    let registry = registry.with::<cachekit_backend_memcached::MemcachedBackend>("memcached");
    #[cfg(feature = "cachekitio")]
    let registry = registry.with::<cachekit_backend_cachekitio::CachekitIoBackend>("cachekitio");
    registry
}

/// A backend alone, opened by its URL as `--backend` and `CACHEKIT_BACKEND` take it: for
/// [`set_default_backend`](crate::set_default_backend), or to stand under several caches. Variables of the environment fill in
/// the options that the URL leaves open.
///
/// # Errors
/// [`ConfigError`]; the URL `none` names no backend.
pub fn backend(url: &str) -> Result<Arc<dyn Backend>, ConfigError> {
    let config = Config::resolve(&Sources {
        backend: Some(url.to_owned()),
        environment: Environment::of_process(),
        ..Sources::default()
    })?;
    let opened = config.open_tier(&built_in(), EngineServices::shared())?;
    opened.ok_or_else(|| ConfigError::Value {
        field: "backend".into(),
        origin: config.tier.source.clone(),
        reason: "\"none\" is no backend; a URL is needed, such as file:///var/cache/app".into(),
    })
}
