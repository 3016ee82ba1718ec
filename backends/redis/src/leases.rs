//! Leases, in the family's form: `{key}:lock` holds the token of its holder and ends by itself.
//!
//! They lie among the entries, under names that an entry may have as well. Where entries are listed or removed, a key of
//! such a name counts as a lease if it is as short as a token and has an end.

use cachekit_plugin::{Cx, Key};

use crate::backend::RedisBackend;
use crate::client::Client;
use crate::command;
use crate::error::Trouble;
use crate::node::Access;
use crate::reply;

const SUFFIX: &[u8] = b":lock";
/// The family's tokens have 32 and 36 bytes.
const LONGEST_TOKEN: i64 = 64;

impl RedisBackend {
    pub(crate) async fn take(&self, key: Key<'_>, token: &[u8], hold_ms: u64, cx: &Cx<'_>) -> Result<bool, Trouble> {
        let name = self.lease(key);
        let hold_ms = hold_ms.clamp(1, crate::backend::MAX_LIFE_MS);
        let command = command::set_absent(&name, token, Some(hold_ms));
        reply::done(self.client.ask(&name, &command, Access::Write, cx).await?)
    }

    pub(crate) async fn give_back(&self, key: Key<'_>, token: &[u8], cx: &Cx<'_>) -> Result<bool, Trouble> {
        let name = self.lease(key);
        reply::yes(self.scripts.release.run(&self.client, &name, &[token], cx).await?)
    }

    fn lease(&self, key: Key<'_>) -> Vec<u8> {
        [&self.prefix[..], key.as_bytes(), SUFFIX].concat()
    }
}

/// Removes leases from `keys`.
pub(crate) async fn without_leases(client: &Client, keys: Vec<Vec<u8>>, cx: &Cx<'_>) -> Result<Vec<Vec<u8>>, Trouble> {
    let named: Vec<&[u8]> = keys.iter().map(Vec::as_slice).filter(|key| key.ends_with(SUFFIX)).collect();
    if named.is_empty() {
        return Ok(keys);
    }
    let questions = named
        .iter()
        .flat_map(|key| [(*key, command::of_key("STRLEN", key)), (*key, command::of_key("PTTL", key))])
        .collect();
    let mut answers = client.ask_all(questions, Access::Read, cx).await?.into_iter();
    let mut leases = std::collections::HashSet::new();
    for key in &named {
        let mut number = || reply::number(answers.next().unwrap_or(Err(Trouble::WrongReply))?);
        let (length, left) = (number()?, number()?);
        if length <= LONGEST_TOKEN && left >= 0 {
            leases.insert(key.to_vec());
        }
    }
    Ok(keys.into_iter().filter(|key| !leases.contains(key)).collect())
}
