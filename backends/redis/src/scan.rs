//! Enumeration and removal of what begins with a prefix, server by server.

use cachekit_plugin::{Bytes, Cx, Page};
use redis::Value;

use crate::backend::RedisBackend;
use crate::client::Server;
use crate::command;
use crate::error::Trouble;
use crate::leases::without_leases;
use crate::node::Access;
use crate::reply;

/// Keys that the server looks at in one step: more would hold up its other clients.
const STEP: usize = 1_000;
/// Steps of one page: a prefix that few keys have leaves most steps empty.
const STEPS: usize = 16;

/// Where the next page starts: a server by its name, its cursor, and what was listed already but did not fit. A server
/// lists as many keys at once as it likes, and what it has listed it does not list again.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cursor {
    cursor: u64,
    server: String,
    rest: Vec<Vec<u8>>,
}

const FORM: u8 = 1;

impl Cursor {
    fn write(&self) -> Bytes {
        let mut out = vec![FORM];
        out.extend_from_slice(&self.cursor.to_le_bytes());
        let parts = std::iter::once(self.server.as_bytes()).chain(self.rest.iter().map(Vec::as_slice));
        for part in parts {
            // Names and keys are far shorter than 4 GiB.
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
        out.into()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[FORM])?;
        let (cursor, mut rest) = rest.split_first_chunk::<8>()?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let (len, tail) = rest.split_first_chunk::<4>()?;
            let (part, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            parts.push(part.to_vec());
            rest = tail;
        }
        let mut parts = parts.into_iter();
        let server = String::from_utf8(parts.next()?).ok()?;
        Some(Self { cursor: u64::from_le_bytes(*cursor), server, rest: parts.collect() })
    }
}

impl RedisBackend {
    /// A page of at most `max` keys that begin with `prefix`.
    pub(crate) async fn page(
        &self,
        prefix: &[u8],
        cursor: Option<&[u8]>,
        max: usize,
        cx: &Cx<'_>,
    ) -> Result<Page, Trouble> {
        let mut at = match cursor {
            None => Cursor::default(),
            Some(bytes) => {
                Cursor::read(bytes).ok_or_else(|| Trouble::Refused("the cursor is none of this backend".into()))?
            }
        };
        let max = max.max(1);
        let mut items = std::mem::take(&mut at.rest);
        let mut is_over;
        if items.is_empty() {
            let whole = [&self.prefix[..], prefix].concat();
            let mut servers = self.client.servers(&at.server, cx).await?.into_iter().peekable();
            is_over = servers.peek().is_none();
            for _ in 0..STEPS {
                let Some((name, server)) = servers.peek() else { break };
                // A server that is gone cannot go on; the next one begins at its beginning.
                let from = if *name == at.server { at.cursor } else { 0 };
                let (next, keys) = self.step(server, from, &whole, max.clamp(16, STEP), cx).await?;
                let keys = without_leases(&self.client, keys, cx).await?;
                items.extend(keys.into_iter().map(|key| key[self.prefix.len()..].to_vec()));
                at = Cursor { cursor: next, server: name.clone(), rest: Vec::new() };
                if next == 0 {
                    servers.next();
                    match servers.peek() {
                        Some((name, _)) => at = Cursor { cursor: 0, server: name.clone(), rest: Vec::new() },
                        None => is_over = true,
                    }
                }
                if is_over || !items.is_empty() {
                    break;
                }
            }
        } else {
            // What follows the last key that did not fit: a cursor of 0 on the last server was noted as such.
            is_over = at.server.is_empty() && at.cursor == u64::MAX;
        }
        at.rest = items.split_off(items.len().min(max));
        let next = if is_over && at.rest.is_empty() {
            None
        } else {
            if is_over {
                (at.server, at.cursor) = (String::new(), u64::MAX);
            }
            Some(at.write())
        };
        Ok(Page { items: items.into_iter().map(Bytes::from).collect(), next })
    }

    /// Removes what begins with `prefix`; how many that were.
    pub(crate) async fn remove_all(&self, prefix: &[u8], cx: &Cx<'_>) -> Result<u64, Trouble> {
        let whole = [&self.prefix[..], prefix].concat();
        let mut removed = 0;
        for (_, server) in self.client.servers("", cx).await? {
            let mut cursor = 0;
            loop {
                let (next, keys) = self.step(&server, cursor, &whole, STEP, cx).await?;
                let keys = without_leases(&self.client, keys, cx).await?;
                removed += self.remove(&keys, cx).await?;
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(removed)
    }

    async fn remove(&self, keys: &[Vec<u8>], cx: &Cx<'_>) -> Result<u64, Trouble> {
        if keys.is_empty() {
            return Ok(0);
        }
        let count = |reply| reply::number(reply).map(|count| u64::try_from(count).unwrap_or(0));
        if self.client.takes_many() {
            let command = command::of_keys("UNLINK", keys);
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            return count(self.client.ask_of(&keys, &command, Access::Write, cx).await?);
        }
        let commands = keys.iter().map(|key| (key.as_slice(), command::of_key("UNLINK", key))).collect();
        let mut removed = 0;
        for reply in self.client.ask_all(commands, Access::Write, cx).await? {
            removed += count(reply?)?;
        }
        Ok(removed)
    }

    /// One step of an enumeration on one server: the next cursor and the keys that begin with `whole`.
    async fn step(
        &self,
        server: &Server<'_>,
        cursor: u64,
        whole: &[u8],
        count: usize,
        cx: &Cx<'_>,
    ) -> Result<(u64, Vec<Vec<u8>>), Trouble> {
        let pattern = command::pattern(whole);
        let ask = async |only_strings| {
            server.ask(&command::scan(cursor, &pattern, count, only_strings), Access::Read, cx).await
        };
        let answer = match ask(true).await {
            // Servers before 6.0 cannot leave out what is not a string.
            Err(Trouble::Server(error)) if error.details().is_some_and(|text| text.contains("syntax error")) => {
                ask(false).await?
            }
            answer => answer?,
        };
        let [next, keys] = <[Value; 2]>::try_from(reply::list(answer)?).map_err(|_| Trouble::WrongReply)?;
        let next = reply::text(next)?.parse().map_err(|_| Trouble::WrongReply)?;
        let mut found = Vec::new();
        for key in reply::list(keys)? {
            match key {
                // The server matched the pattern; this makes sure of it, because what follows may remove the key.
                Value::BulkString(key) if key.starts_with(whole) => found.push(key),
                _ => return Err(Trouble::WrongReply),
            }
        }
        Ok((next, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_hostile_bytes_are_none() {
        for cursor in [
            Cursor::default(),
            Cursor { cursor: 7, server: "h:1".into(), rest: Vec::new() },
            Cursor { cursor: u64::MAX, server: "h:1".into(), rest: vec![b"a".to_vec(), Vec::new(), vec![0; 300]] },
        ] {
            let bytes = cursor.write();
            assert_eq!(Cursor::read(&bytes), Some(cursor));
            for len in 0..bytes.len() {
                // A shorter one may read as one with fewer keys, but never beyond its end.
                let _ = Cursor::read(&bytes[..len]);
            }
        }
        for bytes in [&b""[..], b"\x01", b"\x02\0\0\0\0\0\0\0\0\0\0\0\0", b"\x01\0\0\0\0\0\0\0\0\xff\xff\xff\xffx"] {
            assert_eq!(Cursor::read(bytes), None);
        }
    }
}
