//! Secrets: the master keys of a cache, what is derived from them, and the cipher.
//!
//! One room for both formats that encrypt, the native entries (`codec`) and those of the family (`interop`), so that keys
//! are held, counted, rotated and wiped in one place. What it protects: no key is in an output, and none is left in memory
//! that was freed, as far as a process can see to that; no two messages share a nonce; and what opens is only ever what
//! was sealed for the same tenant, under a key of the ring, with the same associated data.
//!
//! ```text
//! keyring.rs   master keys, at most four, and what was derived from them     aead.rs            the cipher, behind one seam
//! derive.rs    master key → tenant's key, key's name, name of a fingerprint  ├ rust_crypto.rs   always there
//! native.rs    the sealer of native entries                                  └ aws_lc.rs        faster, wants a C compiler
//! names.rs     keyed hashes in place of keys                                 encryption.rs      what the builder takes
//! ```
//!
//! No randomness but the operating system's: twelve bytes for each message, drawn when it is sealed. `docs/encryption.md`
//! says what that costs and what it buys.

mod aead;
#[cfg(feature = "aws-lc-rs")]
mod aws_lc;
#[cfg(not(feature = "aws-lc-rs"))]
#[path = "aws_lc_disabled.rs"]
mod aws_lc;
mod derive;
mod encryption;
mod error;
mod keyring;
mod names;
mod native;
mod rust_crypto;
#[cfg(test)]
mod tests;

pub use aead::{NONCE_LEN, Provider, TAG_LEN};
pub use derive::{DEFAULT_TENANT, Domain, MAX_TENANT_BYTES, derive, fingerprint};
pub use encryption::Encryption;
pub use error::KeyringError;
pub use keyring::{Keyring, MASTER_KEY_BYTES, MAX_PREVIOUS_KEYS, MasterKey};
pub use native::NativeSealer;

pub(crate) use aead::{AeadKey, draw_nonce};
pub(crate) use derive::check_tenant;
pub(crate) use names::{HashedKey, NameKey};
