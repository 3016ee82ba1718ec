//! From a master key to the key of one tenant, and to what names it.
//!
//! ```text
//! the family's: key         = HKDF-SHA256(master, salt, info = domain, 32 bytes)
//!               salt        = "cachekit_v1_" · u8 len(domain) · domain · u16be len(tenant) · tenant
//!               fingerprint = first 16 bytes of SHA-256("key_fingerprint_v1" · key)
//! native:       bytes       = HKDF-SHA256(master, salt = "cachekit native v1", info = use · 00 · tenant, 32 bytes)
//! ```
//! A tenant whose key leaks tells nothing about another's, and one use nothing about the others. No salt of one form can be
//! one of the other, so the same master key may serve both and no key is ever shared between them.

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::KeyringError;

/// Longest tenant id.
pub const MAX_TENANT_BYTES: usize = 1024;
/// The tenant of a cache that knows only one.
pub const DEFAULT_TENANT: &str = "default";

const SALT: &[u8] = b"cachekit_v1_";
const FINGERPRINT: &[u8] = b"key_fingerprint_v1";

/// What a derived key is for. Only [`Domain::Encryption`] is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// AES-256-GCM of entries.
    Encryption,
    /// Reserved by the family.
    Authentication,
    /// Reserved by the family.
    CacheKeys,
}

impl Domain {
    const fn name(self) -> &'static str {
        match self {
            Self::Encryption => "encryption",
            Self::Authentication => "authentication",
            Self::CacheKeys => "cache_keys",
        }
    }
}

/// Derives the 32 bytes of a domain and a tenant.
///
/// # Errors
/// [`KeyringError::Tenant`].
pub fn derive(master: &[u8], domain: Domain, tenant: &str) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    check_tenant(tenant)?;
    let domain = domain.name().as_bytes();
    let mut salt = Vec::with_capacity(SALT.len() + domain.len() + tenant.len() + 3);
    salt.extend_from_slice(SALT);
    salt.push(domain.len() as u8);
    salt.extend_from_slice(domain);
    salt.extend_from_slice(&(tenant.len() as u16).to_be_bytes());
    salt.extend_from_slice(tenant.as_bytes());
    let mut key = Zeroizing::new([0; 32]);
    // Fails for more than 255 blocks of output alone; this is one.
    Hkdf::<Sha256>::new(Some(&salt), master).expand(domain, &mut *key).map_err(|_| KeyringError::Tenant)?;
    Ok(key)
}

/// What native bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// AES-256-GCM of a tenant's entries.
    Entries,
    /// The hash in place of a tenant's keys.
    Names,
    /// The name of the master key itself, which stands in each entry.
    KeyName,
}

impl Use {
    /// None holds a zero byte, so the first one ends it.
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Entries => b"entries",
            Self::Names => b"names",
            Self::KeyName => b"key name",
        }
    }
}

const NATIVE_SALT: &[u8] = b"cachekit native v1";

/// Derives the 32 bytes of a use and a tenant for native entries. A master key's name belongs to no tenant: there it is empty.
pub(super) fn derive_native(master: &[u8], purpose: Use, tenant: &str) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    if purpose != Use::KeyName {
        check_tenant(tenant)?;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    let info: [&[u8]; 3] = [purpose.label(), &[0], tenant.as_bytes()];
    // Fails for more than 255 blocks of output alone; this is one.
    let hkdf = Hkdf::<Sha256>::new(Some(NATIVE_SALT), master);
    hkdf.expand_multi_info(&info, &mut *bytes).map_err(|_| KeyringError::Tenant)?;
    Ok(bytes)
}

pub(crate) fn check_tenant(tenant: &str) -> Result<(), KeyringError> {
    if tenant.is_empty() || tenant.len() > MAX_TENANT_BYTES { Err(KeyringError::Tenant) } else { Ok(()) }
}

/// The name of a derived key, as it stands in a frame's header in hex. It tells nothing about the key.
#[must_use]
pub fn fingerprint(key: &[u8; 32]) -> [u8; 16] {
    let digest = Sha256::new().chain_update(FINGERPRINT).chain_update(key).finalize();
    let mut fingerprint = [0; 16];
    fingerprint.copy_from_slice(&digest[..16]);
    fingerprint
}
