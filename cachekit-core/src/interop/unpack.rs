//! MessagePack from somebody else, piece by piece, believing no announced length.
//!
//! A container may only announce as many elements as bytes are left, summed over all that are open: so what a reader sets
//! aside is bounded by what it was given, however the counts nest.

use super::error::Malformed;

/// One piece of a document. A container is its count; its elements follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(&'a str),
    Bin(&'a [u8]),
    Array(usize),
    Map(usize),
    Ext(i8, &'a [u8]),
}

/// What is left of a document.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Elements that were announced and have not come yet.
    owed: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, owed: 1 }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, Malformed> {
        let (&marker, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        self.owed = self.owed.saturating_sub(1);
        Ok(match marker {
            0x00..=0x7f => Token::Int(marker.into()),
            0xe0..=0xff => Token::Int((marker as i8).into()),
            0x80..=0x8f => self.map((marker & 0x0f).into())?,
            0x90..=0x9f => self.array((marker & 0x0f).into())?,
            0xa0..=0xbf => self.str((marker & 0x1f).into())?,
            0xc0 => Token::Nil,
            0xc1 => return Err(Malformed::Reserved),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 => self.len::<1>().and_then(|len| self.bin(len))?,
            0xc5 => self.len::<2>().and_then(|len| self.bin(len))?,
            0xc6 => self.len::<4>().and_then(|len| self.bin(len))?,
            0xc7 => self.len::<1>().and_then(|len| self.ext(len))?,
            0xc8 => self.len::<2>().and_then(|len| self.ext(len))?,
            0xc9 => self.len::<4>().and_then(|len| self.ext(len))?,
            0xca => Token::Float(f32::from_bits(u32::from_be_bytes(self.fixed()?)).into()),
            0xcb => Token::Float(f64::from_bits(u64::from_be_bytes(self.fixed()?))),
            0xcc => Token::Int(u8::from_be_bytes(self.fixed()?).into()),
            0xcd => Token::Int(u16::from_be_bytes(self.fixed()?).into()),
            0xce => Token::Int(u32::from_be_bytes(self.fixed()?).into()),
            0xcf => Token::Int(u64::from_be_bytes(self.fixed()?).into()),
            0xd0 => Token::Int(i8::from_be_bytes(self.fixed()?).into()),
            0xd1 => Token::Int(i16::from_be_bytes(self.fixed()?).into()),
            0xd2 => Token::Int(i32::from_be_bytes(self.fixed()?).into()),
            0xd3 => Token::Int(i64::from_be_bytes(self.fixed()?).into()),
            0xd4..=0xd8 => self.ext(1 << (marker - 0xd4))?,
            0xd9 => self.len::<1>().and_then(|len| self.str(len))?,
            0xda => self.len::<2>().and_then(|len| self.str(len))?,
            0xdb => self.len::<4>().and_then(|len| self.str(len))?,
            0xdc => self.len::<2>().and_then(|len| self.array(len))?,
            0xdd => self.len::<4>().and_then(|len| self.array(len))?,
            0xde => self.len::<2>().and_then(|len| self.map(len))?,
            0xdf => self.len::<4>().and_then(|len| self.map(len))?,
        })
    }

    fn array(&mut self, len: usize) -> Result<Token<'a>, Malformed> {
        self.owe(len)?;
        Ok(Token::Array(len))
    }

    fn map(&mut self, len: usize) -> Result<Token<'a>, Malformed> {
        self.owe(len.saturating_mul(2))?;
        Ok(Token::Map(len))
    }

    fn owe(&mut self, elements: usize) -> Result<(), Malformed> {
        self.owed = self.owed.saturating_add(elements);
        if self.owed > self.rest.len() { Err(Malformed::Truncated) } else { Ok(()) }
    }

    fn str(&mut self, len: usize) -> Result<Token<'a>, Malformed> {
        std::str::from_utf8(self.take(len)?).map(Token::Str).map_err(|_| Malformed::Utf8)
    }

    fn bin(&mut self, len: usize) -> Result<Token<'a>, Malformed> {
        self.take(len).map(Token::Bin)
    }

    fn ext(&mut self, len: usize) -> Result<Token<'a>, Malformed> {
        let [code] = self.fixed()?;
        Ok(Token::Ext(code as i8, self.take(len)?))
    }

    fn len<const N: usize>(&mut self) -> Result<usize, Malformed> {
        let bytes = self.fixed::<N>()?;
        Ok(bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// Goes through one document without keeping anything, and returns what follows it.
pub(super) fn walk(bytes: &[u8], max_depth: usize) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(bytes);
    // Elements still to come in the containers around the innermost, and in it.
    let mut around: Vec<usize> = Vec::new();
    let mut left = 1_usize;
    loop {
        while left == 0 {
            match around.pop() {
                Some(outer) => left = outer,
                None => return Ok(reader.rest()),
            }
        }
        left -= 1;
        let elements = match reader.next()? {
            Token::Array(len) => len,
            // Backed by input, so it cannot overflow.
            Token::Map(len) => len * 2,
            _ => continue,
        };
        if around.len() == max_depth {
            return Err(Malformed::Depth);
        }
        around.push(left);
        left = elements;
    }
}
