//! Many entries at once: what a write is stamped with, whether what is read is still in force, and what ends that.
//!
//! ```text
//! set         stamp: epochs from l1, else the store, else new ones ─► load ─► entry with these epochs
//! get         entry ─► its epochs are those that l1 knows? ─ no ─► those of the store, asked once for all ─► value, or a miss
//! invalidate  new epoch ─► store ─► l1; loads under way are joined by nobody any more
//! ```
//!
//! Entries without tags pay for none of this: neither an exchange nor a look. What an epoch is, is in
//! `invalidate/epochs.rs`; how soon others see a new one, in `docs/coherence.md`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cachekit_plugin::{Answers, BackendError, Deadline, Kind, Operation, Ttl};
use futures_util::{StreamExt, stream};

use super::{At, Cache, Engine, Unsettled};
use crate::codec::{Opened, Tag, Times, carried_tags};
use crate::error::Error;
use crate::invalidate::Ticket;
use crate::invalidate::epochs::Number;
use crate::invalidate::tags::{MAX_TAGS, Tags, check};
use crate::key::WireKey;
use crate::l1::{Hit, Typed};
use crate::tier::Tier;

/// The epoch of the namespace as it came with the entries that were asked for: `None` if it did not.
pub(super) type Own = Option<Option<Number>>;

/// Epochs that are written at the same time.
const IN_FLIGHT: usize = 16;
/// Attempts to create an epoch that others create too, before a number of one's own is used.
const ATTEMPTS: u32 = 4;

/// The epochs that a new entry carries. To be read before its value is loaded: what is invalidated meanwhile is then no
/// longer in force when it lands.
#[derive(Default)]
pub(super) struct Stamp<'a> {
    pub(super) namespace_epoch: u64,
    pub(super) tags: Vec<Tag<'a>>,
    /// The store could not say what one of them is: what carries it is for this process alone.
    pub(super) is_invented: bool,
}

/// An epoch as L1 has it.
#[derive(Debug, Clone, Copy)]
struct Kept {
    number: Number,
    /// The store did not say so: it was away.
    is_invented: bool,
}

/// An invalidation under way. However it ends, loads that began before it are not joined any more.
struct Invalidating<'a>(&'a Engine);

impl<'a> Invalidating<'a> {
    fn begin(engine: &'a Engine) -> Self {
        engine.flights.detach_all();
        Self(engine)
    }
}

impl Drop for Invalidating<'_> {
    fn drop(&mut self) {
        self.0.flights.detach_all();
    }
}

impl Cache {
    /// Makes every entry that was stored under `tag` in this namespace a miss, whoever stored it: one small write, however
    /// many entries there are. Nothing that was read, loaded or written before comes back through this process; others
    /// follow within the window that `docs/coherence.md` states for the store.
    ///
    /// # Errors
    /// [`Error::Tag`], and always [`Error::Backend`]: an invalidation that did not happen must not look like one that did.
    pub async fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<(), Error> {
        self.invalidate_tags(&[tag]).await
    }

    /// As [`Cache::invalidate_tag`], several at once.
    ///
    /// # Errors
    /// As [`Cache::invalidate_tag`]: the first failure, after all were tried.
    pub async fn invalidate_tags<T: AsRef<[u8]>>(&self, tags: &[T]) -> Result<(), Error> {
        self.check_open()?;
        tags.iter().try_for_each(|tag| check(tag.as_ref()))?;
        let places: Vec<At> =
            tags.iter().map(|tag| self.epoch_at(Some(&self.namespace.stored_tag(tag.as_ref())))).collect();
        let _invalidating = Invalidating::begin(&self.engine);
        let renewals: Vec<_> = places.iter().map(|at| self.renew(at)).collect();
        let answers: Vec<Result<(), Error>> = stream::iter(renewals).buffered(IN_FLIGHT).collect().await;
        self.near.counters.tags_invalidated.add_n(answers.iter().filter(|answer| answer.is_ok()).count() as u64);
        answers.into_iter().collect()
    }

    /// Makes every entry of this namespace in the store a miss, by its epoch.
    pub(super) async fn renew_namespace(&self) -> Result<(), Error> {
        self.renew(&self.epoch_at(None)).await
    }

    async fn renew(&self, at: &At) -> Result<(), Error> {
        self.publish(at, fresh()?, false).await.map(|_| ())
    }

    /// The tags of a write as entries carry them.
    pub(super) fn stored_tags<'a>(&self, tags: &'a Tags) -> Result<Cow<'a, Tags>, Error> {
        if tags.is_empty() || !self.namespace.hashes_keys() {
            return Ok(Cow::Borrowed(tags));
        }
        tags.check()?;
        let mut hashed = Tags::default();
        tags.iter().for_each(|tag| hashed.add(&self.namespace.stored_tag(tag)));
        Ok(Cow::Owned(hashed))
    }

    /// The epochs of `tags` as entries carry them, and of the namespace where entries carry that, as they are now.
    pub(super) async fn stamp<'a>(&self, tags: &'a Tags) -> Result<Stamp<'a>, Error> {
        let in_use = self.near.settings.namespace_epochs;
        if tags.is_empty() && !in_use {
            return Ok(Stamp::default());
        }
        tags.check()?;
        let names: Vec<Option<&[u8]>> = in_use.then_some(None).into_iter().chain(tags.iter().map(Some)).collect();
        let places: Vec<At> = names.iter().map(|name| self.epoch_at(*name)).collect();
        let kept: Vec<Option<Kept>> = places.iter().map(|at| self.kept(at)).collect();
        let known = |kept: &Option<Kept>| kept.filter(|kept| !kept.is_invented).map(|kept| kept.number);
        let mut numbers: Vec<Option<Number>> = kept.iter().map(known).collect();
        let mut stamp = Stamp::default();
        let missing: Vec<usize> = (0..places.len()).filter(|&at| numbers[at].is_none()).collect();
        if !missing.is_empty() {
            let asked: Vec<&At> = missing.iter().map(|&at| &places[at]).collect();
            let answers = match self.ask_epochs(&asked).await {
                Ok(answers) => answers.into_iter().map(Some).collect(),
                Err(error) if error.is_refusal() => self.readable_epochs(&asked).await?,
                Err(error) if self.near.settings.strict => return Err(error),
                // Nobody can say which epochs these are: the entry is for this process alone, as without a store.
                Err(_) => vec![None; missing.len()],
            };
            for (&at, answer) in missing.iter().zip(answers) {
                let Kept { number, is_invented } = match answer {
                    Some(Some(number)) => Kept { number, is_invented: false },
                    // Not another one, if there is one for this process alone: what carries that is in force from now on.
                    Some(None) => self.create(&places[at], kept[at].map(|kept| kept.number)).await?,
                    None => self.invent(&places[at])?,
                };
                numbers[at] = Some(number);
                stamp.is_invented |= is_invented;
            }
        }
        for (name, number) in names.into_iter().zip(numbers) {
            let epoch = number.map_or(0, |number| number.0);
            match name {
                Some(name) => stamp.tags.push(Tag { name, epoch }),
                None => stamp.namespace_epoch = epoch,
            }
        }
        Ok(stamp)
    }

    /// Whether nothing was invalidated since a stamp was read: as far as L1 knows, else as the store does.
    pub(super) async fn stamp_holds(&self, stamp: &Stamp<'_>) -> bool {
        let settings = &self.near.settings;
        let own = settings.namespace_epochs.then_some((None, stamp.namespace_epoch));
        let mut asked = Vec::new();
        for (name, epoch) in own.into_iter().chain(stamp.tags.iter().map(|tag| (Some(tag.name), tag.epoch))) {
            let at = self.epoch_at(name);
            match self.kept_epoch(&at).filter(|_| settings.use_l1) {
                Some(Number(kept)) if kept == epoch => {}
                Some(_) => return false,
                None => asked.push((at, epoch)),
            }
        }
        if asked.is_empty() {
            return true;
        }
        let places: Vec<&At> = asked.iter().map(|(at, _)| at).collect();
        // What nobody can tell does not hold.
        let Ok(numbers) = self.ask_epochs(&places).await else { return false };
        asked.iter().zip(numbers).all(|((_, epoch), number)| number == Some(Number(*epoch)))
    }

    /// The epochs of these one by one, because one of them must not be accepted: that one is replaced. A write looks at nothing
    /// of what was there but this, and must not be kept from landing by it for as long as an epoch lives.
    async fn readable_epochs(&self, places: &[&At]) -> Result<Vec<Option<Option<Number>>>, Error> {
        let mut numbers = Vec::with_capacity(places.len());
        for at in places {
            numbers.push(match self.ask_epochs(&[at]).await {
                Ok(answers) => Some(answers.first().copied().flatten()),
                Err(error) if error.is_refusal() => {
                    let kept = self.replace(at).await?;
                    (!kept.is_invented).then_some(Some(kept.number))
                }
                Err(error) if self.near.settings.strict => return Err(error),
                Err(_) => None,
            });
        }
        Ok(numbers)
    }

    /// Puts an epoch over one that nobody here can read. Counted among the refused ones by who asked for it; what carried it
    /// is out of force, as after an invalidation.
    async fn replace(&self, at: &At) -> Result<Kept, Error> {
        let number = fresh()?;
        match self.publish(at, number, false).await {
            Ok(_) => Ok(Kept { number, is_invented: false }),
            Err(error) if self.near.settings.strict => Err(error),
            Err(_) => self.invent(at),
        }
    }

    /// Gives something that has no epoch in the store its first, or takes that which another gave it meanwhile.
    async fn create(&self, at: &At, mut first: Option<Number>) -> Result<Kept, Error> {
        let known = |number| Ok(Kept { number, is_invented: false });
        for _ in 0..ATTEMPTS {
            let number = first.take().map_or_else(fresh, Ok)?;
            match self.publish(at, number, true).await {
                Ok(true) => return known(number),
                Ok(false) => {}
                Err(error) if self.near.settings.strict => return Err(error),
                Err(_) => return self.invent(at),
            }
            if let Some(kept) = self.kept(at).filter(|kept| !kept.is_invented) {
                return Ok(kept);
            }
            match self.ask_epochs(&[at]).await {
                Ok(answers) => match answers.first() {
                    Some(Some(number)) => return known(*number),
                    _ => continue,
                },
                Err(error) if error.is_refusal() => return self.replace(at).await,
                Err(error) if self.near.settings.strict => return Err(error),
                Err(_) => return self.invent(at),
            }
        }
        // There is one, and it was refused each time.
        self.replace(at).await
    }

    /// An epoch that the store does not have, for what will be in L1 alone.
    fn invent(&self, at: &At) -> Result<Kept, Error> {
        if let Some(kept) = self.kept(at) {
            return Ok(kept);
        }
        let number = fresh()?;
        let ticket = self.ticket(at).with_vouched(false);
        // No stored bytes: by that it is told from one that the store has.
        self.keep_epoch(at, number, ticket, Bytes::new());
        Ok(Kept { number, is_invented: true })
    }

    /// Puts an epoch into the store and into L1. With `if_none` not over another: `false`, then there is one.
    async fn publish(&self, at: &At, number: Number, if_none: bool) -> Result<bool, Error> {
        let engine = &*self.engine;
        let stored = number.stored(&engine.codec, &at.wire)?;
        self.overtake(at);
        let mine = self.ticket(at);
        let deadline = self.deadline();
        // After a failure, or if the caller goes away, L1 forgets the epoch: it must not be surer than the store.
        let unsettled = Unsettled { engine, at };
        let _turn = self.count_failure(self.turn(at, deadline, Operation::Set).await)?;
        if if_none && self.kept(at).is_some_and(|kept| !kept.is_invented) {
            unsettled.settle();
            return Ok(false);
        }
        if let Some(tier) = &engine.tier {
            let ttl = self.epoch_ttl();
            let created = match if_none && tier.has_cas() {
                true => tier.set_if(&at.wire, stored.clone(), ttl, None, deadline).await,
                // A number that nobody had before brings nothing back, whatever it overwrites: at worst entries miss.
                false => tier.set(&at.wire, stored.clone(), ttl, deadline).await.map(|()| true),
            };
            if !self.count_failure(created)? {
                unsettled.forget();
                return Ok(false);
            }
        }
        if let Some(settled) = unsettled.settle_as(mine) {
            self.keep_epoch(at, number, settled, stored);
        } else {
            engine.l1.remove(at.hash, at.wire.as_bytes());
        }
        Ok(true)
    }

    /// Whether nothing that L1 has was invalidated: `None` if L1 does not know.
    pub(super) fn tags_hold(&self, hit: &Hit) -> Option<bool> {
        let mut all_known = true;
        for tag in carried_tags(hit.stored())? {
            match self.kept_epoch(&self.epoch_at(Some(tag.name))) {
                Some(number) if number.0 == tag.epoch => {}
                Some(_) => return Some(false),
                None => all_known = false,
            }
        }
        all_known.then_some(true)
    }

    /// A hit, unless its tags do not hold or L1 cannot say: then the store has the last word.
    #[cold]
    pub(super) fn tagged_hit(&self, hit: Hit) -> Option<Hit> {
        match self.tags_hold(&hit) {
            Some(true) => Some(hit),
            held => {
                if held == Some(false) || self.engine.tier.is_none() {
                    self.near.counters.invalidated.add();
                    self.near.l1.remove_hit(&hit);
                }
                None
            }
        }
    }

    /// What L1 has and could not say of whether it is in force, if the store can: it is asked for the epochs alone.
    pub(super) async fn held_back(&self, at: &At) -> Result<Option<(Opened, Option<Hit>)>, Error> {
        let near = &*self.near;
        let held = || near.l1.peek(at.hash, at.wire.as_bytes(), near.writes.epoch(self.slot)).filter(Hit::is_tagged);
        let Some(hit) = near.settings.use_l1.then(held).flatten() else { return Ok(None) };
        if self.tags_hold(&hit).is_some() {
            return Ok(None);
        }
        let Some(opened) = self.opened(at.wire.as_bytes(), &hit) else { return Ok(None) };
        Ok(self.is_in_force(&opened, None).await?.then_some((opened, Some(hit))))
    }

    /// Whether an entry that the store returned is still in force.
    pub(super) async fn is_in_force(&self, opened: &Opened, own: Own) -> Result<bool, Error> {
        Ok(self.carries_no_epoch(opened) || self.in_force(&[opened], own).await? == [true])
    }

    fn carries_no_epoch(&self, opened: &Opened) -> bool {
        !self.near.settings.namespace_epochs && opened.envelope().tag_count() == 0
    }

    /// The same for several, with one question to the store for all of them together. `own`: the epoch of the namespace, if
    /// it came with the entries.
    pub(super) async fn in_force(&self, entries: &[&Opened], own: Own) -> Result<Vec<bool>, Error> {
        let in_use = self.near.settings.namespace_epochs;
        if entries.iter().all(|opened| self.carries_no_epoch(opened)) {
            return Ok(vec![true; entries.len()]);
        }
        // What L1 does not know, or knows otherwise: the entry may be newer than what L1 knows.
        let mut asked: Vec<At> = Vec::new();
        let mut places: HashMap<Box<[u8]>, usize> = HashMap::new();
        let mut doubts: Vec<Vec<(usize, u64)>> = Vec::with_capacity(entries.len());
        let mut is_current = Vec::with_capacity(entries.len());
        for opened in entries {
            let mut doubted = Vec::new();
            let epoch = opened.meta().namespace_epoch;
            is_current.push(own.is_none_or(|own| own == Some(Number(epoch))));
            let asks_own = in_use && own.is_none();
            let own = asks_own.then_some((None, epoch));
            let plausible = are_plausible(opened);
            let tags = opened.envelope().tags().filter(|_| plausible).map(|tag| (Some(tag.name), tag.epoch));
            for (name, epoch) in own.into_iter().chain(tags) {
                let at = self.epoch_at(name);
                let kept = self.kept_epoch(&at).filter(|_| self.near.settings.use_l1);
                if kept == Some(Number(epoch)) {
                    continue;
                }
                let place = *places.entry(at.wire.as_bytes().into()).or_insert(asked.len());
                if place == asked.len() {
                    asked.push(at);
                }
                doubted.push((place, epoch));
            }
            doubts.push(doubted);
        }
        let numbers = match asked.is_empty() {
            true => Vec::new(),
            false => match self.ask_epochs(&asked.iter().collect::<Vec<_>>()).await {
                Ok(numbers) => numbers,
                Err(error) if self.near.settings.strict || error.is_refusal() => return Err(error),
                // Nobody can say that they are in force, so they are not.
                Err(_) => vec![None; asked.len()],
            },
        };
        let holds = |(place, epoch): &(usize, u64)| numbers.get(*place).copied().flatten() == Some(Number(*epoch));
        let answers = entries.iter().zip(&doubts).zip(is_current).map(|((opened, doubted), is_current)| {
            let in_force = is_current && are_plausible(opened) && doubted.iter().all(holds);
            if !in_force {
                self.near.counters.invalidated.add();
            }
            in_force
        });
        Ok(answers.collect())
    }

    /// Asks the store for an entry, and along with it for the epoch of the namespace if that is wanted and not known.
    pub(super) async fn ask(
        &self,
        tier: &Tier,
        at: &At,
        deadline: Deadline,
    ) -> Result<(Option<Bytes>, Own), BackendError> {
        if let Some(accepted) = self.near.pending.find(at.wire.as_bytes()) {
            return Ok((Some(accepted), None));
        }
        if !self.wants_own() {
            return Ok((tier.get(&at.wire, deadline).await?, None));
        }
        let (mut answers, own) = self.ask_with_epoch(tier, &[&at.wire], deadline).await?;
        let Some(answer) = answers.pop() else { return Err(BackendError::timeout(Operation::GetMany)) };
        Ok((answer?, own))
    }

    /// The same for several.
    pub(super) async fn ask_with_epoch(
        &self,
        tier: &Tier,
        wires: &[&WireKey],
        deadline: Deadline,
    ) -> Result<(Answers<Option<Bytes>>, Own), BackendError> {
        if !self.wants_own() {
            return Ok((tier.get_many(wires, deadline).await?, None));
        }
        let at = self.epoch_at(None);
        let ticket = self.ticket(&at);
        let asked: Vec<&WireKey> = wires.iter().copied().chain([&at.wire]).collect();
        let mut answers = tier.get_many(&asked, deadline).await?;
        // What is no epoch, or did not come, is as good as missing: the entries are misses.
        let own = answers.pop().and_then(Result::ok).and_then(|stored| self.accept_epoch(&at, stored, ticket).ok()?);
        Ok((answers, Some(own)))
    }

    /// Whether the epoch of the namespace has to be asked for with the next entry.
    fn wants_own(&self) -> bool {
        let settings = &self.near.settings;
        settings.namespace_epochs && (!settings.use_l1 || self.kept_epoch(&self.epoch_at(None)).is_none())
    }

    /// Asks the store for epochs, in one exchange, and keeps them in L1. `None`: there is none.
    async fn ask_epochs(&self, places: &[&At]) -> Result<Vec<Option<Number>>, Error> {
        let Some(tier) = &self.engine.tier else { return Ok(vec![None; places.len()]) };
        self.near.counters.epoch_reads.add();
        let tickets: Vec<Ticket> = places.iter().map(|at| self.ticket(at)).collect();
        let deadline = self.deadline();
        let answers = match places {
            [at] => vec![Ok(self.count_failure(tier.get(&at.wire, deadline).await)?)],
            _ => {
                let wires: Vec<&WireKey> = places.iter().map(|at| &at.wire).collect();
                self.count_failure(tier.get_many(&wires, deadline).await)?
            }
        };
        let mut numbers = Vec::with_capacity(places.len());
        for ((at, ticket), answer) in places.iter().zip(tickets).zip(answers) {
            numbers.push(self.accept_epoch(at, self.count_failure(answer)?, ticket)?);
        }
        Ok(numbers)
    }

    /// What the store has under the key of an epoch, kept in L1. What is none is as good as missing.
    pub(super) fn accept_epoch(&self, at: &At, stored: Option<Bytes>, ticket: Ticket) -> Result<Option<Number>, Error> {
        let Some(stored) = stored else {
            // Another process would take it for a new one, so this one does too.
            self.near.writes.keep_if_still(at.hash, ticket, || self.near.l1.remove(at.hash, at.wire.as_bytes()));
            return Ok(None);
        };
        let Some(number) = self.judge(Number::read(&self.engine.codec, &at.wire, &stored))? else { return Ok(None) };
        self.reseal_epoch_if_due(at, &stored);
        self.keep_epoch(at, number, ticket, stored);
        Ok(Some(number))
    }

    /// Puts the epoch that the store has into it again, under the current master key, if nobody changes it meanwhile. What L1
    /// has of it stays right: it is the same number.
    pub(super) async fn rewrite_epoch(&self, tier: &Tier, at: &At, deadline: Deadline) -> Result<bool, Error> {
        let found = self.count_failure(tier.get_version(&at.wire, deadline).await)?;
        let Some((stored, version)) = found else { return Ok(false) };
        let codec = &self.engine.codec;
        let Some(number) = self.judge(Number::read(codec, &at.wire, &stored))? else { return Ok(false) };
        let stored = number.stored(codec, &at.wire)?;
        self.count_failure(tier.set_if(&at.wire, stored, self.epoch_ttl(), Some(version), deadline).await)
            .map_err(Error::from)
    }

    fn keep_epoch(&self, at: &At, number: Number, ticket: Ticket, stored: Bytes) {
        let near = &*self.near;
        let (epoch, life) = self.life(Times::default(), b"", ticket);
        let typed: Typed = Arc::new(number);
        let reserve = size_of::<Number>() as u64;
        let kept = near.writes.keep_if_still(at.hash, ticket, || {
            near.l1.insert_deferring_drops(at.hash, at.wire.as_bytes(), epoch, stored, life, Some(typed), reserve)
        });
        drop(kept);
    }

    /// The epoch that L1 has of a tag, or of the namespace.
    fn kept_epoch(&self, at: &At) -> Option<Number> {
        self.kept(at).map(|kept| kept.number)
    }

    fn kept(&self, at: &At) -> Option<Kept> {
        let near = &*self.near;
        let hit = near.l1.peek(at.hash, at.wire.as_bytes(), near.writes.epoch(self.slot))?;
        hit.typed::<Number>().map(|number| Kept { number: *number, is_invented: hit.stored().is_empty() })
    }

    /// Where the epoch of a tag is (as entries carry it), or that of the namespace.
    pub(super) fn epoch_at(&self, tag: Option<&[u8]>) -> At {
        let wire = match tag {
            Some(tag) => self.namespace.tag_epoch(tag),
            None => self.namespace.own_epoch(),
        };
        let hash = self.near.l1.hash(wire.as_bytes());
        At { wire, hash }
    }

    /// The store keeps an epoch for longer than entries usually live, and not for ever: tags come and go by the million.
    fn epoch_ttl(&self) -> Ttl {
        let ms = u64::try_from(self.near.settings.epoch_ttl.as_millis()).unwrap_or(u64::MAX);
        Ttl::from_ms(ms).unwrap_or(Ttl::Never)
    }
}

/// Whether somebody may have written these tags. An entry is not trusted, and each of them costs a question to the store.
pub(super) fn are_plausible(opened: &Opened) -> bool {
    opened.envelope().tag_count() <= MAX_TAGS && opened.envelope().tags().all(|tag| check(tag.name).is_ok())
}

fn fresh() -> Result<Number, Error> {
    let none = "the operating system gave no random bytes for an epoch";
    Number::fresh().ok_or_else(|| BackendError::new(Kind::Internal, Operation::Set, none).into())
}
