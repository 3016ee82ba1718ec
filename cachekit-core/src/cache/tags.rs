//! Invalidating many entries at once, by the epochs that they carry.

use super::Cache;
use crate::codec::Tag;
use crate::error::Error;
use crate::invalidate::tags::{Tags, check};

/// The epochs that a new entry carries. To be read before its value is loaded: what is invalidated meanwhile is then no
/// longer current when it lands.
#[derive(Default)]
pub(super) struct Stamp<'a> {
    pub(super) namespace_epoch: u64,
    pub(super) tags: Vec<Tag<'a>>,
}

impl Cache {
    /// Makes every entry that was stored under `tag` in this namespace a miss, whoever stored it. Nothing that was read,
    /// loaded or written before comes back through this process; others follow within the window that `docs/coherence.md`
    /// states for the store.
    ///
    /// # Errors
    /// [`Error::Tag`], and always [`Error::Backend`]: an invalidation that did not happen must not look like one that did.
    pub async fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<(), Error> {
        self.invalidate_tags(&[tag]).await
    }

    /// As [`Cache::invalidate_tag`], several at once.
    ///
    /// # Errors
    /// As [`Cache::invalidate_tag`]: the first failure, after all were tried.
    pub async fn invalidate_tags<T: AsRef<[u8]>>(&self, tags: &[T]) -> Result<(), Error> {
        self.check_open()?;
        tags.iter().try_for_each(|tag| check(tag.as_ref()))?;
        Err(UNBUILT)
    }

    /// The epochs of `tags` and of the namespace, as they are now.
    pub(super) async fn stamp<'a>(&self, tags: &'a Tags) -> Result<Stamp<'a>, Error> {
        if tags.is_empty() {
            return Ok(Stamp::default());
        }
        tags.check()?;
        Err(UNBUILT)
    }
}

const UNBUILT: Error = Error::Unsupported { operation: "a tag", needs: "keeps epochs, which is not built yet" };
