//! What an interop entry can hold: the data model that every language of the family reads.

use std::fmt;

use super::calendar::{Date, DateTime, Time};

/// A value of the family's data model.
///
/// Its `Debug` shows shapes and sizes, never contents: values end up in logs by way of `{:?}`.
#[derive(Clone, PartialEq)]
pub enum InteropValue {
    /// Nothing.
    Nil,
    /// Never an integer.
    Bool(bool),
    /// −2^63 … 2^64−1; others are refused when they are written.
    Int(i128),
    /// NaN and infinities can be read and are refused when they are written.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list; Python's tuples are lists here.
    Array(Vec<Self>),
    /// In the order in which it was given. Written are text keys alone; read are also integers and bytes.
    Map(Vec<(Self, Self)>),
    /// A date with a time, naive or with an offset.
    DateTime(DateTime),
    /// A date.
    Date(Date),
    /// A time of day.
    Time(Time),
    /// A MessagePack extension of a foreign writer. Never written.
    Ext(i8, Vec<u8>),
}

impl InteropValue {
    /// The value of a text key of a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| matches!(name, Self::Str(name) if name == key)).map(|(_, value)| value)
    }

    /// The name of its type, for messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Str(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::Array(_) => "a list",
            Self::Map(_) => "a map",
            Self::DateTime(_) => "a datetime",
            Self::Date(_) => "a date",
            Self::Time(_) => "a time",
            Self::Ext(..) => "an extension",
        }
    }
}

impl fmt::Debug for InteropValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(text) => write!(f, "a string of {} bytes", text.len()),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Array(items) => write!(f, "a list of {}", items.len()),
            Self::Map(entries) => write!(f, "a map of {}", entries.len()),
            other => f.write_str(other.kind()),
        }
    }
}

macro_rules! from {
    ($($type:ty => |$value:ident| $make:expr;)*) => {
        $(impl From<$type> for InteropValue {
            fn from($value: $type) -> Self {
                $make
            }
        })*
    };
}

from! {
    bool => |value| Self::Bool(value);
    i8 => |value| Self::Int(value.into());
    i16 => |value| Self::Int(value.into());
    i32 => |value| Self::Int(value.into());
    i64 => |value| Self::Int(value.into());
    u8 => |value| Self::Int(value.into());
    u16 => |value| Self::Int(value.into());
    u32 => |value| Self::Int(value.into());
    u64 => |value| Self::Int(value.into());
    f64 => |value| Self::Float(value);
    &str => |value| Self::Str(value.to_owned());
    String => |value| Self::Str(value);
    DateTime => |value| Self::DateTime(value);
    Date => |value| Self::Date(value);
    Time => |value| Self::Time(value);
}
