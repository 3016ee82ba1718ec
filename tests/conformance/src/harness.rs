//! How the kit gets at the store under test.

use std::marker::PhantomData;
use std::sync::Arc;

use cachekit_plugin::{Backend, BackendError, HostServices, Open};

/// What a harness hands out.
pub type Opened = Result<Arc<dyn Backend>, BackendError>;

/// Opens instances of the backend under test.
///
/// Only [`open`](Self::open) is needed. What the others answer with `None` is shown in the report as not asked.
/// Any `Fn() -> Result<Arc<dyn Backend>, BackendError>` is a harness.
pub trait Harness: Send + Sync + 'static {
    /// Opens an instance on the store under test. Called several times per case.
    fn open(&self) -> Opened;

    /// Whether all instances that [`open`](Self::open) returns show the same store. A store that lives inside its
    /// instance says `false`.
    fn shares_one_store(&self) -> bool {
        true
    }

    /// Opens an instance on an empty store that nobody else uses.
    fn open_isolated(&self) -> Option<Opened> {
        None
    }

    /// Opens an instance on a store that cannot be reached.
    fn open_unreachable(&self) -> Option<Opened> {
        None
    }

    /// Opens an instance with `json` as its options.
    fn open_with_options(&self, json: &[u8]) -> Option<Opened> {
        let _ = json;
        None
    }

    /// The JSON Schema of the options.
    fn options_schema(&self) -> Option<serde_json::Value> {
        None
    }
}

impl<F: Fn() -> Opened + Send + Sync + 'static> Harness for F {
    fn open(&self) -> Opened {
        self()
    }
}

/// The harness of a backend that is opened by options: what an author needs for a native run.
pub struct ByOptions<B> {
    options: serde_json::Value,
    isolated: Option<Box<dyn Fn() -> serde_json::Value + Send + Sync>>,
    unreachable: Option<serde_json::Value>,
    shares_one_store: bool,
    backend: PhantomData<fn() -> B>,
}

impl<B: Open> ByOptions<B> {
    /// Opens every instance with `options`.
    pub fn new(options: serde_json::Value) -> Self {
        Self { options, isolated: None, unreachable: None, shares_one_store: true, backend: PhantomData }
    }

    /// Makes options that lead to an empty store, a new one at every call.
    #[must_use]
    pub fn with_isolated(mut self, options: impl Fn() -> serde_json::Value + Send + Sync + 'static) -> Self {
        self.isolated = Some(Box::new(options));
        self
    }

    /// Options that lead to a store that cannot be reached.
    #[must_use]
    pub fn with_unreachable(mut self, options: serde_json::Value) -> Self {
        self.unreachable = Some(options);
        self
    }

    /// Says that every instance has a store of its own.
    #[must_use]
    pub fn with_a_store_per_instance(mut self) -> Self {
        self.shares_one_store = false;
        self
    }

    fn open_json(json: &[u8]) -> Opened {
        B::open_json(json, HostServices::none()).map(|backend| Arc::new(backend) as Arc<dyn Backend>)
    }
}

impl<B: Open> Harness for ByOptions<B> {
    fn open(&self) -> Opened {
        Self::open_json(self.options.to_string().as_bytes())
    }

    fn shares_one_store(&self) -> bool {
        self.shares_one_store
    }

    fn open_isolated(&self) -> Option<Opened> {
        self.isolated.as_ref().map(|options| Self::open_json(options().to_string().as_bytes()))
    }

    fn open_unreachable(&self) -> Option<Opened> {
        self.unreachable.as_ref().map(|options| Self::open_json(options.to_string().as_bytes()))
    }

    fn open_with_options(&self, json: &[u8]) -> Option<Opened> {
        Some(Self::open_json(json))
    }

    fn options_schema(&self) -> Option<serde_json::Value> {
        Some(B::schema())
    }
}
