//! What one write may want differently from the rest.

use std::time::Duration;

/// Options of one write. The default is what the cache was built with.
///
/// ```
/// use std::time::Duration;
/// use cachekit_core::cache::SetOptions;
///
/// let for_a_minute = SetOptions::default().with_ttl(Duration::from_secs(60));
/// let for_good = SetOptions::default().without_expiry();
/// # let _ = (for_a_minute, for_good);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// `None`: the cache's default. `Some(None)`: no expiry.
    pub(crate) ttl: Option<Option<Duration>>,
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
}
