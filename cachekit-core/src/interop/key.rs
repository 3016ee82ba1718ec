//! interop/v1 keys: `{namespace}:{operation}:{64 hex digits}`, the same for the same call in every language.
//!
//! They are at most 194 characters of an alphabet that every store takes, so they are stored as they are: nothing is
//! escaped, prefixed or shortened, because another language would look elsewhere.

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};

use super::argument::Argument;
use super::canonical::canonical_arguments;
use super::error::InteropError;
use super::hex;

/// Longest namespace or operation.
pub const MAX_SEGMENT_BYTES: usize = 64;

/// The key of a call: `arguments` is the flat list of its bound arguments.
///
/// ```
/// use cachekit_core::interop::{Argument, interop_key};
///
/// let key = interop_key("users", "get_user", &[Argument::from(42)])?;
/// assert_eq!(key, "users:get_user:61598716255080080f6456eb065c2e51badfaa4320b0efe97469c29cffee8875");
/// # Ok::<(), cachekit_core::interop::InteropError>(())
/// ```
///
/// # Errors
/// [`InteropError::Segment`], [`InteropError::Argument`].
pub fn interop_key(namespace: &str, operation: &str, arguments: &[Argument]) -> Result<String, InteropError> {
    check_namespace(namespace)?;
    check_segment("operation", operation)?;
    let digest = arguments_digest(&canonical_arguments(arguments)?);
    Ok(format!("{namespace}:{operation}:{digest}"))
}

/// What of the arguments stands in a key: 64 hex digits of the BLAKE2b-256 of their canonical bytes.
#[must_use]
pub fn arguments_digest(canonical: &[u8]) -> String {
    hex(&Blake2b::<U32>::digest(canonical))
}

/// A namespace of interop keys. `ns` and `nsapi` are taken by the keys of Python's default mode.
///
/// # Errors
/// [`InteropError::Segment`].
pub fn check_namespace(namespace: &str) -> Result<(), InteropError> {
    check_segment("namespace", namespace)?;
    match namespace {
        "ns" | "nsapi" => Err(InteropError::Segment { segment: "namespace", reason: "ns and nsapi are reserved" }),
        _ => Ok(()),
    }
}

fn check_segment(segment: &'static str, text: &str) -> Result<(), InteropError> {
    let refuse = |reason| Err(InteropError::Segment { segment, reason });
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let Some(first) = text.bytes().next() else { return refuse("it is empty") };
    if text.len() > MAX_SEGMENT_BYTES {
        return refuse("it has more than 64 characters");
    }
    if !plain(first) {
        return refuse("it must begin with a-z or 0-9");
    }
    if !text.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-')) {
        return refuse("it may hold a-z, 0-9, '.', '_' and '-' alone");
    }
    if text.contains("..") {
        return refuse("it must not hold '..', which servers of the family refuse in a path");
    }
    Ok(())
}
