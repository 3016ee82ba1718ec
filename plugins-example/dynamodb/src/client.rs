//! The SDK's client, opened when it is first needed, and what bounds every exchange through it.
//!
//! What it protects: the caller's time (credentials, the table's creation, turns and repetitions all end by the deadline) and
//! the service (no more exchanges at a time than configured).

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_dynamodb::Client as Sdk;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{Credentials, Region, SharedHttpClient};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use cachekit_plugin::{Deadline, HostServices};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use crate::body_limit::{BodyLimit, MAX_BODY};
use crate::config::DynamoDbConfig;
use crate::error::Trouble;
use crate::item::Layout;
use crate::table;

/// Emulators take any region; one has to stand in the signature.
const EMULATED_REGION: &str = "us-east-1";
/// The SDK's first pause before it repeats, at most: half of it on average, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The client of one table.
pub(crate) struct Client {
    pub(crate) layout: Layout,
    config: DynamoDbConfig,
    credentials: Option<Credentials>,
    host: HostServices,
    http: SharedHttpClient,
    /// `None` once closed.
    state: RwLock<Option<Arc<State>>>,
    turns: Semaphore,
    process: u32,
}

#[derive(Default)]
struct State {
    /// Region and credentials may take the SDK some exchanges to find.
    sdk: OnceCell<Sdk>,
    /// The table is there, or is not ours to create.
    table: OnceCell<()>,
}

impl Client {
    /// Sets everything up and sends nothing. The text of the error names the option.
    pub(crate) fn new(config: DynamoDbConfig, host: HostServices) -> Result<Self, Trouble> {
        config.check().map_err(Trouble::Refused)?;
        Ok(Self {
            layout: Layout::new(&config).map_err(Trouble::Refused)?,
            credentials: credentials(&config, &host)?,
            http: http_client(&config).map_err(Trouble::Refused)?,
            host,
            state: RwLock::new(Some(Arc::default())),
            turns: Semaphore::new(config.max_concurrency as usize),
            process: std::process::id(),
            config,
        })
    }

    /// Gives up the connections that nobody uses and refuses further exchanges.
    pub(crate) fn close(&self) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A turn at the service: its client, and the permit to keep for one exchange.
    pub(crate) async fn turn(&self) -> Result<(Sdk, SemaphorePermit<'_>), Trouble> {
        // Two processes on one encrypted connection would tear it apart.
        if std::process::id() != self.process {
            return Err(Trouble::Forked);
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Trouble::Closed)?;
        // Whoever comes first does it. If that one is cancelled, the next one begins anew.
        let sdk = state.sdk.get_or_try_init(|| self.connect()).await?;
        state.table.get_or_try_init(|| table::ensure(sdk, &self.layout, self.config.create_table, &self.host)).await?;
        // The semaphore is never closed.
        let turn = self.turns.acquire().await.map_err(|_| Trouble::Closed)?;
        Ok((sdk.clone(), turn))
    }

    /// Whether reads see what was written last.
    pub(crate) fn consistent(&self) -> bool {
        self.config.consistent_reads
    }

    /// Where exchanges go, for people.
    pub(crate) fn place(&self) -> &str {
        self.config.endpoint_url.as_deref().unwrap_or("AWS")
    }

    async fn connect(&self) -> Result<Sdk, Trouble> {
        let config = &self.config;
        let time = config.exchange_time();
        let retry = RetryConfig::standard()
            .with_max_attempts(config.max_attempts)
            .with_initial_backoff(FIRST_PAUSE)
            .with_max_backoff(LONGEST_PAUSE);
        let timeout = TimeoutConfig::builder().connect_timeout(time).operation_attempt_timeout(time).build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(self.http.clone())
            .retry_config(retry)
            .timeout_config(timeout);
        if let Some(profile) = &config.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(credentials) = &self.credentials {
            loader = loader.credentials_provider(credentials.clone());
        }
        if let Some(endpoint) = &config.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        let found = with_region(loader, config).load().await;
        if found.region().is_none() {
            return Err(Trouble::Refused(
                "region: neither an option nor the environment, the profile or the machine names one".into(),
            ));
        }
        let built = aws_sdk_dynamodb::config::Builder::from(&found).interceptor(BodyLimit(MAX_BODY)).build();
        Ok(Sdk::from_conf(built))
    }
}

fn with_region(loader: ConfigLoader, config: &DynamoDbConfig) -> ConfigLoader {
    match (&config.region, &config.endpoint_url) {
        (Some(region), _) => loader.region(Region::new(region.clone())),
        // Without the question to the machine, which takes seconds where nobody answers it.
        (None, Some(_)) => {
            let mut profile = ProfileFileRegionProvider::builder();
            if let Some(name) = &config.profile {
                profile = profile.profile_name(name);
            }
            let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
            loader.region(chain.or_else(profile.build()).or_else(Region::new(EMULATED_REGION)))
        }
        (None, None) => loader,
    }
}

/// Those of the options; `None` leaves them to the chain of the SDK.
fn credentials(config: &DynamoDbConfig, host: &HostServices) -> Result<Option<Credentials>, Trouble> {
    let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) else { return Ok(None) };
    let resolve = |field: &str, reference: &cachekit_plugin::SecretRef| {
        // The host says why, without the secret.
        reference.resolve(host).map_err(|error| Trouble::Refused(format!("{field}: {}", error.message())))
    };
    let token = config.session_token.as_ref().map(|token| resolve("session_token", token)).transpose()?;
    let (id, secret) = (resolve("access_key_id", id)?, resolve("secret_access_key", secret)?);
    for (field, part) in [("access_key_id", &id), ("secret_access_key", &secret)] {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Trouble::Refused(format!("{field}: the reference leads to something that is no key")));
        }
    }
    Ok(Some(Credentials::new(id, secret, token, None, "cachekit")))
}

/// rustls with ring: no system library, and no second provider beside it.
fn http_client(config: &DynamoDbConfig) -> Result<SharedHttpClient, String> {
    let mut trust = TrustStore::default();
    if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).map_err(|error| format!("ca_file = {path:?}: {error}"))?;
        // The client would end the process over a file that is none.
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(format!("ca_file = {path:?}: holds no certificate in PEM form"));
        }
        trust = TrustStore::empty().with_pem_certificate(pem);
    }
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| format!("ca_file: {error}"))?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

/// Runs `work` until `deadline`.
pub(crate) async fn by<T>(deadline: Deadline, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    match deadline.remaining() {
        None => work.await,
        Some(Duration::ZERO) => Err(Trouble::Late),
        Some(left) => tokio::time::timeout(left, work).await.unwrap_or(Err(Trouble::Late)),
    }
}

/// Not repeated by the SDK: what happened once and whose answer was lost must not be told "no" by its own repetition.
pub(crate) fn once() -> aws_sdk_dynamodb::config::Builder {
    aws_sdk_dynamodb::config::Builder::new().retry_config(RetryConfig::disabled())
}

#[cfg(test)]
mod tests {
    use cachekit_plugin::Kind;

    use super::*;

    fn client(config: DynamoDbConfig) -> Result<Client, Trouble> {
        Client::new(config, HostServices::none())
    }

    #[tokio::test]
    async fn a_client_of_a_parent_process_is_refused() {
        let mut client = client(DynamoDbConfig::new("http_cache")).unwrap();
        client.process = client.process.wrapping_add(1);
        assert_eq!(client.turn().await.err().map(|trouble| trouble.kind()), Some(Kind::Forked));
    }

    #[test]
    fn a_secret_that_the_host_does_not_have_is_named_at_opening() {
        let secret = Some(cachekit_plugin::SecretRef { reference: "env:NOWHERE".into() });
        let config = DynamoDbConfig {
            access_key_id: secret.clone(),
            secret_access_key: secret,
            ..DynamoDbConfig::new("http_cache")
        };
        let trouble = client(config).err().unwrap();
        assert_eq!(trouble.kind(), Kind::Config);
        assert!(trouble.to_string().starts_with("access_key_id: "), "{trouble}");
    }

    #[test]
    fn a_file_without_certificates_is_refused_and_not_met_later() {
        for path in ["/dev/null", "/nowhere/ca.pem"] {
            let config = DynamoDbConfig { ca_file: Some(path.into()), ..DynamoDbConfig::new("http_cache") };
            assert!(client(config).err().unwrap().to_string().starts_with("ca_file = "));
        }
    }
}
