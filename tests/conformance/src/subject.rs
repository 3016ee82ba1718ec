//! What a case works on: an instance of the backend, the way to more of them, and keys that are this case's alone.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cachekit_plugin::{Backend, Limits};

use crate::case::{Case, Failure};
use crate::harness::{Harness, Opened};
use crate::instance::Instance;

/// How long the kit waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Deadline given to each operation, and as much again for every 250 items of a batch. One that has not come back after twice this time counts as hung.
    pub operation: Duration,
    /// Replaces the time limits of the cases.
    pub case: Option<Duration>,
}

impl Default for Patience {
    /// 5 s for an operation: ten times what a loaded server needs, and a hang still shows within the limit of a case.
    fn default() -> Self {
        Self { operation: Duration::from_secs(5), case: None }
    }
}

/// What a case works on.
pub struct Subject {
    backend: Instance,
    harness: Arc<dyn Harness>,
    patience: Patience,
    prefix: String,
    handed_out: Mutex<Vec<Vec<u8>>>,
}

impl Subject {
    /// Opens the backend for `case`.
    pub(crate) fn open(harness: &Arc<dyn Harness>, case: &Case, patience: Patience) -> Result<Self, Failure> {
        Ok(Self {
            backend: Instance::new(harness.open()?, patience),
            harness: Arc::clone(harness),
            patience,
            prefix: unused_prefix(case.name),
            handed_out: Mutex::default(),
        })
    }

    /// The instance under test.
    pub fn backend(&self) -> &Instance {
        &self.backend
    }

    /// What the instance takes.
    pub fn limits(&self) -> Limits {
        self.backend.limits()
    }

    /// How long to wait.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// The way to more instances.
    pub fn harness(&self) -> &dyn Harness {
        &*self.harness
    }

    /// A second instance on the same store.
    pub fn second(&self) -> Result<Instance, Failure> {
        if !self.harness.shares_one_store() {
            return Err(Failure::NotAsked("every instance of this backend has a store of its own".into()));
        }
        Ok(self.instance(self.harness.open()?))
    }

    /// An instance of its own to be closed by the case.
    pub fn extra(&self) -> Result<Instance, Failure> {
        Ok(self.instance(self.harness.open()?))
    }

    /// An instance on an empty store.
    pub fn isolated(&self) -> Result<Instance, Failure> {
        self.optional(self.harness.open_isolated(), "an empty store of its own")
    }

    /// An instance on a store that is out of reach.
    pub fn unreachable(&self) -> Result<Instance, Failure> {
        self.optional(self.harness.open_unreachable(), "a store that is out of reach")
    }

    fn optional(&self, opened: Option<Opened>, what: &str) -> Result<Instance, Failure> {
        match opened {
            Some(opened) => Ok(self.instance(opened?)),
            None => Err(Failure::NotAsked(format!("the harness cannot open {what}"))),
        }
    }

    fn instance(&self, backend: Arc<dyn Backend>) -> Instance {
        Instance::new(backend, self.patience)
    }

    /// A key of this case alone, also on a store that other cases, other runs and other programs use.
    pub fn key(&self, name: &str) -> Vec<u8> {
        self.key_of(name.as_bytes())
    }

    /// As [`key`](Self::key), with any bytes behind the prefix.
    pub fn key_of(&self, name: &[u8]) -> Vec<u8> {
        let key = [self.prefix.as_bytes(), name].concat();
        self.handed_out.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
        key
    }

    /// What all keys of this case begin with, and no other.
    pub fn prefix(&self) -> Vec<u8> {
        self.prefix.clone().into_bytes()
    }

    /// Deletes whatever the case may have left, because the store under test may be somebody's.
    pub(crate) fn clean_up(&self) {
        for key in self.handed_out.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that cannot be deleted ends with its life.
            let _ = self.backend.delete(&key);
        }
    }
}

/// 18 printable bytes that no other case and no other run begins its keys with.
fn unused_prefix(case: &str) -> String {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let mut hash = crate::sample::fnv1a(case.as_bytes());
    for part in [since_1970.as_nanos() as u64, u64::from(std::process::id()), u64::from(run)] {
        hash = crate::sample::mix(hash ^ part);
    }
    format!("t{hash:016x}:")
}
