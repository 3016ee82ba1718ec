//! What is under test: a backend by itself, or a cache in front of one.
//!
//! A backend alone must never mix up replies, whatever is cancelled. Bytes that the network changes it cannot always see
//! (a reply of Redis carries neither key nor checksum), so under garbled and duplicated replies the cache is asked, whose
//! envelope carries both.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachekit_core::cache::SetOptions;
use cachekit_core::{Cache, Error};
use cachekit_plugin::{Backend, BackendError, Cx, Key, Kind, Ttl};

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The class that machines act on.
    pub kind: &'static str,
    /// The words for people.
    pub said: String,
}

impl Failed {
    /// Whether the deadline passed.
    pub fn is_late(&self) -> bool {
        self.kind == Kind::Timeout.as_str()
    }

    /// Whether the store was not heard: what a later attempt may find well.
    pub fn is_an_outage(&self) -> bool {
        self.is_late() || self.kind == Kind::Transient.as_str()
    }
}

/// A result of an operation.
pub type Outcome<T> = Result<T, Failed>;

/// What is under test.
#[derive(Clone)]
pub enum Store {
    /// The backend by itself.
    Backend(Arc<dyn Backend>),
    /// A cache in front of it, without L1.
    Cache(Cache),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Backend(_) => "Backend",
            Self::Cache(_) => "Cache",
        })
    }
}

/// The name of the n-th key.
pub fn name(key: u64) -> String {
    format!("chaos:{key}")
}

impl Store {
    /// The value of a key.
    pub async fn get(&self, key: u64, within: Duration) -> Outcome<Option<Bytes>> {
        match self {
            Self::Backend(backend) => {
                let (cx, name) = (Cx::within(within), name(key));
                backend.get(Key::from_wire(name.as_bytes()), &cx).await.map_err(|error| failed(&error))
            }
            Self::Cache(cache) => cache.get_bytes(&name(key)).await.map_err(|error| of_cache(&error)),
        }
    }

    /// Stores a value for a minute.
    pub async fn set(&self, key: u64, value: Vec<u8>, within: Duration) -> Outcome<()> {
        let minute = Duration::from_secs(60);
        match self {
            Self::Backend(backend) => {
                let (cx, name) = (Cx::within(within), name(key));
                let ttl = Ttl::from_ms(minute.as_millis() as u64).unwrap_or(Ttl::Never);
                let set = backend.set(Key::from_wire(name.as_bytes()), Bytes::from(value), ttl, &cx);
                set.await.map_err(|error| failed(&error))
            }
            Self::Cache(cache) => {
                let options = SetOptions::default().with_ttl(minute);
                cache.set_bytes(&name(key), &value, options).await.map_err(|error| of_cache(&error))
            }
        }
    }

    /// Removes a key.
    pub async fn delete(&self, key: u64, within: Duration) -> Outcome<()> {
        match self {
            Self::Backend(backend) => {
                let (cx, name) = (Cx::within(within), name(key));
                let delete = backend.delete(Key::from_wire(name.as_bytes()), &cx);
                delete.await.map(drop).map_err(|error| failed(&error))
            }
            Self::Cache(cache) => cache.delete(&name(key)).await.map(drop).map_err(|error| of_cache(&error)),
        }
    }

    /// The values of several keys in one exchange, where the store can; `None` for those that failed.
    pub async fn get_many(&self, keys: &[u64], within: Duration) -> Outcome<Vec<Option<Option<Bytes>>>> {
        let Self::Backend(backend) = self else { return Ok(vec![None; keys.len()]) };
        let Some(batch) = backend.batch() else { return Ok(vec![None; keys.len()]) };
        let cx = Cx::within(within);
        let names: Vec<String> = keys.iter().map(|key| name(*key)).collect();
        let keys: Vec<Key<'_>> = names.iter().map(|name| Key::from_wire(name.as_bytes())).collect();
        let answers = batch.get_many(&keys, &cx).await.map_err(|error| failed(&error))?;
        Ok(answers.into_iter().map(Result::ok).collect())
    }
}

fn failed(error: &BackendError) -> Failed {
    // With its causes: "the exchange failed" alone says nothing.
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        said = format!("{said}: {next}");
        cause = next.source();
    }
    Failed { kind: error.kind().as_str(), said }
}

fn of_cache(error: &Error) -> Failed {
    match error {
        Error::Backend(error) => failed(error),
        Error::Refused(refusal) => Failed { kind: "refused", said: refusal.to_string() },
        other => Failed { kind: "other", said: other.to_string() },
    }
}
