//! The fast provider: AWS-LC, with a nonce of ours and never one of its own.
//!
//! Its twin [`aws_lc_disabled.rs`](super::aws_lc) stands in where the feature `aws-lc-rs` is off.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::aead::{AeadError, NONCE_LEN, TAG_LEN};

pub(super) const IS_BUILT: bool = true;

/// AWS-LC wipes what it allocated for a key when it frees it.
pub(super) struct Schedule(LessSafeKey);

impl Schedule {
    pub(super) fn new(key: &[u8; 32]) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, key).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    pub(super) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated_data: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed = self.0.seal_in_place_separate_tag(nonce, Aad::from(associated_data), text);
        let tag = sealed.map_err(|_| AeadError)?;
        tag.as_ref().try_into().map_err(|_| AeadError)
    }

    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated_data: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place_separate_tag(nonce, Aad::from(associated_data), tag, text);
        opened.map(|_| ()).map_err(|_| AeadError)
    }
}
