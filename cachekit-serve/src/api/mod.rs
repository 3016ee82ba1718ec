//! The endpoints, and the gate that every request passes before it reaches one.
//!
//! ```text
//! who is it → is there room → what key is meant → the endpoint → what came of it is counted
//! ```

mod locks;
mod status;
mod ttl;
mod values;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use cachekit_plugin::{Backend, BackendError, Cx, Deadline, Fut, Key, Limits, Operation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::body::{Budget, Held, Incoming, claimed, outgoing};
use crate::bounds::Bounds;
use crate::clock::Clock;
use crate::entry;
use crate::key::{ClientKey, KeyRule};
use crate::metrics::{Asked, Metrics, Now};
use crate::refusal::Refusal;
use crate::tenants::{Holder, Tenant, Tenants};

/// Bodies of requests in JSON.
const MAX_JSON: usize = 4096;

/// What all requests share.
pub(crate) struct Api {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) limits: Limits,
    pub(crate) tenants: Tenants,
    pub(crate) bounds: Bounds,
    pub(crate) rule: KeyRule,
    pub(crate) default_ttl: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) fetches: Arc<Semaphore>,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) budget: Budget,
    pub(crate) metrics: Metrics,
}

impl Api {
    /// What a request with this head may take.
    fn cx<'a>(&self, head: &'a Parts) -> Cx<'a> {
        let trace = head.headers.get("traceparent").and_then(|value| value.to_str().ok());
        // A traceparent of version 00 has 55 characters; what is longer is none that a store has to carry.
        Cx { deadline: Deadline::after(self.bounds.deadline), trace: trace.filter(|trace| trace.len() <= 55) }
    }

    pub(crate) fn metrics_text(&self) -> String {
        self.metrics.text(&Now {
            in_flight: self.bounds.max_in_flight.saturating_sub(self.in_flight.available_permits()),
            buffered_bytes: self.budget.used(),
        })
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("tenants", &self.tenants).field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

type Shared = State<Arc<Api>>;

/// All paths.
pub(crate) fn router(api: Arc<Api>) -> Router {
    // `get` answers HEAD as well: the same head, and the library leaves the body out.
    let entry = get(async |State(api): Shared, request: Request| gate(api, Asked::Get, request, values::get).await)
        .put(async |State(api): Shared, request: Request| gate(api, Asked::Put, request, values::put).await)
        .delete(async |State(api): Shared, request: Request| gate(api, Asked::Delete, request, values::delete).await);
    let ttl = get(async |State(api): Shared, request: Request| gate(api, Asked::ReadTtl, request, ttl::read).await)
        .patch(async |State(api): Shared, request: Request| gate(api, Asked::PatchTtl, request, ttl::patch).await);
    let lock = post(async |State(api): Shared, request: Request| gate(api, Asked::Lock, request, locks::lock).await)
        .delete(async |State(api): Shared, request: Request| gate(api, Asked::Unlock, request, locks::unlock).await);
    let health =
        get(async |State(api): Shared, request: Request| gate(api, Asked::Health, request, status::health).await);
    Router::new()
        .route("/v1/cache/health", health)
        .route("/v1/cache/{key}", entry)
        .route("/v1/cache/{key}/ttl", ttl)
        .route("/v1/cache/{key}/lock", lock)
        .route("/metrics", get(status::metrics))
        .route("/healthz", get(status::alive))
        .fallback(async |State(api): Shared| refuse(&api, Refusal::nowhere()))
        .method_not_allowed_fallback(async |State(api): Shared| refuse(&api, Refusal::method()))
        .with_state(api)
}

/// The answer to what is no endpoint.
fn refuse(api: &Api, refusal: Refusal) -> Response {
    api.metrics.record(Asked::Other, refusal.status, Duration::ZERO);
    refusal.into_response()
}

/// What an endpoint has to work with.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) tenant: Arc<Tenant>,
    /// Absent for endpoints without one.
    key: Option<ClientKey>,
    pub(crate) head: Parts,
    body: Body,
    pub(crate) room: Room,
}

/// A request's place among those under way: given back when its answer is written.
pub(crate) type Room = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Lets a request through to its endpoint, or not, and counts what came of it.
async fn gate<F>(api: Arc<Api>, asked: Asked, request: Request, endpoint: impl FnOnce(Call) -> F) -> Response
where
    F: Future<Output = Result<Response, Refusal>>,
{
    let begun = Instant::now();
    let answer = match admit(&api, request) {
        Ok(call) => endpoint(call).await,
        Err(refusal) => Err(refusal),
    };
    let response = answer.unwrap_or_else(Refusal::into_response);
    api.metrics.record(asked, response.status(), begun.elapsed());
    response
}

fn admit(api: &Arc<Api>, request: Request) -> Result<Call, Refusal> {
    let tenant = match api.tenants.who(request.headers()) {
        Some(Holder::Tenant(tenant)) => tenant,
        Some(Holder::Metrics) => return Err(Refusal::forbidden()),
        None => return Err(Refusal::unauthorized()),
    };
    let own = tenant.in_flight.clone().try_acquire_owned().map_err(|_| Refusal::too_many_of_tenant())?;
    let all = api.in_flight.clone().try_acquire_owned().map_err(|_| Refusal::busy())?;
    let key = match segment(request.uri().path()) {
        Some(segment) => Some(ClientKey::from_segment(segment, api.rule)?),
        None => None,
    };
    let (head, body) = request.into_parts();
    Ok(Call { api: api.clone(), tenant, key, head, body, room: (own, all) })
}

/// The segment of a key, as it stands in the path: the router's own parameters are decoded already, and decoding twice
/// would make one key of two.
fn segment(path: &str) -> Option<&str> {
    let segment = path.strip_prefix("/v1/cache/")?.split('/').next()?;
    // The one path that reaches an endpoint without a key.
    (path != "/v1/cache/health").then_some(segment)
}

/// The key of an entry, in all its forms.
pub(crate) struct Named {
    client: Vec<u8>,
    store: Vec<u8>,
    tenant: Arc<Tenant>,
}

impl Named {
    /// For the store.
    pub(crate) fn key(&self) -> Key<'_> {
        Key::from_wire(&self.store)
    }

    pub(crate) fn overhead(&self) -> usize {
        entry::overhead(&self.tenant.prefix, &self.client)
    }

    pub(crate) fn begin(&self, room: usize) -> BytesMut {
        entry::begin(&self.tenant.prefix, &self.client, room)
    }

    pub(crate) fn seal(&self, buffer: BytesMut, times: entry::Times) -> Bytes {
        entry::seal(buffer, &self.tenant.prefix, &self.client, times)
    }

    pub(crate) fn open(&self, stored: Bytes, refused: &AtomicU64) -> Option<entry::Entry> {
        let entry = entry::open(stored, &self.tenant.prefix, &self.client);
        if entry.is_none() {
            refused.fetch_add(1, Relaxed);
            let key = self.key();
            tracing::warn!(target: "cachekit::serve", %key, "the store gave bytes that are no entry of this key");
        }
        entry
    }
}

impl Call {
    /// The key that the path named.
    pub(crate) fn named(&self) -> Result<Named, Refusal> {
        let key = self.key.as_ref().ok_or(Refusal::nowhere())?;
        Ok(Named {
            client: key.as_bytes().to_vec(),
            store: key.for_store(&self.tenant.prefix, &self.api.limits),
            tenant: self.tenant.clone(),
        })
    }

    /// Largest value for this key.
    pub(crate) fn max_value(&self, named: &Named) -> usize {
        let store = usize::try_from(self.api.limits.max_value).unwrap_or(usize::MAX);
        self.api.bounds.max_value.min(store.saturating_sub(named.overhead()))
    }

    /// Takes the body out, of at most `max` bytes, behind what `begin` makes.
    pub(crate) async fn read_body(
        &mut self,
        max: usize,
        begin: impl FnOnce(usize) -> BytesMut,
    ) -> Result<(BytesMut, Held), Refusal> {
        if encoded(&self.head.headers) {
            return Err(Refusal::media("values are stored as they come: no Content-Encoding"));
        }
        let body = std::mem::take(&mut self.body);
        let incoming = Incoming { budget: &self.api.budget, max, within: self.api.bounds.body_timeout };
        incoming.read(body, claimed(&self.head.headers), begin).await
    }

    /// Takes the body out as JSON.
    pub(crate) async fn read_json<T: serde::de::DeserializeOwned>(&mut self, form: &'static str) -> Result<T, Refusal> {
        if !media_is(&self.head.headers, "application/json") {
            return Err(Refusal::media("this takes application/json"));
        }
        let (body, _held) = self.read_body(MAX_JSON, BytesMut::with_capacity).await?;
        serde_json::from_slice(&body).map_err(|_| Refusal::json(form))
    }

    /// What accompanies the questions to the store that this request leads to: one deadline for all of them.
    pub(crate) fn cx(&self) -> Cx<'_> {
        self.api.cx(&self.head)
    }
}

/// A place among those who fetch an entry, kept until the entry is counted or dropped. Without it every request under way
/// could have a value of the largest size in memory before the first of them is counted.
pub(crate) async fn fetching<'a>(api: &'a Api, cx: &Cx<'_>) -> Result<SemaphorePermit<'a>, Refusal> {
    let left = cx.deadline.remaining().unwrap_or(Duration::MAX);
    match tokio::time::timeout(left, api.fetches.acquire()).await {
        Ok(Ok(place)) => Ok(place),
        // The semaphore is never closed.
        _ => Err(Refusal::busy()),
    }
}

/// Waits for the store, no longer than the deadline: a store that does not keep it is left alone.
pub(crate) async fn within<T>(cx: &Cx<'_>, work: Fut<'_, T>) -> Result<T, Refusal> {
    let left = cx.deadline.remaining().unwrap_or(Duration::MAX);
    let answer = match tokio::time::timeout(left, work).await {
        Ok(answer) => answer,
        Err(_) => Err(BackendError::timeout(Operation::Get)),
    };
    answer.map_err(|error| {
        tracing::warn!(target: "cachekit::serve", %error, "the store failed");
        Refusal::of_store(&error)
    })
}

/// Whether the header says so, or says nothing.
pub(crate) fn media_is(headers: &HeaderMap, wanted: &str) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let Ok(text) = value.to_str() else { return false };
    let name = text.split_once(';').map_or(text, |(name, _)| name);
    name.trim().eq_ignore_ascii_case(wanted)
}

fn encoded(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity")
}

/// An answer in JSON. `guards` are given back when it is written.
pub(crate) fn json(document: &serde_json::Value, guards: impl Send + 'static) -> Response {
    let mut response = Response::new(outgoing(document.to_string().into(), guards));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Done, and nothing to say.
pub(crate) fn done() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
