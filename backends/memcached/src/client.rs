//! From a key to an answer: the server that holds it, a place on one of its connections, and a wait that ends.
//!
//! A request that was lost is sent once more if nobody can tell: when none of its bytes left us, or when it only reads. A
//! write the server may have seen is not repeated here; its caller learns that it is in doubt.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cachekit_plugin::{Cx, Deadline, Key, fork};
use memcache::exp::ReturnCode;

use crate::command::Command;
use crate::config::MemcachedConfig;
use crate::connection::{Connection, Phase, Pushed};
use crate::error::{Failure, Lost};
use crate::greeting::Greeting;
use crate::inbox::{Inbox, Outcome};
use crate::keys::WireKey;
use crate::placement::{Address, Rendezvous};
use crate::reply::Reply;
use crate::runtime;
use crate::server::{Server, Terms};
use crate::standing::{Rules, Standing};

/// The servers and how keys are found on them.
pub(crate) struct Client {
    servers: Vec<Arc<Server>>,
    nodes: Vec<String>,
    prefix: String,
    largest_value: u64,
    generation: u32,
}

impl Client {
    /// Takes options that have been checked.
    pub(crate) fn new(config: &MemcachedConfig, addresses: Vec<Address>) -> Self {
        let terms = Terms {
            connect_patience: config.connect_patience(),
            patience: config.patience(),
            most_connections: config.max_pool_size as usize,
            largest_value: config.largest_value(),
        };
        let rules = Rules {
            retry_attempts: config.retry_attempts,
            retry_timeout: Duration::from_secs_f64(config.retry_timeout),
            dead_timeout: Duration::from_secs_f64(config.dead_timeout),
        };
        let nodes = addresses.iter().map(Address::node).collect();
        let servers =
            addresses.into_iter().map(|address| Arc::new(Server::new(address, terms, Standing::new(rules)))).collect();
        let prefix = config.key_prefix.clone();
        Self { servers, nodes, prefix, largest_value: terms.largest_value, generation: fork::generation() }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn entry<'a>(&self, key: Key<'a>) -> Result<WireKey<'a>, Failure> {
        WireKey::of_entry(&self.prefix, key)
    }

    pub(crate) fn lease(&self, key: Key<'_>) -> Result<WireKey<'static>, Failure> {
        WireKey::of_lease(&self.prefix, key)
    }

    /// Refuses a value that no server would take, before anything is sent.
    pub(crate) fn check_value(&self, len: usize) -> Result<(), Failure> {
        if len as u64 > self.largest_value {
            return Err(Failure::ValueTooLarge { len, max: self.largest_value });
        }
        Ok(())
    }

    /// Each server with the text it is placed by.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (&str, &Arc<Server>)> {
        self.nodes.iter().map(String::as_str).zip(&self.servers)
    }

    /// Connections of a parent process are not ours: two would write on one socket.
    pub(crate) fn check_process(&self) -> Result<(), Failure> {
        if self.generation == fork::generation() { Ok(()) } else { Err(Failure::Forked) }
    }

    /// The server that holds `key` now. If all are dead, the one that held it when none was: it is tried again sooner than a
    /// dead one would be.
    pub(crate) fn place(&self, key: &WireKey<'_>) -> usize {
        let troubled = self.servers.len() > 1 && self.servers.iter().any(|server| server.standing.is_troubled());
        let now = troubled.then(Instant::now);
        let is_candidate = |index: usize| now.is_none_or(|now| self.servers[index].standing.is_candidate(now));
        Rendezvous::place(key.as_bytes(), &self.nodes, is_candidate)
            .or_else(|| Rendezvous::place(key.as_bytes(), &self.nodes, |_| true))
            .unwrap_or(0)
    }

    pub(crate) fn server(&self, index: usize) -> &Arc<Server> {
        &self.servers[index]
    }

    /// The answer to one request.
    pub(crate) async fn ask(&self, command: Command<'_>, cx: &Cx<'_>) -> Result<Reply, Failure> {
        self.check_process()?;
        let commands = [command];
        let mut again = true;
        loop {
            if cx.deadline.has_passed() {
                return Err(Failure::Late);
            }
            let [command] = &commands;
            let server = self.server(self.place(&command.key));
            let connection = connection_for(server, &command.key)?;
            let outcome = exchange(server, &connection, &commands, cx.deadline).await?.pop();
            match outcome.unwrap_or(Outcome::Late) {
                Outcome::Lost { lost, sent } if again && may_repeat(command, &lost, sent) => again = false,
                outcome => return outcome.into_reply(),
            }
        }
    }

    /// An open connection to the server of `key`, and what the server said of itself.
    pub(crate) async fn open_connection(
        &self,
        key: &WireKey<'_>,
        cx: &Cx<'_>,
    ) -> Result<(&Arc<Server>, Arc<Connection>, Arc<Greeting>), Failure> {
        self.check_process()?;
        let server = self.server(self.place(key));
        let connection = connection_for(server, key)?;
        let greeting = opened(server, &connection, cx.deadline).await?;
        Ok((server, connection, greeting))
    }
}

/// The connection for requests of `key`.
pub(crate) fn connection_for(server: &Server, key: &WireKey<'_>) -> Result<Arc<Connection>, Failure> {
    match server.unsettled.connection_of(key.as_bytes()) {
        Some(connection) => Ok(connection),
        None => server.connection(),
    }
}

/// Waits until `connection` is open.
pub(crate) async fn opened(
    server: &Server,
    connection: &Connection,
    deadline: Deadline,
) -> Result<Arc<Greeting>, Failure> {
    loop {
        let mut changed = pin!(connection.changed.notified());
        changed.as_mut().enable();
        match connection.phase() {
            Phase::Open(greeting) => return Ok(greeting),
            Phase::Over(lost) => return Err(lost.into()),
            Phase::Opening => {}
        }
        wait(server, connection, deadline, |context| changed.as_mut().poll(context)).await?;
    }
}

/// Whether a lost request is sent once more without asking its caller.
pub(crate) fn may_repeat(command: &Command<'_>, lost: &Lost, sent: bool) -> bool {
    match lost {
        Lost::Broken(_) | Lost::ClosedByServer | Lost::OutOfStep(_) | Lost::Ended => !sent || !command.writes(),
        // It has been waited for long enough, or another attempt would end the same way.
        _ => false,
    }
}

/// What becomes of `commands` on `connection`: one outcome each, by the deadline.
pub(crate) async fn exchange(
    server: &Arc<Server>,
    connection: &Arc<Connection>,
    commands: &[Command<'_>],
    deadline: Deadline,
) -> Result<Vec<Outcome>, Failure> {
    let mut sent =
        Sent { server, connection, commands, inbox: Arc::new(Inbox::new(commands.len())), queued: 0, last: 0 };
    loop {
        let mut room = pin!(connection.changed.notified());
        match connection.push(commands, &mut sent.queued, &sent.inbox) {
            Pushed::All(last) => {
                sent.last = last;
                break;
            }
            Pushed::Over(lost) => {
                for place in sent.queued..commands.len() {
                    sent.inbox.deliver(place, Outcome::Lost { lost: lost.clone(), sent: false });
                }
                break;
            }
            Pushed::Full(last) => {
                sent.last = last;
                room.as_mut().enable();
                // Room that was made before we listened would be missed.
                if connection.has_room() {
                    continue;
                }
                match wait(server, connection, deadline, |context| room.as_mut().poll(context)).await {
                    Ok(()) => {}
                    Err(Failure::Late) => return Ok(sent.fetch()),
                    Err(failure) => return Err(failure),
                }
            }
        }
    }
    match wait(server, connection, deadline, |context| sent.inbox.poll_full(context)).await {
        Ok(()) | Err(Failure::Late) => Ok(sent.fetch()),
        Err(failure) => Err(failure),
    }
}

/// Requests on their way. Writes that nobody waits for any more are noted, so that later ones cannot overtake them.
struct Sent<'a, 'k> {
    server: &'a Server,
    connection: &'a Arc<Connection>,
    commands: &'a [Command<'k>],
    inbox: Arc<Inbox>,
    queued: usize,
    last: u64,
}

impl Sent<'_, '_> {
    /// Fetches what has arrived; what has not is late.
    fn fetch(&self) -> Vec<Outcome> {
        self.note_unsettled();
        self.inbox.fetch()
    }

    fn note_unsettled(&self) {
        if self.inbox.is_full() {
            return;
        }
        for (place, command) in self.commands[..self.queued].iter().enumerate() {
            if command.writes() && !self.inbox.has(place) {
                self.server.unsettled.note(command.key.as_bytes(), self.connection, self.last);
            }
        }
    }
}

impl Drop for Sent<'_, '_> {
    fn drop(&mut self) {
        self.note_unsettled();
    }
}

/// Polls `ready` until it is, the deadline passes, or the connection is given up.
///
/// The stall of a connection is found here and not by its driver: whoever waits has a clock that runs, even if the runtime of
/// the driver does not.
async fn wait(
    server: &Server,
    connection: &Connection,
    deadline: Deadline,
    mut ready: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Result<(), Failure> {
    loop {
        let patience = server.patience_with(connection);
        let left = deadline.remaining();
        let nap = left.map_or(patience, |left| left.min(patience));
        let mut alarm = pin!(runtime::sleep_until(tokio::time::Instant::now() + nap)?);
        let is_ready = poll_fn(|context| match ready(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => alarm.as_mut().poll(context).map(|()| false),
        });
        if is_ready.await {
            return Ok(());
        }
        let over = connection.end_if_stalled(Instant::now(), patience);
        if deadline.has_passed() {
            return Err(Failure::Late);
        }
        if over {
            // Everything that stood on it has been answered.
            return Ok(());
        }
    }
}

impl Outcome {
    pub(crate) fn into_reply(self) -> Result<Reply, Failure> {
        match self {
            Self::Reply(reply) => Ok(reply),
            Self::Refused(refusal) => Err(refusal.into()),
            Self::Lost { lost, .. } => Err(lost.into()),
            Self::Late => Err(Failure::Late),
        }
    }
}

impl Reply {
    /// Found, stored or deleted: what the request was about happened.
    pub(crate) fn is_yes(&self) -> bool {
        matches!(self.code, ReturnCode::Hd | ReturnCode::Va)
    }
}
