//! Several keys in one exchange, in parts that bound what is on the wire at once.

use std::borrow::Cow;

use cachekit_plugin::{Answers, BackendError, Bytes, Cx, Key, Operation, SetItem};
use redis::{Cmd, Value};

use crate::backend::RedisBackend;
use crate::command;
use crate::error::Trouble;
use crate::node::Access;
use crate::reply;

/// Keys of one exchange: a server does nothing else while it answers one command of many keys.
const KEYS: usize = 512;
/// Bytes of values of one exchange.
const BYTES: usize = 4 << 20;

impl RedisBackend {
    pub(crate) async fn read_all(&self, keys: &[Key<'_>], cx: &Cx<'_>) -> Result<Answers<Option<Bytes>>, Trouble> {
        let mut answers = Vec::with_capacity(keys.len());
        for part in keys.chunks(KEYS) {
            let wires: Vec<Cow<'_, [u8]>> = part.iter().map(|key| self.wire(*key)).collect();
            let read = if self.client.takes_many() {
                self.read_together(&wires, cx).await
            } else {
                let commands = wires.iter().map(|wire| (&**wire, command::of_key("GET", wire))).collect();
                self.client.ask_all(commands, Access::Read, cx).await
            };
            self.note(Operation::GetMany, part.len(), read, reply::value, &mut answers)?;
        }
        Ok(answers)
    }

    /// One command for all. What is not a string reads as absent there.
    async fn read_together(
        &self,
        wires: &[Cow<'_, [u8]>],
        cx: &Cx<'_>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let Some(first) = wires.first() else { return Ok(Vec::new()) };
        let values = self.client.ask(first, &command::of_keys("MGET", wires), Access::Read, cx).await?;
        let values = reply::list(values)?;
        if values.len() != wires.len() {
            return Err(Trouble::WrongReply);
        }
        Ok(values.into_iter().map(Ok).collect())
    }

    pub(crate) async fn write_all(&self, items: &[SetItem<'_>], cx: &Cx<'_>) -> Result<Answers<()>, Trouble> {
        let mut answers = Vec::with_capacity(items.len());
        let mut rest = items;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take(KEYS).take_while(|item| {
                // At least one, however large.
                let fits = bytes == 0 || bytes + item.value.len() <= BYTES;
                bytes += item.value.len().max(1);
                fits
            });
            let (part, tail) = rest.split_at(fitting.count().max(1));
            rest = tail;
            self.write_part(part, &mut answers, cx).await?;
        }
        Ok(answers)
    }

    async fn write_part(&self, part: &[SetItem<'_>], answers: &mut Answers<()>, cx: &Cx<'_>) -> Result<(), Trouble> {
        let sent = |item: &SetItem<'_>| self.takes(&item.value).is_ok();
        let wires: Vec<Cow<'_, [u8]>> = part.iter().map(|item| self.wire(item.key)).collect();
        let commands: Vec<(&[u8], Cmd)> = part
            .iter()
            .zip(&wires)
            .filter(|(item, _)| sent(item))
            .map(|(item, wire)| (&**wire, command::set(wire, &item.value, self.life_ms(item.ttl))))
            .collect();
        let mut written = Vec::new();
        let replies =
            if commands.is_empty() { Ok(Vec::new()) } else { self.client.ask_all(commands, Access::Write, cx).await };
        let nothing_yet = answers.is_empty();
        let count = part.iter().filter(|item| sent(item)).count();
        match self.note(Operation::SetMany, count, replies, reply::okay, &mut written) {
            Err(trouble) if nothing_yet => return Err(trouble),
            Err(trouble) => written.extend((0..count).map(|_| Err(trouble.clone().during(Operation::SetMany)))),
            Ok(()) => {}
        }
        let mut written = written.into_iter();
        for item in part {
            answers.push(match self.takes(&item.value) {
                Err(trouble) => Err(trouble.during(Operation::SetMany)),
                Ok(()) => written.next().unwrap_or_else(|| Err(Trouble::WrongReply.during(Operation::SetMany))),
            });
        }
        Ok(())
    }

    pub(crate) async fn remove_each(&self, keys: &[Key<'_>], cx: &Cx<'_>) -> Result<Answers<bool>, Trouble> {
        let mut answers = Vec::with_capacity(keys.len());
        for part in keys.chunks(KEYS) {
            let wires: Vec<Cow<'_, [u8]>> = part.iter().map(|key| self.wire(*key)).collect();
            // A command for each, because the count of one for all does not say which were there.
            let commands = wires.iter().map(|wire| (&**wire, command::of_key("UNLINK", wire))).collect();
            let removed = self.client.ask_all(commands, Access::Write, cx).await;
            self.note(Operation::DeleteMany, part.len(), removed, reply::yes, &mut answers)?;
        }
        Ok(answers)
    }

    /// Adds the answers of a part. If nothing is known of any item of the whole batch, the trouble is its answer.
    fn note<T>(
        &self,
        operation: Operation,
        count: usize,
        replies: Result<Vec<Result<Value, Trouble>>, Trouble>,
        read: impl Fn(Value) -> Result<T, Trouble>,
        answers: &mut Vec<Result<T, BackendError>>,
    ) -> Result<(), Trouble> {
        match replies {
            Ok(replies) => {
                let read =
                    |reply: Result<Value, Trouble>| reply.and_then(&read).map_err(|trouble| trouble.during(operation));
                answers.extend(replies.into_iter().map(read));
                Ok(())
            }
            Err(trouble) if answers.is_empty() => Err(trouble),
            Err(trouble) => {
                answers.extend((0..count).map(|_| Err(trouble.clone().during(operation))));
                Ok(())
            }
        }
    }
}
