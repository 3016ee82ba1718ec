//! Canonical MessagePack in its two profiles: of arguments, which are hashed, and of values, which are stored.
//!
//! Canonical means that every conforming writer makes the same bytes of the same thing; a key that differs in one byte is a
//! cache that never hits. Both profiles write shortest forms, 64-bit floats and maps sorted by their text keys. That of
//! arguments also folds 2.0 into 2, moments into numbers, and sets into sorted lists.

use super::argument::{Argument, uuid_text};
use super::error::InteropError;
use super::pack;
use super::sentinel::{self, DATE, DATETIME, TIME};
use super::value::InteropValue;
use super::{MAX_DEPTH, read};

/// 2^63 and 2^64, which floats hold exactly.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// The canonical bytes of a call's flat argument list.
///
/// # Errors
/// [`InteropError::Argument`] for anything without a form in a key.
pub fn canonical_arguments(arguments: &[Argument]) -> Result<Vec<u8>, InteropError> {
    let mut out = Vec::with_capacity(16 * arguments.len() + 1);
    pack::array(&mut out, arguments.len());
    for argument in arguments {
        write_argument(&mut out, argument, 1)?;
    }
    Ok(out)
}

fn write_argument(out: &mut Vec<u8>, argument: &Argument, depth: usize) -> Result<(), InteropError> {
    let refuse = |reason| Err(InteropError::Argument { kind: argument.kind(), reason });
    if depth > MAX_DEPTH {
        return refuse("it is nested too deeply");
    }
    match argument {
        Argument::Nil => pack::nil(out),
        Argument::Bool(value) => pack::bool(out, *value),
        Argument::Int(value) => return pack::integer(out, *value).or_else(|_| refuse(OUT_OF_RANGE)),
        Argument::Float(value) if value.is_finite() => write_number(out, *value),
        Argument::Float(_) => return refuse(NOT_FINITE),
        Argument::Str(text) | Argument::Decimal(text) | Argument::Path(text) => pack::str(out, text),
        Argument::Bytes(bytes) => pack::bin(out, bytes),
        Argument::Uuid(bytes) => pack::str(out, &uuid_text(bytes)),
        Argument::Enum(value) => return write_argument(out, value, depth + 1),
        Argument::Array(items) => {
            pack::array(out, items.len());
            for item in items {
                write_argument(out, item, depth + 1)?;
            }
        }
        Argument::Set(items) => {
            let mut encoded = Vec::with_capacity(items.len());
            for item in items {
                let mut bytes = Vec::new();
                write_argument(&mut bytes, item, depth + 1)?;
                encoded.push(bytes);
            }
            encoded.sort_unstable();
            encoded.dedup();
            pack::array(out, encoded.len());
            encoded.iter().for_each(|bytes| out.extend_from_slice(bytes));
        }
        Argument::Map(entries) => {
            let mut sorted = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let Argument::Str(key) = key else { return refuse(TEXT_KEYS) };
                sorted.push((key, value));
            }
            sorted.sort_by_key(|(key, _)| *key);
            if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return refuse(TWO_KEYS);
            }
            pack::map(out, sorted.len());
            for (key, value) in sorted {
                pack::str(out, key);
                write_argument(out, value, depth + 1)?;
            }
        }
        Argument::DateTime(moment) => match moment.unix_micros() {
            // One division, as every language does it: whole seconds become integers by the rule of floats.
            Some(micros) => write_number(out, micros as f64 / 1_000_000.0),
            None => return refuse("it has no time zone, so it names no moment"),
        },
        Argument::Date(_) | Argument::Time(_) => return refuse("give a moment with a zone, or its text"),
        Argument::NdArray(_) => return refuse("arrays have no form that all languages share"),
    }
    Ok(())
}

/// A finite number: an integer if it is a whole one that an integer can hold.
fn write_number(out: &mut Vec<u8>, value: f64) {
    // Within the range, so that the cast is exact and the integer fits.
    let whole = value.fract() == 0.0 && (-TWO_63..TWO_64).contains(&value);
    if !whole || pack::integer(out, value as i128).is_err() {
        pack::float(out, value);
    }
}

/// The canonical document of a value.
///
/// # Errors
/// [`InteropError::Value`] for anything that a reader of the family would refuse, or read as something else.
pub fn canonical_value(value: &InteropValue) -> Result<Vec<u8>, InteropError> {
    let mut out = Vec::new();
    write_value(&mut out, value, 0)?;
    Ok(out)
}

fn write_value(out: &mut Vec<u8>, value: &InteropValue, depth: usize) -> Result<(), InteropError> {
    let refuse = |reason| Err(InteropError::Value { kind: value.kind(), reason });
    let is_container = matches!(value, InteropValue::Array(_) | InteropValue::Map(_));
    if is_container && depth >= MAX_DEPTH {
        return refuse("it is nested too deeply");
    }
    match value {
        InteropValue::Nil => pack::nil(out),
        InteropValue::Bool(value) => pack::bool(out, *value),
        InteropValue::Int(value) => return pack::integer(out, *value).or_else(|_| refuse(OUT_OF_RANGE)),
        InteropValue::Float(value) if value.is_finite() => pack::float(out, *value),
        InteropValue::Float(_) => return refuse(NOT_FINITE),
        InteropValue::Str(text) => pack::str(out, text),
        InteropValue::Bytes(bytes) => pack::bin(out, bytes),
        InteropValue::Array(items) => {
            pack::array(out, items.len());
            for item in items {
                write_value(out, item, depth + 1)?;
            }
        }
        InteropValue::Map(entries) => {
            let mut sorted = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let InteropValue::Str(key) = key else { return refuse(TEXT_KEYS) };
                sorted.push((key, value));
            }
            sorted.sort_by_key(|(key, _)| *key);
            if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return refuse(TWO_KEYS);
            }
            if read::is_sentinel(entries) {
                return refuse("it would come back as a date or a time, or not at all; store the date itself");
            }
            pack::map(out, sorted.len());
            for (key, value) in sorted {
                pack::str(out, key);
                write_value(out, value, depth + 1)?;
            }
        }
        InteropValue::DateTime(moment) => sentinel::write(out, DATETIME, &moment.to_string()),
        InteropValue::Date(date) => sentinel::write(out, DATE, &date.to_string()),
        InteropValue::Time(time) => sentinel::write(out, TIME, &time.to_string()),
        InteropValue::Ext(..) => return refuse("extensions are read, never written"),
    }
    Ok(())
}

pub(super) const OUT_OF_RANGE: &str = "it is outside -2^63 to 2^64-1";
pub(super) const NOT_FINITE: &str = "it is NaN or infinite";
const TEXT_KEYS: &str = "its keys must be text";
pub(super) const TWO_KEYS: &str = "two of its keys are the same";
