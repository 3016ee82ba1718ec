//! Faults of the seven operations every backend has.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::Duration;

use cachekit_plugin::{
    Backend, BackendError, Batch, Bytes, Cas, Clear, Cx, Enumerates, Expiry, Freshness, Fut, Health, Key, Kind, Limits,
    Locks, Operation, Scan, Ttl, Watch,
};

use super::{Fault, Faulty, guard};

/// Comes back at the second poll: the place where a future can be dropped.
pub(super) async fn step() {
    let mut polled = false;
    poll_fn(|context| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The life an entry gets.
impl Faulty {
    pub(super) fn life(&self, ttl: Ttl) -> Ttl {
        let changed = match (self.fault, ttl.as_ms()) {
            (Fault::IgnoresLives, _) => None,
            (Fault::EndsLivesEarly, Some(ms)) => Some(ms / 2 + 1),
            (Fault::EndsLivesLate, Some(ms)) => Some(ms.saturating_add(1000)),
            (Fault::NeverIsAMoment, None) => Some(1),
            (_, ms) => ms,
        };
        changed.and_then(Ttl::from_ms).unwrap_or(Ttl::Never)
    }

    /// The key an operation goes to.
    fn key<'k>(&self, key: &'k [u8], cx: &Cx<'_>) -> Cow<'k, [u8]> {
        let upto = |len: usize| Cow::Borrowed(&key[..len.min(key.len())]);
        match self.fault {
            Fault::CutsLongKeys => upto(250),
            Fault::CutsKeysAtTheLimit => upto(self.limits().max_key as usize),
            Fault::EndsKeysAtZero => upto(key.iter().position(|byte| *byte == 0).unwrap_or(key.len())),
            Fault::FoldsCase => key.to_ascii_lowercase().into(),
            Fault::TrimsKeys => key.trim_ascii().into(),
            Fault::TraceBecomesKey if cx.trace.is_some() => [key, b"traced"].concat().into(),
            Fault::ResolvesDots => match key.windows(4).position(|part| part == b":../") {
                Some(colon) => [&key[..=colon], &key[colon + 4..]].concat().into(),
                None => key.into(),
            },
            _ => key.into(),
        }
    }

    /// What goes wrong before an operation begins.
    async fn begin(&self, operation: Operation, cx: &Cx<'_>) -> Result<(), BackendError> {
        let error = |kind, why: &'static str| Err(BackendError::new(kind, operation, why));
        match self.fault {
            Fault::ClosesEverybody if self.shared.closed.load(SeqCst) => error(Kind::Internal, "closed"),
            Fault::HangsPastItsDeadline if cx.deadline.has_passed() => std::future::pending().await,
            Fault::HangsWhenTimeRunsOut
                if cx.deadline.remaining().is_some_and(|left| !left.is_zero() && left < Duration::from_millis(100)) =>
            {
                std::future::pending().await
            }
            Fault::TimeoutIsADefect if cx.deadline.has_passed() => error(Kind::Internal, "too late"),
            Fault::OutageIsADefect if self.outage => error(Kind::Internal, "no connection"),
            Fault::PanicsWithoutDeadline => match cx.deadline.remaining() {
                Some(_) => Ok(()),
                None => panic!("every operation has a deadline"),
            },
            Fault::BlocksItsThread => {
                while self.shared.busy.swap(true, SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                step().await;
                self.shared.busy.store(false, SeqCst);
                Ok(())
            }
            Fault::HangsAfterADrop => {
                while self.shared.busy.swap(true, SeqCst) {
                    step().await;
                }
                step().await;
                self.shared.busy.store(false, SeqCst);
                Ok(())
            }
            Fault::LeaksPermits => {
                while self.shared.permits_taken.load(SeqCst) >= 100 {
                    step().await;
                }
                self.shared.permits_taken.fetch_add(1, SeqCst);
                step().await;
                self.shared.permits_taken.fetch_sub(1, SeqCst);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A read whose answer passes through a place that others share.
    async fn answer(&self, found: Option<Bytes>) -> Option<Bytes> {
        match self.fault {
            Fault::GivesAnswersToOthers => {
                *guard(&self.shared.last_answer) = found;
                std::thread::sleep(Duration::from_micros(50));
                guard(&self.shared.last_answer).clone()
            }
            Fault::KeepsAnswersOfDroppedReads => {
                guard(&self.shared.answers).push_back(found);
                step().await;
                guard(&self.shared.answers).pop_front().flatten()
            }
            Fault::FlipsABit => found.map(|value| {
                let mut value = value.to_vec();
                if let Some(byte) = value.last_mut() {
                    *byte ^= 1;
                }
                value.into()
            }),
            Fault::EmptyIsAMiss => found.filter(|value| !value.is_empty()),
            _ => found,
        }
    }

    /// Stores half of the new value behind which the old one still stands.
    pub(super) async fn store_half<'a>(
        &'a self,
        key: Key<'a>,
        value: &Bytes,
        cx: &'a Cx<'a>,
    ) -> Result<(), BackendError> {
        let old = self.memory.get(key, cx).await?.unwrap_or_default();
        let half = value.len() / 2;
        let torn = [&value[..half], old.get(half..).unwrap_or_default()].concat();
        self.memory.set(key, torn.into(), Ttl::Never, cx).await
    }
}

impl Backend for Faulty {
    fn limits(&self) -> Limits {
        match self.fault {
            Fault::LimitsOfNothing => Limits::new(8, 0),
            Fault::DeniesItsScan => self.memory.limits().with_enumerates(Enumerates::No),
            _ => self.memory.limits(),
        }
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        Box::pin(async move {
            self.begin(Operation::Get, cx).await?;
            if (self.has(Fault::OutageIsAMiss) && self.outage)
                || (self.has(Fault::TimeoutIsAMiss) && cx.deadline.has_passed())
            {
                return Ok(None);
            }
            let wire = self.key(key.as_bytes(), cx);
            let found = self.memory.get(Key::from_wire(&wire), cx).await?;
            if self.has(Fault::MissIsAnError) && found.is_none() {
                return Err(BackendError::new(Kind::Internal, Operation::Get, "no such key"));
            }
            if self.has(Fault::GetReturnsStale) && found.is_none() {
                let stale = self.memory.get_dated(Key::from_wire(&wire), cx).await?;
                return Ok(stale.map(|stale| stale.value));
            }
            Ok(self.answer(found).await)
        })
    }

    fn set<'a>(&'a self, key: Key<'a>, mut value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            self.begin(Operation::Set, cx).await?;
            let wire = self.key(key.as_bytes(), cx);
            let (wire, mut life) = (Key::from_wire(&wire), self.life(ttl));
            self.shared.writes.fetch_add(1, SeqCst);
            match self.fault {
                Fault::KeepsTheFirstValue if self.memory.exists(wire, cx).await? => return Ok(()),
                Fault::DeletesForEver if guard(&self.shared.keys).contains(wire.as_bytes()) => return Ok(()),
                Fault::TrimsValues => value = Bytes::copy_from_slice(value.trim_ascii_end()),
                Fault::CutsLargeValues => value.truncate(65_536),
                Fault::CutsValuesAtTheLimit => value.truncate(self.limits().max_value as usize),
                Fault::RefusesTheLongestKey if wire.as_bytes().len() >= self.limits().max_key as usize => {
                    return Err(BackendError::new(Kind::TooLarge, Operation::Set, "off by one"));
                }
                Fault::RunsLinesOfKeys => {
                    for line in wire.as_bytes().split(|byte| *byte == b'\n') {
                        if let Some(victim) = line.strip_prefix(b"delete ") {
                            self.memory.delete(Key::from_wire(victim.trim_ascii_end()), cx).await?;
                        }
                    }
                }
                Fault::TellsTooEarly => self.tell_early(wire),
                Fault::TearsValues => {
                    self.store_half(wire, &value, cx).await?;
                    std::thread::sleep(Duration::from_micros(200));
                }
                Fault::WritesInTwoSteps => {
                    self.store_half(wire, &value, cx).await?;
                    step().await;
                }
                Fault::KeepsTheFirstLife => {
                    if let Some(left) = Expiry::ttl(&self.memory, wire, cx).await? {
                        life = left;
                    }
                }
                Fault::WrapsLongLives if ttl.as_ms().is_some_and(|ms| ms as u32 == 0) => return Ok(()),
                Fault::RefusesLongLives if ttl.as_ms().is_some_and(|ms| ms > 30 * 24 * 3_600_000) => {
                    return Err(BackendError::new(Kind::Unsupported, Operation::Set, "longer than a month"));
                }
                Fault::ExpiredExists => {
                    guard(&self.shared.keys).insert(wire.as_bytes().to_vec());
                }
                Fault::ListsDeletedEntries => {
                    guard(&self.shared.keys).remove(wire.as_bytes());
                }
                _ => {}
            }
            self.memory.set(wire, value, life, cx).await
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            self.begin(Operation::Delete, cx).await?;
            let wire = self.key(key.as_bytes(), cx);
            let wire = Key::from_wire(&wire);
            match self.fault {
                // It is no value any more, but stale it is served on.
                Fault::DeletedIsStale => return self.memory.exists(wire, cx).await,
                Fault::IgnoresDelete => return self.memory.exists(wire, cx).await,
                Fault::DeletesInTwoSteps if self.memory.exists(wire, cx).await? => {
                    self.memory.set(wire, Bytes::new(), Ttl::Never, cx).await?;
                    step().await;
                }
                Fault::DeletesForEver | Fault::ListsDeletedEntries => {
                    guard(&self.shared.keys).insert(wire.as_bytes().to_vec());
                }
                _ => {}
            }
            let deleted = self.memory.delete(wire, cx).await?;
            Ok(match self.fault {
                Fault::DeleteIsAlwaysTrue => true,
                Fault::DeleteIsAlwaysFalse => false,
                _ => deleted,
            })
        })
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            self.begin(Operation::Exists, cx).await?;
            let wire = self.key(key.as_bytes(), cx);
            let exists = self.memory.exists(Key::from_wire(&wire), cx).await?;
            Ok(match self.fault {
                Fault::ExistsIsAlwaysTrue => true,
                Fault::ExistsIsAlwaysFalse => false,
                Fault::ExpiredExists => exists || guard(&self.shared.keys).contains(&*wire),
                _ => exists,
            })
        })
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        Box::pin(async move {
            self.begin(Operation::Health, cx).await?;
            match self.fault {
                Fault::HealthIsNoTime => Ok(Health { latency_ms: f64::NAN, ..self.memory.health(cx).await? }),
                Fault::OutageIsHealthy => Ok(Health::up("faulty", Duration::ZERO)),
                _ => self.memory.health(cx).await,
            }
        })
    }

    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        Box::pin(async move {
            let closed = self.shared.closed.swap(true, SeqCst);
            match self.fault {
                Fault::ClosesOnce if closed => Err(BackendError::new(Kind::Internal, Operation::Close, "closed")),
                Fault::CloseWaitsOutAnOutage if self.outage => std::future::pending().await,
                _ => self.memory.close(cx).await,
            }
        })
    }

    fn batch(&self) -> Option<&dyn Batch> {
        let gone = self.has(Fault::PowersComeAndGo) && self.shared.writes.load(SeqCst) > 0;
        (!gone).then_some(self)
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

    fn watch(&self) -> Option<&dyn Watch> {
        Some(self)
    }

    fn freshness(&self) -> Option<&dyn Freshness> {
        Some(self)
    }
}
