//! What others write is told, what this backend writes is not, and silence has an end.

mod store;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cachekit_plugin::{Backend, Bytes, Cx, Event, Key, Kind, Ttl, WatchGuard, WatchSink};
use cachekit_test_servers::proxy::{Fault, Proxy};
use cachekit_test_servers::redis::{Cluster, Redis, Sentinel};
use serde_json::json;
use store::{PATIENCE, delete, open, set, until};

#[derive(Default)]
struct Told(Mutex<Vec<(String, Instant)>>);

impl WatchSink for Told {
    fn event(&self, event: Event<'_>) {
        let told = match event {
            Event::Changed(key) => String::from_utf8_lossy(key.as_bytes()).into_owned(),
            Event::Everything => "EVERYTHING".into(),
            Event::Lost => "LOST".into(),
        };
        self.0.lock().unwrap().push((told, Instant::now()));
    }
}

impl Told {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(told, _)| told.clone()).collect()
    }

    async fn has(&self, what: &str) -> Duration {
        until(&format!("{what} is told"), async || self.all().iter().any(|told| told == what)).await
    }
}

async fn watch(backend: &cachekit_backend_redis::RedisBackend, prefix: &str) -> (Arc<Told>, WatchGuard) {
    watch_within(backend, prefix, PATIENCE).await
}

async fn watch_within(
    backend: &cachekit_backend_redis::RedisBackend,
    prefix: &str,
    patience: Duration,
) -> (Arc<Told>, WatchGuard) {
    let told = Arc::new(Told::default());
    let sink: Arc<dyn WatchSink> = Arc::clone(&told) as _;
    let guard = backend.watch().unwrap().watch(prefix.as_bytes(), sink, &Cx::within(patience)).await.unwrap();
    (told, guard)
}

#[tokio::test]
async fn foreign_writes_are_told_under_the_tenants_own_names_and_own_writes_are_not() {
    let server = Redis::start();
    let options = json!({ "url": server.url(), "tenant": "a:b", "connections": 3 });
    let (ours, theirs) = (open(options.clone()), open(options));
    set(&ours, b"before", b"v").await.unwrap();
    let (told, guard) = watch(&ours, "").await;
    for number in 0..20 {
        let key = format!("own{number}");
        set(&ours, key.as_bytes(), b"v").await.unwrap();
        delete(&ours, key.as_bytes()).await.unwrap();
    }
    set(&theirs, b"foreign", b"v").await.unwrap();
    server.command(&["SET", "t:other:foreign2", "v"]);
    server.command(&["SET", "t:a%3Ab:last", "v"]);
    told.has("last").await;
    assert_eq!(told.all(), ["foreign", "last"]);
    server.command(&["FLUSHALL"]);
    told.has("EVERYTHING").await;
    drop(guard);
    until("the watched connection is closed", async || !server.command(&["CLIENT", "LIST"]).contains("resp=3")).await;
    set(&ours, b"after", b"v").await.unwrap();
    set(&theirs, b"after", b"w").await.unwrap();
    assert_eq!(told.all().last().map(String::as_str), Some("EVERYTHING"));
}

/// A write that is under way when a watch begins goes another way than the later ones, and is no less this backend's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_under_way_when_the_watch_began_is_not_told() {
    let server = Redis::start();
    let ours = open(json!({ "url": server.url(), "connections": 3, "socket_timeout": 60.0 }));
    set(&ours, b"before", b"v").await.unwrap();
    // Held up in the server, which still lets connections be watched.
    server.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let held = tokio::spawn({
        let ours = Arc::clone(&ours);
        let cx = Cx::within(Duration::from_secs(600));
        async move { ours.set(Key::from_wire(b"own"), Bytes::from_static(b"v"), Ttl::Never, &cx).await }
    });
    until("the write is held up", async || server.command(&["INFO", "clients"]).contains("blocked_clients:1")).await;
    let beginning = tokio::spawn({
        let ours = Arc::clone(&ours);
        async move { watch_within(&ours, "", Duration::from_secs(600)).await }
    });
    until("the watched connection is open", async || server.command(&["CLIENT", "LIST"]).contains("resp=3")).await;
    // As many exchanges as it takes for tracking to begin, where it does not wait.
    for _ in 0..20 {
        assert!(
            !server.command(&["CLIENT", "LIST"]).contains("flags=t"),
            "the server tells before the write has ended"
        );
    }
    assert!(!beginning.is_finished(), "the watch began with a write under way");
    server.command(&["CLIENT", "UNPAUSE"]);
    held.await.unwrap().unwrap();
    let (told, _guard) = beginning.await.unwrap();
    server.command(&["SET", "last", "v"]);
    told.has("last").await;
    assert_eq!(told.all(), ["last"]);
}

/// Writes of a caller that never ends hold a watch up, and do not keep it from beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_hangs_does_not_keep_a_watch_from_beginning() {
    let server = Redis::start();
    let ours = open(json!({ "url": server.url(), "socket_timeout": 60.0 }));
    set(&ours, b"before", b"v").await.unwrap();
    server.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let held = tokio::spawn({
        let ours = Arc::clone(&ours);
        let cx = Cx::within(Duration::from_secs(600));
        async move { ours.set(Key::from_wire(b"own"), Bytes::from_static(b"v"), Ttl::Never, &cx).await }
    });
    until("the write is held up", async || server.command(&["INFO", "clients"]).contains("blocked_clients:1")).await;
    let told = Arc::new(Told::default());
    let sink: Arc<dyn WatchSink> = Arc::clone(&told) as _;
    let guard = ours.watch().unwrap().watch(b"", sink, &Cx::within(Duration::from_secs(10))).await;
    assert!(guard.is_ok() && !held.is_finished(), "{:?}", guard.err());
    server.command(&["CLIENT", "UNPAUSE"]);
    server.command(&["SET", "foreign", "v"]);
    told.has("foreign").await;
}

#[tokio::test]
async fn an_entry_whose_name_ends_like_a_leases_is_told() {
    let server = Redis::start();
    let (ours, theirs) = (open(json!({ "url": server.url() })), open(json!({ "url": server.url() })));
    let (told, _guard) = watch(&ours, "").await;
    set(&theirs, b"door:lock", b"v").await.unwrap();
    told.has("door:lock").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_goes_dead_without_a_word_is_lost_within_two_seconds() {
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let ours = open(json!({ "url": format!("redis://{}", proxy.addr()) }));
    let (told, _guard) = watch(&ours, "").await;
    // Past some beats, so that the silence begins in the middle of them.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(told.all(), [] as [&str; 0]);
    let silent_since = Instant::now();
    proxy.set(Fault::BlackHole);
    told.has("LOST").await;
    let took = told.0.lock().unwrap()[0].1.duration_since(silent_since);
    println!("lost {took:?} after the line went dead");
    assert!(took < Duration::from_secs(2), "{took:?}");
    // Once, and nothing after it.
    proxy.set(Fault::None);
    until("the store is used again", async || set(&ours, b"k", b"v").await.is_ok()).await;
    server.command(&["SET", "k", "w"]);
    assert_eq!(told.all(), ["LOST"]);
    let (again, _guard) = watch(&ours, "").await;
    server.command(&["SET", "k", "x"]);
    again.has("k").await;
}

#[tokio::test]
async fn a_server_that_dies_is_lost_at_once() {
    let server = Redis::start();
    let ours = open(json!({ "url": server.url() }));
    let (told, _guard) = watch(&ours, "").await;
    server.kill();
    told.has("LOST").await;
}

#[tokio::test]
async fn closing_the_backend_ends_its_watches() {
    let server = Redis::start();
    let ours = open(json!({ "url": server.url() }));
    let (told, _guard) = watch(&ours, "").await;
    ours.close(&Cx::within(PATIENCE)).await.unwrap();
    told.has("LOST").await;
}

#[tokio::test]
async fn a_second_watch_shares_the_connection_and_a_wider_one_says_that_something_was_missed() {
    let server = Redis::start();
    let (ours, theirs) = (open(json!({ "url": server.url() })), open(json!({ "url": server.url() })));
    let (narrow, first) = watch(&ours, "a:").await;
    let (narrower, _second) = watch(&ours, "a:b:").await;
    let (wide, _third) = watch(&ours, "z:").await;
    assert_eq!((narrow.all(), wide.all()), (vec!["EVERYTHING".to_owned()], vec![]));
    assert_eq!(server.command(&["CLIENT", "LIST"]).matches("resp=3").count(), 1);
    for key in ["a:1", "a:b:1", "z:1"] {
        set(&ours, key.as_bytes(), b"own").await.unwrap();
        set(&theirs, key.as_bytes(), b"v").await.unwrap();
    }
    wide.has("z:1").await;
    assert_eq!(narrow.all(), ["EVERYTHING", "a:1", "a:b:1"]);
    assert_eq!(narrower.all(), ["EVERYTHING", "a:b:1"]);
    assert_eq!(wide.all(), ["z:1"]);
    drop(first);
    set(&theirs, b"a:b:2", b"v").await.unwrap();
    narrower.has("a:b:2").await;
    assert_eq!(narrow.all().len(), 3);
}

/// A server that lets the user `plain` do everything but watch, and where to find it as that user.
fn that_refuses_to_track() -> (Redis, String) {
    let server = Redis::start();
    server.command(&["ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-client|tracking"]);
    let url = format!("redis://plain:secret@127.0.0.1:{}", server.port());
    (server, url)
}

#[tokio::test]
async fn a_server_that_refuses_to_track_refuses_the_watch() {
    let (_server, url) = that_refuses_to_track();
    let ours = open(json!({ "url": url }));
    let refused = ours.watch().unwrap().watch(b"", Arc::new(Told::default()), &Cx::within(PATIENCE)).await;
    // For good: it is not asked again.
    assert_eq!(refused.unwrap_err().kind(), Kind::Unsupported);
    set(&ours, b"k", b"v").await.unwrap();
}

/// Writes without a pause from several callers, until it is dropped into [`Writers::ended`].
struct Writers {
    is_over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<usize>>,
}

impl Writers {
    fn start(ours: &Arc<cachekit_backend_redis::RedisBackend>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let write = |caller: usize| {
            let (ours, is_over) = (Arc::clone(ours), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut written = 0;
                while !is_over.load(Ordering::Relaxed) {
                    set(&ours, format!("k{caller}").as_bytes(), b"v").await.unwrap();
                    written += 1;
                }
                written
            })
        };
        Self { tasks: (0..8).map(write).collect(), is_over }
    }

    /// How many writes there were, of which none failed.
    async fn ended(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        let mut written = 0;
        for task in self.tasks {
            written += task.await.unwrap();
        }
        written
    }
}

async fn no_connection_is_watched(server: &Redis) {
    until("the watched connection is closed", async || !server.command(&["CLIENT", "LIST"]).contains("resp=3")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_refused_fails_no_write_of_others() {
    let (server, url) = that_refuses_to_track();
    let ours = open(json!({ "url": url, "socket_timeout": 60.0 }));
    let (told, writers) = (Arc::new(Told::default()), Writers::start(&ours));
    for _ in 0..50 {
        let sink: Arc<dyn WatchSink> = Arc::clone(&told) as _;
        let refused = ours.watch().unwrap().watch(b"", sink, &Cx::within(PATIENCE)).await;
        assert_eq!(refused.unwrap_err().kind(), Kind::Unsupported);
    }
    println!("{} writes", writers.ended().await);
    no_connection_is_watched(&server).await;
    until("nobody knows the listener any more", async || Arc::strong_count(&told) == 1).await;
    assert_eq!(told.all(), [] as [&str; 0]);
}

/// Its writes are held up in the server, on the connection that would have been watched, when the caller leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_caller_left_fails_no_write_of_others() {
    let server = Redis::start();
    let ours = open(json!({ "url": server.url(), "socket_timeout": 60.0 }));
    set(&ours, b"before", b"v").await.unwrap();
    server.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let write = || {
        let ours = Arc::clone(&ours);
        tokio::spawn(async move {
            let cx = Cx::within(Duration::from_secs(60));
            ours.set(Key::from_wire(b"own"), Bytes::from_static(b"v"), Ttl::Never, &cx).await
        })
    };
    let blocked = |count| {
        let line = format!("blocked_clients:{count}");
        server.command(&["INFO", "clients"]).contains(&line)
    };
    let mut writes = vec![write()];
    until("the write is held up", async || blocked(1)).await;
    let told = Arc::new(Told::default());
    let beginning = tokio::spawn({
        let (ours, sink) = (Arc::clone(&ours), Arc::clone(&told) as Arc<dyn WatchSink>);
        async move { ours.watch().unwrap().watch(b"", sink, &Cx::within(Duration::from_secs(60))).await.map(drop) }
    });
    until("a write is held up on the new connection", async || {
        writes.push(write());
        blocked(2)
    })
    .await;
    beginning.abort();
    assert!(beginning.await.unwrap_err().is_cancelled());
    writes.push(write());
    server.command(&["CLIENT", "UNPAUSE"]);
    for write in writes {
        write.await.unwrap().unwrap();
    }
    no_connection_is_watched(&server).await;
    server.command(&["SET", "foreign", "v"]);
    until("nobody knows the listener any more", async || Arc::strong_count(&told) == 1).await;
    assert_eq!(told.all(), [] as [&str; 0]);
}

/// What the server tells of after a refusal is not known, so those who listened are told that it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_could_not_be_widened_is_lost_and_fails_no_write() {
    let (server, url) = that_refuses_to_track();
    let ours = open(json!({ "url": url, "socket_timeout": 60.0 }));
    let writers = Writers::start(&ours);
    for _ in 0..20 {
        server.command(&["ACL", "SETUSER", "plain", "+client|tracking"]);
        let (narrow, _guard) = watch(&ours, "a:").await;
        server.command(&["ACL", "SETUSER", "plain", "-client|tracking"]);
        let wide = ours.watch().unwrap().watch(b"", Arc::new(Told::default()), &Cx::within(PATIENCE)).await;
        assert_eq!(wide.unwrap_err().kind(), Kind::Unsupported);
        assert_eq!(narrow.all(), ["LOST"]);
    }
    println!("{} writes", writers.ended().await);
    no_connection_is_watched(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_watch_fails_no_write_of_others() {
    let server = Redis::start();
    let ours = open(json!({ "url": server.url(), "socket_timeout": 60.0 }));
    let writers = Writers::start(&ours);
    for _ in 0..50 {
        let (_told, guard) = watch(&ours, "").await;
        drop(guard);
    }
    println!("{} writes", writers.ended().await);
    no_connection_is_watched(&server).await;
}

#[tokio::test]
async fn a_watch_through_sentinels_is_lost_with_the_master() {
    let sentinel = Sentinel::start();
    let ours = open(json!({ "url": sentinel.url() }));
    let (told, _guard) = watch(&ours, "").await;
    sentinel.kill_primary();
    told.has("LOST").await;
}

#[tokio::test]
async fn a_cluster_offers_no_watch() {
    let cluster = Cluster::start();
    assert!(open(json!({ "url": cluster.url() })).watch().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clients_write_is_told_soon() {
    let server = Redis::start();
    let (ours, theirs) = (open(json!({ "url": server.url() })), open(json!({ "url": server.url() })));
    let (told, _guard) = watch(&ours, "").await;
    let mut took = Vec::new();
    for number in 0..500 {
        let begun = Instant::now();
        set(&theirs, format!("k{number}").as_bytes(), b"v").await.unwrap();
        until("it is told", async || told.all().len() > number).await;
        took.push(told.0.lock().unwrap()[number].1.duration_since(begun));
    }
    took.sort();
    println!("from the write's begin to the event: p50 {:?}, p99 {:?}", took[250], took[495]);
}
