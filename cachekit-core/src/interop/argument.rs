//! What a key can be made of: the arguments of a call, as any language of the family gives them.
//!
//! More than values have, because an argument is only ever hashed: sets, UUIDs, decimals, paths, enums. What becomes of each
//! is decided in `canonical.rs` for interop keys and in `default_key.rs` for Python's own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use super::calendar::{Date, DateTime, Time};
use super::error::InteropError;

/// One argument of a call.
///
/// `u8` is no argument, so that a `Vec<u8>` cannot become a list of numbers by mistake: bytes are [`Argument::Bytes`].
#[derive(Clone, PartialEq)]
pub enum Argument {
    /// Nothing.
    Nil,
    /// Never an integer.
    Bool(bool),
    /// −2^63 … 2^64−1; others are refused.
    Int(i128),
    /// In interop keys 2.0 is 2; NaN and infinities are refused there.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list or a tuple.
    Array(Vec<Self>),
    /// A map. Its order means nothing.
    Map(Vec<(Self, Self)>),
    /// A set. Its order means nothing.
    Set(Vec<Self>),
    /// A moment; a naive one is refused.
    DateTime(DateTime),
    /// Refused in keys, as Python refuses it.
    Date(Date),
    /// Refused in keys, as Python refuses it.
    Time(Time),
    /// Its 16 bytes.
    Uuid([u8; 16]),
    /// A decimal number as its text: `1.0` and `1.00` are two.
    Decimal(String),
    /// A path in POSIX form.
    Path(String),
    /// A member of an enumeration: its value.
    Enum(Box<Self>),
    /// A one-dimensional array of numpy. Only in Python's own keys.
    NdArray(NdArray),
}

/// An array of numpy: its element type, its shape and its raw bytes in the order of that type.
#[derive(Clone, PartialEq, Eq)]
pub struct NdArray {
    /// `int32`, `<f8`, `>i8` ….
    pub dtype: String,
    /// Elements in each dimension.
    pub shape: Vec<u64>,
    /// C-contiguous.
    pub bytes: Vec<u8>,
}

impl Argument {
    /// A UUID from any of the texts that Python's `UUID()` takes.
    ///
    /// # Errors
    /// [`InteropError::Argument`] if it is none.
    pub fn uuid(text: &str) -> Result<Self, InteropError> {
        let refuse = || InteropError::Argument { kind: "a UUID", reason: "it is not 32 hex digits" };
        let digits = text.replace("urn:", "").replace("uuid:", "");
        let digits: Vec<u8> = digits.trim_matches(['{', '}']).bytes().filter(|byte| *byte != b'-').collect();
        let digits = <[u8; 32]>::try_from(digits).map_err(|_| refuse())?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8).ok_or_else(refuse);
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self::Uuid(bytes))
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
            Self::Set(_) => "a set",
            Self::DateTime(_) => "a datetime",
            Self::Date(_) => "a date",
            Self::Time(_) => "a time",
            Self::Uuid(_) => "a UUID",
            Self::Decimal(_) => "a decimal",
            Self::Path(_) => "a path",
            Self::Enum(_) => "an enum",
            Self::NdArray(_) => "a numpy array",
        }
    }
}

/// The type alone: arguments are what users are called.
impl fmt::Debug for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// The lower-case form with hyphens, the only one that is hashed.
pub(super) fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

macro_rules! from {
    ($($type:ty => |$value:ident| $make:expr;)*) => {
        $(impl From<$type> for Argument {
            fn from($value: $type) -> Self {
                $make
            }
        })*
    };
}

from! {
    bool => |value| Self::Bool(value);
    i16 => |value| Self::Int(value.into());
    i32 => |value| Self::Int(value.into());
    i64 => |value| Self::Int(value.into());
    i128 => |value| Self::Int(value);
    u16 => |value| Self::Int(value.into());
    u32 => |value| Self::Int(value.into());
    u64 => |value| Self::Int(value.into());
    // A number that i128 cannot hold is out of range for the format all the more.
    u128 => |value| Self::Int(i128::try_from(value).unwrap_or(i128::MAX));
    usize => |value| Self::Int(value as i128);
    f32 => |value| Self::Float(value.into());
    f64 => |value| Self::Float(value);
    &str => |value| Self::Str(value.to_owned());
    &String => |value| Self::Str(value.clone());
    String => |value| Self::Str(value);
    DateTime => |value| Self::DateTime(value);
}

impl<T: Into<Self>> From<Option<T>> for Argument {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nil, Into::into)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Argument {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Clone + Into<Self>> From<&[T]> for Argument {
    fn from(items: &[T]) -> Self {
        Self::Array(items.iter().cloned().map(Into::into).collect())
    }
}

impl<T: Into<Self>> From<BTreeSet<T>> for Argument {
    fn from(items: BTreeSet<T>) -> Self {
        Self::Set(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Self>, S> From<HashSet<T, S>> for Argument {
    fn from(items: HashSet<T, S>) -> Self {
        Self::Set(items.into_iter().map(Into::into).collect())
    }
}

impl<K: Into<Self>, V: Into<Self>> From<BTreeMap<K, V>> for Argument {
    fn from(entries: BTreeMap<K, V>) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl<K: Into<Self>, V: Into<Self>, S> From<HashMap<K, V, S>> for Argument {
    fn from(entries: HashMap<K, V, S>) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// The bound arguments of a call: one flat list, in the order in which the function declares them.
///
/// A tuple of up to eight, a list or an array of [`Argument`]s. `*args` of Python are one nested list at their place, and
/// `**kwargs` one map.
pub trait Arguments {
    /// The list.
    fn flat(&self) -> Vec<Argument>;
}

impl Arguments for [Argument] {
    fn flat(&self) -> Vec<Argument> {
        self.to_vec()
    }
}

impl Arguments for Vec<Argument> {
    fn flat(&self) -> Vec<Argument> {
        self.clone()
    }
}

impl<const N: usize> Arguments for [Argument; N] {
    fn flat(&self) -> Vec<Argument> {
        self.to_vec()
    }
}

impl Arguments for () {
    fn flat(&self) -> Vec<Argument> {
        Vec::new()
    }
}

macro_rules! tuples {
    ($(($($name:ident),+))*) => {
        $(impl<$($name: Clone + Into<Argument>),+> Arguments for ($($name,)+) {
            #[allow(non_snake_case)]
            fn flat(&self) -> Vec<Argument> {
                let ($($name,)+) = self;
                vec![$($name.clone().into()),+]
            }
        })*
    };
}

tuples! { (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) (A, B, C, D, E, F, G) (A, B, C, D, E, F, G, H) }
