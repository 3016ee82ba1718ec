//! Servers in trouble: throttling, down, slow, refusing. Always an error of its kind within the deadline, never a miss.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use cachekit_plugin::{Backend, Bytes, Cx, Key, Kind, Retry, Ttl};
use serde_json::json;

use crate::linked::open_with;
use crate::scripted::{Reply, Server, reply};
use crate::wire::echo;

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(20))
}

const KEY: Key<'static> = Key::from_wire(b"k");

#[tokio::test]
async fn a_throttling_server_is_given_the_pause_it_asks_for() {
    for (header, pause) in [
        ("Retry-After: 7", Retry::After(Duration::from_secs(7))),
        (
            "Retry-After: Wed, 21 Oct 2026 07:28:30 GMT\r\nDate: Wed, 21 Oct 2026 07:28:00 GMT",
            Retry::After(Duration::from_secs(30)),
        ),
        ("Retry-After: nonsense", Retry::After(Duration::from_millis(100))),
    ] {
        let server = Server::start(move |_, _| reply(429, &[header], b"slow down")).await;
        let backend = open_with(&json!({ "url": format!("{}/{{key:hex}}", server.origin()), "retries": 0 }), echo());
        let error = backend.get(KEY, &cx()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (Kind::Throttled, pause), "{header}");
        let error = backend.set(KEY, Bytes::new(), Ttl::Never, &cx()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Throttled);
    }
}

#[tokio::test]
async fn a_failure_that_passes_is_met_by_one_repetition() {
    let server =
        Server::start(
            |_, number| if number % 2 == 0 { reply(503, &["Retry-After: 0"], b"") } else { reply(200, &[], b"v") },
        )
        .await;
    let options = json!({ "url": format!("{}/{{key:hex}}", server.origin()), "retries": 1 });
    let backend = open_with(&options, echo());
    assert_eq!(backend.get(KEY, &cx()).await.unwrap().as_deref(), Some(&b"v"[..]));
    backend.set(KEY, Bytes::from_static(b"v"), Ttl::Never, &cx()).await.unwrap();
    assert_eq!(server.seen().len(), 4);
    assert_eq!(server.seen()[2].body, server.seen()[3].body, "the whole body is sent again");
    // A delete that may have happened is not: the second would find nothing and say so of the first.
    let error = backend.delete(KEY, &cx()).await.unwrap_err();
    assert_eq!((error.kind(), server.seen().len()), (Kind::Transient, 5));
}

#[tokio::test]
async fn a_failure_that_stays_is_asked_about_as_often_as_the_options_say() {
    for retries in [0, 1, 3] {
        let server = Server::start(|_, _| reply(503, &["Retry-After: 0"], b"")).await;
        let options = json!({ "url": format!("{}/{{key:hex}}", server.origin()), "retries": retries });
        let error = open_with(&options, echo()).get(KEY, &cx()).await.unwrap_err();
        assert_eq!((error.kind(), server.seen().len()), (Kind::Transient, retries + 1));
    }
}

#[tokio::test]
async fn an_outage_is_not_made_worse_by_repetitions() {
    let server = Server::start(|_, _| reply(503, &["Retry-After: 0"], b"")).await;
    let backend = open_with(&json!({ "url": format!("{}/{{key:hex}}", server.origin()), "retries": 5 }), echo());
    for _ in 0..40 {
        backend.get(KEY, &cx()).await.unwrap_err();
    }
    // Ten were saved up, and forty requests earn another four at most.
    let repeated = server.seen().len() - 40;
    assert!((10..=14).contains(&repeated), "{repeated}");
}

#[tokio::test]
async fn a_pause_that_a_server_asks_for_is_waited_out_before_it_is_asked_again() {
    let server = Server::start(|_, number| match number {
        0 => reply(429, &["Retry-After: 1"], b""),
        _ => reply(200, &[], b"v"),
    })
    .await;
    let backend = open_with(&json!({ "url": format!("{}/{{key:hex}}", server.origin()), "retries": 1 }), echo());
    let began = Instant::now();
    assert_eq!(backend.get(KEY, &cx()).await.unwrap().as_deref(), Some(&b"v"[..]));
    // At least: a busy machine makes it longer and never shorter.
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_pause_that_is_too_long_or_ends_after_the_deadline_is_left_to_the_caller() {
    // The second fits into what a server may ask for, and not into the time there is.
    for (asked, deadline) in [(3, Duration::from_secs(60)), (2, Duration::from_millis(1900))] {
        let header = format!("Retry-After: {asked}");
        let server = Server::start(move |_, _| reply(429, &[&header], b"")).await;
        let backend = open_with(&json!({ "url": format!("{}/{{key:hex}}", server.origin()), "retries": 1 }), echo());
        let error = backend.get(KEY, &Cx::within(deadline)).await.unwrap_err();
        // What the server said, not a timeout at the end of a pause for nothing.
        let wanted = (Kind::Throttled, Retry::After(Duration::from_secs(asked)));
        assert_eq!((error.kind(), error.retry(), server.seen().len()), (wanted.0, wanted.1, 1));
    }
}

#[tokio::test]
async fn statuses_can_be_given_other_meanings() {
    let server =
        Server::start(|seen, _| if seen.line.starts_with("GET") { reply(403, &[], b"") } else { reply(418, &[], b"") })
            .await;
    let options = json!({
        "url": format!("{}/{{key:hex}}", server.origin()),
        "get": { "no": [403, 404] },
        "status": { "throttled": [418, 429] },
        "retries": 0,
    });
    let backend = open_with(&options, echo());
    assert_eq!(backend.get(KEY, &cx()).await.unwrap(), None, "as at S3, which forbids to look at what is not there");
    assert_eq!(backend.exists(KEY, &cx()).await.unwrap_err().kind(), Kind::Throttled);
}

#[tokio::test]
async fn a_server_that_is_down_is_transient_and_never_a_miss() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let backend = open_with(&json!({ "url": format!("http://127.0.0.1:{nobody}/{{key:hex}}") }), echo());
    for error in [
        backend.get(KEY, &cx()).await.map(drop).unwrap_err(),
        backend.set(KEY, Bytes::new(), Ttl::Never, &cx()).await.unwrap_err(),
        backend.delete(KEY, &cx()).await.map(drop).unwrap_err(),
        backend.exists(KEY, &cx()).await.map(drop).unwrap_err(),
        backend.health(&cx()).await.map(drop).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.retry()), (Kind::Transient, Retry::Now), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_slow_is_left_at_the_deadline() {
    for hang in [
        Reply::Hang(Vec::new()),
        Reply::Hang(b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nhalf".to_vec()),
        Reply::Hang(b"HTTP/1.1 503 x\r\nContent-Length: 9\r\n\r\nhalf".to_vec()),
    ] {
        let server = Server::start(move |_, _| hang.clone()).await;
        let backend = open_with(&json!({ "url": format!("{}/{{key:hex}}", server.origin()), "retries": 5 }), echo());
        let began = Instant::now();
        let error = backend.get(KEY, &Cx::within(Duration::from_millis(150))).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Timeout | Kind::Transient), "{error}");
        // The server would hang for ten minutes, and an exchange may take five seconds.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        let passed = backend.get(KEY, &Cx::within(Duration::ZERO)).await.unwrap_err();
        assert_eq!(passed.kind(), Kind::Timeout);
    }
}

#[tokio::test]
async fn an_exchange_has_a_time_of_its_own() {
    let server =
        Server::start(|_, number| if number == 0 { Reply::Hang(Vec::new()) } else { reply(200, &[], b"v") }).await;
    // More repetitions than the one that is needed: on a busy machine a later exchange may take its time too.
    let options = json!({ "url": format!("{}/{{key:hex}}", server.origin()), "timeout_ms": 300, "retries": 5 });
    let backend = open_with(&options, echo());
    assert_eq!(backend.get(KEY, &cx()).await.unwrap().as_deref(), Some(&b"v"[..]), "the repetition finds it");
}

#[tokio::test]
async fn more_callers_than_connections_wait_for_their_turn() {
    let server = Server::start(|_, _| reply(200, &[], b"v")).await;
    let options = json!({ "url": format!("{}/{{key:hex}}", server.origin()), "max_connections": 2 });
    let backend = std::sync::Arc::new(open_with(&options, echo()));
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let backend = std::sync::Arc::clone(&backend);
            tokio::spawn(async move { backend.get(KEY, &cx()).await.unwrap().is_some() })
        })
        .collect();
    for caller in callers {
        assert!(caller.await.unwrap());
    }
    let hanging = Server::start(|_, _| Reply::Hang(Vec::new())).await;
    let options = json!({ "url": format!("{}/{{key:hex}}", hanging.origin()), "max_connections": 1, "retries": 0 });
    let backend = open_with(&options, echo());
    // Long enough for a busy machine to hear the first.
    let short = Cx::within(Duration::from_secs(2));
    let (first, second) = tokio::join!(backend.get(KEY, &short), backend.get(KEY, &short));
    assert_eq!((first.unwrap_err().kind(), second.unwrap_err().kind()), (Kind::Timeout, Kind::Timeout));
    assert_eq!(hanging.seen().len(), 1, "the second waited for its turn until its deadline");
}

#[tokio::test]
async fn no_error_tells_the_key_the_value_the_secret_or_the_url() {
    let words = ["s3cret-t0ken", "the-secret-key", "the-secret-value", "path-of-the-url"];
    let server = Server::start(|_, number| match number % 4 {
        0 => reply(401, &[], b"the-secret-value"),
        1 => reply(500, &[], b"the-secret-value"),
        2 => Reply::Close(b"HTTP/1.1 the-secret-value\r\n\r\n".to_vec()),
        _ => Reply::Close(Vec::new()),
    })
    .await;
    let options = json!({
        "url": format!("{}/path-of-the-url/{{key:percent}}", server.origin()),
        "bearer": { "$secret": "env:s3cret-t0ken" }, "allow_plain_http": true, "retries": 0,
    });
    let backend = open_with(&options, echo());
    for _ in 0..4 {
        let key = Key::from_wire(b"the-secret-key");
        let told = match backend.set(key, Bytes::from_static(b"the-secret-value"), Ttl::Never, &cx()).await {
            Err(error) => {
                let source = std::error::Error::source(&error).map(|source| format!("{source} {source:?}"));
                format!("{error} {error:?} {source:?}")
            }
            Ok(()) => panic!("none of these is a success"),
        };
        for word in words {
            assert!(!told.contains(word), "{word}: {told}");
        }
    }
    assert_eq!(server.seen().len(), 4);
}
