//! The store itself: bytes under keys, each with an end, in a bounded amount of memory.
//!
//! It knows nothing of cachekit. The time comes as an argument, so that the tests below need not wait for anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use cachekit_plugin::Bytes;

/// What an entry costs beyond its key and value, bytes, roughly: its places in the two maps.
const OVERHEAD: u64 = 160;

pub(crate) struct Store {
    max_bytes: u64,
    used_bytes: u64,
    writes: u64,
    entries: HashMap<Arc<[u8]>, Entry>,
    /// Keys in the order in which they were written, for what has to make room.
    ages: BTreeMap<u64, Arc<[u8]>>,
}

struct Entry {
    value: Bytes,
    /// `None`: never.
    ends: Option<Instant>,
    age: u64,
}

impl Store {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            used_bytes: 0,
            writes: 0,
            entries: HashMap::new(),
            ages: BTreeMap::new(),
        }
    }

    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value, unless its life is over. A clone of `Bytes` shares the memory.
    pub(crate) fn get(&self, key: &[u8], now: Instant) -> Option<Bytes> {
        let entry = self.entries.get(key)?;
        let lives = entry.ends.is_none_or(|ends| now < ends);
        lives.then(|| entry.value.clone())
    }

    /// Stores a value. The oldest entries go when there is no room: a cache may lose entries, it may not grow for ever.
    pub(crate) fn set(&mut self, key: &[u8], value: Bytes, ends: Option<Instant>) {
        self.remove(key);
        self.used_bytes += cost(key, &value);
        while self.used_bytes > self.max_bytes {
            let Some((_, oldest)) = self.ages.first_key_value() else {
                break;
            };
            let oldest = Arc::clone(oldest);
            self.remove(&oldest);
        }
        self.writes += 1;
        let (key, age) = (Arc::<[u8]>::from(key), self.writes);
        self.ages.insert(age, Arc::clone(&key));
        self.entries.insert(key, Entry { value, ends, age });
    }

    /// Whether there was something to remove.
    pub(crate) fn delete(&mut self, key: &[u8], now: Instant) -> bool {
        let lives = self.get(key, now).is_some();
        self.remove(key);
        lives
    }

    /// Removes what begins with `prefix` and counts it.
    pub(crate) fn clear(&mut self, prefix: &[u8]) -> u64 {
        let keys: Vec<Arc<[u8]>> = self
            .entries
            .keys()
            .filter(|key| key.starts_with(prefix))
            .cloned()
            .collect();
        keys.iter().for_each(|key| self.remove(key));
        keys.len() as u64
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.ages.remove(&entry.age);
            self.used_bytes -= cost(key, &entry.value);
        }
    }
}

fn cost(key: &[u8], value: &Bytes) -> u64 {
    (key.len() + value.len()) as u64 + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn value(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn an_entry_is_gone_at_its_end() {
        let (mut store, now) = (Store::new(1 << 20), Instant::now());
        let ends = now + Duration::from_secs(1);
        store.set(b"k", value("v"), Some(ends));
        store.set(b"forever", value("v"), None);
        assert_eq!(
            store.get(b"k", ends - Duration::from_millis(1)),
            Some(value("v"))
        );
        assert_eq!(store.get(b"k", ends), None);
        assert!(!store.delete(b"k", ends));
        assert!(store.get(b"forever", ends).is_some());
    }

    #[test]
    fn the_oldest_makes_room_and_what_was_used_is_given_back() {
        let (mut store, now) = (Store::new(3 * (OVERHEAD + 2)), Instant::now());
        for key in [b"a", b"b", b"c", b"d"] {
            store.set(key, value("v"), None);
        }
        assert_eq!((store.get(b"a", now), store.len()), (None, 3));
        // Written again, `b` is the youngest, and `c` goes next.
        store.set(b"b", value("w"), None);
        store.set(b"e", value("v"), None);
        assert_eq!(
            (store.get(b"c", now), store.get(b"b", now)),
            (None, Some(value("w")))
        );
        assert_eq!((store.clear(b""), store.used_bytes), (3, 0));
    }

    #[test]
    fn clear_takes_what_begins_with_the_prefix() {
        let (mut store, now) = (Store::new(1 << 20), Instant::now());
        for key in ["a:1", "a:2", "ab", "b:1"] {
            store.set(key.as_bytes(), value("v"), None);
        }
        assert_eq!(store.clear(b"a:"), 2);
        assert!(store.get(b"ab", now).is_some() && store.get(b"a:1", now).is_none());
    }
}
