//! Leases: an item of their own beside the entry, written on the condition that nobody else's is there.
//!
//! The partition key of a lease begins with a word and a space. No key of an entry holds a space, so leases and entries never
//! meet, whatever is written, listed or cleared.
//!
//! When a lease is over is decided by the clock of whoever asks for it next, so a clock that is ahead by more than a hold takes
//! leases away. It is a lease, and no proof of being alone.

use aws_sdk_dynamodb::types::AttributeValue;
use cachekit_plugin::{Cx, Fut, Key, Locks, Operation};

use crate::backend::{DynamoDbBackend, held};
use crate::client::once;
use crate::error::Trouble;
use crate::item::{binary, now_ms, number, text, text_of};

/// What the partition key of a lease begins with.
pub(crate) const PREFIX: &str = "lock ";
/// Who holds it, and until when, milliseconds since 1970. The end of the item itself is in seconds, for DynamoDB to remove it.
const HOLDER: &str = "holder";
const UNTIL: &str = "until_ms";
/// The attributes of a lease that an entry has not.
pub(crate) const ATTRIBUTES: [&str; 2] = [HOLDER, UNTIL];

/// Longest token, bytes, so that no token makes an item too large.
const MAX_TOKEN: usize = 4096;

impl Locks for DynamoDbBackend {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Lock, cx, async move {
            let name = lease_of(key)?;
            if token.len() > MAX_TOKEN {
                return Err(Trouble::Refused(format!(
                    "a token of {} bytes; at most {MAX_TOKEN} are taken",
                    token.len()
                )));
            }
            let (sdk, _turn) = self.client.turn().await?;
            let (layout, now_ms) = (&self.client.layout, now_ms());
            let until_ms = now_ms.saturating_add(hold_ms.max(1));
            let asked = sdk
                .put_item()
                .table_name(&layout.table)
                .item(&layout.key, AttributeValue::S(name))
                .item(HOLDER, binary(token))
                .item(UNTIL, number(until_ms))
                .item(&layout.ttl, number(until_ms.div_ceil(1000)))
                .condition_expression("attribute_not_exists(#k) OR #u <= :now")
                .expression_attribute_names("#k", &layout.key)
                .expression_attribute_names("#u", UNTIL)
                .expression_attribute_values(":now", number(now_ms));
            // Not repeated: the second try would meet the lease of the first.
            held(asked.customize().config_override(once()).send().await.map_err(Trouble::of))
        })
    }

    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Unlock, cx, async move {
            let name = lease_of(key)?;
            if token.len() > MAX_TOKEN {
                return Ok(false);
            }
            let (sdk, _turn) = self.client.turn().await?;
            let layout = &self.client.layout;
            let asked = sdk
                .delete_item()
                .table_name(&layout.table)
                .key(&layout.key, text(&name))
                .condition_expression("#h = :token AND #u > :now")
                .expression_attribute_names("#h", HOLDER)
                .expression_attribute_names("#u", UNTIL)
                .expression_attribute_values(":token", binary(token))
                .expression_attribute_values(":now", number(now_ms()));
            held(asked.customize().config_override(once()).send().await.map_err(Trouble::of))
        })
    }
}

fn lease_of(key: Key<'_>) -> Result<String, Trouble> {
    Ok(format!("{PREFIX}{}", text_of(key)?))
}
