//! Writes that happen only if nobody else wrote in between, by a condition on the attribute that names the last write.
//!
//! Items of other writers carry no such name. For those the version is a digest of value and end, and the condition is the
//! value itself: whoever replaces such an item by an equal one goes unnoticed, which changes nothing.

use std::collections::HashMap;

use bytes::Bytes;
use cachekit_plugin::{Cas, Cx, Fut, Key, Operation, Ttl, Version};
use sha2::{Digest, Sha256};

use crate::backend::{DynamoDbBackend, held};
use crate::client::once;
use crate::error::Trouble;
use crate::item::{self, Entry, Item, STAMPED, binary, end_of, now_ms, number, text_of};

/// What has to be so for a write to happen.
struct Condition {
    expression: String,
    names: HashMap<String, String>,
    values: Item,
}

impl Cas for DynamoDbBackend {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        Self::answer(Operation::GetVersion, cx, async move {
            let key = text_of(key)?;
            // Always consistent: a version that is a moment old would make every write that depends on it fail.
            let Some(item) = self.read(&key, true).await? else { return Ok(None) };
            let entry = self.client.layout.entry(item, &key, now_ms())?;
            Ok(entry.map(|entry| {
                let version = version_of(&entry);
                (entry.value, version)
            }))
        })
    }

    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        ttl: Ttl,
        expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool> {
        Self::answer(Operation::SetIf, cx, async move {
            let key = text_of(key)?;
            self.client.layout.fits(&value)?;
            let Some(condition) = self.condition(&key, expect).await? else { return Ok(false) };
            let (sdk, _turn) = self.client.turn().await?;
            let layout = &self.client.layout;
            let item = layout.item(key, &value, end_of(ttl, now_ms()), item::new_version()?);
            let asked = sdk
                .put_item()
                .table_name(&layout.table)
                .set_item(Some(item))
                .condition_expression(condition.expression)
                .set_expression_attribute_names(Some(condition.names))
                .set_expression_attribute_values(Some(condition.values));
            // Not repeated: the second try would meet the write of the first, and say that somebody else was faster.
            held(asked.customize().config_override(once()).send().await.map_err(Trouble::of))
        })
    }
}

impl DynamoDbBackend {
    /// What `expect` means as a condition; `None` if it cannot hold any more.
    async fn condition(&self, key: &str, expect: Option<Version>) -> Result<Option<Condition>, Trouble> {
        let layout = &self.client.layout;
        let mut names = HashMap::from([("#t".to_owned(), layout.ttl.clone())]);
        let mut values = HashMap::from([(":now".to_owned(), number(now_ms() / 1000))]);
        let mut name = |short: &str, name: &str| names.insert(short.to_owned(), name.to_owned());
        let expression = match expect {
            // What has expired is absent, although it is there.
            None => {
                name("#k", &layout.key);
                "attribute_not_exists(#k) OR #t <= :now".to_owned()
            }
            Some(Version(version)) if version & STAMPED != 0 => {
                name("#n", &layout.version);
                values.insert(":n".into(), binary(&version.to_be_bytes()));
                "#n = :n AND (attribute_not_exists(#t) OR #t > :now)".to_owned()
            }
            Some(version) => {
                let Some(item) = self.read(key, true).await? else { return Ok(None) };
                let seen = [("#v", ":v", &layout.value), ("#t", ":t", &layout.ttl), ("#n", ":n", &layout.version)];
                let seen = seen.map(|(name, value, attribute)| (name, value, attribute, item.get(attribute).cloned()));
                let found = layout.entry(item, key, now_ms())?;
                if found.is_none_or(|entry| version_of(&entry) != version) {
                    return Ok(None);
                }
                // It was alive a moment ago, and has to be as it was then, attribute by attribute.
                values.clear();
                let mut parts = Vec::new();
                for (short, value, attribute, content) in seen {
                    name(short, attribute);
                    match content {
                        Some(content) => {
                            values.insert(value.to_owned(), content);
                            parts.push(format!("{short} = {value}"));
                        }
                        None => parts.push(format!("attribute_not_exists({short})")),
                    }
                }
                parts.join(" AND ")
            }
        };
        Ok(Some(Condition { expression, names, values }))
    }
}

/// The name of the write that made an entry.
fn version_of(entry: &Entry) -> Version {
    entry.version.unwrap_or_else(|| {
        let mut hash = Sha256::new();
        hash.update(entry.ends_ms.unwrap_or(u64::MAX).to_be_bytes());
        hash.update(&entry.value);
        let digest = hash.finalize();
        let first = digest.first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes));
        Version(first & !STAMPED)
    })
}
