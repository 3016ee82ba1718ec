//! The sealer of native entries: one tenant, under each key of a ring.
//!
//! All keys are derived and expanded when the cache is built, so that sealing and opening take no lock and look nothing up:
//! a child of `fork()` finds nothing held by a thread that it lacks.
//!
//! An entry names the master key that sealed it. The name binds: only that key is tried. A name that is not of the ring is a
//! matter of configuration, a key that was rotated away too early, unless the rest of the entry is authentic under a key
//! that is there; then somebody has changed the name, and that is tampering like any other change.

use std::fmt;
use std::sync::Arc;

use super::aead::{NONCE_LEN, Provider, TAG_LEN, draw_nonce};
use super::error::KeyringError;
use super::keyring::{DerivedKey, Keyring};
use crate::codec::{Cipher, KeyName, OpenError, SealError, Sealed, Sealer, Wiped};

/// Encrypts and decrypts native entries for one tenant.
pub struct NativeSealer {
    keyring: Arc<Keyring>,
    /// The current one first.
    keys: Vec<(KeyName, Arc<DerivedKey>)>,
    current: KeyName,
    key: Arc<DerivedKey>,
}

impl NativeSealer {
    /// For a tenant, with its keys under all master keys of the ring.
    ///
    /// # Errors
    /// [`KeyringError::Tenant`].
    pub fn new(keyring: Arc<Keyring>, tenant: &str) -> Result<Self, KeyringError> {
        Self::of(Arc::clone(&keyring), |index| keyring.native_key(index, tenant))
    }

    /// The same with a provider of the caller's choice, where [`Provider::in_use`] is not wanted: for comparisons, and for
    /// who must name what computes his cipher. One that is not in this build is replaced by the one that always is.
    ///
    /// # Errors
    /// As [`NativeSealer::new`].
    pub fn with_provider(keyring: Arc<Keyring>, tenant: &str, provider: Provider) -> Result<Self, KeyringError> {
        Self::of(Arc::clone(&keyring), |index| keyring.native_key_by(provider, index, tenant))
    }

    fn of(
        keyring: Arc<Keyring>,
        key: impl Fn(usize) -> Result<Arc<DerivedKey>, KeyringError>,
    ) -> Result<Self, KeyringError> {
        let named = |index| Ok((KeyName::new(keyring.key_name(index)?), key(index)?));
        let keys = (0..keyring.len()).map(named).collect::<Result<Vec<_>, KeyringError>>()?;
        let (current, key) = named(0)?;
        Ok(Self { keyring, keys, current, key })
    }

    /// Whether an entry with an unknown name is one of ours but for its name.
    fn is_renamed(&self, sealed: &Sealed<'_>, text: &[u8]) -> bool {
        let mut associated_data = sealed.associated_data.to_vec();
        self.keys.iter().any(|(name, key)| {
            name.write_into(&mut associated_data);
            // Each on a copy of its own: a provider may wipe what it could not open.
            let mut text = Wiped(text.to_vec());
            key.aead.open(sealed.nonce, &associated_data, &mut text.0, sealed.tag).is_ok()
        })
    }
}

impl Sealer for NativeSealer {
    fn cipher(&self) -> Cipher {
        Cipher::Aes256Gcm
    }

    fn key_name(&self) -> KeyName {
        self.current
    }

    fn seal(
        &self,
        associated_data: &[u8],
        nonce: &mut [u8; NONCE_LEN],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], SealError> {
        self.keyring.count_message().map_err(|_| SealError::Exhausted)?;
        draw_nonce(nonce).map_err(|_| SealError::Random)?;
        self.key.aead.seal(nonce, associated_data, text).map_err(|_| SealError::Cipher)
    }

    fn open(&self, sealed: &Sealed<'_>, text: &mut [u8]) -> Result<(), OpenError> {
        let mut is_known = false;
        for (index, (name, key)) in self.keys.iter().enumerate() {
            if *name != sealed.key_name {
                continue;
            }
            is_known = true;
            if key.aead.open(sealed.nonce, sealed.associated_data, text, sealed.tag).is_ok() {
                self.keyring.count_hit(index);
                return Ok(());
            }
        }
        if is_known || self.is_renamed(sealed, text) { Err(OpenError::Tampered) } else { Err(OpenError::NoKey) }
    }
}

/// How many keys there are, and nothing of them.
impl fmt::Debug for NativeSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeSealer").field("keyring", &self.keyring).finish_non_exhaustive()
    }
}
