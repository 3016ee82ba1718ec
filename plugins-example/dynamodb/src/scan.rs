//! Listing and clearing: page by page through the table, which DynamoDB reads and bills whole, whatever the prefix.

use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use bytes::Bytes;
use cachekit_plugin::{Backend, Clear, Cx, Fut, Key, Operation, Page, Scan};

use crate::backend::DynamoDbBackend;
use crate::batch::Unit;
use crate::error::Trouble;
use crate::item::{self, Item, is_entry, now_ms, text};

/// Items of a page, at most: what DynamoDB reads for one page ends at 1 MB in any case.
const MAX_PAGE: usize = 10_000;
/// Longest cursor, bytes: a partition key.
const MAX_CURSOR: usize = 2048;

impl Scan for DynamoDbBackend {
    fn next<'a>(&'a self, prefix: &'a [u8], cursor: Option<&'a [u8]>, max: usize, cx: &'a Cx<'a>) -> Fut<'a, Page> {
        Self::answer(Operation::Scan, cx, async move {
            let (Some(prefix), 1..) = (listed(prefix), max) else { return Ok(Page::default()) };
            let start = match cursor {
                None => None,
                Some(bytes) if bytes.len() > MAX_CURSOR || bytes.is_empty() => return Err(Trouble::Cursor),
                Some(bytes) => Some(std::str::from_utf8(bytes).map_err(|_| Trouble::Cursor)?.to_owned()),
            };
            let (found, next) = self.page(prefix, start, Some(max.min(MAX_PAGE))).await?;
            // No more than were asked for, whatever was answered.
            let alive = found.into_iter().filter(|found| found.alive).take(max);
            Ok(Page { items: alive.map(|found| Bytes::from(found.key)).collect(), next: next.map(Bytes::from) })
        })
    }

    fn read<'a>(&'a self, id: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.get(Key::from_wire(id), cx)
    }
}

impl Clear for DynamoDbBackend {
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64> {
        Self::answer(Operation::Clear, cx, async move {
            let (Some(prefix), mut cleared, mut start) = (listed(prefix), 0, None) else { return Ok(0) };
            loop {
                let (found, next) = self.page(prefix, start, None).await?;
                // What has expired goes as well, and is not counted: nobody could read it.
                cleared += found.iter().filter(|found| found.alive).count() as u64;
                let units = found.into_iter().map(|found| self.removal(found.key)).collect::<Result<_, _>>()?;
                for (_, answer) in self.write_all(units, cx).await {
                    answer?;
                }
                match next {
                    Some(next) => start = Some(next),
                    None => return Ok(cleared),
                }
            }
        })
    }
}

/// A listed item.
struct Found {
    key: String,
    alive: bool,
}

impl DynamoDbBackend {
    /// One page of entries under `prefix`, also of those whose life is over, and where the next one starts.
    async fn page(
        &self,
        prefix: &str,
        start: Option<String>,
        limit: Option<usize>,
    ) -> Result<(Vec<Found>, Option<String>), Trouble> {
        let (sdk, _turn) = self.client.turn().await?;
        let layout = &self.client.layout;
        let asked: ScanFluentBuilder = sdk
            .scan()
            .table_name(&layout.table)
            .consistent_read(self.client.consistent())
            .projection_expression("#k, #t")
            .expression_attribute_names("#k", &layout.key)
            .expression_attribute_names("#t", &layout.ttl)
            .expression_attribute_names("#v", &layout.value)
            .set_limit(limit.and_then(|limit| i32::try_from(limit).ok()))
            .set_exclusive_start_key(start.as_ref().map(|start| Item::from([(layout.key.clone(), text(start))])));
        let asked = match prefix {
            "" => asked.filter_expression("attribute_exists(#v)"),
            prefix => asked
                .filter_expression("attribute_exists(#v) AND begins_with(#k, :p)")
                .expression_attribute_values(":p", text(prefix)),
        };
        let answer = asked.send().await.map_err(Trouble::of)?;
        let next = match answer.last_evaluated_key {
            Some(mut last) if !last.is_empty() => match last.remove(&layout.key) {
                // A scan that stands still would not end.
                Some(AttributeValue::S(key)) if Some(&key) != start.as_ref() => Some(key),
                _ => return Err(Trouble::Corrupt("DynamoDB does not say where the scan goes on")),
            },
            _ => None,
        };
        let now_ms = now_ms();
        let mut found = Vec::new();
        for item in answer.items.unwrap_or_default() {
            let Some(AttributeValue::S(key)) = item.get(&layout.key) else {
                return Err(Trouble::Corrupt("DynamoDB lists an item without its key"));
            };
            // Leases, and keys of other writers that no entry of ours can have, are none of ours.
            if is_entry(key) && key.starts_with(prefix) {
                let alive = layout.alive(&item, key, now_ms)?.is_some();
                found.push(Found { key: key.clone(), alive });
            }
        }
        Ok((found, next))
    }

    fn removal(&self, key: String) -> Result<Unit, Trouble> {
        let request = DeleteRequest::builder().key(&self.client.layout.key, item::text(&key)).build();
        let request = request.map_err(|_| Trouble::Corrupt("the SDK cannot describe the deletion"))?;
        Ok(Unit { key, request: WriteRequest::builder().delete_request(request).build() })
    }
}

/// The prefix as text; `None` if no entry's key can begin with it.
fn listed(prefix: &[u8]) -> Option<&str> {
    std::str::from_utf8(prefix).ok().filter(|prefix| prefix.is_empty() || is_entry(prefix))
}
