//! The life of an entry: read, and begun anew.

use std::sync::atomic::Ordering::Relaxed;

use axum::response::Response;
use bytes::Bytes;
use cachekit_plugin::{Backend, Cx, Version};
use serde::Deserialize;
use serde_json::json;

use super::{Call, Named, done, fetching, json, within};
use crate::entry::Entry;
use crate::life::{Age, Life};
use crate::refusal::Refusal;

/// How often a PATCH looks again when others write the same entry.
const TRIES: usize = 8;

/// Seconds of freshness left, rounded up; 0 inside the stale window; null without an end.
pub(super) async fn read(call: Call) -> Result<Response, Refusal> {
    let named = call.named()?;
    let (api, cx) = (&call.api, call.cx());
    let _fetching = fetching(api, &cx).await?;
    let stored = within(&cx, api.backend.get(named.key(), &cx)).await?;
    let entry = stored.and_then(|stored| named.open(stored, &api.metrics.refused_entries)).ok_or(Refusal::miss())?;
    let seconds = match Age::of(entry.times, api.clock.unix_ms()) {
        Age::Gone => return Err(Refusal::miss()),
        Age::Stale => Some(0),
        Age::Fresh(left) => left.map(|ms| ms.div_ceil(1000)),
    };
    Ok(json(&json!({ "ttl": seconds }), call.room))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Null like 0: no end.
    ttl: Option<u64>,
}

/// Gives an entry a new life from now. Its stale window stays as long as it was.
pub(super) async fn patch(mut call: Call) -> Result<Response, Refusal> {
    let named = call.named()?;
    let asked: Asked = call.read_json("a life is given as {\"ttl\": SECONDS}, 0 to 2592000").await?;
    let seconds = asked.ttl.unwrap_or(0);
    // Refused before the store is asked, whatever the entry's window.
    Life::new(seconds, 0)?;
    let (api, cx) = (&call.api, call.cx());
    for _ in 0..TRIES {
        let fetching = fetching(api, &cx).await?;
        let Some((stored, version)) = fetch(&*api.backend, &named, &cx).await? else { return Err(Refusal::miss()) };
        let Some(entry) = named.open(stored, &api.metrics.refused_entries) else { return Err(Refusal::miss()) };
        let now = api.clock.unix_ms();
        if Age::of(entry.times, now) == Age::Gone {
            return Err(Refusal::miss());
        }
        let life = Life::new(seconds, window(&entry))?;
        // Twice: the entry as it was read and as it will be.
        let _held = api.budget.hold(2 * (named.overhead() + entry.value.len()))?;
        drop(fetching);
        let mut buffer = named.begin(entry.value.len());
        buffer.extend_from_slice(&entry.value);
        let (stored, ttl) = (named.seal(buffer, life.times(now)), life.for_store(&api.limits));
        let stored = match (api.backend.cas(), version) {
            (Some(cas), Some(version)) => within(&cx, cas.set_if(named.key(), stored, ttl, Some(version), &cx)).await?,
            _ => within(&cx, api.backend.set(named.key(), stored, ttl, &cx)).await.map(|()| true)?,
        };
        if stored {
            return Ok(done());
        }
    }
    api.metrics.conflicts.fetch_add(1, Relaxed);
    Err(Refusal::conflict())
}

/// The stored bytes, with their version where the store has versions. Without them a write between here and the end of
/// the PATCH is lost; `docs/serve.md` says so.
async fn fetch(backend: &dyn Backend, named: &Named, cx: &Cx<'_>) -> Result<Option<(Bytes, Option<Version>)>, Refusal> {
    Ok(match backend.cas() {
        Some(cas) => {
            within(cx, cas.get_version(named.key(), cx)).await?.map(|(stored, version)| (stored, Some(version)))
        }
        None => within(cx, backend.get(named.key(), cx)).await?.map(|stored| (stored, None)),
    })
}

/// Length of the stale window, milliseconds.
fn window(entry: &Entry) -> u64 {
    match (entry.times.fresh_until, entry.times.gone_from) {
        (Some(fresh), Some(gone)) => gone.saturating_sub(fresh),
        _ => 0,
    }
}
