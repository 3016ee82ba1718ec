//! AES-256-GCM as the family uses it: `nonce 12 · ciphertext · tag 16`, bound to tenant, key and form of the entry.
//!
//! The associated data are in neither the entry nor the store: a reader makes them from what it asked for, so an entry that
//! was moved to another key or another tenant fails the tag. The nonce is drawn from the operating system for each message
//! and never ahead: a counter or a block of random bytes in memory would repeat after `fork()` or a restored snapshot.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};

use super::derive::fingerprint;
use super::error::{InteropError, KeyringError};

/// Bytes before the ciphertext.
pub const NONCE_BYTES: usize = 12;
/// Bytes after it.
pub const TAG_BYTES: usize = 16;

const AAD_VERSION: u8 = 0x03;

/// What an entry is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The tenant whose key seals it.
    pub tenant: &'a str,
    /// The whole key, with the prefix that a backend puts before it.
    pub cache_key: &'a str,
    /// `msgpack`, `orjson` or `arrow`.
    pub format: &'a str,
    /// What the header says: whether the plaintext is an envelope.
    pub compressed: bool,
    /// What the header says; none for interop entries.
    pub original_type: Option<&'a str>,
}

impl<'a> Binding<'a> {
    /// Of an interop entry: plain MessagePack.
    #[must_use]
    pub const fn interop(tenant: &'a str, cache_key: &'a str) -> Self {
        Self { tenant, cache_key, format: "msgpack", compressed: false, original_type: None }
    }

    /// The associated data, version 3: each component behind its length, so that no two bindings share their bytes.
    ///
    /// # Errors
    /// [`KeyringError::CacheKey`], [`KeyringError::Tenant`].
    pub fn associated_data(&self) -> Result<Vec<u8>, KeyringError> {
        super::derive::check_tenant(self.tenant)?;
        if self.cache_key.is_empty() || u32::try_from(self.cache_key.len()).is_err() {
            return Err(KeyringError::CacheKey);
        }
        let compressed = if self.compressed { "True" } else { "False" };
        let original_type = self.original_type.filter(|text| !text.is_empty());
        let mut out = vec![AAD_VERSION];
        for component in [self.tenant, self.cache_key, self.format, compressed].into_iter().chain(original_type) {
            out.extend_from_slice(&(component.len() as u32).to_be_bytes());
            out.extend_from_slice(component.as_bytes());
        }
        Ok(out)
    }
}

/// One tenant's key, ready to work. Wiped when it is dropped; never shown.
pub(super) struct SealingKey {
    cipher: Aes256Gcm,
    pub(super) fingerprint: [u8; 16],
}

impl SealingKey {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { cipher: Aes256Gcm::new(key.into()), fingerprint: fingerprint(key) }
    }

    /// Seals under a fresh nonce.
    pub(super) fn seal(&self, associated_data: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, InteropError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| InteropError::Random)?;
        self.seal_with(nonce, associated_data, plaintext)
    }

    /// Seals under a given nonce: for the known answers alone.
    pub(super) fn seal_with(
        &self,
        nonce: [u8; NONCE_BYTES],
        associated_data: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, InteropError> {
        let mut out = Vec::with_capacity(NONCE_BYTES + plaintext.len() + TAG_BYTES);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plaintext);
        let text = InOutBuf::from(&mut out[NONCE_BYTES..]);
        // Refused are lengths that no entry reaches: 64 GB.
        let too_long = |_| InteropError::TooLarge { max: aes_gcm::P_MAX };
        let tag = self.cipher.encrypt_inout_detached(&Nonce::from(nonce), associated_data, text).map_err(too_long)?;
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Opens what [`Self::seal`] made; `None` if it is not authentic. Too short is not authentic either: whoever can cut an
    /// entry can also change it.
    pub(super) fn open(&self, associated_data: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let (text, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let mut text = text.to_vec();
        let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
        self.cipher.decrypt_inout_detached(&nonce, associated_data, InOutBuf::from(&mut text[..]), &tag).ok()?;
        Some(text)
    }
}
