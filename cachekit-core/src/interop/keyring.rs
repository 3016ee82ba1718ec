//! The master keys of a cache: one that seals, and up to three that still open what was sealed before a rotation.
//!
//! What it protects: the keys, which are wiped when they are dropped and are in no output; and the order of trust, in which
//! only an authentication that fails leads to the next key. Entries without a key's name (interop) try them in turn; a frame
//! names its key, and that name binds.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use zeroize::Zeroizing;

use super::derive::{Domain, derive};
use super::error::{InteropError, KeyringError};
use super::seal::{Binding, SealingKey};

/// Bytes of a raw master key, and the fewest that hex digits may stand for.
pub const MASTER_KEY_BYTES: usize = 32;
/// Keys that only open.
pub const MAX_PREVIOUS_KEYS: usize = 3;
/// Derived keys that are kept: 256 tenants under the current key, or fewer while a rotation lasts.
const MAX_DERIVED: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Messages under one master key: with more, two random nonces of one tenant meet too probably (SP 800-38D). Counted per
/// process, which is all that a process can count; half of them is worth a warning.
const MAX_MESSAGES: u64 = 1 << 32;

/// A master key. Wiped when it is dropped, and in no output.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<Vec<u8>>);

impl MasterKey {
    /// From hex digits, as `CACHEKIT_MASTER_KEY` holds them: at least 64, all of which are used.
    ///
    /// # Errors
    /// [`KeyringError::NotHex`], [`KeyringError::TooShort`].
    pub fn from_hex(digits: &str) -> Result<Self, KeyringError> {
        let digits = digits.trim().as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let pairs = digits.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(KeyringError::NotHex);
        }
        // With its full room from the start: a vector that grows leaves copies behind.
        let mut key = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
        for pair in pairs {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(KeyringError::NotHex) };
            key.push(high << 4 | low);
        }
        if key.len() < MASTER_KEY_BYTES {
            return Err(KeyringError::TooShort { len: key.len() });
        }
        Ok(Self(key))
    }

    /// From raw bytes, exactly 32.
    ///
    /// # Errors
    /// [`KeyringError::RawLength`].
    pub fn from_bytes(key: &[u8]) -> Result<Self, KeyringError> {
        if key.len() != MASTER_KEY_BYTES {
            return Err(KeyringError::RawLength { len: key.len() });
        }
        Ok(Self(Zeroizing::new(key.to_vec())))
    }

    /// Every byte is looked at, however early two keys differ.
    fn is(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&*other.0).fold(0, |sum, (one, two)| sum | (one ^ two)) == 0
    }
}

/// In constant time.
impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for MasterKey {}

/// Its length is no secret; nothing else is shown.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({} bytes)", self.0.len())
    }
}

/// The keys of a cache, shared behind an `Arc`.
pub struct Keyring {
    /// The current one first.
    keys: Vec<MasterKey>,
    fail_closed: bool,
    derived: Mutex<LruCache<(usize, String), Arc<SealingKey>>>,
    sealed: AtomicU64,
    warned: AtomicBool,
    previous_hits: [AtomicU64; MAX_PREVIOUS_KEYS],
}

impl Keyring {
    /// A ring of the key that seals and those that still open, newest first.
    ///
    /// # Errors
    /// [`KeyringError::TooMany`], [`KeyringError::CurrentIsPrevious`].
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Result<Self, KeyringError> {
        if previous.len() > MAX_PREVIOUS_KEYS {
            return Err(KeyringError::TooMany { given: previous.len() });
        }
        if previous.iter().any(|key| key.is(&current)) {
            return Err(KeyringError::CurrentIsPrevious);
        }
        let mut keys = Vec::with_capacity(1 + previous.len());
        keys.push(current);
        keys.extend(previous);
        Ok(Self {
            keys,
            fail_closed: true,
            derived: Mutex::new(LruCache::new(MAX_DERIVED)),
            sealed: AtomicU64::new(0),
            warned: AtomicBool::new(false),
            previous_hits: Default::default(),
        })
    }

    /// From texts as the variables hold them: hex digits, and a list of such between commas in which blank items count for
    /// nothing.
    ///
    /// # Errors
    /// As [`Keyring::new`] and [`MasterKey::from_hex`]; [`KeyringError::PreviousAlone`] if only the list has keys.
    pub fn from_hex(current: Option<&str>, previous: Option<&str>) -> Result<Option<Self>, KeyringError> {
        let items = previous.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty());
        let previous = items.map(MasterKey::from_hex).collect::<Result<Vec<_>, _>>()?;
        match current.map(str::trim).filter(|current| !current.is_empty()) {
            Some(current) => Self::new(MasterKey::from_hex(current)?, previous).map(Some),
            None if previous.is_empty() => Ok(None),
            None => Err(KeyringError::PreviousAlone),
        }
    }

    /// Whether an entry that is not authentic reaches the caller as an error (the default) or is a counted miss.
    #[must_use]
    pub fn with_fail_closed(mut self, fail_closed: bool) -> Self {
        self.fail_closed = fail_closed;
        self
    }

    /// What [`Self::with_fail_closed`] set.
    #[must_use]
    pub fn is_fail_closed(&self) -> bool {
        self.fail_closed
    }

    /// Seals `plaintext` under the current key.
    ///
    /// # Errors
    /// [`InteropError::Keyring`], [`InteropError::Random`].
    pub fn seal(&self, binding: &Binding<'_>, plaintext: &[u8]) -> Result<Vec<u8>, InteropError> {
        let associated_data = binding.associated_data()?;
        let key = self.key(0, binding.tenant)?;
        self.count_message()?;
        key.seal(&associated_data, plaintext)
    }

    /// Opens an entry that does not name its key: the current one first, then the previous ones in their order.
    ///
    /// # Errors
    /// [`InteropError::Tampered`] if none fits, [`InteropError::Keyring`].
    pub fn open(&self, binding: &Binding<'_>, sealed: &[u8]) -> Result<Vec<u8>, InteropError> {
        let associated_data = binding.associated_data()?;
        for index in 0..self.keys.len() {
            if let Some(plaintext) = self.key(index, binding.tenant)?.open(&associated_data, sealed) {
                self.count_hit(index);
                return Ok(plaintext);
            }
        }
        Err(InteropError::Tampered)
    }

    /// Opens an entry that names its key. A name of the ring binds: only that key is tried. Another name is refused by a ring
    /// that fails closed; otherwise the current key is tried, for entries whose header was damaged.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn open_named(
        &self,
        binding: &Binding<'_>,
        fingerprint: Option<&str>,
        sealed: &[u8],
    ) -> Result<Vec<u8>, InteropError> {
        let associated_data = binding.associated_data()?;
        let mut index = 0;
        if let Some(fingerprint) = fingerprint {
            let mut named = None;
            for candidate in 0..self.keys.len() {
                if super::hex(&self.key(candidate, binding.tenant)?.fingerprint) == fingerprint {
                    named = Some(candidate);
                    break;
                }
            }
            index = match named {
                Some(named) => named,
                None if self.fail_closed => return Err(InteropError::Tampered),
                None => 0,
            };
        }
        let opened = self.key(index, binding.tenant)?.open(&associated_data, sealed).ok_or(InteropError::Tampered)?;
        self.count_hit(index);
        Ok(opened)
    }

    /// The fingerprint of the current key for a tenant, in hex, as a frame's header has it.
    ///
    /// # Errors
    /// [`KeyringError::Tenant`].
    pub fn fingerprint(&self, tenant: &str) -> Result<String, KeyringError> {
        Ok(super::hex(&self.key(0, tenant)?.fingerprint))
    }

    /// How many entries each previous key has opened: when they stop, the key can go.
    #[must_use]
    pub fn previous_key_hits(&self) -> Vec<u64> {
        self.previous_hits[..self.keys.len() - 1].iter().map(|hits| hits.load(Ordering::Relaxed)).collect()
    }

    /// The key of a tenant, derived at most once while it is in use.
    fn key(&self, index: usize, tenant: &str) -> Result<Arc<SealingKey>, KeyringError> {
        // Nothing that can panic runs under this lock.
        let lock = || self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (index, tenant.to_owned());
        if let Some(key) = lock().get(&name) {
            return Ok(Arc::clone(key));
        }
        let key = derive(&self.keys[index].0, Domain::Encryption, tenant)?;
        let key = Arc::new(SealingKey::new(&key));
        lock().put(name, Arc::clone(&key));
        Ok(key)
    }

    fn count_hit(&self, index: usize) {
        if let Some(hits) = index.checked_sub(1).and_then(|index| self.previous_hits.get(index)) {
            hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count_message(&self) -> Result<(), KeyringError> {
        let sealed = self.sealed.fetch_add(1, Ordering::Relaxed);
        if sealed >= MAX_MESSAGES {
            // Back, so that the count cannot run around.
            self.sealed.store(MAX_MESSAGES, Ordering::Relaxed);
            return Err(KeyringError::Exhausted);
        }
        if sealed >= MAX_MESSAGES / 2 && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(target: "cachekit", "2^31 messages were sealed under the current master key: rotate it");
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn at_message(self, sealed: u64) -> Self {
        self.sealed.store(sealed, Ordering::Relaxed);
        self
    }

    #[cfg(test)]
    pub(super) fn derived_keys(&self) -> usize {
        self.derived.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    #[cfg(test)]
    pub(super) fn seal_with(&self, nonce: [u8; 12], binding: &Binding<'_>, plaintext: &[u8]) -> Vec<u8> {
        let key = self.key(0, binding.tenant).unwrap();
        key.seal_with(nonce, &binding.associated_data().unwrap(), plaintext).unwrap()
    }
}

/// How many keys there are, and nothing of them.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("previous", &(self.keys.len() - 1))
            .field("fail_closed", &self.fail_closed)
            .finish_non_exhaustive()
    }
}
