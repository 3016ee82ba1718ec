//! What callers and driver share, without a socket: the driver's part is played by the test.

use std::task::Waker;

use bytes::Bytes;
use cachekit_plugin::{Key, Ttl};

use super::*;
use crate::command::When;
use crate::keys::WireKey;
use crate::reply::Decoder;
use crate::standing::Rules;

fn connection() -> Connection {
    let rules =
        Rules { retry_attempts: 2, retry_timeout: Duration::from_secs(1), dead_timeout: Duration::from_secs(60) };
    let connection = Connection::new(Arc::new(Standing::new(rules)), Instant::now());
    connection.open(Greeting::default());
    connection
}

fn key(name: &str) -> WireKey<'_> {
    WireKey::of_entry("", Key::from_wire(name.as_bytes())).ok().unwrap()
}

fn get(name: &str) -> Command<'_> {
    Command::get(key(name)).ok().unwrap()
}

fn set(name: &str, len: usize) -> Command<'_> {
    Command::set(key(name), Bytes::from(vec![b'v'; len]), Ttl::Never, When::Always).ok().unwrap()
}

fn push(connection: &Connection, commands: &[Command<'_>]) -> (Arc<Inbox>, Pushed, usize) {
    let (inbox, mut next) = (Arc::new(Inbox::new(commands.len())), 0);
    let pushed = connection.push(commands, &mut next, &inbox);
    (inbox, pushed, next)
}

/// Plays the driver: everything queued leaves.
fn leave(connection: &Connection) -> usize {
    let mut socket = Outbox::default();
    connection.take(&mut socket, 0, Waker::noop());
    let len = socket.len();
    connection.take(&mut socket, len, Waker::noop());
    len
}

/// Plays the server.
fn answer(connection: &Connection, stream: &[u8]) -> Result<(), Lost> {
    let mut frames = Vec::new();
    Decoder::new(1 << 20).feed(stream, &mut frames).unwrap();
    connection.answer(&mut frames, stream.len())
}

#[test]
fn each_caller_gets_its_own_answer() {
    let connection = connection();
    let (one, _, _) = push(&connection, &[get("a"), get("b")]);
    let (other, _, _) = push(&connection, &[get("c")]);
    leave(&connection);
    answer(&connection, b"VA 1 ka O0\r\nA\r\nEN kb O1\r\nVA 1 kc O2\r\nC\r\n").unwrap();
    let values = |inbox: &Inbox| -> Vec<Option<Bytes>> {
        inbox.fetch().into_iter().map(|outcome| outcome.into_reply().unwrap().value).collect()
    };
    assert_eq!(values(&one), [Some(Bytes::from_static(b"A")), None]);
    assert_eq!(values(&other), [Some(Bytes::from_static(b"C"))]);
}

#[test]
fn an_answer_that_does_not_fit_is_believed_by_nobody() {
    for (what, stream) in [
        ("another number", &b"VA 1 ka O1\r\nX\r\n"[..]),
        ("no number", b"VA 1 ka\r\nX\r\n"),
        ("another key", b"VA 1 kb O0\r\nX\r\n"),
        ("no key", b"VA 1 O0\r\nX\r\n"),
        ("another kind", b"HD ka O0\r\n"),
        ("another kind", b"NS ka O0\r\n"),
        ("a marker", b"MN\r\n"),
        ("a complaint", b"CLIENT_ERROR bad data chunk\r\n"),
    ] {
        let connection = connection();
        let (inbox, _, _) = push(&connection, &[get("a"), get("b")]);
        leave(&connection);
        let lost = answer(&connection, stream).unwrap_err();
        assert!(matches!(lost, Lost::OutOfStep(_)), "{what}: {lost:?}");
        connection.end(lost);
        for outcome in inbox.fetch() {
            assert!(matches!(outcome, Outcome::Lost { lost: Lost::OutOfStep(_), sent: true }), "{what}: {outcome:?}");
        }
        assert!(matches!(push(&connection, &[get("a")]).1, Pushed::Over(Lost::OutOfStep(_))));
    }
}

#[test]
fn an_answer_nobody_asked_for_ends_the_connection() {
    let connection = connection();
    assert!(matches!(answer(&connection, b"EN kx O0\r\n"), Err(Lost::OutOfStep(_))));
}

#[test]
fn answers_before_one_that_does_not_fit_are_good() {
    let connection = connection();
    let (inbox, _, _) = push(&connection, &[get("a"), get("b")]);
    leave(&connection);
    let lost = answer(&connection, b"VA 1 ka O0\r\nA\r\nVA 1 ka O0\r\nA\r\n").unwrap_err();
    connection.end(lost);
    let outcomes = inbox.fetch();
    assert!(matches!(&outcomes[0], Outcome::Reply(Reply { value: Some(value), .. }) if value == "A"), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Outcome::Lost { .. }), "{outcomes:?}");
}

#[test]
fn the_answer_to_a_caller_that_left_goes_to_nobody_else() {
    let connection = connection();
    drop(push(&connection, &[get("a")]));
    let (next, _, _) = push(&connection, &[get("a")]);
    leave(&connection);
    answer(&connection, b"VA 3 ka O0\r\nold\r\n").unwrap();
    assert!(!next.is_full());
    answer(&connection, b"VA 3 ka O1\r\nnew\r\n").unwrap();
    let outcomes = next.fetch();
    assert!(matches!(&outcomes[0], Outcome::Reply(Reply { value: Some(value), .. }) if value == "new"));
}

#[test]
fn what_never_left_is_told_apart_from_what_may_have_arrived() {
    let connection = connection();
    let (left, _, _) = push(&connection, &[set("a", 1)]);
    leave(&connection);
    let (stayed, _, _) = push(&connection, &[set("b", 1)]);
    connection.end(Lost::ClosedByServer);
    assert!(matches!(left.fetch()[..], [Outcome::Lost { sent: true, .. }]));
    assert!(matches!(stayed.fetch()[..], [Outcome::Lost { sent: false, .. }]));
}

#[test]
fn the_queue_is_bounded_in_requests_and_in_bytes() {
    let connection = connection();
    let many: Vec<Command<'_>> = (0..MAX_WAITING + 1).map(|_| get("a")).collect();
    let (_inbox, pushed, next) = push(&connection, &many);
    assert!(matches!(pushed, Pushed::Full(_)));
    assert_eq!(next, MAX_WAITING);
    assert!(!connection.has_room());
    answer(&connection, b"EN ka O0\r\n").unwrap();
    assert!(connection.has_room());

    let connection = self::connection();
    let large = [set("a", MAX_UNWRITTEN), set("b", 1)];
    let (_inbox, pushed, next) = push(&connection, &large);
    assert!(matches!(pushed, Pushed::Full(_)));
    assert_eq!(next, 1, "a value of any size is taken where nothing waits");
    leave(&connection);
    assert!(connection.has_room());
}

#[test]
fn silence_ends_a_connection_and_slowness_does_not() {
    let (patience, connection) = (Duration::from_secs(1), connection());
    let later = |seconds| Instant::now() + Duration::from_secs(seconds);
    assert!(!connection.end_if_stalled(later(60), patience), "nobody waits");
    let (inbox, _, _) = push(&connection, &[get("a")]);
    leave(&connection);
    assert!(!connection.end_if_stalled(Instant::now(), patience));
    // Part of a large value: progress.
    connection.answer(&mut Vec::new(), PROGRESS as usize).unwrap();
    assert!(!connection.end_if_stalled(Instant::now() + Duration::from_millis(900), patience));
    // A few bytes now and then are none.
    connection.answer(&mut Vec::new(), 10).unwrap();
    assert!(connection.end_if_stalled(later(2), patience));
    assert!(matches!(inbox.fetch()[..], [Outcome::Lost { lost: Lost::Stalled, .. }]));
}

#[test]
fn requests_are_numbered_on_the_wire_in_the_order_of_the_queue() {
    let connection = connection();
    let _kept = (push(&connection, &[get("a"), set("b", 2)]), push(&connection, &[get("c")]));
    let mut socket = Outbox::default();
    connection.take(&mut socket, 0, Waker::noop());
    let mut slices = Vec::new();
    socket.slices(&mut slices);
    let wire: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
    let expected = "mg a k v O0\r\nms b 2 F0 T0 O1\r\nvv\r\nmg c k v O2\r\n";
    assert_eq!(String::from_utf8(wire).unwrap(), expected);
}
