//! Keyed hashes in place of keys and tags, for stores that must not learn what is cached.
//!
//! A key often says more than its value: an address, a patient, a search. So does a tag. Hashed under a key of the cache they
//! say nothing, cannot be guessed and tried, and are still the same each time, so entries are found. What stays visible: the
//! namespace, that two reads concern the same entry, that two entries share a tag, how large they are, and when.

use std::fmt;

use blake2::digest::{FixedOutput, KeyInit, Update, consts::U32};
use zeroize::Zeroizing;

type Mac = blake2::Blake2bMac<U32>;

/// Bytes of a hashed key: its mark and 64 hex digits. The mark tells it from a shortened key, which begins with `#`.
pub(crate) const HASHED_LEN: usize = 65;
/// A key or a tag, hashed.
pub(crate) type HashedKey = [u8; HASHED_LEN];
const MARK: u8 = b'~';
const MAC_KEY_LEN: usize = 64;

/// What hashes the keys of one tenant. Wiped when it is dropped; never shown.
pub(crate) struct NameKey(Zeroizing<[u8; MAC_KEY_LEN]>);

impl NameKey {
    pub(super) fn new(key: &Zeroizing<[u8; 32]>) -> Self {
        // BLAKE2b takes keys of up to 64 bytes and fills shorter ones with zeros; here that is done once.
        let mut filled = Zeroizing::new([0; MAC_KEY_LEN]);
        filled[..key.len()].copy_from_slice(&**key);
        Self(filled)
    }

    /// What stands for `key` in a namespace whose wire keys begin with `prefix`. The prefix is hashed with it, so that one
    /// key in two namespaces cannot be recognized as the same; no prefix is the beginning of another, so that the two
    /// parts cannot be shifted against each other.
    pub(crate) fn hash(&self, prefix: &[u8], key: &[u8]) -> HashedKey {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut mac = <Mac as KeyInit>::new((&*self.0).into());
        mac.update(prefix);
        mac.update(key);
        let mut hashed = [MARK; HASHED_LEN];
        for (pair, byte) in hashed[1..].chunks_exact_mut(2).zip(mac.finalize_fixed()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0x0f)];
        }
        hashed
    }
}

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameKey(..)")
    }
}
