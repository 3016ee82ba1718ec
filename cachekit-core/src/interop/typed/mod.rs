//! Values of Rust types as interop documents, by serde, without a dynamic value in between.
//!
//! On the wire they are what `rmp_serde::to_vec_named` makes and cachekit-rs stores: structs as maps in the order of their
//! fields. What differs are the traps that its bytes hide from other languages, which are closed here:
//!
//! * 128-bit integers are integers, or refused; rmp-serde stores them as 16 bytes, which Python reads as bytes.
//! * NaN and infinities, keys that are no text, and extensions are refused.
//! * Nesting is bounded on both ways by what every reader of the family takes.
//! * A map that every reader would take for a date, and that is none, is refused.

mod reader;
mod writer;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MAX_DEPTH;
use super::error::{InteropError, Malformed};
use super::read::{self, Dialect};
use super::sentinel::{DATE, DATETIME, TIME};
use super::unpack::Reader;

/// Deepest nesting of a typed value: what cachekit-rs reads; Python reads 1024.
pub const MAX_TYPED_DEPTH: usize = 100;
const _: () = assert!(MAX_TYPED_DEPTH < MAX_DEPTH);

/// The document of a value.
///
/// # Errors
/// [`InteropError::Value`] if another language could not read it, [`InteropError::TooLarge`], [`InteropError::Serialize`].
pub fn write_typed<T: Serialize + ?Sized>(value: &T, max_bytes: u64) -> Result<Vec<u8>, InteropError> {
    let mut out = Vec::with_capacity(128);
    let mut writer = writer::Writer::new(&mut out, max_bytes);
    value.serialize(&mut writer)?;
    let may_be_sentinel = writer.met_sentinel();
    if out.len() as u64 > max_bytes {
        return Err(InteropError::TooLarge { max: max_bytes });
    }
    // Rare enough to be read back as Python would: what it cannot read must not be written.
    if may_be_sentinel && read::read(&out, Dialect::Interop).is_err() {
        return Err(InteropError::Value {
            kind: "a map",
            reason: "readers would take it for a date that cannot be read",
        });
    }
    Ok(out)
}

/// The value of a document: exactly one, of the type asked for, within bounds.
///
/// # Errors
/// [`InteropError::Malformed`]. What serde says of a mismatch is dropped, because it quotes values.
pub fn read_typed<T: DeserializeOwned>(document: &[u8]) -> Result<T, InteropError> {
    read::refuse_frames(document)?;
    let mut reader = reader::TypedReader::new(Reader::new(document));
    let value = T::deserialize(&mut reader).map_err(|fault| fault.0)?;
    if !reader.rest().is_empty() {
        return Err(Malformed::Trailing.into());
    }
    Ok(value)
}

fn is_sentinel_name(text: &str) -> bool {
    [DATETIME, DATE, TIME].contains(&text)
}
