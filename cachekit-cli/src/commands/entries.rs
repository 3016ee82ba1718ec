//! One entry at a time: get, set, del, exists, ttl, touch.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use cachekit::SetOptions;
use cachekit::blocking::wait;
use cachekit::codec::{Opened, Serializer};
use cachekit_plugin::Ttl;
use serde_json::{Value as Json, json};

use super::value_of;
use crate::cli::{LifeArgs, SetArgs};
use crate::exit::{Failure, Outcome};
use crate::output::{as_text, hex};
use crate::session::{self, Session};
use crate::shown::Shown;

/// Bytes as they were stored; values that programs stored with types as JSON.
pub(super) fn get(key: &OsStr, session: &Session) -> Result<Outcome, Failure> {
    let found = session.with_cache(|cache| Ok(wait(cache.entry(key.as_bytes()))?))?;
    let output = session.output;
    let Some(entry) = found else {
        output.only_json(|| json!({ "key": as_text(key.as_bytes()), "found": false }))?;
        return Ok(Outcome::No);
    };
    let value = Value::of(&entry)?;
    if output.is_json() {
        output.document(&json!({
            "key": as_text(key.as_bytes()),
            "found": true,
            "encoding": value.encoding,
            "value": value.shown,
            "value_hex": hex(&value.payload),
        }))?;
    } else if value.encoding == "bytes" {
        output.bytes(&value.payload)?;
    } else {
        output.line(&format!("{:#}", value.shown))?;
    }
    Ok(Outcome::Done)
}

/// What an entry holds, for showing.
pub(super) struct Value {
    /// `bytes`, `messagepack` or `json`.
    pub(super) encoding: &'static str,
    /// As JSON. Bytes are text if they are UTF-8, otherwise null: then `payload` is all there is.
    pub(super) shown: Json,
    /// After decompression.
    pub(super) payload: bytes::Bytes,
}

impl Value {
    pub(super) fn of(entry: &Opened) -> Result<Self, cachekit::Error> {
        let payload = entry.payload()?;
        let encoding = encoding(entry.envelope().serializer()?);
        let shown = match encoding {
            "bytes" => text(&payload),
            _ => entry.decode::<Shown>()?.0,
        };
        Ok(Self { encoding, shown, payload })
    }
}

/// Bytes as text, or null if they are none.
pub(super) fn text(bytes: &[u8]) -> Json {
    std::str::from_utf8(bytes).map_or(Json::Null, Json::from)
}

/// What people call a serializer's output.
pub(super) fn encoding(serializer: Serializer) -> &'static str {
    match serializer {
        Serializer::Raw => "bytes",
        Serializer::MessagePack => "messagepack",
        Serializer::Json => "json",
        _ => "unknown",
    }
}

pub(super) fn set(args: &SetArgs, session: &Session) -> Result<Outcome, Failure> {
    let config = session.config()?;
    // Read before the store is opened: input may take its time, and a store need not wait for it.
    let value = value_of(&args.value, config.max_value.value)?;
    let cache = session::open(config)?;
    // This process writes one value. Should the dictionary not get there, it is stored without.
    if let Err(error) = wait(cache.prepare()) {
        session.output.warn(&format!("the value is stored without the dictionary: {error}"));
    }
    let cache = cache.blocking();
    let options = options(&args.life).with_tags(args.tags.iter().map(|tag| tag.as_bytes()));
    cache.set_bytes(args.key.as_bytes(), &value, options)?;
    cache.close()?;
    session
        .output
        .only_json(|| json!({ "key": as_text(args.key.as_bytes()), "stored": true, "bytes": value.len() }))?;
    Ok(Outcome::Done)
}

fn options(life: &LifeArgs) -> SetOptions {
    match life {
        LifeArgs { ttl: Some(ttl), .. } => SetOptions::default().with_ttl(*ttl),
        LifeArgs { no_expiry: true, .. } => SetOptions::default().without_expiry(),
        _ => SetOptions::default(),
    }
}

pub(super) fn del(keys: &[OsString], session: &Session) -> Result<Outcome, Failure> {
    let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
    let deleted = session.with_cache(|cache| Ok(cache.blocking().delete_many(&keys)?))?;
    session.output.only_json(|| json!({ "asked": keys.len(), "deleted": deleted }))?;
    Ok(Outcome::hit(deleted > 0))
}

pub(super) fn exists(key: &OsStr, session: &Session) -> Result<Outcome, Failure> {
    let exists = session.with_cache(|cache| Ok(cache.blocking().exists(key.as_bytes())?))?;
    session.output.only_json(|| json!({ "key": as_text(key.as_bytes()), "exists": exists }))?;
    Ok(Outcome::hit(exists))
}

/// Seconds with milliseconds, so that scripts can compare them.
pub(super) fn ttl(key: &OsStr, session: &Session) -> Result<Outcome, Failure> {
    let left = session.with_cache(|cache| Ok(cache.blocking().ttl(key.as_bytes())?))?;
    let document = |left: Option<Ttl>| {
        let ttl_ms = left.and_then(Ttl::as_ms);
        json!({ "key": as_text(key.as_bytes()), "found": left.is_some(), "expires": ttl_ms.is_some(), "ttl_ms": ttl_ms })
    };
    let Some(left) = left else {
        session.output.only_json(|| document(None))?;
        return Ok(Outcome::No);
    };
    let text = left.as_ms().map_or_else(|| "never".to_owned(), |ms| format!("{}.{:03}", ms / 1000, ms % 1000));
    session.output.either(|| document(Some(left)), &text)?;
    Ok(Outcome::Done)
}

pub(super) fn touch(key: &OsStr, life: &LifeArgs, session: &Session) -> Result<Outcome, Failure> {
    let touched = session.with_cache(|cache| Ok(cache.blocking().touch(key.as_bytes(), options(life))?))?;
    session.output.only_json(|| json!({ "key": as_text(key.as_bytes()), "touched": touched }))?;
    Ok(Outcome::hit(touched))
}
