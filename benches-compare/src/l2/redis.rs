//! Who takes part on Redis.

use std::sync::Arc;

use ::redis::AsyncCommands;
use cachekit_backend_redis::RedisBackend;
use cachekit_core::Cache;
use cachekit_plugin::{HostServices, Open};
use fred::interfaces::{ClientLike, KeysInterface};
use serde_json::json;
use tokio::runtime::Runtime;

use super::completion::Completion;
use super::{over, over_library};
use crate::callers::{Answer, Bare, Contender, Store, Whole};
use crate::{Failure, artifacts};

const RAW: &str = "redis";
const PEER: &str = "cachekit-rs";

pub(super) fn of_gets(runtime: &Runtime, url: &str, callers: usize) -> Result<Vec<Contender>, Failure> {
    let new = |name, store, beside| Contender { name, store, beside, floor: None };
    // Between one caller and 256 the project set no goal.
    let (raw, peer) = match callers {
        1 => (Some(0.90), None),
        256 => (Some(0.85), Some(2.0)),
        _ => (None, None),
    };
    let aimed = vec![(RAW, raw), (PEER, peer), ("redis manager", None), ("fred", None)];
    Ok(vec![
        new(RAW, multiplexed(runtime, url)?, vec![]),
        new("redis manager", manager(runtime, url)?, vec![]),
        new("fred", fred(runtime, url)?, vec![]),
        new(PEER, peer_client(runtime, url)?, vec![]),
        new("Cache", whole(linked(url)?), aimed.clone()),
        new("Cache .so", whole(loaded(url)?), aimed),
        new("backend", Arc::new(Bare(backend(url)?)), vec![(RAW, None)]),
        new("backend, completions", Arc::new(Bare(Arc::new(Completion::new(backend(url)?)?))), vec![(RAW, None)]),
    ])
}

pub(super) fn of_sets(runtime: &Runtime, url: &str) -> Result<Vec<Contender>, Failure> {
    let new = |name, store, beside| Contender { name, store, beside, floor: None };
    Ok(vec![
        new(RAW, multiplexed(runtime, url)?, vec![]),
        new(PEER, peer_client(runtime, url)?, vec![]),
        new("Cache", whole(linked(url)?), vec![(RAW, None), (PEER, None)]),
        new("Cache .so", whole(loaded(url)?), vec![(RAW, None), (PEER, None)]),
    ])
}

fn whole(cache: Cache) -> Arc<dyn Store> {
    Arc::new(Whole(cache))
}

fn backend(url: &str) -> Result<Arc<RedisBackend>, Failure> {
    let options = json!({ "url": url }).to_string();
    Ok(Arc::new(RedisBackend::open_json(options.as_bytes(), HostServices::none())?))
}

fn linked(url: &str) -> Result<Cache, Failure> {
    Ok(over(backend(url)?)?)
}

pub(super) fn loaded(url: &str) -> Result<Cache, Failure> {
    over_library(&artifacts::backend_plugin("redis")?, &json!({ "url": url }))
}

fn multiplexed(runtime: &Runtime, url: &str) -> Result<Arc<dyn Store>, Failure> {
    let client = ::redis::Client::open(url)?;
    Ok(Arc::new(Raw(runtime.block_on(client.get_multiplexed_async_connection())?)))
}

fn manager(runtime: &Runtime, url: &str) -> Result<Arc<dyn Store>, Failure> {
    let client = ::redis::Client::open(url)?;
    Ok(Arc::new(Raw(runtime.block_on(client.get_connection_manager())?)))
}

fn fred(runtime: &Runtime, url: &str) -> Result<Arc<dyn Store>, Failure> {
    let client = fred::types::Builder::from_config(fred::types::config::Config::from_url(url)?).build()?;
    runtime.block_on(async { client.init().await })?;
    Ok(Arc::new(Fred(client)))
}

fn peer_client(runtime: &Runtime, url: &str) -> Result<Arc<dyn Store>, Failure> {
    Ok(Arc::new(PeerClient(peer(runtime, url)?)))
}

/// cachekit-rs on Redis without its L1.
pub(super) fn peer(runtime: &Runtime, url: &str) -> Result<cachekit_rs::CacheKit, Failure> {
    let backend = cachekit_rs::backend::redis::RedisBackend::builder().url(url).build()?;
    runtime.block_on(backend.connect())?;
    Ok(cachekit_rs::CacheKit::builder().backend(Arc::new(backend)).no_l1().build()?)
}

/// The client library by itself.
struct Raw<C>(C);

impl<C: ::redis::aio::ConnectionLike + Clone + Send + Sync> Store for Raw<C> {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, usize> {
        Box::pin(async move {
            let value: Option<Vec<u8>> = self.0.clone().get(key).await.expect("the peer works");
            value.map_or(0, |value| value.len())
        })
    }

    fn set<'a>(&'a self, key: &'a str, value: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async move { self.0.clone().set(key, value).await.expect("the peer works") })
    }
}

struct Fred(fred::clients::Client);

impl Store for Fred {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, usize> {
        Box::pin(async move {
            let value: Option<bytes::Bytes> = self.0.get(key).await.expect("the peer works");
            value.map_or(0, |value| value.len())
        })
    }

    fn set<'a>(&'a self, key: &'a str, value: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async move {
            let _: () = self.0.set(key, value, None, None, false).await.expect("the peer works");
        })
    }
}

/// Its whole client, without its L1. It has no bytes, and a list of numbers would be slower for no fault of its store.
struct PeerClient(cachekit_rs::CacheKit);

impl Store for PeerClient {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, usize> {
        Box::pin(async move { self.0.get::<String>(key).await.expect("the peer works").map_or(0, |value| value.len()) })
    }

    fn set<'a>(&'a self, key: &'a str, value: &'a [u8]) -> Answer<'a, ()> {
        let text = std::str::from_utf8(value).expect("the values of this bench are ASCII");
        Box::pin(async move { self.0.set(key, &text).await.expect("the peer works") })
    }
}
