//! What a stored entry is, whether or not a cache would serve it.
//!
//! `ok` says that the entry is whole and belongs to the key; its age is no defect and stands in `freshness`. Nothing of
//! a damaged entry's value is shown: what would be shown is not what was stored.

mod family;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cachekit::Config;
use cachekit::blocking::wait;
use cachekit::codec::{Codec, Compressor, Envelope, Freshness, MAGIC, Refusal};
use cachekit::crypto::NativeSealer;
use cachekit::interop::{FRAME_MAGIC, Frame, Keyring, read_envelope};
use cachekit::key::Namespace;
use serde_json::{Map, Value as Json, json};

use super::entries::{Value, encoding, text};
use super::interop::{keyring, tenant};
use super::raw::{Store, fetch};
use super::store::table;
use super::value_of;
use crate::cli::{Format, InspectArgs};
use crate::exit::{Class, Failure, Outcome};
use crate::output::{as_text, escaped, hex, unhex};
use crate::session::Session;

/// Longest entry given as hex: the largest value there is, with room for its header.
const MAX_HEX_BYTES: u64 = 512 << 20;
/// First bytes of the File backend's files: its mark and the version that is known.
const FILE_MAGIC: [u8; 3] = *b"CK\x01";
/// Bytes before what was stored: mark, version, reserved byte, flags, expiry in Unix seconds (big-endian).
const FILE_HEADER_LEN: usize = 14;

pub(super) fn inspect(args: &InspectArgs, session: &Session) -> Result<Outcome, Failure> {
    let output = session.output;
    let config = session.config()?;
    let report = match (&args.stored, &args.hex, &args.key) {
        (Some(key), ..) => {
            let owner = Owner::of(&config, key, args)?;
            let Some(report) = from_store(&owner, args.format, session)? else {
                output.only_json(|| json!({ "key": as_text(key.as_bytes()), "found": false }))?;
                return Ok(Outcome::No);
            };
            report
        }
        (None, Some(digits), Some(key)) => {
            let stored = Bytes::from(unhex(&value_of(digits.as_ref(), MAX_HEX_BYTES)?)?);
            report(&stored, &Owner::of(&config, key, args)?, args.format)
        }
        _ => return Err(Failure::Usage("name a key, or give --hex and --key".into())),
    };
    let ok = report["ok"] == true;
    if output.is_json() {
        output.document(&report)?;
    } else {
        output.bytes(table(&report).as_bytes())?;
    }
    Ok(if ok { Outcome::Done } else { Outcome::Bad(Class::Refused) })
}

/// An entry of this cache's own under that key of the namespace, unless another form was asked for; else whatever is stored
/// under it as it is.
fn from_store(owner: &Owner, format: Option<Format>, session: &Session) -> Result<Option<Json>, Failure> {
    session.with_cache(|cache| {
        let limits = Store::of(cache)?.backend.limits();
        if matches!(format, None | Some(Format::Native)) {
            let wire_key = owner.namespace.wire(&owner.given).map_err(cachekit::Error::from)?;
            let stored = fetch(cache, &wire_key.for_store(&limits).map_err(cachekit::Error::from)?)?;
            if stored.is_some() || format.is_some() {
                stored.as_ref().map(|stored| find_dictionary(cache, owner, stored)).transpose()?;
                return Ok(stored.map(|stored| report(&stored, owner, Some(Format::Native))));
            }
        }
        if !limits.takes_key(&owner.given) {
            return Ok(None);
        }
        let stored = fetch(cache, &owner.given)?;
        stored.as_ref().map(|stored| find_dictionary(cache, owner, stored)).transpose()?;
        Ok(stored.map(|stored| report(&stored, owner, format)))
    })
}

/// The dictionary that an entry needs, from the same store. One that is not there is what the report says.
fn find_dictionary(cache: &cachekit::Cache, owner: &Owner, stored: &Bytes) -> Result<(), Failure> {
    let Some(id) = Envelope::parse(stored).ok().and_then(|envelope| envelope.dictionary()) else { return Ok(()) };
    match wait(cache.stored_dictionary(id)) {
        Ok(found) => found.into_iter().for_each(|found| owner.codec.dictionaries.add(Arc::new(found))),
        Err(cachekit::Error::Backend(error)) => return Err(error.into()),
        Err(_) => {}
    }
    Ok(())
}

/// Whom the entry is said to belong to.
struct Owner {
    namespace: Namespace,
    /// As it was given: a key of the namespace or a whole wire key.
    given: Vec<u8>,
    /// The wire key, if it was the former.
    wire_key: Vec<u8>,
    codec: Codec,
    /// Whether the cache accepts nothing that is not sealed.
    encrypts: bool,
    keyring: Option<Arc<Keyring>>,
    tenant: String,
}

impl Owner {
    fn of(config: &Config, key: &OsStr, args: &InspectArgs) -> Result<Self, Failure> {
        let codec = Codec { max_value: config.max_value.value, ..Codec::default() };
        let namespace = config.key_namespace()?;
        let wire_key = namespace.wire(key.as_bytes()).map_err(cachekit::Error::from)?.as_bytes().to_vec();
        let tenant = tenant(args.tenant.as_deref(), config);
        let (keyring, encrypts) = (keyring(config)?, config.encryption_enabled.value);
        Ok(Self { namespace, given: key.as_bytes().to_vec(), wire_key, codec, encrypts, keyring, tenant })
    }

    /// What opens an entry: with keys if it is sealed and there are any, and as the cache would if it encrypts.
    fn codec_for(&self, is_sealed: bool) -> Result<Codec, cachekit::Error> {
        let mut codec = self.codec.clone();
        if let Some(keyring) = self.keyring.as_ref().filter(|_| is_sealed || self.encrypts) {
            codec.sealer = Some(Arc::new(NativeSealer::new(Arc::clone(keyring), &self.tenant)?));
        }
        Ok(codec)
    }

    /// With what entries of other languages are opened. A key of theirs is always text.
    fn keys(&self) -> family::Keys<'_> {
        let key = std::str::from_utf8(&self.given).unwrap_or_default();
        let max_payload = self.codec.max_value;
        family::Keys { keyring: self.keyring.as_deref(), tenant: &self.tenant, key, max_payload }
    }

    /// The wire key under which this entry has to be stored.
    fn wire_key_of(&self, envelope: &Envelope) -> &[u8] {
        if envelope.wire_key() == self.given { &self.given } else { &self.wire_key }
    }
}

fn report(stored: &Bytes, owner: &Owner, format: Option<Format>) -> Json {
    let guessed = format.is_none() && owner.keyring.is_none();
    let mut report = match format.unwrap_or_else(|| guess(stored, owner)) {
        Format::Native => native(stored, owner),
        Format::File => file(stored, owner),
        Format::Interop => family::interop(stored, &owner.keys()),
        Format::Bytestorage => family::bytestorage(stored, &owner.keys()),
        Format::Frame => family::frame(stored, &owner.keys()),
    };
    // What remains when it is nothing else, and is not that either.
    if guessed && report["format"] == "interop" && report["ok"] == false {
        report["format"] = json!("unknown");
    }
    report
}

/// What the bytes say they are. A value of interop mode says nothing, so it is what remains.
fn guess(stored: &Bytes, owner: &Owner) -> Format {
    let is_legacy_frame = || stored.starts_with(b"{") && Frame::parse(stored).is_ok();
    if stored.starts_with(&MAGIC) {
        Format::Native
    } else if stored.starts_with(&FILE_MAGIC) {
        Format::File
    } else if stored.starts_with(&FRAME_MAGIC) || is_legacy_frame() {
        Format::Frame
    } else if read_envelope(stored, owner.codec.max_value).is_ok() {
        Format::Bytestorage
    } else {
        Format::Interop
    }
}

fn refused(format: &str, reason: impl std::fmt::Display) -> Json {
    json!({
        "format": format, "encrypted": false, "ok": false, "payload_hex": null, "value": null,
        "reason": reason.to_string(),
    })
}

fn native(stored: &Bytes, owner: &Owner) -> Json {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    let is_sealed = Envelope::parse(stored).is_ok_and(|envelope| envelope.is_sealed());
    let codec = match owner.codec_for(is_sealed) {
        Ok(codec) => codec,
        Err(error) => return refused("native", error),
    };
    let inspection = match codec.inspect(stored, now_ms) {
        Ok(inspection) => inspection,
        Err(refusal) => return refused("native", refusal),
    };
    let envelope = &inspection.envelope;
    let times = envelope.meta().times;
    // Opened at the moment it was made: its age is told, and hides nothing.
    let wire_key = owner.wire_key_of(envelope);
    let value = inspection
        .verdict
        .and_then(|()| codec.open(stored, wire_key, times.created_ms))
        .map_err(cachekit::Error::from)
        .and_then(|opened| Value::of(&opened));
    let (payload_hex, shown, reason) = match value {
        Ok(value) => (json!(hex(&value.payload)), value.shown, Json::Null),
        Err(cachekit::Error::Refused(refusal)) => (Json::Null, Json::Null, json!(reason(refusal, envelope, wire_key))),
        Err(other) => (Json::Null, Json::Null, json!(other.to_string())),
    };
    let unless_zero = |ms: u64| (ms != 0).then_some(ms);
    json!({
        "format": "native",
        "encrypted": envelope.is_sealed(),
        "ok": reason.is_null(),
        "payload_hex": payload_hex,
        "value": shown,
        "reason": reason,
        "key": strip(owner, envelope),
        "wire_key": as_text(envelope.wire_key()),
        "encoding": envelope.serializer().map_or("unknown", encoding),
        "compressor": envelope.compressor().map_or("unknown", compressor),
        "dictionary": envelope.dictionary().map(|id| id.to_string()),
        "freshness": freshness(inspection.freshness),
        "created_ms": times.created_ms,
        "fresh_for_ms": unless_zero(times.fresh_for_ms),
        "stale_until_ms": unless_zero(times.stale_until_ms),
        "expires_ms": unless_zero(times.expires_ms),
        "load_cost_us": unless_zero(envelope.meta().load_cost_us),
        "tags": envelope.tags().map(|tag| as_text(tag.name)).collect::<Vec<_>>(),
        "stored_bytes": stored.len(),
        "payload_bytes": envelope.payload_len(),
    })
}

fn reason(refusal: Refusal, envelope: &Envelope, expected: &[u8]) -> String {
    match refusal {
        Refusal::WrongKey => {
            format!("{refusal}: {}, not {}", escaped(envelope.wire_key()), escaped(expected))
        }
        other => other.to_string(),
    }
}

/// The key as its caller knows it, if it is of the namespace.
fn strip(owner: &Owner, envelope: &Envelope) -> Json {
    cachekit::key::strip(&owner.namespace, envelope.wire_key()).map_or(Json::Null, |key| json!(as_text(key)))
}

fn compressor(compressor: Compressor) -> &'static str {
    match compressor {
        Compressor::None => "none",
        Compressor::Zstd => "zstd",
        Compressor::Lz4 => "lz4",
        _ => "unknown",
    }
}

fn freshness(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Fresh => "fresh",
        Freshness::Stale => "stale",
        Freshness::StaleIfError => "stale_if_error",
        Freshness::Expired => "expired",
        Freshness::FromTheFuture => "from_the_future",
    }
}

/// A file: its header, and inside an envelope of ours, or the bytes that another member of the family stored.
fn file(stored: &Bytes, owner: &Owner) -> Json {
    let Some(header) = stored.first_chunk::<FILE_HEADER_LEN>() else {
        return refused("file", "it is shorter than the header of 14 bytes");
    };
    if header[..3] != FILE_MAGIC {
        return refused("file", "it does not begin with 43 4b 01");
    }
    let payload = stored.slice(FILE_HEADER_LEN..);
    let [.., a, b, c, d, e, f, g, h] = *header;
    let expiry = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let mut report = if header[3..6] != [0; 3] {
        refused("unknown", "its reserved byte or flags are set: a later dialect")
    } else if payload.starts_with(&MAGIC) {
        native(&payload, owner)
    } else if payload.starts_with(&FRAME_MAGIC) {
        family::frame(&payload, &owner.keys())
    } else {
        // A plain file carries neither key nor checksum, so there is nothing that could be wrong with it.
        json!({
            "encrypted": false, "ok": true, "payload_hex": hex(&payload), "value": text(&payload), "reason": null,
        })
    };
    let fields: Map<String, Json> = [
        ("content".to_owned(), report.get("format").cloned().unwrap_or_else(|| json!("plain"))),
        ("format".to_owned(), json!("file")),
        ("file_expires_s".to_owned(), json!((expiry != 0).then_some(expiry))),
    ]
    .into_iter()
    .collect();
    if let Json::Object(report) = &mut report {
        report.extend(fields);
    }
    report
}
