//! The end of a server: what is in flight is finished, what does not finish is ended.

use std::sync::Arc;
use std::time::Duration;

use cachekit_serve::{Bounds, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, KEY, counted};

async fn plain(grace: Duration) -> Server {
    let memory = Arc::new(cachekit_conformance::Memory::default());
    let bounds = Bounds { grace, ..Bounds::default() };
    Server::builder(memory).api_key("ours", KEY).plain_http().bounds(bounds).start().await.unwrap()
}

/// A PUT of which one byte is missing, and is known to be under way.
async fn almost_put(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.addr()).await.unwrap();
    let text =
        format!("PUT /v1/cache/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 5\r\n\r\nvalu");
    socket.write_all(text.as_bytes()).await.unwrap();
    counted(server, "cachekit_serve_requests_in_flight 1").await;
    socket
}

#[tokio::test]
async fn what_is_in_flight_is_finished_and_nothing_new_is_taken() {
    let server = plain(Duration::from_secs(30)).await;
    let addr = server.addr();
    let mut socket = almost_put(&server).await;
    let ending = tokio::spawn(server.shutdown());
    // Once the listener is gone, the server is on its way out.
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!ending.is_finished());
    socket.write_all(b"e").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(ending.await.unwrap());
}

#[tokio::test]
async fn what_does_not_finish_is_ended_after_the_grace() {
    let server = plain(Duration::from_millis(100)).await;
    let mut socket = almost_put(&server).await;
    assert!(!server.shutdown().await);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}

#[tokio::test]
async fn idle_connections_of_both_versions_do_not_hold_a_shutdown_up() {
    let fixture =
        Fixture::with(|builder| builder.bounds(Bounds { grace: Duration::from_secs(60), ..Bounds::default() })).await;
    let http1 = crate::fixture::client_speaking(&fixture.authority, &[b"http/1.1"]);
    assert_eq!(http1.get(fixture.url("/healthz")).send().await.unwrap().status(), 200);
    assert_eq!(fixture.get("k").await.status(), 404);
    assert!(fixture.server.shutdown().await);
}

#[tokio::test]
async fn a_server_that_is_dropped_is_gone() {
    let server = plain(Duration::from_secs(30)).await;
    let addr = server.addr();
    let mut socket = almost_put(&server).await;
    drop(server);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    assert!(TcpStream::connect(addr).await.is_err());
}
