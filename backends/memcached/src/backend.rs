//! The traits of the contract.
//!
//! Offered: batches, time left, leases, conditional writes. Not offered: a scan, because memcached lists nothing; and `clear`,
//! because all it has is `flush_all`, which would take away what other programs keep on the same servers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_plugin::{
    Answers, Backend, BackendError, Batch, Cas, Cx, Expiry, Fut, Health, HostServices, Key, KeyBytes, Kind, Limits,
    Locks, LogLevel, Open, Operation, SetItem, Ttl, Version,
};

use crate::batch::together;
use crate::client::{Client, exchange, opened};
use crate::command::{Command, When};
use crate::config::MemcachedConfig;
use crate::error::{BACKEND, Failure};
use crate::inbox::Outcome;
use crate::keys::{self, WireKey};
use crate::life;
use crate::reply::Reply;

/// How often `close` looks whether all answers are there.
const CLOSE_STEP: Duration = Duration::from_millis(5);

/// Memcached servers as a second tier.
pub struct MemcachedBackend {
    client: Client,
    limits: Limits,
}

impl Open for MemcachedBackend {
    type Config = MemcachedConfig;

    const TOKIO: bool = true;

    fn open(config: MemcachedConfig, host: HostServices) -> Result<Self, BackendError> {
        let refused = |reason: String| BackendError::new(Kind::Config, Operation::Open, reason).on(BACKEND);
        config.check().map_err(refused)?;
        let addresses = config.addresses().map_err(refused)?;
        if !config.key_prefix.is_empty() {
            host.log(
                LogLevel::Info,
                "cachekit::memcached",
                "keys carry a prefix: programs without it do not find these entries",
                &[],
            );
        }
        let max_key = (keys::LONGEST - config.key_prefix.len()) as u32;
        let limits = Limits::new(max_key, config.largest_value())
            .with_key_bytes(KeyBytes::Printable)
            .with_ttl_step_ms(life::STEP_MS)
            .with_ttl_max_ms(life::LONGEST_SECS * 1000)
            .with_deadline_hint_ms(config.patience().as_millis() as u32);
        Ok(Self { client: Client::new(&config, addresses), limits })
    }
}

impl MemcachedBackend {
    async fn set(&self, key: Key<'_>, value: Bytes, ttl: Ttl, cx: &Cx<'_>) -> Result<(), Failure> {
        self.client.check_value(value.len())?;
        let command = Command::set(self.client.entry(key)?, value, ttl, When::Always)?;
        stored(&self.client.ask(command, cx).await?)
    }

    async fn health(&self, cx: &Cx<'_>) -> Result<Health, Failure> {
        self.client.check_process()?;
        let begun = Instant::now();
        let asked = self.client.servers().map(|(node, server)| {
            Box::pin(async move {
                let round_trip = async {
                    let connection = server.connection()?;
                    let greeting = opened(server, &connection, cx.deadline).await?;
                    let begun = Instant::now();
                    // The key the family asks for. It need not be there.
                    let key = WireKey::of_entry(self.client.prefix(), Key::from_wire(b"__cachekit_health__"))?;
                    let commands = [Command::exists(key)?];
                    let outcome = exchange(server, &connection, &commands, cx.deadline).await?.pop();
                    outcome.unwrap_or(Outcome::Late).into_reply()?;
                    Ok((begun.elapsed(), greeting.version.clone()))
                };
                (node, server, round_trip.await)
            })
        });
        let answers: Vec<(_, _, Result<_, Failure>)> = together(asked.collect()).await;
        let mut health = Health::up(BACKEND, begun.elapsed());
        let up = answers.iter().filter(|(_, _, answer)| answer.is_ok()).count();
        let slowest =
            answers.iter().filter_map(|(_, _, answer)| answer.as_ref().ok()).map(|(latency, _)| *latency).max();
        if let Some(slowest) = slowest {
            health.latency_ms = slowest.as_secs_f64() * 1000.0;
        }
        // One that answers can be used; the keys of the others move to it when they are declared dead.
        health.healthy = up > 0;
        health = health.with_detail("servers", answers.len()).with_detail("servers_up", up);
        for (node, server, answer) in &answers {
            let (failures, dead) = server.standing.report(Instant::now());
            let report = match answer {
                Ok((latency, version)) => serde_json::json!({
                    "up": true, "latency_ms": latency.as_secs_f64() * 1000.0, "version": version,
                    "connections": server.usage().0,
                }),
                Err(failure) => serde_json::json!({
                    "up": false, "reason": failure.to_string(), "failures": failures, "dead": dead,
                }),
            };
            health = health.with_detail(format!("server {node}"), report);
        }
        Ok(health)
    }

    /// Ends the connections when the requests on them are answered, or at the deadline.
    async fn close(&self, cx: &Cx<'_>) {
        if self.client.check_process().is_err() {
            return;
        }
        loop {
            let idle = self.client.servers().all(|(_, server)| server.usage().1);
            if idle || cx.deadline.has_passed() {
                break;
            }
            let nap = cx.deadline.remaining().map_or(CLOSE_STEP, |left| left.min(CLOSE_STEP));
            match crate::runtime::sleep_until(tokio::time::Instant::now() + nap) {
                Ok(nap) => nap.await,
                Err(_) => break,
            }
        }
        for (_, server) in self.client.servers() {
            server.close();
        }
    }
}

/// `Ok` if a plain write was done.
fn stored(reply: &Reply) -> Result<(), Failure> {
    // A plain write has no condition that could fail.
    if reply.is_yes() { Ok(()) } else { Err(Failure::Unexpected) }
}

impl Backend for MemcachedBackend {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        during(
            Operation::Get,
            async move { Ok(self.client.ask(Command::get(self.client.entry(key)?)?, cx).await?.value) },
        )
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        during(Operation::Set, self.set(key, value, ttl, cx))
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        during(Operation::Delete, async move {
            Ok(self.client.ask(Command::delete(self.client.entry(key)?, When::Always)?, cx).await?.is_yes())
        })
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        during(Operation::Exists, async move {
            Ok(self.client.ask(Command::exists(self.client.entry(key)?)?, cx).await?.is_yes())
        })
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        during(Operation::Health, self.health(cx))
    }

    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.close(cx).await;
            Ok(())
        })
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
}

impl Batch for MemcachedBackend {
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>> {
        let items = keys.iter().map(|key| Command::get(self.client.entry(*key)?));
        self.many(Operation::GetMany, items.collect(), cx, |reply| Ok(reply.value))
    }

    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>> {
        let items = items.iter().map(|item| {
            self.client.check_value(item.value.len())?;
            Command::set(self.client.entry(item.key)?, item.value.clone(), item.ttl, When::Always)
        });
        self.many(Operation::SetMany, items.collect(), cx, |reply| stored(&reply))
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>> {
        let items = keys.iter().map(|key| Command::delete(self.client.entry(*key)?, When::Always));
        self.many(Operation::DeleteMany, items.collect(), cx, |reply| Ok(reply.is_yes()))
    }
}

impl MemcachedBackend {
    /// Asks for all `items` and reads each answer.
    fn many<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        items: Vec<Result<Command<'a>, Failure>>,
        cx: &'a Cx<'a>,
        read: impl Fn(Reply) -> Result<T, Failure> + Send + 'a,
    ) -> Fut<'a, Answers<T>> {
        during(operation, async move {
            let answers = self.client.ask_many(items, cx).await?.into_iter();
            Ok(answers.map(|answer| answer.and_then(&read).map_err(|failure| failure.during(operation))).collect())
        })
    }
}

impl Expiry for MemcachedBackend {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        during(Operation::Ttl, async move {
            let reply = self.client.ask(Command::ttl(self.client.entry(key)?)?, cx).await?;
            match reply.ttl {
                Some(left) => life::left(left).map(Some).ok_or(Failure::Unexpected),
                None if !reply.is_yes() => Ok(None),
                None => Err(Failure::Unexpected),
            }
        })
    }

    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        during(Operation::Touch, async move {
            Ok(self.client.ask(Command::touch(self.client.entry(key)?, ttl)?, cx).await?.is_yes())
        })
    }
}

impl Locks for MemcachedBackend {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        during(Operation::Lock, self.client.lock(key, token, hold_ms, cx))
    }

    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        during(Operation::Unlock, self.client.unlock(key, token, cx))
    }
}

impl Cas for MemcachedBackend {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        during(Operation::GetVersion, self.client.get_version(key, cx))
    }

    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool> {
        during(Operation::SetIf, self.client.set_if(key, value, ttl, expect, cx))
    }
}

/// The future of the contract.
fn during<'a, T: Send + 'a>(
    operation: Operation,
    work: impl Future<Output = Result<T, Failure>> + Send + 'a,
) -> Fut<'a, T> {
    Box::pin(async move { work.await.map_err(|failure| failure.during(operation)) })
}
