//! The place where encryption plugs into the pipeline.
//!
//! The codec compresses, then seals: `nonce 12 · ciphertext · tag 16`, with every byte before the nonce (header, wire key,
//! tags) as associated data. So an entry moved to another key, or given a longer life, fails the tag. A sealed entry has no
//! checksum: anyone could mend a checksum, and an encrypting cache must call every altered byte by the same name, tampering.
//!
//! A cache with a sealer writes no plaintext and accepts none; a cache without one refuses sealed entries.

use std::fmt;

use thiserror::Error;

/// Bytes of a nonce: drawn from the operating system for each message, by the sealer.
pub const NONCE_LEN: usize = 12;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

/// The ciphers the envelope has numbers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cipher {
    /// AES-256 in Galois/Counter Mode.
    Aes256Gcm,
}

impl Cipher {
    /// The number in the envelope; 0 stands for no cipher.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
        }
    }
}

/// The sealer could not encrypt, for instance because the system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the sealer refused to encrypt")]
pub struct SealError;

/// Why a sealed payload stays closed. The two must not be confused: one is an alarm, the other a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The tag does not fit.
    #[error("the tag does not fit")]
    Tampered,
    /// None of the keys configured is the one that was used.
    #[error("no key for this entry")]
    NoKey,
}

/// Encrypts and decrypts payloads in place. Implementations hold the keys; nothing of them may show in `Debug`.
pub trait Sealer: Send + Sync + fmt::Debug {
    /// Which cipher it is; written into the header.
    fn cipher(&self) -> Cipher;

    /// Fills `nonce` with fresh random bytes, encrypts `text` in place and returns the tag over `aad` and `text`.
    fn seal(&self, aad: &[u8], nonce: &mut [u8; NONCE_LEN], text: &mut [u8]) -> Result<[u8; TAG_LEN], SealError>;

    /// Decrypts `text` in place, if `tag` fits `aad` and `text`.
    fn open(&self, aad: &[u8], nonce: &[u8; NONCE_LEN], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), OpenError>;
}

/// Seals `entry`, whose bytes from `payload_at` on are room for the nonce and then the plain payload.
pub(super) fn seal(sealer: &dyn Sealer, entry: &mut Vec<u8>, payload_at: usize) -> Result<(), SealError> {
    let (aad, rest) = entry.split_at_mut_checked(payload_at).ok_or(SealError)?;
    let (nonce, text) = rest.split_first_chunk_mut().ok_or(SealError)?;
    let tag = sealer.seal(aad, nonce, text)?;
    entry.extend_from_slice(&tag);
    Ok(())
}

/// The plain payload of a sealed `entry` that has its nonce at `payload_at`.
pub(super) fn open(sealer: &dyn Sealer, entry: &[u8], payload_at: usize) -> Result<Vec<u8>, OpenError> {
    let (aad, rest) = entry.split_at_checked(payload_at).ok_or(OpenError::Tampered)?;
    // Too short for a nonce and a tag is tampering too: whoever can cut an entry can also change it.
    let (nonce, rest) = rest.split_first_chunk().ok_or(OpenError::Tampered)?;
    let (text, tag) = rest.split_last_chunk().ok_or(OpenError::Tampered)?;
    let mut text = text.to_vec();
    sealer.open(aad, nonce, &mut text, tag)?;
    Ok(text)
}
