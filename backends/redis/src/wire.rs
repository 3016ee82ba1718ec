//! What a connection may carry: counts requests and replies, and ends it before a reply can do harm.
//!
//! The client library trusts its server. It takes memory for as many elements as a reply announces, so that eleven bytes
//! can end the process; it drops what nobody asked for, so that a reply given twice goes to the next caller. This stream
//! stands between the socket and the library and reads along: every length is checked before the library sees it, and a
//! reply beyond the number of requests ends the connection. It copies nothing; of a value it reads only the length.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Elements of all arrays of one reply, together. The largest honest one is the slot table of a cluster whose slots are
/// scattered; the library sets 56 bytes aside for each.
const MAX_ELEMENTS: u64 = 1 << 18;
/// Arrays within arrays: the slot table has four.
const MAX_DEPTH: usize = 8;
/// A status or an error.
const MAX_LINE: usize = 64 << 10;
/// Digits of a length, with its sign.
const MAX_DIGITS: usize = 20;
/// All strings of one reply, together: a list of values that each are within their limit must not end the host either.
/// The largest honest reply is that to MGET, of values of 2 MiB if it is for as many keys as one exchange has.
const MAX_REPLY: u64 = 1 << 30;
/// How much of a server's last words is kept.
const MAX_LAST_WORDS: usize = 200;

/// What went over a connection so far. Written by the connection, read by whoever uses it.
#[derive(Debug)]
pub(crate) struct Traffic {
    requested: AtomicU64,
    answered: AtomicU64,
    /// When something was last heard, milliseconds since `since`.
    heard_ms: AtomicU64,
    /// Since when the socket takes nothing of what is to be written, milliseconds since `since` and one; 0 if it does.
    stuck_ms: AtomicU64,
    since: Instant,
    violation: OnceLock<Violation>,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self {
            requested: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
            stuck_ms: AtomicU64::new(0),
            since: Instant::now(),
            violation: OnceLock::new(),
        }
    }

    /// Replies so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// What the server sent that it must not, if that ended the connection.
    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.get()
    }

    /// Requests on the wire that were not answered yet.
    pub(crate) fn outstanding(&self) -> u64 {
        // Answers first: a request that is counted in between is outstanding.
        let answered = self.answered.load(Ordering::Relaxed);
        self.requested.load(Ordering::Relaxed).saturating_sub(answered)
    }

    /// Whether nothing was heard for `patience` while replies were due, or nothing could be written for as long: a request
    /// that is too large for the socket's buffers is none yet, and there may never be a reply to it.
    pub(crate) fn is_silent_for(&self, patience: Duration) -> bool {
        let longer = |since_ms: u64| u128::from(self.age_ms().saturating_sub(since_ms)) >= patience.as_millis();
        let stuck_ms = self.stuck_ms.load(Ordering::Relaxed);
        (self.outstanding() > 0 && longer(self.heard_ms.load(Ordering::Relaxed)))
            || (stuck_ms > 0 && longer(stuck_ms - 1))
    }

    /// Notes whether the socket took something.
    fn wrote(&self, something: bool) {
        if something {
            self.stuck_ms.store(0, Ordering::Relaxed);
        } else if self.stuck_ms.load(Ordering::Relaxed) == 0 {
            self.stuck_ms.store(self.age_ms().saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Milliseconds since the connection was opened.
    pub(crate) fn age_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Why a reply cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("the server sent what is not its protocol")]
    Garbage,
    #[error("the server announced a reply of {0} bytes, more than max_value allows")]
    TooLong(u64),
    #[error("the server announced a reply of more elements than any honest one has")]
    TooMany,
    #[error("the server sent a reply that nobody asked for")]
    Unasked,
    /// A server that is full or protected says so and hangs up.
    #[error("the server refused the connection: {0}")]
    Refused(String),
}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        // The library gives a connection up only after an error of a few kinds; this is one of them.
        Self::new(io::ErrorKind::ConnectionAborted, violation)
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The first byte of a value.
    Type,
    /// A status or an error, up to its end of line.
    Line { seen: usize, cr: bool },
    /// A length or a number.
    Digits { kind: u8, digits: usize, negative: bool, value: u64, cr: bool },
    /// Bytes of a string that are still to come.
    Skip { left: u64 },
    /// The end of line behind a string.
    End { cr: bool },
}

/// Reads along with one direction of a connection and counts its top-level values.
#[derive(Debug)]
struct Scanner {
    state: State,
    /// Elements that the open arrays still expect, outermost first.
    open: [u64; MAX_DEPTH],
    depth: usize,
    elements: u64,
    /// Bytes of all strings of this reply.
    bytes: u64,
    max_bulk: u64,
    is_push: bool,
    is_error: bool,
    last_words: Vec<u8>,
}

impl Scanner {
    fn new(max_bulk: u64) -> Self {
        Self {
            state: State::Type,
            open: [0; MAX_DEPTH],
            depth: 0,
            elements: 0,
            bytes: 0,
            max_bulk,
            is_push: false,
            is_error: false,
            last_words: Vec::new(),
        }
    }

    /// Reads `bytes` and returns how many values that are replies ended in them, and how many of those were errors at
    /// their very start.
    fn read(&mut self, bytes: &[u8], unasked: bool) -> Result<u64, Violation> {
        let mut ended = 0;
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            match self.state {
                State::Type => {
                    rest = tail;
                    if self.depth == 0 {
                        self.elements = 0;
                        self.bytes = 0;
                        self.is_push = byte == b'>';
                        self.is_error = byte == b'-';
                    }
                    self.state = match byte {
                        b'+' | b'-' | b'_' | b',' | b'#' => State::Line { seen: 0, cr: false },
                        b':' | b'$' | b'=' | b'*' | b'%' | b'~' | b'>' => {
                            State::Digits { kind: byte, digits: 0, negative: false, value: 0, cr: false }
                        }
                        _ => return Err(Violation::Garbage),
                    };
                }
                State::Line { seen, cr } => {
                    // One pass over what is there; the end is the first CR LF.
                    let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
                    let (line, tail) = rest.split_at(end);
                    if unasked && self.is_error && self.last_words.len() < MAX_LAST_WORDS {
                        let room = MAX_LAST_WORDS - self.last_words.len();
                        self.last_words.extend_from_slice(&line[..line.len().min(room)]);
                    }
                    let seen = seen + line.len();
                    if seen > MAX_LINE {
                        return Err(Violation::TooLong(seen as u64));
                    }
                    let before = match line {
                        [.., before, _] => Some(*before),
                        _ => cr.then_some(b'\r'),
                    };
                    if line.ends_with(b"\n") {
                        if before != Some(b'\r') {
                            return Err(Violation::Garbage);
                        }
                        ended += self.value_ended();
                    } else {
                        self.state = State::Line { seen, cr: line.ends_with(b"\r") };
                    }
                    rest = tail;
                }
                State::Digits { kind, digits, negative, value, cr } => {
                    rest = tail;
                    self.state = match byte {
                        b'\n' if cr && digits > 0 => {
                            ended += self.announced(kind, negative, value)?;
                            continue;
                        }
                        b'\r' if !cr => State::Digits { kind, digits, negative, value, cr: true },
                        b'-' if digits == 0 && !negative && !cr => {
                            State::Digits { kind, digits, negative: true, value, cr }
                        }
                        b'0'..=b'9' if !cr && digits < MAX_DIGITS => {
                            let value = value
                                .checked_mul(10)
                                .and_then(|value| value.checked_add(u64::from(byte - b'0')))
                                .ok_or(Violation::Garbage)?;
                            State::Digits { kind, digits: digits + 1, negative, value, cr }
                        }
                        _ => return Err(Violation::Garbage),
                    };
                }
                State::Skip { left } => {
                    let here = left.min(rest.len() as u64);
                    rest = &rest[here as usize..];
                    self.state = match left - here {
                        0 => State::End { cr: false },
                        left => State::Skip { left },
                    };
                }
                State::End { cr } => {
                    rest = tail;
                    match (byte, cr) {
                        (b'\r', false) => self.state = State::End { cr: true },
                        (b'\n', true) => ended += self.value_ended(),
                        _ => return Err(Violation::Garbage),
                    }
                }
            }
        }
        Ok(ended)
    }

    /// A length or number was read to its end of line.
    fn announced(&mut self, kind: u8, negative: bool, value: u64) -> Result<u64, Violation> {
        match kind {
            b':' => return Ok(self.value_ended()),
            b'$' | b'=' if !negative => {
                self.bytes = self.bytes.saturating_add(value);
                if value > self.max_bulk || self.bytes > self.max_bulk.max(MAX_REPLY) {
                    return Err(Violation::TooLong(self.bytes));
                }
                self.state = if value == 0 { State::End { cr: false } } else { State::Skip { left: value } };
                return Ok(0);
            }
            // "Nothing", in the older form of the protocol.
            b'$' | b'*' if negative && value == 1 => return Ok(self.value_ended()),
            _ if negative => return Err(Violation::Garbage),
            _ => {}
        }
        let elements = if kind == b'%' { value.saturating_mul(2) } else { value };
        self.elements = self.elements.saturating_add(elements);
        if self.elements > MAX_ELEMENTS {
            return Err(Violation::TooMany);
        }
        if elements == 0 {
            return Ok(self.value_ended());
        }
        let place = self.open.get_mut(self.depth).ok_or(Violation::TooMany)?;
        *place = elements;
        self.depth += 1;
        self.state = State::Type;
        Ok(0)
    }

    /// A value ended; with it may end the arrays around it. 1 if that completes a reply.
    fn value_ended(&mut self) -> u64 {
        self.state = State::Type;
        while self.depth > 0 {
            let left = &mut self.open[self.depth - 1];
            *left -= 1;
            if *left > 0 {
                return 0;
            }
            self.depth -= 1;
        }
        u64::from(!self.is_push)
    }
}

/// A stream that reads along.
pub(crate) struct Guarded<S> {
    stream: S,
    traffic: Arc<Traffic>,
    requests: Scanner,
    replies: Scanner,
}

impl<S> Guarded<S> {
    /// Guards `stream`; no string of a reply may be longer than `max_bulk`.
    pub(crate) fn new(stream: S, traffic: Arc<Traffic>, max_bulk: u64) -> Self {
        Self { stream, traffic, requests: Scanner::new(u64::MAX), replies: Scanner::new(max_bulk) }
    }

    fn heard(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let requested = self.traffic.requested.load(Ordering::Relaxed);
        let before = self.traffic.answered.load(Ordering::Relaxed);
        let answered = before + self.replies.read(bytes, before >= requested)?;
        self.traffic.heard_ms.store(self.traffic.age_ms(), Ordering::Relaxed);
        if answered > requested {
            let words = String::from_utf8_lossy(&self.replies.last_words);
            let words = words.split(['\r', '\n']).next().unwrap_or_default();
            return Err(match words.is_empty() {
                true => Violation::Unasked,
                false => Violation::Refused(words.to_owned()),
            });
        }
        self.traffic.answered.store(answered, Ordering::Relaxed);
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let outcome = self.heard(&buf.filled()[before..]);
        if let Err(violation) = outcome {
            // What is wrong must not be read by anybody.
            buf.set_filled(before);
            // The library tells one caller at most; the others find it here.
            let _ = self.traffic.violation.set(violation.clone());
            return Poll::Ready(Err(violation.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.traffic.wrote(written.is_ready());
        let written = ready!(written)?;
        let requests = self.requests.read(&bytes[..written], false)?;
        let requested = self.traffic.requested.load(Ordering::Relaxed) + requests;
        if requests > 0 && requested == self.traffic.answered.load(Ordering::Relaxed) + requests {
            // The silence that matters begins with the first request that waits.
            self.traffic.heard_ms.store(self.traffic.age_ms(), Ordering::Relaxed);
        }
        self.traffic.requested.store(requested, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` whole and cut at every place, which must not make a difference.
    fn read(bytes: &[u8]) -> Result<u64, Violation> {
        let whole = Scanner::new(1000).read(bytes, false);
        for cut in 0..=bytes.len() {
            let mut scanner = Scanner::new(1000);
            let parts = scanner
                .read(&bytes[..cut], false)
                .and_then(|first| scanner.read(&bytes[cut..], false).map(|second| first + second));
            assert_eq!(parts, whole, "cut at {cut} of {:?}", String::from_utf8_lossy(bytes));
        }
        whole
    }

    #[test]
    fn replies_are_counted_wherever_they_are_cut() {
        for (bytes, replies) in [
            (&b"+OK\r\n"[..], 1),
            (b"$-1\r\n", 1),
            (b"*-1\r\n", 1),
            (b"$0\r\n\r\n", 1),
            (b"$5\r\na\r\nbc\r\n:1\r\n", 2),
            (b"*2\r\n$1\r\na\r\n$-1\r\n", 1),
            (b"*0\r\n", 1),
            (b"*2\r\n*1\r\n:1\r\n*2\r\n+a\r\n-ERR b\r\n+next\r\n", 2),
            (b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n+PONG\r\n", 1),
            (b"%1\r\n+a\r\n#t\r\n_\r\n,1.5\r\n=6\r\ntxt:ab\r\n", 4),
            (b"+a\rb\r\n", 1),
        ] {
            assert_eq!(read(bytes), Ok(replies), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anybody_believes_them() {
        for bytes in [
            &b"$1001\r\n"[..],
            b"$2147483647\r\n",
            b"$9223372036854775807\r\n",
            b"$99999999999999999999\r\n",
            b"$-2\r\n",
            b"$\r\n",
            b"$1 \r\n",
            b"$+1\r\n",
            b"$1\n",
            b"$2\r\nabc\r\n",
            b"*1000000000\r\n",
            b"*262145\r\n",
            b"%131073\r\n",
            b"*-5\r\n",
            b"=-1\r\n",
            b"!5\r\n",
            b"|1\r\n",
            b"(1\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"+a\nb\r\n",
            b"\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
            b"*200000\r\n*200000\r\n",
        ] {
            assert!(read(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        let long = [b"+", vec![b'a'; MAX_LINE + 1].as_slice(), b"\r\n"].concat();
        assert!(Scanner::new(1000).read(&long, false).is_err());
    }

    #[test]
    fn values_that_each_are_short_enough_may_be_too_many_bytes_together() {
        const VALUE: u64 = 64 << 20;
        let mut scanner = Scanner::new(VALUE);
        scanner.read(b"*1000\r\n", false).unwrap();
        let bytes = vec![b'v'; VALUE as usize];
        for _ in 0..MAX_REPLY / VALUE {
            scanner.read(format!("${VALUE}\r\n").as_bytes(), false).unwrap();
            scanner.read(&bytes, false).unwrap();
            scanner.read(b"\r\n", false).unwrap();
        }
        assert_eq!(scanner.read(b"$1\r\n", false), Err(Violation::TooLong(MAX_REPLY + 1)));
        // Replies one after the other do not add up.
        let mut scanner = Scanner::new(VALUE);
        for _ in 0..=MAX_REPLY / VALUE {
            scanner.read(format!("${VALUE}\r\n").as_bytes(), false).unwrap();
            scanner.read(&bytes, false).unwrap();
            assert_eq!(scanner.read(b"\r\n", false), Ok(1));
        }
    }

    #[tokio::test]
    async fn a_reply_given_twice_ends_the_connection() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        for (replies, fine) in [(&b"+PONG\r\n"[..], true), (b"+PONG\r\n+PONG\r\n", false)] {
            let (near, mut far) = tokio::io::duplex(64);
            let traffic = Arc::new(Traffic::new());
            let mut guarded = Guarded::new(near, Arc::clone(&traffic), 1000);
            guarded.write_all(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
            assert_eq!(traffic.outstanding(), 1);
            far.write_all(replies).await.unwrap();
            let mut got = [0; 64];
            let outcome = guarded.read(&mut got).await;
            assert_eq!(outcome.is_ok(), fine, "{outcome:?}");
            if fine {
                assert_eq!(traffic.outstanding(), 0);
            }
        }
    }

    #[tokio::test]
    async fn the_last_words_of_a_full_server_are_kept() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (near, mut far) = tokio::io::duplex(64);
        let mut guarded = Guarded::new(near, Arc::new(Traffic::new()), 1000);
        far.write_all(b"-ERR max number of clients reached\r\n").await.unwrap();
        let error = guarded.read(&mut [0; 64]).await.unwrap_err();
        assert!(error.to_string().contains("max number of clients"), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
