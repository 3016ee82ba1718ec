//! Documents of foreign writers: what Python's readers take, within bounds, and nothing that could be a wrong value.
//!
//! Two dialects differ in what a map may be: interop mode takes integer and bytes keys and revives a sentinel with company;
//! the StandardSerializer takes text keys alone and revives maps of exactly two. Nothing recurses, and nothing is set aside
//! that the input does not back.

use std::collections::HashMap;

use super::MAX_DEPTH;
use super::error::Malformed;
use super::sentinel::{DATE, DATETIME, TIME};
use super::unpack::{Reader, Token};
use super::value::InteropValue;

/// Keys that are neither text nor bytes, in one map.
const MAX_ODD_KEYS: usize = 32;
/// Up to this many entries are compared one by one to find a key that stands twice.
const FEW: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Interop mode.
    Interop,
    /// The payload of the StandardSerializer.
    Standard,
    /// A document of Python's default mode that is only looked at: nothing is revived, so nothing can be revived wrongly.
    Plain,
}

/// Reads an interop value: exactly one document.
///
/// # Errors
/// [`Malformed`].
pub fn read_value(bytes: &[u8]) -> Result<InteropValue, Malformed> {
    refuse_frames(bytes)?;
    read(bytes, Dialect::Interop)
}

/// Two bytes that no interop value begins with and every frame does: a reader that met one is looking at the wrong cache.
pub(super) fn refuse_frames(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.starts_with(b"CK") { Err(Malformed::FramePrefix) } else { Ok(()) }
}

/// A container that is not complete. A map keeps keys and values in turn.
struct Open {
    is_map: bool,
    left: usize,
    items: Vec<InteropValue>,
}

/// Values in the arrays and maps of one document. Each takes up to 48 bytes where it may have been one of input: this many are
/// as large as the largest entry that is read by default. Who expects more reads them as a type of his own.
pub(super) const MAX_VALUES: usize = 2 << 20;

pub(super) fn read(bytes: &[u8], dialect: Dialect) -> Result<InteropValue, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut open: Vec<Open> = Vec::new();
    let mut left = MAX_VALUES;
    loop {
        let (is_map, elements) = match reader.next()? {
            Token::Array(len) => (false, len),
            // Backed by input, so it cannot overflow.
            Token::Map(len) => (true, len * 2),
            scalar => {
                if let Some(value) = place(&mut open, leaf(scalar), dialect)? {
                    return if reader.rest().is_empty() { Ok(value) } else { Err(Malformed::Trailing) };
                }
                continue;
            }
        };
        if open.len() == MAX_DEPTH {
            return Err(Malformed::Depth);
        }
        left = left.checked_sub(elements).ok_or(Malformed::Values)?;
        open.push(Open { is_map, left: elements, items: Vec::with_capacity(elements) });
        if elements > 0 {
            continue;
        }
        let Some(empty) = open.pop() else { return Err(Malformed::Truncated) };
        if let Some(value) = place(&mut open, close(empty, dialect)?, dialect)? {
            return if reader.rest().is_empty() { Ok(value) } else { Err(Malformed::Trailing) };
        }
    }
}

/// Puts a complete value where it belongs, closing what it completes. The document, if that was all of it.
fn place(open: &mut Vec<Open>, mut value: InteropValue, dialect: Dialect) -> Result<Option<InteropValue>, Malformed> {
    loop {
        let Some(innermost) = open.last_mut() else { return Ok(Some(value)) };
        // A key that cannot be one is refused before its value is read.
        if innermost.is_map && innermost.items.len() % 2 == 0 && !may_be_key(&value, dialect) {
            return Err(Malformed::MapKey);
        }
        innermost.items.push(value);
        innermost.left -= 1;
        if innermost.left > 0 {
            return Ok(None);
        }
        let Some(complete) = open.pop() else { return Ok(None) };
        value = close(complete, dialect)?;
    }
}

fn leaf(token: Token<'_>) -> InteropValue {
    match token {
        Token::Bool(value) => InteropValue::Bool(value),
        Token::Int(value) => InteropValue::Int(value),
        Token::Float(value) => InteropValue::Float(value),
        Token::Str(text) => InteropValue::Str(text.to_owned()),
        Token::Bin(bytes) => InteropValue::Bytes(bytes.to_vec()),
        Token::Ext(code, bytes) => InteropValue::Ext(code, bytes.to_vec()),
        Token::Nil | Token::Array(_) | Token::Map(_) => InteropValue::Nil,
    }
}

/// Booleans and floats are refused although Python takes them: there 1, 1.0 and true are one key, here they would be three.
fn may_be_key(key: &InteropValue, dialect: Dialect) -> bool {
    match key {
        InteropValue::Str(_) | InteropValue::Bytes(_) => true,
        InteropValue::Int(_) => dialect != Dialect::Standard,
        _ => false,
    }
}

fn close(container: Open, dialect: Dialect) -> Result<InteropValue, Malformed> {
    if !container.is_map {
        return Ok(InteropValue::Array(container.items));
    }
    let mut entries = Vec::with_capacity(container.items.len() / 2);
    let mut items = container.items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        entries.push((key, value));
    }
    let odd = entries.iter().filter(|(key, _)| matches!(key, InteropValue::Int(_))).count();
    if odd > MAX_ODD_KEYS {
        return Err(Malformed::MapKey);
    }
    let entries = without_doubles(entries);
    revive(entries, dialect)
}

/// Of a key that stands twice the last value counts, at the place of the first.
fn without_doubles(entries: Vec<(InteropValue, InteropValue)>) -> Vec<(InteropValue, InteropValue)> {
    if entries.len() <= FEW {
        let doubled = |at: usize| entries[..at].iter().any(|(key, _)| *key == entries[at].0);
        if !(1..entries.len()).any(doubled) {
            return entries;
        }
    }
    let mut places: HashMap<Name, usize> = HashMap::with_capacity(entries.len());
    let mut kept: Vec<(InteropValue, InteropValue)> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        match Name::of(&key).map(|name| *places.entry(name).or_insert(kept.len())) {
            Some(place) if place < kept.len() => kept[place].1 = value,
            _ => kept.push((key, value)),
        }
    }
    kept
}

/// A key that can be hashed.
#[derive(PartialEq, Eq, Hash)]
enum Name {
    Text(String),
    Bytes(Vec<u8>),
    Number(i128),
}

impl Name {
    fn of(key: &InteropValue) -> Option<Self> {
        match key {
            InteropValue::Str(text) => Some(Self::Text(text.clone())),
            InteropValue::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            InteropValue::Int(number) => Some(Self::Number(*number)),
            _ => None,
        }
    }
}

/// A map that says it is a date becomes one, or is refused.
fn revive(entries: Vec<(InteropValue, InteropValue)>, dialect: Dialect) -> Result<InteropValue, Malformed> {
    for sentinel in [DATETIME, DATE, TIME] {
        let Some(says) = field(&entries, sentinel) else { continue };
        let text = match (dialect, field(&entries, "value")) {
            (Dialect::Interop, Some(InteropValue::Str(text))) if *says == InteropValue::Bool(true) => text,
            (Dialect::Standard, Some(value)) if entries.len() == 2 && truthy(says) && *value != InteropValue::Nil => {
                let InteropValue::Str(text) = value else { return Err(Malformed::Date) };
                text
            }
            _ => continue,
        };
        return Ok(match sentinel {
            DATETIME => InteropValue::DateTime(text.parse()?),
            DATE => InteropValue::Date(text.parse()?),
            _ => InteropValue::Time(text.parse()?),
        });
    }
    Ok(InteropValue::Map(entries))
}

/// Whether an interop reader would take a map for a date or a time.
pub(super) fn is_sentinel(entries: &[(InteropValue, InteropValue)]) -> bool {
    let says = |name| matches!(field(entries, name), Some(InteropValue::Bool(true)));
    matches!(field(entries, "value"), Some(InteropValue::Str(_))) && [DATETIME, DATE, TIME].into_iter().any(says)
}

fn field<'a>(entries: &'a [(InteropValue, InteropValue)], name: &str) -> Option<&'a InteropValue> {
    entries.iter().find(|(key, _)| matches!(key, InteropValue::Str(key) if key == name)).map(|(_, value)| value)
}

/// Python's idea of what is true.
fn truthy(value: &InteropValue) -> bool {
    match value {
        InteropValue::Nil => false,
        InteropValue::Bool(value) => *value,
        InteropValue::Int(value) => *value != 0,
        InteropValue::Float(value) => *value != 0.0,
        InteropValue::Str(text) => !text.is_empty(),
        InteropValue::Bytes(bytes) => !bytes.is_empty(),
        InteropValue::Array(items) => !items.is_empty(),
        InteropValue::Map(entries) => !entries.is_empty(),
        _ => true,
    }
}
