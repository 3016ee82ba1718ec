//! Dictionaries: what small values have in common is said once, and not in every entry.
//!
//! A value of half a kilobyte gives zstd nothing to refer back to; with a dictionary of similar values in front of it the
//! same value becomes a half or a third of that (`docs/compression.md` has the figures). What this file protects: an entry
//! is expanded with the very bytes it was compressed with, or refused. A dictionary is named by a digest of its content,
//! so that whatever is found under a name is checked against the name; an entry whose dictionary is not at hand is a
//! [`Refusal::Dictionary`], which is a miss and no damage.
//!
//! Those at hand are the one for writing and a bounded number that readers met. Where they come from is told in
//! `cache/dictionaries.rs`: the store itself.

#[cfg(feature = "dictionary-training")]
pub mod train;

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use thiserror::Error;
use zstd::bulk::{Compressor as ZstdEncoder, Decompressor as ZstdDecoder};
use zstd::dict::DecoderDictionary;
use zstd::zstd_safe::CParameter;

use super::compress::{KEPT_LEVEL, compress_into};
use super::kept::Kept;
use super::refusal::Refusal;

/// Largest dictionary, bytes. One of 16 KiB has nearly everything that values below 2 KiB repeat; each process holds
/// several prepared copies.
pub const MAX_DICTIONARY_BYTES: usize = 128 << 10;
/// Shorter payloads have nothing to gain: a zstd frame alone costs 12 bytes.
pub const DICTIONARY_FROM: usize = 64;
/// Longer payloads repeat themselves, and are compressed without a dictionary.
pub const DICTIONARY_UP_TO: usize = 16 << 10;

/// First bytes of every dictionary of zstd (RFC 8878, section 5).
const MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];
/// Dictionaries of readers that are kept prepared: far more than versions that live in one store at a time.
const KNOWN: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// Ids of which it is remembered that the store does not have them.
const MISSING: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Contexts kept per dictionary and direction. Each has its own copy of the dictionary with its tables.
const CONTEXTS: usize = 4;

/// The name of a dictionary: the first four bytes of the BLAKE3 digest of its content, so no two programs call different
/// dictionaries the same by mistake. In the envelope it is 32 bits at offset 20; written it is eight hex digits.
///
/// ```
/// use cachekit_core::codec::DictionaryId;
/// let id: DictionaryId = "0a1b2c3d".parse()?;
/// assert_eq!(id.to_string(), "0a1b2c3d");
/// # Ok::<(), cachekit_core::codec::DictionaryError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DictionaryId(NonZeroU32);

impl DictionaryId {
    /// The name that belongs to a content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let digest = blake3::hash(content);
        let [a, b, c, d, ..] = *digest.as_bytes();
        // 0 stands for no dictionary. That one content in four milliards shares its name with another does no harm.
        Self(NonZeroU32::new(u32::from_le_bytes([a, b, c, d])).unwrap_or(NonZeroU32::MIN))
    }

    /// From the number in an envelope; `None` for 0.
    #[must_use]
    pub const fn from_u32(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number in an envelope.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for DictionaryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for DictionaryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DictionaryId {
    type Err = DictionaryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = digits.then(|| u32::from_str_radix(text, 16).ok()).flatten();
        id.and_then(Self::from_u32).ok_or(DictionaryError::Id)
    }
}

/// Why bytes are not a dictionary that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DictionaryError {
    /// Not eight hex digits, or zero.
    #[error("a dictionary id is eight hex digits, such as 0a1b2c3d")]
    Id,
    /// Larger than [`MAX_DICTIONARY_BYTES`].
    #[error("the dictionary has {len} bytes, at most {MAX_DICTIONARY_BYTES} are taken")]
    TooLarge {
        /// Its length, bytes.
        len: usize,
    },
    /// Not in zstd's format, or damaged.
    #[error("these bytes are no zstd dictionary; `cachekit dict train` and `zstd --train` make one")]
    Format,
    /// The content is not the one that the id was made of.
    #[error("the dictionary found under {asked} is {found}")]
    WrongContent {
        /// Which one was asked for.
        asked: DictionaryId,
        /// Which one it is.
        found: DictionaryId,
    },
    /// Dictionaries belong to zstd, and the cache compresses otherwise.
    #[error("a dictionary needs zstd, and this cache is set to compress with something else, or not at all")]
    NotZstd,
}

/// A dictionary with its prepared contexts.
pub struct Dictionary {
    id: DictionaryId,
    content: Bytes,
    /// With the level they were prepared for.
    encoders: Kept<(i32, ZstdEncoder<'static>), CONTEXTS>,
    decoders: Kept<ZstdDecoder<'static>, CONTEXTS>,
}

impl Dictionary {
    /// Takes a dictionary as `cachekit dict train` or `zstd --train` wrote it.
    ///
    /// # Errors
    /// [`DictionaryError::TooLarge`], [`DictionaryError::Format`].
    pub fn new(content: impl Into<Bytes>) -> Result<Self, DictionaryError> {
        let content = content.into();
        if content.len() > MAX_DICTIONARY_BYTES {
            return Err(DictionaryError::TooLarge { len: content.len() });
        }
        // zstd takes any bytes for a dictionary of plain text. A wrong path must not become one.
        if !content.starts_with(&MAGIC) || DecoderDictionary::try_copy(&content).is_err() {
            return Err(DictionaryError::Format);
        }
        Ok(Self { id: DictionaryId::of(&content), content, encoders: Kept::new(), decoders: Kept::new() })
    }

    /// The same for one that was found under a name.
    ///
    /// # Errors
    /// As [`Dictionary::new`], and [`DictionaryError::WrongContent`].
    pub fn named(asked: DictionaryId, content: impl Into<Bytes>) -> Result<Self, DictionaryError> {
        let dictionary = Self::new(content)?;
        if dictionary.id == asked {
            return Ok(dictionary);
        }
        Err(DictionaryError::WrongContent { asked, found: dictionary.id })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> DictionaryId {
        self.id
    }

    /// Its content, as it is stored.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// How many bytes `payload` would take, for comparisons; `None` if it does not become smaller at all.
    #[must_use]
    pub fn compressed_len(&self, level: i32, payload: &[u8]) -> Option<usize> {
        let mut out = Vec::new();
        self.append(level, payload, &mut out)?;
        Some(out.len())
    }

    /// `None` if zstd did not manage within the length of `payload`; what is then in `out` is to be cut off.
    pub(super) fn append(&self, level: i32, payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let kept = self.encoders.take().filter(|(prepared_for, _)| *prepared_for == level);
        let (_, mut encoder) = match kept {
            Some(kept) => kept,
            None => (level, self.encoder(level)?),
        };
        compress_into(&mut encoder, payload, out)?;
        if level <= KEPT_LEVEL {
            self.encoders.give((level, encoder));
        }
        Some(())
    }

    /// The context prepares the dictionary at its first use and keeps it.
    fn encoder(&self, level: i32) -> Option<ZstdEncoder<'static>> {
        let mut encoder = ZstdEncoder::with_dictionary(level, &self.content).ok()?;
        // The envelope names the dictionary, so the frame need not: four bytes.
        encoder.set_parameter(CParameter::DictIdFlag(false)).ok()?;
        Some(encoder)
    }

    /// Expands into the room that `out` has, which the caller has measured.
    pub(super) fn expand(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let kept = self.decoders.take().map(Ok);
        let mut decoder =
            kept.unwrap_or_else(|| ZstdDecoder::with_dictionary(&self.content)).map_err(|_| Refusal::Dictionary)?;
        decoder.decompress_to_buffer(stored, out).map_err(|_| Refusal::Corrupt)?;
        self.decoders.give(decoder);
        Ok(())
    }
}

/// Not its content: that is made of people's values.
impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary").field("id", &self.id).field("len", &self.content.len()).finish_non_exhaustive()
    }
}

/// The dictionaries at hand.
#[derive(Default)]
pub struct Dictionaries {
    writing: Option<Arc<Dictionary>>,
    /// Whether readers can find the one for writing. Until then nothing is written with it.
    ready: AtomicBool,
    met: Mutex<Option<Met>>,
}

/// What readers met. Made when the first one does: most caches have no dictionaries.
struct Met {
    known: LruCache<DictionaryId, Arc<Dictionary>>,
    /// Until when the store is not asked again.
    missing: LruCache<DictionaryId, u64>,
}

impl Dictionaries {
    /// With one for writing. It is used once [`Self::set_ready`] says that readers can find it.
    #[must_use]
    pub fn for_writing(dictionary: Arc<Dictionary>) -> Self {
        Self { writing: Some(dictionary), ..Self::default() }
    }

    /// For another cache that writes with the same.
    pub(crate) fn again(other: &Self, ready: bool) -> Self {
        Self { writing: other.writing.clone(), ready: AtomicBool::new(ready), ..Self::default() }
    }

    /// The one for writing.
    #[must_use]
    pub fn writing(&self) -> Option<&Arc<Dictionary>> {
        self.writing.as_ref()
    }

    /// Says whether readers can find the one for writing.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// What a payload of this length is compressed with.
    pub(super) fn for_payload(&self, len: usize) -> Option<&Dictionary> {
        let writing = self.writing.as_deref()?;
        ((DICTIONARY_FROM..=DICTIONARY_UP_TO).contains(&len) && self.ready.load(Ordering::Acquire)).then_some(writing)
    }

    /// One that is at hand.
    #[must_use]
    pub fn find(&self, id: DictionaryId) -> Option<Arc<Dictionary>> {
        if let Some(writing) = self.writing.as_ref().filter(|writing| writing.id == id) {
            return Some(Arc::clone(writing));
        }
        self.met().as_mut()?.known.get(&id).cloned()
    }

    /// Puts one at hand for readers; the one that was used longest ago makes room.
    pub fn add(&self, dictionary: Arc<Dictionary>) {
        let mut met = self.met();
        let met = met.get_or_insert_with(Met::new);
        met.missing.pop(&dictionary.id);
        // What makes room is dropped with its contexts: rare enough to do it here.
        met.known.push(dictionary.id, dictionary);
    }

    /// Notes that the store does not have one.
    pub(crate) fn note_missing(&self, id: DictionaryId, until_ms: u64) {
        self.met().get_or_insert_with(Met::new).missing.push(id, until_ms);
    }

    /// Whether it was looked for in vain not long ago.
    pub(crate) fn is_missing(&self, id: DictionaryId, now_ms: u64) -> bool {
        self.met().as_mut().and_then(|met| met.missing.get(&id).copied()).is_some_and(|until_ms| now_ms < until_ms)
    }

    /// Nothing is half done under this lock when it panics, which it does not.
    fn met(&self) -> MutexGuard<'_, Option<Met>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Met {
    fn new() -> Self {
        Self { known: LruCache::new(KNOWN), missing: LruCache::new(MISSING) }
    }
}

impl fmt::Debug for Dictionaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionaries").field("writing", &self.writing).finish_non_exhaustive()
    }
}
