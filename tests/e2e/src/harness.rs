//! The conformance table over a loaded library.

use cachekit_conformance::{Harness, Opened};
use cachekit_host::{LoadError, Plugin};
use cachekit_plugin::{BackendError, HostServices, Kind, Operation};
use serde_json::Value as Json;

/// Makes options for a new place each time it is asked.
pub type Options = Box<dyn Fn() -> Json + Send + Sync>;

/// Opens instances of a plugin.
pub struct Loaded {
    plugin: Plugin,
    options: Json,
    isolated: Options,
    unreachable: Option<Json>,
    services: HostServices,
    shares_one_store: bool,
}

impl Loaded {
    /// Every instance opens with `options`; isolated ones with what `isolated` makes.
    pub fn new(plugin: Plugin, options: Json, isolated: Options) -> Self {
        Self { plugin, options, isolated, unreachable: None, services: HostServices::none(), shares_one_store: true }
    }

    /// What the host offers.
    #[must_use]
    pub fn with_services(mut self, services: HostServices) -> Self {
        self.services = services;
        self
    }

    /// Options that lead to a store that cannot be reached.
    #[must_use]
    pub fn with_unreachable(mut self, options: Json) -> Self {
        self.unreachable = Some(options);
        self
    }

    /// The store lives inside its instance.
    #[must_use]
    pub fn with_a_store_per_instance(mut self) -> Self {
        self.shares_one_store = false;
        self
    }

    fn open_with(&self, json: &[u8]) -> Opened {
        self.plugin.create(json, self.services.clone()).map_err(backend_error)
    }
}

/// What a plugin said when it refused to open; anything else is a defect of the plugin.
pub fn backend_error(error: LoadError) -> BackendError {
    match error {
        LoadError::Create { source, .. } => source,
        other => BackendError::new(Kind::Internal, Operation::Open, other.to_string()),
    }
}

impl Harness for Loaded {
    fn open(&self) -> Opened {
        self.open_with(self.options.to_string().as_bytes())
    }

    fn shares_one_store(&self) -> bool {
        self.shares_one_store
    }

    fn open_isolated(&self) -> Option<Opened> {
        Some(self.open_with((self.isolated)().to_string().as_bytes()))
    }

    fn open_unreachable(&self) -> Option<Opened> {
        self.unreachable.as_ref().map(|options| self.open_with(options.to_string().as_bytes()))
    }

    fn open_with_options(&self, json: &[u8]) -> Option<Opened> {
        Some(self.open_with(json))
    }

    fn options_schema(&self) -> Option<Json> {
        self.plugin.config_schema().ok().flatten()
    }
}
