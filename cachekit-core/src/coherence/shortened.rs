//! Which entry a shortened key means: a store that tells of `ck:<namespace>:#<digest>` cannot say more, and L1 knows the
//! whole key alone.
//!
//! Bounded. A key that finds no room is not vouched for, so it lives in L1 for the cap as without coherence.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::l1::KeyHash;

/// Keys that are remembered.
const MAX_KEYS: usize = 4096;
/// A key is forgotten when L1 has not had it for this long: a read or a write may be on its way with it.
const ON_ITS_WAY_MS: u64 = 120_000;
/// How often a full table is looked through.
const SWEEP_MS: u64 = 1_000;

#[derive(Default)]
pub(crate) struct Shortened(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_store_key: HashMap<Box<[u8]>, Remembered>,
    swept_ms: u64,
}

struct Remembered {
    hash: KeyHash,
    at_ms: u64,
}

impl Shortened {
    /// Remembers a key; `false` if there is no room.
    pub(crate) fn remember(
        &self,
        store_key: &[u8],
        hash: KeyHash,
        now_ms: u64,
        is_held: impl Fn(KeyHash) -> bool,
    ) -> bool {
        let mut known = self.lock();
        if let Some(remembered) = known.by_store_key.get_mut(store_key) {
            remembered.at_ms = now_ms;
            return true;
        }
        if known.by_store_key.len() >= MAX_KEYS {
            if now_ms < known.swept_ms.saturating_add(SWEEP_MS) {
                return false;
            }
            known.swept_ms = now_ms;
            known.by_store_key.retain(|_, key| now_ms < key.at_ms.saturating_add(ON_ITS_WAY_MS) || is_held(key.hash));
            if known.by_store_key.len() >= MAX_KEYS {
                return false;
            }
        }
        known.by_store_key.insert(store_key.into(), Remembered { hash, at_ms: now_ms });
        true
    }

    /// The entry that a key of the store means, if it is a shortened one.
    pub(crate) fn find(&self, store_key: &[u8]) -> Option<KeyHash> {
        const DIGEST: usize = 1 + 64;
        let mark = store_key.len().checked_sub(DIGEST)?;
        if store_key[mark] != b'#' {
            return None;
        }
        self.lock().by_store_key.get(store_key).map(|key| key.hash)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Vec<u8> {
        format!("ck:n:#{number:064}").into_bytes()
    }

    fn hash(number: usize) -> KeyHash {
        KeyHash::from_raw(number as u64)
    }

    #[test]
    fn a_shortened_key_leads_to_its_entry_and_others_to_none() {
        let known = Shortened::default();
        assert!(known.remember(&key(1), hash(1), 0, |_| true));
        assert_eq!(known.find(&key(1)), Some(hash(1)));
        assert_eq!(known.find(&key(2)), None);
        assert_eq!(known.find(b"ck:n:plain"), None);
        assert_eq!(known.find(b"#"), None);
    }

    #[test]
    fn a_full_table_takes_new_keys_once_old_ones_are_of_no_use() {
        let known = Shortened::default();
        for number in 0..MAX_KEYS {
            assert!(known.remember(&key(number), hash(number), 0, |_| false));
        }
        let new = key(MAX_KEYS);
        assert!(!known.remember(&new, hash(0), SWEEP_MS, |_| false), "they may be on their way");
        assert!(known.remember(&key(7), hash(7), SWEEP_MS, |_| false), "a known one needs no room");
        assert!(!known.remember(&new, hash(0), ON_ITS_WAY_MS, |_| true), "they are in L1");
        let later = ON_ITS_WAY_MS + SWEEP_MS;
        assert!(known.remember(&new, hash(0), later, |hash| hash == KeyHash::from_raw(9)));
        assert_eq!(known.find(&key(9)), Some(hash(9)));
        assert_eq!(known.find(&key(8)), None);
    }
}
