//! Servers that lie, stall, flood and lead elsewhere: an error of the right kind in time, never a value, never a leak.

use std::time::Duration;

use cachekit_plugin::{Backend, Bytes, Cx, Expiry, Freshness, Key, Kind, Locks, Ttl};
use cachekit_test_servers::certificates::Authority;

use super::server::{End, Framed, Server, Step, framed, raw, reply};
use super::stub;

const KEY: Key<'static> = Key::from_wire(b"users:get_user:abc");
const MAX_VALUE: u64 = 100_000;

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(30))
}

/// What a `get` makes of `answer`, within `budget`.
async fn get(answer: Vec<Step>, budget: Duration) -> Result<Option<Bytes>, Kind> {
    let server = Server::plain(move |_, _| answer.clone()).await;
    // The time of an exchange is out of reach, so that it is the deadline that is held here.
    let backend = stub::open(&stub::plain(server.port()).with_max_value(MAX_VALUE).with_timeout(600.0));
    backend.get(KEY, &Cx::within(budget)).await.map_err(|error| {
        assert!(!error.to_string().contains("users"), "{error}");
        error.kind()
    })
}

fn repeated(head: &str, line: &str, times: usize) -> Vec<u8> {
    [head.as_bytes(), line.repeat(times).as_bytes(), b"\r\nContent-Length: 5\r\n\r\nvalue"].concat()
}

#[tokio::test]
async fn what_is_no_whole_value_is_an_error() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let transient: [(&str, Vec<u8>); 19] = [
        ("nothing", vec![]),
        ("garbage", b"\x00\x01\x02\x03 garbage\r\n\r\n".to_vec()),
        ("HTTP/0.9", b"value".to_vec()),
        ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("half a status line", b"HTTP/1.1 20".to_vec()),
        ("half the headers", format!("{ok}Content-Le").into_bytes()),
        ("no status", b"HTTP/1.1 OK\r\n\r\n".to_vec()),
        ("status 99", b"HTTP/1.1 99 x\r\nContent-Length: 5\r\n\r\nvalue".to_vec()),
        ("a version nobody speaks", b"HTTP/9.9 200 OK\r\nContent-Length: 5\r\n\r\nvalue".to_vec()),
        ("less than promised", format!("{ok}Content-Length: 10\r\n\r\nvalue").into_bytes()),
        ("two lengths", format!("{ok}Content-Length: 5\r\nContent-Length: 6\r\n\r\nvalue!").into_bytes()),
        ("a negative length", format!("{ok}Content-Length: -5\r\n\r\nvalue").into_bytes()),
        ("no number", format!("{ok}Content-Length: 0x5\r\n\r\nvalue").into_bytes()),
        ("chunks that are cut", format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n").into_bytes()),
        ("a chunk that is cut", format!("{ok}Transfer-Encoding: chunked\r\n\r\n50\r\nvalue").into_bytes()),
        ("a chunk of no size", format!("{ok}Transfer-Encoding: chunked\r\n\r\nxyz\r\nvalue\r\n0\r\n\r\n").into_bytes()),
        (
            "a chunk beyond 2^64",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\nvalue\r\n0\r\n\r\n").into_bytes(),
        ),
        ("100000 headers", repeated(ok, "X: y\r\n", 100_000)),
        ("a header of 1 MB", format!("{ok}X: {}\r\nContent-Length: 5\r\n\r\nvalue", "y".repeat(1 << 20)).into_bytes()),
    ];
    for (what, answer) in transient {
        assert_eq!(get(raw(answer), Duration::from_secs(30)).await, Err(Kind::Transient), "{what}");
    }
    let corrupt: [(&str, String); 7] = [
        ("no length at all", format!("{ok}\r\nvalue")),
        ("a length of HTTP/1.0 style", "HTTP/1.0 200 OK\r\n\r\nvalue".into()),
        ("gzip", format!("{ok}Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nvalue")),
        ("gzip in chunks", format!("{ok}Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n")),
        ("a part", "HTTP/1.1 206 x\r\nContent-Range: bytes 0-4/10\r\nContent-Length: 5\r\n\r\nvalue".into()),
        ("accepted", "HTTP/1.1 202 x\r\nContent-Length: 5\r\n\r\nvalue".into()),
        ("status 700", "HTTP/1.1 700 x\r\nContent-Length: 5\r\n\r\nvalue".into()),
    ];
    for (what, answer) in corrupt {
        assert_eq!(get(raw(answer), Duration::from_secs(30)).await, Err(Kind::Corrupt), "{what}");
    }
    // What was wrong above was the part that differs from this.
    let value = Some(Bytes::from_static(b"value"));
    assert_eq!(
        get(raw(format!("{ok}Content-Length: 5\r\n\r\nvalue")), Duration::from_secs(30)).await,
        Ok(value.clone())
    );
    let chunked = format!("{ok}Transfer-Encoding: chunked\r\n\r\n2\r\nva\r\n3\r\nlue\r\n0\r\n\r\n");
    assert_eq!(get(raw(chunked), Duration::from_secs(30)).await, Ok(value));
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let claims = |length: &str| raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nvalue"));
    for length in ["100001", "4294967296", "9223372036854775807", "18446744073709551615"] {
        let kind = get(claims(length), Duration::from_secs(30)).await.unwrap_err();
        // The last is beyond what the client library counts to.
        assert!(kind == Kind::TooLarge || (length.starts_with("184") && kind == Kind::Transient), "{length}: {kind}");
    }
    let endless = vec![
        Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        Step::Forever([b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat(), Duration::ZERO),
    ];
    assert_eq!(get(endless, Duration::from_secs(30)).await, Err(Kind::TooLarge));
    let whole = get(reply(200, &[], &vec![7; MAX_VALUE as usize]), Duration::from_secs(30)).await.unwrap();
    assert_eq!(whole.unwrap().len() as u64, MAX_VALUE);
}

#[tokio::test]
async fn what_does_not_end_ends_at_the_deadline() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n".to_vec();
    let tick = Duration::from_millis(5);
    for (what, answer) in [
        ("silence", vec![Step::Hang]),
        ("slow headers", vec![Step::Send(b"HTTP/1.1 200 OK\r\nX: ".to_vec()), Step::Forever(b"y".to_vec(), tick)]),
        ("a slow body", vec![Step::Send(head.clone()), Step::Forever(b"y".to_vec(), tick)]),
        ("half a body", vec![Step::Send(head), Step::Hang]),
        ("continues without end", vec![Step::Forever(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), Duration::ZERO)]),
        (
            "hints without end",
            vec![Step::Forever(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_vec(), Duration::ZERO)],
        ),
    ] {
        let budget = Duration::from_millis(150);
        // Held by a clock of the test and not by a measured time: a call that outlives its deadline fails here.
        let answer = tokio::time::timeout(Duration::from_secs(20), get(answer, budget)).await;
        assert_eq!(answer.expect("the deadline ended it"), Err(Kind::Timeout), "{what}");
    }
}

#[tokio::test]
async fn no_redirect_takes_the_api_key_elsewhere() {
    let elsewhere = Server::plain(|_, _| reply(200, &[], b"stolen")).await;
    let targets = [
        format!("http://127.0.0.1:{}/v1/cache/x", elsewhere.port()),
        format!("//127.0.0.1:{}/", elsewhere.port()),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/v1/cache/other".to_owned(),
        String::new(),
    ];
    for target in targets {
        for status in [301, 302, 303, 307, 308] {
            let location = target.clone();
            let server = Server::plain(move |_, _| reply(status, &[("Location", location.as_bytes())], b"")).await;
            let backend = stub::open(&stub::plain(server.port()));
            assert_eq!(backend.get(KEY, &cx()).await.unwrap_err().kind(), Kind::Config, "{status} {target}");
            let set = backend.set(KEY, Bytes::from_static(b"v"), Ttl::Never, &cx()).await;
            assert_eq!(set.unwrap_err().kind(), Kind::Config, "{status} {target}");
            assert_eq!(backend.delete(KEY, &cx()).await.unwrap_err().kind(), Kind::Config, "{status} {target}");
            assert_eq!(server.requests().len(), 3, "{status} {target}: each was asked once");
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn more_bytes_than_promised_reach_no_later_call() {
    let server = Server::plain(|_, number| match number {
        0 => vec![Step::Send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
                .to_vec(),
        )],
        _ => reply(200, &[], b"second"),
    })
    .await;
    let backend = stub::open(&stub::plain(server.port()));
    assert_eq!(backend.get(KEY, &cx()).await.unwrap().unwrap(), "first");
    for _ in 0..5 {
        match backend.get(KEY, &cx()).await {
            Ok(found) => assert_eq!(found.unwrap(), "second"),
            Err(error) => assert_eq!(error.kind(), Kind::Transient),
        }
    }
}

#[tokio::test]
async fn a_body_nobody_wants_delays_nobody() {
    let endless = |status: u16| {
        vec![
            Step::Send(format!("HTTP/1.1 {status} x\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()),
            Step::Forever(b"1\r\nx\r\n".to_vec(), Duration::from_millis(1)),
        ]
    };
    let server = Server::plain(move |request, _| endless(if request.method == "GET" { 404 } else { 200 })).await;
    let backend = stub::open(&stub::plain(server.port()));
    assert_eq!(backend.get(KEY, &cx()).await.unwrap(), None);
    backend.set(KEY, Bytes::from_static(b"v"), Ttl::Never, &cx()).await.unwrap();
    assert!(backend.delete(KEY, &cx()).await.unwrap());
}

#[tokio::test]
async fn documents_that_lie_are_refused_or_mean_no() {
    let document = |text: Vec<u8>| async move {
        let server = Server::plain(move |_, _| reply(200, &[], &text)).await;
        let backend = stub::open(&stub::plain(server.port()));
        let left = Expiry::ttl(&backend, KEY, &cx()).await.map_err(|error| error.kind());
        let held = backend.lock(KEY, b"token", 1000, &cx()).await.map_err(|error| error.kind());
        (left, held)
    };
    let deep = [b"{\"ttl\": ".as_slice(), &[b'['; 10_000], b"]"].concat();
    for text in [
        b"".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"{\"ttl\": \"60\", \"lock_id\": 7}".to_vec(),
        b"{\"ttl\": -1, \"lock_id\": true}".to_vec(),
        b"{\"ttl\": 1.5, \"lock_id\": \"\"}".to_vec(),
        b"{\"ttl\": 1e400, \"lock_id\": [\"x\"]}".to_vec(),
        b"{\"ttl\": false, \"lock_id\": \"a\\r\\nX-Evil: 1\"}".to_vec(),
        b"\xff\xfe".to_vec(),
        deep,
    ] {
        let shown = String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
        let (left, held) = document(text).await;
        assert_eq!((left, held), (Err(Kind::Corrupt), Ok(false)), "{shown}");
    }
    let (left, held) = document(vec![b' '; 20_000]).await;
    assert_eq!((left, held), (Err(Kind::Corrupt), Err(Kind::Corrupt)), "a document of 20 kB");
    let (left, _) = document(b"{\"ttl\": 18446744073709551615}".to_vec()).await;
    assert_eq!(left, Ok(Ttl::from_ms(u64::MAX)), "a life beyond all clocks does not overflow");
}

#[tokio::test]
async fn a_stale_value_is_a_miss_but_for_those_who_can_tell() {
    let server = Server::plain(|_, _| reply(200, &[("X-CacheKit-Freshness", b"stale")], b"old")).await;
    let backend = stub::open(&stub::plain(server.port()));
    assert_eq!(backend.get(KEY, &cx()).await.unwrap(), None);
    assert!(!backend.exists(KEY, &cx()).await.unwrap());
    let dated = backend.get_dated(KEY, &cx()).await.unwrap().unwrap();
    assert!(dated.stale && dated.value == "old");
}

#[tokio::test]
async fn framed_answers_are_held_to_the_same_rules() {
    let authority = Authority::new();
    let identity = authority.server(&["cache.test"]);
    let now = |framed: Framed| (Duration::ZERO, framed);
    let port = framed(&identity, move |path| {
        let value = b"value".to_vec();
        now(match path.rsplit('/').next().unwrap() {
            "whole" => (200, vec![], value, End::Whole),
            "reset" => (200, vec![], value, End::Reset),
            "open" => (200, vec![], value, End::Open),
            "silent" => (200, vec![], value, End::Silent),
            "short" => (200, vec![("content-length", "10".into())], value, End::Whole),
            "long" => (200, vec![("content-length", "2".into())], value, End::Whole),
            "gzip" => (200, vec![("content-encoding", "gzip".into())], value, End::Whole),
            "part" => (206, vec![], value, End::Whole),
            "huge" => (200, vec![], vec![0; MAX_VALUE as usize + 1], End::Open),
            "headers" => (200, vec![("x", "y".repeat(64 << 10))], value, End::Whole),
            "redirect" => (302, vec![("location", "https://cache.test/".into())], value, End::Whole),
            other => panic!("{other}"),
        })
    })
    .await;
    let backend = stub::open_named(&stub::encrypted(port, authority.ca()).with_max_value(MAX_VALUE));
    for (path, wanted) in [
        ("reset", Kind::Transient),
        ("open", Kind::Timeout),
        ("silent", Kind::Timeout),
        ("short", Kind::Transient),
        ("long", Kind::Transient),
        ("gzip", Kind::Corrupt),
        ("part", Kind::Corrupt),
        ("huge", Kind::TooLarge),
        ("headers", Kind::Transient),
        ("redirect", Kind::Config),
    ] {
        let budget = Duration::from_millis(if wanted == Kind::Timeout { 150 } else { 30_000 });
        let error = backend.get(Key::from_wire(path.as_bytes()), &Cx::within(budget)).await.unwrap_err();
        assert_eq!(error.kind(), wanted, "{path}: {error}");
        // The connection is shared, so what one stream does must not end the others.
        assert_eq!(backend.get(Key::from_wire(b"whole"), &cx()).await.unwrap().unwrap(), "value", "after {path}");
    }
}
