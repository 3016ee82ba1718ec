//! Locks: leases of the store, under an id that only the holder knows.

use std::sync::Arc;

use axum::http::header::HeaderName;
use axum::response::Response;
use cachekit_plugin::Cx;
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;

use super::{Api, Call, Named, Room, done, json, within};
use crate::refusal::Refusal;

const LOCK_ID: HeaderName = HeaderName::from_static("x-cachekit-lock-id");

/// Longest lease, milliseconds. A holder that needs longer takes it again.
const MAX_HOLD_MS: u64 = 3_600_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    timeout_ms: u64,
}

/// Takes the lock of a key: its id, or null if another has it. Never waits.
pub(super) async fn lock(mut call: Call) -> Result<Response, Refusal> {
    let named = call.named()?;
    let form = "a lock is asked for as {\"timeout_ms\": MILLISECONDS}, 1 to 3600000";
    let asked: Asked = call.read_json(form).await?;
    if !(1..=MAX_HOLD_MS).contains(&asked.timeout_ms) {
        return Err(Refusal::json(form));
    }
    let (id, lease) = (fresh_id()?, call.named()?);
    let Call { api, head, room, .. } = call;
    let cx = api.cx(&head);
    let locks = api.backend.locks().ok_or(Refusal::no_locks())?;
    let unclaimed = Unclaimed { api: Arc::clone(&api), lease: Some((lease, id.clone(), room)) };
    let taken = within(&cx, locks.lock(named.key(), id.as_bytes(), asked.timeout_ms, &cx)).await?;
    let room = unclaimed.told().ok_or(Refusal::busy())?;
    Ok(json(&json!({ "lock_id": taken.then_some(id) }), room))
}

/// A lease that was asked for, and of which nobody has been told. Dropped as that (the deadline has passed, or the client has
/// gone) it is given back: else the key would be locked by nobody, for as long as was asked for.
struct Unclaimed {
    api: Arc<Api>,
    /// With the request's place among those under way, which it keeps until then: a client that hangs up and comes again is
    /// one of as many as may be.
    lease: Option<(Named, String, Room)>,
}

impl Unclaimed {
    fn told(mut self) -> Option<Room> {
        self.lease.take().map(|(.., room)| room)
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let (Some((named, id, room)), Ok(runtime)) = (self.lease.take(), Handle::try_current()) else { return };
        let api = Arc::clone(&self.api);
        runtime.spawn(async move {
            let cx = Cx::within(api.bounds.deadline);
            if let Some(locks) = api.backend.locks() {
                let _ = within(&cx, locks.unlock(named.key(), id.as_bytes(), &cx)).await;
            }
            drop(room);
        });
    }
}

/// Gives the lock back.
pub(super) async fn unlock(call: Call) -> Result<Response, Refusal> {
    let named = call.named()?;
    let refuse =
        || Refusal::new(axum::http::StatusCode::BAD_REQUEST, "lock_id", "X-CacheKit-Lock-Id names the lock, once");
    let mut ids = call.head.headers.get_all(LOCK_ID).iter();
    let (Some(id), None) = (ids.next(), ids.next()) else { return Err(refuse()) };
    if id.is_empty() || id.len() > 128 {
        return Err(refuse());
    }
    let (backend, cx) = (&call.api.backend, call.cx());
    let locks = backend.locks().ok_or(Refusal::no_locks())?;
    match within(&cx, locks.unlock(named.key(), id.as_bytes(), &cx)).await? {
        true => Ok(done()),
        false => Err(Refusal::miss()),
    }
}

/// 128 random bits, so that nobody gives back a lock that is not theirs.
fn fresh_id() -> Result<String, Refusal> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Refusal::busy())?;
    Ok(format!("{:032x}", u128::from_le_bytes(random)))
}
