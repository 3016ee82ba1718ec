//! What a builder is told about encryption.

use std::fmt;
use std::sync::Arc;

use super::derive::DEFAULT_TENANT;
use super::keyring::Keyring;

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
}

impl Encryption {
    /// With these keys, for the tenant [`DEFAULT_TENANT`]. A ring may serve several caches.
    #[must_use]
    pub fn new(keyring: impl Into<Arc<Keyring>>) -> Self {
        let (plaintext_in_l1, hash_keys) = (false, false);
        Self { keyring: keyring.into(), tenant: DEFAULT_TENANT.into(), plaintext_in_l1, hash_keys }
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

    /// Whether the store gets keyed hashes in place of keys (`false`). Listings then show hashes, in which keys cannot be
    /// recognized by anybody; and since the hash is made of the current master key, a rotation starts with a cold cache.
    #[must_use]
    pub fn with_hashed_keys(mut self, hash: bool) -> Self {
        self.hash_keys = hash;
        self
    }
}

/// Nothing of the keys, and not whose they are.
impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption")
            .field("keyring", &self.keyring)
            .field("plaintext_in_l1", &self.plaintext_in_l1)
            .field("hash_keys", &self.hash_keys)
            .finish_non_exhaustive()
    }
}
