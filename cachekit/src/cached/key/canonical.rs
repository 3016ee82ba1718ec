//! One text for one value, in every build and on every machine: maps are sorted, numbers are written one way, and nothing
//! depends on the version of a formatter.
//!
//! Not JSON, which has one word for what Rust tells apart: `some(())` and `none`, 1 and 1.0, a text and bytes. Sets that have
//! no order (`HashSet`) cannot be told from lists here; a `BTreeSet` makes one key.

use std::fmt::{self, Display, Write};

use serde::ser::{self, Serialize};

/// Deeper values are refused: each level takes a piece of the stack.
const MAX_DEPTH: usize = 128;
/// Longer keys are refused, bytes. They are hashed afterwards, but who builds them by the megabyte caches the wrong thing.
const MAX_BYTES: usize = 1 << 20;

/// Why there is no text; nothing of the value.
#[derive(Debug)]
pub(super) struct Fault(pub(super) &'static str);

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    fn custom<T: Display>(_: T) -> Self {
        // What a type says of itself may quote its value.
        Self("an argument refuses to be serialized")
    }
}

type Done = Result<(), Fault>;

pub(super) fn write<T: Serialize + ?Sized>(out: &mut String, value: &T) -> Done {
    value.serialize(Writer { out, depth: 0 })
}

struct Writer<'a> {
    out: &'a mut String,
    depth: usize,
}

impl<'a> Writer<'a> {
    fn put(self, text: impl Display) -> Done {
        let _ = write!(self.out, "{text}");
        self.check()
    }

    fn check(&self) -> Done {
        if self.out.len() > MAX_BYTES { Err(Fault("they are longer than a megabyte")) } else { Ok(()) }
    }

    fn open(self, begin: &str, end: &'static str) -> Result<Items<'a>, Fault> {
        if self.depth >= MAX_DEPTH {
            return Err(Fault("they are nested more deeply than 128 levels"));
        }
        self.out.push_str(begin);
        Ok(Items { out: self.out, depth: self.depth + 1, end, first: true })
    }

    fn quoted(self, text: &str) -> Done {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' | '\\' => {
                    self.out.push('\\');
                    self.out.push(character);
                }
                '\0'..'\x20' => {
                    let _ = write!(self.out, "\\{:02x}", character as u32);
                }
                other => self.out.push(other),
            }
        }
        self.out.push('"');
        self.check()
    }
}

/// The items of something that holds several.
struct Items<'a> {
    out: &'a mut String,
    depth: usize,
    end: &'static str,
    first: bool,
}

impl Items<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, name: Option<&str>, value: &T) -> Done {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        if let Some(name) = name {
            self.out.push_str(name);
            self.out.push(':');
        }
        value.serialize(Writer { out: self.out, depth: self.depth })
    }

    fn done(self) -> Done {
        self.out.push_str(self.end);
        Ok(())
    }
}

macro_rules! plain {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, value: $type) -> Done {
            self.put(value)
        })*
    };
}

impl<'a> ser::Serializer for Writer<'a> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Items<'a>;
    type SerializeStructVariant = Items<'a>;

    plain! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128,
    }

    fn serialize_f32(self, value: f32) -> Done {
        // The shortest digits that give this number back, as Rust promises.
        self.put(format_args!("{value:?}"))
    }

    fn serialize_f64(self, value: f64) -> Done {
        self.put(format_args!("{value:?}"))
    }

    fn serialize_char(self, value: char) -> Done {
        self.quoted(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Done {
        self.quoted(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Done {
        self.out.push_str("0x");
        for byte in value {
            let _ = write!(self.out, "{byte:02x}");
        }
        self.check()
    }

    fn serialize_none(self) -> Done {
        self.put("none")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        let mut items = self.open("some(", ")")?;
        items.item(None, value)?;
        items.done()
    }

    fn serialize_unit(self) -> Done {
        self.put("()")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Done {
        self.put("()")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Done {
        self.put(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        self.out.push_str(variant);
        let mut items = self.open("(", ")")?;
        items.item(None, value)?;
        items.done()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Fault> {
        self.open("[", "]")
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'a>, Fault> {
        self.open("(", ")")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, Fault> {
        self.open("(", ")")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'a>, Fault> {
        self.out.push_str(variant);
        self.open("(", ")")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries<'a>, Fault> {
        let items = self.open("{", "}")?;
        Ok(Entries { items, key: String::new(), sorted: Vec::new() })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, Fault> {
        self.open("{", "}")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'a>, Fault> {
        self.out.push_str(variant);
        self.open("{", "}")
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Done {
        self.quoted(&value.to_string())
    }
}

macro_rules! items {
    ($($trait:ident $method:ident $(($name:ident))?,)*) => {
        $(impl ser::$trait for Items<'_> {
            type Ok = ();
            type Error = Fault;
            fn $method<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Done {
                let name: Option<&str> = None $(.or(Some($name)))?;
                self.item(name, value)
            }
            fn end(self) -> Done {
                self.done()
            }
        })*
    };
}

items! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
    SerializeStruct serialize_field(name),
    SerializeStructVariant serialize_field(name),
}

/// A map, whose order means nothing: it is written sorted by the texts of its keys.
struct Entries<'a> {
    items: Items<'a>,
    key: String,
    sorted: Vec<(String, String)>,
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.key.clear();
        key.serialize(Writer { out: &mut self.key, depth: self.items.depth })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        let mut text = String::new();
        value.serialize(Writer { out: &mut text, depth: self.items.depth })?;
        self.sorted.push((std::mem::take(&mut self.key), text));
        if self.sorted.len() > MAX_BYTES / 2 { Err(Fault("they are longer than a megabyte")) } else { Ok(()) }
    }

    fn end(mut self) -> Done {
        self.sorted.sort();
        for (index, (key, value)) in self.sorted.iter().enumerate() {
            if index > 0 {
                self.items.out.push(',');
            }
            self.items.out.push_str(key);
            self.items.out.push(':');
            self.items.out.push_str(value);
        }
        if self.items.out.len() > MAX_BYTES {
            return Err(Fault("they are longer than a megabyte"));
        }
        self.items.out.push_str(self.items.end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use serde::Serialize;

    use super::*;

    fn text<T: Serialize + ?Sized>(value: &T) -> String {
        let mut out = String::new();
        write(&mut out, value).unwrap();
        out
    }

    #[derive(Serialize)]
    enum Shape {
        Point,
        Circle(f32),
        Box { width: u8, height: u8 },
    }

    #[test]
    fn every_kind_of_value_has_its_text() {
        assert_eq!(text(&(1_u8, -1_i64, 1.0_f64, f64::NAN, true)), "(1,-1,1.0,NaN,true)");
        assert_eq!(text("a\"b\\c\n\u{e9}"), "\"a\\\"b\\\\c\\0a\u{e9}\"");
        assert_eq!(text(&[Some(Some(())), Some(None), None]), "(some(some(())),some(none),none)");
        assert_eq!(text(&vec![Shape::Point, Shape::Circle(0.5)]), "[Point,Circle(0.5)]");
        assert_eq!(text(&Shape::Box { width: 1, height: 2 }), "Box{width:1,height:2}");
        assert_eq!(text(&i128::MIN), i128::MIN.to_string());
        assert_eq!(text(&'x'), "\"x\"");
    }

    #[test]
    fn a_map_has_one_text_whatever_its_order() {
        let sorted: BTreeMap<String, u32> = (0..100).map(|n| (format!("k{n}"), n)).collect();
        let hashed: HashMap<String, u32> = sorted.clone().into_iter().collect();
        assert_eq!(text(&hashed), text(&sorted));
        assert!(text(&sorted).starts_with("{\"k0\":0,\"k1\":1,\"k10\":10,"));
    }

    #[test]
    fn what_would_take_the_stack_or_the_memory_is_refused() {
        #[derive(Serialize)]
        struct Nested(Vec<Nested>);
        let mut nested = Nested(Vec::new());
        for _ in 0..200 {
            nested = Nested(vec![nested]);
        }
        assert!(write(&mut String::new(), &nested).is_err());
        assert!(write(&mut String::new(), &"x".repeat(MAX_BYTES + 1)).is_err());
        let many: Vec<&str> = vec!["xxxxxxxxxxxxxxxxxxx"; 100_000];
        assert!(write(&mut String::new(), &many).is_err());
    }

    #[test]
    fn a_type_that_refuses_is_not_quoted() {
        struct Secret;
        impl Serialize for Secret {
            fn serialize<S: ser::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(ser::Error::custom("hunter2"))
            }
        }
        assert!(!write(&mut String::new(), &Secret).unwrap_err().to_string().contains("hunter2"));
    }
}
