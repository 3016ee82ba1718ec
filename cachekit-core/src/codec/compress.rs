//! Smaller payloads, and no bombs.
//!
//! Writing: a payload is compressed when it is large enough and stored as it is when that does not pay. Reading: the
//! declared length, already within `max_value`, is checked against what the compressed bytes can honestly hold and against
//! the length in the zstd frame, before a byte is allocated for it; then the output must have exactly that length.

use std::io::Cursor;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use zstd::bulk::{Compressor as ZstdEncoder, Decompressor as ZstdDecoder};
use zstd::zstd_safe::{CParameter, get_frame_content_size};

use super::dictionary::{Dictionary, DictionaryId};
use super::kept::Kept;
use super::refusal::Refusal;

/// Payloads below this many bytes are stored as they are. 1 KiB: at that size zstd needs 3.9 µs to save half a kilobyte,
/// below it the time of a compression is no longer repaid by a shorter transfer, and the ratio falls towards 1.
pub const DEFAULT_THRESHOLD: usize = 1024;

/// Compression must save at least 1/16 of a payload, else every reader would pay for decompression and gain nothing.
const MUST_SAVE: usize = 16;

/// A zstd payload may be at most this many times its compressed length ...
const MAX_RATIO: u64 = 1000;
/// ... unless it is no longer than this. 1 MiB is nothing a host need fear, and short repetitive values pass 1000:1 easily.
const RATIO_FREE: u64 = 1 << 20;
/// LZ4 spends a byte for every 255 it repeats, so no honest stream expands more (and a few bytes at its ends).
const LZ4_MAX_RATIO: u64 = 255;
const LZ4_ENDS: u64 = 64;

/// What a codec does with payloads it writes. What it reads is told by each entry, whatever is set here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Store payloads as they are.
    None,
    /// zstd: a third of the size for JSON-like documents. What it costs says `cargo xtask bench codec`.
    Zstd {
        /// zstd's level; 3 is its default.
        level: i32,
        /// Payloads shorter than this many bytes are stored as they are.
        threshold: usize,
    },
    /// LZ4 block: half the size, in a third of the time or less.
    Lz4 {
        /// Payloads shorter than this many bytes are stored as they are.
        threshold: usize,
    },
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd { level: zstd::DEFAULT_COMPRESSION_LEVEL, threshold: DEFAULT_THRESHOLD }
    }
}

impl Compression {
    /// zstd for a `CACHEKIT_COMPRESSION_LEVEL`, which runs from 1 to 9 as zlib's does, with 6 as its default:
    ///
    /// | setting    | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 |
    /// |------------|---|---|---|---|---|---|---|---|---|
    /// | zstd level | 1 | 1 | 2 | 2 | 3 | 3 | 4 | 5 | 6 |
    ///
    /// Default meets default. Levels above 6 cost a cache more time than the bytes they save are worth. `None` if the
    /// setting is out of range.
    ///
    /// ```
    /// use cachekit_core::codec::Compression;
    /// assert_eq!(Compression::from_seed_level(6), Some(Compression::default()));
    /// assert_eq!(Compression::from_seed_level(10), None);
    /// ```
    #[must_use]
    pub const fn from_seed_level(setting: u8) -> Option<Self> {
        let level = match setting {
            1 | 2 => 1,
            3 | 4 => 2,
            5 | 6 => 3,
            7 => 4,
            8 => 5,
            9 => 6,
            _ => return None,
        };
        Some(Self::Zstd { level, threshold: DEFAULT_THRESHOLD })
    }

    /// Appends `payload` to `out`, compressed with the dictionary if that pays, else as [`Self::append`] does.
    pub(super) fn append_with(
        self,
        dictionary: Option<&Dictionary>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> (Compressor, Option<DictionaryId>) {
        let begin = out.len();
        if let (Self::Zstd { level, .. }, Some(dictionary)) = (self, dictionary) {
            let fits = dictionary.append(level, payload, out).is_some();
            if fits && pays(out.len() - begin, payload.len()) {
                return (Compressor::Zstd, Some(dictionary.id()));
            }
            out.truncate(begin);
        }
        (self.append(payload, out), None)
    }

    /// Appends `payload` to `out`, compressed if that pays, and says how it is stored.
    pub(super) fn append(self, payload: &[u8], out: &mut Vec<u8>) -> Compressor {
        let begin = out.len();
        let used = match self {
            Self::Zstd { level, threshold } if payload.len() >= threshold => append_zstd(level, payload, out),
            Self::Lz4 { threshold } if payload.len() >= threshold => append_lz4(payload, out),
            _ => None,
        };
        let stored_len = out.len() - begin;
        let pays = pays(stored_len, payload.len());
        match used {
            Some(used) if pays && used.can_hold(stored_len, payload.len() as u64) => used,
            // zstd folds long runs beyond what its reader accepts. LZ4 cannot, and still leaves but 1/255 of them.
            Some(Compressor::Zstd) if pays => {
                out.truncate(begin);
                Self::Lz4 { threshold: 0 }.append(payload, out)
            }
            _ => {
                out.truncate(begin);
                out.extend_from_slice(payload);
                Compressor::None
            }
        }
    }
}

/// How a payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compressor {
    /// As it is.
    None,
    /// One zstd frame that records its content size.
    Zstd,
    /// One LZ4 block.
    Lz4,
}

impl Compressor {
    /// The number in the envelope.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Zstd => 1,
            Self::Lz4 => 2,
        }
    }

    /// The compressor of a number in the envelope.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Zstd),
            2 => Some(Self::Lz4),
            _ => None,
        }
    }

    /// Whether `stored_len` bytes can honestly hold a payload of `payload_len`.
    fn can_hold(self, stored_len: usize, payload_len: u64) -> bool {
        let stored_len = stored_len as u64;
        match self {
            Self::None => stored_len == payload_len,
            Self::Zstd => payload_len <= RATIO_FREE || payload_len <= stored_len.saturating_mul(MAX_RATIO),
            Self::Lz4 => payload_len <= stored_len.saturating_mul(LZ4_MAX_RATIO).saturating_add(LZ4_ENDS),
        }
    }

    /// Fills the empty `out` with the payload that `stored` holds, which is `payload_len` bytes long or refused. The caller
    /// has found `payload_len` to be within `max_value`; nothing is allocated for it until the other checks have passed.
    pub(super) fn expand(
        self,
        dictionary: Option<&Dictionary>,
        stored: &[u8],
        payload_len: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        debug_assert!(out.is_empty());
        if !self.can_hold(stored.len(), payload_len) {
            return Err(Refusal::TooLarge);
        }
        let len = usize::try_from(payload_len).map_err(|_| Refusal::TooLarge)?;
        match self {
            Self::None => out.extend_from_slice(stored),
            Self::Zstd => {
                // Our writer always records the size. A frame that records none, or another, is not ours. zstd's limit on
                // the window (`window_log_max`) is not set: it guards streams, and a whole frame is expanded straight
                // into `out` without a window of its own.
                if !matches!(get_frame_content_size(stored), Ok(Some(size)) if size == payload_len) {
                    return Err(Refusal::Corrupt);
                }
                // The capacity is zstd's bound: exactly `len`, or what a kept buffer already had.
                out.reserve_exact(len);
                match dictionary {
                    Some(dictionary) => dictionary.expand(stored, out)?,
                    None => expand_zstd(stored, out)?,
                }
            }
            Self::Lz4 => {
                out.resize(len, 0);
                let written = decompress_into(stored, out).map_err(|_| Refusal::Corrupt)?;
                out.truncate(written);
            }
        }
        if out.len() == len { Ok(()) } else { Err(Refusal::Corrupt) }
    }
}

fn pays(stored_len: usize, payload_len: usize) -> bool {
    stored_len <= payload_len - payload_len / MUST_SAVE
}

/// Highest zstd level whose contexts are kept: the highest that a setting maps to. A context that has met a large value
/// holds 1.3 MB at level 3, 3.1 MB at 6 and 11 MB at 9; whoever asks for more than 6 pays for a fresh one each time.
pub(super) const KEPT_LEVEL: i32 = 6;

static ZSTD_ENCODERS: Kept<ZstdEncoder<'static>> = Kept::new();
static ZSTD_DECODERS: Kept<ZstdDecoder<'static>> = Kept::new();
static LZ4_TABLES: Kept<CompressTable> = Kept::new();

/// `None` if zstd did not manage within the length of `payload`; what is then in `out` is to be cut off.
fn append_zstd(level: i32, payload: &[u8], out: &mut Vec<u8>) -> Option<Compressor> {
    let mut encoder = ZSTD_ENCODERS.take().unwrap_or_default();
    encoder.set_parameter(CParameter::CompressionLevel(level)).ok()?;
    compress_into(&mut encoder, payload, out)?;
    if level <= KEPT_LEVEL {
        ZSTD_ENCODERS.give(encoder);
    }
    Some(Compressor::Zstd)
}

/// Compresses to the end of `out`; `None` if that did not work within the length of `payload`.
pub(super) fn compress_into(encoder: &mut ZstdEncoder<'_>, payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    // Room for the payload as it is and no more: what does not fit there does not pay, and zstd stops early.
    out.reserve(payload.len());
    let begin = out.len() as u64;
    let mut room = Cursor::new(out);
    room.set_position(begin);
    encoder.compress_to_buffer(payload, &mut room).ok().map(|_| ())
}

fn append_lz4(payload: &[u8], out: &mut Vec<u8>) -> Option<Compressor> {
    let mut table = LZ4_TABLES.take().unwrap_or_else(CompressTable::large);
    let begin = out.len();
    out.resize(begin + get_maximum_output_size(payload.len()), 0);
    let written = compress_into_with_table(payload, &mut out[begin..], &mut table).ok()?;
    out.truncate(begin + written);
    LZ4_TABLES.give(table);
    Some(Compressor::Lz4)
}

fn expand_zstd(stored: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut decoder = ZSTD_DECODERS.take().unwrap_or_default();
    // A decoder that met a damaged stream is dropped, with whatever state it is in.
    decoder.decompress_to_buffer(stored, out).map_err(|_| Refusal::Corrupt)?;
    ZSTD_DECODERS.give(decoder);
    Ok(())
}
