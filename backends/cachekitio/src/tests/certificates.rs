//! Who is believed to be the service, and who is not.

use std::time::Duration;

use cachekit_plugin::{Backend, Bytes, Cx, Key, Kind, Retry, Ttl};
use cachekit_test_servers::certificates::{Authority, Identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::{End, Server, framed, reply};
use super::stub;

const KEY: Key<'static> = Key::from_wire(b"users:get_user:abc");

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(30))
}

#[tokio::test]
async fn a_service_with_the_right_certificate_is_believed_under_both_versions_of_http() {
    let authority = Authority::new();
    let identity = authority.server(&["cache.test"]);
    let old = Server::tls(&identity, |_, _| reply(200, &[], b"value")).await.port();
    let new = framed(&identity, |_| (Duration::ZERO, (200, vec![], b"value".to_vec(), End::Whole))).await;
    for (port, protocol) in [(old, "HTTP/1.1"), (new, "HTTP/2.0")] {
        let backend = stub::open_named(&stub::encrypted(port, authority.ca()));
        assert_eq!(backend.get(KEY, &cx()).await.unwrap().as_deref(), Some(&b"value"[..]));
        backend.set(KEY, Bytes::from_static(b"value"), Ttl::Never, &cx()).await.unwrap();
        assert_eq!(backend.health(&cx()).await.unwrap().details["protocol"], protocol);
    }
}

/// Asks a server that shows `identity` and is vouched for by `authority`, or by the system's roots alone.
async fn refused(identity: &Identity, authority: Option<&Authority>) {
    let server = Server::tls(identity, |_, _| reply(200, &[], b"value")).await;
    let mut config = stub::encrypted(server.port(), "/".as_ref());
    config.ca_file = authority.map(|authority| authority.ca().to_owned());
    let error = stub::open_named(&config).get(KEY, &cx()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Transient, Retry::No), "{error}");
    assert!(error.message().contains("certificate"), "{error}");
    assert!(server.requests().is_empty(), "nothing was sent to somebody who is not the service");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    refused(&authority.server(&["other.test", "127.0.0.1"]), Some(&authority)).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    refused(&authority.expired(&["cache.test"]), Some(&authority)).await;
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_nobody_named_is_refused() {
    let authority = Authority::new();
    refused(&authority.server(&["cache.test"]), Some(&Authority::new())).await;
    refused(&authority.server(&["cache.test"]), None).await;
}

#[tokio::test]
async fn a_service_that_speaks_no_tls_is_refused() {
    let authority = Authority::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 4096];
        let length = socket.read(&mut heard).await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        heard.truncate(length);
        heard
    });
    let backend = stub::open_named(&stub::encrypted(port, authority.ca()));
    assert_eq!(backend.get(KEY, &cx()).await.unwrap_err().kind(), Kind::Transient);
    let heard = String::from_utf8_lossy(&heard.await.unwrap()).into_owned();
    assert!(!heard.contains(stub::API_KEY) && !heard.contains("GET"), "{heard}");
}
