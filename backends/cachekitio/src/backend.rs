//! The traits of the contract in the words of the protocol.

use std::future::Future;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cachekit_plugin::{
    Backend, BackendError, Cx, Dated, Expiry, Freshness, Fut, Health, HostServices, Key, KeyBytes, Limits, Locks,
    LogLevel, Open, Operation, Ttl,
};
use http::{HeaderValue, Method};
use serde_json::Value as Json;

use crate::body::Want;
use crate::client::{Answer, Ask, Client, found};
use crate::config::CachekitIoConfig;
use crate::error::{BACKEND, ServiceError};
use crate::freshness;
use crate::guarded_dns::{Lookup, system_lookup};
use crate::headers::{DELETED, MAX_TTL_SECS, STALE_TTL, TTL};
use crate::locks::Leases;
use crate::path::{MAX_KEY_BYTES, segment};
use crate::retry::{Again, Pause};

/// Longest text that is shown of what the service says of itself.
const MAX_VERSION_CHARS: usize = 64;

/// The service, or whatever speaks its protocol, as a second tier.
pub struct CachekitIoBackend {
    pub(crate) client: Arc<Client>,
    pub(crate) leases: Leases,
    max_value: u64,
    deadline_hint_ms: u32,
}

impl CachekitIoBackend {
    /// With a resolver and a sleep of the caller's.
    pub(crate) fn open_with(
        config: &CachekitIoConfig,
        host: HostServices,
        lookup: Lookup,
        pause: Pause,
    ) -> Result<Self, BackendError> {
        let refused = |reason| ServiceError::Refused(reason).during(Operation::Open);
        config.check().map_err(refused)?;
        let Some(reference) = &config.api_key else { return Err(refused("api_key: is needed".into())) };
        let api_key = reference.resolve(&host).map_err(|error| error.on(BACKEND))?;
        let client = Client::new(config, &api_key, host.clone(), lookup, pause).map_err(refused)?;
        if config.plain_http {
            let message = "without encryption: the API key and all values can be read on the way";
            host.log(LogLevel::Warn, BACKEND, message, &[("service", client.place())]);
        }
        let hint_ms = config.exchange_time().as_millis();
        Ok(Self {
            client: Arc::new(client),
            leases: Leases::default(),
            max_value: config.max_value,
            deadline_hint_ms: u32::try_from(hint_ms).unwrap_or(u32::MAX),
        })
    }

    /// Runs `work` and gives its failure the form of the contract.
    fn answer<'a, T: Send + 'a>(
        operation: Operation,
        work: impl Future<Output = Result<T, ServiceError>> + Send + 'a,
    ) -> Fut<'a, T> {
        Box::pin(async move { work.await.map_err(|error| error.during(operation)) })
    }

    /// The value and the headers it came with, whatever its age.
    async fn read(&self, key: Key<'_>, cx: &Cx<'_>) -> Result<Option<Answer>, ServiceError> {
        let ask = Ask::new(Method::GET, segment(key.as_bytes())?).want(Want::Value { max: self.max_value });
        found(self.client.ask(ask, cx).await)
    }

    async fn write(
        &self,
        key: Key<'_>,
        value: Bytes,
        ttl: Ttl,
        stale_ms: u64,
        cx: &Cx<'_>,
    ) -> Result<(), ServiceError> {
        if value.len() as u64 > self.max_value {
            return Err(ServiceError::ValueTooLarge { len: value.len(), max: self.max_value });
        }
        let mut ask = Ask::new(Method::PUT, segment(key.as_bytes())?).again(Again::Write);
        ask.body = value;
        // Without the header the service takes its own default: an entry without an end is not in its protocol.
        if let Some(life) = ttl.as_secs_ceil().map(|life| life.min(MAX_TTL_SECS)) {
            ask.headers.insert(TTL, HeaderValue::from(life));
            let stale = stale_ms.div_ceil(1000).min(MAX_TTL_SECS - life);
            if stale > 0 {
                ask.headers.insert(STALE_TTL, HeaderValue::from(stale));
            }
        }
        self.client.ask(ask, cx).await.map(drop)
    }
}

impl Open for CachekitIoBackend {
    type Config = CachekitIoConfig;

    const TOKIO: bool = true;

    fn open(config: CachekitIoConfig, host: HostServices) -> Result<Self, BackendError> {
        Self::open_with(&config, host, system_lookup(), Arc::new(|pause| Box::pin(tokio::time::sleep(pause))))
    }
}

impl Backend for CachekitIoBackend {
    fn limits(&self) -> Limits {
        Limits::new(MAX_KEY_BYTES, self.max_value)
            .with_key_bytes(KeyBytes::Printable)
            .with_ttl_step_ms(1000)
            .with_ttl_max_ms(MAX_TTL_SECS * 1000)
            .with_deadline_hint_ms(self.deadline_hint_ms)
    }

    /// A stale value is a miss here: only [`Freshness::get_dated`] has the means to say that it is one.
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Self::answer(Operation::Get, async move {
            let answer = self.read(key, cx).await?.filter(|answer| !freshness::is_stale(&answer.headers));
            Ok(answer.map(|answer| answer.body))
        })
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Self::answer(Operation::Set, self.write(key, value, ttl, 0, cx))
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Delete, async move {
            let ask = Ask::new(Method::DELETE, segment(key.as_bytes())?).again(Again::Write);
            let answer = found(self.client.ask(ask, cx).await)?;
            Ok(answer.is_some_and(|answer| answer.headers.get(DELETED).is_none_or(|deleted| deleted != "false")))
        })
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Exists, async move {
            let ask = Ask::new(Method::HEAD, segment(key.as_bytes())?);
            let answer = found(self.client.ask(ask, cx).await)?;
            Ok(answer.is_some_and(|answer| !freshness::is_stale(&answer.headers)))
        })
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        Self::answer(Operation::Health, async move {
            let begun = Instant::now();
            let answer = self.client.ask(Ask::new(Method::GET, "health".into()).want(Want::Json), cx).await?;
            let health = Health::up(BACKEND, begun.elapsed())
                .with_detail("service", self.client.place())
                .with_detail("protocol", format!("{:?}", answer.version));
            // Anything that answers 200 is up; what it says of itself is shown if it can be read.
            let document: Option<Json> = serde_json::from_slice(&answer.body).ok();
            let version = document.as_ref().and_then(|document| document.get("version")?.as_str());
            Ok(match version {
                Some(version) => {
                    let shown = version.chars().filter(|c| !c.is_control()).take(MAX_VERSION_CHARS);
                    health.with_detail("version", shown.collect::<String>())
                }
                None => health,
            })
        })
    }

    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        self.client.close();
        self.leases.clear();
        cachekit_plugin::ready(Ok(()))
    }

    fn ttl(&self) -> Option<&dyn Expiry> {
        Some(self)
    }

    fn locks(&self) -> Option<&dyn Locks> {
        Some(self)
    }

    fn freshness(&self) -> Option<&dyn Freshness> {
        Some(self)
    }
}

impl Expiry for CachekitIoBackend {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        Self::answer(Operation::Ttl, async move {
            let ask = Ask::new(Method::GET, format!("{}/ttl", segment(key.as_bytes())?)).want(Want::Json);
            let Some(answer) = found(self.client.ask(ask, cx).await)? else { return Ok(None) };
            let wrong = ServiceError::Corrupt("the service answered with something that is no time to live");
            match serde_json::from_slice::<Json>(&answer.body).ok().as_ref().and_then(|document| document.get("ttl")) {
                Some(Json::Null) => Ok(Some(Ttl::Never)),
                Some(left) => match left.as_u64() {
                    // Less than a second is left, rounded down on the way.
                    Some(0) => Ok(Ttl::from_ms(1)),
                    Some(seconds) => Ok(Ttl::from_ms(seconds.saturating_mul(1000))),
                    None => Err(wrong),
                },
                None => Err(wrong),
            }
        })
    }

    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Touch, async move {
            // The protocol has no word for "no end", so that becomes the longest life it has.
            let life = ttl.as_secs_ceil().unwrap_or(MAX_TTL_SECS).min(MAX_TTL_SECS);
            let place = format!("{}/ttl", segment(key.as_bytes())?);
            let ask = Ask::new(Method::PATCH, place).json(format!("{{\"ttl\": {life}}}"));
            Ok(found(self.client.ask(ask, cx).await)?.is_some())
        })
    }
}

impl Locks for CachekitIoBackend {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Lock, self.lease(key, token, hold_ms, cx))
    }

    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Unlock, self.release(key, token, cx))
    }
}

impl Freshness for CachekitIoBackend {
    fn get_dated<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Dated>> {
        Self::answer(Operation::Get, async move {
            Ok(self.read(key, cx).await?.map(|Answer { headers, body, .. }| Dated {
                stale: freshness::is_stale(&headers),
                fresh_for_ms: freshness::fresh_for_ms(&headers),
                value: body,
            }))
        })
    }

    fn set_stale<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        stale_ms: NonZeroU64,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, ()> {
        Self::answer(Operation::Set, self.write(key, value, ttl, stale_ms.get(), cx))
    }
}
