//! The contract of a second-tier store: one trait of seven operations, and small traits for the powers a store may have.
//!
//! This is the seam between the engine and every store, linked or loaded. Everything that crosses it is key bytes and
//! stored bytes; what they mean is decided above. Optional powers are found by *asking the instance*, so that what a
//! backend claims and what it does are the same line of code.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::cx::Cx;
use crate::error::BackendError;
use crate::freshness::Freshness;
use crate::health::Health;
use crate::key::Key;
use crate::limits::Limits;
use crate::ttl::Ttl;
use crate::watch::Watch;

/// The future of one operation, boxed so that backends can be chosen at run time.
pub type Fut<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// Wraps an answer that is already known: for stores that never wait.
pub fn ready<'a, T: Send + 'a>(answer: Result<T, BackendError>) -> Fut<'a, T> {
    Box::pin(std::future::ready(answer))
}

/// A store of bytes under keys, shared by all callers of a process.
///
/// Every operation may be called from any thread and at the same time as any other. It ends by `cx.deadline`, or the
/// caller drops the future: a dropped future must leave the store consistent and later operations unharmed.
///
/// Stores with a blocking client move each call onto a [`blocking::Pool`](crate::blocking::Pool) instead of
/// implementing a second trait.
pub trait Backend: Send + Sync + 'static {
    /// What keys and values this instance takes. Asked once, after opening.
    fn limits(&self) -> Limits;

    /// The value stored under `key`, or `None`. A miss is not an error.
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>>;

    /// Stores `value` under `key`, replacing what was there. Returns when every later `get` sees it.
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()>;

    /// Removes `key`; `true` if there was something to remove.
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool>;

    /// Whether `get` would return a value.
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool>;

    /// One cheap round trip through the store, timed.
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health>;

    /// Flushes and releases what the instance holds. Idempotent; afterwards other operations may fail.
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()>;

    /// Several keys in one exchange.
    fn batch(&self) -> Option<&dyn Batch> {
        None
    }

    /// Reading and renewing the time an entry has left.
    fn ttl(&self) -> Option<&dyn Expiry> {
        None
    }

    /// Leases that exclude other holders across processes.
    fn locks(&self) -> Option<&dyn Locks> {
        None
    }

    /// Writes that happen only if nobody else wrote in between.
    fn cas(&self) -> Option<&dyn Cas> {
        None
    }

    /// Enumeration of what is stored.
    fn scan(&self) -> Option<&dyn Scan> {
        None
    }

    /// Removal of many entries at once.
    fn clear(&self) -> Option<&dyn Clear> {
        None
    }

    /// Telling of changes by others.
    fn watch(&self) -> Option<&dyn Watch> {
        None
    }

    /// A stale window beside the life of an entry.
    fn freshness(&self) -> Option<&dyn Freshness> {
        None
    }
}

/// One entry of [`Batch::set_many`].
#[derive(Debug, Clone)]
pub struct SetItem<'a> {
    /// Wire key.
    pub key: Key<'a>,
    /// Stored bytes.
    pub value: Bytes,
    /// Life of the entry.
    pub ttl: Ttl,
}

/// Answers of a batch, one per item, in the order of the items. An error of one item leaves the others valid.
pub type Answers<T> = Vec<Result<T, BackendError>>;

/// Several keys in one exchange. The outer error means that nothing is known about any item.
pub trait Batch: Send + Sync {
    /// As [`Backend::get`] for each key.
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>>;
    /// As [`Backend::set`] for each item. A key that stands twice ends with the value of its last item.
    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>>;
    /// As [`Backend::delete`] for each key.
    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>>;
}

/// Reading and renewing the time an entry has left.
pub trait Expiry: Send + Sync {
    /// Time left of `key`; `None` if it is absent.
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>>;
    /// Gives `key` a new life of `ttl` from now; `false` if it is absent.
    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool>;
}

/// Leases that exclude other holders across processes.
///
/// A lease ends by itself after its hold, so a holder that dies blocks nobody for longer. It is no proof of being
/// alone: a holder that was paused past its hold must write through [`Cas`].
pub trait Locks: Send + Sync {
    /// Takes the lease of `key` for `hold_ms` (≥ 1) under a secret `token`; `false` if another holds it. Never waits.
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool>;
    /// Gives the lease back; `false` if it is not held under `token` (any more).
    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool>;
}

/// The identity of one write of a key. Two writes of a key never share one, even of equal values.
///
/// 128 bits, filled by the backend from what its store has: an inode and its change time, a memcached `cas`, a digest.
/// A digest of the value is admissible where a store has nothing better: then "nobody wrote" means "nobody changed".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(pub u128);

/// Writes that happen only if nobody else wrote in between.
pub trait Cas: Send + Sync {
    /// The value of `key` with its version; `None` if it is absent.
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>>;
    /// Stores `value` if the key still has the version `expect` (`None`: if it is still absent); `true` if stored.
    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool>;
}

/// One page of [`Scan::next`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys, or opaque ids where [`Limits::enumerates`](Limits) says so. May be empty although more pages follow.
    pub items: Vec<Bytes>,
    /// Where the next page starts; `None` after the last one.
    pub next: Option<Bytes>,
}

/// Enumeration of what is stored. An entry that is present during the whole scan is listed at least once; one that
/// comes or goes meanwhile may be listed or not.
pub trait Scan: Send + Sync {
    /// A page of at most `max` items whose key begins with `prefix`. Stores that list ids ignore the prefix and refuse
    /// none. `cursor` is what the page before returned, `None` at the start.
    fn next<'a>(&'a self, prefix: &'a [u8], cursor: Option<&'a [u8]>, max: usize, cx: &'a Cx<'a>) -> Fut<'a, Page>;
    /// The value behind an item of a page; `None` if it is gone. For stores that list keys this is [`Backend::get`].
    fn read<'a>(&'a self, id: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>>;
}

/// Removal of many entries at once.
pub trait Clear: Send + Sync {
    /// Removes every entry whose key begins with `prefix` and returns how many that were. Stores that cannot tell keys
    /// apart answer `Unsupported` to any prefix but the empty one.
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64>;
}
