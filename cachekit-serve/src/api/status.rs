//! How the server is: for clients with a key, for Prometheus, and for whoever only wants to know that it lives.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::{Api, Call, json, within};
use crate::metrics::Asked;
use crate::refusal::Refusal;
use crate::tenants::Holder;

/// One round trip through the store.
pub(super) async fn health(call: Call) -> Result<Response, Refusal> {
    let (api, cx) = (&call.api, call.cx());
    let health = within(&cx, api.backend.health(&cx)).await?;
    let document = json!({
        "status": if health.healthy { "ok" } else { "unavailable" },
        "version": env!("CARGO_PKG_VERSION"),
        "backend": health.backend_type,
        "latency_ms": health.latency_ms,
    });
    let mut response = json(&document, call.room);
    if !health.healthy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

/// For load balancers: says that the process answers, asks nobody, tells nothing.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// The numbers, for whoever has the key to them.
pub(super) async fn metrics(State(api): State<Arc<Api>>, request: Request) -> Response {
    let begun = Instant::now();
    let allowed = match api.tenants.who(request.headers()) {
        // Without such a key there is no such page.
        _ if !api.tenants.metrics => Err(Refusal::nowhere()),
        Some(Holder::Metrics) => Ok(()),
        Some(Holder::Tenant(_)) => Err(Refusal::forbidden()),
        None => Err(Refusal::unauthorized()),
    };
    let response = match allowed {
        Ok(()) => {
            let mut response = Response::new(api.metrics_text().into());
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(refusal) => refusal.into_response(),
    };
    api.metrics.record(Asked::Metrics, response.status(), begun.elapsed());
    response
}
