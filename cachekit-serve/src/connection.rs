//! One connection from the handshake to its end, and how long a client may take for what.
//!
//! The protocol library times nothing that works for HTTP/1.1 and HTTP/2 alike, so the clock here looks at the one thing
//! both have: whether a request is under way. Before the first one the client has `header_timeout`, between two of them
//! `idle_timeout`; a client that sends a header byte by byte is idle.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::api::Api;
use crate::server::stop_of;
use crate::stall::Unstalled;

/// Requests of one HTTP/2 connection at a time. RFC 9113 (6.5.2) recommends no fewer: so many a client may open before it
/// has read this number, and what is beyond is refused to it.
const MAX_STREAMS: u32 = 100;
/// What one stream, and one connection, may send before it is read: memory that no budget counts.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// The head of a request. A key has at most 1200 characters, the headers of the family some hundred bytes.
const MAX_HEAD: usize = 16 << 10;
/// Lines of a head.
const MAX_HEADERS: usize = 64;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) api: Arc<Api>,
    pub(crate) router: Router,
    pub(crate) tls: Option<TlsAcceptor>,
    /// Becomes true when the server is to stop.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// How many requests are under way, and whether there ever was one.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    active: usize,
    ever: bool,
}

/// Counts a request while it is under way.
struct Active(watch::Sender<Use>);

impl Active {
    fn begin(sender: &watch::Sender<Use>) -> Self {
        sender.send_modify(|now| *now = Use { active: now.active + 1, ever: true });
        Self(sender.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.send_modify(|now| now.active -= 1);
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let bounds = &shared.api.bounds;
    // Answers are small and wanted at once. If the system refuses, they are merely later.
    let _ = socket.set_nodelay(true);
    let socket = Unstalled::new(socket, bounds.write_timeout);
    let Some(tls) = &shared.tls else { return exchange(socket, &shared, bounds.header_timeout).await };
    let begun = tokio::time::Instant::now();
    match tokio::time::timeout(bounds.header_timeout, tls.accept(socket)).await {
        Ok(Ok(stream)) => exchange(stream, &shared, bounds.header_timeout.saturating_sub(begun.elapsed())).await,
        Ok(Err(_)) => drop(shared.api.metrics.tls_failures.fetch_add(1, Relaxed)),
        Err(_) => drop(shared.api.metrics.connections_timed_out.fetch_add(1, Relaxed)),
    }
}

async fn exchange<S>(stream: S, shared: &Shared, first: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (used, mut uses) = watch::channel(Use::default());
    let router = shared.router.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let active = Active::begin(&used);
        let mut router = router.clone();
        async move {
            let answer = tower_service::Service::call(&mut router, request.map(Body::new)).await;
            drop(active);
            answer
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    // Its own timer for headers also ends connections that are merely idle.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(STREAM_WINDOW as usize);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stopping = shared.stopping.clone();
    let mut stops = false;
    loop {
        tokio::select! {
            // Whatever ended it: nobody is left to be told.
            _ = connection.as_mut() => return,
            () = unused(&mut uses, first, shared.api.bounds.idle_timeout) => {
                shared.api.metrics.connections_timed_out.fetch_add(1, Relaxed);
                return;
            }
            () = stop_of(&mut stopping), if !stops => {
                stops = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Ends when the connection was without a request for too long.
async fn unused(uses: &mut watch::Receiver<Use>, first: Duration, idle: Duration) {
    loop {
        let now = *uses.borrow_and_update();
        if now.active > 0 {
            if uses.changed().await.is_err() {
                // The service is gone, and with it the connection.
                return std::future::pending().await;
            }
            continue;
        }
        let limit = if now.ever { idle } else { first };
        match tokio::time::timeout(limit, uses.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}
