//! AES-256-GCM as the family uses it: `nonce 12 · ciphertext · tag 16`, bound to tenant, key and form of the entry.
//!
//! The associated data are in neither the entry nor the store: a reader makes them from what it asked for, so an entry that
//! was moved to another key or another tenant fails the tag. The nonce is drawn from the operating system for each message
//! and never ahead: a counter or a block of random bytes in memory would repeat after `fork()` or a restored snapshot.

use super::error::InteropError;
use crate::crypto::{AeadKey, Keyring, KeyringError, check_tenant, draw_nonce};

pub use crate::crypto::{NONCE_LEN as NONCE_BYTES, TAG_LEN as TAG_BYTES};

const AAD_VERSION: u8 = 0x03;
/// Longest plaintext of one message in this mode: 2^39 - 256 bits.
const MAX_PLAINTEXT: u64 = (1 << 36) - 32;

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
        check_tenant(self.tenant)?;
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

/// Entries of the family under the keys of a ring.
impl Keyring {
    /// Seals `plaintext` under the current key.
    ///
    /// # Errors
    /// [`InteropError::Keyring`], [`InteropError::Random`].
    pub fn seal(&self, binding: &Binding<'_>, plaintext: &[u8]) -> Result<Vec<u8>, InteropError> {
        let associated_data = binding.associated_data()?;
        let key = self.family_key(0, binding.tenant)?;
        self.count_message()?;
        let mut nonce = [0; NONCE_BYTES];
        draw_nonce(&mut nonce).map_err(|_| InteropError::Random)?;
        seal_with(&key.aead, nonce, &associated_data, plaintext)
    }

    /// Opens an entry that does not name its key: the current one first, then the previous ones in their order.
    ///
    /// # Errors
    /// [`InteropError::Tampered`] if none fits, [`InteropError::Keyring`].
    pub fn open(&self, binding: &Binding<'_>, sealed: &[u8]) -> Result<Vec<u8>, InteropError> {
        let associated_data = binding.associated_data()?;
        for index in 0..self.len() {
            if let Some(plaintext) = open_with(&self.family_key(index, binding.tenant)?.aead, &associated_data, sealed)
            {
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
            for candidate in 0..self.len() {
                if super::hex(&self.family_key(candidate, binding.tenant)?.fingerprint) == fingerprint {
                    named = Some(candidate);
                    break;
                }
            }
            index = match named {
                Some(named) => named,
                None if self.is_fail_closed() => return Err(InteropError::Tampered),
                None => 0,
            };
        }
        let opened = open_with(&self.family_key(index, binding.tenant)?.aead, &associated_data, sealed)
            .ok_or(InteropError::Tampered)?;
        self.count_hit(index);
        Ok(opened)
    }

    /// The fingerprint of the current key for a tenant, in hex, as a frame's header has it.
    ///
    /// # Errors
    /// [`KeyringError::Tenant`].
    pub fn fingerprint(&self, tenant: &str) -> Result<String, KeyringError> {
        Ok(super::hex(&self.family_key(0, tenant)?.fingerprint))
    }

    #[cfg(test)]
    pub(super) fn seal_with(&self, nonce: [u8; NONCE_BYTES], binding: &Binding<'_>, plaintext: &[u8]) -> Vec<u8> {
        let key = self.family_key(0, binding.tenant).unwrap();
        seal_with(&key.aead, nonce, &binding.associated_data().unwrap(), plaintext).unwrap()
    }
}

fn seal_with(
    key: &AeadKey,
    nonce: [u8; NONCE_BYTES],
    associated_data: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, InteropError> {
    let mut out = Vec::with_capacity(NONCE_BYTES + plaintext.len() + TAG_BYTES);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plaintext);
    // Refused are lengths that no entry reaches: 64 GB.
    let too_long = |_| InteropError::TooLarge { max: MAX_PLAINTEXT };
    let tag = key.seal(&nonce, associated_data, &mut out[NONCE_BYTES..]).map_err(too_long)?;
    out.extend_from_slice(&tag);
    Ok(out)
}

/// Opens what [`seal_with`] made; `None` if it is not authentic. Too short is not authentic either: whoever can cut an
/// entry can also change it.
fn open_with(key: &AeadKey, associated_data: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let (text, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
    let mut text = text.to_vec();
    key.open(nonce, associated_data, &mut text, tag).ok()?;
    Some(text)
}
