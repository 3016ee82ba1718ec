//! Leases: an entry that is added only where none is, and removed only by the write it was made with.
//!
//! `add` is atomic on its server, so one contender gets it. Giving back compares the token and removes by the number of that
//! very write, so a holder that comes late cannot end the lease of the next. The hold is the entry's life, rounded up.
//!
//! What a memcached lease is not: durable. A server that restarts, evicts under memory pressure or is declared dead by one
//! of two clients forgets it, and then there are two holders. It keeps a herd from computing the same value; what must
//! exclude for certain is written with `cas`, as the contract says of every lease.

use bytes::Bytes;
use cachekit_plugin::{Cx, Key, Ttl};

use crate::client::Client;
use crate::command::{Command, When};
use crate::error::Failure;
use crate::reply::Reply;

impl Client {
    /// Takes the lease of `key`; `false` if another holds it.
    pub(crate) async fn lock(&self, key: Key<'_>, token: &[u8], hold_ms: u64, cx: &Cx<'_>) -> Result<bool, Failure> {
        self.check_value(token.len())?;
        // A month of holding is for ever; zero is no hold, and the shortest one is meant.
        let hold = Ttl::from_ms(hold_ms.max(1)).unwrap_or(Ttl::Never);
        let command = Command::set(self.lease(key)?, Bytes::copy_from_slice(token), hold, When::Absent)?;
        Ok(self.ask(command, cx).await?.is_yes())
    }

    /// Gives the lease of `key` back; `false` if it is not held under `token`.
    pub(crate) async fn unlock(&self, key: Key<'_>, token: &[u8], cx: &Cx<'_>) -> Result<bool, Failure> {
        let lease = self.lease(key)?;
        let (reply, seen) = self.ask_known(&lease, cx, |_| Command::get_version(lease.clone()).map(Some)).await?;
        let Some(Reply { value: Some(held), cas: Some(cas), .. }) = reply else { return Ok(false) };
        if held != token {
            return Ok(false);
        }
        let delete = |now: &crate::greeting::Greeting| match now.era == seen.era {
            true => Command::delete(lease.clone(), When::Unchanged(cas)).map(Some),
            false => Ok(None),
        };
        Ok(self.ask_known(&lease, cx, delete).await?.0.is_some_and(|reply| reply.is_yes()))
    }
}
