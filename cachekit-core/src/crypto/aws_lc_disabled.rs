//! In place of the fast provider, in builds without the feature `aws-lc-rs`: nobody has such a key.

use std::convert::Infallible;

use super::aead::{AeadError, NONCE_LEN, TAG_LEN};

pub(super) const IS_BUILT: bool = false;

pub(super) struct Schedule(Infallible);

impl Schedule {
    pub(super) const fn new(_key: &[u8; 32]) -> Option<Self> {
        None
    }

    pub(super) fn seal(
        &self,
        _nonce: &[u8; NONCE_LEN],
        _associated_data: &[u8],
        _text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        match self.0 {}
    }

    pub(super) fn open(
        &self,
        _nonce: &[u8; NONCE_LEN],
        _associated_data: &[u8],
        _text: &mut [u8],
        _tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        match self.0 {}
    }
}
