//! Entries of Python's AutoSerializer, to look at: it keeps tuples, sets, UUIDs and numpy arrays apart, which no other
//! language has, so nothing of it is turned into a value of ours.

use serde_json::{Value as Json, json};

use super::bytestorage::{checksum, read_envelope};
use super::error::{InteropError, Malformed};
use super::frame::FrameHeader;
use super::hex;
use super::read::{Dialect, read};
use super::typed_json;
use super::value::InteropValue;

/// What a numpy array at the top begins with.
const NUMPY_RAW: &[u8] = b"NUMPY_RAW";

/// The payload without its envelope, and what it holds as typed JSON.
///
/// # Errors
/// [`InteropError::Envelope`], [`InteropError::Malformed`].
pub fn look_at_auto(header: &FrameHeader, payload: &[u8], max_payload: u64) -> Result<(Vec<u8>, Json), InteropError> {
    if header.compressed {
        let stored = read_envelope(payload, max_payload)?;
        let value = shown(&read(&stored.payload, Dialect::Plain)?);
        return Ok((stored.payload, value));
    }
    if let Some(array) = numpy(payload) {
        return Ok(array);
    }
    let value = shown(&read(payload, Dialect::Plain)?);
    Ok((payload.to_vec(), value))
}

/// A top-level array: behind its checksum, or without one.
fn numpy(payload: &[u8]) -> Option<(Vec<u8>, Json)> {
    let raw = match payload.split_first_chunk::<8>() {
        Some((sum, rest)) if rest.starts_with(NUMPY_RAW) && *sum == checksum(rest) => rest,
        _ => payload,
    };
    let rest = raw.strip_prefix(NUMPY_RAW)?;
    let (dtype, rest) = counted(rest)?;
    let (dims, bytes) = counted(rest)?;
    let shape: Vec<u32> =
        dims.chunks_exact(4).filter_map(|dim| Some(u32::from_le_bytes(dim.try_into().ok()?))).collect();
    let dtype = std::str::from_utf8(dtype).ok()?;
    let value = json!({ "$t": "ndarray", "dtype": dtype, "shape": shape, "hex": hex(bytes) });
    Some((raw.to_vec(), value))
}

/// Bytes behind their length, u16 little-endian.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_le_bytes(*len).into())
}

/// Typed JSON in which the serializer's sentinel maps are what they stand for.
fn shown(value: &InteropValue) -> Json {
    let says = |name: &str| value.get(name) == Some(&InteropValue::Bool(true));
    let inner = value.get("value");
    match (value, inner) {
        (InteropValue::Map(entries), _) if says("__ndarray__") => {
            let dims = |dims: &InteropValue| match dims {
                InteropValue::Array(dims) => dims.iter().filter_map(dimension).collect(),
                _ => Json::Null,
            };
            let shape = value.get("shape").map_or(Json::Null, dims);
            let dtype = value.get("dtype").map_or(Json::Null, typed_json::from_value);
            match value.get("data") {
                Some(InteropValue::Bytes(bytes)) if entries.len() == 4 => json!({
                    "$t": "ndarray", "dtype": dtype, "shape": shape, "hex": hex(bytes),
                }),
                _ => typed_json::from_value(value),
            }
        }
        (InteropValue::Map(_), Some(InteropValue::Array(items))) if says("__tuple__") || says("__set__") => {
            let kind = match value.get("frozen") {
                _ if says("__tuple__") => "tuple",
                Some(InteropValue::Bool(true)) => "frozenset",
                _ => "set",
            };
            json!({ "$t": kind, "v": items.iter().map(shown).collect::<Vec<_>>() })
        }
        (InteropValue::Map(_), Some(InteropValue::Str(text))) => {
            let kind = [
                ("__uuid__", "uuid", "v"),
                ("__datetime__", "datetime", "iso"),
                ("__date__", "date", "iso"),
                ("__time__", "time", "iso"),
            ];
            match kind.iter().find(|(sentinel, ..)| says(sentinel)) {
                Some((_, "datetime", _)) => dated(text).unwrap_or_else(|_| typed_json::from_value(value)),
                Some((_, kind, field)) => json!({ "$t": kind, *field: text }),
                None => map(value),
            }
        }
        (InteropValue::Array(items), _) => items.iter().map(shown).collect(),
        _ => map(value),
    }
}

fn dimension(value: &InteropValue) -> Option<u64> {
    match value {
        InteropValue::Int(value) => u64::try_from(*value).ok(),
        _ => None,
    }
}

fn dated(text: &str) -> Result<Json, Malformed> {
    Ok(typed_json::from_value(&InteropValue::DateTime(text.parse()?)))
}

fn map(value: &InteropValue) -> Json {
    let InteropValue::Map(entries) = value else { return typed_json::from_value(value) };
    let pairs: Vec<Json> = entries.iter().map(|(key, value)| json!([shown(key), shown(value)])).collect();
    json!({ "$t": "map", "v": pairs })
}
