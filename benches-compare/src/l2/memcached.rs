//! Who takes part on Memcached.

use std::sync::Arc;

use cachekit_backend_memcached::MemcachedBackend;
use cachekit_core::Cache;
use cachekit_plugin::{HostServices, Open};
use serde_json::json;

use super::{over, over_library};
use crate::callers::{Answer, Contender, Store, Whole};
use crate::{Failure, artifacts};

const CLASSIC: &str = "memcache";

pub(super) fn of_gets(address: &str, callers: usize) -> Result<Vec<Contender>, Failure> {
    contenders(address, (callers == 256).then_some(10.0))
}

pub(super) fn of_sets(address: &str) -> Result<Vec<Contender>, Failure> {
    contenders(address, None)
}

fn contenders(address: &str, goal: Option<f64>) -> Result<Vec<Contender>, Failure> {
    let new = |name, store, beside| Contender { name, store, beside, floor: None };
    let whole = |cache| Arc::new(Whole(cache)) as Arc<dyn Store>;
    Ok(vec![
        new(CLASSIC, classic(address)?, vec![]),
        new("Cache", whole(linked(address)?), vec![(CLASSIC, goal)]),
        new("Cache .so", whole(loaded(address)?), vec![(CLASSIC, goal)]),
    ])
}

fn options(address: &str) -> serde_json::Value {
    json!({ "servers": [address] })
}

fn linked(address: &str) -> Result<Cache, Failure> {
    let options = options(address).to_string();
    Ok(over(Arc::new(MemcachedBackend::open_json(options.as_bytes(), HostServices::none())?))?)
}

pub(super) fn loaded(address: &str) -> Result<Cache, Failure> {
    over_library(&artifacts::backend_plugin("memcached")?, &options(address))
}

fn classic(address: &str) -> Result<Arc<dyn Store>, Failure> {
    // Ten connections, as the family's Python client keeps at most.
    let client = memcache::Client::builder()
        .add_server(format!("memcache://{address}?protocol=ascii"))?
        .with_max_pool_size(10)
        .build()?;
    Ok(Arc::new(Classic(client)))
}

/// The classic client blocks, so each call goes to tokio's blocking threads.
struct Classic(memcache::Client);

impl Store for Classic {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, usize> {
        let (client, key) = (self.0.clone(), key.to_owned());
        Box::pin(async move {
            let get = tokio::task::spawn_blocking(move || client.get::<Vec<u8>>(&key));
            let value = get.await.expect("no panic").expect("the peer works");
            value.map_or(0, |value| value.len())
        })
    }

    fn set<'a>(&'a self, key: &'a str, value: &'a [u8]) -> Answer<'a, ()> {
        let (client, key, value) = (self.0.clone(), key.to_owned(), value.to_vec());
        Box::pin(async move {
            let set = tokio::task::spawn_blocking(move || client.set(&key, &value[..], 0));
            set.await.expect("no panic").expect("the peer works");
        })
    }
}
