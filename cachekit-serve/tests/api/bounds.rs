//! Clients that send too much, lie about it, or take their time.

use std::time::Duration;

use cachekit_serve::{Bounds, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, KEY, OTHER_KEY, counted, small};

/// A server without TLS, so that a test can say what is on the wire.
async fn plain(bounds: Bounds) -> Server {
    let memory = cachekit_conformance::Memory::default();
    let builder = Server::builder(std::sync::Arc::new(memory)).api_key("ours", KEY).api_key("others", OTHER_KEY);
    builder.plain_http().bounds(bounds).start().await.unwrap()
}

async fn connect(server: &Server, text: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.addr()).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    socket
}

/// Everything until the server closes.
async fn all(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end as well.
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(method: &str, path: &str, rest: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{rest}\r\n")
}

#[tokio::test]
async fn a_value_of_the_limit_is_taken_and_one_byte_more_is_not() {
    let fixture = Fixture::with(|builder| builder.bounds(small())).await;
    assert_eq!(fixture.put("k", vec![1; 1000]).await.status(), 204);
    assert_eq!(fixture.put("k", vec![2; 1001]).await.status(), 413);
    assert_eq!(fixture.get("k").await.bytes().await.unwrap(), vec![1; 1000]);
}

#[tokio::test]
async fn a_length_beyond_the_limit_is_refused_before_the_body_comes() {
    let server = plain(small()).await;
    let text = head("PUT", "/v1/cache/k", "Content-Length: 1001\r\nConnection: close\r\n");
    let mut socket = connect(&server, &text).await;
    let answer = all(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Nor does a client that asks first send it.
    let text =
        head("PUT", "/v1/cache/k", "Content-Length: 99999999999\r\nExpect: 100-continue\r\nConnection: close\r\n");
    let answer = all(&mut connect(&server, &text).await).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn chunks_without_an_end_are_cut_at_the_limit() {
    let server = plain(small()).await;
    let mut socket = connect(&server, &head("PUT", "/v1/cache/k", "Transfer-Encoding: chunked\r\n")).await;
    let chunk = format!("100\r\n{}\r\n", "v".repeat(256));
    let mut answer = [0; 12];
    for _ in 0..5 {
        socket.write_all(chunk.as_bytes()).await.unwrap();
    }
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn lies_about_lengths_store_nothing() {
    let server = plain(small()).await;
    for (rest, body, close) in [
        // Fewer bytes than it says, then the end.
        ("Content-Length: 10\r\n", "short", true),
        ("Transfer-Encoding: chunked\r\n", "5\r\nval", true),
        // Lengths that contradict each other, or are none.
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "value", false),
        ("Content-Length: -1\r\n", "", false),
        ("Content-Length: 5x\r\n", "value", false),
        ("Transfer-Encoding: chunked, gzip\r\n", "", false),
        ("Transfer-Encoding: chunked\r\n", "zz\r\nvalue\r\n0\r\n\r\n", false),
        ("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\n", false),
    ] {
        let mut socket = connect(&server, &head("PUT", "/v1/cache/lie", rest)).await;
        let _ = socket.write_all(body.as_bytes()).await;
        if close {
            socket.shutdown().await.unwrap();
        }
        let mut first = [0; 12];
        let answered = socket.read_exact(&mut first).await.is_ok();
        assert!(!answered || first.starts_with(b"HTTP/1.1 4"), "{rest:?}: {}", String::from_utf8_lossy(&first));
        drop(socket);
        let text = head("GET", "/v1/cache/lie", "Connection: close\r\n");
        let answer = all(&mut connect(&server, &text).await).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{rest:?}: {answer}");
    }
}

#[tokio::test]
async fn two_ways_to_say_a_length_end_the_connection_so_that_nobody_slips_a_request_in() {
    let server = plain(small()).await;
    let slipped = head("DELETE", "/v1/cache/victim", "");
    for rest in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", 5 + slipped.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", 5 + slipped.len()),
    ] {
        let text = head("PUT", "/v1/cache/k", &rest) + "0\r\n\r\n" + &slipped;
        let answer = all(&mut connect(&server, &text).await).await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    assert!(!server.metrics().contains("operation=\"delete\""));
}

#[tokio::test]
async fn what_follows_a_body_is_the_next_request_and_not_part_of_the_value() {
    let server = plain(small()).await;
    let text = head("PUT", "/v1/cache/k", "Content-Length: 5\r\n") + "value";
    let next = head("GET", "/v1/cache/k", "Connection: close\r\n");
    let answer = all(&mut connect(&server, &(text + &next)).await).await;
    assert!(answer.starts_with("HTTP/1.1 204") && answer.ends_with("\r\n\r\nvalue"), "{answer}");
}

#[tokio::test]
async fn heads_without_an_end_are_refused() {
    let server = plain(Bounds::default()).await;
    for text in [
        head("GET", "/v1/cache/k", &format!("X: {}\r\n", "x".repeat(64 << 10))),
        head("GET", "/v1/cache/k", &"X: y\r\n".repeat(1000)),
        format!("GET /{} HTTP/1.1\r\n", "x".repeat(64 << 10)),
    ] {
        let mut socket = TcpStream::connect(server.addr()).await.unwrap();
        // The server may close before everything is written.
        let _ = socket.write_all(text.as_bytes()).await;
        let answer = all(&mut socket).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_sends_its_head_byte_by_byte_is_left() {
    let server = plain(Bounds { header_timeout: Duration::from_millis(200), ..Bounds::default() }).await;
    let (mut reader, mut writer) = TcpStream::connect(server.addr()).await.unwrap().into_split();
    let dribble = tokio::spawn(async move {
        for byte in head("GET", "/v1/cache/k", "").bytes().cycle() {
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = reader.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    dribble.await.unwrap();
    counted(&server, "cachekit_serve_connections_timed_out_total 1").await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_left_before_and_after_a_request() {
    let short = Duration::from_millis(200);
    let fixture = Fixture::with(|builder| {
        builder.bounds(Bounds { header_timeout: short, idle_timeout: short, ..Bounds::default() })
    })
    .await;
    // In the handshake.
    assert!(all(&mut connect(&fixture.server, "").await).await.is_empty());
    let server = plain(Bounds { header_timeout: short, idle_timeout: short, ..Bounds::default() }).await;
    // Between two versions of the protocol.
    for text in ["", "PRI * HTTP/2.0\r\n\r\nSM", "GET"] {
        let answer = all(&mut connect(&server, text).await).await;
        assert!(answer.is_empty(), "{text}: {answer}");
    }
    // After a request, whose head has come however long that took.
    let server = plain(Bounds { idle_timeout: short, ..Bounds::default() }).await;
    let answer = all(&mut connect(&server, &head("GET", "/v1/cache/k", "")).await).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_408() {
    let server = plain(Bounds { body_timeout: Duration::from_millis(100), ..small() }).await;
    let text = head("PUT", "/v1/cache/k", "Content-Length: 100\r\n") + "begun";
    let mut socket = connect(&server, &text).await;
    let mut first = [0; 12];
    socket.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 408");
}

#[tokio::test]
async fn bodies_under_way_are_bounded_together() {
    // One body of the largest size fills the budget.
    let server = plain(Bounds { max_value: 60_000, max_buffered: 60_000 + 6000, ..Bounds::default() }).await;
    let text = head("PUT", "/v1/cache/k", "Content-Length: 60000\r\n") + &"v".repeat(50_000);
    let mut slow = connect(&server, &text).await;
    counted(&server, "cachekit_serve_buffered_bytes 6").await;
    let other = head("PUT", "/v1/cache/other", "Content-Length: 30000\r\nConnection: close\r\n") + &"v".repeat(30_000);
    let answer = all(&mut connect(&server, &other).await).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    // The first one is not harmed.
    slow.write_all("v".repeat(10_000).as_bytes()).await.unwrap();
    let mut first = [0; 12];
    slow.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 204");
    counted(&server, "cachekit_serve_buffered_bytes 0").await;
}

#[tokio::test]
async fn one_tenant_does_not_take_the_place_of_another_and_all_together_are_bounded() {
    let bounds = Bounds { tenant_in_flight: 2, max_in_flight: 3, ..small() };
    let server = plain(bounds).await;
    let waiting = |key: &str| head("PUT", "/v1/cache/k", "Content-Length: 5\r\n").replace(KEY, key);
    let asking = |key: &str| head("GET", "/v1/cache/k", "Connection: close\r\n").replace(KEY, key);
    let mut held = vec![connect(&server, &waiting(KEY)).await, connect(&server, &waiting(KEY)).await];
    counted(&server, "cachekit_serve_requests_in_flight 2").await;
    let ours = all(&mut connect(&server, &asking(KEY)).await).await;
    assert!(ours.starts_with("HTTP/1.1 429") && ours.contains("retry-after: 1"), "{ours}");
    assert!(all(&mut connect(&server, &asking(OTHER_KEY)).await).await.starts_with("HTTP/1.1 404"));
    held.push(connect(&server, &waiting(OTHER_KEY)).await);
    counted(&server, "cachekit_serve_requests_in_flight 3").await;
    let theirs = all(&mut connect(&server, &asking(OTHER_KEY)).await).await;
    assert!(theirs.starts_with("HTTP/1.1 503") && theirs.contains("retry-after: 1"), "{theirs}");
    // A client that goes away gives its place back.
    drop(held);
    counted(&server, "cachekit_serve_requests_in_flight 0").await;
    assert!(all(&mut connect(&server, &asking(KEY)).await).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_left_and_the_answer_is_given_back() {
    let bounds = Bounds { write_timeout: Duration::from_millis(300), ..Bounds::default() };
    let server = plain(bounds).await;
    let value = "v".repeat(8_000_000);
    let put = head("PUT", "/v1/cache/k", &format!("Content-Length: {}\r\nConnection: close\r\n", value.len())) + &value;
    assert!(all(&mut connect(&server, &put).await).await.starts_with("HTTP/1.1 204"));
    // A small window, so that the answer does not fit into what the system keeps for both sides.
    let small = tokio::net::TcpSocket::new_v4().unwrap();
    small.set_recv_buffer_size(4096).unwrap();
    let mut unread = small.connect(server.addr()).await.unwrap();
    unread.write_all(head("GET", "/v1/cache/k", "").as_bytes()).await.unwrap();
    counted(&server, "cachekit_serve_buffered_bytes 8").await;
    counted(&server, "cachekit_serve_buffered_bytes 0").await;
    counted(&server, "cachekit_serve_connections 0").await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_outside() {
    let server = plain(Bounds { max_connections: 2, ..Bounds::default() }).await;
    let first = [connect(&server, "").await, connect(&server, "").await];
    counted(&server, "cachekit_serve_connections 2").await;
    let mut third = connect(&server, &head("GET", "/v1/cache/k", "Connection: close\r\n")).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(server.metrics().contains("cachekit_serve_connections_total 2\n"));
    drop(first);
    assert!(all(&mut third).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn bounds_that_let_nothing_through_are_refused() {
    for bounds in [
        Bounds { max_in_flight: 0, ..Bounds::default() },
        Bounds { tenant_in_flight: 0, ..Bounds::default() },
        Bounds { max_connections: 0, ..Bounds::default() },
        Bounds { max_value: 0, ..Bounds::default() },
        Bounds { max_fetches: 0, ..Bounds::default() },
        Bounds { max_value: usize::MAX, max_buffered: usize::MAX, ..Bounds::default() },
        Bounds { max_buffered: 10, ..Bounds::default() },
        Bounds { deadline: Duration::ZERO, ..Bounds::default() },
    ] {
        let memory = std::sync::Arc::new(cachekit_conformance::Memory::default());
        let builder = Server::builder(memory).api_key("ours", KEY).plain_http().bounds(bounds);
        assert!(builder.start().await.is_err(), "{bounds:?}");
    }
}
