//! The provider that is always there: `aes-gcm`, in Rust alone.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag};

use super::aead::{AeadError, NONCE_LEN, TAG_LEN};

pub(super) struct Schedule(Aes256Gcm);

impl Schedule {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    pub(super) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated_data: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        let text = InOutBuf::from(text);
        let tag = self.0.encrypt_inout_detached(&Nonce::from(*nonce), associated_data, text).map_err(|_| AeadError)?;
        Ok(tag.into())
    }

    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated_data: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
        self.0.decrypt_inout_detached(&nonce, associated_data, InOutBuf::from(text), &tag).map_err(|_| AeadError)
    }
}
