//! The keys of Python's default mode: what a plain `@cache` of the Python package stores a call under.
//!
//! They name a Python function, so nobody but Python writes them; tools compute them to find and to remove what a Python
//! service has stored. Unlike interop keys they keep 2.0 apart from 2 and positional arguments apart from named ones.

use blake2::digest::consts::{U2, U32};
use blake2::{Blake2b, Digest};

use super::argument::{Argument, NdArray, uuid_text};
use super::canonical::{OUT_OF_RANGE, TWO_KEYS};
use super::error::InteropError;
use super::{MAX_DEPTH, hex, pack};

/// Longest key, code points; a longer one is shortened by its digest.
const MAX_KEY_CHARS: usize = 250;
/// Longest name of a function in a key, code points.
const MAX_FUNCTION_CHARS: usize = 200;
/// Largest array, and largest sum of all arrays of a call, bytes.
const MAX_ARRAY_BYTES: usize = 100_000;
const MAX_ARRAYS_BYTES: usize = 5_000_000;

/// A call of a Python function with the two settings that end its key.
#[derive(Debug, Clone)]
pub struct DefaultKey<'a> {
    /// `func.__module__`.
    pub module: &'a str,
    /// `func.__qualname__`.
    pub qualname: &'a str,
    /// Empty and `None` are the same.
    pub namespace: Option<&'a str>,
    /// Whether integrity checking is on, as it is by default.
    pub integrity: bool,
    /// Name or alias of the serializer: `default`, `std`, `auto`, `orjson`, ….
    pub serializer: &'a str,
    /// Positional arguments.
    pub args: &'a [Argument],
    /// Named arguments, in any order. `_bypass_cache` is no part of the key.
    pub kwargs: &'a [(String, Argument)],
}

impl DefaultKey<'_> {
    /// The key, as Python hands it to its backend; a tenant's prefix comes before it there.
    ///
    /// # Errors
    /// [`InteropError::Segment`] for a namespace or a serializer that Python refuses, [`InteropError::Argument`].
    pub fn key(&self) -> Result<String, InteropError> {
        let namespace = self.namespace.filter(|namespace| !namespace.is_empty());
        if namespace.is_some_and(|namespace| namespace == "ck" || namespace.starts_with("ck:")) {
            return Err(InteropError::Segment { segment: "namespace", reason: "ck is reserved" });
        }
        let prefix = namespace.map(|namespace| format!("ns:{namespace}:")).unwrap_or_default();
        let (function, digest) = (self.function(), self.arguments_digest()?);
        let (integrity, code) = (u8::from(self.integrity), self.serializer_code()?);
        let key = format!("{prefix}func:{function}:args:{digest}:{integrity}{code}");
        Ok(shortened(key.replace([' ', '\n', '\r'], "_")))
    }

    /// The function's name as it stands in the key.
    #[must_use]
    pub fn function(&self) -> String {
        let mut name = String::new();
        for c in self.module.chars().chain(['.']).chain(self.qualname.chars()) {
            let c = if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') { c } else { '_' };
            if c != '.' || !name.ends_with('.') {
                name.push(c);
            }
        }
        name.truncate(MAX_FUNCTION_CHARS);
        name
    }

    /// The letter of the serializer.
    ///
    /// # Errors
    /// [`InteropError::Segment`] if the name is empty.
    pub fn serializer_code(&self) -> Result<String, InteropError> {
        let code = match self.serializer {
            "" => return Err(InteropError::Segment { segment: "serializer", reason: "it is empty" }),
            "default" | "std" | "standard" => "s",
            "auto" | "pythonic" => "a",
            "orjson" => "o",
            "arrow" => "w",
            "local" => "l",
            other => return Ok(format!("x{}", hex(&Blake2b::<U2>::digest(other.as_bytes())))),
        };
        Ok(code.to_owned())
    }

    /// 64 hex digits of the arguments' bytes.
    ///
    /// # Errors
    /// As [`Self::packed_arguments`].
    pub fn arguments_digest(&self) -> Result<String, InteropError> {
        Ok(hex(&Blake2b::<U32>::digest(self.packed_arguments()?)))
    }

    /// MessagePack of `[args, kwargs]` after Python's normalisation.
    ///
    /// # Errors
    /// [`InteropError::Argument`].
    pub fn packed_arguments(&self) -> Result<Vec<u8>, InteropError> {
        let mut writer = Writer { out: Vec::new(), array_bytes: 0 };
        pack::array(&mut writer.out, 2);
        pack::array(&mut writer.out, self.args.len());
        for argument in self.args {
            writer.write(argument, 2)?;
        }
        let mut named: Vec<_> = self.kwargs.iter().filter(|(name, _)| name != "_bypass_cache").collect();
        named.sort_by_key(|(name, _)| name);
        if named.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(InteropError::Argument { kind: "a named argument", reason: "it is given twice" });
        }
        pack::map(&mut writer.out, named.len());
        for (name, argument) in named {
            pack::str(&mut writer.out, name);
            writer.write(argument, 2)?;
        }
        Ok(writer.out)
    }
}

fn shortened(key: String) -> String {
    if key.chars().count() <= MAX_KEY_CHARS {
        return key;
    }
    let digest = hex(&Blake2b::<U32>::digest(key.as_bytes()));
    let head: String = key.chars().take(50).collect();
    format!("{head}:{}", &digest[..32])
}

struct Writer {
    out: Vec<u8>,
    /// Of all arrays so far.
    array_bytes: usize,
}

impl Writer {
    fn write(&mut self, argument: &Argument, depth: usize) -> Result<(), InteropError> {
        let refuse = |reason| Err(InteropError::Argument { kind: argument.kind(), reason });
        if depth > MAX_DEPTH {
            return refuse("it is nested too deeply");
        }
        let out = &mut self.out;
        match argument {
            Argument::Nil => pack::nil(out),
            Argument::Bool(value) => pack::bool(out, *value),
            Argument::Int(value) => return pack::integer(out, *value).or_else(|_| refuse(OUT_OF_RANGE)),
            // The two zeros are one; every other float stays what it is.
            Argument::Float(value) => pack::float(out, if *value == 0.0 { 0.0 } else { *value }),
            Argument::Str(text) | Argument::Decimal(text) | Argument::Path(text) => pack::str(out, text),
            Argument::Bytes(bytes) => pack::bin(out, bytes),
            Argument::Uuid(bytes) => pack::str(out, &uuid_text(bytes)),
            Argument::Enum(value) => return self.write(value, depth + 1),
            Argument::Array(items) => {
                pack::array(out, items.len());
                for item in items {
                    self.write(item, depth + 1)?;
                }
            }
            Argument::Map(entries) => {
                let Some(sorted) = sorted(entries) else {
                    return refuse("its keys cannot be sorted: they must be all text, all integers or all bytes");
                };
                if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    return refuse(TWO_KEYS);
                }
                pack::map(out, sorted.len());
                for (key, value) in sorted {
                    self.write(key, depth + 1)?;
                    self.write(value, depth + 1)?;
                }
            }
            Argument::DateTime(moment) if moment.has_zone() => pack::str(out, &moment.to_string()),
            Argument::DateTime(_) => return refuse("it has no time zone, so it names no moment"),
            Argument::NdArray(array) => return self.write_array(array),
            Argument::Set(_) => return refuse("Python takes no sets in the keys of its default mode"),
            Argument::Date(_) | Argument::Time(_) => {
                return refuse("Python takes no dates and times in the keys of its default mode");
            }
        }
        Ok(())
    }

    fn write_array(&mut self, array: &NdArray) -> Result<(), InteropError> {
        let refuse = |reason| Err(InteropError::Argument { kind: "a numpy array", reason });
        let [len] = array.shape[..] else { return refuse("it must have one dimension") };
        let (big_endian, plain) = match array.dtype.as_bytes() {
            [b'>', ..] => (true, &array.dtype[1..]),
            [b'<' | b'=', ..] => (false, &array.dtype[1..]),
            _ => (false, &array.dtype[..]),
        };
        let (name, width) = match plain {
            "i4" | "int32" => ("i32", 4),
            "i8" | "int64" => ("i64", 8),
            "f4" | "float32" => ("f32", 4),
            "f8" | "float64" => ("f64", 8),
            _ => return refuse("its elements must be int32, int64, float32 or float64"),
        };
        if array.bytes.len() > MAX_ARRAY_BYTES {
            return refuse("it has more than 100000 bytes");
        }
        if u64::try_from(array.bytes.len()).ok() != len.checked_mul(width) {
            return refuse("its bytes do not fit its shape");
        }
        self.array_bytes += array.bytes.len();
        if self.array_bytes > MAX_ARRAYS_BYTES {
            return refuse("the arrays of the call have more than 5000000 bytes together");
        }
        let mut bytes = array.bytes.clone();
        if big_endian {
            bytes.chunks_exact_mut(width as usize).for_each(<[u8]>::reverse);
        }
        pack::array(&mut self.out, 4);
        pack::str(&mut self.out, "__array_v1__");
        pack::array(&mut self.out, 1);
        // A length of at most 100000 bytes is in range.
        let _in_range = pack::integer(&mut self.out, len.into());
        pack::str(&mut self.out, name);
        pack::str(&mut self.out, &hex(&Blake2b::<U32>::digest(&bytes)));
        Ok(())
    }
}

/// In the order in which Python sorts them; `None` if it cannot.
fn sorted(entries: &[(Argument, Argument)]) -> Option<Vec<(&Argument, &Argument)>> {
    let mut sorted: Vec<_> = entries.iter().map(|(key, value)| (key, value)).collect();
    let text = |key: &Argument| matches!(key, Argument::Str(_));
    let number = |key: &Argument| matches!(key, Argument::Int(_));
    let bytes = |key: &Argument| matches!(key, Argument::Bytes(_));
    let all = |kind: fn(&Argument) -> bool| entries.iter().all(|(key, _)| kind(key));
    if !(all(text) || all(number) || all(bytes)) {
        return None;
    }
    sorted.sort_by(|(one, _), (other, _)| match (one, other) {
        (Argument::Str(one), Argument::Str(other)) => one.cmp(other),
        (Argument::Int(one), Argument::Int(other)) => one.cmp(other),
        (Argument::Bytes(one), Argument::Bytes(other)) => one.cmp(other),
        _ => std::cmp::Ordering::Equal,
    });
    Some(sorted)
}
