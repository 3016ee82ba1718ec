//! Faults of the optional powers.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use cachekit_plugin::{
    Answers, Backend, BackendError, Batch, Bytes, Cas, Clear, Cx, Expiry, Fut, Key, Kind, Locks, Operation, Page, Scan,
    SetItem, Ttl, Version,
};

use super::backend::step;
use super::{Fault, Faulty, guard};

impl Batch for Faulty {
    fn get_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<Option<Bytes>>> {
        Box::pin(async move {
            if self.has(Fault::EmptyBatchIsAnError) && keys.is_empty() {
                return Err(BackendError::new(Kind::Internal, Operation::GetMany, "no keys"));
            }
            let mut answers = self.memory.get_many(keys, cx).await?;
            match self.fault {
                Fault::RotatesBatchAnswers if !answers.is_empty() => answers.rotate_left(1),
                Fault::AnswersEachKeyOnce => answers.truncate(keys.iter().collect::<BTreeSet<_>>().len()),
                _ => {}
            }
            Ok(answers)
        })
    }

    fn set_many<'a>(&'a self, items: &'a [SetItem<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<()>> {
        Box::pin(async move {
            self.shared.busy.store(self.has(Fault::WatchIgnoresBatches), std::sync::atomic::Ordering::SeqCst);
            let (mut answers, mut written, mut failed) = (Vec::new(), BTreeSet::new(), false);
            for (number, item) in items.iter().enumerate() {
                let mut wire: Cow<'_, [u8]> = item.key.as_bytes().into();
                let mut life = item.ttl;
                let stores = match self.fault {
                    Fault::FirstItemStays => written.insert(item.key),
                    Fault::BatchEndsAt512 => number < 512,
                    Fault::FailureHidesTheRest => !failed,
                    Fault::BatchWritesElsewhere => {
                        wire.to_mut().extend(b"batch");
                        true
                    }
                    Fault::BatchHasOneLife => {
                        life = items[0].ttl;
                        true
                    }
                    Fault::WritesInTwoSteps => {
                        self.store_half(item.key, &item.value, cx).await?;
                        step().await;
                        true
                    }
                    _ => true,
                };
                let answer = if stores {
                    self.memory.set(Key::from_wire(&wire), item.value.clone(), life, cx).await
                } else {
                    Ok(())
                };
                failed |= answer.is_err();
                answers.push(answer);
            }
            self.shared.busy.store(false, std::sync::atomic::Ordering::SeqCst);
            Ok(answers)
        })
    }

    fn delete_many<'a>(&'a self, keys: &'a [Key<'a>], cx: &'a Cx<'a>) -> Fut<'a, Answers<bool>> {
        Box::pin(async move {
            let mut answers = Vec::new();
            let mut missed = false;
            for key in keys {
                let stops = self.has(Fault::DeleteManyStopsAtAMiss) && missed;
                let deleted = !stops && self.memory.delete(*key, cx).await?;
                missed |= !deleted;
                answers.push(Ok(deleted));
            }
            Ok(answers)
        })
    }
}

impl Expiry for Faulty {
    fn ttl<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Ttl>> {
        Box::pin(async move {
            let left = Expiry::ttl(&self.memory, key, cx).await?;
            match (self.fault, left.and_then(Ttl::as_secs_ceil)) {
                (Fault::TimeLeftInSeconds, Some(seconds)) => Ok(Ttl::from_ms(seconds)),
                _ => Ok(left),
            }
        })
    }

    fn touch<'a>(&'a self, key: Key<'a>, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            let there = self.memory.exists(key, cx).await?;
            match self.fault {
                Fault::TouchDoesNothing => return Ok(there),
                Fault::TouchCreates if !there => {
                    self.memory.set(key, Bytes::new(), ttl, cx).await?;
                }
                Fault::TouchLosesTheValue if there => {
                    self.memory.set(key, Bytes::new(), ttl, cx).await?;
                }
                _ => {}
            }
            self.memory.touch(key, ttl, cx).await
        })
    }
}

impl Locks for Faulty {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            let (wire, token) = (self.lease(key), self.token(token));
            let wire = Key::from_wire(&wire);
            let hold_ms = match self.fault {
                Fault::LockIsAlwaysGiven => return Ok(true),
                Fault::WrapsLongHolds if hold_ms as u32 == 0 => return Ok(true),
                Fault::LooksThenLocks => {
                    let free = !guard(&self.shared.keys).contains(wire.as_bytes());
                    std::thread::sleep(Duration::from_millis(1));
                    guard(&self.shared.keys).insert(wire.as_bytes().to_vec());
                    if free {
                        // A lease that its holder can give back: where nobody came in between there is nothing to find.
                        self.memory.lock(wire, token, hold_ms, cx).await?;
                    }
                    return Ok(free);
                }
                Fault::LocksInTwoSteps => {
                    if !self.memory.lock(wire, token, u64::MAX, cx).await? {
                        return Ok(false);
                    }
                    step().await;
                    self.memory.unlock(wire, token, cx).await?;
                    hold_ms
                }
                Fault::LeasesNeverEnd => u64::MAX,
                _ => hold_ms,
            };
            let given = self.memory.lock(wire, token, hold_ms, cx).await?;
            if given && self.has(Fault::LeaseIsAValue) {
                self.memory.set(key, Bytes::copy_from_slice(token), Ttl::Never, cx).await?;
            }
            Ok(given)
        })
    }

    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            let wire = self.lease(key);
            self.memory.unlock(Key::from_wire(&wire), self.token(token), cx).await
        })
    }
}

impl Faulty {
    /// The key whose lease is meant.
    fn lease<'k>(&self, key: Key<'k>) -> Cow<'k, [u8]> {
        match self.fault {
            Fault::LocksPerInstance => [key.as_bytes(), &self.instance.to_le_bytes()].concat().into(),
            Fault::OneLeaseForAll => b"the lease"[..].into(),
            _ => key.as_bytes().into(),
        }
    }

    fn token<'t>(&self, token: &'t [u8]) -> &'t [u8] {
        match self.fault {
            Fault::UnlockIgnoresTokens => b"any",
            Fault::EndsTokensAtZero => token.split(|byte| *byte == 0).next().unwrap_or_default(),
            _ => token,
        }
    }
}

impl Cas for Faulty {
    fn get_version<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<(Bytes, Version)>> {
        Box::pin(async move {
            let found = self.memory.get_version(key, cx).await?;
            Ok(match self.fault {
                Fault::NothingHasAVersion => found.or(Some((Bytes::new(), Version(0)))),
                Fault::VersionsStandStill => found.map(|(value, _)| (value, Version(1))),
                _ => found,
            })
        })
    }

    fn set_if<'a>(
        &'a self,
        key: Key<'a>,
        value: Bytes,
        mut ttl: Ttl,
        mut expect: Option<Version>,
        cx: &'a Cx<'a>,
    ) -> Fut<'a, bool> {
        Box::pin(async move {
            let present = self.memory.get_version(key, cx).await?.map(|(_, version)| version);
            match self.fault {
                Fault::SetIfIgnoresVersions if expect.is_some() => expect = present,
                Fault::SetIfAbsentOverwrites if expect.is_none() => expect = present,
                Fault::SetIfRevives if present.is_none() => expect = None,
                Fault::SetIfIgnoresLives => ttl = Ttl::Never,
                Fault::LooksThenWrites => {
                    std::thread::sleep(Duration::from_millis(1));
                    if present == expect {
                        self.memory.set(key, value, ttl, cx).await?;
                    }
                    return Ok(present == expect);
                }
                Fault::WritesInTwoSteps if present == expect => {
                    self.store_half(key, &value, cx).await?;
                    step().await;
                    self.memory.set(key, value, ttl, cx).await?;
                    return Ok(true);
                }
                _ => {}
            }
            self.memory.set_if(key, value, ttl, expect, cx).await
        })
    }
}

impl Scan for Faulty {
    fn next<'a>(&'a self, prefix: &'a [u8], cursor: Option<&'a [u8]>, max: usize, cx: &'a Cx<'a>) -> Fut<'a, Page> {
        Box::pin(async move {
            let (mut at, mut size) = (cursor, max);
            match self.fault {
                Fault::ScanNeverEnds => at = None,
                Fault::PagesIgnoreTheirSize => size = max.max(10),
                Fault::PanicsOnCursors => {
                    let text = cursor.map(std::str::from_utf8);
                    assert!(!matches!(text, Some(Err(_))), "a cursor is text");
                }
                _ => {}
            }
            let mut page = self.memory.next(self.prefix(prefix), at, size, cx).await?;
            match self.fault {
                Fault::ScanLosesItems => {
                    page.items.pop();
                }
                Fault::ScanNeverEnds => page.next = Some(Bytes::from_static(b"again")),
                Fault::ListsDeletedEntries if page.next.is_none() => {
                    let deleted = guard(&self.shared.keys);
                    page.items.extend(deleted.iter().filter(|key| key.starts_with(prefix)).cloned().map(Bytes::from));
                }
                _ => {}
            }
            Ok(page)
        })
    }

    fn read<'a>(&'a self, id: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move {
            let found = self.memory.read(id, cx).await?;
            Ok(if self.has(Fault::ReadsGhosts) { found.or(Some(Bytes::from_static(b"ghost"))) } else { found })
        })
    }
}

impl Clear for Faulty {
    fn clear<'a>(&'a self, prefix: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, u64> {
        Box::pin(async move {
            let prefix = match self.fault {
                Fault::ClearIgnoresPrefixes => b"",
                Fault::ClearAllDoesNothing if prefix.is_empty() => return Ok(0),
                _ => self.prefix(prefix),
            };
            let cleared = Clear::clear(&self.memory, prefix, cx).await?;
            Ok(if self.has(Fault::ClearMiscounts) { cleared + 1 } else { cleared })
        })
    }
}

impl Faulty {
    /// What a prefix matches.
    fn prefix<'p>(&self, prefix: &'p [u8]) -> &'p [u8] {
        match self.fault {
            Fault::PrefixIsAPattern => prefix.split(|byte| *byte == b'*').next().unwrap_or_default(),
            _ => prefix,
        }
    }
}
