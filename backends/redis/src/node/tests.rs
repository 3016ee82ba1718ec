//! Writes whose callers leave, on connections whose other ends the test holds.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use cachekit_plugin::Deadline;
use redis::aio::MultiplexedConnection;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::*;
use crate::wire::{Guarded, Traffic};

const PATIENCE: Duration = Duration::from_secs(60);

/// Opens connections to the test.
#[derive(Default)]
struct Ends {
    far: Mutex<Vec<DuplexStream>>,
    /// By end, what has arrived there and was not answered.
    unanswered: Mutex<HashMap<usize, String>>,
}

impl Ends {
    async fn line(&self) -> Line {
        let (near, far) = tokio::io::duplex(1 << 20);
        self.far.lock().unwrap().push(far);
        let traffic = Arc::new(Traffic::new());
        let guarded = Guarded::new(near, Arc::clone(&traffic), 1 << 20);
        let info = redis::RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, guarded, config).await.unwrap();
        Line::start(connection, Box::pin(driver), traffic, PATIENCE, true)
    }

    /// Where something arrives next.
    async fn heard(&self) -> usize {
        poll_fn(|cx| {
            for (at, far) in self.far.lock().unwrap().iter_mut().enumerate() {
                let mut bytes = vec![0; 4096];
                let mut buffer = ReadBuf::new(&mut bytes);
                if Pin::new(far).poll_read(cx, &mut buffer).is_ready() && !buffer.filled().is_empty() {
                    let heard = std::str::from_utf8(buffer.filled()).unwrap();
                    self.unanswered.lock().unwrap().entry(at).or_default().push_str(heard);
                    return Poll::Ready(at);
                }
            }
            Poll::Pending
        })
        .await
    }

    fn has(&self, at: usize, text: &str) -> bool {
        self.unanswered.lock().unwrap().get(&at).is_some_and(|heard| heard.contains(text))
    }

    /// Answers what has arrived at the end `at`, in its order, and tells what that was.
    async fn answer(&self, at: usize) -> String {
        let heard = self.unanswered.lock().unwrap().remove(&at).unwrap_or_default();
        let reply = |request: &str| match request {
            _ if request.contains("PING") => Some("+PONG\r\n"),
            _ if request.contains("SET") => Some("+OK\r\n"),
            _ => None,
        };
        let replies: String = heard.split('*').filter_map(reply).collect();
        // There is room for all of them, so this ends at once.
        poll_fn(|cx| Pin::new(&mut self.far.lock().unwrap()[at]).poll_write(cx, replies.as_bytes())).await.unwrap();
        heard
    }
}

impl Dial for Ends {
    fn dial(&self, _: Option<Pushes>) -> Dialing<'_> {
        Box::pin(async move { Ok(self.line().await) })
    }
}

/// A server with `connections` open connections, whose turn is the first one's.
async fn open(connections: usize) -> (Node, Arc<Ends>) {
    let ends = Arc::new(Ends::default());
    let node = Node::new(Arc::clone(&ends) as Arc<dyn Dial>, connections);
    for at in 0..connections {
        let (ping, cx) = (redis::cmd("PING"), Cx::within(PATIENCE));
        let answering = async {
            assert_eq!(ends.heard().await, at);
            ends.answer(at).await;
        };
        let (answer, ()) = tokio::join!(node.ask(&[], &ping, Access::Read, &cx), answering);
        answer.unwrap();
    }
    (node, ends)
}

/// Begins to write, and leaves.
fn write_and_leave(node: &Node, key: &[u8], value: &[u8]) {
    let (command, cx) = (crate::command::set(key, value, None), Cx::within(PATIENCE));
    let keys = [key];
    let mut writing = std::pin::pin!(node.ask(&keys, &command, Access::Write, &cx));
    assert!(writing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// Writes, answers what has arrived where the value does, and tells what that was and where.
async fn write(node: &Node, ends: &Ends, key: &[u8], value: &str) -> (usize, String) {
    let (command, cx) = (crate::command::set(key, value.as_bytes(), None), Cx::within(PATIENCE));
    let keys = [key];
    let answering = async {
        loop {
            let at = ends.heard().await;
            if ends.has(at, value) {
                return (at, ends.answer(at).await);
            }
        }
    };
    let (answer, heard) = tokio::join!(node.ask(&keys, &command, Access::Write, &cx), answering);
    answer.unwrap();
    heard
}

#[tokio::test]
async fn no_write_overtakes_an_earlier_one_of_its_key_whose_caller_left() {
    let (node, ends) = open(2).await;
    write_and_leave(&node, b"k", b"old");
    // It is the second connection's turn, but its place is behind the write that is under way.
    let (at, heard) = write(&node, &ends, b"k", "new").await;
    assert_eq!(at, 0);
    assert!(heard.find("old") < heard.find("new"), "{heard}");

    let (node, ends) = open(2).await;
    write_and_leave(&node, b"k", b"old");
    // Other keys take their turns.
    assert_eq!(write(&node, &ends, b"other", "first").await.0, 1);
    assert_eq!(write(&node, &ends, b"other", "second").await.0, 0);
}

#[tokio::test]
async fn a_watch_takes_over_the_writes_of_a_key_when_earlier_ones_are_answered() {
    let (node, ends) = open(1).await;
    write_and_leave(&node, b"k", b"old");
    let watched = ends.line().await;
    node.write_through(watched, &Cx::within(PATIENCE)).await.unwrap();
    assert_eq!(write(&node, &ends, b"other", "first").await.0, 1);
    let (at, heard) = write(&node, &ends, b"k", "second").await;
    assert_eq!(at, 0);
    if !heard.contains("PING") {
        let at = ends.heard().await;
        ends.answer(at).await;
    }
    let end = Deadline::after(PATIENCE);
    while !node.unsettled.lines_of(&[b"k"]).is_empty() {
        assert!(!end.has_passed(), "it was answered, and that is never noticed");
        tokio::task::yield_now().await;
    }
    assert_eq!(write(&node, &ends, b"k", "third").await.0, 1);
}

#[tokio::test]
async fn a_write_of_several_keys_overtakes_none_of_them_on_another_connection() {
    let (node, ends) = open(2).await;
    write_and_leave(&node, b"a", b"old a");
    write_and_leave(&node, b"b", b"old b");
    let (command, cx) = (crate::command::set(b"a", b"both", None), Cx::within(PATIENCE));
    let keys: [&[u8]; 2] = [b"a", b"b"];
    let answering = async {
        let a_while = async {
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        };
        let hearing = async {
            loop {
                ends.heard().await;
            }
        };
        tokio::select! { () = hearing => {}, () = a_while => {} }
        assert!(ends.has(0, "old a") && ends.has(1, "old b"));
        assert!(!ends.has(0, "both") && !ends.has(1, "both"), "it was sent with an earlier write under way elsewhere");
        loop {
            // First what is there already, then what comes.
            for at in [0, 1] {
                let both = ends.has(at, "both");
                ends.answer(at).await;
                if both {
                    return;
                }
            }
            ends.heard().await;
        }
    };
    let (answer, ()) = tokio::join!(node.ask(&keys, &command, Access::Write, &cx), answering);
    answer.unwrap();
}
