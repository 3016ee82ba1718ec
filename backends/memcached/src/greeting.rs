//! The first exchange on a connection: does the server speak our protocol, and is it still the one we knew?
//!
//! A connection counts as open only after a whole round trip: a stopped process accepts connections too, because its kernel
//! does. The server's process id and start time become its *era*. Its numbers of writes begin anew with every start, so a
//! number alone could mean a write of the process before; together with the era it cannot.

use std::hash::{BuildHasher, RandomState};

use tokio::io::ReadBuf;

use crate::error::Lost;
use crate::outbox::Outbox;
use crate::socket::Socket;

const ASK: &[u8] = b"version\r\nstats\r\nmn\r\n";
/// Some 70 lines of statistics are 2 kB.
const LONGEST: usize = 64 << 10;

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    /// Identifies the running process; 0 if it does not say.
    pub(crate) era: u64,
}

/// Asks and reads to the end of the answer.
pub(crate) async fn exchange(socket: &mut Socket) -> Result<Greeting, Lost> {
    let mut asking = Outbox::default();
    let mut question = Outbox::default();
    question.push(ASK);
    question.move_to(&mut asking);
    let mut answer = Vec::with_capacity(4096);
    let mut buffer = vec![0; 4096];
    loop {
        let read = std::future::poll_fn(|context| {
            while !asking.is_empty() {
                let mut slices = Vec::new();
                asking.slices(&mut slices);
                match socket.poll_write(context, &slices) {
                    std::task::Poll::Ready(Ok(0)) | std::task::Poll::Pending => break,
                    std::task::Poll::Ready(Ok(count)) => asking.advance(count),
                    std::task::Poll::Ready(Err(error)) => return std::task::Poll::Ready(Err(error)),
                }
            }
            let mut buffer = ReadBuf::new(&mut buffer);
            socket.poll_read(context, &mut buffer).map_ok(|()| buffer.filled().len())
        });
        match read.await.map_err(|error| Lost::Broken(error.into()))? {
            0 => return Err(Lost::ClosedByServer),
            count => answer.extend_from_slice(&buffer[..count]),
        }
        if let Some(mut greeting) = read_answer(&answer)? {
            if greeting.era == 0 {
                // A server that keeps its identity to itself: then each connection is an era of its own, and a condition
                // that was seen on another one does not hold. That loses a write and never a newer value.
                greeting.era = RandomState::new().hash_one(&greeting.version);
            }
            return Ok(greeting);
        }
    }
}

/// The answer to [`ASK`], `None` if it is not all there.
fn read_answer(answer: &[u8]) -> Result<Option<Greeting>, Lost> {
    let mut greeting = Greeting::default();
    let (mut pid, mut uptime, mut time) = (0, 0, 0);
    let mut rest = answer;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(&rest[..end]).unwrap_or_default().trim_end_matches('\r');
        rest = &rest[end + 1..];
        let mut words = line.split(' ');
        match words.next() {
            Some("VERSION") => {
                greeting.version =
                    words.next().unwrap_or_default().chars().filter(char::is_ascii_graphic).take(32).collect();
            }
            Some("STAT") => {
                let place = match words.next() {
                    Some("pid") => &mut pid,
                    Some("uptime") => &mut uptime,
                    Some("time") => &mut time,
                    _ => continue,
                };
                *place = words.next().and_then(|number| number.parse().ok()).unwrap_or(0_u64);
            }
            Some("END") => {}
            Some("MN") if !rest.is_empty() => return Err(Lost::OutOfStep("more than was asked for")),
            Some("MN") => {
                if time > 0 {
                    // Both count from the start of the process, so their difference is its start.
                    greeting.era = (time.wrapping_sub(uptime) << 22) ^ pid;
                }
                return Ok(Some(greeting));
            }
            Some("ERROR") => return Err(Lost::TooOld),
            Some("CLIENT_ERROR") if line.contains("unauthenticated") => return Err(Lost::AsksForAuth),
            _ => return Err(Lost::OutOfStep("a greeting that is none")),
        }
    }
    if answer.len() > LONGEST { Err(Lost::OutOfStep("a greeting without an end")) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_when_it_is_whole() {
        let answer = b"VERSION 1.6.18\r\nSTAT pid 77\r\nSTAT uptime 5\r\nSTAT time 1700000005\r\nEND\r\nMN\r\n";
        for cut in 0..answer.len() {
            assert!(matches!(read_answer(&answer[..cut]), Ok(None)), "{cut}");
        }
        let greeting = read_answer(answer).unwrap().unwrap();
        assert_eq!(greeting, Greeting { version: "1.6.18".into(), era: (1_700_000_000 << 22) ^ 77 });
        let later = b"STAT pid 77\r\nSTAT uptime 95\r\nSTAT time 1700000095\r\nEND\r\nMN\r\n";
        assert_eq!(read_answer(later).unwrap().unwrap().era, greeting.era);
        assert_eq!(read_answer(b"VERSION x\r\nEND\r\nMN\r\n").unwrap().unwrap().era, 0);
    }

    #[test]
    fn other_servers_are_told_apart() {
        assert!(matches!(read_answer(b"VERSION 1.4.25\r\nEND\r\nERROR\r\n"), Err(Lost::TooOld)));
        assert!(matches!(read_answer(b"CLIENT_ERROR unauthenticated\r\n"), Err(Lost::AsksForAuth)));
        assert!(matches!(read_answer(b"-ERR unknown command\r\n"), Err(Lost::OutOfStep(_))));
        assert!(matches!(read_answer(b"HTTP/1.1 400 Bad Request\r\n"), Err(Lost::OutOfStep(_))));
        assert!(matches!(read_answer(b"MN\r\nVA"), Err(Lost::OutOfStep(_))));
        assert!(matches!(read_answer(&vec![b'x'; LONGEST + 1]), Err(Lost::OutOfStep(_))));
    }
}
