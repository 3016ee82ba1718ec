//! Servers that are down, stalled, full, read-only, loading or not for everybody; what a caller is told, and how soon.

mod store;

use std::time::{Duration, Instant};

use cachekit_plugin::{Backend, Cx, Key, Kind, Retry};
use cachekit_test_servers::certificates::Authority;
use cachekit_test_servers::proxy::{Fault, Proxy};
use cachekit_test_servers::redis::{Options, Redis, Tls};
use serde_json::json;
use store::{PATIENCE, get, get_within, open, set, until};

#[tokio::test]
async fn a_server_that_is_down_is_an_outage_and_never_a_miss() {
    let server = Redis::start();
    let backend = open(json!({ "url": server.url() }));
    set(&backend, b"k", b"v").await.unwrap();
    server.kill();
    let mut kinds = Vec::new();
    for _ in 0..20 {
        let error = get(&backend, b"k").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Transient, "{error}");
        kinds.push(matches!(error.retry(), Retry::After(_)));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Most of them fell into a pause and say when to come back.
    assert!(kinds.iter().filter(|after| **after).count() >= 10, "{kinds:?}");
    server.restart();
    until("the server is used again", async || get(&backend, b"k").await.is_ok_and(|found| found.is_none())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_server_costs_no_call_more_than_its_deadline() {
    let server = Redis::start();
    let backend = open(json!({ "url": server.url() }));
    set(&backend, b"k", b"v").await.unwrap();
    server.stop();
    for _ in 0..6 {
        let begun = Instant::now();
        let error = get_within(&backend, b"k", Duration::from_millis(250)).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Timeout | Kind::Transient), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    server.cont();
    let back = until("the value is there again", async || {
        get_within(&backend, b"k", Duration::from_millis(250)).await.is_ok_and(|value| value.as_deref() == Some(b"v"))
    })
    .await;
    println!("used again {back:?} after its return");
}

#[tokio::test]
async fn twenty_restarts_lead_to_no_wrong_value() {
    let server = Redis::start();
    let backend = open(json!({ "url": server.url(), "connections": 2 }));
    let mut slowest = Duration::ZERO;
    for round in 0..20_u32 {
        let value = round.to_le_bytes();
        until("a value is stored", async || set(&backend, b"k", &value).await.is_ok()).await;
        assert_eq!(get(&backend, b"k").await.unwrap().as_deref(), Some(&value[..]));
        server.restart();
        // Emptied by the restart: nothing may come back, least of all an older value.
        let took = until("the server is used again", async || match get(&backend, b"k").await {
            Ok(found) => {
                assert_eq!(found, None);
                true
            }
            Err(_) => false,
        })
        .await;
        slowest = slowest.max(took);
    }
    println!("slowest recovery of 20: {slowest:?}");
}

#[tokio::test]
async fn a_full_server_refuses_writes_and_answers_reads() {
    let server = Options::new().with_max_memory("2mb", "noeviction").start();
    let backend = open(json!({ "url": server.url() }));
    set(&backend, b"small", b"v").await.unwrap();
    let mut refused = None;
    for number in 0..200 {
        if let Err(error) = set(&backend, format!("k{number}").as_bytes(), &[7; 65_536]).await {
            refused = Some(error);
            break;
        }
    }
    let error = refused.expect("a server of 2 MB takes no 13 MB");
    assert_eq!((error.kind(), error.retry()), (Kind::Transient, Retry::No), "{error}");
    assert!(error.to_string().contains("OOM"), "{error}");
    assert_eq!(get(&backend, b"small").await.unwrap().as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn a_replica_answers_reads_and_refuses_writes() {
    let primary = Redis::start();
    let replica = Options::new().with_primary(&primary).start();
    let (writer, reader) = (open(json!({ "url": primary.url() })), open(json!({ "url": replica.url() })));
    set(&writer, b"k", b"v").await.unwrap();
    until("the replica has the value", async || {
        get(&reader, b"k").await.is_ok_and(|value| value.as_deref() == Some(b"v"))
    })
    .await;
    let error = set(&reader, b"k", b"w").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
    assert!(error.to_string().contains("READONLY"), "{error}");
    until("reads go on", async || get(&reader, b"k").await.is_ok_and(|value| value.as_deref() == Some(b"v"))).await;
}

#[tokio::test]
async fn a_server_that_loads_is_an_outage_with_a_pause() {
    let server = Redis::with(&["--loading-process-events-interval-bytes", "1024"]);
    let backend = open(json!({ "url": server.url() }));
    server.command(&["DEBUG", "POPULATE", "200000", "k", "100"]);
    server.command(&["CONFIG", "SET", "key-load-delay", "100"]);
    set(&backend, b"k", b"v").await.unwrap();
    // Loads its own keys again, slowly enough to be seen.
    let mut reloading = server.client();
    let mut reloading = reloading.args(["DEBUG", "RELOAD"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut loading = None;
    until("the server says that it loads", async || {
        match get_within(&backend, b"k", Duration::from_millis(500)).await {
            Err(error) if error.to_string().contains("LOADING") => {
                loading = Some(error);
                true
            }
            _ => false,
        }
    })
    .await;
    let error = loading.unwrap();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
    assert!(matches!(error.retry(), Retry::After(_)));
    let _ = reloading.kill();
    let _ = reloading.wait();
}

#[tokio::test]
async fn a_password_that_is_missing_or_wrong_is_a_refusal_and_not_shown() {
    let server = Options::new().with_password("open sesame/1").start();
    let wrong = format!("redis://:hunter2@127.0.0.1:{}", server.port());
    for url in [server.url(), wrong] {
        let backend = open(json!({ "url": url }));
        let error = get(&backend, b"k").await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (Kind::Auth, Retry::No), "{error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("sesame"), "{shown}");
    }
    let right = format!("redis://:open%20sesame%2F1@127.0.0.1:{}", server.port());
    set(&open(json!({ "url": right })), b"k", b"v").await.unwrap();
}

#[tokio::test]
async fn a_user_without_the_right_is_refused() {
    let server = Redis::start();
    server.command(&["ACL", "SETUSER", "reader", "on", ">secret", "~*", "+get", "+select"]);
    let backend = open(json!({ "url": format!("redis://reader:secret@127.0.0.1:{}", server.port()) }));
    assert_eq!(get(&backend, b"k").await.unwrap(), None);
    let error = set(&backend, b"k", b"v").await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Auth, Retry::No), "{error}");
}

#[tokio::test]
async fn a_server_that_is_full_of_clients_says_so() {
    let server = Redis::start();
    server.command(&["CONFIG", "SET", "maxclients", "1"]);
    let held = open(json!({ "url": server.url() }));
    until("one client is in", async || set(&held, b"k", b"v").await.is_ok()).await;
    let error = get(&open(json!({ "url": server.url() })), b"k").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
    assert!(error.to_string().contains("max number of clients"), "{error}");
}

#[tokio::test]
async fn certificates_of_the_wrong_name_or_age_are_refused_and_say_why() {
    let authority = Authority::new();
    let (name, age) = (Tls::wrong_name(&authority), Tls::expired(&authority));
    for (server, word) in [(&name, "name"), (&age, "xpired")] {
        let backend = open(json!({ "url": server.url(), "ca_file": server.ca() }));
        let error = get(&backend, b"k").await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (Kind::Config, Retry::No), "{error}");
        assert!(error.to_string().contains("certificate") && error.to_string().contains(word), "{error}");
    }
    // Signed by somebody whom the system does not know.
    let right = Tls::start(&authority);
    let other = Authority::new();
    let error = get(&open(json!({ "url": right.url(), "ca_file": other.ca() })), b"k").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    set(&open(json!({ "url": right.url(), "ca_file": right.ca() })), b"k", b"v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_cuts_garbles_and_repeats_makes_errors_and_recovers() {
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let url = format!("redis://{}", proxy.addr());
    let backend = open(json!({ "url": url, "socket_timeout": 0.3, "socket_connect_timeout": 0.5 }));
    // A value that tells whose it is: what is garbled on the way may differ, but must not be another key's.
    let value = |key: &str| format!("{key}:").repeat(40);
    let keys: Vec<String> = (0..8).map(|number| format!("key{number}")).collect();
    for key in &keys {
        set(&backend, key.as_bytes(), value(key).as_bytes()).await.unwrap();
    }
    let faults = [
        Fault::Delay(Duration::from_millis(20)),
        Fault::Stall,
        Fault::BlackHole,
        Fault::Reset,
        Fault::Refuse,
        Fault::CutAfter(100),
        Fault::Garble(7),
        Fault::Duplicate,
    ];
    for fault in faults {
        let shown = format!("{fault:?}");
        proxy.set(fault);
        for round in 0..20 {
            let key = &keys[round % keys.len()];
            let begun = Instant::now();
            let answer = get_within(&backend, key.as_bytes(), Duration::from_millis(100)).await;
            assert!(begun.elapsed() < Duration::from_secs(2), "{shown}: {:?}", begun.elapsed());
            // The protocol has nothing that says to which request a reply belongs. A stream that repeats bytes after the
            // next request was sent is found out with the reply after that; until then only the envelope tells.
            let telling = !shown.starts_with("Garble") && !shown.starts_with("Duplicate");
            if let (Ok(Some(found)), true) = (&answer, telling) {
                assert_eq!(&**found, value(key).as_bytes(), "{shown}");
            }
        }
        proxy.set(Fault::None);
        proxy.reset_once();
        let took = until(&format!("recovery from {shown}"), async || {
            get_within(&backend, b"key0", Duration::from_millis(500)).await.is_ok_and(|found| found.is_some())
        })
        .await;
        println!("recovered from {shown} in {took:?}");
    }
}

#[tokio::test]
async fn the_first_use_may_come_before_the_server() {
    let server = Redis::start();
    server.kill();
    let backend = open(json!({ "url": server.url() }));
    assert!(get(&backend, b"k").await.is_err());
    server.restart();
    until("the server is used", async || set(&backend, b"k", b"v").await.is_ok()).await;
}

#[test]
fn a_backend_outlives_the_runtime_it_was_first_used_on() {
    let server = Redis::start();
    let backend = open(json!({ "url": server.url() }));
    for round in 0..3_u8 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            set(&backend, b"k", &[round]).await.unwrap();
            assert_eq!(get(&backend, b"k").await.unwrap().as_deref(), Some(&[round][..]));
        });
        drop(runtime);
    }
}

#[tokio::test]
async fn a_closed_backend_can_be_used_again() {
    let server = Redis::start();
    let backend = open(json!({ "url": server.url() }));
    set(&backend, b"k", b"v").await.unwrap();
    backend.close(&Cx::within(PATIENCE)).await.unwrap();
    until("the connection is gone", async || server.command(&["CLIENT", "LIST"]).lines().count() == 1).await;
    assert_eq!(get(&backend, b"k").await.unwrap().as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn health_tells_version_and_latency() {
    let server = Redis::start();
    let backend = open(json!({ "url": server.url() }));
    let health = backend.health(&Cx::within(PATIENCE)).await.unwrap();
    assert!(health.healthy && health.latency_ms > 0.0);
    assert_eq!((health.backend_type.as_str(), &health.details["mode"]), ("redis", &json!("standalone")));
    assert!(health.details["version"].as_str().unwrap().contains('.'), "{health:?}");
}

#[tokio::test]
async fn a_key_that_holds_something_else_is_no_value_and_no_miss() {
    let server = Redis::start();
    let backend = open(json!({ "url": server.url() }));
    server.command(&["SADD", "k", "member"]);
    let error = get(&backend, b"k").await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Corrupt, Retry::No), "{error}");
    let cas = backend.cas().unwrap();
    assert!(cas.get_version(Key::from_wire(b"k"), &Cx::within(PATIENCE)).await.is_err());
}
