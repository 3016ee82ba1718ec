//! What L1 keeps for one key: one allocation for the common small value.
//!
//! ```text
//! ThinArc: | refcount | length | hash | epoch | fresh until | stale for | key length | side | key | stored bytes, if small |
//!             8          8        8      8         8             4            4          8
//! side:    | stored bytes, if large | typed copy | reserve |      only for large values and those with a typed copy
//! ```
//! Small values are copied next to their key. That saves two allocations, puts the bytes a hit needs on neighbouring cache
//! lines, and above all lets go of the `Bytes` it came in: 100 bytes sliced out of a 64 KiB read buffer would hold all 64.
//! Large values keep the `Bytes`, shared with what was written to L2.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use triomphe::ThinArc;

use super::KeyHash;

/// Key and value together up to this many bytes live in the entry itself. Copying 768 bytes costs about as much as the two
/// allocations it saves.
pub(super) const INLINE_BYTES: usize = 768;

/// The generation of a namespace. Compared for equality only: an entry of another epoch is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Namespace epochs count from 0 and never get here.
    const VOUCHED: u64 = 1 << 63;
    const TAGGED: u64 = 1 << 62;

    /// The same generation, for an entry that is served only while somebody vouches for it.
    pub(crate) const fn vouched(self) -> Self {
        Self(self.0 | Self::VOUCHED)
    }

    /// The same generation, for an entry that is in force only as long as its tags are: whoever gets it asks them.
    pub(crate) const fn tagged(self) -> Self {
        Self(self.0 | Self::TAGGED)
    }

    pub(super) const fn is_tagged(self) -> bool {
        self.0 & Self::TAGGED != 0
    }

    /// Without what is said of the entry beside its generation.
    pub(crate) const fn plain(self) -> Self {
        Self(self.0 & !(Self::TAGGED | Self::VOUCHED))
    }

    pub(super) const fn untagged(self) -> Self {
        Self(self.0 & !Self::TAGGED)
    }

    pub(crate) const fn is_vouched(self) -> bool {
        self.0 & Self::VOUCHED != 0
    }
}

/// When a value stops being fresh, and when it stops being served, in [`Clock::coarse_ms`](crate::clock::Clock::coarse_ms).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// From here on the value is stale: served, while the engine refreshes it. `u64::MAX`: never.
    pub fresh_until_ms: u64,
    /// From here on the value is gone. `u64::MAX`: never.
    pub expires_at_ms: u64,
}

impl Life {
    /// A value that neither grows stale nor expires.
    pub const FOREVER: Self = Self { fresh_until_ms: u64::MAX, expires_at_ms: u64::MAX };

    /// The same, and over at the latest at that time.
    #[must_use]
    pub(crate) fn ending_at(self, at_ms: u64) -> Self {
        Self { fresh_until_ms: self.fresh_until_ms.min(at_ms), expires_at_ms: self.expires_at_ms.min(at_ms) }
    }
}

/// A decoded copy of a value, of whatever type its user decodes it to.
pub type Typed = Arc<dyn Any + Send + Sync>;

pub(super) struct Header {
    hash: KeyHash,
    epoch: Epoch,
    fresh_until_ms: u64,
    /// How long the value is served after that: four bytes instead of eight, and most hits end before they are looked at.
    stale_for_ms: StaleFor,
    key_len: u32,
    side: Option<Box<Side>>,
}

/// The stale window of an entry, ms. The longest that fits is 49.7 days; a longer one ends then, because a cache may lose
/// what it could still serve and may not serve what is over. [`Self::EVER`] has no end.
#[derive(Clone, Copy)]
struct StaleFor(u32);

impl StaleFor {
    const EVER: Self = Self(u32::MAX);

    fn of(life: Life) -> Self {
        match life.expires_at_ms {
            u64::MAX => Self::EVER,
            // An end before the last fresh moment is the end: see `Entry::new`.
            end => {
                Self(u32::try_from(end.saturating_sub(life.fresh_until_ms)).unwrap_or(u32::MAX - 1).min(u32::MAX - 1))
            }
        }
    }

    #[inline]
    const fn end_ms(self, fresh_until_ms: u64) -> u64 {
        if self.0 == Self::EVER.0 { u64::MAX } else { fresh_until_ms.saturating_add(self.0 as u64) }
    }
}

/// What an entry is at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    Stale,
    Over,
}

pub(super) struct Side {
    /// `None` when the bytes are inline.
    stored: Option<Bytes>,
    typed: OnceLock<Typed>,
    /// Bytes the budget set aside for `typed`; 0 means that no typed copy may be attached.
    reserve: u64,
}

#[derive(Clone)]
pub(super) struct Entry(ThinArc<Header, u8>);

impl Entry {
    /// The key's length must fit `u32`; `policy::Budget` refuses such a key long before.
    pub(super) fn new(
        hash: KeyHash,
        key: &[u8],
        epoch: Epoch,
        stored: Bytes,
        life: Life,
        typed: Option<Typed>,
        reserve: u64,
    ) -> Self {
        let inline = is_inline(key.len(), stored.len());
        let wants_side = has_side(key.len(), stored.len(), typed.is_some(), reserve);
        let header = |stored: Option<Bytes>| Header {
            hash,
            epoch,
            fresh_until_ms: life.fresh_until_ms.min(life.expires_at_ms),
            stale_for_ms: StaleFor::of(life),
            key_len: key.len() as u32,
            side: wants_side.then(|| {
                let typed = typed.map_or_else(OnceLock::new, OnceLock::from);
                Box::new(Side { stored, typed, reserve })
            }),
        };
        if inline {
            // One slice copy each, by way of the stack: an iterator over both parts would copy byte by byte.
            let mut bytes = [0; INLINE_BYTES];
            let len = key.len() + stored.len();
            bytes[..key.len()].copy_from_slice(key);
            bytes[key.len()..len].copy_from_slice(&stored);
            Self(ThinArc::from_header_and_slice(header(None), &bytes[..len]))
        } else {
            Self(ThinArc::from_header_and_slice(header(Some(stored)), key))
        }
    }

    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        &self.0.slice[..self.header().key_len as usize]
    }

    #[inline]
    pub(super) fn hash(&self) -> KeyHash {
        self.header().hash
    }

    #[inline]
    pub(super) fn epoch(&self) -> Epoch {
        self.header().epoch
    }

    pub(super) fn life(&self) -> Life {
        let header = self.header();
        let fresh_until_ms = header.fresh_until_ms;
        Life { fresh_until_ms, expires_at_ms: header.stale_for_ms.end_ms(fresh_until_ms) }
    }

    /// Whether it stays fresh for good, so that no clock has to be read.
    #[inline]
    pub(super) fn is_forever(&self) -> bool {
        self.header().fresh_until_ms == u64::MAX
    }

    #[inline]
    pub(super) fn age(&self, now_ms: u64) -> Age {
        let header = self.header();
        if now_ms < header.fresh_until_ms {
            Age::Fresh
        } else if now_ms < header.stale_for_ms.end_ms(header.fresh_until_ms) {
            Age::Stale
        } else {
            Age::Over
        }
    }

    /// The decoded copy, if there is one and it is a `T`.
    #[inline]
    pub(super) fn typed<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(self.side()?.typed.get()?).downcast().ok()
    }

    #[inline]
    pub(super) fn stored(&self) -> &[u8] {
        match self.large() {
            Some(stored) => stored,
            None => &self.0.slice[self.header().key_len as usize..],
        }
    }

    #[inline]
    fn large(&self) -> Option<&Bytes> {
        self.side()?.stored.as_ref()
    }

    #[inline]
    pub(super) fn side(&self) -> Option<&Side> {
        self.header().side.as_deref()
    }

    #[inline]
    fn header(&self) -> &Header {
        &self.0.header.header
    }

    pub(super) fn stored_len(&self) -> usize {
        self.stored().len()
    }

    /// Where the entry is, which tells it from every other entry alive at the same time.
    pub(super) fn address(&self) -> usize {
        self.0.ptr().addr()
    }
}

impl Side {
    pub(super) fn reserve(&self) -> u64 {
        self.reserve
    }
}

pub(super) fn is_inline(key_len: usize, stored_len: usize) -> bool {
    key_len.saturating_add(stored_len) <= INLINE_BYTES
}

pub(super) fn has_side(key_len: usize, stored_len: usize, typed: bool, reserve: u64) -> bool {
    !is_inline(key_len, stored_len) || typed || reserve > 0
}

/// A value found in L1. It costs one reference count to have and to drop, and stays whole even if L1 drops the entry.
#[derive(Clone)]
pub struct Hit {
    pub(super) entry: Entry,
    pub(super) fresh: bool,
}

impl Hit {
    #[inline]
    pub(super) fn on(entry: &Entry, fresh: bool) -> Self {
        Self { entry: entry.clone(), fresh }
    }

    /// The stored bytes.
    #[inline]
    pub fn stored(&self) -> &[u8] {
        self.entry.stored()
    }

    /// The stored bytes as an owner. A large value is shared, never copied; one that lives inside its entry (at most 768
    /// bytes with its key) is copied.
    pub fn to_bytes(&self) -> Bytes {
        match self.entry.large() {
            Some(stored) => stored.clone(),
            None => Bytes::copy_from_slice(self.entry.stored()),
        }
    }

    /// The decoded copy, if there is one and it is a `T`.
    #[inline]
    pub fn typed<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.entry.typed()
    }

    /// Keeps a decoded copy beside the bytes for later hits, if the entry was inserted with room reserved for one and holds
    /// none yet. Returns whether it was kept.
    ///
    /// The first type to be attached stays; a second type decodes anew at each hit. Room for one is what was charged.
    pub fn attach_typed<T: Any + Send + Sync>(&self, value: Arc<T>) -> bool {
        match self.entry.side() {
            Some(side) if side.reserve > 0 => side.typed.set(value).is_ok(),
            _ => false,
        }
    }

    /// Whether the entry carries tags, which whoever serves it has to ask.
    #[inline]
    pub(crate) fn is_tagged(&self) -> bool {
        self.entry.epoch().is_tagged()
    }

    /// Whether the value was still fresh when it was looked up. A stale one is served while the engine refreshes it.
    #[inline]
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// When the value stops being fresh, in coarse monotonic milliseconds.
    #[inline]
    pub fn fresh_until_ms(&self) -> u64 {
        self.entry.life().fresh_until_ms
    }

    /// When the value stops being served, in coarse monotonic milliseconds.
    #[inline]
    pub fn expires_at_ms(&self) -> u64 {
        self.entry.life().expires_at_ms
    }
}

impl fmt::Debug for Hit {
    /// Sizes and times; neither the key nor the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hit")
            .field("stored_len", &self.entry.stored_len())
            .field("fresh", &self.fresh)
            .field("life", &self.entry.life())
            .finish_non_exhaustive()
    }
}
