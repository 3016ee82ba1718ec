//! Values: GET and HEAD, PUT, DELETE.

use std::sync::atomic::Ordering::Relaxed;

use axum::http::header::{HeaderName, HeaderValue};
use axum::http::{StatusCode, header};
use axum::response::Response;

use super::{Call, done, fetching, media_is, within};
use crate::body::outgoing;
use crate::life::{Age, Life};
use crate::refusal::Refusal;

const FRESHNESS: HeaderName = HeaderName::from_static("x-cachekit-freshness");
const FRESH_FOR: HeaderName = HeaderName::from_static("x-cachekit-fresh-for");
const DELETED: HeaderName = HeaderName::from_static("x-cachekit-deleted");

/// The value, with how long it may be kept elsewhere.
pub(super) async fn get(call: Call) -> Result<Response, Refusal> {
    let named = call.named()?;
    let (api, cx) = (&call.api, call.cx());
    let fetching = fetching(api, &cx).await?;
    let stored = within(&cx, api.backend.get(named.key(), &cx)).await?;
    let miss = || {
        api.metrics.misses.fetch_add(1, Relaxed);
        Refusal::miss()
    };
    let entry = stored.and_then(|stored| named.open(stored, &api.metrics.refused_entries)).ok_or_else(miss)?;
    let age = Age::of(entry.times, api.clock.unix_ms());
    let (freshness, fresh_for) = match age {
        Age::Gone => return Err(miss()),
        Age::Stale => ("stale", Some(0)),
        // Rounded down: a copy elsewhere must not outlive this one.
        Age::Fresh(left) => ("fresh", left.map(|ms| ms / 1000)),
    };
    let hits = if age == Age::Stale { &api.metrics.stale_hits } else { &api.metrics.hits };
    hits.fetch_add(1, Relaxed);
    api.metrics.bytes_out.fetch_add(entry.value.len() as u64, Relaxed);
    let held = api.budget.hold(named.overhead() + entry.value.len())?;
    drop(fetching);
    let mut response = Response::new(outgoing(entry.value, (held, call.room)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // Between this server and its clients nobody is to keep what may be deleted here.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(FRESHNESS, HeaderValue::from_static(freshness));
    if let Some(seconds) = fresh_for {
        headers.insert(FRESH_FOR, HeaderValue::from(seconds));
    }
    Ok(response)
}

/// Stores the body.
pub(super) async fn put(mut call: Call) -> Result<Response, Refusal> {
    let named = call.named()?;
    if !media_is(&call.head.headers, "application/octet-stream") {
        return Err(Refusal::media("values are application/octet-stream"));
    }
    let life = Life::from_headers(&call.head.headers, call.api.default_ttl)?;
    let max = call.max_value(&named);
    let (buffer, _held) = call.read_body(max, |room| named.begin(room)).await?;
    let (api, cx) = (&call.api, call.cx());
    api.metrics.bytes_in.fetch_add((buffer.len() - named.overhead()) as u64, Relaxed);
    let stored = named.seal(buffer, life.times(api.clock.unix_ms()));
    within(&cx, api.backend.set(named.key(), stored, life.for_store(&api.limits), &cx)).await?;
    Ok(done())
}

/// Removes the entry. An entry that is not there is gone as well: clients of the family take 404 for an error here, so
/// what there was to remove is said beside a success.
pub(super) async fn delete(call: Call) -> Result<Response, Refusal> {
    let named = call.named()?;
    let (api, cx) = (&call.api, call.cx());
    let deleted = within(&cx, api.backend.delete(named.key(), &cx)).await?;
    let mut response = done();
    debug_assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let said = if deleted { "true" } else { "false" };
    response.headers_mut().insert(DELETED, HeaderValue::from_static(said));
    Ok(response)
}
