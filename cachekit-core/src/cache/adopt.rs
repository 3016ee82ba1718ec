//! Entries that come from another store, for tools that copy.
//!
//! Where entries carry the epoch of their namespace, one that was written for a store without epochs carries none: nobody
//! would take it for in force. It is written anew with the epoch that counts here, checked first, so that damaged or foreign
//! bytes are not blessed by it. An entry that carries an epoch already goes as it is, beside the epoch itself.

use bytes::Bytes;

use super::Cache;
use crate::codec::{Envelope, RetimeError};
use crate::error::Error;
use crate::invalidate::tags::Tags;
use crate::key::{PREFIX, RESERVED};

impl Cache {
    /// The entry `stored` of another store as this cache's store must have it: what it becomes, or as it is where that is
    /// right. Its namespace is the one that its wire key names.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no entry of that key that could be served now, among them sealed ones whose key this
    /// cache does not have; [`Error::Backend`] if the store does not tell the epoch.
    pub async fn adopted(&self, wire_key: &[u8], stored: &Bytes) -> Result<Bytes, Error> {
        self.check_open()?;
        let namespace = wire_key.strip_prefix(PREFIX).filter(|_| !wire_key.starts_with(RESERVED));
        let name = namespace.and_then(|rest| rest.split(|byte| *byte == b':').next());
        let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) else { return Ok(stored.clone()) };
        // One that has an epoch keeps it: it may be over where it comes from, and must not come back to life here.
        let has_one = |entry: Envelope| entry.meta().namespace_epoch != 0;
        if !self.near.settings.namespace_epochs || Envelope::parse(stored).is_ok_and(has_one) {
            return Ok(stored.clone());
        }
        let tags = Tags::default();
        let stamp = self.namespace(name)?.stamp(&tags).await?.namespace_epoch;
        let now_ms = self.engine.clock.unix_ms();
        match self.engine.codec.restamp(stored, wire_key, now_ms, stamp) {
            Ok(stored) => Ok(stored),
            Err(RetimeError::Refused(refusal)) => Err(refusal.into()),
            Err(RetimeError::Encode(error)) => Err(error.into()),
        }
    }
}
