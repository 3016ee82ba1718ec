//! The master keys of a cache: one that seals, and up to three that still open what was sealed before a rotation.
//!
//! What it protects: the keys, which are wiped when they are dropped and are in no output; and the order of trust. Entries
//! without a key's name (interop) try the keys in turn, and only an authentication that fails leads to the next; a native
//! entry and a frame of Python's name their key, and that name binds.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use lru::LruCache;
use zeroize::Zeroizing;

use super::aead::{AeadKey, Provider};
use super::derive::{Domain, Use, derive, derive_native, fingerprint};
use super::error::KeyringError;
use super::names::NameKey;

/// Bytes of a raw master key, and the fewest that hex digits may stand for.
pub const MASTER_KEY_BYTES: usize = 32;
/// Keys that only open.
pub const MAX_PREVIOUS_KEYS: usize = 3;
/// Derived keys that are kept: 256 tenants under the current key, or fewer while a rotation lasts.
const MAX_DERIVED: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Messages under one master key: with more, two random nonces of one tenant meet too probably (SP 800-38D). Counted per
/// process, which is all that a process can count; half of them is worth a warning.
const MAX_MESSAGES: u64 = 1 << 32;
/// Looks at the lock of the derived keys before a key is derived without it. Whoever holds it does so for the length of a
/// look into a table.
const LOCK_ATTEMPTS: u32 = 64;

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

    /// What hashes a tenant's keys.
    pub(super) fn name_key(&self, tenant: &str) -> Result<NameKey, KeyringError> {
        Ok(NameKey::new(&derive_native(&self.0, Use::Names, tenant)?))
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

/// By index in the ring, format and tenant.
type Derived = LruCache<(usize, Form, String), Arc<DerivedKey>>;

/// Whose entries a derived key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Family,
    Native,
}

/// One tenant's key, ready to work. Wiped when it is dropped; never shown.
pub(crate) struct DerivedKey {
    pub(crate) aead: AeadKey,
    pub(crate) fingerprint: [u8; 16],
}

/// The keys of a cache, shared behind an `Arc`.
pub struct Keyring {
    /// The current one first.
    keys: Vec<MasterKey>,
    fail_closed: bool,
    derived: Mutex<Derived>,
    sealed: AtomicU64,
    warned: AtomicBool,
    previous_hits: [AtomicU64; MAX_PREVIOUS_KEYS],
}

impl Keyring {
    /// A ring of the key that seals and those that still open, newest first.
    ///
    /// # Errors
    /// [`KeyringError::TooMany`], [`KeyringError::CurrentIsPrevious`], [`KeyringError::Repeated`].
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Result<Self, KeyringError> {
        if previous.len() > MAX_PREVIOUS_KEYS {
            return Err(KeyringError::TooMany { given: previous.len() });
        }
        if previous.iter().any(|key| key.is(&current)) {
            return Err(KeyringError::CurrentIsPrevious);
        }
        if previous.iter().enumerate().any(|(at, key)| previous[..at].iter().any(|other| key.is(other))) {
            return Err(KeyringError::Repeated);
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

    /// How many entries each previous key has opened: when they stop, the key can go.
    #[must_use]
    pub fn previous_key_hits(&self) -> Vec<u64> {
        self.previous_hits[..self.keys.len() - 1].iter().map(|hits| hits.load(Ordering::Relaxed)).collect()
    }

    /// How many keys there are: the current one and the previous ones.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// A tenant's key for entries of the family, derived at most once while it is in use.
    pub(crate) fn family_key(&self, index: usize, tenant: &str) -> Result<Arc<DerivedKey>, KeyringError> {
        self.derived(index, Form::Family, tenant)
    }

    /// A tenant's key for native entries.
    pub(super) fn native_key(&self, index: usize, tenant: &str) -> Result<Arc<DerivedKey>, KeyringError> {
        self.derived(index, Form::Native, tenant)
    }

    /// The same by a provider of the caller's choice; not kept.
    pub(super) fn native_key_by(
        &self,
        provider: Provider,
        index: usize,
        tenant: &str,
    ) -> Result<Arc<DerivedKey>, KeyringError> {
        let key = derive_native(&self.keys[index].0, Use::Entries, tenant)?;
        Ok(Arc::new(DerivedKey { aead: AeadKey::with(provider, &key), fingerprint: fingerprint(&key) }))
    }

    /// What stands in a native entry for the key that sealed it. The same for all tenants: an entry of another tenant is one
    /// under a known key that does not open, and so tampering, not a key that somebody forgot.
    pub(super) fn key_name(&self, index: usize) -> Result<u64, KeyringError> {
        let bytes = derive_native(&self.keys[index].0, Use::KeyName, "")?;
        // Never 0, which stands for no name.
        Ok(bytes.first_chunk().map_or(1, |first| u64::from_le_bytes(*first).max(1)))
    }

    /// What hashes a tenant's keys: made of the current master key alone.
    pub(super) fn name_key(&self, tenant: &str) -> Result<NameKey, KeyringError> {
        self.keys[0].name_key(tenant)
    }

    fn derived(&self, index: usize, form: Form, tenant: &str) -> Result<Arc<DerivedKey>, KeyringError> {
        let name = (index, form, tenant.to_owned());
        if let Some(key) = self.with_derived(|derived| derived.get(&name).cloned()).flatten() {
            return Ok(key);
        }
        let master = &self.keys[index].0;
        let key = match form {
            Form::Family => derive(master, Domain::Encryption, tenant)?,
            Form::Native => derive_native(master, Use::Entries, tenant)?,
        };
        let key = Arc::new(DerivedKey { aead: AeadKey::new(&key), fingerprint: fingerprint(&key) });
        self.with_derived(|derived| derived.put(name, Arc::clone(&key)));
        Ok(key)
    }

    /// Works on the derived keys, unless their lock is not to be had: in a child of `fork()` it may be held for ever by a
    /// thread that the child does not have. To derive a key anew takes a few microseconds; to wait could take for ever.
    fn with_derived<T>(&self, work: impl FnOnce(&mut Derived) -> T) -> Option<T> {
        for _ in 0..LOCK_ATTEMPTS {
            match self.derived.try_lock() {
                Ok(mut derived) => return Some(work(&mut derived)),
                // Nothing that can panic runs under this lock.
                Err(TryLockError::Poisoned(poisoned)) => return Some(work(&mut poisoned.into_inner())),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        None
    }

    /// An entry was opened by this key.
    pub(crate) fn count_hit(&self, index: usize) {
        if let Some(hits) = index.checked_sub(1).and_then(|index| self.previous_hits.get(index)) {
            hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A message is about to be sealed.
    pub(crate) fn count_message(&self) -> Result<(), KeyringError> {
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
    pub(crate) fn at_message(self, sealed: u64) -> Self {
        self.sealed.store(sealed, Ordering::Relaxed);
        self
    }

    #[cfg(test)]
    pub(crate) fn derived_keys(&self) -> usize {
        self.with_derived(|derived| derived.len()).unwrap()
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
