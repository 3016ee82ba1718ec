//! What a backend may ask about the cache above it.
//!
//! A backend is opened before the cache that stands on it is built, so its services have a slot that is filled then.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use cachekit_plugin::open::Services;
use cachekit_plugin::{CacheActivity, HostServices, LogLevel, MetricKind};

use crate::near::Near;

/// Where the cache will be. Holds it weakly: the backend stands below the cache, not the cache below the backend.
#[derive(Clone, Default)]
pub(crate) struct ActivitySlot(Arc<OnceLock<Weak<Near>>>);

impl ActivitySlot {
    /// The same services, and the activity of the cache in the slot.
    pub(crate) fn services(&self, services: HostServices) -> HostServices {
        HostServices::new(Arc::new(Below { services, cache: self.clone() }))
    }

    pub(crate) fn fill(&self, near: &Arc<Near>) {
        // The first one stays: the backend can stand below one cache only.
        let _ = self.0.set(Arc::downgrade(near));
    }
}

impl fmt::Debug for ActivitySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActivitySlot").field(&self.0.get().is_some()).finish()
    }
}

struct Below {
    services: HostServices,
    cache: ActivitySlot,
}

impl Services for Below {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &[(&str, &str)]) {
        self.services.log(level, target, message, fields);
    }

    fn secret(&self, reference: &str) -> Result<String, String> {
        self.services.secret(reference).map_err(|error| error.message().to_owned())
    }

    fn activity(&self) -> Option<CacheActivity> {
        match self.cache.0.get().and_then(Weak::upgrade) {
            Some(near) => Some(near.activity()),
            None => self.services.activity(),
        }
    }

    fn metric(&self, plugin: &str, kind: MetricKind, name: &str, value: u64) {
        self.services.metric_of(plugin, kind, name, value);
    }
}
