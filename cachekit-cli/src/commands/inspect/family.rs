//! Entries of the other languages: values of interop mode, envelopes, and frames of Python's default mode.
//!
//! A tool shows what is there, so a plain entry is shown although keys are configured; that it is plain stands beside it. A
//! cache that is secure would refuse it.

use cachekit::interop::{Binding, NONCE_BYTES, TAG_BYTES};
use cachekit::interop::{
    Frame, InteropError, InteropValue, Keyring, Malformed, checksum, look_at_arrow, look_at_auto, look_at_orjson,
    open_frame, read_envelope, read_standard, read_value, typed_json,
};
use serde_json::{Map, Value as Json, json};

use crate::output::hex;

/// With what entries are opened.
pub(super) struct Keys<'a> {
    pub(super) keyring: Option<&'a Keyring>,
    pub(super) tenant: &'a str,
    /// The whole key, as the store has it.
    pub(super) key: &'a str,
    /// Largest payload, bytes.
    pub(super) max_payload: u64,
}

/// What an entry turned out to be.
struct Looked {
    encrypted: bool,
    payload: Vec<u8>,
    value: Json,
}

/// The report of a value of interop mode.
pub(super) fn interop(stored: &[u8], keys: &Keys<'_>) -> Json {
    let sealed = keys.keyring.map(|ring| ring.open(&Binding::interop(keys.tenant, keys.key), stored));
    let plain = |payload: &[u8]| read_value(payload).map(|value| typed_json::from_value(&value));
    let (encrypted, looked) = match (sealed, plain(stored)) {
        (Some(Ok(payload)), _) => {
            let value = plain(&payload);
            (true, value.map(|value| Looked { encrypted: true, payload, value }).map_err(InteropError::from))
        }
        (_, Ok(value)) => (false, Ok(Looked { encrypted: false, payload: stored.to_vec(), value })),
        // A frame is no ciphertext, and says so.
        (_, Err(Malformed::FramePrefix)) => (false, Err(Malformed::FramePrefix.into())),
        (Some(Err(error)), _) if stored.len() >= NONCE_BYTES + TAG_BYTES => (true, Err(error)),
        (_, Err(fault)) => (false, Err(fault.into())),
    };
    let mut report = report("interop", encrypted, looked);
    if keys.keyring.is_none() && report["ok"] == false && stored.len() >= NONCE_BYTES + TAG_BYTES {
        let reason = report["reason"].as_str().unwrap_or_default().to_owned();
        report["reason"] = json!(format!("{reason}; if it is sealed, CACHEKIT_MASTER_KEY opens it"));
    }
    report
}

/// The report of an envelope.
pub(super) fn bytestorage(stored: &[u8], keys: &Keys<'_>) -> Json {
    let envelope = read_envelope(stored, keys.max_payload);
    let named = envelope.as_ref().ok().map(|envelope| envelope.format.clone());
    let looked = envelope.map(|envelope| {
        let value = read_standard(&envelope.payload).map_or(Json::Null, |value| typed_json::from_value(&value));
        Looked { encrypted: false, payload: envelope.payload, value }
    });
    let sum = looked.as_ref().ok().map(|looked| hex(&checksum(&looked.payload)));
    with(report("bytestorage", false, looked), [("payload_format", json!(named)), ("xxh3_64", json!(sum))])
}

/// The report of a frame.
pub(super) fn frame(stored: &[u8], keys: &Keys<'_>) -> Json {
    let frame = match Frame::parse(stored) {
        Ok(frame) => frame,
        Err(error) => return report("frame", false, Err(error)),
    };
    let header = &frame.header;
    let encryption = header.encryption.as_ref();
    let fields = [
        ("serializer", json!(header.serializer)),
        ("payload_format", json!(header.format)),
        ("compressed", json!(header.compressed)),
        ("original_type", json!(header.original_type)),
        ("tenant", json!(encryption.and_then(|encryption| encryption.tenant.as_deref()))),
        ("key_fingerprint", json!(encryption.and_then(|encryption| encryption.fingerprint.as_deref()))),
    ];
    with(report("frame", encryption.is_some(), look(&frame, keys)), fields)
}

fn look(frame: &Frame<'_>, keys: &Keys<'_>) -> Result<Looked, InteropError> {
    let header = &frame.header;
    let encrypted = header.encryption.is_some();
    let opened = open_frame(frame, keys.keyring.filter(|_| encrypted), keys.key)?;
    let payload = opened.as_deref().unwrap_or(&frame.payload);
    let (payload, value) = match (header.serializer.as_str(), header.format.as_str()) {
        (_, "orjson") => look_at_orjson(payload)?,
        (_, "arrow") => look_at_arrow(payload)?,
        ("default", _) => {
            let payload = match header.compressed {
                true => read_envelope(payload, keys.max_payload)?.payload,
                false => payload.to_vec(),
            };
            let value: InteropValue = read_standard(&payload)?;
            (payload, typed_json::from_value(&value))
        }
        _ => look_at_auto(header, payload, keys.max_payload)?,
    };
    Ok(Looked { encrypted, payload, value })
}

fn report(format: &str, encrypted: bool, looked: Result<Looked, InteropError>) -> Json {
    match looked {
        Ok(Looked { encrypted, payload, value }) => json!({
            "format": format, "encrypted": encrypted, "ok": true, "payload_hex": hex(&payload), "value": value,
            "reason": null,
        }),
        Err(error) => json!({
            "format": format, "encrypted": encrypted, "ok": false, "payload_hex": null, "value": null,
            "reason": error.to_string(),
        }),
    }
}

fn with<const N: usize>(mut report: Json, fields: [(&str, Json); N]) -> Json {
    if let Json::Object(report) = &mut report {
        report.extend(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<Map<_, _>>());
    }
    report
}
