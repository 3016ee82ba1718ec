//! Writes that happen only if nobody else wrote in between, by the server's own numbers of writes.
//!
//! The number alone is not enough: a server that restarts counts from one again, and then an old number can mean a new write.
//! So a version is the number together with the era of the process that gave it (see `greeting`), and a condition from
//! another era cannot hold: what was seen then is gone.

use bytes::Bytes;
use cachekit_plugin::{Cx, Key, Ttl, Version};
use memcache::exp::ReturnCode;

use crate::client::{Client, exchange};
use crate::command::{Command, When};
use crate::error::Failure;
use crate::greeting::Greeting;
use crate::inbox::Outcome;
use crate::keys::WireKey;
use crate::reply::Reply;

fn version(greeting: &Greeting, cas: u64) -> Version {
    Version(u128::from(greeting.era) << 64 | u128::from(cas))
}

impl Client {
    /// The value of an entry with its version.
    pub(crate) async fn get_version(&self, key: Key<'_>, cx: &Cx<'_>) -> Result<Option<(Bytes, Version)>, Failure> {
        let key = self.entry(key)?;
        let (reply, greeting) = self.ask_known(&key, cx, |_| Command::get_version(key.clone()).map(Some)).await?;
        Ok(match reply {
            Some(Reply { value: Some(value), cas: Some(cas), .. }) => Some((value, version(&greeting, cas))),
            Some(reply) if !reply.is_yes() => None,
            _ => return Err(Failure::Unexpected),
        })
    }

    /// Stores if the entry still has the version that was seen.
    pub(crate) async fn set_if(
        &self,
        key: Key<'_>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &Cx<'_>,
    ) -> Result<bool, Failure> {
        self.check_value(value.len())?;
        let key = self.entry(key)?;
        let Some(Version(expect)) = expect else {
            return Ok(self.ask(Command::set(key, value, ttl, When::Absent)?, cx).await?.is_yes());
        };
        let (era, cas) = ((expect >> 64) as u64, expect as u64);
        let command = |greeting: &Greeting| match greeting.era == era {
            true => Command::set(key.clone(), value.clone(), ttl, When::Unchanged(cas)).map(Some),
            false => Ok(None),
        };
        match self.ask_known(&key, cx, command).await?.0 {
            Some(reply) => Ok(reply.code == ReturnCode::Hd),
            None => Ok(false),
        }
    }

    /// The answer to a request that depends on which process answers. `None` if it was not worth asking.
    ///
    /// Never repeated: the process may be another one by then, and a condition that held once need not hold again.
    pub(crate) async fn ask_known<'k>(
        &self,
        key: &WireKey<'_>,
        cx: &Cx<'_>,
        command: impl FnOnce(&Greeting) -> Result<Option<Command<'k>>, Failure>,
    ) -> Result<(Option<Reply>, std::sync::Arc<Greeting>), Failure> {
        if cx.deadline.has_passed() {
            return Err(Failure::Late);
        }
        let (server, connection, greeting) = self.open_connection(key, cx).await?;
        let Some(command) = command(&greeting)? else { return Ok((None, greeting)) };
        let outcome = exchange(server, &connection, &[command], cx.deadline).await?.pop();
        Ok((Some(outcome.unwrap_or(Outcome::Late).into_reply()?), greeting))
    }
}
