//! Below the envelope: the bytes as the backend holds them, under the key as the backend sees it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use cachekit::blocking::wait;
use cachekit::{Cache, within};
use cachekit_plugin::{Backend, BackendError, Cx, Deadline, Key, Operation, Ttl};
use serde_json::json;

use super::value_of;
use crate::cli::RawCommand;
use crate::exit::{Failure, Outcome};
use crate::output::{as_text, hex, unhex};
use crate::session::Session;

pub(super) fn raw(command: &RawCommand, session: &Session) -> Result<Outcome, Failure> {
    match command {
        RawCommand::Get { key, hex } => get(key, *hex, session),
        RawCommand::Set { key, value, hex, ttl } => {
            // An end beyond every clock is none.
            let ttl = ttl.and_then(Ttl::from_duration).unwrap_or(Ttl::Never);
            set(key, value, *hex, ttl, session)
        }
        RawCommand::Del { key } => del(key, session),
    }
}

fn get(key: &OsStr, as_hex: bool, session: &Session) -> Result<Outcome, Failure> {
    let stored = session.with_cache(|cache| fetch(cache, key.as_bytes()))?;
    let output = session.output;
    let Some(stored) = stored else {
        output.only_json(|| json!({ "key": as_text(key.as_bytes()), "found": false }))?;
        return Ok(Outcome::No);
    };
    if output.is_json() {
        let document =
            json!({ "key": as_text(key.as_bytes()), "found": true, "bytes": stored.len(), "value_hex": hex(&stored) });
        output.document(&document)?;
    } else if as_hex {
        output.line(&hex(&stored))?;
    } else {
        output.bytes(&stored)?;
    }
    Ok(Outcome::Done)
}

/// The stored bytes under a wire key.
pub(super) fn fetch(cache: &Cache, wire_key: &[u8]) -> Result<Option<Bytes>, Failure> {
    let store = Store::of(cache)?;
    let key = store.key(wire_key)?;
    store.exchange(Operation::Get, async |backend, cx| backend.get(key, cx).await)
}

fn set(key: &OsStr, value: &OsStr, as_hex: bool, ttl: Ttl, session: &Session) -> Result<Outcome, Failure> {
    let stored = session.with_cache(|cache| {
        let store = Store::of(cache)?;
        let max = store.backend.limits().max_value;
        let value = match as_hex {
            true => unhex(&value_of(value, max.saturating_mul(2))?)?,
            false => value_of(value, max)?,
        };
        let (key, len) = (store.key(key.as_bytes())?, value.len());
        if len as u64 > max {
            return Err(Failure::Usage(format!("the value has {len} bytes, the store takes {max}")));
        }
        store.exchange(Operation::Set, async |backend, cx| backend.set(key, value.into(), ttl, cx).await)?;
        Ok(len)
    })?;
    session.output.only_json(|| json!({ "key": as_text(key.as_bytes()), "stored": true, "bytes": stored }))?;
    Ok(Outcome::Done)
}

fn del(key: &OsStr, session: &Session) -> Result<Outcome, Failure> {
    let deleted = session.with_cache(|cache| {
        let store = Store::of(cache)?;
        let key = store.key(key.as_bytes())?;
        store.exchange(Operation::Delete, async |backend, cx| backend.delete(key, cx).await)
    })?;
    session.output.only_json(|| json!({ "key": as_text(key.as_bytes()), "deleted": deleted }))?;
    Ok(Outcome::hit(deleted))
}

/// The store of a cache, one operation at a time, each with the cache's deadline.
pub(super) struct Store<'a> {
    pub(super) backend: &'a dyn Backend,
    cache: &'a Cache,
}

impl<'a> Store<'a> {
    pub(super) fn of(cache: &'a Cache) -> Result<Self, Failure> {
        let Some(tier) = cache.tier() else { return Err(Failure::Usage("there is no store".into())) };
        Ok(Self { backend: &**tier.backend(), cache })
    }

    /// A wire key that this store takes.
    fn key<'k>(&self, wire_key: &'k [u8]) -> Result<Key<'k>, Failure> {
        let limits = self.backend.limits();
        if limits.takes_key(wire_key) {
            return Ok(Key::from_wire(wire_key));
        }
        let max = limits.max_key;
        Err(Failure::Usage(format!("the store does not take this wire key: it takes 1 to {max} bytes of its alphabet")))
    }

    /// Waits for one operation, no longer than the cache would.
    pub(super) fn exchange<T>(
        &self,
        operation: Operation,
        work: impl AsyncFnOnce(&dyn Backend, &Cx<'_>) -> Result<T, BackendError>,
    ) -> Result<T, Failure> {
        let deadline = Deadline::after(self.cache.deadline_per_operation());
        let cx = Cx::new(deadline);
        Ok(wait(within(deadline, operation, work(self.backend, &cx)))?)
    }
}
