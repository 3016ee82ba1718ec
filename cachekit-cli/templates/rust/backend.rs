//! The contract on top of the store: seven operations, and the power `clear`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use cachekit_plugin::{
    Backend, BackendError, Bytes, Clear, Cx, Fut, Health, HostServices, Key, Kind, Limits,
    LogLevel, Open, Operation, Ttl, ready,
};

use crate::config::MemoryConfig;
use crate::store::Store;

/// What errors and health call the store.
const STORE: &str = "__ID__";

const MAX_KEY_BYTES: u32 = 1024;
const MAX_VALUE_BYTES: u64 = 1 << 20;

/// The stores of this process by name, as long as an instance holds them.
static STORES: LazyLock<Mutex<HashMap<String, Weak<Mutex<Store>>>>> = LazyLock::new(Mutex::default);

/// One instance of the backend. Instances with the same name share a store.
pub struct MemoryBackend {
    store: Arc<Mutex<Store>>,
}

impl Open for MemoryBackend {
    type Config = MemoryConfig;

    // Returns soon. A client connects on first use: a store that is down is no reason to fail here.
    fn open(config: MemoryConfig, host: HostServices) -> Result<Self, BackendError> {
        config.check().map_err(|error| error.on(STORE))?;
        let store = shared(&config)?;
        host.log(LogLevel::Debug, STORE, "opened", &[("name", &config.name)]);
        Ok(Self { store })
    }
}

/// The store of this name: the one that others have open, or a new one.
fn shared(config: &MemoryConfig) -> Result<Arc<Mutex<Store>>, BackendError> {
    let mut stores = locked(&STORES);
    stores.retain(|_, store| store.strong_count() > 0);
    if let Some(store) = stores.get(&config.name).and_then(Weak::upgrade) {
        let open_with = locked(&store).max_bytes();
        if open_with != config.max_bytes {
            let reason = format!(
                "max_bytes = {}: the store {:?} is open with {open_with}",
                config.max_bytes, config.name
            );
            return Err(BackendError::new(Kind::Config, Operation::Open, reason).on(STORE));
        }
        return Ok(store);
    }
    let store = Arc::new(Mutex::new(Store::new(config.max_bytes)));
    stores.insert(config.name.clone(), Arc::downgrade(&store));
    Ok(store)
}

/// A panic elsewhere leaves the maps whole enough for a cache.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryBackend {
    fn store(&self, key: Key<'_>, value: Bytes, ttl: Ttl) -> Result<(), BackendError> {
        // Hosts keep to the limits. A program that links this backend may not.
        if key.as_bytes().len() > MAX_KEY_BYTES as usize || value.len() as u64 > MAX_VALUE_BYTES {
            let reason = "a key has at most 1 KiB, a value 1 MiB";
            return Err(BackendError::new(Kind::TooLarge, Operation::Set, reason).on(STORE));
        }
        // A life that the clock cannot express is as good as none.
        let ends = ttl
            .as_ms()
            .and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        locked(&self.store).set(key.as_bytes(), value, ends);
        Ok(())
    }
}

impl Backend for MemoryBackend {
    fn limits(&self) -> Limits {
        Limits::new(MAX_KEY_BYTES, MAX_VALUE_BYTES)
    }

    // This store never waits, so every answer is there at once. One that waits returns `Box::pin(async move { … })`, and a
    // client that blocks goes through `cachekit_plugin::blocking::Pool`.
    fn get<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        ready(Ok(locked(&self.store).get(key.as_bytes(), Instant::now())))
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(self.store(key, value, ttl))
    }

    fn delete<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready(Ok(
            locked(&self.store).delete(key.as_bytes(), Instant::now())
        ))
    }

    fn exists<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready(Ok(locked(&self.store)
            .get(key.as_bytes(), Instant::now())
            .is_some()))
    }

    fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
        let begun = Instant::now();
        let entries = locked(&self.store).len();
        ready(Ok(
            Health::up(STORE, begun.elapsed()).with_detail("entries", entries)
        ))
    }

    // The store is dropped with its last instance; others may still be using it.
    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(Ok(()))
    }

    fn clear(&self) -> Option<&dyn Clear> {
        Some(self)
    }
}

impl Clear for MemoryBackend {
    fn clear<'a>(&'a self, prefix: &'a [u8], _: &'a Cx<'a>) -> Fut<'a, u64> {
        ready(Ok(locked(&self.store).clear(prefix)))
    }
}
