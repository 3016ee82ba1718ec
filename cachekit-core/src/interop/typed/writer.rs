//! serde's data model as a document: what `rmp_serde::to_vec_named` writes, less what only Rust could read.

use std::fmt;

use serde::ser::{
    self, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{MAX_TYPED_DEPTH, is_sentinel_name};
use crate::interop::canonical::{NOT_FINITE, OUT_OF_RANGE};
use crate::interop::error::InteropError;
use crate::interop::pack;

/// How rmp-serde marks an extension.
const EXTENSION: &str = "_ExtStruct";

/// A type's own words may hold a value, so they are dropped.
impl ser::Error for InteropError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Serialize
    }
}

pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    max_bytes: u64,
    depth: usize,
    /// The next thing is the key of a map.
    at_key: bool,
    met_sentinel: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, max_bytes: u64) -> Self {
        Self { out, max_bytes, depth: 0, at_key: false, met_sentinel: false }
    }

    /// Whether a map has the name of a date as a key.
    pub(super) fn met_sentinel(&self) -> bool {
        self.met_sentinel
    }

    /// Before anything but text: it must not be a key. Also where a value that goes on for ever is noticed.
    fn plain(&self, kind: &'static str) -> Result<(), InteropError> {
        if self.at_key {
            return Err(InteropError::Value { kind, reason: "the keys of a map must be text" });
        }
        if self.out.len() as u64 > self.max_bytes {
            return Err(InteropError::TooLarge { max: self.max_bytes });
        }
        Ok(())
    }

    fn integer(&mut self, value: i128) -> Result<(), InteropError> {
        self.plain("an integer")?;
        pack::integer(self.out, value).map_err(|_| InteropError::Value { kind: "an integer", reason: OUT_OF_RANGE })
    }

    fn text(&mut self, text: &str) -> Result<(), InteropError> {
        if self.at_key {
            self.met_sentinel |= is_sentinel_name(text);
        }
        self.at_key = false;
        self.plain("a string")?;
        pack::str(self.out, text);
        Ok(())
    }

    fn name(&mut self, name: &'static str) -> Result<(), InteropError> {
        self.at_key = true;
        self.text(name)
    }

    /// Begins a container of `len` elements; without a length, room for its header is found when it ends.
    fn open(&mut self, is_map: bool, len: Option<usize>) -> Result<Container<'_, 'a>, InteropError> {
        let kind = if is_map { "a map" } else { "a list" };
        self.plain(kind)?;
        if self.depth == MAX_TYPED_DEPTH {
            return Err(InteropError::Value { kind, reason: "it is nested too deeply" });
        }
        self.depth += 1;
        let at = self.out.len();
        if let Some(len) = len {
            header(self.out, is_map, len);
        }
        Ok(Container { writer: self, is_map, announced: len, at, written: 0, levels: 1 })
    }

    /// `{name: …}` around what a variant holds.
    fn variant(&mut self, name: &'static str) -> Result<(), InteropError> {
        self.plain("an enum")?;
        if self.depth == MAX_TYPED_DEPTH {
            return Err(InteropError::Value { kind: "an enum", reason: "it is nested too deeply" });
        }
        self.depth += 1;
        pack::map(self.out, 1);
        self.name(name)
    }

    /// The same around a container.
    fn open_variant(
        &mut self,
        name: &'static str,
        is_map: bool,
        len: usize,
    ) -> Result<Container<'_, 'a>, InteropError> {
        self.variant(name)?;
        let container = self.open(is_map, Some(len))?;
        Ok(Container { levels: 2, ..container })
    }
}

fn header(out: &mut Vec<u8>, is_map: bool, len: usize) {
    if is_map { pack::map(out, len) } else { pack::array(out, len) }
}

pub(super) struct Container<'w, 'a> {
    writer: &'w mut Writer<'a>,
    is_map: bool,
    announced: Option<usize>,
    /// Where its header stands, or is to stand.
    at: usize,
    written: usize,
    /// What it adds to the nesting: with the map around a variant's, two.
    levels: usize,
}

impl Container<'_, '_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), InteropError> {
        self.written += 1;
        value.serialize(&mut *self.writer)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), InteropError> {
        self.writer.name(name)?;
        self.item(value)
    }

    fn close(self) -> Result<(), InteropError> {
        self.writer.depth -= self.levels;
        match self.announced {
            Some(len) if len == self.written => {}
            // A type that announces one number of elements and gives another would make a document that nobody reads.
            Some(_) => return Err(InteropError::Serialize),
            None => {
                let mut bytes = Vec::with_capacity(5);
                header(&mut bytes, self.is_map, self.written);
                self.writer.out.splice(self.at..self.at, bytes);
            }
        }
        Ok(())
    }
}

impl<'w, 'a> Serializer for &'w mut Writer<'a> {
    type Ok = ();
    type Error = InteropError;
    type SerializeSeq = Container<'w, 'a>;
    type SerializeTuple = Container<'w, 'a>;
    type SerializeTupleStruct = Container<'w, 'a>;
    type SerializeTupleVariant = Container<'w, 'a>;
    type SerializeMap = Container<'w, 'a>;
    type SerializeStruct = Container<'w, 'a>;
    type SerializeStructVariant = Container<'w, 'a>;

    fn serialize_bool(self, value: bool) -> Result<(), InteropError> {
        self.plain("a boolean")?;
        pack::bool(self.out, value);
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), InteropError> {
        self.integer(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), InteropError> {
        self.integer(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), InteropError> {
        self.integer(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), InteropError> {
        self.integer(value.into())
    }

    fn serialize_i128(self, value: i128) -> Result<(), InteropError> {
        self.integer(value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), InteropError> {
        self.integer(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), InteropError> {
        self.integer(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), InteropError> {
        self.integer(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), InteropError> {
        self.integer(value.into())
    }

    fn serialize_u128(self, value: u128) -> Result<(), InteropError> {
        self.integer(i128::try_from(value).unwrap_or(i128::MAX))
    }

    fn serialize_f32(self, value: f32) -> Result<(), InteropError> {
        self.plain("a float")?;
        if !value.is_finite() {
            return Err(InteropError::Value { kind: "a float", reason: NOT_FINITE });
        }
        self.out.push(0xca);
        self.out.extend_from_slice(&value.to_bits().to_be_bytes());
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), InteropError> {
        self.plain("a float")?;
        if !value.is_finite() {
            return Err(InteropError::Value { kind: "a float", reason: NOT_FINITE });
        }
        pack::float(self.out, value);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), InteropError> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), InteropError> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), InteropError> {
        self.plain("bytes")?;
        pack::bin(self.out, value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), InteropError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), InteropError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), InteropError> {
        self.plain("nil")?;
        pack::nil(self.out);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), InteropError> {
        // An empty list, as rmp-serde writes it.
        self.open(false, Some(0))?.close()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), InteropError> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), InteropError> {
        if name == EXTENSION {
            return Err(InteropError::Value { kind: "an extension", reason: "extensions are read, never written" });
        }
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), InteropError> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Container<'w, 'a>, InteropError> {
        self.open(false, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Container<'w, 'a>, InteropError> {
        self.open(false, Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Container<'w, 'a>, InteropError> {
        self.open(false, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Container<'w, 'a>, InteropError> {
        self.open_variant(variant, false, len)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Container<'w, 'a>, InteropError> {
        self.open(true, len)
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Container<'w, 'a>, InteropError> {
        self.open(true, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Container<'w, 'a>, InteropError> {
        self.open_variant(variant, true, len)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! elements {
    ($($trait:ident :: $method:ident),*) => {
        $(impl $trait for Container<'_, '_> {
            type Ok = ();
            type Error = InteropError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), InteropError> {
                self.item(value)
            }

            fn end(self) -> Result<(), InteropError> {
                self.close()
            }
        })*
    };
}

elements!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! fields {
    ($($trait:ident),*) => {
        $(impl $trait for Container<'_, '_> {
            type Ok = ();
            type Error = InteropError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), InteropError> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), InteropError> {
                self.close()
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Container<'_, '_> {
    type Ok = ();
    type Error = InteropError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), InteropError> {
        self.writer.at_key = true;
        key.serialize(&mut *self.writer)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), InteropError> {
        self.item(value)
    }

    fn end(self) -> Result<(), InteropError> {
        self.close()
    }
}
