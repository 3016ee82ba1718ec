//! The traits of the contract, on whatever shape of Redis there is.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use cachekit_plugin::{
    Answers, Backend, BackendError, Batch, Bytes, Cas, Clear, Cx, Enumerates, Expiry, Fut, Health, HostServices, Key,
    Limits, Locks, Open, Operation, Page, Scan, SetItem, Ttl, Version, Watch, WatchGuard, WatchSink,
};
use redis::aio::ConnectionLike;
use redis::cmd;

use crate::client::{Client, Given};
use crate::cluster::Cluster;
use crate::command;
use crate::config::RedisConfig;
use crate::endpoint::{Login, Manner};
use crate::error::{BACKEND, Trouble};
use crate::node::{Access, Direct, Node};
use crate::reply;
use crate::script::{self, Scripts};
use crate::sentinel::Sentinels;
use crate::tls;
use crate::url::Shape;
use crate::watch::Hub;

/// A hundred years. Beyond 2^63 ms from 1970 the server refuses a life; nobody waits for this one either.
pub(crate) const MAX_LIFE_MS: u64 = 100 * 366 * 86_400_000;
/// Redis itself takes 512 MiB; this bounds what one request carries, and leaves room for prefixes and `:lock`.
const MAX_KEY: u32 = 64 << 10;

/// A Redis as a second tier.
///
/// Opened from options ([`Open::open`]), or around a connection that the program has already
/// ([`with_connection`](Self::with_connection)).
pub struct RedisBackend {
    pub(crate) client: Client,
    pub(crate) prefix: Box<[u8]>,
    pub(crate) scripts: Scripts,
    hub: Hub,
    sends_ttl: bool,
    offset_ms: i64,
    max_value: u64,
    place: String,
}

impl RedisBackend {
    fn new(client: Client, config: &RedisConfig, place: String) -> Self {
        Self {
            client,
            prefix: config.prefix().into(),
            scripts: Scripts::new(),
            hub: Hub::default(),
            sends_ttl: config.ttl,
            // The range of the option leaves room for the factor.
            offset_ms: config.ttl_offset.saturating_mul(1000),
            max_value: config.max_value,
            place,
        }
    }

    /// Around a connection to one server that the program has already: a `MultiplexedConnection`, a `ConnectionManager`,
    /// anything that can be cloned and asked. Of `config` counts what concerns keys and values: `tenant`, `key_prefix`,
    /// `ttl`, `ttl_offset`, `max_value`; timeouts beside the caller's deadline, reconnecting and closing stay with the
    /// connection.
    ///
    /// # Errors
    /// An option out of its range.
    pub fn with_connection(
        connection: impl ConnectionLike + Clone + Send + Sync + 'static,
        config: &RedisConfig,
    ) -> Result<Self, BackendError> {
        Self::given(Given::new(connection, true), config)
    }

    /// As [`with_connection`](Self::with_connection), for a connection that finds the server of each key itself, such as
    /// a cluster's. Keys cannot be listed through it, so the backend offers neither `scan` nor `clear`.
    ///
    /// # Errors
    /// An option out of its range.
    pub fn with_cluster_connection(
        connection: impl ConnectionLike + Clone + Send + Sync + 'static,
        config: &RedisConfig,
    ) -> Result<Self, BackendError> {
        Self::given(Given::new(connection, false), config)
    }

    fn given(given: Given, config: &RedisConfig) -> Result<Self, BackendError> {
        config.check().map_err(|reason| Trouble::Refused(reason).during(Operation::Open))?;
        Ok(Self::new(Client::Given(given), config, String::new()))
    }

    /// The key as the server has it.
    pub(crate) fn wire<'k>(&self, key: Key<'k>) -> Cow<'k, [u8]> {
        match self.prefix.is_empty() {
            true => Cow::Borrowed(key.as_bytes()),
            false => Cow::Owned([&self.prefix[..], key.as_bytes()].concat()),
        }
    }

    /// The life that is sent, if any.
    pub(crate) fn life_ms(&self, ttl: Ttl) -> Option<u64> {
        let ms = ttl.as_ms().filter(|_| self.sends_ttl)?;
        let ms = ms.min(MAX_LIFE_MS).saturating_add_signed(self.offset_ms);
        (ms > 0).then_some(ms.min(MAX_LIFE_MS))
    }

    /// Refuses a value that is too large before anything is sent.
    pub(crate) fn takes(&self, value: &Bytes) -> Result<(), Trouble> {
        let len = value.len() as u64;
        if len > self.max_value { Err(Trouble::ValueTooLarge { len, max: self.max_value }) } else { Ok(()) }
    }

    fn can_list(&self) -> bool {
        !matches!(&self.client, Client::Given(given) if !given.is_one_server)
    }

    async fn read(&self, key: Key<'_>, cx: &Cx<'_>) -> Result<Option<Bytes>, Trouble> {
        let wire = self.wire(key);
        reply::value(self.client.ask(&wire, &command::of_key("GET", &wire), Access::Read, cx).await?)
    }

    async fn write(&self, key: Key<'_>, value: &Bytes, ttl: Ttl, cx: &Cx<'_>) -> Result<(), Trouble> {
        self.takes(value)?;
        let wire = self.wire(key);
        let command = command::set(&wire, value, self.life_ms(ttl));
        reply::okay(self.client.ask(&wire, &command, Access::Write, cx).await?)
    }

    async fn write_if(
        &self,
        key: Key<'_>,
        value: &Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &Cx<'_>,
    ) -> Result<bool, Trouble> {
        self.takes(value)?;
        let (wire, life_ms) = (self.wire(key), self.life_ms(ttl));
        let Some(expect) = expect else {
            let command = command::set_absent(&wire, value, life_ms);
            return reply::done(self.client.ask(&wire, &command, Access::Write, cx).await?);
        };
        let (expect, life) = (script::version_text(expect), life_ms.map(|ms| ms.to_string()).unwrap_or_default());
        let arguments: [&[u8]; 3] = [expect.as_bytes(), value, life.as_bytes()];
        reply::yes(self.scripts.replace.run(&self.client, &wire, &arguments, cx).await?)
    }

    async fn left(&self, key: Key<'_>, cx: &Cx<'_>) -> Result<Option<Ttl>, Trouble> {
        let wire = self.wire(key);
        match reply::number(self.client.ask(&wire, &command::of_key("PTTL", &wire), Access::Read, cx).await?)? {
            -2 => Ok(None),
            -1 => Ok(Some(Ttl::Never)),
            // What the offset added is not part of the entry's life.
            ms => Ok(u64::try_from(ms.saturating_sub(self.offset_ms).max(1)).ok().and_then(Ttl::from_ms)),
        }
    }

    async fn renew(&self, key: Key<'_>, ttl: Ttl, cx: &Cx<'_>) -> Result<bool, Trouble> {
        let wire = self.wire(key);
        let life_ms = self.life_ms(ttl);
        let renew = command::renew(&wire, life_ms);
        if life_ms.is_some() {
            return reply::yes(self.client.ask(&wire, &renew, Access::Write, cx).await?);
        }
        // Taking away an end that is not there counts as nothing done, so the key is asked for beside it.
        let both = vec![(&*wire, renew), (&*wire, command::of_key("EXISTS", &wire))];
        let mut replies = self.client.ask_all(both, Access::Write, cx).await?;
        let there = replies.pop().unwrap_or(Err(Trouble::WrongReply))?;
        replies.pop().unwrap_or(Err(Trouble::WrongReply))?;
        reply::yes(there)
    }

    async fn examine(&self, cx: &Cx<'_>) -> Result<Health, Trouble> {
        let mut health = Health::up(BACKEND, std::time::Duration::ZERO)
            .with_detail("mode", self.client.mode())
            .with_detail("place", self.place.as_str());
        let servers = self.client.servers("", cx).await?;
        health = health.with_detail("servers", servers.len());
        for (at, (_, server)) in servers.iter().enumerate() {
            let begun = Instant::now();
            server.ask(&cmd("PING"), Access::Read, cx).await?;
            health.latency_ms = health.latency_ms.max(begun.elapsed().as_secs_f64() * 1000.0);
            if at == 0 {
                let mut question = cmd("INFO");
                question.arg("server");
                // A user who may not ask for it can still use the cache.
                if let Ok(info) = server.ask(&question, Access::Read, cx).await.and_then(reply::text) {
                    let told = [
                        ("redis_version:", "version"),
                        ("uptime_in_seconds:", "uptime_seconds"),
                        ("run_id:", "run_id"),
                    ];
                    for (field, name) in told {
                        if let Some(value) = info.lines().find_map(|line| line.strip_prefix(field)) {
                            health = health.with_detail(name, value.trim());
                        }
                    }
                }
            }
        }
        Ok(health)
    }
}

/// Runs the work of an operation and says in its errors which one it was.
fn during<'a, T: Send + 'a>(
    operation: Operation,
    work: impl Future<Output = Result<T, Trouble>> + Send + 'a,
) -> Fut<'a, T> {
    Box::pin(async move { work.await.map_err(|trouble| trouble.during(operation)) })
}

impl Open for RedisBackend {
    type Config = RedisConfig;
    const TOKIO: bool = true;

    fn open(config: RedisConfig, host: HostServices) -> Result<Self, BackendError> {
        let refused = |reason| Trouble::Refused(reason).during(Operation::Open);
        config.check().map_err(refused)?;
        let place = config.place().map_err(refused)?;
        let secret = |secret: &Option<cachekit_plugin::SecretRef>| {
            secret.as_ref().map(|secret| secret.resolve(&host)).transpose().map_err(|error| error.on(BACKEND))
        };
        let tls = match place.tls {
            true => Some(tls::connector(config.ca_file.as_deref()).map_err(refused)?),
            false => None,
        };
        let shown = place.to_string();
        let manner = Arc::new(Manner {
            login: Login {
                username: config.username.clone().or(place.username),
                password: secret(&config.password)?.or(place.password),
                db: place.db,
            },
            sentinel_login: Login {
                username: config.sentinel_username.clone(),
                password: secret(&config.sentinel_password)?,
                db: 0,
            },
            tls,
            keepalive: config.socket_keepalive,
            connect_timeout: config.connect_timeout(),
            patience: config.patience(),
            max_value: config.max_value,
        });
        if manner.login.username.is_some() && manner.login.password.is_none() {
            return Err(refused("username: takes a password beside it".into()));
        }
        let connections = config.connections();
        let client = match place.shape {
            Shape::Standalone(address) => Client::Node(Node::new(Arc::new(Direct { manner, address }), connections)),
            Shape::Cluster(seeds) => Client::Cluster(Cluster::new(manner, seeds, connections)),
            Shape::Sentinel { sentinels, master } => {
                Client::Node(Node::new(Arc::new(Sentinels::new(manner, sentinels, master)), connections))
            }
        };
        Ok(Self::new(client, &config, shown))
    }
}

impl Backend for RedisBackend {
    fn limits(&self) -> Limits {
        let limits = Limits::new(MAX_KEY, self.max_value).with_ttl_max_ms(MAX_LIFE_MS);
        if self.can_list() { limits.with_enumerates(Enumerates::Keys) } else { limits }
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        during(Operation::Get, self.read(key, cx))
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        during(Operation::Set, async move { self.write(key, &value, ttl, cx).await })
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        during(Operation::Delete, async move {
            let wire = self.wire(key);
            reply::yes(self.client.ask(&wire, &command::of_key("UNLINK", &wire), Access::Write, cx).await?)
        })
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        during(Operation::Exists, async move {
            let wire = self.wire(key);
            reply::yes(self.client.ask(&wire, &command::of_key("EXISTS", &wire), Access::Read, cx).await?)
        })
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        during(Operation::Health, self.examine(cx))
    }

    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        self.hub.close();
        self.client.close();
        cachekit_plugin::ready(Ok(()))
    }

    fn batch(&self) -> Option<&dyn Batch> {
        Some(self)
    }

    fn ttl(&self) -> Option<&dyn Expiry> {
        Some(self)
    }

    fn locks(&self) -> Option<&dyn Locks> {
        Some(self)
    }

    fn cas(&self) -> Option<&dyn Cas> {
        Some(self)
    }

    fn scan(&self) -> Option<&dyn Scan> {
        self.can_list().then_some(self as &dyn Scan)
    }

    fn clear(&self) -> Option<&dyn Clear> {
        self.can_list().then_some(self as &dyn Clear)
    }

    /// In a cluster a slot may move to a server that nobody watches, and a connection of the caller's has no room for
    /// messages: both offer none.
    fn watch(&self) -> Option<&dyn Watch> {
        matches!(self.client, Client::Node(_)).then_some(self as &dyn Watch)
    }
}

impl Batch for RedisBackend {
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>> {
        during(Operation::GetMany, self.read_all(keys, cx))
    }

    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>> {
        during(Operation::SetMany, self.write_all(items, cx))
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>> {
        during(Operation::DeleteMany, self.remove_each(keys, cx))
    }
}

impl Expiry for RedisBackend {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        during(Operation::Ttl, self.left(key, cx))
    }

    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        during(Operation::Touch, self.renew(key, ttl, cx))
    }
}

impl Locks for RedisBackend {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        during(Operation::Lock, self.take(key, token, hold_ms, cx))
    }

    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        during(Operation::Unlock, self.give_back(key, token, cx))
    }
}

impl Cas for RedisBackend {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        during(Operation::GetVersion, async move {
            let value = self.read(key, cx).await?;
            Ok(value.map(|value| {
                let version = script::version(&value);
                (value, version)
            }))
        })
    }

    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool> {
        during(Operation::SetIf, async move { self.write_if(key, &value, ttl, expect, cx).await })
    }
}

impl Scan for RedisBackend {
    fn next<'a>(&'a self, prefix: &'a [u8], cursor: Option<&'a [u8]>, max: usize, cx: &'a Cx<'a>) -> Fut<'a, Page> {
        during(Operation::Scan, self.page(prefix, cursor, max, cx))
    }

    fn read<'a>(&'a self, id: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        during(Operation::Read, RedisBackend::read(self, Key::from_wire(id), cx))
    }
}

impl Clear for RedisBackend {
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64> {
        during(Operation::Clear, self.remove_all(prefix, cx))
    }
}

impl Watch for RedisBackend {
    fn watch<'a>(&'a self, prefix: &'a [u8], sink: Arc<dyn WatchSink>, cx: &'a Cx<'a>) -> Fut<'a, WatchGuard> {
        during(Operation::Watch, async move {
            match &self.client {
                Client::Node(node) => self.hub.watch(node, &self.prefix, prefix, sink, cx).await,
                _ => Err(Trouble::Unsupported("this connection cannot be watched")),
            }
        })
    }
}
