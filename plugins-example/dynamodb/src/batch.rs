//! Several keys in one exchange.
//!
//! What it protects: DynamoDB takes a hundred keys or twenty-five items at a time, refuses a batch that names a key twice, and
//! does part of one when capacity is short. So batches are cut, duplicates are asked for once, and what came back undone is
//! sent again until the deadline; what is undone by then, or was under way, is an error of its own, item by item.
//!
//! `BatchWriteItem` does not say what it removed, so deletions are single ones, several at a time.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, PutRequest, WriteRequest};
use bytes::Bytes;
use cachekit_plugin::{Answers, Batch, Cx, Fut, Key, Operation, SetItem};
use futures_util::stream::{self, StreamExt as _};

use crate::backend::DynamoDbBackend;
use crate::client::by;
use crate::error::Trouble;
use crate::item::{self, Item, end_of, now_ms, text, text_of};

/// What DynamoDB takes at a time.
const MAX_GETS: usize = 100;
const MAX_WRITES: usize = 25;
/// Exchanges of one batch at the same time. Twenty-five of the largest items are 10 MB, written in base64.
const AT_ONCE: usize = 4;
/// Deletions of one batch at the same time: they are small.
const DELETIONS_AT_ONCE: usize = 16;

/// The pause before what came back undone is sent again: doubling from the first to the longest. Capacity is dealt out by the
/// second.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One write of a batch.
pub(crate) struct Unit {
    pub(crate) key: String,
    pub(crate) request: WriteRequest,
}

impl Batch for DynamoDbBackend {
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>> {
        Self::answer_each(Operation::GetMany, async move {
            let (texts, places) = merged(keys.iter().map(|key| text_of(*key)));
            let chunks: Vec<Vec<String>> = texts.chunks(MAX_GETS).map(<[String]>::to_vec).collect();
            let read: Vec<_> =
                stream::iter(chunks).map(|keys| self.read_chunk(keys, cx)).buffer_unordered(AT_ONCE).collect().await;
            let found: HashMap<String, Result<Option<Bytes>, Trouble>> = read.into_iter().flatten().collect();
            Ok(answers(&texts, places, found, Operation::GetMany))
        })
    }

    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>> {
        Self::answer_each(Operation::SetMany, async move {
            let checked =
                items.iter().map(|item| self.client.layout.fits(&item.value).and_then(|()| text_of(item.key)));
            let (texts, places) = merged(checked);
            // The last item of a key is the one that stays.
            let mut last: Vec<usize> = vec![0; texts.len()];
            for (number, place) in places.iter().enumerate() {
                if let Ok(place) = place {
                    last[*place] = number;
                }
            }
            let (layout, now_ms) = (&self.client.layout, now_ms());
            let mut units = Vec::with_capacity(texts.len());
            for (key, number) in texts.iter().zip(last) {
                let SetItem { value, ttl, .. } = &items[number];
                let item = layout.item(key.clone(), value, end_of(*ttl, now_ms), item::new_version()?);
                let request = PutRequest::builder().set_item(Some(item)).build();
                let request = request.map_err(|_| Trouble::Corrupt("the SDK cannot describe the item"))?;
                units.push(Unit { key: key.clone(), request: WriteRequest::builder().put_request(request).build() });
            }
            let written = self.write_all(units, cx).await.into_iter().collect();
            Ok(answers(&texts, places, written, Operation::SetMany))
        })
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>> {
        Self::answer_each(Operation::DeleteMany, async move {
            let (texts, places) = merged(keys.iter().map(|key| text_of(*key)));
            let removed: HashMap<String, Result<bool, Trouble>> = stream::iter(texts.clone())
                .map(|key| async move {
                    let answer = by(cx.deadline, self.remove(&key)).await;
                    (key, answer)
                })
                .buffer_unordered(DELETIONS_AT_ONCE)
                .collect()
                .await;
            // Of a key that stands twice the first one removes it.
            let mut answers = answers(&texts, places.clone(), removed, Operation::DeleteMany);
            let mut seen = vec![false; texts.len()];
            for (answer, place) in answers.iter_mut().zip(places) {
                if let (Ok(removed), Ok(place)) = (answer, place) {
                    *removed &= !std::mem::replace(&mut seen[place], true);
                }
            }
            Ok(answers)
        })
    }
}

/// The keys once each, and for each item the place of its key among them.
fn merged(keys: impl Iterator<Item = Result<String, Trouble>>) -> (Vec<String>, Vec<Result<usize, Trouble>>) {
    let (mut texts, mut known) = (Vec::new(), HashMap::new());
    let places = keys
        .map(|key| {
            let key = key?;
            Ok(*known.entry(key.clone()).or_insert_with(|| {
                texts.push(key);
                texts.len() - 1
            }))
        })
        .collect();
    (texts, places)
}

/// For each item the answer of its key.
fn answers<T: Clone>(
    texts: &[String],
    places: Vec<Result<usize, Trouble>>,
    found: HashMap<String, Result<T, Trouble>>,
    operation: Operation,
) -> Answers<T> {
    let answer = |place: Result<usize, Trouble>| {
        let key = texts.get(place?).ok_or(Trouble::Unprocessed)?;
        found.get(key).cloned().unwrap_or(Err(Trouble::Unprocessed))
    };
    places.into_iter().map(|place| answer(place).map_err(|trouble| trouble.during(operation))).collect()
}

/// Pauses before what came back undone is sent again.
struct Pauses(Duration);

impl Pauses {
    /// Waits, or says that there is no time left to do so.
    async fn wait(&mut self, cx: &Cx<'_>) -> Result<(), Trouble> {
        // Some of it is chance, so that those who were throttled together do not come back together.
        let mut chance = [0];
        getrandom::fill(&mut chance).map_err(|_| Trouble::NoRandomness)?;
        let pause = self.0.mul_f64(0.5 + f64::from(chance[0]) / 512.0);
        if cx.deadline.remaining().is_some_and(|left| left <= pause) {
            return Err(Trouble::Unprocessed);
        }
        tokio::time::sleep(pause).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

impl DynamoDbBackend {
    /// Reads up to a hundred keys, each named once, and says of each what became of it.
    async fn read_chunk(&self, keys: Vec<String>, cx: &Cx<'_>) -> Vec<(String, Result<Option<Bytes>, Trouble>)> {
        let mut found: HashMap<String, Result<Option<Bytes>, Trouble>> = HashMap::with_capacity(keys.len());
        let mut open: Vec<String> = keys.clone();
        let mut pauses = Pauses(FIRST_PAUSE);
        let trouble = loop {
            match by(cx.deadline, self.read_some(&open, &mut found)).await {
                Err(trouble) => break trouble,
                Ok(undone) if undone.is_empty() => {
                    // Neither found nor undone: absent.
                    return keys
                        .into_iter()
                        .map(|key| (found.remove(&key).unwrap_or(Ok(None)), key))
                        .map(swap)
                        .collect();
                }
                Ok(undone) => open = undone,
            }
            if let Err(trouble) = pauses.wait(cx).await {
                break trouble;
            }
        };
        // What was read stays read; what was answered for and absent is known as well.
        let answer = |key: String| {
            let known = if open.contains(&key) { Err(trouble.clone()) } else { Ok(None) };
            (found.remove(&key).unwrap_or(known), key)
        };
        keys.into_iter().map(answer).map(swap).collect()
    }

    /// One exchange for `keys`: enters what was found, and returns what was left undone.
    async fn read_some(
        &self,
        keys: &[String],
        found: &mut HashMap<String, Result<Option<Bytes>, Trouble>>,
    ) -> Result<Vec<String>, Trouble> {
        let layout = &self.client.layout;
        let asked = keys.iter().map(|key| Item::from([(layout.key.clone(), text(key))])).collect();
        let asked = KeysAndAttributes::builder().set_keys(Some(asked)).consistent_read(self.client.consistent());
        let asked = asked.build().map_err(|_| Trouble::Corrupt("the SDK cannot describe the keys"))?;
        let answer = {
            let (sdk, _turn) = self.client.turn().await?;
            sdk.batch_get_item().request_items(&layout.table, asked).send().await.map_err(Trouble::of)?
        };
        let now_ms = now_ms();
        for (table, items) in answer.responses.unwrap_or_default() {
            for item in items {
                let Some(AttributeValue::S(key)) = item.get(&layout.key).cloned() else { return Err(WRONG) };
                // What was not asked for is not an answer.
                if table != layout.table || !keys.contains(&key) {
                    return Err(WRONG);
                }
                let entry = layout.entry(item, &key, now_ms).map(|entry| entry.map(|entry| entry.value));
                found.insert(key, entry);
            }
        }
        let undone = answer.unprocessed_keys.unwrap_or_default().into_values();
        undone
            .flat_map(|undone| undone.keys)
            .map(|mut undone| match undone.remove(&layout.key) {
                Some(AttributeValue::S(key)) if keys.contains(&key) => Ok(key),
                _ => Err(WRONG),
            })
            .collect()
    }

    /// Writes all of it, and says of each key what became of it.
    pub(crate) async fn write_all(&self, units: Vec<Unit>, cx: &Cx<'_>) -> Vec<(String, Result<(), Trouble>)> {
        let (mut chunks, mut units) = (Vec::new(), units.into_iter().peekable());
        while units.peek().is_some() {
            chunks.push(units.by_ref().take(MAX_WRITES).collect::<Vec<_>>());
        }
        let written = stream::iter(chunks).map(|units| self.write_chunk(units, cx)).buffer_unordered(AT_ONCE);
        written.collect::<Vec<_>>().await.into_iter().flatten().collect()
    }

    /// Writes up to twenty-five items with a key each.
    async fn write_chunk(&self, units: Vec<Unit>, cx: &Cx<'_>) -> Vec<(String, Result<(), Trouble>)> {
        let keys: Vec<String> = units.iter().map(|unit| unit.key.clone()).collect();
        let mut open = units;
        let mut pauses = Pauses(FIRST_PAUSE);
        let trouble = loop {
            match by(cx.deadline, self.write_some(&open)).await {
                Err(trouble) => break trouble,
                Ok(undone) => open.retain(|unit| undone.contains(&unit.key)),
            }
            if open.is_empty() {
                return keys.into_iter().map(|key| (key, Ok(()))).collect();
            }
            if let Err(trouble) = pauses.wait(cx).await {
                break trouble;
            }
        };
        let is_open = |key: &String| open.iter().any(|unit| unit.key == *key);
        let answer = |key: String| match is_open(&key) {
            true => (key, Err(trouble.clone())),
            false => (key, Ok(())),
        };
        keys.into_iter().map(answer).collect()
    }

    /// One exchange for `units`; returns the keys of what was left undone.
    async fn write_some(&self, units: &[Unit]) -> Result<Vec<String>, Trouble> {
        let layout = &self.client.layout;
        let asked = units.iter().map(|unit| unit.request.clone()).collect();
        let answer = {
            let (sdk, _turn) = self.client.turn().await?;
            sdk.batch_write_item().request_items(&layout.table, asked).send().await.map_err(Trouble::of)?
        };
        let undone = answer.unprocessed_items.unwrap_or_default().into_values().flatten();
        undone
            .map(|undone| {
                let put = undone.put_request.and_then(|mut put| put.item.remove(&layout.key));
                let key = put.or_else(|| undone.delete_request.and_then(|mut delete| delete.key.remove(&layout.key)));
                match key {
                    Some(AttributeValue::S(key)) if units.iter().any(|unit| unit.key == key) => Ok(key),
                    _ => Err(WRONG),
                }
            })
            .collect()
    }
}

const WRONG: Trouble = Trouble::Corrupt("DynamoDB answered for an item that was not asked for");

fn swap<A, B>((first, second): (A, B)) -> (B, A) {
    (second, first)
}
