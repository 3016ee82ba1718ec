//! One connection against a peer that the test plays, on a runtime that runs only what the test lets run.

use redis::cmd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::wire::Guarded;

async fn line(may_move: bool, patience: Duration) -> (Line, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let traffic = Arc::new(Traffic::new());
    let guarded = Guarded::new(near, Arc::clone(&traffic), 1 << 20);
    let info = redis::RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let (connection, driver) = MultiplexedConnection::new_with_config(&info, guarded, config).await.unwrap();
    (Line::start(connection, Box::pin(driver), traffic, patience, may_move), far)
}

fn within(ms: u64) -> Cx<'static> {
    Cx::within(Duration::from_millis(ms))
}

#[tokio::test]
async fn a_caller_who_finds_the_connection_idle_writes_its_request_itself() {
    for may_move in [true, false] {
        let (line, mut far) = line(may_move, Duration::from_secs(60)).await;
        // The task of the connection has its first turn, and none after it until this test waits.
        tokio::task::yield_now().await;
        let (ping, cx) = (cmd("PING"), within(60_000));
        let mut asking = Box::pin(line.ask(&ping, &cx));
        assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(line.0.traffic.outstanding(), u64::from(may_move));
        let mut request = [0; 64];
        let len = far.read(&mut request).await.unwrap();
        assert_eq!(&request[..len], b"*1\r\n$4\r\nPING\r\n");
        far.write_all(b"+PONG\r\n").await.unwrap();
        assert_eq!(asking.await.unwrap(), Value::SimpleString("PONG".into()));
    }
}

#[tokio::test]
async fn a_reply_to_somebody_who_left_goes_to_nobody() {
    let (line, mut far) = line(true, Duration::from_secs(60)).await;
    let (get, get_other) = (crate::command::of_key("GET", b"a"), crate::command::of_key("GET", b"b"));
    // A deadline that passes before the request is sent, on a busy machine, leaves nobody who left.
    while line.0.traffic.outstanding() == 0 {
        assert!(matches!(line.ask(&get, &within(20)).await, Err(Trouble::Late)));
    }
    let cx = within(60_000);
    let answering = async {
        tokio::task::yield_now().await;
        far.write_all(b"$1\r\nA\r\n$1\r\nB\r\n").await.unwrap();
        far
    };
    let (answer, _far) = tokio::join!(line.ask(&get_other, &cx), answering);
    assert_eq!(answer.unwrap(), Value::BulkString(b"B".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn silence_while_a_reply_is_due_ends_the_connection_and_a_passed_deadline_sends_nothing() {
    let (line, _far) = line(true, Duration::from_millis(50)).await;
    assert!(matches!(line.ask(&cmd("PING"), &within(0)).await, Err(Trouble::Late)));
    assert_eq!(line.0.traffic.outstanding(), 0);
    // The system's clock decides what silence is, and the paused one runs ahead of it.
    let begun = std::time::Instant::now();
    while !line.is_over() {
        let _ = line.ask(&cmd("PING"), &within(60_000)).await;
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert!(matches!(line.why(), Some(Trouble::Silent(_))));
    assert!(matches!(line.ask(&cmd("PING"), &within(60_000)).await, Err(Trouble::Silent(_))));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_written_whole_does_not_hold_the_connection_for_ever() {
    let (line, _far) = line(true, Duration::from_millis(50)).await;
    // Twice what the peer, who reads nothing, has room for: there is no whole request, and no reply is due.
    let set = crate::command::set(b"key", &vec![b'v'; 2 << 20], None);
    let _ = line.ask(&set, &within(1)).await;
    assert_eq!(line.0.traffic.outstanding(), 0);
    let begun = std::time::Instant::now();
    while !line.is_over() {
        let _ = line.ask(&cmd("PING"), &within(60_000)).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "the connection is kept");
    }
    assert!(matches!(line.why(), Some(Trouble::Silent(_))));
}

#[tokio::test]
async fn what_waits_for_replies_is_bounded() {
    let (line, _far) = line(true, Duration::from_secs(60)).await;
    let mut many = Pipeline::new();
    for _ in 0..=MAX_OUTSTANDING {
        many.cmd("PING");
    }
    while line.0.traffic.outstanding() <= MAX_OUTSTANDING {
        assert!(matches!(line.ask_all(&many, &within(20)).await, Err(Trouble::Late)));
    }
    assert!(matches!(line.ask(&cmd("PING"), &within(60_000)).await, Err(Trouble::Full(_))));
}

#[test]
fn a_connection_is_over_when_its_runtime_is() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (line, _far) = runtime.block_on(line(true, Duration::from_secs(60)));
    assert!(!line.is_over());
    drop(runtime);
    assert!(line.is_over());
}

#[tokio::test]
async fn a_child_of_the_process_touches_no_socket_of_its_parent() {
    let (line, mut far) = line(true, Duration::from_secs(60)).await;
    line.0.drive.generation.store(u32::MAX, Ordering::Relaxed);
    assert!(matches!(line.ask(&cmd("PING"), &within(60_000)).await, Err(Trouble::Forked)));
    line.end(Trouble::Late);
    drop(line);
    // Neither written to nor closed.
    let heard = tokio::time::timeout(Duration::from_millis(50), far.read(&mut [0; 64])).await;
    assert!(heard.is_err(), "{heard:?}");
}
