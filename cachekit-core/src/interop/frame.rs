//! The CK frame, version 3: what every entry of Python's default mode begins with.
//!
//! ```text
//! 43 4b · 03 · u32be header length · header, JSON {"s": serializer, "m": metadata, "v": "2.0"} · payload
//! ```
//! An older form, read only, is one JSON text with the payload in base64. A frame is not a file of the File backend, which
//! begins with the same two letters and version 1 and stands before the frame.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::error::InteropError;

/// The first three bytes.
pub const FRAME_MAGIC: [u8; 3] = *b"CK\x03";
/// Bytes before the header.
const PREFIX_BYTES: usize = 7;

/// What a frame says of its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHeader {
    /// `default`, `auto`, `orjson`, `arrow`, or the class of a serializer of the user's own.
    pub serializer: String,
    /// `msgpack`, `orjson` or `arrow`.
    pub format: String,
    /// Whether the payload is an envelope (of Arrow: whether it has a codec).
    pub compressed: bool,
    /// `None` if it is absent or null.
    pub original_type: Option<String>,
    /// Set if the payload is sealed.
    pub encryption: Option<FrameEncryption>,
    /// The type is there and is no text: damage, but only where it is bound.
    odd_original_type: bool,
}

/// What the header of a sealed frame adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEncryption {
    /// Whose key.
    pub tenant: Option<String>,
    /// Which key, in hex.
    pub fingerprint: Option<String>,
}

impl FrameHeader {
    /// Of the StandardSerializer.
    #[must_use]
    pub fn standard(integrity: bool, encryption: Option<FrameEncryption>) -> Self {
        Self {
            serializer: "default".to_owned(),
            format: "msgpack".to_owned(),
            compressed: integrity,
            original_type: Some("msgpack".to_owned()),
            encryption,
            odd_original_type: false,
        }
    }

    /// The type that a seal is bound to.
    pub(super) fn bound_type(&self) -> Result<Option<&str>, InteropError> {
        match self.odd_original_type {
            true => Err(InteropError::Frame("its original_type is no text")),
            false => Ok(self.original_type.as_deref()),
        }
    }

    /// Python's text of it: `json.dumps` with its default separators, in its order.
    fn to_json(&self) -> String {
        let mut metadata = vec![
            ("format", Json::from(self.format.as_str())),
            ("encoding", Json::from("utf-8")),
            ("compressed", Json::from(self.compressed)),
            ("original_type", Json::from(self.original_type.as_deref())),
        ];
        if let Some(encryption) = &self.encryption {
            metadata.extend([
                ("encrypted", Json::from(true)),
                ("tenant_id", Json::from(encryption.tenant.as_deref())),
                ("encryption_algorithm", Json::from("AES-256-GCM")),
                ("key_fingerprint", Json::from(encryption.fingerprint.as_deref())),
            ]);
        }
        let fields: Vec<String> = metadata.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        let serializer = Json::from(self.serializer.as_str());
        format!("{{\"s\": {serializer}, \"m\": {{{}}}, \"v\": \"2.0\"}}", fields.join(", "))
    }

    fn of(serializer: Option<&Json>, metadata: Option<&Json>) -> Result<Self, InteropError> {
        let serializer = match serializer {
            Some(Json::String(name)) if !name.is_empty() => name.clone(),
            _ => return Err(InteropError::Frame("it names no serializer")),
        };
        let metadata = metadata.and_then(Json::as_object).ok_or(InteropError::Frame("it has no metadata"))?;
        let format = match metadata.get("format").and_then(Json::as_str) {
            Some(format @ ("msgpack" | "orjson" | "arrow")) => format.to_owned(),
            _ => return Err(InteropError::Frame("its format is none that is known")),
        };
        let flag = |name: &str| match metadata.get(name) {
            None | Some(Json::Null) => Ok(false),
            Some(Json::Bool(flag)) => Ok(*flag),
            Some(_) => Err(InteropError::Frame("one of its flags is neither true nor false")),
        };
        let text = |name: &str| metadata.get(name).and_then(Json::as_str).map(str::to_owned);
        let encryption = flag("encrypted")?
            .then(|| FrameEncryption { tenant: text("tenant_id"), fingerprint: text("key_fingerprint") });
        Ok(Self {
            serializer,
            format,
            compressed: flag("compressed")?,
            original_type: text("original_type"),
            encryption,
            odd_original_type: !matches!(metadata.get("original_type"), None | Some(Json::Null | Json::String(_))),
        })
    }
}

/// A frame in its parts.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it says of itself.
    pub header: FrameHeader,
    /// Sealed if the header says so.
    pub payload: Cow<'a, [u8]>,
}

/// The header and a size, never the payload.
impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let payload_len = self.payload.len();
        f.debug_struct("Frame").field("header", &self.header).field("payload_len", &payload_len).finish()
    }
}

impl<'a> Frame<'a> {
    /// Takes a stored entry apart.
    ///
    /// # Errors
    /// [`InteropError::Frame`].
    pub fn parse(stored: &'a [u8]) -> Result<Self, InteropError> {
        if !stored.starts_with(b"CK") {
            return Self::parse_legacy(stored);
        }
        let Some((prefix, rest)) = stored.split_first_chunk::<PREFIX_BYTES>() else {
            return Err(InteropError::Frame("it is shorter than 7 bytes"));
        };
        let [_, _, version, a, b, c, d] = *prefix;
        if version != FRAME_MAGIC[2] {
            return Err(InteropError::Frame("its version is not 3"));
        }
        let header_len = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some((header, payload)) = rest.split_at_checked(header_len) else {
            return Err(InteropError::Frame("its header is longer than it"));
        };
        let header: Json = serde_json::from_slice(header).map_err(|_| InteropError::Frame("its header is no JSON"))?;
        let header = FrameHeader::of(header.get("s"), header.get("m"))?;
        Ok(Self { header, payload: Cow::Borrowed(payload) })
    }

    fn parse_legacy(stored: &[u8]) -> Result<Self, InteropError> {
        let json: Json =
            serde_json::from_slice(stored).map_err(|_| InteropError::Frame("it is neither CK nor JSON"))?;
        let header = FrameHeader::of(json.get("serializer"), json.get("metadata"))?;
        let payload = json.get("data").and_then(Json::as_str).and_then(base64);
        let payload = payload.ok_or(InteropError::Frame("its data are no base64"))?;
        Ok(Self { header, payload: Cow::Owned(payload) })
    }

    /// The stored form.
    ///
    /// # Errors
    /// [`InteropError::TooLarge`] for a header that its length field cannot hold.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InteropError> {
        let header = self.header.to_json();
        let len = u32::try_from(header.len()).map_err(|_| InteropError::TooLarge { max: u32::MAX.into() })?;
        let mut out = Vec::with_capacity(PREFIX_BYTES + header.len() + self.payload.len());
        out.extend_from_slice(&FRAME_MAGIC);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&self.payload);
        Ok(out)
    }
}

/// Standard base64 with its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let last = (text.len() / 4).checked_sub(1);
    for (index, four) in text.chunks_exact(4).enumerate() {
        let padding = four.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || padding > 0 && Some(index) != last {
            return None;
        }
        let mut bits = 0_u32;
        for byte in &four[..4 - padding] {
            let six = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        bits <<= 6 * padding;
        out.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(out)
}
