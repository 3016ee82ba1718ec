//! What a watch told a case, remembered in its order.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cachekit_plugin::{Event, WatchGuard, WatchSink};

/// A watch under test with everything it told so far.
pub(crate) struct Watched {
    told: Arc<Told>,
    guard: Option<WatchGuard>,
}

/// One event, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Changed(Vec<u8>),
    Everything,
    Lost,
}

#[derive(Default)]
pub(crate) struct Told {
    events: Mutex<Vec<Owned>>,
    more: Condvar,
}

impl WatchSink for Told {
    fn event(&self, event: Event<'_>) {
        let event = match event {
            Event::Changed(key) => Owned::Changed(key.as_bytes().to_vec()),
            Event::Everything => Owned::Everything,
            Event::Lost => Owned::Lost,
        };
        self.events().push(event);
        self.more.notify_all();
    }
}

impl Told {
    fn events(&self) -> MutexGuard<'_, Vec<Owned>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, patience: Duration, is_enough: impl Fn(&[Owned]) -> bool) -> bool {
        let end = Instant::now() + patience;
        let mut events = self.events();
        while !is_enough(&events) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            events = self.more.wait_timeout(events, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Watched {
    pub(crate) fn new(told: Arc<Told>, guard: WatchGuard) -> Self {
        Self { told, guard: Some(guard) }
    }

    /// What a request told that ended without a watch.
    pub(crate) fn of_nothing(told: Arc<Told>) -> Self {
        Self { told, guard: None }
    }

    /// Waits until a change of `key` was told; a store may also say that everything may have changed.
    pub(crate) fn wait_for(&self, key: &[u8], patience: Duration) -> bool {
        self.told.wait(patience, |events| events.iter().any(|event| event.covers(key)))
    }

    /// As [`Self::wait_for`], for all of `keys`; losing the watch also says that they changed.
    pub(crate) fn wait_for_all(&self, keys: &[Vec<u8>], patience: Duration) -> bool {
        self.told.wait(patience, |events| {
            // Most often every key is named; comparing each with each would take its time with a thousand.
            let named: std::collections::HashSet<&[u8]> = events.iter().filter_map(Owned::key).collect();
            let said = events.iter().any(|event| event.key().is_none());
            said || keys.iter().all(|key| named.contains(&**key))
        })
    }

    /// Waits until a change of `key` or the end of the watch was told.
    pub(crate) fn wait_for_or_lost(&self, key: &[u8], patience: Duration) -> bool {
        let ended = |event: &Owned| event.covers(key) || *event == Owned::Lost;
        self.told.wait(patience, |events| events.iter().any(ended))
    }

    /// Whether `key` was named.
    pub(crate) fn has_named(&self, key: &[u8]) -> bool {
        self.told.events().iter().any(|event| event.key() == Some(key))
    }

    /// Whether it told that it is over.
    pub(crate) fn is_lost(&self) -> bool {
        self.told.events().contains(&Owned::Lost)
    }

    /// How many events were told.
    pub(crate) fn count(&self) -> usize {
        self.told.events().len()
    }

    /// Ends the watch.
    pub(crate) fn end(&mut self) {
        self.guard = None;
    }
}

impl Owned {
    fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Changed(key) => Some(key),
            _ => None,
        }
    }

    fn covers(&self, key: &[u8]) -> bool {
        *self == Self::Everything || self.key() == Some(key)
    }
}
