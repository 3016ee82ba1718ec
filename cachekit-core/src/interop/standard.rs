//! Entries of Python's default serializer: plain MessagePack, in an envelope unless integrity checking is off, sealed if the
//! cache is secure, in a frame.
//!
//! What it protects: a reader that has keys accepts nothing that claims to need none, and a reader without integrity
//! checking takes no envelope for a value.

use super::MAX_DEPTH;
use super::bytestorage::{FORMAT_MSGPACK, read_envelope, write_envelope};
use super::canonical::OUT_OF_RANGE;
use super::error::InteropError;
use super::frame::{Frame, FrameEncryption, FrameHeader};
use super::pack;
use super::read::{Dialect, read};
use super::seal::Binding;
use super::sentinel::{self, DATE, DATETIME, TIME};
use super::value::InteropValue;
use crate::crypto::{Keyring, KeyringError};

/// Up to this size a payload that happens to be an envelope is taken for one.
const MAX_SNIFFED_BYTES: usize = 256 << 10;

/// How a Python function with the default serializer is set up. Reads and writes what that function does.
#[derive(Debug, Clone, Copy)]
pub struct StandardFormat<'a> {
    /// Whether integrity checking is on, as it is by default.
    pub integrity: bool,
    /// The keys and the tenant of a secure cache.
    pub secure: Option<(&'a Keyring, &'a str)>,
    /// Largest payload, bytes.
    pub max_payload: u64,
}

impl StandardFormat<'_> {
    /// The entry of a value. `cache_key` is the whole key, with the prefix that a backend puts before it.
    ///
    /// # Errors
    /// [`InteropError::Value`], [`InteropError::Keyring`], [`InteropError::TooLarge`].
    pub fn write(&self, cache_key: &str, value: &InteropValue) -> Result<Vec<u8>, InteropError> {
        let mut plain = write_standard(value)?;
        if self.integrity {
            plain = write_envelope(&plain, FORMAT_MSGPACK)?;
        }
        let mut header = FrameHeader::standard(self.integrity, None);
        if let Some((keyring, tenant)) = self.secure {
            let binding = binding(&header, tenant, cache_key)?;
            plain = keyring.seal(&binding, &plain)?;
            let fingerprint = Some(keyring.fingerprint(tenant)?);
            header.encryption = Some(FrameEncryption { tenant: Some(tenant.to_owned()), fingerprint });
        }
        Frame { header, payload: plain.into() }.to_bytes()
    }

    /// The value of an entry.
    ///
    /// # Errors
    /// [`InteropError::Frame`], [`InteropError::Envelope`], [`InteropError::Malformed`]; with keys also
    /// [`InteropError::Tampered`] and [`InteropError::Suspicious`].
    pub fn read(&self, cache_key: &str, stored: &[u8]) -> Result<InteropValue, InteropError> {
        let frame = Frame::parse(stored)?;
        if frame.header.serializer != "default" {
            return Err(InteropError::Frame("another serializer wrote it"));
        }
        if frame.header.format != "msgpack" {
            return Err(InteropError::Frame("its format is not the one of its serializer"));
        }
        let opened = open(&frame, self.secure.map(|(keyring, _)| keyring), cache_key)?;
        let payload = opened.as_deref().unwrap_or(&frame.payload);
        if self.integrity {
            let stored = read_envelope(payload, self.max_payload)?;
            return Ok(read(&stored.payload, Dialect::Standard)?);
        }
        if frame.header.compressed {
            return Err(InteropError::Frame("it has an integrity envelope, and this reader checks none"));
        }
        if payload.len() <= MAX_SNIFFED_BYTES && read_envelope(payload, self.max_payload).is_ok() {
            return Err(InteropError::Frame("it is an envelope that claims to be none"));
        }
        Ok(read(payload, Dialect::Standard)?)
    }
}

/// The plain payload of a sealed frame; `None` if it is plain and nobody has keys.
///
/// # Errors
/// [`InteropError::Suspicious`] if the frame and the keyring disagree about encryption, [`InteropError::Tampered`].
pub fn open(frame: &Frame<'_>, keyring: Option<&Keyring>, cache_key: &str) -> Result<Option<Vec<u8>>, InteropError> {
    let (encryption, keyring) = match (&frame.header.encryption, keyring) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(InteropError::Suspicious("encryption is on and it claims to be plain")),
        (Some(encryption), keyring) => (encryption, keyring),
    };
    let Some(tenant) = encryption.tenant.as_deref().filter(|tenant| !tenant.is_empty()) else {
        return Err(InteropError::Suspicious("it is encrypted and names no tenant"));
    };
    let keyring = keyring.ok_or(KeyringError::Missing)?;
    let binding = binding(&frame.header, tenant, cache_key)?;
    keyring.open_named(&binding, encryption.fingerprint.as_deref(), &frame.payload).map(Some)
}

fn binding<'a>(header: &'a FrameHeader, tenant: &'a str, cache_key: &'a str) -> Result<Binding<'a>, InteropError> {
    let original_type = header.bound_type()?;
    Ok(Binding { tenant, cache_key, format: &header.format, compressed: header.compressed, original_type })
}

/// The serializer's MessagePack: maps in their order, NaN and infinities as they are.
///
/// # Errors
/// [`InteropError::Value`].
pub fn write_standard(value: &InteropValue) -> Result<Vec<u8>, InteropError> {
    let mut out = Vec::new();
    write(&mut out, value, 0)?;
    Ok(out)
}

fn write(out: &mut Vec<u8>, value: &InteropValue, depth: usize) -> Result<(), InteropError> {
    let refuse = |reason| Err(InteropError::Value { kind: value.kind(), reason });
    if depth > MAX_DEPTH {
        return refuse("it is nested too deeply");
    }
    match value {
        InteropValue::Nil => pack::nil(out),
        InteropValue::Bool(value) => pack::bool(out, *value),
        InteropValue::Int(value) => return pack::integer(out, *value).or_else(|_| refuse(OUT_OF_RANGE)),
        InteropValue::Float(value) => pack::float(out, *value),
        InteropValue::Str(text) => pack::str(out, text),
        InteropValue::Bytes(bytes) => pack::bin(out, bytes),
        InteropValue::Array(items) => {
            pack::array(out, items.len());
            for item in items {
                write(out, item, depth + 1)?;
            }
        }
        InteropValue::Map(entries) => {
            pack::map(out, entries.len());
            for (key, value) in entries {
                write(out, key, depth + 1)?;
                write(out, value, depth + 1)?;
            }
        }
        InteropValue::DateTime(moment) => sentinel::write(out, DATETIME, &moment.to_string()),
        InteropValue::Date(date) => sentinel::write(out, DATE, &date.to_string()),
        InteropValue::Time(time) => sentinel::write(out, TIME, &time.to_string()),
        InteropValue::Ext(..) => return refuse("extensions are read, never written"),
    }
    Ok(())
}

/// Reads the serializer's MessagePack.
///
/// # Errors
/// [`InteropError::Malformed`].
pub fn read_standard(payload: &[u8]) -> Result<InteropValue, InteropError> {
    Ok(read(payload, Dialect::Standard)?)
}
