//! What one write, or one load, may want differently from the rest.

use std::time::Duration;

use crate::error::Error;
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
    /// `None`: the cache's default; zero: no such window.
    pub(crate) stale: Option<Duration>,
    pub(crate) stale_if_error: Option<Duration>,
    /// `None`: as the cache was built.
    pub(crate) behind: Option<bool>,
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

    /// For `window` after its life the value may be served while it is refreshed; zero for not at all, whatever the cache's
    /// default. Only who has a loader is served it: [`Cache::get_or_load_with`](crate::Cache::get_or_load_with) and its kin.
    #[must_use]
    pub const fn with_stale(mut self, window: Duration) -> Self {
        self.stale = Some(window);
        self
    }

    /// For `window` after its life and its stale window the value may be served if its loader fails; zero for not at all.
    #[must_use]
    pub const fn with_stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = Some(window);
        self
    }

    /// Whether this value may be written behind, where the cache [does so](crate::CacheBuilder::write_behind): `false` for one
    /// that has to be in the second tier when the call returns. `true` changes nothing where the cache does not.
    #[must_use]
    pub const fn with_write_behind(mut self, behind: bool) -> Self {
        self.behind = Some(behind);
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
    /// `None`: the cache's. `Some(None)`: none.
    pub(crate) soft_timeout: Option<Option<Duration>>,
    /// `None`: the cache's. `Some(None)`: none.
    pub(crate) negative_ttl: Option<Option<Duration>>,
    pub(crate) early_refresh: Option<f64>,
}

impl SetOptions {
    /// How long what is written lives before its windows; `None`: it does not end.
    pub(crate) fn life(&self, default_ttl: Option<Duration>) -> Result<Option<Duration>, Error> {
        let life = self.ttl.unwrap_or(default_ttl);
        let is_wanted = |window: Option<Duration>| window.is_some_and(|window| !window.is_zero());
        match life {
            Some(Duration::ZERO) => Err(Error::ZeroTtl),
            None if is_wanted(self.stale) || is_wanted(self.stale_if_error) => {
                Err(Error::Freshness { setting: "stale", accepts: "a life that ends, before its window" })
            }
            life => Ok(life),
        }
    }
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

    /// See [`SetOptions::with_stale`].
    #[must_use]
    pub fn with_stale(mut self, window: Duration) -> Self {
        self.set = self.set.with_stale(window);
        self
    }

    /// See [`SetOptions::with_stale_if_error`].
    #[must_use]
    pub fn with_stale_if_error(mut self, window: Duration) -> Self {
        self.set = self.set.with_stale_if_error(window);
        self
    }

    /// See [`SetOptions::with_tag`].
    #[must_use]
    pub fn with_tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.set = self.set.with_tag(tag);
        self
    }

    /// A caller that could have a value past its time waits no longer than this for the store and the loader, which then goes
    /// on in the background. Without such a value it waits on.
    #[must_use]
    pub const fn with_soft_timeout(mut self, timeout: Duration) -> Self {
        self.soft_timeout = Some(Some(timeout));
        self
    }

    /// Callers wait for the loader, however slow it is.
    #[must_use]
    pub const fn without_soft_timeout(mut self) -> Self {
        self.soft_timeout = Some(None);
        self
    }

    /// The loader may take as long as it likes.
    #[must_use]
    pub const fn without_hard_timeout(mut self) -> Self {
        self.hard_timeout = Some(None);
        self
    }

    /// How long it is remembered that the loader found nothing.
    #[must_use]
    pub const fn with_negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(Some(ttl));
        self
    }

    /// That the loader found nothing is not remembered: it runs each time.
    #[must_use]
    pub const fn without_negative_ttl(mut self) -> Self {
        self.negative_ttl = Some(None);
        self
    }

    /// How eagerly this call refreshes a value before its end, weighed by what its load costs: XFetch's β, of which 1 is the
    /// optimum. Above 0, at most 100.
    #[must_use]
    pub const fn with_early_refresh(mut self, beta: f64) -> Self {
        self.early_refresh = Some(beta);
        self
    }

    /// What cannot work whatever the key, in a cache with that life. Every load asks before anything runs: a value that cannot be
    /// stored is a load for nothing.
    pub(crate) fn check(&self, default_ttl: Option<Duration>) -> Result<(), Error> {
        self.set.life(default_ttl)?;
        self.set.tags.check()?;
        if let Some(Some(locks)) = &self.fill_locks {
            locks.check().map_err(Error::FillLocks)?;
        }
        crate::fresh::check_eagerness(self.early_refresh)?;
        let zero = Some(Duration::ZERO);
        for (setting, value) in [
            ("soft_timeout", self.soft_timeout.flatten()),
            ("hard_timeout", self.hard_timeout.flatten()),
            ("negative_ttl", self.negative_ttl.flatten()),
        ] {
            if value == zero {
                return Err(Error::Freshness { setting, accepts: "more than zero; leave it out for none" });
            }
        }
        Ok(())
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
