// Not `forbid`: the line that exports the library names its symbol, which counts as unsafe.
#![deny(unsafe_code)]
//! The cheapest store there is: a map behind a lock. Linked and loaded from the same source, so that the difference
//! between the two is the crossing and nothing else.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{Backend, BackendError, Cx, Fut, Health, HostServices, Key, Limits, Open, Ttl, ready};

/// Longest key and largest value, bytes.
pub const LIMITS: Limits = Limits::new(64 << 10, 64 << 20);

/// A map behind a lock. It never expires anything.
#[derive(Debug, Default)]
pub struct Null(RwLock<HashMap<Box<[u8]>, Bytes>>);

/// No options.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NullConfig {}

impl Open for Null {
    type Config = NullConfig;

    fn open(_: NullConfig, _: HostServices) -> Result<Self, BackendError> {
        Ok(Self::default())
    }
}

impl Backend for Null {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn get<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        ready(Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(key.as_bytes()).cloned()))
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, _: Ttl, _: &'a Cx<'a>) -> Fut<'a, ()> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match map.get_mut(key.as_bytes()) {
            Some(old) => *old = value,
            None => drop(map.insert(key.as_bytes().into(), value)),
        }
        ready(Ok(()))
    }

    fn delete<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready(Ok(self.0.write().unwrap_or_else(PoisonError::into_inner).remove(key.as_bytes()).is_some()))
    }

    fn exists<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready(Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(key.as_bytes())))
    }

    fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
        ready(Ok(Health::up("null", Duration::ZERO)))
    }

    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(Ok(()))
    }
}

cachekit_plugin::export_backend! { id: "bench.null", backend: Null, powers: [] }
