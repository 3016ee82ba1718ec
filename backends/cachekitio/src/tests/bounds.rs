//! Time, connections, attempts and memory: each has its bound, and what is given up harms nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cachekit_plugin::{Backend, Bytes, Cx, Deadline, Expiry, Key, KeyBytes, Kind, Locks, Retry, Ttl};
use cachekit_test_servers::certificates::Authority;

use super::server::{End, Server, Step, framed, reply};
use super::stub::{self, Host};
use crate::backend::CachekitIoBackend;

const KEY: Key<'static> = Key::from_wire(b"users:get_user:abc");

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(30))
}

#[tokio::test]
async fn nothing_is_sent_after_the_deadline_or_beyond_the_limits() {
    let server = Server::plain(|_, _| reply(200, &[], b"value")).await;
    let backend = stub::open(&stub::plain(server.port()).with_max_value(10));
    let passed = Cx::new(Deadline::from_monotonic_ns(1));
    assert_eq!(backend.get(KEY, &passed).await.unwrap_err().kind(), Kind::Timeout);
    let too_large = backend.set(KEY, Bytes::from_static(b"eleven byte"), Ttl::Never, &cx()).await.unwrap_err();
    assert_eq!((too_large.kind(), too_large.retry()), (Kind::TooLarge, Retry::No));
    for key in [&b"health"[..], b"..", &[b'k'; 401]] {
        assert_eq!(backend.get(Key::from_wire(key), &cx()).await.unwrap_err().kind(), Kind::TooLarge);
        assert_eq!(backend.lock(Key::from_wire(key), b"t", 1, &cx()).await.unwrap_err().kind(), Kind::TooLarge);
    }
    assert!(server.requests().is_empty());
    let limits = backend.limits();
    assert_eq!((limits.max_key, limits.max_value, limits.key_bytes), (400, 10, KeyBytes::Printable));
    assert_eq!((limits.ttl_step_ms, limits.ttl_max_ms, limits.deadline_hint_ms), (1000, 2_592_000_000, 5000));
}

#[tokio::test]
async fn lives_are_rounded_up_and_cut_to_what_the_protocol_takes() {
    let server = Server::plain(|_, _| reply(200, &[], b"")).await;
    let backend = stub::open(&stub::plain(server.port()));
    for (life_ms, sent) in [(1, "1"), (1000, "1"), (1001, "2"), (2_592_000_001, "2592000"), (u64::MAX, "2592000")] {
        backend.set(KEY, Bytes::new(), Ttl::from_ms(life_ms).unwrap(), &cx()).await.unwrap();
        let request = server.requests().pop().unwrap();
        assert_eq!(request.header("x-cachekit-ttl"), Some(sent), "{life_ms}");
        assert_eq!(request.header("content-length"), Some("0"), "an empty value has a length too");
        assert!(backend.touch(KEY, Ttl::from_ms(life_ms).unwrap(), &cx()).await.unwrap());
        assert_eq!(server.requests().pop().unwrap().body, format!("{{\"ttl\": {sent}}}").as_bytes());
    }
    let window = |ttl_ms, stale_ms: u64| (Ttl::from_ms(ttl_ms).unwrap(), stale_ms.try_into().unwrap());
    for ((ttl, stale), sent) in [
        (window(1000, 1), Some("1")),
        (window(2_591_000_000, 2_000_000), Some("1000")),
        (window(2_592_000_000, 10_000), None),
    ] {
        cachekit_plugin::Freshness::set_stale(&backend, KEY, Bytes::new(), ttl, stale, &cx()).await.unwrap();
        assert_eq!(server.requests().pop().unwrap().header("x-cachekit-stale-ttl"), sent);
    }
    assert!(backend.touch(KEY, Ttl::Never, &cx()).await.unwrap());
    assert_eq!(server.requests().pop().unwrap().body, b"{\"ttl\": 2592000}");
    backend.lock(KEY, b"t", u64::MAX, &cx()).await.unwrap();
    assert_eq!(server.requests().pop().unwrap().body, b"{\"timeout_ms\": 3600000}");
}

#[tokio::test]
async fn hits_and_misses_and_refusals_share_their_connection() {
    let server = Server::plain(|_, number| {
        let mut answer = match number % 4 {
            0 => reply(200, &[], b"value"),
            1 => reply(404, &[], b"{\"error\": \"not found\"}"),
            2 => reply(500, &[], b"<html>sorry</html>"),
            _ => reply(204, &[], b""),
        };
        // The last bytes come on their own, as from a server that writes head and body apart.
        let Step::Send(bytes) = &mut answer[0] else { unreachable!() };
        let last = bytes.split_off(bytes.len() - 3);
        answer.extend([Step::Wait(Duration::from_millis(3)), Step::Send(last)]);
        answer
    })
    .await;
    let backend = stub::open(&stub::plain(server.port()));
    for _ in 0..20 {
        let _ = backend.get(KEY, &cx()).await;
    }
    // A body that is late on a busy machine costs its connection; one that is never read to its end would cost every second one.
    assert_eq!(server.requests().len(), 20);
    assert!(server.connections() <= 4, "{}", server.connections());
}

#[tokio::test]
async fn no_more_connections_are_made_than_the_pool_holds() {
    let server = Server::plain(|_, _| {
        let mut answer = vec![Step::Wait(Duration::from_millis(5))];
        answer.extend(reply(200, &[], b"value"));
        answer
    })
    .await;
    let backend = stub::open(&stub::plain(server.port()).with_connection_pool_size(3));
    let calls = (0..48).map(|_| async { backend.get(KEY, &cx()).await.unwrap().unwrap() });
    assert!(futures_util::future::join_all(calls).await.iter().all(|value| value == "value"));
    assert!(server.connections() <= 3, "{}", server.connections());
}

#[tokio::test]
async fn a_turn_that_does_not_come_is_a_timeout() {
    let server = Server::plain(|_, _| vec![Step::Hang]).await;
    let backend = stub::open(&stub::plain(server.port()).with_connection_pool_size(1));
    let calls = (0..8).map(|_| async {
        let error = backend.get(KEY, &Cx::within(Duration::from_millis(100))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
    });
    tokio::time::timeout(Duration::from_secs(20), futures_util::future::join_all(calls)).await.unwrap();
}

#[tokio::test]
async fn retries_are_made_where_they_were_asked_for_and_nowhere_else() {
    let failing = |number: usize| {
        if number.is_multiple_of(3) || number % 3 == 1 { reply(500, &[], b"") } else { reply(200, &[], b"value") }
    };
    let server = Server::plain(move |_, number| failing(number)).await;
    let config = stub::plain(server.port()).with_max_retries(2);
    let (backend, pauses) = stub::open_with(&config, Host::default(), stub::nowhere()).unwrap();
    assert_eq!(backend.get(KEY, &cx()).await.unwrap().unwrap(), "value");
    assert_eq!((server.requests().len(), pauses.lock().unwrap().len()), (3, 2));
    assert!(backend.delete(KEY, &cx()).await.unwrap());
    assert_eq!(server.requests().len(), 6);
    assert!(backend.lock(KEY, b"token", 1000, &cx()).await.is_err(), "a lease may have been given");
    assert_eq!(server.requests().len(), 7);
    let (none, _) =
        stub::open_with(&stub::plain(server.port()).with_max_retries(0), Host::default(), stub::nowhere()).unwrap();
    assert!(none.get(KEY, &cx()).await.is_err());
    assert_eq!(server.requests().len(), 8);
}

#[tokio::test]
async fn a_pause_that_outlasts_the_deadline_is_not_begun() {
    let server = Server::plain(|_, _| reply(503, &[("Retry-After", b"2")], b"")).await;
    let (backend, pauses) = stub::open_with(&stub::plain(server.port()), Host::default(), stub::nowhere()).unwrap();
    let error = backend.set(KEY, Bytes::new(), Ttl::Never, &Cx::within(Duration::from_millis(1900))).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Transient, Retry::After(Duration::from_secs(2))));
    assert_eq!((server.requests().len(), pauses.lock().unwrap().len()), (1, 0));
}

#[tokio::test]
async fn a_quota_is_told_from_a_rate() {
    let server = Server::plain(|_, number| {
        let headers: &[(&str, &[u8])] = &[("Retry-After", b"1"), ("X-CacheKit-Deny-Reason", b"quota")];
        reply(429, if number == 0 { headers } else { &headers[..1] }, b"")
    })
    .await;
    let (backend, _) =
        stub::open_with(&stub::plain(server.port()).with_max_retries(1), Host::default(), stub::nowhere()).unwrap();
    let quota = backend.get(KEY, &cx()).await.unwrap_err();
    assert_eq!((quota.kind(), quota.retry(), server.requests().len()), (Kind::Throttled, Retry::No, 1));
    let rate = backend.get(KEY, &cx()).await.unwrap_err();
    assert_eq!((rate.retry(), server.requests().len()), (Retry::After(Duration::from_secs(1)), 3));
}

/// Numbers that look random and are the same in every run.
fn next(state: &AtomicU64) -> u64 {
    let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}

/// 2000 calls, most of them cut off at a random moment: each value belongs to its key.
async fn cut_off_calls_leave_no_answer_behind(backend: CachekitIoBackend) {
    let (backend, state) = (Arc::new(backend), Arc::new(AtomicU64::new(7)));
    let (mut tasks, answered) = (tokio::task::JoinSet::new(), Arc::new(AtomicU64::new(0)));
    for _ in 0..8 {
        let (backend, state, answered) = (Arc::clone(&backend), Arc::clone(&state), Arc::clone(&answered));
        tasks.spawn(async move {
            for _ in 0..250 {
                let key = format!("key-{}", next(&state) % 1000);
                let patience = Duration::from_micros(next(&state) % 6000);
                let (by_deadline, wire) = (next(&state).is_multiple_of(2), Key::from_wire(key.as_bytes()));
                let value = if by_deadline {
                    backend.get(wire, &Cx::within(patience)).await.ok().flatten()
                } else {
                    let cx = cx();
                    tokio::time::timeout(patience, backend.get(wire, &cx)).await.ok().and_then(Result::ok).flatten()
                };
                if let Some(value) = value {
                    assert!(value.ends_with(format!("/{key}").as_bytes()), "{key} got {value:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    println!("{} of 2000 calls were answered before they were cut off", answered.load(Ordering::Relaxed));
    let key = Key::from_wire(b"key-1");
    assert!(backend.get(key, &cx()).await.unwrap().unwrap().ends_with(b"/key-1"), "the client works as before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_reads_the_answer_of_one_that_was_cut_off() {
    let server = Server::plain(|request, number| {
        let mut answer = reply(200, &[], request.path.as_bytes());
        if number % 3 == 0 {
            // Cut in the middle of the answer too.
            let Step::Send(bytes) = answer.remove(0) else { unreachable!() };
            let middle = bytes.len() / 2;
            let pause = Duration::from_millis((number % 5) as u64);
            answer =
                vec![Step::Send(bytes[..middle].to_vec()), Step::Wait(pause), Step::Send(bytes[middle..].to_vec())];
        }
        answer
    })
    .await;
    cut_off_calls_leave_no_answer_behind(stub::open(&stub::plain(server.port()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_reads_the_answer_of_one_that_was_cut_off_under_http_2() {
    let authority = Authority::new();
    let port = framed(&authority.server(&["cache.test"]), |path| {
        (Duration::from_millis(path.len() as u64 % 4), (200, vec![], path.as_bytes().to_vec(), End::Whole))
    })
    .await;
    cut_off_calls_leave_no_answer_behind(stub::open_named(&stub::encrypted(port, authority.ca()))).await;
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let server = Server::plain(|_, _| {
        // Every connection dies after one answer, as behind a server that is restarted all the time.
        let mut answer = reply(200, &[], b"value");
        answer.push(Step::Close);
        answer
    })
    .await;
    let backend = stub::open(&stub::plain(server.port()));
    let mut lost = 0;
    for _ in 0..50 {
        match backend.get(KEY, &cx()).await {
            Ok(value) => assert_eq!(value.unwrap(), "value"),
            Err(error) => {
                assert_eq!((error.kind(), error.retry()), (Kind::Transient, Retry::Now));
                lost += 1;
            }
        }
    }
    println!("{lost} of 50 calls met a connection that was just closed");
    assert!(backend.get(KEY, &cx()).await.is_ok() || backend.get(KEY, &cx()).await.is_ok());
}

#[tokio::test]
async fn a_delete_tells_whether_there_was_something() {
    let server = Server::plain(|_, number| match number {
        0 => reply(204, &[], b""),
        1 => reply(204, &[("X-CacheKit-Deleted", b"true")], b""),
        2 => reply(204, &[("X-CacheKit-Deleted", b"false")], b""),
        _ => reply(404, &[], b""),
    })
    .await;
    let backend = stub::open(&stub::plain(server.port()));
    for wanted in [true, true, false, false] {
        assert_eq!(backend.delete(KEY, &cx()).await.unwrap(), wanted);
    }
}

#[tokio::test]
async fn a_closed_backend_refuses_and_closes_again() {
    let server = Server::plain(|_, _| reply(200, &[], b"value")).await;
    let backend = stub::open(&stub::plain(server.port()));
    backend.get(KEY, &cx()).await.unwrap();
    for _ in 0..2 {
        backend.close(&cx()).await.unwrap();
        assert!(backend.get(KEY, &cx()).await.is_err());
    }
}

#[test]
fn without_a_runtime_the_caller_gets_an_error_and_no_panic() {
    let backend = stub::open(&stub::plain(1));
    let cx = cx();
    let mut get = backend.get(KEY, &cx);
    let Poll::Ready(answer) = get.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
    assert_eq!(answer.unwrap_err().kind(), Kind::Internal);
}

#[tokio::test]
async fn time_left_is_read_in_whole_seconds() {
    let server = Server::plain(|_, number| {
        let left = [&b"{\"ttl\": 0}"[..], b"{\"ttl\": 60}", b"{\"ttl\": null}"][number];
        reply(200, &[], left)
    })
    .await;
    let backend = stub::open(&stub::plain(server.port()));
    for wanted in [Ttl::from_ms(1), Ttl::from_ms(60_000), Some(Ttl::Never)] {
        assert_eq!(Expiry::ttl(&backend, KEY, &cx()).await.unwrap(), wanted);
    }
}
