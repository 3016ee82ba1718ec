//! What one write may want differently from the rest.

use std::time::Duration;

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
