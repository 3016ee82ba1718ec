//! Stores that know of a stale window beside an entry's life: cachekit.io, and whatever speaks its protocol.
//!
//! Entries of this project's own format carry their times inside and need none of this. It serves entries of other
//! writers, whose only sign of age is what the store says when it hands them out.

use std::num::NonZeroU64;

use bytes::Bytes;

use crate::backend::Fut;
use crate::cx::Cx;
use crate::key::Key;
use crate::ttl::Ttl;

/// A value with what its store says of its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    /// Stored bytes.
    pub value: Bytes,
    /// Past its life, inside its stale window: to be served while it is refreshed, and not to be kept.
    pub stale: bool,
    /// Milliseconds for which it may be kept elsewhere; `None`: the store did not say; `Some(0)`: it may not.
    pub fresh_for_ms: Option<u64>,
}

/// A store that knows of a stale window.
pub trait Freshness: Send + Sync {
    /// As [`Backend::get`](crate::Backend::get), with the age of what it returns. Unlike `get` it also returns what is
    /// stale.
    fn get_dated<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Dated>>;

    /// As [`Backend::set`](crate::Backend::set); for `stale_ms` after its life the entry may still be handed out as
    /// stale.
    fn set_stale<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        stale_ms: NonZeroU64,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, ()>;
}
