//! Backends that are led to a server of the test: with a secret, a resolver and a pause of the test's own.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachekit_plugin::open::Services;
use cachekit_plugin::{BackendError, CacheActivity, HostServices, LogLevel};

use crate::backend::CachekitIoBackend;
use crate::config::CachekitIoConfig;
use crate::guarded_dns::Lookup;
use crate::retry::Pause;

/// The API key of the recordings.
pub(super) const API_KEY: &str = "ck_test_abc123";

/// A host that knows one secret, tells of one activity, and keeps what is logged.
#[derive(Default)]
pub(super) struct Host {
    pub(super) api_key: Option<String>,
    pub(super) activity: Option<CacheActivity>,
    pub(super) logged: Mutex<String>,
}

impl Services for Host {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &[(&str, &str)]) {
        self.logged.lock().unwrap().push_str(&format!("{level:?} {target} {message} {fields:?}\n"));
    }

    fn secret(&self, _: &str) -> Result<String, String> {
        Ok(self.api_key.clone().unwrap_or_else(|| API_KEY.to_owned()))
    }

    fn activity(&self) -> Option<CacheActivity> {
        self.activity
    }
}

/// Options for a server of the test that speaks without encryption.
pub(super) fn plain(port: u16) -> CachekitIoConfig {
    CachekitIoConfig::new("env:KEY")
        .with_api_url(format!("http://127.0.0.1:{port}"))
        .with_allow_private_host(true)
        .with_plain_http(true)
}

/// Options for a server of the test that speaks TLS under the name `cache.test` and whose certificate `ca_file` vouches for.
pub(super) fn encrypted(port: u16, ca_file: &std::path::Path) -> CachekitIoConfig {
    CachekitIoConfig::new("env:KEY")
        .with_api_url(format!("https://cache.test:{port}"))
        .with_allow_private_host(true)
        .with_ca_file(ca_file)
}

/// What `open` waited for.
pub(super) type Pauses = Arc<Mutex<Vec<Duration>>>;

/// Opens with everything of the test's own. Pauses are noted, not slept.
pub(super) fn open_with(
    config: &CachekitIoConfig,
    host: Host,
    lookup: Lookup,
) -> Result<(CachekitIoBackend, Pauses), BackendError> {
    let pauses = Pauses::default();
    let noted = Arc::clone(&pauses);
    let pause: Pause = Arc::new(move |pause| {
        noted.lock().unwrap().push(pause);
        Box::pin(std::future::ready(()))
    });
    let backend = CachekitIoBackend::open_with(config, HostServices::new(Arc::new(host)), lookup, pause)?;
    Ok((backend, pauses))
}

/// Opens for a server of the test.
pub(super) fn open(config: &CachekitIoConfig) -> CachekitIoBackend {
    open_with(config, Host::default(), nowhere()).map(|(backend, _)| backend).unwrap()
}

/// Opens for a server of the test that has a name.
pub(super) fn open_named(config: &CachekitIoConfig) -> CachekitIoBackend {
    open_with(config, Host::default(), always(&["127.0.0.1"])).map(|(backend, _)| backend).unwrap()
}

/// A resolver that is not asked.
pub(super) fn nowhere() -> Lookup {
    Arc::new(|_| Err(std::io::Error::other("no name was to be resolved")))
}

/// A resolver that answers every name with `addresses`.
pub(super) fn always(addresses: &[&str]) -> Lookup {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Arc::new(move |_| Ok(addresses.clone()))
}
