//! The store, whatever its shape: asks the right server for a key.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use cachekit_plugin::Cx;
use futures_util::StreamExt;
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisResult, Value};

use crate::cluster::{Cluster, slot};
use crate::error::Trouble;
use crate::node::{Access, Node};
use crate::reactor;
use crate::url::Address;

/// Exchanges at the same time on a connection of the caller's.
const SLOTS_AT_ONCE: usize = 32;

/// The store.
pub(crate) enum Client {
    /// One server, or the one that sentinels name.
    Node(Node),
    Cluster(Cluster),
    /// A connection that the caller brought along.
    Given(Given),
}

/// Somebody else's connection.
pub(crate) struct Given {
    connection: Box<dyn Carry>,
    /// Whether all keys are on one server, so that they can be listed.
    pub(crate) is_one_server: bool,
}

type Carried<'a, T> = Pin<Box<dyn Future<Output = RedisResult<T>> + Send + 'a>>;

trait Carry: Send + Sync {
    fn ask<'a>(&'a self, command: &'a Cmd) -> Carried<'a, Value>;
    fn ask_all<'a>(&'a self, commands: &'a Pipeline) -> Carried<'a, Vec<Value>>;
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Carry for C {
    fn ask<'a>(&'a self, command: &'a Cmd) -> Carried<'a, Value> {
        let mut connection = self.clone();
        Box::pin(async move { connection.req_packed_command(command).await })
    }

    fn ask_all<'a>(&'a self, commands: &'a Pipeline) -> Carried<'a, Vec<Value>> {
        let mut connection = self.clone();
        Box::pin(async move { connection.req_packed_commands(commands, 0, commands.len()).await })
    }
}

impl Given {
    pub(crate) fn new(connection: impl ConnectionLike + Clone + Send + Sync + 'static, is_one_server: bool) -> Self {
        Self { connection: Box::new(connection), is_one_server }
    }

    async fn within<T>(&self, asking: Carried<'_, T>, cx: &Cx<'_>) -> Result<T, Trouble> {
        let asking = reactor::entered(asking);
        match cx.deadline.remaining() {
            None => Ok(asking.await??),
            Some(left) if left.is_zero() => Err(Trouble::Late),
            Some(left) => Ok(reactor::timeout(left, asking)?.await.map_err(|_| Trouble::Late)???),
        }
    }

    async fn ask(&self, command: &Cmd, cx: &Cx<'_>) -> Result<Value, Trouble> {
        self.within(self.connection.ask(command), cx).await.and_then(error_apart)
    }

    async fn ask_all(&self, commands: &Pipeline, cx: &Cx<'_>) -> Result<Vec<Value>, Trouble> {
        let replies = self.within(self.connection.ask_all(commands), cx).await?;
        if replies.len() == commands.len() { Ok(replies) } else { Err(Trouble::WrongReply) }
    }

    /// A connection that finds the servers itself takes only commands of one slot at once.
    async fn ask_by_slot(&self, keyed: Vec<(&[u8], Cmd)>, cx: &Cx<'_>) -> Vec<Result<Value, Trouble>> {
        let mut slots: HashMap<u16, (Vec<usize>, Pipeline)> = HashMap::new();
        let count = keyed.len();
        for (at, (key, command)) in keyed.into_iter().enumerate() {
            let (places, pipeline) = slots.entry(slot(key)).or_default();
            places.push(at);
            pipeline.add_command(command);
        }
        let asked = slots.into_values().map(async |(places, pipeline)| (places, self.ask_all(&pipeline, cx).await));
        let answered: Vec<_> = futures_util::stream::iter(asked).buffer_unordered(SLOTS_AT_ONCE).collect().await;
        let mut replies: Vec<Result<Value, Trouble>> = (0..count).map(|_| Err(Trouble::WrongReply)).collect();
        for (places, answer) in answered {
            match answer {
                Ok(values) => places.iter().zip(values).for_each(|(at, value)| replies[*at] = error_apart(value)),
                Err(trouble) => places.iter().for_each(|at| replies[*at] = Err(trouble.clone())),
            }
        }
        replies
    }
}

/// One of the servers that hold the keys.
pub(crate) enum Server<'a> {
    Node(&'a Node),
    Shared(std::sync::Arc<Node>),
    Given(&'a Given),
}

impl Server<'_> {
    pub(crate) async fn ask(&self, command: &Cmd, access: Access, cx: &Cx<'_>) -> Result<Value, Trouble> {
        match self {
            Self::Node(node) => node.ask(&[], command, access, cx).await,
            Self::Shared(node) => node.ask(&[], command, access, cx).await,
            Self::Given(given) => given.ask(command, cx).await,
        }
    }
}

impl Client {
    /// Asks the server of `key`.
    pub(crate) async fn ask(&self, key: &[u8], command: &Cmd, access: Access, cx: &Cx<'_>) -> Result<Value, Trouble> {
        self.ask_of(&[key], command, access, cx).await
    }

    /// Asks the server of the first of `keys`, all of which the command concerns.
    pub(crate) async fn ask_of(
        &self,
        keys: &[&[u8]],
        command: &Cmd,
        access: Access,
        cx: &Cx<'_>,
    ) -> Result<Value, Trouble> {
        let key = keys.first().copied().unwrap_or_default();
        match self {
            Self::Node(node) => node.ask(keys, command, access, cx).await,
            // Boxed: these are large, and their futures would make every request to one server as large.
            Self::Cluster(cluster) => Box::pin(cluster.ask(key, command, access, cx)).await,
            Self::Given(given) => Box::pin(given.ask(command, cx)).await,
        }
    }

    /// Sends several commands at once. One reply or one trouble for each; the outer trouble: nothing is known of any.
    pub(crate) async fn ask_all(
        &self,
        keyed: Vec<(&[u8], Cmd)>,
        access: Access,
        cx: &Cx<'_>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        if let Self::Cluster(cluster) = self {
            return Box::pin(cluster.ask_all(keyed, access, cx)).await;
        }
        if let Self::Given(given) = self
            && !given.is_one_server
        {
            return Ok(Box::pin(given.ask_by_slot(keyed, cx)).await);
        }
        let (mut keys, mut pipeline) = (Vec::with_capacity(keyed.len()), Pipeline::with_capacity(keyed.len()));
        for (key, command) in keyed {
            keys.push(key);
            pipeline.add_command(command);
        }
        let replies = match self {
            Self::Node(node) => node.ask_all(&keys, &pipeline, access, cx).await?,
            Self::Given(given) => given.ask_all(&pipeline, cx).await?,
            Self::Cluster(_) => return Err(Trouble::WrongReply),
        };
        Ok(replies.into_iter().map(error_apart).collect())
    }

    /// The servers that hold the keys, each with a name that sorts, beginning at `from`.
    pub(crate) async fn servers(&self, from: &str, cx: &Cx<'_>) -> Result<Vec<(String, Server<'_>)>, Trouble> {
        Ok(match self {
            Self::Node(node) => vec![(String::new(), Server::Node(node))],
            Self::Given(given) => vec![(String::new(), Server::Given(given))],
            Self::Cluster(cluster) => {
                let named = |(address, node): (Address, _)| (address.to_string(), Server::Shared(node));
                let all = cluster.primaries(cx).await?.into_iter().map(named);
                all.filter(|(name, _)| name.as_str() >= from).collect()
            }
        })
    }

    /// Whether one command may concern several keys.
    pub(crate) fn takes_many(&self) -> bool {
        match self {
            Self::Node(_) => true,
            Self::Cluster(_) => false,
            Self::Given(given) => given.is_one_server,
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Self::Node(node) => node.close(),
            Self::Cluster(cluster) => cluster.close(),
            // It belongs to its bringer.
            Self::Given(_) => {}
        }
    }

    pub(crate) fn mode(&self) -> &'static str {
        match self {
            Self::Node(_) => "standalone",
            Self::Cluster(_) => "cluster",
            Self::Given(_) => "connection of the caller",
        }
    }
}

fn error_apart(reply: Value) -> Result<Value, Trouble> {
    match reply {
        Value::ServerError(error) => Err(Trouble::Server(error)),
        reply => Ok(reply),
    }
}
