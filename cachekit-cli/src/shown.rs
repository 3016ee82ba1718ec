//! Values that programs stored with types, shown as JSON.
//!
//! For people and scripts to look at, not to read back: MessagePack has things that JSON has not. Bytes are shown as
//! `{"$hex": "…"}`, an extension as `{"$ext": type, "$hex": "…"}`, keys of maps that are no text as the JSON text of what
//! they are, and numbers that are none as text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::{Map, Number, Value as Json, json};

use crate::output::hex;

/// Any value, on its way to JSON.
pub(crate) struct Shown(pub(crate) Json);

/// Elements set aside before they are there. What a hostile entry announces is not believed.
const MAX_RESERVED: usize = 1024;

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToJson).map(Shown)
    }
}

struct ToJson;

impl<'de> Visitor<'de> for ToJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or_else(|| value.to_string().into(), Json::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Json, E> {
        Ok(json!({ "$hex": hex(value) }))
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }

    /// How rmp-serde hands out an extension: a pair of its type and its bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let (kind, bytes) = <(i8, serde_bytes::ByteBuf)>::deserialize(deserializer)?;
        Ok(json!({ "$ext": kind, "$hex": hex(&bytes) }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::with_capacity(items.size_hint().unwrap_or(0).min(MAX_RESERVED));
        while let Some(Shown(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut map = Map::new();
        while let Some((Shown(key), Shown(value))) = entries.next_entry()? {
            let name = match key {
                Json::String(name) => name,
                other => other.to_string(),
            };
            map.insert(name, value);
        }
        Ok(Json::Object(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Json, A::Error> {
        let (Shown(name), variant) = data.variant()?;
        let Shown(value) = variant.newtype_variant()?;
        Ok(json!([name, value]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(messagepack: &[u8]) -> Json {
        rmp_serde::from_slice::<Shown>(messagepack).unwrap().0
    }

    #[test]
    fn every_kind_of_messagepack_has_a_json_form() {
        for (bytes, expected) in [
            (&b"\xc0"[..], json!(null)),
            (b"\xc3", json!(true)),
            (b"\xff", json!(-1)),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", json!(u64::MAX)),
            (b"\xcb\x7f\xf8\0\0\0\0\0\0", json!("NaN")),
            (b"\xa1x", json!("x")),
            (b"\xc4\x02\x00\xff", json!({ "$hex": "00ff" })),
            (b"\x92\x01\x02", json!([1, 2])),
            (b"\x82\xa1a\x01\x02\xa1b", json!({ "a": 1, "2": "b" })),
            (b"\xd4\x05\xaa", json!({ "$ext": 5, "$hex": "aa" })),
        ] {
            assert_eq!(shown(bytes), expected);
        }
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        assert!(rmp_serde::from_slice::<Shown>(b"\xdd\xff\xff\xff\xff").is_err());
        assert!(rmp_serde::from_slice::<Shown>(b"\xdf\xff\xff\xff\xff").is_err());
    }
}
