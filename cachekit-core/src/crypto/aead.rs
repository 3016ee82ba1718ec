//! AES-256-GCM, whoever computes it.
//!
//! The seam behind which two providers stand. They have the same answers for the same bytes, and each opens what the other
//! sealed; they differ in speed alone. A key is expanded once, when it is derived, and never per message.
//!
//! The nonce is drawn here and nowhere else, from the operating system, for this one message. A counter, a block of random
//! bytes drawn ahead, or a generator in this process would be copied by `fork()` and by a snapshot of the machine, and the
//! copies would seal two messages under one nonce, which opens both of them to whoever sees them.

use super::{aws_lc, rust_crypto};

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

/// Who computes the cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// AWS-LC, by `aws-lc-rs`: some five times as fast on values of 16 KB. In builds with the feature `aws-lc-rs`.
    AwsLc,
    /// `aes-gcm`, all in Rust: in every build.
    RustCrypto,
}

impl Provider {
    /// The one that this build uses.
    #[must_use]
    pub const fn in_use() -> Self {
        if aws_lc::IS_BUILT { Self::AwsLc } else { Self::RustCrypto }
    }

    /// Name of the crate.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AwsLc => "aws-lc-rs",
            Self::RustCrypto => "aes-gcm",
        }
    }
}

/// The tag does not fit, or a length is one that no entry reaches. Says nothing of where: that would help whoever forges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AeadError;

/// An expanded key. Wiped when it is dropped; never shown.
pub(crate) struct AeadKey(Schedule);

enum Schedule {
    AwsLc(aws_lc::Schedule),
    RustCrypto(Box<rust_crypto::Schedule>),
}

impl AeadKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self::with(Provider::in_use(), key)
    }

    /// With a provider of the caller's choice; one that is not in this build is replaced by the one that always is.
    pub(crate) fn with(provider: Provider, key: &[u8; 32]) -> Self {
        let fast = (provider == Provider::AwsLc).then(|| aws_lc::Schedule::new(key)).flatten();
        Self(match fast {
            Some(schedule) => Schedule::AwsLc(schedule),
            None => Schedule::RustCrypto(Box::new(rust_crypto::Schedule::new(key))),
        })
    }

    /// Encrypts `text` in place under a nonce that must never have been used before with this key.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated_data: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        match &self.0 {
            Schedule::AwsLc(schedule) => schedule.seal(nonce, associated_data, text),
            Schedule::RustCrypto(schedule) => schedule.seal(nonce, associated_data, text),
        }
    }

    /// Decrypts `text` in place if the tag fits. If it does not, what is left in `text` is worth nothing: one provider
    /// wipes it, the other leaves it.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated_data: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        match &self.0 {
            Schedule::AwsLc(schedule) => schedule.open(nonce, associated_data, text, tag),
            Schedule::RustCrypto(schedule) => schedule.open(nonce, associated_data, text, tag),
        }
    }
}

/// Fills a nonce for the message that is about to be sealed.
pub(crate) fn draw_nonce(nonce: &mut [u8; NONCE_LEN]) -> Result<(), AeadError> {
    getrandom::fill(nonce).map_err(|_| AeadError)
}
