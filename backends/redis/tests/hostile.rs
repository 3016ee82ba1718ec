//! Keys that would like to be commands, and servers that would like to be harmful.

mod store;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use cachekit_plugin::{Backend, Cx, Key, SetItem, Ttl};
use cachekit_test_servers::process::resident_kb;
use cachekit_test_servers::redis::{Cluster, Redis};
use serde_json::{Value, json};
use store::{PATIENCE, delete, get, get_within, open, set};

fn hostile_keys() -> Vec<Vec<u8>> {
    let parts: [&[u8]; 20] = [
        b"\r\n",
        b"\r\nDEL canary\r\n",
        b"\0",
        b" ",
        b"*",
        b"?",
        b"[a-z]",
        b"{}",
        b"{canary}",
        b"\\",
        b"\xff\xfe",
        b"$-1\r\n",
        b"*3\r\n$3\r\nSET\r\n",
        b"../canary",
        b"%2e%2e",
        b"canary ",
        b"CANARY",
        b"'; return 1",
        b"\n",
        b":lock:",
    ];
    let mut keys: Vec<Vec<u8>> = (0..999_usize)
        .map(|number| [parts[number % 20], &number.to_le_bytes()[..2], parts[number / 20 % 20]].concat())
        .collect();
    keys.push(vec![b'\r'; 10_000]);
    keys
}

async fn touch_nothing_else(options: Value) {
    let backend = open(options);
    let keys = hostile_keys();
    set(&backend, b"canary", b"alive").await.unwrap();
    for key in &keys {
        set(&backend, key, key).await.unwrap();
    }
    for key in &keys {
        assert_eq!(get(&backend, key).await.unwrap().as_deref(), Some(&key[..]));
    }
    let (wires, cx) = (keys.iter().map(|key| Key::from_wire(key)).collect::<Vec<_>>(), Cx::within(PATIENCE));
    let found = backend.batch().unwrap().get_many(&wires, &cx).await.unwrap();
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found.unwrap().as_deref(), Some(&key[..]));
    }
    let items: Vec<SetItem<'_>> = keys
        .iter()
        .map(|key| SetItem { key: Key::from_wire(key), value: key.clone().into(), ttl: Ttl::Never })
        .collect();
    assert!(backend.batch().unwrap().set_many(&items, &cx).await.unwrap().iter().all(Result::is_ok));
    let mut removed = 0;
    for key in keys.iter().step_by(2) {
        assert!(delete(&backend, key).await.unwrap());
        removed += 1;
    }
    // A prefix of wild cards means itself.
    for prefix in [&b"*"[..], b"?", b"[", b"\\"] {
        let starting = keys.iter().skip(1).step_by(2).filter(|key| key.starts_with(prefix)).count();
        assert_eq!(backend.clear().unwrap().clear(prefix, &cx).await.unwrap() as usize, starting);
        removed += starting;
    }
    assert_eq!(get(&backend, b"canary").await.unwrap().as_deref(), Some(&b"alive"[..]));
    let mut listed = 0;
    let mut cursor = None;
    let mut seen = std::collections::HashSet::new();
    loop {
        let page = backend.scan().unwrap().next(b"", cursor.as_deref(), 7, &cx).await.unwrap();
        assert!(page.items.len() <= 7);
        listed += page.items.iter().filter(|key| seen.insert(key.to_vec())).count();
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(listed, keys.len() + 1 - removed);
}

#[tokio::test]
async fn a_thousand_hostile_keys_touch_nothing_else() {
    let server = Redis::start();
    touch_nothing_else(json!({ "url": server.url() })).await;
}

#[tokio::test]
async fn a_thousand_hostile_keys_touch_nothing_else_in_a_cluster() {
    let cluster = Cluster::start();
    touch_nothing_else(json!({ "url": cluster.url(), "tenant": "*[x]" })).await;
}

/// A server that answers everything with `reply`, and then goes on with `filler` for ever.
fn liar(reply: &'static [u8], filler: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|count| count > 0) {
                    if stream.write_all(reply).is_err() {
                        return;
                    }
                    while !filler.is_empty() {
                        if stream.write_all(filler).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_lie_are_errors_and_take_no_memory() {
    const NOISE: &[u8] = &[b'x'; 65_536];
    let before = resident_kb(std::process::id());
    for (reply, filler) in [
        (&b"*1000000000\r\n"[..], &b""[..]),
        (b"*2147483647\r\n", b""),
        (b"%1000000000\r\n", b""),
        (b"~1000000000\r\n", b""),
        (b">1000000000\r\n", b""),
        (b"$2147483647\r\n", NOISE),
        (b"$9223372036854775807\r\n", NOISE),
        (b"=-9\r\n", b""),
        (b"+", NOISE),
        (b"-", NOISE),
        (b":", NOISE),
        (b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", b""),
        (b"$5\r\nhello\r\n$5\r\nhello\r\n", b""),
        (b"$5\r\nhelloXX", b""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", b""),
        (b"\x15\x03\x01\x00\x02\x02\x50", b""),
        (b":7\r\n", b""),
        (b"*1\r\n$1\r\nx\r\n", b""),
        (b"+OK\r\n", b""),
    ] {
        let backend = open(json!({ "url": liar(reply, filler), "max_value": 1 << 20, "socket_timeout": 0.3 }));
        for _ in 0..3 {
            let answer = get_within(&backend, b"k", Duration::from_millis(300)).await;
            assert!(answer.is_err(), "{:?} gives {answer:?}", String::from_utf8_lossy(reply));
        }
    }
    let grown = resident_kb(std::process::id()).saturating_sub(before);
    println!("grown by {grown} kB");
    assert!(grown < 32 << 10, "grown by {grown} kB");
}

#[tokio::test]
async fn a_value_larger_than_the_limit_is_refused_before_it_is_sent_and_never_taken() {
    let server = Redis::start();
    let (small, large) =
        (open(json!({ "url": server.url(), "max_value": 1 << 20 })), open(json!({ "url": server.url() })));
    let value = vec![7; (1 << 20) + 1];
    let error = set(&small, b"k", &value).await.unwrap_err();
    assert_eq!(error.kind(), cachekit_plugin::Kind::TooLarge, "{error}");
    set(&large, b"k", &vec![7; 4 << 20]).await.unwrap();
    assert!(get(&small, b"k").await.is_err());
    assert_eq!(get(&large, b"k").await.unwrap().unwrap().len(), 4 << 20);
}
