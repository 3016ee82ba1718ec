//! The answers of a server, taken apart as they arrive, with a bound on everything.
//!
//! A line has at most [`LONGEST_LINE`] bytes. The length of a value is compared with the limit before memory is taken, and even
//! then memory grows with what arrives, not with what was announced. A value beyond the limit that a server may really hold
//! is passed over byte by byte, so that it costs one request and not the connection; a length no server would announce ends
//! the connection. The lines themselves are read by the parser of the crate `memcache`, which keeps the announced length to
//! itself, so that is read here.

use bytes::Bytes;
use memcache::exp::{Error, MetaResponse, ReturnCode, parse_meta_result};

use crate::error::{Lost, Refusal};

/// A line holds a key of 250 bytes, a token and a few numbers.
const LONGEST_LINE: usize = 512;
/// Memory taken ahead of the bytes of a value.
const AHEAD: usize = 64 << 10;
/// Passed over at most, if it is beyond the limit: what a server with `-I 64m` may hold.
const PASSED_OVER: u64 = 64 << 20;

/// One answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: ReturnCode,
    pub(crate) opaque: Option<u64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) cas: Option<u64>,
    pub(crate) ttl: Option<i64>,
    pub(crate) value: Option<Bytes>,
    /// The value was passed over: so long it was.
    pub(crate) passed_over: Option<u64>,
}

/// What stands next in the stream.
#[derive(Debug)]
pub(crate) enum Frame {
    Reply(Reply),
    /// An error line. It repeats no token.
    Refusal(Refusal),
}

/// Takes a stream apart.
pub(crate) struct Decoder {
    largest_value: u64,
    place: Place,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
}

enum Place {
    Line,
    /// In the data block of an answer.
    Value {
        reply: Reply,
        value: Vec<u8>,
        len: usize,
    },
    /// In a data block that is passed over.
    PassingOver {
        reply: Reply,
        left: u64,
    },
    /// Behind the data: so much of the line break has been seen.
    End {
        reply: Reply,
        seen: usize,
    },
}

impl Decoder {
    pub(crate) fn new(largest_value: u64) -> Self {
        Self { largest_value, place: Place::Line, line: Vec::new() }
    }

    /// Takes `input` apart and appends what is complete to `frames`.
    pub(crate) fn feed(&mut self, mut input: &[u8], frames: &mut Vec<Frame>) -> Result<(), Lost> {
        while !input.is_empty() {
            match std::mem::replace(&mut self.place, Place::Line) {
                Place::Line => {
                    let Some(end) = input.iter().take(LONGEST_LINE + 1).position(|byte| *byte == b'\n') else {
                        if self.line.len() + input.len() > LONGEST_LINE {
                            return Err(Lost::OutOfStep("a line without an end"));
                        }
                        self.line.extend_from_slice(input);
                        return Ok(());
                    };
                    let (head, rest) = input.split_at(end + 1);
                    input = rest;
                    self.place = if self.line.is_empty() {
                        self.begin(head, frames)?
                    } else {
                        if self.line.len() + head.len() > LONGEST_LINE {
                            return Err(Lost::OutOfStep("a line without an end"));
                        }
                        let mut line = std::mem::take(&mut self.line);
                        line.extend_from_slice(head);
                        let place = self.begin(&line, frames)?;
                        line.clear();
                        self.line = line;
                        place
                    };
                }
                Place::Value { mut reply, mut value, len } => {
                    let (part, rest) = input.split_at(input.len().min(len - value.len()));
                    value.extend_from_slice(part);
                    input = rest;
                    self.place = if value.len() == len {
                        reply.value = Some(value.into());
                        Place::End { reply, seen: 0 }
                    } else {
                        Place::Value { reply, value, len }
                    };
                }
                Place::PassingOver { reply, left } => {
                    let passed = (input.len() as u64).min(left);
                    input = &input[passed as usize..];
                    let left = left - passed;
                    self.place =
                        if left == 0 { Place::End { reply, seen: 0 } } else { Place::PassingOver { reply, left } };
                }
                Place::End { reply, seen } => {
                    if input[0] != b"\r\n"[seen] {
                        return Err(Lost::OutOfStep("a value of another length than announced"));
                    }
                    input = &input[1..];
                    if seen == 0 {
                        self.place = Place::End { reply, seen: 1 };
                    } else {
                        frames.push(Frame::Reply(reply));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the stream is between two answers.
    #[cfg(test)]
    fn is_between(&self) -> bool {
        matches!(self.place, Place::Line) && self.line.is_empty()
    }

    /// Reads a line, its break included.
    fn begin(&self, line: &[u8], frames: &mut Vec<Frame>) -> Result<Place, Lost> {
        let line = line.strip_suffix(b"\r\n").ok_or(Lost::OutOfStep("a line that ends in another way"))?;
        let response = match MetaResponse::parse_header(line) {
            Ok(response) => response,
            Err(Error::Server(text)) => {
                frames.push(Frame::Refusal(refusal_of(&text)));
                return Ok(Place::Line);
            }
            Err(Error::Rejected(text)) if text.contains("unauthenticated") => return Err(Lost::AsksForAuth),
            Err(Error::Rejected(_)) => {
                frames.push(Frame::Refusal(Refusal::ClientError));
                return Ok(Place::Line);
            }
            Err(_) => return Err(Lost::OutOfStep("a line that is no answer")),
        };
        let len = match response.rc() {
            ReturnCode::Va => Some(announced(line)?),
            _ => None,
        };
        let parsed = parse_meta_result(response).map_err(|_| Lost::OutOfStep("a field that is no number"))?;
        let reply = Reply {
            code: parsed.rc,
            opaque: parsed.opaque.as_deref().and_then(number),
            key: parsed.key,
            cas: parsed.cas,
            ttl: parsed.ttl,
            value: None,
            passed_over: None,
        };
        Ok(match len {
            None => {
                frames.push(Frame::Reply(reply));
                Place::Line
            }
            Some(0) => Place::End { reply: Reply { value: Some(Bytes::new()), ..reply }, seen: 0 },
            Some(len) if len <= self.largest_value => {
                let len = usize::try_from(len).map_err(|_| TOO_LONG)?;
                Place::Value { reply, value: Vec::with_capacity(len.min(AHEAD)), len }
            }
            Some(len) if len <= PASSED_OVER => {
                Place::PassingOver { reply: Reply { passed_over: Some(len), ..reply }, left: len }
            }
            Some(_) => return Err(TOO_LONG),
        })
    }
}

const TOO_LONG: Lost = Lost::OutOfStep("an announced length beyond reason");

/// The length in `VA <length> …`.
fn announced(line: &[u8]) -> Result<u64, Lost> {
    let token = line.split(|byte| *byte == b' ').filter(|token| !token.is_empty()).nth(1);
    token.and_then(number).ok_or(Lost::OutOfStep("a length that is no number"))
}

/// Decimal digits and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn refusal_of(text: &str) -> Refusal {
    match text {
        "object too large for cache" => Refusal::ObjectTooLarge,
        text if text.starts_with("out of memory") => Refusal::OutOfMemory,
        _ => Refusal::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(largest: u64, stream: &[u8], step: usize) -> Result<(Vec<Frame>, bool), Lost> {
        let mut decoder = Decoder::new(largest);
        let mut frames = Vec::new();
        for part in stream.chunks(step) {
            decoder.feed(part, &mut frames)?;
        }
        Ok((frames, decoder.is_between()))
    }

    #[test]
    fn answers_are_the_same_however_they_are_cut() {
        let stream = b"VA 3 kusers:1 c7 t-1 O12\r\n\0\r\n\r\nEN kmiss O13\r\nHD O14\r\nVA 0 O15\r\n\r\n\
            SERVER_ERROR out of memory storing object\r\nSERVER_ERROR object too large for cache\r\nCLIENT_ERROR x\r\n";
        for step in 1..=stream.len() {
            let (frames, between) = decode(100, stream, step).unwrap();
            assert!(between && frames.len() == 7, "{step}: {frames:?}");
            let Frame::Reply(first) = &frames[0] else { panic!() };
            assert_eq!((first.value.as_deref(), first.opaque), (Some(&b"\0\r\n"[..]), Some(12)));
            assert_eq!((first.cas, first.ttl, first.key.as_deref()), (Some(7), Some(-1), Some(&b"users:1"[..])));
            assert!(matches!(&frames[1], Frame::Reply(Reply { code: ReturnCode::En, opaque: Some(13), .. })));
            assert!(matches!(&frames[3], Frame::Reply(Reply { value: Some(value), .. }) if value.is_empty()));
            assert!(matches!(frames[4], Frame::Refusal(Refusal::OutOfMemory)));
            assert!(matches!(frames[5], Frame::Refusal(Refusal::ObjectTooLarge)));
            assert!(matches!(frames[6], Frame::Refusal(Refusal::ClientError)));
        }
    }

    #[test]
    fn what_no_server_says_ends_the_stream() {
        let endless = [b"VA 3 ", &[b' '; 600][..]].concat();
        for (number, stream) in [
            &b"VA 3 O1\r\nabcd\r\n"[..],
            b"VA 3 O1\r\nabc\n\n",
            b"VA -1 O1\r\n",
            b"VA +3 O1\r\n",
            b"VA\r\n",
            b"VA x O1\r\n",
            b"VA 99999999999 O1\r\n",
            b"VA 18446744073709551616 O1\r\n",
            b"VA 1073741825 O1\r\n",
            b"HD t1x O1\r\n",
            b"HD c-1 O1\r\n",
            b"HD O1\n",
            b"\r\n",
            b"\n",
            b"VALUE k 0 3\r\n",
            b"XX O1\r\n",
            b"\0\0\0\0\r\n",
            &endless,
            &[b'x'; 513],
        ]
        .into_iter()
        .enumerate()
        {
            for step in [1, 7, stream.len()] {
                assert!(matches!(decode(100, stream, step), Err(Lost::OutOfStep(_))), "{number} by {step}");
            }
        }
        assert!(matches!(decode(100, b"CLIENT_ERROR unauthenticated\r\n", 9), Err(Lost::AsksForAuth)));
    }

    #[test]
    fn a_value_beyond_the_limit_is_passed_over() {
        let stream = [b"VA 300 kk O1\r\n", &[b'\n'; 300][..], b"\r\nHD O2\r\n"].concat();
        for step in [1, 13, stream.len()] {
            let (frames, between) = decode(299, &stream, step).unwrap();
            let [Frame::Reply(large), Frame::Reply(next)] = &frames[..] else { panic!("{frames:?}") };
            assert_eq!((large.value.as_deref(), large.passed_over, next.opaque), (None, Some(300), Some(2)));
            assert!(between);
        }
        assert!(matches!(decode(100, b"VA 67108865 O1\r\n", 99), Err(Lost::OutOfStep(_))));
    }

    #[test]
    fn an_announcement_takes_no_memory_ahead_of_the_bytes() {
        let mut decoder = Decoder::new(1 << 30);
        decoder.feed(b"VA 1073741824 O1\r\nabc", &mut Vec::new()).unwrap();
        let Place::Value { value, .. } = &decoder.place else { panic!() };
        assert!(value.capacity() <= 2 * AHEAD, "{}", value.capacity());
    }

    #[test]
    fn tokens_are_decimal_and_nothing_else() {
        for wrong in ["HD O-1\r\n", "HD O\r\n", "HD O1x\r\n", "HD\r\n", "HD O99999999999999999999\r\n"] {
            let (frames, _) = decode(1, wrong.as_bytes(), 99).unwrap();
            assert!(matches!(&frames[..], [Frame::Reply(Reply { opaque: None, .. })]), "{wrong}: {frames:?}");
        }
    }
}
