//! The place where encryption plugs into the pipeline.
//!
//! The codec compresses, then seals: `nonce 12 · ciphertext · tag 16`, with every byte before the nonce (header, wire key,
//! tags) as associated data. So an entry moved to another key, or given a longer life, fails the tag. A sealed entry has no
//! checksum: anyone could mend a checksum. In its place stands the name of the key that sealed the entry.
//!
//! A cache with a sealer writes no plaintext and accepts none; a cache without one refuses sealed entries.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::envelope;
use super::wiped::Wiped;

pub use crate::crypto::{NONCE_LEN, TAG_LEN};

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

/// What an entry calls the key that sealed it: enough to tell the keys of a ring apart, and nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyName(u64);

impl KeyName {
    /// A name of the sealer's choice.
    #[must_use]
    pub const fn new(name: u64) -> Self {
        Self(name)
    }

    /// Writes it where an entry has it. `entry` holds at least a header.
    pub(crate) fn write_into(self, entry: &mut [u8]) {
        envelope::set_key_name(entry, self.0);
    }
}

/// The sealer could not encrypt. Nothing is stored then: what must be encrypted is never stored plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The system gave no random bytes.
    #[error("the operating system gave no random bytes for a nonce")]
    Random,
    /// As many messages under one key as random nonces allow.
    #[error("the master key has sealed 2^32 messages, the most that random nonces allow; rotate it")]
    Exhausted,
    /// The cipher refused, for instance a text of 64 GB.
    #[error("the cipher refused to encrypt")]
    Cipher,
}

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

/// What an entry says about its sealed payload.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// The key that it says it was sealed under.
    pub key_name: KeyName,
    /// Every byte before the nonce, the name included.
    pub associated_data: &'a [u8],
    /// The nonce.
    pub nonce: &'a [u8; NONCE_LEN],
    /// The tag.
    pub tag: &'a [u8; TAG_LEN],
}

/// Encrypts and decrypts payloads in place. Implementations hold the keys; nothing of them may show in `Debug`.
pub trait Sealer: Send + Sync + fmt::Debug {
    /// Which cipher it is; written into the header.
    fn cipher(&self) -> Cipher;

    /// The name of the key that it seals with; written into the header.
    fn key_name(&self) -> KeyName;

    /// Fills `nonce` with fresh random bytes, encrypts `text` in place and returns the tag over both.
    fn seal(
        &self,
        associated_data: &[u8],
        nonce: &mut [u8; NONCE_LEN],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], SealError>;

    /// Decrypts `text` in place, if it is authentic.
    fn open(&self, sealed: &Sealed<'_>, text: &mut [u8]) -> Result<(), OpenError>;
}

/// Seals `entry`, whose bytes from `payload_at` on are room for the nonce and then the plain payload.
pub(super) fn seal(sealer: &dyn Sealer, entry: &mut Vec<u8>, payload_at: usize) -> Result<(), SealError> {
    let (associated_data, rest) = entry.split_at_mut_checked(payload_at).ok_or(SealError::Cipher)?;
    sealer.key_name().write_into(associated_data);
    let (nonce, text) = rest.split_first_chunk_mut().ok_or(SealError::Cipher)?;
    let tag = sealer.seal(associated_data, nonce, text)?;
    entry.extend_from_slice(&tag);
    Ok(())
}

/// The plain payload of a sealed `entry` that has its nonce at `payload_at`. Wiped when the last who holds it lets go.
pub(super) fn open(sealer: &dyn Sealer, entry: &[u8], payload_at: usize) -> Result<Bytes, OpenError> {
    let (associated_data, rest) = entry.split_at_checked(payload_at).ok_or(OpenError::Tampered)?;
    // Too short for a nonce and a tag is tampering too: whoever can cut an entry can also change it.
    let (nonce, rest) = rest.split_first_chunk().ok_or(OpenError::Tampered)?;
    let (text, tag) = rest.split_last_chunk().ok_or(OpenError::Tampered)?;
    let key_name = KeyName(envelope::key_name(associated_data).ok_or(OpenError::Tampered)?);
    let mut text = Wiped(text.to_vec());
    sealer.open(&Sealed { key_name, associated_data, nonce, tag }, &mut text.0)?;
    Ok(secret_bytes(text))
}

/// Bytes that are wiped when nobody shares them any more.
pub(super) fn secret_bytes(text: Wiped) -> Bytes {
    if text.0.is_empty() { Bytes::new() } else { Bytes::from_owner(text) }
}
