//! How dates and times are told apart from maps: by a map that says what it is, `{"__datetime__": true, "value": "…"}`.
//!
//! In serde too, so that a field of a struct may be a [`DateTime`] and Python finds a `datetime` in it.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::calendar::{Date, DateTime, Time};
use super::error::Malformed;
use super::pack;

/// Which key says which of the three it is.
pub(super) const DATETIME: &str = "__datetime__";
pub(super) const DATE: &str = "__date__";
pub(super) const TIME: &str = "__time__";

/// The sentinel comes before `value` in the sorted order too.
pub(super) fn write(out: &mut Vec<u8>, name: &str, text: &str) {
    pack::map(out, 2);
    pack::str(out, name);
    pack::bool(out, true);
    pack::str(out, "value");
    pack::str(out, text);
}

macro_rules! in_serde {
    ($type:ident, $sentinel:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_struct(stringify!($type), 2)?;
                map.serialize_field($sentinel, &true)?;
                map.serialize_field("value", &self.to_string())?;
                map.end()
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = deserializer.deserialize_map(Sentinel($sentinel))?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

in_serde!(DateTime, DATETIME);
in_serde!(Date, DATE);
in_serde!(Time, TIME);

/// Reads a sentinel map, in any order and with any company, and gives its text.
struct Sentinel(&'static str);

impl<'de> Visitor<'de> for Sentinel {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map with {} and value", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let (mut says, mut value) = (false, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                key if key == self.0 => says = map.next_value()?,
                "value" => value = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match value {
            Some(text) if says => Ok(text),
            _ => Err(A::Error::custom(Malformed::Date)),
        }
    }
}
