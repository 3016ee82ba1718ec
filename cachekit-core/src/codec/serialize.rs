//! Value ↔ payload.
//!
//! What it protects: hostile bytes cannot exhaust the stack or the memory of the host. Bytes are bounded before a type sees
//! them: nesting by [`MAX_DEPTH`], announced counts by the bytes that are there, and after the value nothing may follow.

use std::io;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

use super::depth;
use super::refusal::{DecodeFault, EncodeError, Refusal};
use super::seal::TAG_LEN;
use super::wiped::wipe;

/// Deepest nesting of arrays and maps that is read. 127 is what serde_json accepts; one number for all formats means that a
/// value does not become unreadable by changing the serializer. It is not checked on writing: a walk over every payload
/// would cost each `set` up to 0.8 µs for 3.4 KB, to spare recursive types of more than 127 levels a counted miss.
pub const MAX_DEPTH: usize = 127;

/// How values become bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Serializer {
    /// Bytes as they are; typed values are refused.
    Raw,
    /// MessagePack with field names, so that fields may be added, dropped and reordered between releases of a program.
    #[default]
    MessagePack,
    /// JSON text, for people and other languages.
    Json,
}

impl Serializer {
    /// The number in the envelope.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::MessagePack => 1,
            Self::Json => 2,
        }
    }

    /// The serializer of a number in the envelope.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Raw),
            1 => Some(Self::MessagePack),
            2 => Some(Self::Json),
            _ => None,
        }
    }

    /// Appends `value` to `out`, at most `max` bytes of it. What is `secret` is left in no memory that was let go of.
    pub(super) fn encode<T: Serialize + ?Sized>(
        self,
        value: &T,
        out: &mut Vec<u8>,
        max: u64,
        secret: bool,
    ) -> Result<(), EncodeError> {
        // The serializer owns its writer: writing 3.4 KB through a reference was measured to cost 0.8 µs more.
        let bounded = Bounded::after(std::mem::take(out), max, secret);
        let (mut bounded, written) = match self {
            Self::Raw => return Err(EncodeError::NotBytes),
            Self::MessagePack => encode_messagepack(value, bounded),
            Self::Json => encode_json(value, bounded),
        };
        let too_large = bounded.is_too_large();
        *out = std::mem::take(&mut bounded.out);
        if too_large {
            return Err(EncodeError::TooLarge { max });
        }
        written
    }

    /// The value that is exactly `payload`.
    pub(super) fn decode<T: DeserializeOwned>(self, payload: &[u8]) -> Result<T, Refusal> {
        match self {
            Self::Raw => Err(Refusal::Decode(DecodeFault::Serializer)),
            Self::MessagePack => decode_messagepack(payload).map_err(Refusal::Decode),
            Self::Json => decode_json(payload).map_err(Refusal::Decode),
        }
    }
}

// A function for each format: with both in one, a type's `serialize` is inlined less and takes a fifth longer.
#[inline(never)]
fn encode_messagepack<T: Serialize + ?Sized>(value: &T, out: Bounded) -> (Bounded, Result<(), EncodeError>) {
    let mut writer = rmp_serde::Serializer::new(out).with_struct_map();
    let written = value.serialize(&mut writer).map_err(EncodeError::MessagePack);
    (writer.into_inner(), written)
}

#[inline(never)]
fn encode_json<T: Serialize + ?Sized>(value: &T, out: Bounded) -> (Bounded, Result<(), EncodeError>) {
    let mut writer = serde_json::Serializer::new(out);
    let written = value.serialize(&mut writer).map_err(EncodeError::Json);
    (writer.into_inner(), written)
}

fn decode_messagepack<T: DeserializeOwned>(payload: &[u8]) -> Result<T, DecodeFault> {
    // rmp-serde counts depth (1024 by default) for arrays and maps but not for enums, so a recursive enum type would let
    // 2 bytes buy a stack frame. And it passes announced counts on as size hints, which serde's own collections cap at
    // 1 MiB each and other people's do not. Hence a look at the bytes first, and not `set_max_depth`.
    depth::check_messagepack(payload)?;
    let mut reader = rmp_serde::Deserializer::from_read_ref(payload);
    let value = T::deserialize(&mut reader).map_err(|_| DecodeFault::Shape)?;
    // The reader does not tell its position, but only at the end of the input can it read no marker. A `bool` reads one and
    // no more; `IgnoredAny` would look into the container that half a second value opens, and report the end found there.
    match bool::deserialize(&mut reader) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Ok(value)
        }
        _ => Err(DecodeFault::Trailing),
    }
}

fn decode_json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, DecodeFault> {
    // serde_json limits nesting to 127 itself, enums included, and gives no size hints.
    let mut reader = serde_json::Deserializer::from_slice(payload);
    let value = T::deserialize(&mut reader)
        .map_err(|_| if depth::json_is_within(payload) { DecodeFault::Shape } else { DecodeFault::Depth })?;
    reader.end().map_err(|_| DecodeFault::Trailing)?;
    Ok(value)
}

/// Appends until the limit, so that a value of 10 GB ends at the limit and not with the host's memory.
///
/// A value of 4 KB is hundreds of writes, most of them of a byte or two, so a write asks one thing: whether there is room.
/// Without room the limit is looked at before any memory is taken; what went into room that was there already is held to it
/// at the end. Counting what is left in every write took 2.5 times the instructions of a plain vector, this takes 1.3.
struct Bounded {
    out: Vec<u8>,
    begin: usize,
    max: u64,
    overflowed: bool,
    secret: bool,
}

impl Bounded {
    fn after(out: Vec<u8>, max: u64, secret: bool) -> Self {
        Self { begin: out.len(), out, max, overflowed: false, secret }
    }

    /// Bytes appended so far.
    fn written(&self) -> u64 {
        (self.out.len() - self.begin) as u64
    }

    fn is_too_large(&self) -> bool {
        self.overflowed || self.written() > self.max
    }

    /// A write that finds no room: refused at the limit, else room is made for it.
    #[cold]
    #[inline(never)]
    fn write_with_more_room(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written().saturating_add(bytes.len() as u64) > self.max {
            self.overflowed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.secret {
            self.grow(bytes.len());
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Room for `more` and for a seal behind it. A vector that grows by itself copies what it has and leaves the old bytes
    /// where they were.
    fn grow(&mut self, more: usize) {
        let room = (self.out.len() + more + TAG_LEN).max(2 * self.out.capacity());
        let mut larger = Vec::with_capacity(room);
        larger.extend_from_slice(&self.out);
        wipe(&mut self.out);
        self.out = larger;
    }
}

/// What is left here was left by a panic.
impl Drop for Bounded {
    fn drop(&mut self) {
        if self.secret {
            wipe(&mut self.out);
        }
    }
}

impl io::Write for Bounded {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.out.capacity() - self.out.len() {
            return self.write_with_more_room(bytes);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More elements than anybody would wait for, told to nobody beforehand.
    struct Endless;

    impl Serialize for Endless {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut elements = serializer.serialize_seq(Some(u32::MAX as usize))?;
            for number in 0..u64::MAX {
                elements.serialize_element(&number)?;
            }
            elements.end()
        }
    }

    #[test]
    fn room_that_was_there_already_does_not_lift_the_limit() {
        for serializer in [Serializer::MessagePack, Serializer::Json] {
            for secret in [false, true] {
                for room in [0, 10, 1000] {
                    let mut out = Vec::with_capacity(3 + room);
                    out.extend_from_slice(b"abc");
                    // Two bytes more than the text, one in MessagePack.
                    let text = "x".repeat(20);
                    let len = if serializer == Serializer::Json { 22 } else { 21 };
                    let refused = serializer.encode(&text, &mut out, len - 1, secret);
                    assert!(matches!(refused, Err(EncodeError::TooLarge { max }) if max == len - 1), "{room} {secret}");
                    out.truncate(3);
                    serializer.encode(&text, &mut out, len, secret).unwrap();
                    assert_eq!(out.len() as u64, 3 + len);
                }
            }
        }
    }

    #[test]
    fn what_never_ends_is_given_no_more_room_at_the_limit() {
        for serializer in [Serializer::MessagePack, Serializer::Json] {
            for secret in [false, true] {
                let mut out = Vec::new();
                let refused = serializer.encode(&Endless, &mut out, 10_000, secret);
                assert!(matches!(refused, Err(EncodeError::TooLarge { max: 10_000 })));
                // No room is made beyond the limit; what is made within it doubles.
                assert!(out.capacity() <= 20_000 + TAG_LEN, "{}", out.capacity());
            }
        }
    }

    #[test]
    fn it_is_the_look_at_the_end_that_holds_what_found_room_to_the_limit() {
        use io::Write;
        let mut bounded = Bounded::after(Vec::with_capacity(100), 10, false);
        bounded.write_all(&[1; 11]).unwrap();
        assert!(!bounded.overflowed && bounded.is_too_large());
        let mut bounded = Bounded::after(Vec::with_capacity(100), 10, false);
        bounded.write_all(&[1; 10]).unwrap();
        assert!(!bounded.is_too_large());
    }
}
