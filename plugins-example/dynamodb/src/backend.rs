//! The contract of a store, on one table.

use std::future::Future;
use std::time::Instant;

use aws_sdk_dynamodb::types::ReturnValue;
use bytes::Bytes;
use cachekit_plugin::{
    Backend, BackendError, Batch, Cas, Clear, Cx, Enumerates, Expiry, Fut, Health, HostServices, Key, KeyBytes, Limits,
    Locks, Open, Operation, Scan, Ttl,
};

use crate::client::{Client, by, once};
use crate::config::DynamoDbConfig;
use crate::error::{BACKEND, Trouble};
use crate::item::{self, Item, MAX_KEY, end_of, now_ms, number, text_of};
use crate::reactor::Within;

/// What suits a store that answers within 10 ms on a good day, behind TLS and the SDK's own repetition.
const DEADLINE_HINT_MS: u32 = 1000;

/// A DynamoDB table as a store of a cache.
pub struct DynamoDbBackend {
    pub(crate) client: Client,
}

impl Open for DynamoDbBackend {
    type Config = DynamoDbConfig;
    const TOKIO: bool = true;

    fn open(config: DynamoDbConfig, host: HostServices) -> Result<Self, BackendError> {
        let client = Client::new(config, host).map_err(|trouble| trouble.during(Operation::Open))?;
        Ok(Self { client })
    }
}

impl DynamoDbBackend {
    /// Bounds `work` by the deadline and gives its trouble the form of the contract.
    pub(crate) fn answer<'a, T: Send + 'a>(
        operation: Operation,
        cx: &'a Cx<'a>,
        work: impl Future<Output = Result<T, Trouble>> + Send + 'a,
    ) -> Fut<'a, T> {
        Self::answer_each(operation, by(cx.deadline, work))
    }

    /// As above for a batch, which bounds its exchanges one by one, so that what was done by the deadline is told.
    pub(crate) fn answer_each<'a, T: Send + 'a>(
        operation: Operation,
        work: impl Future<Output = Result<T, Trouble>> + Send + 'a,
    ) -> Fut<'a, T> {
        let work = async move { work.await.map_err(|trouble| trouble.during(operation)) };
        Box::pin(Within(operation, Box::pin(work)))
    }

    /// The item under `key`, whole.
    pub(crate) async fn read(&self, key: &str, consistent: bool) -> Result<Option<Item>, Trouble> {
        let (sdk, _turn) = self.client.turn().await?;
        let layout = &self.client.layout;
        let asked = sdk.get_item().table_name(&layout.table).key(&layout.key, item::text(key));
        Ok(asked.consistent_read(consistent).send().await.map_err(Trouble::of)?.item)
    }

    /// The item under `key` without its value: its key and its end.
    async fn look(&self, key: &str) -> Result<Option<Option<u64>>, Trouble> {
        let (sdk, _turn) = self.client.turn().await?;
        let layout = &self.client.layout;
        let asked = sdk
            .get_item()
            .table_name(&layout.table)
            .key(&layout.key, item::text(key))
            .consistent_read(self.client.consistent())
            .projection_expression("#k, #t")
            .expression_attribute_names("#k", &layout.key)
            .expression_attribute_names("#t", &layout.ttl);
        match asked.send().await.map_err(Trouble::of)?.item {
            Some(item) => layout.alive(&item, key, now_ms()),
            None => Ok(None),
        }
    }
}

impl Backend for DynamoDbBackend {
    fn limits(&self) -> Limits {
        Limits::new(MAX_KEY as u32, self.client.layout.max_value.into())
            .with_key_bytes(KeyBytes::Printable)
            .with_ttl_step_ms(1000)
            .with_enumerates(Enumerates::Keys)
            .with_deadline_hint_ms(DEADLINE_HINT_MS)
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Self::answer(Operation::Get, cx, async move {
            let key = text_of(key)?;
            let Some(item) = self.read(&key, self.client.consistent()).await? else { return Ok(None) };
            Ok(self.client.layout.entry(item, &key, now_ms())?.map(|entry| entry.value))
        })
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Self::answer(Operation::Set, cx, async move {
            let key = text_of(key)?;
            self.client.layout.fits(&value)?;
            let (sdk, _turn) = self.client.turn().await?;
            let layout = &self.client.layout;
            let item = layout.item(key, &value, end_of(ttl, now_ms()), item::new_version()?);
            sdk.put_item().table_name(&layout.table).set_item(Some(item)).send().await.map_err(Trouble::of)?;
            Ok(())
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Delete, cx, async move { self.remove(&text_of(key)?).await })
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Exists, cx, async move { Ok(self.look(&text_of(key)?).await?.is_some()) })
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        Self::answer(Operation::Health, cx, async move {
            // Before the clock: what is set up once is not what the store takes.
            drop(self.client.turn().await?);
            let begun = Instant::now();
            // A key that no entry has. `DescribeTable` would ask another part of the service, by another permission.
            self.look(" health").await?;
            Ok(Health::up(BACKEND, begun.elapsed())
                .with_detail("table", self.client.layout.table.clone())
                .with_detail("endpoint", self.client.place().to_owned()))
        })
    }

    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        self.client.close();
        cachekit_plugin::ready(Ok(()))
    }

    fn batch(&self) -> Option<&dyn Batch> {
        Some(self)
    }

    fn ttl(&self) -> Option<&dyn Expiry> {
        Some(self)
    }

    fn locks(&self) -> Option<&dyn Locks> {
        Some(self)
    }

    fn cas(&self) -> Option<&dyn Cas> {
        Some(self)
    }

    fn scan(&self) -> Option<&dyn Scan> {
        Some(self)
    }

    fn clear(&self) -> Option<&dyn Clear> {
        Some(self)
    }
}

impl DynamoDbBackend {
    /// Removes the item under `key`; `true` if that was an entry that was alive. Not repeated: a repetition would find nothing
    /// where the first one, whose answer was lost, had removed something.
    pub(crate) async fn remove(&self, key: &str) -> Result<bool, Trouble> {
        let (sdk, _turn) = self.client.turn().await?;
        let layout = &self.client.layout;
        let asked = sdk.delete_item().table_name(&layout.table).key(&layout.key, item::text(key));
        let asked = asked.return_values(ReturnValue::AllOld).customize().config_override(once());
        match asked.send().await.map_err(Trouble::of)?.attributes {
            Some(old) if !old.is_empty() => Ok(layout.alive(&old, key, now_ms())?.is_some()),
            _ => Ok(false),
        }
    }
}

impl Expiry for DynamoDbBackend {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        Self::answer(Operation::Ttl, cx, async move {
            Ok(self.look(&text_of(key)?).await?.map(|ends_ms| match ends_ms {
                // At least one: what has ended was just said to be absent.
                Some(ends_ms) => Ttl::from_ms(ends_ms.saturating_sub(now_ms()).max(1)).unwrap_or(Ttl::Never),
                None => Ttl::Never,
            }))
        })
    }

    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Self::answer(Operation::Touch, cx, async move {
            let key = text_of(key)?;
            let (sdk, _turn) = self.client.turn().await?;
            let (layout, now_ms) = (&self.client.layout, now_ms());
            let asked = sdk
                .update_item()
                .table_name(&layout.table)
                .key(&layout.key, item::text(&key))
                .condition_expression("attribute_exists(#k) AND (attribute_not_exists(#t) OR #t > :now)")
                .expression_attribute_names("#k", &layout.key)
                .expression_attribute_names("#t", &layout.ttl)
                .expression_attribute_values(":now", number(now_ms / 1000));
            let asked = match end_of(ttl, now_ms) {
                Some(end) => asked.update_expression("SET #t = :end").expression_attribute_values(":end", number(end)),
                None => asked.update_expression("REMOVE #t"),
            };
            held(asked.send().await.map_err(Trouble::of))
        })
    }
}

/// Whether the condition of a write held.
pub(crate) fn held<T>(answer: Result<T, Trouble>) -> Result<bool, Trouble> {
    match answer {
        Ok(_) => Ok(true),
        Err(trouble) if trouble.is("ConditionalCheckFailedException") => Ok(false),
        Err(trouble) => Err(trouble),
    }
}
