//! For tests of programs that use a cache: a store in memory that fails when it is told to, and a clock that stands still.
//!
//! Nothing sleeps and nothing listens: a minute passes when the test says so, and an outage begins and ends where it stands in
//! the test. The feature `testing`, for `[dev-dependencies]`.
//!
//! ```
//! use std::time::Duration;
//! use cachekit::plugin::{Kind, Operation};
//! use cachekit::testing::{TestBench, Trouble};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let bench = TestBench::new();
//! let cache = bench.builder().default_ttl(Duration::from_secs(60)).build()?;
//! cache.set("greeting", "hello").await?;
//!
//! // Another process on the same store.
//! let elsewhere = bench.cache();
//! assert_eq!(*elsewhere.get::<String>("greeting").await?.unwrap(), "hello");
//!
//! // A minute passes.
//! bench.clock.advance(Duration::from_secs(61));
//! assert!(cache.get::<String>("greeting").await?.is_none());
//!
//! // The store is out of reach: a miss, and no error.
//! bench.switch.trouble(Trouble::Fails(Kind::Transient));
//! assert_eq!(*cache.get_or_load("answer", async || 42_u32).await?, 42);
//! assert!(cache.stats().l2_errors > 0);
//! bench.switch.heal();
//! assert!(bench.switch.calls(Operation::Get) > 0);
//! # Ok::<(), cachekit::Error>(()) }).unwrap();
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use cachekit_conformance::{Memory, MemoryConfig, Switch, Switched, Trouble};
use cachekit_core::clock::Clock;
pub use cachekit_core::clock::ManualClock;
use cachekit_core::{Cache, CacheBuilder};
use cachekit_plugin::Backend;

/// A store and a clock for one test. Every cache of it is another process on that store.
pub struct TestBench {
    /// The time of the store and of every cache.
    pub clock: Arc<ManualClock>,
    /// What the store holds, past the switch.
    pub memory: Memory,
    /// Turns the troubles of the store on and off, and counts what is asked of it.
    pub switch: Switch,
    store: Switched,
}

impl TestBench {
    /// An empty store with every power, at a moment of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::with_config(MemoryConfig::default())
    }

    /// An empty store with limits of its own.
    #[must_use]
    pub fn with_config(config: MemoryConfig) -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = Memory::with_clock(config, Arc::new(StoreClock(Arc::clone(&clock))));
        let store = Switched::new(Arc::new(memory.clone()));
        Self { clock, memory, switch: store.switch(), store }
    }

    /// The store knows no batches, no locks, no conditional writes and none of the other powers.
    #[must_use]
    pub fn without_powers(mut self) -> Self {
        self.store = self.store.without_powers();
        self
    }

    /// The store, for whatever takes a backend. Each is an instance of its own, as another process would open it.
    #[must_use]
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(self.store.clone())
    }

    /// A cache on the store, to be changed before it is built.
    #[must_use]
    pub fn builder(&self) -> CacheBuilder {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        Cache::builder().backend(self.backend()).clock(clock)
    }

    /// A cache on the store.
    #[must_use]
    pub fn cache(&self) -> Cache {
        match self.builder().build() {
            Ok(cache) => cache,
            // A builder that nobody changed has nothing that could be refused.
            Err(error) => unreachable!("{error}"),
        }
    }
}

impl Default for TestBench {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestBench").field("clock", &self.clock).field("switch", &self.switch).finish_non_exhaustive()
    }
}

/// The clock of the cache, as the store reads it.
struct StoreClock(Arc<ManualClock>);

impl cachekit_conformance::Clock for StoreClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.coarse_ms())
    }
}
