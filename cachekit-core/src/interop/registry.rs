//! Names that Python's tenant-scoped Redis keeps beside its entries, and the events by which its processes evict each other.
//!
//! A function's keys are listed in a set, `ck:reg:{namespace}:{hash}`; whoever deletes some of them publishes which. Reading
//! both lets a Rust process drop what a Python process has invalidated, and the reverse.

use super::error::{InteropError, Malformed};
use super::hex;
use super::pack;
use super::unpack::{Reader, Token};

/// The Pub/Sub channel of the events. It is not prefixed by a tenant.
pub const INVALIDATION_CHANNEL: &str = "cachekit:py:invalidate:v1";
/// Life of a registry set, seconds: a week.
pub const REGISTRY_TTL_SECS: u64 = 604_800;
/// Longest event.
pub const MAX_EVENT_BYTES: usize = 4096;
/// Longest registry id and longest key in an event.
pub const MAX_FIELD_BYTES: usize = 1024;
/// Most fields in an event; those that are not known are passed over.
const MAX_FIELDS: usize = 4;

/// What stands for a function: 16 hex digits of the BLAKE3 of `module.qualname`.
#[must_use]
pub fn function_hash(module: &str, qualname: &str) -> String {
    digest(&format!("{module}.{qualname}"), 16)
}

/// The registry id of a function, which is also the name of its set.
#[must_use]
pub fn registry_id(namespace: Option<&str>, module: &str, qualname: &str) -> String {
    format!("ck:reg:{}:{}", namespace.unwrap_or_default(), function_hash(module, qualname))
}

/// The key of a call whose function has a `key=` function of its own, which returned `custom`.
#[must_use]
pub fn custom_key(namespace: Option<&str>, module: &str, qualname: &str, custom: &str) -> String {
    let namespace = namespace.filter(|namespace| !namespace.is_empty()).unwrap_or("default");
    format!("{}-{namespace}:{custom}", function_hash(module, qualname))
}

/// The key of Python's fast mode: `text` is `str(args) + str(kwargs)`.
#[must_use]
pub fn fast_key(namespace: Option<&str>, module: &str, qualname: &str, text: &str) -> String {
    let namespace = namespace.filter(|namespace| !namespace.is_empty()).unwrap_or("default");
    format!("{namespace}:{}:{}", &function_hash(module, qualname)[..8], digest(text, 32))
}

fn digest(text: &str, digits: usize) -> String {
    let mut digest = hex(blake3::hash(text.as_bytes()).as_bytes());
    digest.truncate(digits);
    digest
}

/// That one key, or every key of a function, was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidationEvent {
    /// Whose keys.
    pub registry_id: String,
    /// Which one; `None`: all of them.
    pub key: Option<String>,
}

impl InvalidationEvent {
    /// The payload to publish; `None` if the registry id is too long to be sent. A key that is too long is left out, which
    /// says "all of them": more than was deleted, never less.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        if self.registry_id.len() > MAX_FIELD_BYTES {
            return None;
        }
        let key = self.key.as_deref().filter(|key| key.len() <= MAX_FIELD_BYTES);
        let mut out = Vec::new();
        pack::map(&mut out, 1 + usize::from(key.is_some()));
        pack::str(&mut out, "r");
        pack::str(&mut out, &self.registry_id);
        if let Some(key) = key {
            pack::str(&mut out, "k");
            pack::str(&mut out, key);
        }
        Some(out)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`InteropError::Malformed`]; [`InteropError::TooLarge`] before anything of a long one is looked at.
    pub fn decode(payload: &[u8]) -> Result<Self, InteropError> {
        if payload.len() > MAX_EVENT_BYTES {
            return Err(InteropError::TooLarge { max: MAX_EVENT_BYTES as u64 });
        }
        let mut reader = Reader::new(payload);
        let fields = match reader.next()? {
            Token::Map(fields) if fields <= MAX_FIELDS => fields,
            _ => return Err(Malformed::Type.into()),
        };
        let (mut registry_id, mut key) = (None, None);
        for _ in 0..fields {
            let Token::Str(name) = reader.next()? else { return Err(Malformed::MapKey.into()) };
            match (name, reader.next()?) {
                ("r", Token::Str(text)) => registry_id = Some(text.to_owned()),
                ("k", Token::Str(text)) => key = Some(text.to_owned()),
                ("r" | "k", _) | (_, Token::Array(_) | Token::Map(_) | Token::Bin(_) | Token::Ext(..)) => {
                    return Err(Malformed::Type.into());
                }
                _ => {}
            }
        }
        if !reader.rest().is_empty() {
            return Err(Malformed::Trailing.into());
        }
        let registry_id = registry_id.ok_or(Malformed::Type)?;
        Ok(Self { registry_id, key })
    }
}
