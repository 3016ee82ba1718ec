//! Entries as DynamoDB items: how they are drawn, what they weigh, and when they are over.
//!
//! What it protects: nobody gets an entry whose life is over (DynamoDB removes it within days, and returns it until then), one
//! of another key, or something that is no entry.
//!
//! ```text
//! key (S): the key   value (B): the bytes   ttl (N): end, Unix seconds; absent: none   version (B): 16 bytes of this write
//! ```
//!
//! The first three are the layout that other caches on DynamoDB use; their items have no version, and are read all the same.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use cachekit_plugin::{Key, Ttl, Version};

use crate::config::DynamoDbConfig;
use crate::error::Trouble;
use crate::lock;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// What an item may weigh: names, key, value and all.
const MAX_ITEM: u32 = 400 << 10;
/// Longest partition key, bytes.
const MAX_PARTITION_KEY: usize = 2048;
/// Longest key of an entry, bytes: its lease is another item, under a longer one.
pub(crate) const MAX_KEY: usize = MAX_PARTITION_KEY - lock::PREFIX.len();
/// What the key, the names of the four attributes, the end (at most 21 bytes) and the version weigh at most: 2341 bytes, rounded
/// up to a page.
const OVERHEAD: u32 = 4096;
/// Largest value, bytes, whatever the length of its key.
pub(crate) const MAX_VALUE: u32 = MAX_ITEM - OVERHEAD;

/// Milliseconds since 1970 on this machine's clock. Those who share a table share what it says, so clocks have to agree.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// When a life that begins now is over, Unix seconds; rounded up, so that it is never shorter than asked for.
pub(crate) fn end_of(ttl: Ttl, now_ms: u64) -> Option<u64> {
    Some(now_ms.saturating_add(ttl.as_ms()?).div_ceil(1000))
}

/// A number for a condition or an attribute.
pub(crate) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Text for a key or a condition.
pub(crate) fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// Bytes for a condition or an attribute.
pub(crate) fn binary(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// `key` as the partition key.
pub(crate) fn text_of(key: Key<'_>) -> Result<String, Trouble> {
    let bytes = key.as_bytes();
    if bytes.len() > MAX_KEY {
        return Err(Trouble::KeyTooLong { len: bytes.len() });
    }
    // A partition key is UTF-8 and not empty. Of that the printable ASCII characters are taken: what lies beyond them is the
    // backend's own, and the engine has a form for keys that a store does not take.
    match key.as_str() {
        Some(text) if is_entry(text) => Ok(text.to_owned()),
        _ => Err(Trouble::KeyBytes),
    }
}

/// Whether a partition key can be that of an entry.
pub(crate) fn is_entry(text: &str) -> bool {
    (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A version that no other write has: 127 bits from the operating system, behind a one that says where it is from.
pub(crate) fn new_version() -> Result<Version, Trouble> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Trouble::NoRandomness)?;
    Ok(Version(u128::from_be_bytes(bytes) | STAMPED))
}

/// Set in versions that stand in the item; digests of items without one have it cleared (`cas`).
pub(crate) const STAMPED: u128 = 1 << 127;

/// The names of a table and its attributes.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) ttl: String,
    pub(crate) version: String,
    /// Largest value, bytes.
    pub(crate) max_value: u32,
}

/// What an item says.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    /// Milliseconds since 1970.
    pub(crate) ends_ms: Option<u64>,
    /// Absent in items of other writers.
    pub(crate) version: Option<Version>,
}

impl Layout {
    pub(crate) fn new(config: &DynamoDbConfig) -> Result<Self, String> {
        Ok(Self {
            table: config.table()?.to_owned(),
            key: config.key_attribute.clone(),
            value: config.value_attribute.clone(),
            ttl: config.ttl_attribute.clone(),
            version: config.version_attribute.clone(),
            max_value: config.max_value,
        })
    }

    /// Refuses what no item can hold.
    pub(crate) fn fits(&self, value: &[u8]) -> Result<(), Trouble> {
        if value.len() > self.max_value as usize {
            return Err(Trouble::ValueTooLarge { len: value.len(), max: self.max_value });
        }
        Ok(())
    }

    /// The item of an entry.
    pub(crate) fn item(&self, key: String, value: &[u8], end: Option<u64>, version: Version) -> Item {
        let mut item = HashMap::with_capacity(4);
        item.insert(self.key.clone(), AttributeValue::S(key));
        item.insert(self.value.clone(), binary(value));
        item.insert(self.version.clone(), binary(&version.0.to_be_bytes()));
        if let Some(end) = end {
            item.insert(self.ttl.clone(), number(end));
        }
        item
    }

    /// The entry in an item that was asked for under `key`; `None` if its life is over.
    pub(crate) fn entry(&self, mut item: Item, key: &str, now_ms: u64) -> Result<Option<Entry>, Trouble> {
        let Some(ends_ms) = self.alive(&item, key, now_ms)? else { return Ok(None) };
        let value = match item.remove(&self.value) {
            Some(AttributeValue::B(value)) => Bytes::from(value.into_inner()),
            // Other writers keep text as text.
            Some(AttributeValue::S(value)) => Bytes::from(value),
            Some(_) => return Err(Trouble::Corrupt("the item's value is neither binary nor text")),
            None => return Err(Trouble::Corrupt("the item has no value")),
        };
        let version = match item.remove(&self.version) {
            Some(AttributeValue::B(version)) => {
                // What is no version of ours is another writer's attribute.
                let stamp = <[u8; 16]>::try_from(version.as_ref()).map(u128::from_be_bytes);
                stamp.ok().filter(|stamp| stamp & STAMPED != 0).map(Version)
            }
            _ => None,
        };
        Ok(Some(Entry { value, ends_ms, version }))
    }

    /// The end of an item that was asked for under `key`, milliseconds since 1970; `None` if that was before now.
    pub(crate) fn alive(&self, item: &Item, key: &str, now_ms: u64) -> Result<Option<Option<u64>>, Trouble> {
        match item.get(&self.key) {
            Some(AttributeValue::S(found)) if found == key => {}
            _ => return Err(Trouble::Corrupt("DynamoDB answered with the item of another key")),
        }
        let end = match item.get(&self.ttl) {
            None => return Ok(Some(None)),
            Some(AttributeValue::N(end)) => milliseconds(end)?,
            Some(_) => return Err(Trouble::Corrupt("the end of the item is no number")),
        };
        Ok((end > now_ms).then_some(Some(end)))
    }
}

/// A number of seconds as DynamoDB writes it. Ours are whole; other writers may have fractions.
fn milliseconds(seconds: &str) -> Result<u64, Trouble> {
    if let Ok(seconds) = seconds.parse::<u64>() {
        return Ok(seconds.saturating_mul(1000));
    }
    match seconds.parse::<f64>() {
        // Saturates: what lies before 1970 is over, and what lies beyond the clock is not.
        Ok(seconds) if seconds.is_finite() => Ok((seconds * 1000.0) as u64),
        _ => Err(Trouble::Corrupt("the end of the item is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_500;

    fn layout() -> Layout {
        Layout::new(&DynamoDbConfig::new("http_cache")).unwrap()
    }

    fn item(end: Option<AttributeValue>) -> Item {
        let mut item = layout().item("k".into(), b"bytes", None, Version(7));
        item.extend(end.map(|end| ("ttl".to_owned(), end)));
        item
    }

    #[test]
    fn an_entry_reads_back_as_it_was_written() {
        let version = new_version().unwrap();
        let item = layout().item("k".into(), b"\0\xff", Some(1_700_000_002), version);
        let entry = layout().entry(item, "k", NOW_MS).unwrap().unwrap();
        assert_eq!(entry.value, Bytes::from_static(b"\0\xff"));
        assert_eq!(entry.ends_ms, Some(1_700_000_002_000));
        assert_eq!(entry.version, Some(version));
    }

    #[test]
    fn an_item_whose_life_is_over_is_none_although_it_is_there() {
        let alive =
            |end: &str| layout().entry(item(Some(AttributeValue::N(end.into()))), "k", NOW_MS).unwrap().is_some();
        assert!(alive("1700000001"));
        assert!(alive("1700000000.9"), "another writer's fraction of a second");
        assert!(alive("1.8E+9"));
        assert!(alive("99999999999999999999999999999999999999"));
        for over in ["1700000000", "1700000000.5", "1699999999", "0", "-1", "-1E+100"] {
            assert!(!alive(over), "{over}");
        }
        assert!(layout().entry(item(None), "k", NOW_MS).unwrap().is_some(), "no end, no expiry");
    }

    #[test]
    fn what_is_no_entry_of_that_key_is_an_error() {
        let wrong = |item: Item| layout().entry(item, "k", NOW_MS).unwrap_err().during(cachekit_plugin::Operation::Get);
        let with = |name: &str, value: AttributeValue| {
            let mut item = item(None);
            item.insert(name.into(), value);
            item
        };
        let without = |name: &str| {
            let mut item = item(None);
            item.remove(name);
            item
        };
        for broken in [
            with("key", AttributeValue::S("other".into())),
            with("key", AttributeValue::N("1".into())),
            without("key"),
            without("value"),
            with("value", AttributeValue::Bool(true)),
            with("ttl", AttributeValue::S("soon".into())),
            with("ttl", AttributeValue::N("soon".into())),
            with("ttl", AttributeValue::N("nan".into())),
        ] {
            assert_eq!(wrong(broken).kind(), cachekit_plugin::Kind::Corrupt);
        }
    }

    #[test]
    fn items_of_other_writers_are_read() {
        let mut foreign = item(None);
        foreign.remove("version");
        assert_eq!(layout().entry(foreign.clone(), "k", NOW_MS).unwrap().unwrap().version, None);
        foreign.insert("version".into(), AttributeValue::N("3".into()));
        foreign.insert("value".into(), AttributeValue::S("text".into()));
        let entry = layout().entry(foreign, "k", NOW_MS).unwrap().unwrap();
        assert_eq!((entry.value, entry.version), (Bytes::from_static(b"text"), None));
    }

    #[test]
    fn ends_are_rounded_up_and_never_overflow() {
        let end = |ms| end_of(Ttl::from_ms(ms).unwrap(), NOW_MS);
        assert_eq!(end(1), Some(1_700_000_001));
        assert_eq!(end(500), Some(1_700_000_001));
        assert_eq!(end(501), Some(1_700_000_002));
        assert_eq!(end(u64::MAX), Some(u64::MAX.div_ceil(1000)));
        assert_eq!(end_of(Ttl::Never, NOW_MS), None);
    }

    #[test]
    fn the_heaviest_item_is_within_what_dynamodb_takes() {
        let name = |letter: &str| letter.repeat(64);
        let layout = Layout { key: name("k"), value: name("v"), ttl: name("t"), version: name("n"), ..layout() };
        let value = |more| vec![0; MAX_VALUE as usize + more];
        let item = layout.item("k".repeat(MAX_KEY), &value(0), Some(u64::MAX), Version(1));
        // As Amazon counts: names and text in UTF-8, bytes as they are, a number by two digits a byte and one more.
        let weight: usize = item
            .iter()
            .map(|(name, value)| {
                name.len()
                    + match value {
                        AttributeValue::S(text) => text.len(),
                        AttributeValue::B(bytes) => bytes.as_ref().len(),
                        AttributeValue::N(digits) => digits.len().div_ceil(2) + 1,
                        _ => unreachable!("an entry has none of those"),
                    }
            })
            .sum();
        assert!(weight <= MAX_ITEM as usize, "{weight}");
        assert!(layout.fits(&value(0)).is_ok());
        assert!(layout.fits(&value(1)).is_err());
    }

    #[test]
    fn keys_are_printable_and_short_enough_for_their_lease() {
        let taken = |key: &[u8]| text_of(Key::from_wire(key)).is_ok();
        assert!(taken(b"ck:users:42") && taken(&[b'k'; MAX_KEY]));
        for key in [&b""[..], b"a b", b"a\n", b"caf\xc3\xa9", b"\xff", &[b'k'; MAX_KEY + 1]] {
            assert!(!taken(key));
        }
    }
}
