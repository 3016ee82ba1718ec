//! One exchange with the service: a request, its answer, and everything that bounds the two.
//!
//! What it protects: the caller's time (every exchange ends by the deadline, waiting for its turn and repetitions
//! included), the API key (no redirect is followed, no proxy but the named one is used, no cookie is kept), and later
//! calls: an exchange that is given up takes its connection or its stream with it, so nobody reads its answer.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{Cx, Deadline, HostServices};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::body::{self, Want};
use crate::config::CachekitIoConfig;
use crate::endpoint::Endpoint;
use crate::error::ServiceError;
use crate::guarded_dns::{GuardedDns, Lookup};
use crate::headers::{self, Content};
use crate::retry::{self, Again, Pause, Policy};
use crate::session::Session;
use crate::tls;

/// Header fields of one answer. The service sends about a dozen.
const MAX_HEADERS: usize = 64;
/// Bytes of them under HTTP/2; under HTTP/1.1 hyper takes no more than 400 kB.
const MAX_HEADER_BYTES: u32 = 32 << 10;
/// A connection that a firewall forgot shows in silence only: ask it while somebody waits for an answer. Silent for twice
/// this time it is given up; with 2 s a client was back 2.7 s after a black hole ended.
const PING_EVERY: Duration = Duration::from_secs(1);
/// As the family's Rust client keeps connections.
const IDLE_TIME: Duration = Duration::from_secs(390);
/// Exchanges that go on without their callers, at the same time and beside those of the pool. Each ends within `timeout`.
const MAX_STRAYS: usize = 32;

/// What is asked of the service.
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// What stands behind `/v1/cache/`.
    pub(crate) place: String,
    pub(crate) content: Content,
    /// Beside those of every request.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) want: Want,
    pub(crate) again: Again,
}

impl Ask {
    /// Without a body, wanting nothing but the status.
    pub(crate) fn new(method: Method, place: String) -> Self {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method, place, content: Content::Octets, headers, body, want: Want::Nothing, again: Again::Harmless }
    }

    /// With a JSON document, wanting one.
    pub(crate) fn json(mut self, document: String) -> Self {
        self.content = Content::Json;
        self.body = document.into();
        self
    }

    pub(crate) fn want(mut self, want: Want) -> Self {
        self.want = want;
        self
    }

    pub(crate) fn again(mut self, again: Again) -> Self {
        self.again = again;
        self
    }
}

/// What the service answered.
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) version: Version,
    pub(crate) body: Bytes,
}

/// What is sent, as often as it takes.
struct Request {
    http: reqwest::Client,
    url: reqwest::Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    fn once(&self) -> reqwest::RequestBuilder {
        let request = self.http.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        if self.body.is_empty() { request } else { request.body(self.body.clone()) }
    }
}

/// An exchange whose turn has come and of which nothing was sent yet. It needs its caller no more.
pub(crate) struct Begun {
    request: reqwest::RequestBuilder,
    want: Want,
    time: Duration,
    turn: OwnedSemaphorePermit,
}

impl Begun {
    /// The exchange, and its place among those of the pool.
    pub(crate) fn apart(self) -> (impl Future<Output = Result<Answer, ServiceError>> + Send, OwnedSemaphorePermit) {
        (exchange(self.request, self.want, self.time), self.turn)
    }
}

/// The client of one service.
pub(crate) struct Client {
    /// `None` once closed.
    http: RwLock<Option<reqwest::Client>>,
    endpoint: Endpoint,
    authorization: HeaderValue,
    session: Session,
    host: HostServices,
    turns: Arc<Semaphore>,
    strays: Semaphore,
    exchange_time: Duration,
    policy: Policy,
    pause: Pause,
    process: u32,
}

impl Client {
    /// Sets everything up and sends nothing. The text of the error names the option.
    pub(crate) fn new(
        config: &CachekitIoConfig,
        api_key: &str,
        host: HostServices,
        lookup: Lookup,
        pause: Pause,
    ) -> Result<Self, String> {
        config.check()?;
        let proxy_host = config.proxy_host()?;
        let time = config.exchange_time();
        let dns = GuardedDns::new(config.permissions().addresses(), proxy_host.as_deref(), lookup);
        let tls = tls::client_config(config.ca_file.as_deref(), !config.plain_http)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(!config.plain_http)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            // Said although this crate turns none of them on: another crate of the same program might.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .no_proxy()
            .dns_resolver(Arc::new(dns))
            .connect_timeout(time)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(60))
            .tcp_keepalive_interval(Duration::from_secs(10))
            .tcp_keepalive_retries(3)
            // Ends a connection whose packets nobody confirms.
            .tcp_user_timeout(time.max(Duration::from_secs(2)))
            .http1_max_headers(MAX_HEADERS)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_EVERY)
            .pool_max_idle_per_host(config.connection_pool_size as usize)
            .pool_idle_timeout(IDLE_TIME);
        if let Some(proxy) = &config.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|_| "proxy: cannot be used")?);
        }
        let http = builder.build().map_err(|error| format!("the HTTP client cannot be set up: {error}"))?;
        Ok(Self {
            http: RwLock::new(Some(http)),
            endpoint: config.endpoint()?,
            authorization: headers::authorization(api_key)?,
            session: Session::begin()?,
            host,
            turns: Arc::new(Semaphore::new(config.connection_pool_size as usize)),
            strays: Semaphore::new(MAX_STRAYS),
            exchange_time: time,
            policy: config.policy(),
            pause,
            process: std::process::id(),
        })
    }

    /// Where requests go, for people.
    pub(crate) fn place(&self) -> &str {
        self.endpoint.as_str()
    }

    /// Closes the connections that nobody uses and refuses further requests.
    pub(crate) fn close(&self) {
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks, and asks again where the rules say so, until the deadline. Any status but success is an error.
    pub(crate) async fn ask(&self, ask: Ask, cx: &Cx<'_>) -> Result<Answer, ServiceError> {
        let (want, again) = (ask.want, ask.again);
        let request = self.request(ask, cx)?;
        by(cx.deadline, async {
            for next in 1.. {
                let error = match self.in_turn(request.once(), want).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                let Some(pause) = self.policy.pause(next, again, &error) else { return Err(error) };
                // What the service said is a better answer than a timeout after a pause that was too long.
                if cx.deadline.remaining().is_some_and(|left| left <= pause) {
                    return Err(error);
                }
                (self.pause)(pause).await;
            }
            Err(ServiceError::Late)
        })
        .await
    }

    /// Waits for the turn of one exchange, until the deadline, and leaves the rest to a task of the caller's.
    pub(crate) async fn begin(&self, ask: Ask, cx: &Cx<'_>) -> Result<Begun, ServiceError> {
        let want = ask.want;
        let request = self.request(ask, cx)?.once();
        let turn = async { Arc::clone(&self.turns).acquire_owned().await.map_err(|_| ServiceError::Closed) };
        Ok(Begun { request, want, time: self.exchange_time, turn: by(cx.deadline, turn).await? })
    }

    /// A place for an exchange whose caller has gone, if there is one.
    pub(crate) fn stray(&self) -> Option<SemaphorePermit<'_>> {
        self.strays.try_acquire().ok()
    }

    /// As long as one exchange may take, for work without a caller.
    pub(crate) fn one_exchange(&self) -> Cx<'static> {
        Cx::within(self.exchange_time)
    }

    fn request(&self, ask: Ask, cx: &Cx<'_>) -> Result<Request, ServiceError> {
        let http = self.usable()?;
        let url = self.endpoint.url(&ask.place).ok_or_else(|| {
            // `path` lets nothing through that gets here.
            ServiceError::Corrupt("the key leads to another place than its own")
        })?;
        let mut headers = headers::of_every_request(&self.authorization, ask.content, cx.trace);
        headers.extend(ask.headers);
        if ask.method == Method::PUT && ask.body.is_empty() {
            // The client library says nothing of an empty body, and servers may insist on its length.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        self.session.tell(self.host.activity(), &mut headers);
        Ok(Request { http, url, method: ask.method, headers, body: ask.body })
    }

    fn usable(&self) -> Result<reqwest::Client, ServiceError> {
        // Two processes on one encrypted connection would tear it apart.
        if std::process::id() != self.process {
            return Err(ServiceError::Forked);
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ServiceError::NoRuntime);
        }
        self.http.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(ServiceError::Closed)
    }

    async fn in_turn(&self, request: reqwest::RequestBuilder, want: Want) -> Result<Answer, ServiceError> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.map_err(|_| ServiceError::Closed)?;
        exchange(request, want, self.exchange_time).await
    }
}

async fn exchange(request: reqwest::RequestBuilder, want: Want, time: Duration) -> Result<Answer, ServiceError> {
    let exchange = async {
        let response = request.send().await.map_err(ServiceError::exchange)?;
        let (status, version) = (response.status(), response.version());
        let headers = response.headers().clone();
        if !status.is_success() {
            body::drain(response).await;
            return Err(ServiceError::Status(retry::refusal(status, &headers)));
        }
        Ok(Answer { headers, version, body: body::read(response, want).await? })
    };
    tokio::time::timeout(time, exchange).await.unwrap_or(Err(ServiceError::Late))
}

/// Runs `work` until `deadline`.
pub(crate) async fn by<T>(
    deadline: Deadline,
    work: impl Future<Output = Result<T, ServiceError>>,
) -> Result<T, ServiceError> {
    match deadline.remaining() {
        None => work.await,
        Some(Duration::ZERO) => Err(ServiceError::Late),
        Some(left) => tokio::time::timeout(left, work).await.unwrap_or(Err(ServiceError::Late)),
    }
}

/// `None` where the service says that there is nothing.
pub(crate) fn found<T>(answer: Result<T, ServiceError>) -> Result<Option<T>, ServiceError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ServiceError::Status(refusal)) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}
