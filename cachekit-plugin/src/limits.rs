//! What keys, values and lives one instance of a store takes.

/// Which bytes a key may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyBytes {
    /// Every byte.
    Any,
    /// Printable ASCII without the space: `!` to `~`.
    Printable,
}

/// What a scan of the store lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enumerates {
    /// Wire keys.
    Keys,
    /// Opaque ids that only [`Scan::read`](crate::Scan::read) understands.
    Ids,
    /// Nothing: the store cannot be enumerated.
    No,
}

/// What one instance takes. The engine shortens or refuses what goes beyond, and the conformance suite takes its sizes
/// from here.
///
/// ```
/// use cachekit_plugin::{KeyBytes, Limits};
/// let limits = Limits::new(250, 1 << 20).with_key_bytes(KeyBytes::Printable).with_ttl_step_ms(1000);
/// assert_eq!(limits.max_key, 250);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// Longest key, bytes.
    pub max_key: u32,
    /// Alphabet of keys.
    pub key_bytes: KeyBytes,
    /// Largest value, bytes.
    pub max_value: u64,
    /// Smallest step of a life, milliseconds: lives are rounded up to it.
    pub ttl_step_ms: u64,
    /// Longest life, milliseconds; longer ones are shortened to it. `u64::MAX`: no ceiling.
    pub ttl_max_ms: u64,
    /// What a scan lists.
    pub enumerates: Enumerates,
    /// A deadline that suits this store, milliseconds; 0 means the store has no opinion.
    pub deadline_hint_ms: u32,
}

impl Limits {
    /// Any key bytes, lives in milliseconds without a ceiling, no enumeration, no hint.
    pub const fn new(max_key: u32, max_value: u64) -> Self {
        Self {
            max_key,
            key_bytes: KeyBytes::Any,
            max_value,
            ttl_step_ms: 1,
            ttl_max_ms: u64::MAX,
            enumerates: Enumerates::No,
            deadline_hint_ms: 0,
        }
    }

    /// Sets the alphabet of keys.
    pub const fn with_key_bytes(mut self, key_bytes: KeyBytes) -> Self {
        self.key_bytes = key_bytes;
        self
    }

    /// Sets the step of lives, milliseconds (at least 1).
    pub const fn with_ttl_step_ms(mut self, step: u64) -> Self {
        self.ttl_step_ms = if step == 0 { 1 } else { step };
        self
    }

    /// Sets the ceiling of lives, milliseconds.
    pub const fn with_ttl_max_ms(mut self, max: u64) -> Self {
        self.ttl_max_ms = max;
        self
    }

    /// Sets what a scan lists.
    pub const fn with_enumerates(mut self, enumerates: Enumerates) -> Self {
        self.enumerates = enumerates;
        self
    }

    /// Sets the suggested deadline, milliseconds.
    pub const fn with_deadline_hint_ms(mut self, hint: u32) -> Self {
        self.deadline_hint_ms = hint;
        self
    }

    /// Whether the store takes `key` as it is.
    pub fn takes_key(&self, key: &[u8]) -> bool {
        !key.is_empty()
            && key.len() as u64 <= u64::from(self.max_key)
            && match self.key_bytes {
                KeyBytes::Any => true,
                KeyBytes::Printable => key.iter().all(|byte| (b'!'..=b'~').contains(byte)),
            }
    }
}
