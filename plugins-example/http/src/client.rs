//! One exchange with the server: a request, its answer, and everything that bounds the two.
//!
//! What it protects: the caller's time (every exchange ends by the deadline, waiting for its turn and repetitions included),
//! the secret (no redirect is followed, no proxy of the environment is used, no cookie is kept), and later calls: an exchange
//! that is given up takes its connection or its stream with it, so nobody reads its answer.

use std::future::Future;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use cachekit_plugin::{Bytes, Cx, Deadline, fork};
use reqwest::header::HeaderMap;
use reqwest::{Response, Version};
use tokio::sync::Semaphore;

use crate::body;
use crate::config::HttpConfig;
use crate::error::HttpError;
use crate::plan::{Plan, Step};
use crate::request::Request;
use crate::retry::Retries;
use crate::tls::{Identities, client_config};

/// Header fields of one answer.
const MAX_HEADERS: usize = 64;
/// Bytes of them under HTTP/2; under HTTP/1.1 hyper takes no more than 400 kB.
const MAX_HEADER_BYTES: u32 = 32 << 10;
/// A connection that a firewall forgot shows in silence only: ask it while somebody waits for an answer.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Below what servers and load balancers usually close at (60 s and more), so that they rarely close first.
const IDLE_TIME: Duration = Duration::from_secs(50);

/// What is wanted of an answer that is a yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Value,
    Nothing,
}

/// A yes or a no.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) yes: bool,
    pub(crate) version: Version,
    /// Empty unless a value was wanted.
    pub(crate) body: Bytes,
}

/// The client of one origin.
pub(crate) struct Client {
    pub(crate) plan: Plan,
    /// `None` once closed.
    http: RwLock<Option<reqwest::Client>>,
    credentials: HeaderMap,
    turns: Semaphore,
    exchange_time: Duration,
    retries: Retries,
    trace: bool,
    forks: u32,
}

impl Client {
    /// Sets everything up and sends nothing. The text of the error names the option.
    pub(crate) fn new(config: &HttpConfig, credentials: HeaderMap, client_key: Option<&str>) -> Result<Self, String> {
        let plan = Plan::new(config)?;
        let identities = Identities {
            ca_file: config.ca_file.as_deref(),
            client: config.client_certificate.as_deref().zip(client_key),
        };
        let exchange_time = Duration::from_millis(config.timeout_ms.into());
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(identities, plan.is_encrypted())?)
            .https_only(plan.is_encrypted())
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            // Said although this crate turns none of them on: another crate of the same program might.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .no_proxy()
            .user_agent(concat!("cachekit-http/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_millis(config.connect_timeout_ms.into()))
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(60))
            .http1_max_headers(MAX_HEADERS)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_EVERY)
            .pool_max_idle_per_host(config.max_connections as usize)
            .pool_idle_timeout(IDLE_TIME)
            .build()
            .map_err(|error| format!("the HTTP client cannot be set up: {error}"))?;
        Ok(Self {
            plan,
            http: RwLock::new(Some(http)),
            credentials,
            turns: Semaphore::new(config.max_connections as usize),
            exchange_time,
            retries: Retries::new(config.retries),
            trace: config.trace,
            forks: fork::generation(),
        })
    }

    /// Closes the connections that nobody uses and refuses further requests.
    pub(crate) fn close(&self) {
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes the request of `step`.
    pub(crate) fn request(
        &self,
        step: &Step,
        key: &[u8],
        life: Option<u64>,
        body: Option<Bytes>,
        cx: &Cx<'_>,
    ) -> Result<Request, HttpError> {
        let request = Request::new(step, &self.credentials, key, life, body)?;
        Ok(if self.trace { request.with_trace(cx) } else { request })
    }

    /// Asks, and asks again where the rules say so, until the deadline.
    pub(crate) async fn ask(
        &self,
        step: &Step,
        request: Request,
        want: Want,
        cx: &Cx<'_>,
    ) -> Result<Answer, HttpError> {
        let http = self.usable()?;
        by(cx.deadline, async {
            self.retries.earn();
            let mut next = 1;
            loop {
                let error = match self.exchange(&http, step, request.clone(), want).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                let Some(pause) = self.retries.pause(next, &request.method, &error) else { return Err(error) };
                // What the server said is a better answer than a timeout after a pause that was too long.
                if cx.deadline.remaining().is_some_and(|left| left <= pause) {
                    return Err(error);
                }
                tokio::time::sleep(pause).await;
                next += 1;
            }
        })
        .await
    }

    fn usable(&self) -> Result<reqwest::Client, HttpError> {
        // Two processes on one encrypted connection would tear it apart.
        if fork::generation() != self.forks {
            return Err(HttpError::Forked);
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(HttpError::NoRuntime);
        }
        self.http.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(HttpError::Closed)
    }

    async fn exchange(
        &self,
        http: &reqwest::Client,
        step: &Step,
        request: Request,
        want: Want,
    ) -> Result<Answer, HttpError> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.map_err(|_| HttpError::Closed)?;
        let exchange = async {
            let builder = http.request(request.method, request.url).headers(request.headers);
            let builder = match request.body {
                Some(body) if !body.is_empty() => builder.body(body),
                _ => builder,
            };
            self.judge(step, builder.send().await.map_err(HttpError::exchange)?, want).await
        };
        tokio::time::timeout(self.exchange_time, exchange).await.unwrap_or(Err(HttpError::Late))
    }

    async fn judge(&self, step: &Step, response: Response, want: Want) -> Result<Answer, HttpError> {
        let version = response.version();
        let Some(yes) = step.answers.read(response.status(), response.headers()) else {
            let refusal = self.plan.failures.refusal(response.status(), response.headers());
            body::drain(response).await;
            return Err(HttpError::Status(refusal));
        };
        if yes && want == Want::Value {
            let body = self.plan.form.read(response, self.plan.limits.max_value).await?;
            return Ok(Answer { yes, version, body });
        }
        body::drain(response).await;
        Ok(Answer { yes, version, body: Bytes::new() })
    }
}

/// Runs `work` until `deadline`.
async fn by<T>(deadline: Deadline, work: impl Future<Output = Result<T, HttpError>>) -> Result<T, HttpError> {
    match deadline.remaining() {
        None => work.await,
        Some(Duration::ZERO) => Err(HttpError::Late),
        Some(left) => tokio::time::timeout(left, work).await.unwrap_or(Err(HttpError::Late)),
    }
}
