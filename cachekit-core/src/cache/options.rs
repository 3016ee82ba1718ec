//! What one write, or one load, may want differently from the rest.

use std::time::Duration;

use crate::guard::fill_lock::FillLocks;
use crate::invalidate::tags::Tags;

/// Options of one write. The default is what the cache was built with.
///
/// ```
/// use std::time::Duration;
/// use cachekit_core::cache::SetOptions;
///
/// let for_a_minute = SetOptions::default().with_ttl(Duration::from_secs(60)).with_tag("team:7");
/// let for_good = SetOptions::default().without_expiry();
/// # let _ = (for_a_minute, for_good);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// `None`: the cache's default. `Some(None)`: no expiry.
    pub(crate) ttl: Option<Option<Duration>>,
    /// What the entry is filed under.
    pub(crate) tags: Tags,
}

impl SetOptions {
    /// The entry lives for `ttl`, rounded up to milliseconds. Zero is refused by the write.
    #[must_use]
    pub const fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(Some(ttl));
        self
    }

    /// The entry never expires.
    #[must_use]
    pub const fn without_expiry(mut self) -> Self {
        self.ttl = Some(None);
        self
    }

    /// Files the entry under `tag` as well: [`Cache::invalidate_tag`](crate::Cache::invalidate_tag) makes it a miss. Up to
    /// [`MAX_TAGS`](crate::cache::MAX_TAGS) tags of up to [`MAX_TAG_BYTES`](crate::cache::MAX_TAG_BYTES); what does not fit
    /// is refused by the write.
    #[must_use]
    pub fn with_tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.tags.add(tag.as_ref());
        self
    }

    /// As [`Self::with_tag`], several at once.
    #[must_use]
    pub fn with_tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        tags.into_iter().for_each(|tag| self.tags.add(tag.as_ref()));
        self
    }
}

/// Options of one load: how its value is stored, and how its loader is treated. The default is what the cache was built
/// with.
///
/// ```
/// use std::time::Duration;
/// use cachekit_core::cache::LoadOptions;
///
/// let patient = LoadOptions::default().with_ttl(Duration::from_secs(60)).with_hard_timeout(Duration::from_secs(20));
/// # let _ = patient;
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadOptions {
    pub(crate) set: SetOptions,
    /// `None`: the cache's. `Some(None)`: none.
    pub(crate) hard_timeout: Option<Option<Duration>>,
    /// `None`: the cache's. `Some(None)`: none.
    pub(crate) fill_locks: Option<Option<FillLocks>>,
}

impl LoadOptions {
    /// How the loaded value is stored.
    #[must_use]
    pub fn with_set(mut self, options: SetOptions) -> Self {
        self.set = options;
        self
    }

    /// The loaded value lives for `ttl`. See [`SetOptions::with_ttl`].
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.set = self.set.with_ttl(ttl);
        self
    }

    /// A loader that takes longer than this is dropped, and its callers get
    /// [`LoadError::Timeout`](crate::LoadError::Timeout).
    #[must_use]
    pub fn with_hard_timeout(mut self, timeout: Duration) -> Self {
        self.hard_timeout = Some(Some(timeout));
        self
    }

    /// How this load agrees with other processes on who runs it. Its hold is that of the hard timeout, if there is one.
    #[must_use]
    pub const fn with_fill_locks(mut self, locks: FillLocks) -> Self {
        self.fill_locks = Some(Some(locks));
        self
    }

    /// This load is agreed on with nobody, and its value stored whatever other processes wrote meanwhile.
    #[must_use]
    pub const fn without_fill_locks(mut self) -> Self {
        self.fill_locks = Some(None);
        self
    }
}

impl From<SetOptions> for LoadOptions {
    fn from(set: SetOptions) -> Self {
        Self { set, ..Self::default() }
    }
}
