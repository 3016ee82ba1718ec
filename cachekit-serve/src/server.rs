//! From the choices of an operator to a listening server, and its orderly end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cachekit_plugin::Backend;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::api::{self, Api};
use crate::body::Budget;
use crate::bounds::Bounds;
use crate::clock::{Clock, SystemClock};
use crate::connection::{self, Shared};
use crate::error::ServeError;
use crate::key::KeyRule;
use crate::life::MAX_SECONDS;
use crate::metrics::Metrics;
use crate::tenants::Tenants;
use crate::tls;

/// What a server will be.
pub struct Builder {
    backend: Arc<dyn Backend>,
    addr: SocketAddr,
    keys: Vec<(String, String)>,
    metrics_key: Option<String>,
    transport: Option<Transport>,
    bounds: Bounds,
    rule: KeyRule,
    default_ttl: u64,
    clock: Arc<dyn Clock>,
}

enum Transport {
    Plain,
    Tls { certificates: Vec<u8>, key: Vec<u8> },
}

impl Builder {
    /// Lets whoever has `key` act for `tenant`. A tenant may have several keys, so that they can be exchanged.
    #[must_use]
    pub fn api_key(mut self, tenant: impl Into<String>, key: impl Into<String>) -> Self {
        self.keys.push((tenant.into(), key.into()));
        self
    }

    /// Lets whoever has `key` read `/metrics`, which nobody can without.
    #[must_use]
    pub fn metrics_key(mut self, key: impl Into<String>) -> Self {
        self.metrics_key = Some(key.into());
        self
    }

    /// Speaks TLS with this chain and key, both PEM.
    #[must_use]
    pub fn tls(mut self, certificates: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.transport = Some(Transport::Tls { certificates: certificates.into(), key: key.into() });
        self
    }

    /// Speaks without TLS: for a proxy on the same machine that does, and for tests.
    #[must_use]
    pub fn plain_http(mut self) -> Self {
        self.transport = Some(Transport::Plain);
        self
    }

    /// Where to listen. Port 0 lets the system choose; [`Server::addr`] tells.
    #[must_use]
    pub fn bind(mut self, addr: SocketAddr) -> Self {
        self.addr = addr;
        self
    }

    /// Other bounds than the default ones.
    #[must_use]
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Which keys are taken.
    #[must_use]
    pub fn key_rule(mut self, rule: KeyRule) -> Self {
        self.rule = rule;
        self
    }

    /// Life of entries whose writer names none, seconds (0, the default: no end; at most 30 days).
    #[must_use]
    pub fn default_ttl(mut self, seconds: u64) -> Self {
        self.default_ttl = seconds;
        self
    }

    /// Another clock for the lives of entries.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Begins to listen. The server runs on the tokio runtime of the caller.
    ///
    /// # Errors
    /// [`ServeError`] if a choice cannot work or the address is not to be had.
    pub async fn start(self) -> Result<Server, ServeError> {
        self.bounds.check().map_err(ServeError::Bound)?;
        if self.default_ttl > MAX_SECONDS {
            return Err(ServeError::Bound("default_ttl"));
        }
        let limits = self.backend.limits();
        let tenants = Tenants::new(self.keys, self.metrics_key, self.bounds.tenant_in_flight, &limits)?;
        let tls = match self.transport.ok_or(ServeError::NoTransport)? {
            Transport::Plain => None,
            Transport::Tls { certificates, key } => Some(tls::acceptor(&certificates, &key)?),
        };
        let at = self.addr;
        let bind = |source| ServeError::Bind { addr: at, source };
        let listener = TcpListener::bind(at).await.map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        let api = Arc::new(Api {
            backend: self.backend,
            limits,
            tenants,
            bounds: self.bounds,
            rule: self.rule,
            default_ttl: self.default_ttl,
            clock: self.clock,
            in_flight: Arc::new(Semaphore::new(self.bounds.max_in_flight)),
            fetches: Arc::new(Semaphore::new(self.bounds.max_fetches)),
            connections: Arc::new(Semaphore::new(self.bounds.max_connections)),
            budget: Budget::new(self.bounds.max_buffered),
            metrics: Metrics::default(),
        });
        let (stop, stopping) = watch::channel(false);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared { router: api::router(api.clone()), api: api.clone(), tls, stopping });
        let accepting = tokio::spawn(accept(listener, shared));
        Ok(Server { addr, scheme, stop, accepting, grace: self.bounds.grace, api })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("addr", &self.addr).field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// Ends when the server is to stop, also because it was dropped.
pub(crate) async fn stop_of(stopping: &mut watch::Receiver<bool>) {
    // The answer is a guard that must not be held while anything waits.
    drop(stopping.wait_for(|stop| *stop).await);
}

/// Accepts until told to stop, then waits for the connections that are left. Dropping it ends them all.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut stopping = shared.stopping.clone();
    loop {
        // What has ended is taken out, so that the set holds what is alive and no more.
        while connections.try_join_next().is_some() {}
        let accepted = async {
            // First the room, then the client: whom there is no room for waits outside, in the backlog.
            let permit = shared.api.connections.clone().acquire_owned().await;
            listener.accept().await.map(|(socket, _)| (socket, permit))
        };
        tokio::select! {
            accepted = accepted => match accepted {
                Ok((socket, permit)) => {
                    shared.api.metrics.connections.fetch_add(1, Relaxed);
                    let open = Open::begin(shared.api.clone());
                    let shared = shared.clone();
                    connections.spawn(async move {
                        let _held = (open, permit);
                        connection::serve(socket, shared).await;
                    });
                }
                // Out of descriptors, or a client that went away in the queue. Neither ends the server.
                Err(error) => {
                    tracing::warn!(target: "cachekit::serve", %error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = stop_of(&mut stopping) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Counts a connection while it is open. The permits would count one too many: the one of whoever is accepted next.
struct Open(Arc<Api>);

impl Open {
    fn begin(api: Arc<Api>) -> Self {
        api.metrics.open.fetch_add(1, Relaxed);
        Self(api)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics.open.fetch_sub(1, Relaxed);
    }
}

/// A server that listens. Dropping it ends it at once; [`shutdown`](Self::shutdown) ends it in order.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    scheme: &'static str,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    grace: Duration,
    api: Arc<Api>,
}

impl Server {
    /// A server over `backend`. It needs at least one API key, and a word about TLS.
    pub fn builder(backend: Arc<dyn Backend>) -> Builder {
        Builder {
            backend,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            keys: Vec::new(),
            metrics_key: None,
            transport: None,
            bounds: Bounds::default(),
            rule: KeyRule::default(),
            default_ttl: 0,
            clock: Arc::new(SystemClock),
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Scheme, address and port. With TLS the name that the certificate is for may be another.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// The numbers of `/metrics`, in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        self.api.metrics_text()
    }

    /// Stops accepting, lets requests in flight finish within the grace of the bounds, and ends what is left. `true` if
    /// nothing was left. The store is not closed: it belongs to the caller.
    pub async fn shutdown(mut self) -> bool {
        self.stop.send_replace(true);
        tokio::time::timeout(self.grace, &mut self.accepting).await.is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
