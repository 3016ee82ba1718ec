//! Who takes part: the same directory layout met in five ways, a peer, and the floor.

use std::path::Path;
use std::sync::Arc;

use cachekit_backend_file::{Durability, FileBackend, FileConfig};
use cachekit_core::Cache;
use cachekit_host::{Plugin, Policy};
use cachekit_plugin::{HostServices, Open};

use super::floor::Floor;
use super::mode;
use crate::Failure;
use crate::callers::{Answer, Bare, Contender, Store, Whole};

const PEER: &str = "cachekit-rs";

pub(super) fn of_gets(root: &Path, library: &Path) -> Result<Vec<Contender>, Failure> {
    let new = |name, store, beside, floor| Contender { name, store, beside, floor };
    let aimed = vec![(PEER, Some(4.0))];
    let informing = vec![("cachekit-rs client", None)];
    let none = Durability::None;
    Ok(vec![
        new("floor", floor(root, none)?, vec![], None),
        new(PEER, peer(root)?, vec![], None),
        new("cachekit-rs client", peer_client(root)?, vec![], None),
        new("linked", linked(root, none)?, aimed.clone(), Some(("floor", 2.5))),
        new(".so", loaded(root, library, none)?, aimed.clone(), Some(("floor", 2.5))),
        new("Cache", cache(root, none)?, [aimed, informing].concat(), Some(("floor", 2.5))),
    ])
}

pub(super) fn of_sets(root: &Path, library: &Path) -> Result<Vec<Contender>, Failure> {
    let new = |name, store, beside, floor| Contender { name, store, beside, floor };
    let (none, file, full) = (Durability::None, Durability::File, Durability::Full);
    Ok(vec![
        new("floor none", floor(root, none)?, vec![(PEER, None)], None),
        new("floor file", floor(root, file)?, vec![], None),
        new("floor full", floor(root, full)?, vec![], None),
        new(PEER, peer(root)?, vec![], None),
        new("linked none", linked(root, none)?, vec![(PEER, Some(2.0))], Some(("floor none", 1.3))),
        new("linked file", linked(root, file)?, vec![(PEER, Some(1.0))], Some(("floor file", 1.3))),
        new("linked full", linked(root, full)?, vec![(PEER, None)], Some(("floor full", 1.3))),
        new(".so none", loaded(root, library, none)?, vec![(PEER, Some(2.0))], Some(("floor none", 1.3))),
        new(".so file", loaded(root, library, file)?, vec![(PEER, Some(1.0))], Some(("floor file", 1.3))),
        new("Cache none", cache(root, none)?, vec![(PEER, Some(2.0))], Some(("floor none", 1.3))),
        new("Cache file", cache(root, file)?, vec![(PEER, Some(1.0))], Some(("floor file", 1.3))),
    ])
}

fn floor(root: &Path, durability: Durability) -> Result<Arc<dyn Store>, Failure> {
    Ok(Arc::new(Floor::new(&root.join(format!("floor-{}", mode(durability))), durability)?))
}

fn backend(root: &Path, name: &str, durability: Durability) -> Result<FileBackend, Failure> {
    let config = FileConfig::new(root.join(format!("{name}-{}", mode(durability)))).with_durability(durability);
    Ok(FileBackend::open(config, HostServices::none())?)
}

fn linked(root: &Path, durability: Durability) -> Result<Arc<dyn Store>, Failure> {
    Ok(Arc::new(Bare(Arc::new(backend(root, "linked", durability)?))))
}

fn loaded(root: &Path, library: &Path, durability: Durability) -> Result<Arc<dyn Store>, Failure> {
    let mode = mode(durability);
    let options = serde_json::json!({ "dir": root.join(format!("loaded-{mode}")), "durability": mode });
    let plugin = Plugin::open(library, &Policy::default())?;
    Ok(Arc::new(Bare(plugin.create(options.to_string().as_bytes(), HostServices::none())?)))
}

fn cache(root: &Path, durability: Durability) -> Result<Arc<dyn Store>, Failure> {
    let backend = Arc::new(backend(root, "cache", durability)?);
    Ok(Arc::new(Whole(Cache::builder().backend(backend).strict(true).without_l1().build()?)))
}

fn peer(root: &Path) -> Result<Arc<dyn Store>, Failure> {
    Ok(Arc::new(Peer(cachekit_rs::backend::file::FileBackend::builder().cache_dir(root.join("peer")).build()?)))
}

fn peer_client(root: &Path) -> Result<Arc<dyn Store>, Failure> {
    let backend = cachekit_rs::backend::file::FileBackend::builder().cache_dir(root.join("peer-client")).build()?;
    Ok(Arc::new(PeerClient(cachekit_rs::CacheKit::builder().backend(Arc::new(backend)).no_l1().build()?)))
}

/// The peer's backend, by itself.
struct Peer(cachekit_rs::backend::file::FileBackend);

impl Store for Peer {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, usize> {
        use cachekit_rs::backend::Backend;
        Box::pin(async move { self.0.get(key).await.expect("the peer works").map_or(0, |value| value.len()) })
    }

    fn set<'a>(&'a self, key: &'a str, value: &'a [u8]) -> Answer<'a, ()> {
        use cachekit_rs::backend::Backend;
        Box::pin(async move { self.0.set(key, value.to_vec(), None).await.expect("the peer works") })
    }
}

/// The peer's client around it, without its L1.
struct PeerClient(cachekit_rs::CacheKit);

impl Store for PeerClient {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, usize> {
        Box::pin(async move { self.0.get::<String>(key).await.expect("the peer works").map_or(0, |value| value.len()) })
    }

    fn set<'a>(&'a self, key: &'a str, value: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async move { self.0.set(key, &text(value)).await.expect("the peer works") })
    }
}

/// The value as text: the peer's client has no bytes, and a list of numbers would be slower for no fault of its store.
fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).expect("the values of this bench are ASCII")
}
