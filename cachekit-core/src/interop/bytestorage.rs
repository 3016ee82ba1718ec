//! The ByteStorage envelope: what Python's default mode puts around a payload, compressed and with a checksum.
//!
//! ```text
//! 94                                fixarray(4)
//!   c4|c5|c6 len · LZ4 block        of the payload; older writers: an array of integers
//!   98 · 8 unsigned integers        XXH3-64 of the payload, big-endian
//!   unsigned integer                length of the payload
//!   str                             "msgpack", "dataframe", "series"
//! ```
//!
//! It guards the reader's memory: every length is checked against the limits and against the input before a byte is set
//! aside for it, and what is set aside is at most a thousand times what was given.

use std::borrow::Cow;

use super::error::{EnvelopeFault, InteropError};
use super::pack;
use super::unpack::{Reader, Token, walk};

/// The format that the StandardSerializer and most others name.
pub const FORMAT_MSGPACK: &str = "msgpack";
/// Largest envelope, block and payload of the format, bytes. A caller may set its own limit lower.
pub const MAX_ENVELOPE_BYTES: usize = 512 << 20;
/// A payload is at most this many times its compressed block.
const MAX_RATIO: u64 = 1000;
/// Deepest nesting of an envelope's structure.
const MAX_STRUCTURE_DEPTH: usize = 100;

/// A payload with the format its writer named.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredBytes {
    /// After decompression; the checksum fits.
    pub payload: Vec<u8>,
    /// As it was written; readers do not depend on it.
    pub format: String,
}

/// Sizes, never the payload.
impl std::fmt::Debug for StoredBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredBytes").field("payload_len", &self.payload.len()).finish_non_exhaustive()
    }
}

/// Puts an envelope around `payload`. The compressed block is not canonical: other encoders make other blocks of it.
///
/// # Errors
/// [`InteropError::TooLarge`] beyond [`MAX_ENVELOPE_BYTES`].
pub fn write_envelope(payload: &[u8], format: &str) -> Result<Vec<u8>, InteropError> {
    let too_large = InteropError::TooLarge { max: MAX_ENVELOPE_BYTES as u64 };
    if payload.len() > MAX_ENVELOPE_BYTES {
        return Err(too_large);
    }
    let block = lz4_flex::block::compress(payload);
    let mut out = Vec::with_capacity(block.len() + format.len() + 40);
    pack::array(&mut out, 4);
    pack::bin(&mut out, &block);
    pack::array(&mut out, 8);
    for byte in checksum(payload) {
        number(&mut out, byte.into());
    }
    number(&mut out, payload.len() as u64);
    pack::str(&mut out, format);
    if out.len() > MAX_ENVELOPE_BYTES { Err(too_large) } else { Ok(out) }
}

/// Reads an envelope, tolerating what Python and cachekit-core tolerate: field names instead of places, integers and
/// headers that are not the shortest, text for bytes and the reverse, trailing bytes.
///
/// `max_payload` is the caller's own limit, bytes; the format's stands beside it.
///
/// # Errors
/// [`InteropError::Envelope`].
pub fn read_envelope(envelope: &[u8], max_payload: u64) -> Result<StoredBytes, InteropError> {
    if envelope.len() > MAX_ENVELOPE_BYTES {
        return Err(EnvelopeFault::TooLarge.into());
    }
    let parts = Parts::of(envelope).ok_or(EnvelopeFault::Structure)?;
    let max_payload = max_payload.min(MAX_ENVELOPE_BYTES as u64);
    if parts.block.len() > MAX_ENVELOPE_BYTES || parts.size > max_payload {
        return Err(EnvelopeFault::TooLarge.into());
    }
    let block_len = parts.block.len() as u64;
    if block_len == 0 || parts.size > block_len.saturating_mul(MAX_RATIO) {
        return Err(EnvelopeFault::Bomb.into());
    }
    // Bounded by `max_payload` and by a thousand times the input, both just now.
    let mut payload = vec![0; parts.size as usize];
    let len = lz4_flex::block::decompress_into(&parts.block, &mut payload).map_err(|_| EnvelopeFault::Block)?;
    payload.truncate(len);
    if checksum(&payload) != parts.checksum || len as u64 != parts.size {
        return Err(EnvelopeFault::Checksum.into());
    }
    Ok(StoredBytes { payload, format: parts.format.into_owned() })
}

/// XXH3-64, seed 0, big-endian.
#[must_use]
pub fn checksum(payload: &[u8]) -> [u8; 8] {
    twox_hash::XxHash3_64::oneshot(payload).to_be_bytes()
}

/// A number that is in range by its type.
fn number(out: &mut Vec<u8>, value: u64) {
    let _in_range = pack::integer(out, value.into());
}

/// The four fields of an envelope, believed in nothing but their shape.
struct Parts<'a> {
    block: Cow<'a, [u8]>,
    checksum: [u8; 8],
    size: u64,
    format: Cow<'a, str>,
}

impl<'a> Parts<'a> {
    fn of(envelope: &'a [u8]) -> Option<Self> {
        // Nothing is set aside for a structure that is not there.
        walk(envelope, MAX_STRUCTURE_DEPTH).ok()?;
        let mut reader = Reader::new(envelope);
        match reader.next().ok()? {
            Token::Array(4) => Some(Self {
                block: block(&mut reader)?,
                checksum: eight(&mut reader)?,
                size: size(&mut reader)?,
                format: format(&mut reader)?,
            }),
            Token::Map(4) => Self::named(&mut reader),
            _ => None,
        }
    }

    fn named(reader: &mut Reader<'a>) -> Option<Self> {
        let (mut data, mut sum, mut original, mut named) = (None, None, None, None);
        for _ in 0..4 {
            let Ok(Token::Str(name)) = reader.next() else { return None };
            match name {
                "compressed_data" => data = Some(block(reader)?),
                "checksum" => sum = Some(eight(reader)?),
                "original_size" => original = Some(size(reader)?),
                "format" => named = Some(format(reader)?),
                _ => return None,
            }
        }
        Some(Self { block: data?, checksum: sum?, size: original?, format: named? })
    }
}

fn block<'a>(reader: &mut Reader<'a>) -> Option<Cow<'a, [u8]>> {
    match reader.next().ok()? {
        Token::Bin(bytes) => Some(Cow::Borrowed(bytes)),
        Token::Str(text) => Some(Cow::Borrowed(text.as_bytes())),
        // Backed by input: each element is at least a byte of it.
        Token::Array(len) => (0..len).map(|_| byte(reader)).collect::<Option<Vec<u8>>>().map(Cow::Owned),
        _ => None,
    }
}

fn eight(reader: &mut Reader<'_>) -> Option<[u8; 8]> {
    match reader.next().ok()? {
        Token::Bin(bytes) => bytes.try_into().ok(),
        Token::Array(8) => {
            let mut bytes = [0; 8];
            for slot in &mut bytes {
                *slot = byte(reader)?;
            }
            Some(bytes)
        }
        _ => None,
    }
}

fn byte(reader: &mut Reader<'_>) -> Option<u8> {
    match reader.next().ok()? {
        Token::Int(value) => u8::try_from(value).ok(),
        _ => None,
    }
}

fn size(reader: &mut Reader<'_>) -> Option<u64> {
    match reader.next().ok()? {
        Token::Int(value) => u64::try_from(value).ok(),
        _ => None,
    }
}

fn format<'a>(reader: &mut Reader<'a>) -> Option<Cow<'a, str>> {
    match reader.next().ok()? {
        Token::Str(text) => Some(Cow::Borrowed(text)),
        Token::Bin(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        _ => None,
    }
}
