//! The store that does nothing: what a bench measures when there is nothing to measure.

use bytes::Bytes;
use cachekit_plugin::{Backend, Cx, Fut, Health, Key, Limits, Ttl, ready};

/// Has every key that does not say that it is absent, and the same bytes for each.
pub(super) struct Null {
    value: Bytes,
}

impl Null {
    pub(super) fn new(value_size: usize) -> Self {
        Self { value: super::round::value(value_size) }
    }

    fn has(key: Key<'_>) -> bool {
        !key.as_bytes().starts_with(super::round::ABSENT.as_bytes())
    }
}

impl Backend for Null {
    fn limits(&self) -> Limits {
        Limits::new(1024, u64::MAX)
    }

    fn get<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        ready(Ok(Self::has(key).then(|| self.value.clone())))
    }

    fn set<'a>(&'a self, _: Key<'a>, _: Bytes, _: Ttl, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(Ok(()))
    }

    fn delete<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready(Ok(Self::has(key)))
    }

    fn exists<'a>(&'a self, key: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready(Ok(Self::has(key)))
    }

    fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
        ready(Ok(Health::up("null", std::time::Duration::ZERO)))
    }

    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(Ok(()))
    }
}
