//! Value ↔ stored bytes: serialize, compress, seal, wrap; and back, checking each step.
//!
//! What it protects: a backend is untrusted, so an entry becomes a value only if it is, whole and unchanged, what was stored
//! under the key asked for, within its time and within the limits. Everything else is a [`Refusal`]. It stands between the
//! typed cache above and the tiers below, for which an entry is bytes.
//!
//! ```text
//! encode   value ── serialize ── compress? ── seal? ── header · key · tags · payload ── checksum ──► stored bytes
//! open     stored bytes ── lengths ── checksum or tag ── key ── time ──► Opened ── expand? ── deserialize ──► value
//! ```
//!
//! `docs/envelope.md` draws the bytes.

mod compress;
mod depth;
pub mod dictionary;
mod envelope;
mod freshness;
mod kept;
mod refusal;
mod seal;
mod serialize;
#[cfg(test)]
pub(crate) mod tests;
mod wiped;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use compress::{Compression, Compressor, DEFAULT_THRESHOLD};
pub use dictionary::{Dictionary, DictionaryError, DictionaryId};
pub(crate) use envelope::needed_dictionary;
pub use envelope::{Envelope, HEADER_LEN, MAGIC, Meta, NewEntry, Tag, VERSION};
pub use freshness::{Freshness, SKEW_ALLOWANCE_MS, Times};
pub use refusal::{DecodeFault, EncodeError, Refusal, RetimeError};
pub use seal::{Cipher, KeyName, NONCE_LEN, OpenError, SealError, Sealed, Sealer, TAG_LEN};
pub use serialize::{MAX_DEPTH, Serializer};

use dictionary::Dictionaries;
use envelope::Shape;
pub(crate) use envelope::carried_tags;
use kept::with_buffer;
pub(crate) use wiped::Wiped;

/// Largest value written or read, in bytes before compression. 100 MiB: far above what belongs in a cache, far below what
/// a host dies of; each reader of a hostile entry may allocate this much once.
pub const DEFAULT_MAX_VALUE: u64 = 100 << 20;

/// Turns values into entries and entries into values. Cheap to clone; holds no state but its settings and dictionaries.
#[derive(Debug, Clone)]
pub struct Codec {
    /// How typed values become bytes. What is read is told by each entry.
    pub serializer: Serializer,
    /// How payloads are made smaller. What is read is told by each entry.
    pub compression: Compression,
    /// Largest value, in bytes before compression; checked on both ways.
    pub max_value: u64,
    /// If set, every entry is encrypted and nothing else is accepted.
    pub sealer: Option<Arc<dyn Sealer>>,
    /// The dictionaries at hand, the one for writing among them.
    pub dictionaries: Arc<Dictionaries>,
}

impl Default for Codec {
    fn default() -> Self {
        Self {
            serializer: Serializer::default(),
            compression: Compression::default(),
            max_value: DEFAULT_MAX_VALUE,
            sealer: None,
            dictionaries: Arc::default(),
        }
    }
}

impl Codec {
    /// The entry for a typed value.
    ///
    /// ```
    /// use cachekit_core::codec::{Codec, Meta, NewEntry, Times};
    ///
    /// let codec = Codec::default();
    /// let times = Times { created_ms: 1_000, expires_ms: 61_000, ..Times::default() };
    /// let entry = NewEntry { wire_key: b"ck:users:42", meta: Meta { times, ..Meta::default() }, tags: &[] };
    /// let stored = codec.encode(&entry, &("Ada", 36))?;
    ///
    /// let opened = codec.open(&stored, b"ck:users:42", 2_000)?;
    /// assert_eq!(opened.decode::<(String, u32)>()?, ("Ada".to_owned(), 36));
    /// assert!(codec.open(&stored, b"ck:users:43", 2_000).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn encode<T: Serialize + ?Sized>(&self, entry: &NewEntry<'_>, value: &T) -> Result<Bytes, EncodeError> {
        with_buffer(self.sealer.is_some(), |buffer| {
            if self.compression != Compression::None {
                self.serializer.encode(value, buffer, self.max_value, self.sealer.is_some())?;
                return self.wrap(entry, self.serializer, buffer);
            }
            // Nothing comes between serializer and entry, so the payload is written where it stays.
            self.begin(entry, 0, buffer)?;
            let payload_at = buffer.len();
            self.serializer.encode(value, buffer, self.max_value, self.sealer.is_some())?;
            let payload_len = (buffer.len() - payload_at) as u64;
            self.finish(entry, buffer, self.serializer, (Compressor::None, None), payload_len)?;
            // Growing a new Vec to 4 KB costs 1.3 µs, copying 4 KB out of a kept buffer 0.1 µs. A large buffer would not
            // be kept anyway, so it becomes the entry.
            if buffer.capacity() > kept::KEPT_BUFFER {
                return Ok(exact(std::mem::take(buffer)));
            }
            Ok(Bytes::copy_from_slice(buffer))
        })
    }

    /// The entry for bytes, kept as they are whatever the serializer set; read back by [`Opened::bytes`].
    pub fn encode_bytes(&self, entry: &NewEntry<'_>, bytes: &[u8]) -> Result<Bytes, EncodeError> {
        if bytes.len() as u64 > self.max_value {
            return Err(EncodeError::TooLarge { max: self.max_value });
        }
        self.wrap(entry, Serializer::Raw, bytes)
    }

    fn wrap(&self, entry: &NewEntry<'_>, serializer: Serializer, payload: &[u8]) -> Result<Bytes, EncodeError> {
        let mut out = Vec::new();
        self.begin(entry, payload.len(), &mut out)?;
        let dictionary = self.dictionaries.for_payload(payload.len());
        let compressed = self.compression.append_with(dictionary, payload, &mut out);
        self.finish(entry, &mut out, serializer, compressed, payload.len() as u64)?;
        Ok(exact(out))
    }

    /// An entry up to where its payload begins, the nonce's room included.
    fn begin(&self, entry: &NewEntry<'_>, payload_room: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.sealer.is_none() {
            return envelope::begin(entry, payload_room, out);
        }
        envelope::begin(entry, NONCE_LEN + payload_room + TAG_LEN, out)?;
        out.resize(out.len() + NONCE_LEN, 0);
        Ok(())
    }

    /// Completes an entry whose payload is in place.
    fn finish(
        &self,
        entry: &NewEntry<'_>,
        out: &mut Vec<u8>,
        serializer: Serializer,
        (compressor, dictionary): (Compressor, Option<DictionaryId>),
        payload_len: u64,
    ) -> Result<(), EncodeError> {
        let cipher = self.sealer.as_ref().map(|sealer| sealer.cipher());
        envelope::set_shape(out, &Shape { serializer, compressor, dictionary, cipher, payload_len });
        match &self.sealer {
            Some(sealer) => seal::seal(&**sealer, out, envelope::prefix_len(entry))?,
            None => envelope::set_checksum(out),
        }
        Ok(())
    }

    /// Checks `stored` and gives access to its value, if it is an entry for `wire_key` that may be served at `now_ms`
    /// (milliseconds since the Unix epoch).
    ///
    /// Nothing is copied, unless the entry is sealed. Expanding and decoding wait until the value is asked for.
    pub fn open(&self, stored: &Bytes, wire_key: &[u8], now_ms: u64) -> Result<Opened, Refusal> {
        let opened = self.open_closed(stored, wire_key, now_ms)?;
        let dictionary = self.dictionary_of(&opened.envelope)?;
        Ok(Opened { dictionary, ..opened })
    }

    /// The dictionary that the value cannot be had without.
    fn dictionary_of(&self, envelope: &Envelope) -> Result<Option<Arc<Dictionary>>, Refusal> {
        let Some(id) = envelope.dictionary() else { return Ok(None) };
        self.dictionaries.find(id).map(Some).ok_or(Refusal::Dictionary)
    }

    /// As [`Codec::open`] for those who leave the payload as it is.
    fn open_closed(&self, stored: &Bytes, wire_key: &[u8], now_ms: u64) -> Result<Opened, Refusal> {
        let (envelope, payload) = self.admit(stored, wire_key)?;
        let freshness = match envelope.meta().times.freshness(now_ms) {
            Freshness::Expired => return Err(Refusal::Expired),
            Freshness::FromTheFuture => return Err(Refusal::FromTheFuture),
            served => served,
        };
        Ok(Opened { envelope, payload, freshness, dictionary: None })
    }

    /// Everything about an entry but its age: the parts, and the payload without its seal.
    fn admit(&self, stored: &Bytes, wire_key: &[u8]) -> Result<(Envelope, Bytes), Refusal> {
        let Some(sealer) = &self.sealer else {
            let envelope = Envelope::parse(stored)?;
            if envelope.is_sealed() {
                return Err(Refusal::Sealed);
            }
            if envelope.wire_key() != wire_key {
                return Err(Refusal::WrongKey);
            }
            if envelope.payload_len() > self.max_value {
                return Err(Refusal::TooLarge);
            }
            let payload = envelope.stored_payload();
            return Ok((envelope, payload));
        };
        // Whoever can write to the backend chooses how bytes fail, and must not be able to choose a quieter alarm. So before
        // the entry has proved to be authentic, whatever is wrong with it is tampering, be it cut, foreign or moved. Three
        // things have names of their own: an entry that was never encrypted, and one under a key that is not in the ring,
        // which are no quieter and may be a mistake of ours; and one that is larger than is read here, which is a miss. Whoever
        // can write it can as well delete the entry, and it may be an honest one of a process with another limit.
        let envelope = Envelope::locate(stored).map_err(|_| Refusal::Tampered)?;
        if !envelope.is_sealed() && envelope.verify().is_ok() {
            return Err(Refusal::Plaintext);
        }
        if envelope.cipher() != Some(sealer.cipher()) || envelope.wire_key() != wire_key {
            return Err(Refusal::Tampered);
        }
        // Compression is only used where it saves, so what is sealed is never longer than the longest value.
        if (stored.len() - envelope.payload_at()) as u64 > self.max_value.saturating_add((NONCE_LEN + TAG_LEN) as u64) {
            return Err(Refusal::TooLarge);
        }
        let payload = seal::open(&**sealer, stored, envelope.payload_at()).map_err(|error| match error {
            OpenError::Tampered => Refusal::Tampered,
            OpenError::NoKey => Refusal::Sealed,
        })?;
        // From here on the entry is what somebody with the key wrote, and what is wrong with it has its own name.
        envelope.verify()?;
        if envelope.payload_len() > self.max_value {
            return Err(Refusal::TooLarge);
        }
        Ok((envelope, payload))
    }

    /// The same entry with other times, as `touch` needs where the entry and not the backend owns its expiry.
    ///
    /// The entry is checked as by [`Codec::open`] first, its age included: a new checksum must not bless damaged bytes,
    /// nor a touch wake what has expired.
    pub fn retime(
        &self,
        stored: &Bytes,
        wire_key: &[u8],
        now_ms: u64,
        change: impl FnOnce(Times) -> Times,
    ) -> Result<Bytes, RetimeError> {
        self.rewrite(stored, wire_key, now_ms, |entry, times| envelope::set_times(entry, change(times)))
    }

    /// The same entry with another epoch of its namespace, as one needs that comes from another store. Checked as by
    /// [`Codec::retime`].
    pub(crate) fn restamp(
        &self,
        stored: &Bytes,
        wire_key: &[u8],
        now_ms: u64,
        namespace_epoch: u64,
    ) -> Result<Bytes, RetimeError> {
        self.rewrite(stored, wire_key, now_ms, |entry, _| {
            envelope::set_namespace_epoch(entry, namespace_epoch);
            Ok(())
        })
    }

    /// The same entry with another header, which `change` is given with the old times.
    fn rewrite(
        &self,
        stored: &Bytes,
        wire_key: &[u8],
        now_ms: u64,
        change: impl FnOnce(&mut [u8], Times) -> Result<(), EncodeError>,
    ) -> Result<Bytes, RetimeError> {
        let Opened { envelope, payload, .. } = self.open_closed(stored, wire_key, now_ms)?;
        let mut out = Vec::with_capacity(stored.len());
        match &self.sealer {
            None => {
                out.extend_from_slice(stored);
                change(&mut out, envelope.meta().times)?;
                envelope::set_checksum(&mut out);
            }
            Some(sealer) => {
                out.extend_from_slice(&stored[..envelope.payload_at()]);
                change(&mut out, envelope.meta().times)?;
                out.resize(out.len() + NONCE_LEN, 0);
                // There is room for everything, so nothing plain is left behind by growing.
                out.extend_from_slice(&payload);
                seal::seal(&**sealer, &mut out, envelope.payload_at()).map_err(EncodeError::from)?;
            }
        }
        Ok(Bytes::from(out))
    }

    /// What `stored` says about itself, for tools: the key is not known, and a damaged entry is shown as far as its parts
    /// can be found. Nothing of it may be served.
    pub fn inspect(&self, stored: &Bytes, now_ms: u64) -> Result<Inspection, Refusal> {
        let envelope = Envelope::locate(stored)?;
        let verdict = self.admit(stored, envelope.wire_key()).and_then(|(envelope, _)| self.dictionary_of(&envelope));
        let verdict = verdict.map(|_| ());
        let freshness = envelope.meta().times.freshness(now_ms);
        Ok(Inspection { envelope, freshness, verdict })
    }
}

/// `entry` without its spare capacity: L1 counts an entry by its length, so it must not hold more than that.
fn exact(mut entry: Vec<u8>) -> Bytes {
    entry.shrink_to_fit();
    Bytes::from(entry)
}

/// An entry as a tool shows it.
#[derive(Debug)]
pub struct Inspection {
    /// The parts. Believe them only as far as `verdict` goes.
    pub envelope: Envelope,
    /// What its times say.
    pub freshness: Freshness,
    /// Whether the entry would be accepted under the key it names, its age aside.
    pub verdict: Result<(), Refusal>,
}

/// An entry that passed every check and may be served.
#[derive(Clone)]
pub struct Opened {
    envelope: Envelope,
    payload: Bytes,
    freshness: Freshness,
    dictionary: Option<Arc<Dictionary>>,
}

impl Opened {
    /// The entry's parts.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Times, cost, epoch.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        self.envelope.meta()
    }

    /// `Fresh`, `Stale` or `StaleIfError`; the other two are refusals.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Whether it was made by [`Codec::encode`], so that readers keep a decoded copy beside the bytes.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        !matches!(self.envelope.serializer(), Ok(Serializer::Raw))
    }

    /// The typed value.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        if self.meta().is_nothing {
            return Err(Refusal::Decode(DecodeFault::Shape));
        }
        let serializer = self.envelope.serializer()?;
        let compressor = self.envelope.compressor()?;
        if compressor == Compressor::None {
            self.check_plain_len()?;
            return serializer.decode(&self.payload);
        }
        with_buffer(self.envelope.is_sealed(), |plain| {
            compressor.expand(self.dictionary.as_deref(), &self.payload, self.envelope.payload_len(), plain)?;
            serializer.decode(plain)
        })
    }

    /// The value of an entry made by [`Codec::encode_bytes`]. A typed value is refused: its bytes are not what was stored.
    pub fn bytes(&self) -> Result<Bytes, Refusal> {
        match self.envelope.serializer()? {
            Serializer::Raw => self.payload(),
            _ => Err(Refusal::Decode(DecodeFault::Serializer)),
        }
    }

    /// The payload after decryption and decompression, whatever the serializer. Shares the entry's buffer if it can.
    pub fn payload(&self) -> Result<Bytes, Refusal> {
        let compressor = self.envelope.compressor()?;
        if compressor == Compressor::None {
            self.check_plain_len()?;
            return Ok(self.payload.clone());
        }
        let mut plain = Wiped::default();
        compressor.expand(self.dictionary.as_deref(), &self.payload, self.envelope.payload_len(), &mut plain.0)?;
        if self.envelope.is_sealed() {
            return Ok(seal::secret_bytes(plain));
        }
        Ok(Bytes::from(std::mem::take(&mut plain.0)))
    }

    /// A sealed payload's length could not be compared before it was open.
    fn check_plain_len(&self) -> Result<(), Refusal> {
        if self.payload.len() as u64 == self.envelope.payload_len() { Ok(()) } else { Err(Refusal::Corrupt) }
    }
}

/// No payload: it is somebody's value.
impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("envelope", &self.envelope)
            .field("freshness", &self.freshness)
            .finish_non_exhaustive()
    }
}
