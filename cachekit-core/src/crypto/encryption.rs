//! What a builder is told about encryption.

use std::fmt;
use std::sync::Arc;

use super::derive::DEFAULT_TENANT;
use super::error::KeyringError;
use super::keyring::{Keyring, MasterKey};
use super::names::NameKey;

/// Encrypts everything that a cache stores, and makes it accept nothing else.
///
/// ```
/// use cachekit_core::Cache;
/// use cachekit_core::crypto::{Encryption, Keyring, MasterKey};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let key = MasterKey::from_hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")?;
/// let ring = Keyring::new(key, Vec::new())?;
/// let cache = Cache::builder().encryption(Encryption::new(ring).with_tenant("acme")).build()?;
/// cache.set("session:42", "Ada").await?;
/// assert_eq!(*cache.get::<String>("session:42").await?.unwrap(), "Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Encryption {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) tenant: Arc<str>,
    pub(crate) plaintext_in_l1: bool,
    pub(crate) hash_keys: bool,
    pub(crate) reseal: bool,
    /// What hashes; `None`: the current master key.
    name_key: Option<MasterKey>,
}

impl Encryption {
    /// With these keys, for the tenant [`DEFAULT_TENANT`]. A ring may serve several caches.
    #[must_use]
    pub fn new(keyring: impl Into<Arc<Keyring>>) -> Self {
        let (plaintext_in_l1, hash_keys) = (false, false);
        let (keyring, tenant) = (keyring.into(), DEFAULT_TENANT.into());
        Self { keyring, tenant, plaintext_in_l1, hash_keys, reseal: false, name_key: None }
    }

    /// For a tenant: it has keys of its own, and no cache of another tenant opens its entries. The tenant is no part of the
    /// keys, so two tenants on one store need namespaces of their own. 1 to 1024 bytes.
    #[must_use]
    pub fn with_tenant(mut self, tenant: &str) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Whether L1 keeps decoded values beside the ciphertext (`false`). Hits are then as fast as without encryption, and
    /// whoever can read the memory of this process, or a dump of it, finds all values and not only those in use.
    #[must_use]
    pub fn with_plaintext_in_l1(mut self, plaintext: bool) -> Self {
        self.plaintext_in_l1 = plaintext;
        self
    }

    /// Whether the store gets keyed hashes in place of keys and tags (`false`). Listings then show hashes, in which keys
    /// cannot be recognized by anybody. The hash is made of the current master key, so that a rotation starts with a cold
    /// cache, unless there is a [key for names](Self::with_name_key).
    #[must_use]
    pub fn with_hashed_keys(mut self, hash: bool) -> Self {
        self.hash_keys = hash;
        self
    }

    /// What keys and tags are hashed under, in place of the current master key: entries are then found after a rotation of
    /// that. It seals nothing. A cache that has hashed under its master key until now goes on with that one here.
    #[must_use]
    pub fn with_name_key(mut self, key: MasterKey) -> Self {
        self.name_key = Some(key);
        self
    }

    /// Whether a read that needed a previous master key writes the entry anew under the current one, in the background
    /// (`false`): a rotation is over sooner, also for entries that live for ever, for one conditional write per entry. Stores
    /// without conditional writes are left alone.
    #[must_use]
    pub fn with_reseal(mut self, reseal: bool) -> Self {
        self.reseal = reseal;
        self
    }

    /// What hashes this tenant's keys and tags; `None`: they are stored as they are.
    pub(crate) fn names(&self) -> Result<Option<NameKey>, KeyringError> {
        let of = |tenant| match &self.name_key {
            Some(key) => key.name_key(tenant),
            None => self.keyring.name_key(tenant),
        };
        self.hash_keys.then(|| of(&self.tenant)).transpose()
    }
}

/// Nothing of the keys, and not whose they are.
impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption")
            .field("keyring", &self.keyring)
            .field("plaintext_in_l1", &self.plaintext_in_l1)
            .field("hash_keys", &self.hash_keys)
            .field("reseal", &self.reseal)
            .field("has_name_key", &self.name_key.is_some())
            .finish_non_exhaustive()
    }
}
