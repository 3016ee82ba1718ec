//! The trait of the contract, in requests.

use std::future::Future;
use std::time::Instant;

use cachekit_plugin::{
    Backend, BackendError, Bytes, Cx, Fut, Health, HostServices, Key, Limits, LogLevel, Open, Operation, Ttl, ready,
};

use crate::auth::{credentials, has_secret};
use crate::client::{Client, Want};
use crate::config::HttpConfig;
use crate::error::{HttpError, STORE, refused};
use crate::request::key_of;

/// Read to see whether the server answers, where no other URL is known to be cheap.
const HEALTH_KEY: &[u8] = b"cachekit-health";

/// A key-value store behind HTTP, as a second tier.
pub struct HttpBackend {
    client: Client,
    delete_asks_first: bool,
}

impl Open for HttpBackend {
    type Config = HttpConfig;

    const TOKIO: bool = true;

    fn open(config: HttpConfig, host: HostServices) -> Result<Self, BackendError> {
        let credentials = credentials(&config, &host)?;
        let client_key = config.client_key.as_ref().map(|key| key.resolve(&host)).transpose()?;
        let client = Client::new(&config, credentials, client_key.as_deref()).map_err(refused)?;
        if has_secret(&config) && !client.plan.is_encrypted() {
            let message = "without encryption: the secret and all values can be read on the way";
            host.log(LogLevel::Warn, STORE, message, &[("origin", client.plan.origin())]);
        }
        Ok(Self { client, delete_asks_first: config.delete_asks_first })
    }

    /// By hand, because options are nested and an error should say where.
    fn open_json(json: &[u8], host: HostServices) -> Result<Self, BackendError> {
        let json = if json.is_empty() { b"{}" } else { json };
        let config = HttpConfig::from_json(json).map_err(refused)?;
        Self::open(config, host)
    }
}

impl HttpBackend {
    /// Runs `work` and gives its failure the form of the contract.
    fn answer<'a, T: Send + 'a>(
        operation: Operation,
        work: impl Future<Output = Result<T, HttpError>> + Send + 'a,
    ) -> Fut<'a, T> {
        Box::pin(async move { work.await.map_err(|error| error.during(operation)) })
    }

    async fn is_there(&self, key: &[u8], cx: &Cx<'_>) -> Result<bool, HttpError> {
        let step = &self.client.plan.exists;
        let request = self.client.request(step, key, None, None, cx)?;
        Ok(self.client.ask(step, request, Want::Nothing, cx).await?.yes)
    }
}

impl Backend for HttpBackend {
    fn limits(&self) -> Limits {
        self.client.plan.limits
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Self::answer(Operation::Get, async move {
            let step = &self.client.plan.get;
            let request = self.client.request(step, key_of(key, &self.limits())?, None, None, cx)?;
            let answer = self.client.ask(step, request, Want::Value, cx).await?;
            Ok(answer.yes.then_some(answer.body))
        })
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Self::answer(Operation::Set, async move {
            let (plan, max) = (&self.client.plan, self.limits().max_value);
            if value.len() as u64 > max {
                return Err(HttpError::ValueTooLarge { len: value.len(), max });
            }
            let life = plan.lives.number(ttl)?;
            let body = plan.form.write(value, life);
            let request = self.client.request(&plan.set, key_of(key, &self.limits())?, life, Some(body), cx)?;
            self.client.ask(&plan.set, request, Want::Nothing, cx).await.map(drop)
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Delete, async move {
            let (step, key) = (&self.client.plan.delete, key_of(key, &self.limits())?);
            // Not one step: between the two somebody else may write or delete. The entry is gone either way.
            let was_there = !self.delete_asks_first || self.is_there(key, cx).await?;
            let request = self.client.request(step, key, None, None, cx)?;
            Ok(self.client.ask(step, request, Want::Nothing, cx).await?.yes && was_there)
        })
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Exists, async move { self.is_there(key_of(key, &self.limits())?, cx).await })
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        Self::answer(Operation::Health, async move {
            let plan = &self.client.plan;
            let (step, key) = plan.health.as_ref().map_or((&plan.get, HEALTH_KEY), |step| (step, b"".as_slice()));
            let begun = Instant::now();
            let request = self.client.request(step, key, None, None, cx)?;
            let answer = self.client.ask(step, request, Want::Nothing, cx).await?;
            Ok(Health::up(STORE, begun.elapsed())
                .with_detail("origin", plan.origin())
                .with_detail("protocol", format!("{:?}", answer.version)))
        })
    }

    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        self.client.close();
        ready(Ok(()))
    }
}
