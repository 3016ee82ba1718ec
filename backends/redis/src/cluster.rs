//! A cluster: which server serves which slot, learnt from the cluster and corrected by it.
//!
//! Every key belongs to one of 16384 slots. A server that is asked for a slot it does not serve answers with the one that
//! does; a request that was answered so was not carried out, and goes there. The whole table is read again when that
//! happens, when a server is out of reach, and before the first request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cachekit_plugin::Cx;
use redis::{Cmd, Pipeline, ServerErrorKind, Value, cmd};
use tokio::sync::{Mutex, MutexGuard};

use crate::endpoint::Manner;
use crate::error::Trouble;
use crate::node::{Access, Direct, Node};
use crate::reactor;
use crate::reply;
use crate::url::Address;

const SLOTS: usize = 16_384;
/// How often a request is sent on. Two are usual while a slot moves; a ring of servers that blame each other ends here.
const MAX_HOPS: usize = 5;
/// Servers that one table may name.
const MAX_NODES: usize = 1_024;
/// The table is not read more often than this.
const MIN_TABLE_AGE: Duration = Duration::from_millis(100);

/// A cluster.
pub(crate) struct Cluster {
    manner: Arc<Manner>,
    seeds: Vec<Address>,
    connections: usize,
    table: RwLock<Arc<Table>>,
    is_stale: AtomicBool,
    /// Held while the table is read.
    reading: Mutex<Reading>,
}

/// How the table was read last.
#[derive(Default)]
struct Reading {
    ended_at: Option<Instant>,
    failed: Option<Trouble>,
    /// Who answered: asked first the next time.
    from: Option<Address>,
}

#[derive(Clone)]
struct Table {
    /// Index into `nodes`, or `NOBODY`.
    slots: Box<[u16]>,
    nodes: Vec<(Address, Arc<Node>)>,
}

const NOBODY: u16 = u16::MAX;

impl Cluster {
    pub(crate) fn new(manner: Arc<Manner>, seeds: Vec<Address>, connections: usize) -> Self {
        let table = Table { slots: vec![NOBODY; SLOTS].into(), nodes: Vec::new() };
        Self {
            manner,
            seeds,
            connections,
            table: RwLock::new(Arc::new(table)),
            is_stale: AtomicBool::new(true),
            reading: Mutex::new(Reading::default()),
        }
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the server of `key`, and whichever it names instead.
    pub(crate) async fn ask(&self, key: &[u8], command: &Cmd, access: Access, cx: &Cx<'_>) -> Result<Value, Trouble> {
        let slot = slot(key);
        let mut node = self.owner(slot, cx).await?;
        let mut asking = false;
        for _ in 0..=MAX_HOPS {
            let answer = if asking {
                let mut both = Pipeline::with_capacity(2);
                both.add_command(cmd("ASKING")).add_command(command.clone());
                node.ask_all(&[key], &both, access, cx).await.and_then(|mut replies| match replies.pop() {
                    Some(Value::ServerError(error)) => Err(Trouble::Server(error)),
                    Some(reply) => Ok(reply),
                    None => Err(Trouble::WrongReply),
                })
            } else {
                node.ask(&[key], command, access, cx).await
            };
            let trouble = match answer {
                Ok(reply) => return Ok(reply),
                Err(trouble) => trouble,
            };
            (node, asking) = match self.instead(slot, &node, &trouble, cx).await? {
                Some(next) => next,
                None => return Err(trouble),
            };
        }
        Err(Trouble::NoOwner)
    }

    /// Asks several keys' servers, all at once, each with its commands in their order. One reply for each command, or
    /// one trouble.
    pub(crate) async fn ask_all(
        &self,
        keyed: Vec<(&[u8], Cmd)>,
        access: Access,
        cx: &Cx<'_>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let mut replies: Vec<Option<Result<Value, Trouble>>> = Vec::new();
        replies.resize_with(keyed.len(), || None);
        let mut groups: Vec<(Arc<Node>, Vec<usize>)> = Vec::new();
        for (at, (key, _)) in keyed.iter().enumerate() {
            match self.owner(slot(key), cx).await {
                Ok(node) => match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &node)) {
                    Some((_, places)) => places.push(at),
                    None => groups.push((node, vec![at])),
                },
                Err(trouble) => replies[at] = Some(Err(trouble)),
            }
        }
        let pipelines = groups.iter().map(|(node, places)| {
            let mut pipeline = Pipeline::with_capacity(places.len());
            for at in places {
                pipeline.add_command(keyed[*at].1.clone());
            }
            let keys: Vec<&[u8]> = places.iter().map(|at| keyed[*at].0).collect();
            async move { node.ask_all(&keys, &pipeline, access, cx).await }
        });
        let answered = futures_util::future::join_all(pipelines).await;
        for ((_, places), answer) in groups.iter().zip(answered) {
            match answer {
                Ok(values) => {
                    for (at, value) in places.iter().zip(values) {
                        replies[*at] = Some(match value {
                            Value::ServerError(error) => Err(Trouble::Server(error)),
                            value => Ok(value),
                        });
                    }
                }
                Err(trouble) => places.iter().for_each(|at| replies[*at] = Some(Err(trouble.clone()))),
            }
        }
        // What was sent on or never sent goes its own way, in order: of two writes of a key the last one stays last.
        for ((key, command), reply) in keyed.iter().zip(&mut replies) {
            let again = match reply {
                Some(Err(trouble)) => {
                    trouble.was_not_sent()
                        || matches!(trouble.server(), Some(ServerErrorKind::Moved | ServerErrorKind::Ask))
                }
                _ => false,
            };
            if again {
                *reply = Some(self.ask(key, command, access, cx).await);
            }
        }
        Ok(replies.into_iter().map(|reply| reply.unwrap_or(Err(Trouble::WrongReply))).collect())
    }

    /// Where to go instead after `trouble`, and whether to ask for leave there.
    async fn instead(
        &self,
        slot: u16,
        node: &Arc<Node>,
        trouble: &Trouble,
        cx: &Cx<'_>,
    ) -> Result<Option<(Arc<Node>, bool)>, Trouble> {
        if let Trouble::Server(error) = trouble {
            let target = || {
                let (_, address) = error.details()?.split_once(' ')?;
                let (host, port) = address.trim().rsplit_once(':')?;
                let port = port.parse().ok()?;
                // An empty host means the one that was asked; that one is in the table under its own address.
                (!host.is_empty()).then(|| Address::Tcp { host: host.into(), port })
            };
            return Ok(match error.kind() {
                Some(ServerErrorKind::Moved) => {
                    self.is_stale.store(true, Ordering::Release);
                    match target() {
                        Some(address) => Some((self.learn(slot, address)?, false)),
                        None => {
                            self.reread(cx).await.ok().and_then(|table| table.owner(slot)).map(|node| (node, false))
                        }
                    }
                }
                Some(ServerErrorKind::Ask) => match target() {
                    Some(address) => Some((self.node(address)?, true)),
                    None => None,
                },
                Some(ServerErrorKind::ClusterDown | ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
                    self.is_stale.store(true, Ordering::Release);
                    None
                }
                _ => None,
            });
        }
        if !trouble.was_not_sent() {
            return Ok(None);
        }
        self.is_stale.store(true, Ordering::Release);
        // Somebody else may serve the slot by now.
        let owner = self.reread(cx).await?.owner(slot);
        Ok(owner.filter(|owner| !Arc::ptr_eq(owner, node)).map(|owner| (owner, false)))
    }

    /// The server of a slot.
    async fn owner(&self, slot: u16, cx: &Cx<'_>) -> Result<Arc<Node>, Trouble> {
        let table = self.table();
        let known = table.owner(slot);
        if !self.is_stale.load(Ordering::Acquire)
            && let Some(owner) = known
        {
            return Ok(owner);
        }
        // Who knows an owner does not wait for another who reads: the owner says itself if it is the wrong one.
        let read = match (&known, self.reading.try_lock()) {
            (_, Ok(reading)) => Box::pin(self.read(reading, cx)).await,
            (Some(_), Err(_)) => Ok(table),
            (None, Err(_)) => Box::pin(self.reread(cx)).await,
        };
        match (read, known) {
            (Ok(table), _) => table.owner(slot).ok_or_else(|| {
                self.is_stale.store(true, Ordering::Release);
                Trouble::NoOwner
            }),
            // A table that cannot be read anew may still be right.
            (Err(_), Some(owner)) => Ok(owner),
            (Err(trouble), None) => Err(trouble),
        }
    }

    /// Notes that `address` serves `slot`.
    fn learn(&self, slot: u16, address: Address) -> Result<Arc<Node>, Trouble> {
        let mut current = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&current);
        let at = table.place(address, self)?;
        if let Some(place) = table.slots.get_mut(usize::from(slot)) {
            *place = at;
        }
        let node = Arc::clone(&table.nodes[usize::from(at)].1);
        *current = Arc::new(table);
        Ok(node)
    }

    fn node(&self, address: Address) -> Result<Arc<Node>, Trouble> {
        if let Some((_, node)) = self.table().nodes.iter().find(|(known, _)| *known == address) {
            return Ok(Arc::clone(node));
        }
        let mut current = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&current);
        let at = table.place(address, self)?;
        let node = Arc::clone(&table.nodes[usize::from(at)].1);
        *current = Arc::new(table);
        Ok(node)
    }

    fn connect(&self, address: &Address) -> Arc<Node> {
        let dial = Direct { manner: Arc::clone(&self.manner), address: address.clone() };
        Arc::new(Node::new(Arc::new(dial), self.connections))
    }

    /// Reads the table, unless somebody did so just now.
    async fn reread(&self, cx: &Cx<'_>) -> Result<Arc<Table>, Trouble> {
        let reading = match cx.deadline.remaining() {
            None => self.reading.lock().await,
            Some(left) => reactor::timeout(left, self.reading.lock())?.await.map_err(|_| Trouble::Late)?,
        };
        self.read(reading, cx).await
    }

    async fn read(&self, mut reading: MutexGuard<'_, Reading>, cx: &Cx<'_>) -> Result<Arc<Table>, Trouble> {
        if reading.ended_at.is_some_and(|at| at.elapsed() < MIN_TABLE_AGE) {
            return reading.failed.clone().map_or_else(|| Ok(self.table()), Err);
        }
        let table = self.table();
        let known = table.nodes.iter().map(|(address, _)| address);
        let mut candidates: Vec<Address> = reading.from.iter().chain(known).chain(&self.seeds).cloned().collect();
        let mut seen = std::collections::HashSet::new();
        candidates.retain(|address| seen.insert(address.clone()));
        // A server that is away must not use up the time of those that are there.
        let share = |left: Duration| (left / 2).min(self.manner.connect_timeout).max(Duration::from_millis(1));
        let mut last = Trouble::NoOwner;
        for address in candidates {
            let left = cx.deadline.remaining().unwrap_or(self.manner.connect_timeout * 2);
            if left.is_zero() {
                last = Trouble::Late;
                break;
            }
            let node = match table.nodes.iter().find(|(known, _)| *known == address) {
                Some((_, node)) => Arc::clone(node),
                None => self.connect(&address),
            };
            let mut question = cmd("CLUSTER");
            question.arg("SLOTS");
            let answer = node.ask(&[], &question, Access::Read, &Cx::within(share(left))).await;
            match answer.and_then(|answer| self.read_table(answer, &address, &node)) {
                Ok(table) => {
                    let table = Arc::new(table);
                    *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&table);
                    self.is_stale.store(false, Ordering::Release);
                    *reading = Reading { ended_at: Some(Instant::now()), failed: None, from: Some(address) };
                    return Ok(table);
                }
                Err(trouble) => last = trouble,
            }
        }
        // Its own lateness is the caller's and says nothing to the next one.
        if !matches!(last, Trouble::Late) {
            (reading.ended_at, reading.failed) = (Some(Instant::now()), Some(last.clone()));
        }
        Err(last)
    }

    /// A table from the answer of the server at `asked`. Servers that are known keep their connections.
    fn read_table(&self, answer: Value, asked: &Address, node: &Arc<Node>) -> Result<Table, Trouble> {
        let mut known: HashMap<Address, Arc<Node>> = self.table().nodes.iter().cloned().collect();
        known.insert(asked.clone(), Arc::clone(node));
        let mut table = Table { slots: vec![NOBODY; SLOTS].into(), nodes: Vec::new() };
        for range in reply::list(answer)? {
            let mut range = reply::list(range)?.into_iter();
            let mut bound = || {
                let bound = reply::number(range.next().ok_or(Trouble::WrongReply)?)?;
                usize::try_from(bound).ok().filter(|bound| *bound < SLOTS).ok_or(Trouble::WrongReply)
            };
            let (first, last) = (bound()?, bound()?);
            let mut primary = reply::list(range.next().ok_or(Trouble::WrongReply)?)?.into_iter();
            let host = match primary.next() {
                Some(Value::Nil) | None => String::new(),
                Some(host) => reply::text(host)?,
            };
            let port = reply::number(primary.next().ok_or(Trouble::WrongReply)?)?;
            let host = match (host.is_empty(), asked) {
                (true, Address::Tcp { host, .. }) => host.clone(),
                _ => host,
            };
            let port = u16::try_from(port).map_err(|_| Trouble::WrongReply)?;
            let address = Address::Tcp { host, port };
            let at = match table.nodes.iter().position(|(there, _)| *there == address) {
                Some(at) => at,
                None if table.nodes.len() >= MAX_NODES => return Err(Trouble::WrongReply),
                None => {
                    let node = known.get(&address).cloned().unwrap_or_else(|| self.connect(&address));
                    table.nodes.push((address, node));
                    table.nodes.len() - 1
                }
            };
            let at = u16::try_from(at).map_err(|_| Trouble::WrongReply)?;
            table.slots.get_mut(first..=last).ok_or(Trouble::WrongReply)?.fill(at);
        }
        if table.nodes.is_empty() {
            return Err(Trouble::NoOwner);
        }
        Ok(table)
    }

    /// All servers that serve slots, in an order that stays while the cluster does.
    pub(crate) async fn primaries(&self, cx: &Cx<'_>) -> Result<Vec<(Address, Arc<Node>)>, Trouble> {
        if self.is_stale.load(Ordering::Acquire) {
            self.reread(cx).await?;
        }
        let table = self.table();
        let mut serving: Vec<_> = table
            .nodes
            .iter()
            .enumerate()
            .filter(|(at, _)| table.slots.iter().any(|slot| usize::from(*slot) == *at))
            .map(|(_, node)| node.clone())
            .collect();
        serving.sort_by_key(|(address, _)| address.to_string());
        Ok(serving)
    }

    pub(crate) fn close(&self) {
        self.table().nodes.iter().for_each(|(_, node)| node.close());
        self.is_stale.store(true, Ordering::Release);
    }
}

impl Table {
    fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        let at = *self.slots.get(usize::from(slot))?;
        self.nodes.get(usize::from(at)).map(|(_, node)| Arc::clone(node))
    }

    /// The index of the server at `address`, which joins the table if it is new.
    fn place(&mut self, address: Address, cluster: &Cluster) -> Result<u16, Trouble> {
        let at = match self.nodes.iter().position(|(known, _)| *known == address) {
            Some(at) => at,
            None if self.nodes.len() >= MAX_NODES => return Err(Trouble::WrongReply),
            None => {
                let node = cluster.connect(&address);
                self.nodes.push((address, node));
                self.nodes.len() - 1
            }
        };
        u16::try_from(at).map_err(|_| Trouble::WrongReply)
    }
}

/// The slot of a key: CRC-16 (XMODEM) of it, or of what stands in its first `{…}` if that is not empty.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tagged.unwrap_or(key)) % SLOTS as u16
}

const CRC_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ CRC_TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // The check value of CRC-16/XMODEM, and slots as a server gives them (CLUSTER KEYSLOT).
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, expected) in [
            (&b"foo"[..], 12182),
            (b"bar", 5061),
            (b"{user1000}.following", 3443),
            (b"{user1000}.followers", 3443),
            (b"foo{}{bar}", 8363),
            (b"foo{{bar}}zap", 4015),
            (b"foo{bar}{zap}", 5061),
            (b"", 0),
        ] {
            assert_eq!(slot(key), expected, "{:?}", String::from_utf8_lossy(key));
        }
    }
}
