//! Who is told of the changes of a store: every watch but those of the instance that wrote.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cachekit_plugin::{BackendError, Event, Kind, Operation, Outlet, WatchGuard, WatchSink};

use super::Store;

/// Bound of watches on a store.
const MAX_WATCHES: usize = 1024;

/// The watches on a store, those that are over taken out whenever one begins.
#[derive(Default)]
pub(super) struct Watches(Mutex<Vec<Watcher>>);

#[derive(Clone)]
struct Watcher {
    instance: u64,
    prefix: Arc<[u8]>,
    outlet: Arc<Outlet>,
}

/// Ends its watch when it is dropped. Does not keep the store.
struct Watching {
    store: Weak<Store>,
    outlet: Arc<Outlet>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.outlet.close();
        if let Some(store) = self.store.upgrade() {
            store.watches.lock().retain(|watcher| !Arc::ptr_eq(&watcher.outlet, &self.outlet));
        }
    }
}

impl Watches {
    pub(super) fn begin(
        store: &Arc<Store>,
        instance: u64,
        prefix: &[u8],
        sink: Arc<dyn WatchSink>,
    ) -> Result<WatchGuard, BackendError> {
        let outlet = Outlet::new(sink);
        let mut watchers = store.watches.lock();
        watchers.retain(|watcher| !watcher.outlet.is_closed());
        if watchers.len() >= MAX_WATCHES {
            return Err(BackendError::new(Kind::Throttled, Operation::Watch, "too many watches"));
        }
        watchers.push(Watcher { instance, prefix: prefix.into(), outlet: Arc::clone(&outlet) });
        drop(watchers);
        Ok(WatchGuard::new(Watching { store: Arc::downgrade(store), outlet }))
    }

    /// Tells everybody but the instance that wrote. A sink is never called under the lock: it may end its watch.
    pub(super) fn tell(&self, writer: u64, event: Event<'_>) {
        let concerns = |watcher: &&Watcher| {
            let watched = match event {
                Event::Changed(key) => key.as_bytes().starts_with(&watcher.prefix),
                _ => true,
            };
            watched && watcher.instance != writer
        };
        let told: Vec<Arc<Outlet>> =
            self.lock().iter().filter(concerns).map(|watcher| Arc::clone(&watcher.outlet)).collect();
        for outlet in told {
            outlet.tell(event);
        }
    }

    pub(super) fn lose(&self) {
        let lost = std::mem::take(&mut *self.lock());
        for watcher in lost {
            watcher.outlet.tell(Event::Lost);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().iter().filter(|watcher| !watcher.outlet.is_closed()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
