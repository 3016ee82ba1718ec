//! The native entry, byte for byte: `docs/envelope.md` draws it, this file reads and writes it.
//!
//! What it protects: a value comes back only under the key it was stored with, whole and unchanged. Every byte of an
//! accepted entry is either compared with the one value it may have (offsets 0–7), or covered by the checksum (16 to the
//! end), or is that checksum (8–15); in a sealed entry the name of the key stands there and the AEAD tag covers everything.
//! XXH3-64 finds accidents; against a writer who means harm only sealing helps.

use std::fmt;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::compress::Compressor;
use super::dictionary::DictionaryId;
use super::freshness::Times;
use super::refusal::{EncodeError, Refusal};
use super::seal::{Cipher, KeyName, NONCE_LEN, TAG_LEN};
use super::serialize::Serializer;

/// First bytes of every native entry. 0xC1 is the one byte MessagePack never uses, so no reader of another format of the
/// family takes an entry of ours for one of its own.
pub const MAGIC: [u8; 4] = [0xC1, b'C', b'K', b'N'];
/// The format version written and read.
pub const VERSION: u8 = 1;
/// Bytes before the wire key.
pub const HEADER_LEN: usize = 88;

/// Where each field begins. Gaps are impossible to miss: each offset is the one above plus that field's size.
mod at {
    pub(super) const VERSION: usize = 4;
    pub(super) const RESERVED: usize = 5;
    pub(super) const CHECKSUM: usize = 8;
    pub(super) const FLAGS: usize = 16;
    pub(super) const SERIALIZER: usize = 17;
    pub(super) const COMPRESSOR: usize = 18;
    pub(super) const CIPHER: usize = 19;
    pub(super) const DICTIONARY: usize = 20;
    pub(super) const CREATED: usize = 24;
    pub(super) const FRESH_FOR: usize = 32;
    pub(super) const STALE_UNTIL: usize = 40;
    pub(super) const EXPIRES: usize = 48;
    pub(super) const LOAD_COST: usize = 56;
    pub(super) const EPOCH: usize = 64;
    pub(super) const PAYLOAD_LEN: usize = 72;
    pub(super) const KEY_LEN: usize = 80;
    pub(super) const TAG_COUNT: usize = 84;
    pub(super) const RESERVED_TAIL: usize = 86;
}

/// What an entry says about its value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meta {
    /// When it was made and until when it may be used.
    pub times: Times,
    /// What loading the value cost, in microseconds; 0 if unknown. Early refresh is weighed with it.
    pub load_cost_us: u64,
    /// The epoch its namespace had; 0 for none. Compared for equality only.
    pub namespace_epoch: u64,
    /// Whether it says that there is no value: its loader found none. Such an entry is an answer to loads alone.
    pub is_nothing: bool,
}

/// The one flag: [`Meta::is_nothing`].
const NOTHING: u8 = 1;

/// A tag and the epoch it had when the entry was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag<'a> {
    /// The tag's name, at most 65 535 bytes.
    pub name: &'a [u8],
    /// Its epoch then. Compared for equality only.
    pub epoch: u64,
}

/// An entry to be written, all but its value.
#[derive(Clone, Copy)]
pub struct NewEntry<'a> {
    /// The key as the backend sees it. Stored whole and compared whole.
    pub wire_key: &'a [u8],
    /// Times, cost, epoch.
    pub meta: Meta,
    /// The tags it is filed under.
    pub tags: &'a [Tag<'a>],
}

/// How the payload was made. Known only after the payload is in place, hence apart from [`NewEntry`].
pub(super) struct Shape {
    pub(super) serializer: Serializer,
    pub(super) compressor: Compressor,
    pub(super) dictionary: Option<DictionaryId>,
    pub(super) cipher: Option<Cipher>,
    pub(super) payload_len: u64,
}

/// Begins an entry in the empty `out`: header, wire key, tags, with room reserved for `payload_room` bytes more. The fields
/// of the shape are still 0; [`set_shape`] and [`set_checksum`] complete the entry.
pub(super) fn begin(entry: &NewEntry<'_>, payload_room: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let key_len = match u32::try_from(entry.wire_key.len()) {
        Ok(len) if len > 0 => len,
        _ => return Err(EncodeError::Key { len: entry.wire_key.len() }),
    };
    let longest = entry.tags.iter().map(|tag| tag.name.len()).max().unwrap_or(0);
    let (Ok(tag_count), Ok(_)) = (u16::try_from(entry.tags.len()), u16::try_from(longest)) else {
        return Err(EncodeError::Tags { count: entry.tags.len(), longest });
    };

    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&MAGIC);
    header[at::VERSION] = VERSION;
    header[at::FLAGS] = if entry.meta.is_nothing { NOTHING } else { 0 };
    set_times(&mut header, entry.meta.times)?;
    put(&mut header, at::LOAD_COST, entry.meta.load_cost_us.to_le_bytes());
    put(&mut header, at::EPOCH, entry.meta.namespace_epoch.to_le_bytes());
    put(&mut header, at::KEY_LEN, key_len.to_le_bytes());
    put(&mut header, at::TAG_COUNT, tag_count.to_le_bytes());

    debug_assert!(out.is_empty());
    out.reserve(prefix_len(entry) + payload_room);
    out.extend_from_slice(&header);
    out.extend_from_slice(entry.wire_key);
    for tag in entry.tags {
        // The longest name fits u16, so the cast loses nothing.
        out.extend_from_slice(&(tag.name.len() as u16).to_le_bytes());
        out.extend_from_slice(tag.name);
        out.extend_from_slice(&tag.epoch.to_le_bytes());
    }
    Ok(())
}

/// Bytes before the payload: header, wire key, tags.
pub(super) fn prefix_len(entry: &NewEntry<'_>) -> usize {
    let tags_len: usize = entry.tags.iter().map(|tag| 2 + tag.name.len() + 8).sum();
    HEADER_LEN + entry.wire_key.len() + tags_len
}

/// Writes the four times. `entry` holds at least a header.
pub(super) fn set_times(entry: &mut [u8], times: Times) -> Result<(), EncodeError> {
    if !times.in_order() {
        return Err(EncodeError::Times);
    }
    put(entry, at::CREATED, times.created_ms.to_le_bytes());
    put(entry, at::FRESH_FOR, times.fresh_for_ms.to_le_bytes());
    put(entry, at::STALE_UNTIL, times.stale_until_ms.to_le_bytes());
    put(entry, at::EXPIRES, times.expires_ms.to_le_bytes());
    Ok(())
}

/// Writes the epoch of the namespace. `entry` holds at least a header.
pub(super) fn set_namespace_epoch(entry: &mut [u8], epoch: u64) {
    put(entry, at::EPOCH, epoch.to_le_bytes());
}

/// Writes what is known once the payload is in place.
pub(super) fn set_shape(entry: &mut [u8], shape: &Shape) {
    entry[at::SERIALIZER] = shape.serializer.id();
    entry[at::COMPRESSOR] = shape.compressor.id();
    entry[at::CIPHER] = shape.cipher.map_or(0, Cipher::id);
    put(entry, at::DICTIONARY, shape.dictionary.map_or(0, DictionaryId::as_u32).to_le_bytes());
    put(entry, at::PAYLOAD_LEN, shape.payload_len.to_le_bytes());
}

/// Writes the checksum: the last step of an entry that is not sealed.
pub(super) fn set_checksum(entry: &mut [u8]) {
    let sum = checksum(entry);
    put(entry, at::CHECKSUM, sum.to_le_bytes());
}

/// Writes the name of the key that seals an entry, where an entry that is not sealed has its checksum.
pub(super) fn set_key_name(entry: &mut [u8], name: u64) {
    put(entry, at::CHECKSUM, name.to_le_bytes());
}

/// The name of the key that sealed an entry. `None` if it is too short for one.
pub(super) fn key_name(entry: &[u8]) -> Option<u64> {
    entry.get(at::CHECKSUM..at::FLAGS)?.first_chunk().map(|name| u64::from_le_bytes(*name))
}

/// XXH3-64, seed 0, of everything behind the checksum: one contiguous run, because the one-shot function is several times
/// faster on small entries than a streaming hasher, which allocates.
pub(super) fn checksum(entry: &[u8]) -> u64 {
    XxHash3_64::oneshot(&entry[at::FLAGS..])
}

fn put<const N: usize>(entry: &mut [u8], at: usize, bytes: [u8; N]) {
    entry[at..at + N].copy_from_slice(&bytes);
}

fn take<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// A stored entry whose parts have been found. It shares the buffer it was read from; nothing is copied.
#[derive(Clone)]
pub struct Envelope {
    stored: Bytes,
    meta: Meta,
    payload_len: u64,
    key_end: usize,
    payload_at: usize,
}

impl Envelope {
    /// Finds the parts of `stored` and checks it: magic, version, lengths, checksum, reserved bytes, known numbers.
    ///
    /// An accepted entry is what its writer wrote (a sealed one must still be opened to say that). Whether it belongs to
    /// the key asked for, and whether it is of use now, is asked separately.
    pub fn parse(stored: &Bytes) -> Result<Self, Refusal> {
        let envelope = Self::locate(stored)?;
        envelope.verify()?;
        Ok(envelope)
    }

    /// Finds the parts without trusting any: every length is checked against the bytes that are there.
    pub(super) fn locate(stored: &Bytes) -> Result<Self, Refusal> {
        let begins_as_ours = stored.iter().zip(MAGIC).all(|(byte, expected)| *byte == expected);
        if stored.is_empty() || !begins_as_ours {
            return Err(Refusal::Foreign);
        }
        // The version comes before the length: a later version's header may be shorter.
        if stored.get(at::VERSION).is_some_and(|version| *version != VERSION) {
            return Err(Refusal::Version);
        }
        let header = stored.first_chunk::<HEADER_LEN>().ok_or(Refusal::Truncated)?;
        let mut rest = &stored[HEADER_LEN..];
        let key_len = u32::from_le_bytes(take(header, at::KEY_LEN));
        let key_len = usize::try_from(key_len).map_err(|_| Refusal::TooLarge)?;
        rest = rest.get(key_len..).ok_or(Refusal::Truncated)?;
        for _ in 0..u16::from_le_bytes(take(header, at::TAG_COUNT)) {
            (_, rest) = split_tag(rest).ok_or(Refusal::Truncated)?;
        }
        let u64_at = |at| u64::from_le_bytes(take(header, at));
        Ok(Self {
            meta: Self::meta_of(header),
            payload_len: u64_at(at::PAYLOAD_LEN),
            key_end: HEADER_LEN + key_len,
            payload_at: stored.len() - rest.len(),
            stored: stored.clone(),
        })
    }

    /// What an entry says about itself, without a check: for one that was checked before it came to L1.
    pub(crate) fn peek(stored: &[u8]) -> Option<Meta> {
        let header = stored.first_chunk::<HEADER_LEN>().filter(|header| header.starts_with(&MAGIC))?;
        Some(Self::meta_of(header))
    }

    fn meta_of(header: &[u8; HEADER_LEN]) -> Meta {
        let u64_at = |at| u64::from_le_bytes(take(header, at));
        Meta {
            times: Times {
                created_ms: u64_at(at::CREATED),
                fresh_for_ms: u64_at(at::FRESH_FOR),
                stale_until_ms: u64_at(at::STALE_UNTIL),
                expires_ms: u64_at(at::EXPIRES),
            },
            load_cost_us: u64_at(at::LOAD_COST),
            namespace_epoch: u64_at(at::EPOCH),
            is_nothing: header[at::FLAGS] & NOTHING != 0,
        }
    }

    /// Everything that can be checked without the key asked for, a cipher or a clock.
    pub(super) fn verify(&self) -> Result<(), Refusal> {
        let stored = &self.stored;
        let payload_room = (stored.len() - self.payload_at) as u64;
        if self.is_sealed() {
            // Nothing to compare: where others have their checksum, a sealed entry has the name of its key.
            if payload_room < (NONCE_LEN + TAG_LEN) as u64 {
                return Err(Refusal::Truncated);
            }
        } else {
            // Before the checksum, only so that a cut entry is counted as cut and not as damaged.
            if stored[at::COMPRESSOR] == Compressor::None.id() && payload_room < self.payload_len {
                return Err(Refusal::Truncated);
            }
            let mut sum = [0; 8];
            sum.copy_from_slice(&stored[at::CHECKSUM..at::FLAGS]);
            if u64::from_le_bytes(sum) != checksum(stored) {
                return Err(Refusal::Corrupt);
            }
            if stored[at::COMPRESSOR] == Compressor::None.id() && payload_room != self.payload_len {
                return Err(Refusal::Corrupt);
            }
        }
        let reserved_is_0 = stored[at::RESERVED..at::CHECKSUM].iter().all(|byte| *byte == 0)
            && stored[at::RESERVED_TAIL..HEADER_LEN].iter().all(|byte| *byte == 0);
        if !reserved_is_0 || self.wire_key().is_empty() || !self.meta.times.in_order() {
            return Err(Refusal::Corrupt);
        }
        if stored[at::FLAGS] & !NOTHING != 0 {
            return Err(Refusal::Version);
        }
        if self.is_sealed() && self.cipher().is_none() {
            return Err(Refusal::Sealed);
        }
        // Only zstd has dictionaries: an id beside another compressor is a number that nobody wrote.
        if self.dictionary().is_some() && stored[at::COMPRESSOR] != Compressor::Zstd.id() {
            return Err(Refusal::Corrupt);
        }
        self.serializer()?;
        self.compressor()?;
        Ok(())
    }

    /// Times, cost, epoch.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The key it was stored under, as the backend saw it.
    #[must_use]
    pub fn wire_key(&self) -> &[u8] {
        &self.stored[HEADER_LEN..self.key_end]
    }

    /// The name of the key that sealed it; `None` if it is not sealed.
    #[must_use]
    pub fn key_name(&self) -> Option<KeyName> {
        key_name(&self.stored).filter(|_| self.is_sealed()).map(KeyName::new)
    }

    /// Its tags, in the order they were written.
    pub fn tags(&self) -> impl Iterator<Item = Tag<'_>> {
        let mut rest = &self.stored[self.key_end..self.payload_at];
        std::iter::from_fn(move || {
            let (tag, after) = split_tag(rest)?;
            rest = after;
            Some(tag)
        })
    }

    /// How many tags there are.
    #[must_use]
    pub fn tag_count(&self) -> usize {
        self.stored
            .get(at::TAG_COUNT..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |n| u16::from_le_bytes(*n).into())
    }

    /// The serializer, or [`Refusal::Version`] for a number this build does not know.
    pub fn serializer(&self) -> Result<Serializer, Refusal> {
        Serializer::from_id(self.stored[at::SERIALIZER]).ok_or(Refusal::Version)
    }

    /// The compressor, or [`Refusal::Version`] for a number this build does not know.
    pub fn compressor(&self) -> Result<Compressor, Refusal> {
        Compressor::from_id(self.stored[at::COMPRESSOR]).ok_or(Refusal::Version)
    }

    /// The dictionary that its payload was compressed with.
    #[must_use]
    pub fn dictionary(&self) -> Option<DictionaryId> {
        DictionaryId::from_u32(u32::from_le_bytes(self.stored.get(at::DICTIONARY..at::CREATED)?.try_into().ok()?))
    }

    /// Whether the payload is encrypted.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.stored[at::CIPHER] != 0
    }

    /// The cipher, if the payload is sealed with one this build has a name for.
    #[must_use]
    pub fn cipher(&self) -> Option<Cipher> {
        (self.stored[at::CIPHER] == Cipher::Aes256Gcm.id()).then_some(Cipher::Aes256Gcm)
    }

    /// Length of the payload before compression, as the entry declares it.
    #[must_use]
    pub fn payload_len(&self) -> u64 {
        self.payload_len
    }

    /// Offset of the payload: the end of the associated data.
    pub(super) fn payload_at(&self) -> usize {
        self.payload_at
    }

    /// The payload as stored: perhaps compressed, perhaps sealed. A slice of the same buffer.
    #[must_use]
    pub fn stored_payload(&self) -> Bytes {
        self.stored.slice(self.payload_at..)
    }
}

/// Neither key nor value: both may be secrets.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("meta", &self.meta)
            .field("stored_len", &self.stored.len())
            .field("payload_len", &self.payload_len)
            .finish_non_exhaustive()
    }
}

/// The dictionary that `stored` says it needs, unchecked: for whoever has to fetch it before the entry can be opened.
pub(crate) fn needed_dictionary(stored: &[u8]) -> Option<DictionaryId> {
    let header = stored.first_chunk::<HEADER_LEN>().filter(|header| header.starts_with(&MAGIC))?;
    DictionaryId::from_u32(u32::from_le_bytes(take(header, at::DICTIONARY)))
}

/// The tags of an entry that was accepted before, without checking it again; `None` if it is none of ours or has none.
pub(crate) fn carried_tags(stored: &[u8]) -> Option<impl Iterator<Item = Tag<'_>>> {
    let header = stored.first_chunk::<HEADER_LEN>().filter(|header| header.starts_with(&MAGIC))?;
    let mut left = u16::from_le_bytes(take(header, at::TAG_COUNT));
    if left == 0 {
        return None;
    }
    let key_len = usize::try_from(u32::from_le_bytes(take(header, at::KEY_LEN))).ok()?;
    let mut rest = stored[HEADER_LEN..].get(key_len..)?;
    Some(std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let (tag, after) = split_tag(rest)?;
        rest = after;
        Some(tag)
    }))
}

fn split_tag(bytes: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
    let (epoch, rest) = rest.split_first_chunk()?;
    Some((Tag { name, epoch: u64::from_le_bytes(*epoch) }, rest))
}
