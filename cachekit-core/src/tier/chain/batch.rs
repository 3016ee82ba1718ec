//! Several keys through the chain: each tier is asked once, for what those before it did not have.

use bytes::Bytes;
use cachekit_plugin::{Answers, BackendError, Batch, Cx, Fut, Key, Operation, SetItem, Ttl};

use super::{Chain, failed_like, is_reserved, share, whole};
use crate::key::WireKey;

#[deny(clippy::missing_trait_methods)]
impl Batch for Chain {
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>> {
        Box::pin(async move {
            let inner = &*self.inner;
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            let seen: Vec<_> = keys.iter().map(|key| inner.stripes.seen(key)).collect();
            let mut answers: Answers<Option<Bytes>> = keys.iter().map(|_| Ok(None)).collect();
            let mut missing: Vec<usize> = (0..keys.len()).collect();
            // What was found, and behind how many fronts.
            let mut found: Vec<(usize, usize)> = Vec::new();
            for (passed, front) in inner.fronts.iter().enumerate() {
                if missing.is_empty() {
                    break;
                }
                let asked: Vec<&[u8]> = missing.iter().map(|&at| keys[at]).collect();
                let copies = front.get_many(&asked, &*inner.clock, share(cx.deadline)).await;
                let mut left = Vec::new();
                for (at, copy) in missing.into_iter().zip(copies) {
                    match copy {
                        Some(copy) => {
                            answers[at] = Ok(Some(copy));
                            found.push((at, passed));
                        }
                        None => left.push(at),
                    }
                }
                missing = left;
            }
            if !missing.is_empty() {
                let wires: Vec<WireKey> = missing.iter().map(|&at| whole(keys[at])).collect();
                match inner.last.get_many(&wires.iter().collect::<Vec<_>>(), cx.deadline).await {
                    Ok(stored) => {
                        for (&at, stored) in missing.iter().zip(stored) {
                            if matches!(stored, Ok(Some(_))) {
                                found.push((at, inner.fronts.len()));
                            }
                            answers[at] = stored;
                        }
                    }
                    // Nothing came from anywhere: the failure of the whole.
                    Err(error) if missing.len() == keys.len() => return Err(error),
                    Err(error) => {
                        missing.iter().for_each(|&at| answers[at] = Err(failed_like(&error, Operation::GetMany)));
                    }
                }
            }
            for before in 1..=inner.fronts.len() {
                let copies = found.iter().filter(|(at, passed)| *passed == before && !is_reserved(keys[*at]));
                let copies = copies.filter_map(|&(at, _)| match &answers[at] {
                    Ok(Some(stored)) => Some((keys[at].to_vec(), stored.clone(), seen[at])),
                    _ => None,
                });
                self.promote(copies.collect(), before);
            }
            Ok(answers)
        })
    }

    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>> {
        Box::pin(async move {
            let keys: Vec<&[u8]> = items.iter().map(|item| item.key.as_bytes()).collect();
            let inner = &*self.inner;
            let work = async {
                let began = inner.began();
                let wires: Vec<WireKey> = keys.iter().map(|key| whole(key)).collect();
                let batch: Vec<(&WireKey, Bytes, Ttl)> =
                    wires.iter().zip(items).map(|(wire, item)| (wire, item.value.clone(), item.ttl)).collect();
                let written = inner.last.set_many(&batch, cx.deadline).await;
                for front in inner.fronts.iter().rev() {
                    for (at, item) in items.iter().enumerate() {
                        let failed: Option<&BackendError> = match &written {
                            Ok(answers) => answers.get(at).and_then(|answer| answer.as_ref().err()),
                            Err(error) => Some(error),
                        };
                        let copy = (keys[at], &item.value, item.ttl);
                        front.write(copy, failed, began, &*inner.clock, share(cx.deadline)).await;
                    }
                }
                written
            };
            let (written, seen) = self.change(&keys, Operation::SetMany, cx.deadline, work).await;
            let last_of = |at: usize| keys[at + 1..].iter().all(|later| *later != keys[at]);
            let landed = |at: usize| written.as_ref().is_ok_and(|answers| answers.get(at).is_some_and(Result::is_ok));
            let behind = seen.iter().enumerate().filter(|(at, _)| last_of(*at) && landed(*at));
            let behind = behind.map(|(at, seen)| (keys[at].to_vec(), items[at].value.clone(), items[at].ttl, *seen));
            self.write_behind(behind.collect());
            written
        })
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>> {
        Box::pin(async move {
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            let inner = &*self.inner;
            let work = async {
                let began = inner.began();
                let wires: Vec<WireKey> = keys.iter().map(|key| whole(key)).collect();
                let mut answer = inner.last.delete_many(&wires.iter().collect::<Vec<_>>(), cx.deadline).await;
                for front in inner.fronts.iter().rev() {
                    let removed = front.remove_many(&keys, began, &*inner.clock, share(cx.deadline)).await;
                    let Ok(answers) = &mut answer else { continue };
                    for (answer, removed) in answers.iter_mut().zip(removed) {
                        match removed {
                            Ok(copied) => {
                                if let Ok(had) = answer {
                                    *had |= copied;
                                }
                            }
                            Err(error) if answer.is_ok() => {
                                *answer = Err(front.not_removed(Operation::DeleteMany, error));
                            }
                            Err(_) => {}
                        }
                    }
                }
                answer
            };
            self.change(&keys, Operation::DeleteMany, cx.deadline, work).await.0
        })
    }
}
