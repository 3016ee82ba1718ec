//! The formats of the cachekit family: what a Rust service shares with Python services, byte for byte.
//!
//! Two ways of sharing. *Interop mode*, which every language reads and writes: interop/v1 keys and one MessagePack document
//! per value, sealed or plain; [`Cache::interop`](crate::Cache::interop) speaks it. And *Python's default mode*, which names
//! Python functions and wraps what it stores in envelopes and frames: that is for tools.
//!
//! What it protects: whoever can write to the store chooses every byte read here, so lengths, counts and depths are checked
//! before anything is set aside or believed; and whatever would be read by another language as something else, or not at
//! all, is refused when it is written.
//!
//! ```text
//! key.rs argument.rs canonical.rs   interop/v1 keys          frame.rs standard.rs bytestorage.rs   Python's default mode
//! value.rs read.rs typed/           interop values           default_key.rs registry.rs            its keys and events
//! seal.rs (keys: ../crypto)         encryption of both       auto.rs orjson.rs arrow.rs            only looked at
//! ```

mod argument;
mod arrow;
mod auto;
mod bytestorage;
mod calendar;
mod canonical;
mod default_key;
mod error;
mod frame;
mod key;
mod orjson;
mod pack;
mod read;
mod registry;
mod seal;
mod sentinel;
mod standard;
#[cfg(test)]
mod tests;
mod typed;
pub mod typed_json;
mod unpack;
mod value;

pub use crate::crypto::{
    DEFAULT_TENANT, Domain, Keyring, KeyringError, MASTER_KEY_BYTES, MAX_PREVIOUS_KEYS, MAX_TENANT_BYTES, MasterKey,
    derive, fingerprint,
};
pub use argument::{Argument, Arguments, NdArray};
pub use arrow::look_at_arrow;
pub use auto::look_at_auto;
pub use bytestorage::{FORMAT_MSGPACK, MAX_ENVELOPE_BYTES, StoredBytes, checksum, read_envelope, write_envelope};
pub use calendar::{Date, DateTime, Time};
pub use canonical::{canonical_arguments, canonical_value};
pub use default_key::DefaultKey;
pub use error::{Class, EnvelopeFault, InteropError, Malformed};
pub use frame::{FRAME_MAGIC, Frame, FrameEncryption, FrameHeader};
pub use key::{MAX_SEGMENT_BYTES, arguments_digest, check_namespace, interop_key};
pub use orjson::look_at_orjson;
pub use read::read_value;
pub use registry::{
    INVALIDATION_CHANNEL, InvalidationEvent, MAX_EVENT_BYTES, MAX_FIELD_BYTES, REGISTRY_TTL_SECS, custom_key, fast_key,
    function_hash, registry_id,
};
pub use seal::{Binding, NONCE_BYTES, TAG_BYTES};
pub use standard::{StandardFormat, open as open_frame, read_standard, write_standard};
pub use typed::{MAX_TYPED_DEPTH, read_typed, write_typed};
pub use value::InteropValue;

/// Deepest nesting of a document, as Python's readers have it.
pub const MAX_DEPTH: usize = 1024;

/// Lower-case hex digits.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0x0f)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The bytes of hex digits.
fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = digits.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
