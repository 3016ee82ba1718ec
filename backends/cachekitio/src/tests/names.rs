//! Where names lead: looked at with every answer of the resolver, not with the first one alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cachekit_plugin::{Backend, Cx, Key, Kind, Retry};
use cachekit_test_servers::certificates::Authority;

use super::server::{Server, Step, reply};
use super::stub::{self, Host};
use crate::config::CachekitIoConfig;

const KEY: Key<'static> = Key::from_wire(b"users:get_user:abc");

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(30))
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_connected_to() {
    let authority = Authority::new();
    let server = Server::tls(&authority.server(&["cache.test"]), |_, _| reply(200, &[], b"value")).await;
    let public = CachekitIoConfig::new("env:KEY")
        .with_api_url(format!("https://cache.test:{}", server.port()))
        .with_allow_custom_host(true)
        .with_ca_file(authority.ca());
    for addresses in
        [&["127.0.0.1"][..], &["::1"], &["8.8.8.8", "127.0.0.1"], &["::ffff:127.0.0.1"], &["64:ff9b::7f00:1"]]
    {
        let (backend, _) = stub::open_with(&public, Host::default(), stub::always(addresses)).unwrap();
        let error = backend.get(KEY, &cx()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (Kind::Config, Retry::No), "{addresses:?}: {error}");
        assert!(error.message().contains("allow_private_host"), "{error}");
    }
    assert_eq!(server.connections(), 0);
    // The same server, once it is allowed: it was the rule that kept the others away.
    let (backend, _) =
        stub::open_with(&public.with_allow_private_host(true), Host::default(), stub::always(&["127.0.0.1"])).unwrap();
    assert!(backend.get(KEY, &cx()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_later_is_looked_at_again() {
    let authority = Authority::new();
    let server = Server::tls(&authority.server(&["cache.test"]), |_, _| {
        let mut answer = reply(200, &[("Connection", b"close")], b"value");
        answer.push(Step::Close);
        answer
    })
    .await;
    let asked = AtomicUsize::new(0);
    let rebinding = move |_: &str| {
        let address = if asked.fetch_add(1, Ordering::Relaxed) == 0 { "127.0.0.1" } else { "169.254.169.254" };
        Ok(vec![address.parse().unwrap()])
    };
    let config = stub::encrypted(server.port(), authority.ca());
    let (backend, _) = stub::open_with(&config, Host::default(), Arc::new(rebinding)).unwrap();
    assert!(backend.get(KEY, &cx()).await.unwrap().is_some());
    for _ in 0..3 {
        assert_eq!(backend.get(KEY, &cx()).await.unwrap_err().kind(), Kind::Config);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn without_encryption_a_public_answer_is_not_connected_to() {
    let config = CachekitIoConfig::new("env:KEY")
        .with_api_url("http://cache.test:80")
        .with_allow_private_host(true)
        .with_plain_http(true);
    let (backend, _) = stub::open_with(&config, Host::default(), stub::always(&["8.8.8.8"])).unwrap();
    let error = backend.get(KEY, &cx()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
}

#[tokio::test]
async fn a_resolver_that_hangs_costs_its_callers_their_deadline_and_a_few_threads_only() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let under_way = Arc::new(AtomicUsize::new(0));
    let (held, counted) = (Arc::clone(&gate), Arc::clone(&under_way));
    let hanging = move |_: &str| {
        counted.fetch_add(1, Ordering::SeqCst);
        let open = held.0.lock().unwrap();
        drop(held.1.wait_while(open, |open| !*open).unwrap());
        Err(std::io::Error::other("too late"))
    };
    let config = CachekitIoConfig::new("env:KEY");
    let (backend, _) = stub::open_with(&config, Host::default(), Arc::new(hanging)).unwrap();
    let calls = (0..16).map(|_| async {
        let error = backend.get(KEY, &Cx::within(Duration::from_millis(100))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
    });
    futures_util::future::join_all(calls).await;
    assert!(under_way.load(Ordering::SeqCst) <= 4, "{under_way:?}");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
}

#[tokio::test]
async fn a_proxy_is_asked_to_connect_and_never_given_the_api_key() {
    let proxy = Server::plain(|_, _| reply(502, &[], b"")).await;
    let mut config = CachekitIoConfig::new("env:KEY");
    config.proxy = Some(format!("http://proxy.test:{}", proxy.port()));
    // Only the proxy is resolved here, and it may be inside.
    let (backend, _) = stub::open_with(&config, Host::default(), stub::always(&["127.0.0.1"])).unwrap();
    assert_eq!(backend.get(KEY, &cx()).await.unwrap_err().kind(), Kind::Transient);
    let asked = proxy.requests();
    assert_eq!((&*asked[0].method, &*asked[0].path), ("CONNECT", "api.cachekit.io:443"));
    assert!(!format!("{asked:?}").contains(stub::API_KEY), "{asked:?}");
}
