//! The recorded operations of the family's Python package, done again on three servers.
//!
//! The recording names the server by index; which one holds a key depends on the ports, so here the placement (checked
//! against all recorded selections beside the code) says where to look. What is stored, its flags and its life are compared as
//! recorded.
//!
//! Where this backend differs on purpose:
//!
//! | Recorded | Here | Why |
//! |---|---|---|
//! | `get_key_control_x01`, `get_key_del_x7f` pass | refused | control bytes have no business in a line of text |
//! | `exactly_1MiB_server_rejects` is sent, and transient | too large, before it is sent | it fits into no item of 1 MiB, and no retry makes it smaller |
//! | `decorator_interop_with_prefix_refused` | – | interop keys are made above this layer |

use cachekit_backend_memcached::{MemcachedBackend, MemcachedConfig, Rendezvous};
use cachekit_plugin::{Backend, BackendError, Batch, Bytes, Cas, Expiry, Kind, Locks, Retry, SetItem, Ttl};
use cachekit_test_servers::memcached::Memcached;
use memcache::exp::{AsyncMetaClient, Router};
use serde_json::Value as Json;

use super::{cx, get, k, open, set};

const KEY: &str = "users:get_user:1";

struct Servers {
    servers: [Memcached; 3],
    nodes: Vec<String>,
}

impl Servers {
    fn start() -> Self {
        let servers = Memcached::three();
        let nodes = servers.iter().map(Memcached::addr).collect();
        Self { servers, nodes }
    }

    fn open(&self, prefix: &str) -> MemcachedBackend {
        open(MemcachedConfig::new(self.nodes.clone()).with_key_prefix(prefix))
    }

    /// `mg key t f s v` on every server, as `HD t60 f0 s3` and the value, for those that have it.
    fn stored(&self, key: &str) -> Vec<(usize, String, String)> {
        let mut found = Vec::new();
        for (index, server) in self.servers.iter().enumerate() {
            let answer = server.exchange(&format!("mg {key} t f s\r\nmg {key} v\r\nmn\r\n"), "MN\r\n");
            if !answer.starts_with("EN") {
                let (head, rest) = answer.split_once("\r\n").unwrap();
                let value = rest.split_once("\r\n").unwrap().1.strip_suffix("\r\nMN\r\n").unwrap();
                found.push((index, head.to_owned(), value.to_owned()));
            }
        }
        found
    }
}

/// `t60` or one or two seconds less, or the very same.
fn same_life(recorded: &str, found: &str) -> bool {
    let parts = |text: &str| -> (i64, String) {
        let life = text.split(' ').nth(1).unwrap()[1..].parse().unwrap();
        (life, text.split(' ').skip(2).collect())
    };
    let ((recorded, rest), (found, found_rest)) = (parts(recorded), parts(found));
    rest == found_rest && if recorded < 0 { found == recorded } else { (recorded - 3..=recorded).contains(&found) }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn ttl(seconds: u64) -> Ttl {
    Ttl::from_ms(seconds * 1000).unwrap()
}

fn refused(answer: Result<Option<Bytes>, BackendError>) {
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::TooLarge, Retry::No), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_operation_stores_what_was_recorded() {
    let recorded: Json = serde_json::from_str(include_str!("../vectors/memcached.json")).unwrap();
    let operations = recorded["operations"].as_array().unwrap();
    assert_eq!(operations.len(), 27);
    let mut elsewhere = Vec::new();
    for operation in operations {
        let name = operation["name"].as_str().unwrap();
        let prefix = operation["config"]["key_prefix"].as_str().unwrap_or_default();
        let servers = Servers::start_once();
        servers.flush();
        let b = servers.open(prefix);
        let v = Bytes::from_static(b"v");
        match name {
            "set_ttl_60" => b.set(k(KEY), bytes("00ff76").into(), ttl(60), &cx()).await.unwrap(),
            // Zero and less do not exist in the contract: whoever means "never" says so.
            "set_no_ttl" | "set_ttl_0" | "set_ttl_negative_means_none" => set(&b, KEY, v).await.unwrap(),
            "set_ttl_clamped_30d" => b.set(k(KEY), v, ttl(40 * 86_400), &cx()).await.unwrap(),
            "prefix" => b.set(k(KEY), v, ttl(60), &cx()).await.unwrap(),
            "empty_value" => {
                b.set(k(KEY), Bytes::new(), ttl(60), &cx()).await.unwrap();
                assert_eq!(get(&b, KEY).await.unwrap(), Some(Bytes::new()));
            }
            "too_big_client_guard" => {
                let error = set(&b, KEY, vec![0; 1_048_577]).await.unwrap_err();
                assert_eq!((error.kind(), error.retry()), (Kind::TooLarge, Retry::No));
                assert!(error.message().contains("max_item_size_bytes"), "{error}");
            }
            "exactly_1MiB_server_rejects" => {
                let error = set(&b, KEY, vec![0; 1_048_576]).await.unwrap_err();
                assert_eq!((error.kind(), error.retry()), (Kind::TooLarge, Retry::No));
                assert!(error.message().contains("max_item_size_bytes"), "{error}");
            }
            "delete_absent" => assert!(!b.delete(k(KEY), &cx()).await.unwrap()),
            "touch" => {
                b.set(k(KEY), v, ttl(60), &cx()).await.unwrap();
                assert!(Expiry::touch(&b, k(KEY), ttl(600), &cx()).await.unwrap());
            }
            "touch_absent" => assert!(!Expiry::touch(&b, k(KEY), ttl(600), &cx()).await.unwrap()),
            "get_key_space" => refused(get(&b, "a b").await),
            "get_key_251" => refused(get(&b, &"k".repeat(251)).await),
            "get_key_250_ok" => assert_eq!(get(&b, &"k".repeat(250)).await.unwrap(), None),
            "get_key_unicode" => refused(get(&b, "caf\u{e9}").await),
            "get_key_newline" => refused(get(&b, "a\nb").await),
            "get_key_nul" => refused(get(&b, "a\0b").await),
            "get_key_tab" => refused(get(&b, "a\tb").await),
            "get_key_vt_x0b" => refused(get(&b, "a\x0bb").await),
            "get_key_empty" => refused(get(&b, "").await),
            "prefix_pushes_over_250" => refused(get(&b, &"k".repeat(241)).await),
            "get_key_control_x01" => refused(get(&b, "a\x01b").await),
            "get_key_del_x7f" => refused(get(&b, "a\x7fb").await),
            "exists" => {
                b.set(k(KEY), v, ttl(60), &cx()).await.unwrap();
                assert!(b.exists(k(KEY), &cx()).await.unwrap() && !b.exists(k("other"), &cx()).await.unwrap());
            }
            "decorator_interop" => {
                let stored = operation["stored"].as_object().unwrap();
                let (key, found) = stored.iter().next().unwrap();
                let value = bytes(found[0]["value_hex"].as_str().unwrap());
                b.set(k(key), value.into(), ttl(300), &cx()).await.unwrap();
            }
            "decorator_interop_with_prefix_refused" => elsewhere.push(name),
            other => panic!("a recorded operation nobody looked at: {other}"),
        }
        for (key, recorded) in operation["stored"].as_object().unwrap() {
            let (recorded, found) = (recorded.as_array().unwrap(), servers.stored(key));
            assert_eq!(found.len(), recorded.len(), "{name}: {key} on {found:?}");
            for (recorded, (index, head, value)) in recorded.iter().zip(found) {
                assert_eq!(index, Rendezvous.route(key.as_bytes(), &servers.nodes), "{name}: {key}");
                let life = recorded["meta_get_t_f_s"].as_str().unwrap();
                assert!(same_life(life, &head), "{name}: {head} instead of {life}");
                let wanted = bytes(recorded["value_hex"].as_str().unwrap());
                assert_eq!(value, String::from_utf8_lossy(&wanted), "{name}");
            }
        }
    }
    assert_eq!(elsewhere, ["decorator_interop_with_prefix_refused"]);
}

impl Servers {
    /// The same three for all recorded operations of a run.
    fn start_once() -> &'static Self {
        static SERVERS: std::sync::OnceLock<Servers> = std::sync::OnceLock::new();
        SERVERS.get_or_init(Self::start)
    }

    fn flush(&self) {
        for server in &self.servers {
            assert_eq!(server.exchange("flush_all\r\n", "\r\n"), "OK\r\n");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_on_the_server_the_placement_names_and_on_no_other() {
    let servers = Servers::start();
    let backend = servers.open("");
    let keys: Vec<String> = (0..300).map(|number| format!("users:get_user:{number:064x}")).collect();
    let items: Vec<SetItem<'_>> =
        keys.iter().map(|key| SetItem { key: k(key), value: key.clone().into(), ttl: ttl(60) }).collect();
    let stored = Batch::set_many(&backend, &items, &cx()).await.unwrap();
    assert!(stored.iter().all(Result::is_ok));
    let mut counts = [0; 3];
    for key in &keys {
        let found = servers.stored(key);
        let [(index, _, value)] = &found[..] else { panic!("{key} is on {found:?}") };
        assert_eq!((*index, value), (Rendezvous.route(key.as_bytes(), &servers.nodes), key));
        counts[*index] += 1;
    }
    assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
}

/// Another implementation of the protocol, told our placement, and the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_memcache_crate_with_our_router_shares_the_entries() {
    let servers = Servers::start();
    let backend = servers.open("");
    let builder = AsyncMetaClient::builder().router(Rendezvous);
    let other = builder.connect_multiple_async(servers.nodes.clone()).await.unwrap();
    for number in 0..100 {
        let (ours, theirs) = (format!("ours{number}"), format!("theirs{number}"));
        set(&backend, &ours, ours.clone()).await.unwrap();
        let found = other.get(&ours).send().await.unwrap();
        assert_eq!(found.value.as_deref(), Some(ours.as_bytes()));
        other.set(&theirs, &theirs).send().await.unwrap();
        assert_eq!(get(&backend, &theirs).await.unwrap(), Some(theirs.clone().into()));
        other.delete(&ours).send().await.unwrap();
        assert_eq!(get(&backend, &ours).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_from_before_a_restart_does_not_hold_after_it() {
    let server = Memcached::start();
    let backend = super::on(server.addr());
    set(&backend, "k", "before").await.unwrap();
    let (_, seen) = Cas::get_version(&backend, k("k"), &cx()).await.unwrap().unwrap();
    // Its numbers of writes begin anew; a second of uptime more or less must not matter, a new process must.
    tokio::task::block_in_place(|| server.restart());
    super::until_ok("set after a restart", || set(&backend, "k", "after")).await;
    let (_, now) = Cas::get_version(&backend, k("k"), &cx()).await.unwrap().unwrap();
    assert_eq!(seen.0 as u64, now.0 as u64, "the same number of another process: the trap is there");
    let stored = Cas::set_if(&backend, k("k"), "wrong".into(), ttl(60), Some(seen), &cx()).await.unwrap();
    assert!(!stored);
    assert_eq!(get(&backend, "k").await.unwrap().as_deref(), Some(&b"after"[..]));
    assert!(Cas::set_if(&backend, k("k"), "right".into(), ttl(60), Some(now), &cx()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_stand_beside_entries_and_end_with_their_hold() {
    let server = Memcached::start();
    let backend = super::on(server.addr());
    assert!(Locks::lock(&backend, k("job"), b"token", 30_000, &cx()).await.unwrap());
    let stored = server.exchange("mg ck.lock:job t v\r\nmn\r\n", "MN\r\n");
    assert!(stored.starts_with("VA 5 t30\r\ntoken") || stored.starts_with("VA 5 t29\r\ntoken"), "{stored}");
    assert_eq!(get(&backend, "job").await.unwrap(), None);
    assert!(Locks::unlock(&backend, k("job"), b"token", &cx()).await.unwrap());
    assert_eq!(server.exchange("mg ck.lock:job v\r\n", "\r\n"), "EN\r\n");
}
