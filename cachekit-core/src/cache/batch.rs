//! Several keys in one exchange with the second tier.

use std::sync::Arc;

use bytes::Bytes;
use cachekit_plugin::{BackendError, Operation, Ttl};
use serde::Serialize;

use super::{At, Cache, Entry, SetOptions, Unsettled, Value, new_entry};
use crate::error::Error;
use crate::guard::deadline::within;
use crate::invalidate::Ticket;
use crate::key::WireKey;

impl Cache {
    /// The values of `keys`, in their order. Only what L1 does not have is asked of the second tier, in one exchange
    /// where it can.
    ///
    /// # Errors
    /// As [`Cache::get`].
    pub async fn get_many<T: Value, K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Arc<T>>>, Error> {
        let engine = &*self.engine;
        let places = keys.iter().map(|key| self.at(key.as_ref())).collect::<Result<Vec<At>, Error>>()?;
        let mut values: Vec<Option<Arc<T>>> =
            places.iter().map(|at| self.typed(at.wire.as_bytes(), self.l1_hit(at)?)).collect();
        let Some(tier) = &engine.tier else { return Ok(values) };
        let missing: Vec<usize> = (0..places.len()).filter(|&i| values[i].is_none()).collect();
        if missing.is_empty() {
            return Ok(values);
        }
        let tickets: Vec<_> = missing.iter().map(|&i| self.ticket(&places[i])).collect();
        let deadline = self.deadline();
        // What waits to be written is newer than what the store has, and is there also while that is not.
        let waiting: Vec<Option<Bytes>> =
            missing.iter().map(|&i| engine.pending.find(places[i].wire.as_bytes())).collect();
        let asked = missing.iter().zip(&waiting).filter(|(_, waiting)| waiting.is_none());
        let wires: Vec<&WireKey> = asked.map(|(&i, _)| &places[i].wire).collect();
        let answers = match wires.is_empty() {
            true => Ok((Vec::new(), None)),
            false => self.count_failure(self.ask_with_epoch(tier, &wires, deadline).await),
        };
        let (answers, own) = match answers {
            Ok((answers, own)) => (Some(answers), own),
            Err(error) if engine.settings.strict => return Err(error.into()),
            Err(_) => (None, None),
        };
        let mut answers = answers.into_iter().flatten();
        let mut opened = Vec::with_capacity(missing.len());
        let mut admitted = Vec::with_capacity(missing.len());
        for ((&i, ticket), waiting) in missing.iter().zip(tickets).zip(waiting) {
            let stored = match waiting {
                Some(waiting) => Some(waiting),
                None => match answers.next().map(|answer| self.count_failure(answer)) {
                    Some(Ok(stored)) => stored,
                    Some(Err(error)) if engine.settings.strict => return Err(error.into()),
                    Some(Err(_)) | None => {
                        admitted.push((i, self.in_outage(&places[i])));
                        continue;
                    }
                },
            };
            let read = match self.read_answer(tier, &places[i], stored, deadline).await {
                Ok(read) => read,
                Err(error) if engine.settings.strict => return Err(error.into()),
                Err(_) => {
                    admitted.push((i, self.in_outage(&places[i])));
                    continue;
                }
            };
            if let Some((stored, entry)) = self.open_stored(&places[i], read)? {
                opened.push((i, ticket, stored, entry));
            }
        }
        let in_force = self.in_force(&opened.iter().map(|(.., entry)| entry).collect::<Vec<_>>(), own).await?;
        for ((i, ticket, stored, opened), in_force) in opened.into_iter().zip(in_force) {
            admitted.push((i, self.admit(&places[i], stored, opened, ticket, in_force)));
        }
        for (i, found) in admitted {
            let Some((opened, hit)) = found else { continue };
            let Some(value) = self.judge(opened.decode::<T>())? else { continue };
            let value = Arc::new(value);
            if let Some(hit) = hit {
                hit.attach_typed(Arc::clone(&value));
            }
            values[i] = Some(value);
        }
        Ok(values)
    }

    /// Stores several values. A key that stands twice ends with its last value.
    ///
    /// # Errors
    /// As [`Cache::set_with`]; nothing is written if any key or value cannot be. In a strict cache the first failure of
    /// the store is returned after all were tried.
    pub async fn set_many<T: Serialize, K: AsRef<[u8]>>(
        &self,
        items: &[(K, T)],
        options: SetOptions,
    ) -> Result<(), Error> {
        let engine = &*self.engine;
        let times = self.times(&options)?;
        let tags = self.stored_tags(&options.tags)?;
        let stamp = self.stamp(&tags).await?;
        let mut entries: Vec<(At, Entry)> = Vec::with_capacity(items.len());
        for (key, value) in items {
            let at = self.at(key.as_ref())?;
            let stored = engine.codec.encode(&new_entry(&at, times, 0, &stamp), value)?;
            if let Some(max) = engine.tier.as_ref().map(|tier| tier.limits().max_value)
                && stored.len() as u64 > max
            {
                return Err(Error::TooLarge { size: stored.len() as u64, max });
            }
            entries.push((at, Entry { stored, times, typed: None, decodes: true }));
        }
        for (at, _) in &entries {
            self.overtake(at);
        }
        let mine: Vec<Ticket> = entries.iter().map(|(at, _)| self.ticket(at)).collect();
        let deadline = self.deadline();
        let turns = engine.writes.turns(self.slot, entries.iter().map(|(at, _)| at.hash));
        let turns = within(deadline, Operation::SetMany, async { Ok(turns.await) }).await;
        // Until the outcome is known, every way out of here makes L1 forget these keys.
        let unsettled: Vec<Unsettled<'_>> = entries.iter().map(|(at, _)| Unsettled { engine, at }).collect();
        let turns = self.count_failure(turns);
        let accepted = engine.pending.mark();
        engine.counters.sets.add_n(entries.len() as u64);
        let (landed, written): (bool, Vec<Option<BackendError>>) = match (&engine.tier, turns) {
            (Some(tier), Ok(_turns)) => {
                self.offer_dictionary(tier, deadline).await;
                let ttl = times.ttl(engine.clock.unix_ms());
                let batch: Vec<(&WireKey, Bytes, Ttl)> =
                    entries.iter().map(|(at, entry)| (&at.wire, entry.stored.clone(), ttl)).collect();
                match self.count_failure(tier.set_many(&batch, deadline).await) {
                    Ok(answers) => (true, answers.into_iter().map(|answer| self.count_failure(answer).err()).collect()),
                    Err(error) if engine.settings.strict => return Err(error.into()),
                    Err(_) => {
                        engine.counters.sets_l1_only.add_n(entries.len() as u64);
                        (false, Vec::new())
                    }
                }
            }
            (Some(_), Err(error)) if engine.settings.strict => return Err(error.into()),
            (Some(_), Err(_)) => {
                engine.counters.sets_l1_only.add_n(entries.len() as u64);
                (false, Vec::new())
            }
            (None, _) => (true, Vec::new()),
        };
        for (at, unsettled) in unsettled.iter().enumerate() {
            if !landed || written.get(at).is_some_and(Option::is_some) {
                unsettled.doubt();
            }
        }
        // From the last on, which is what a key that stands twice ends with.
        for (place, (at, entry)) in entries.iter().enumerate().rev() {
            if landed && written.get(place).is_none_or(Option::is_none) {
                engine.pending.supersede(at.wire.as_bytes(), accepted);
            } else if !engine.settings.strict && !stamp.is_invented {
                self.wait_instead(at, entry, accepted);
            }
        }
        let settled = engine.writes.settle_many(entries.iter().zip(mine).map(|((at, _), mine)| (at.hash, mine)));
        unsettled.into_iter().for_each(Unsettled::settled);
        let mut failures = written.into_iter().chain(std::iter::repeat_with(|| None));
        let mut first_failure = None;
        for ((at, entry), settled) in entries.into_iter().zip(settled) {
            let failure = failures.next().flatten();
            if failure.is_some() {
                engine.counters.sets_l1_only.add();
            }
            if failure.is_some() && engine.settings.strict {
                engine.l1.remove(at.hash, at.wire.as_bytes());
            } else {
                // What the store may not have, nobody tells the end of.
                let landed = landed && failure.is_none();
                let settled = settled.map(|settled| settled.with_vouched(settled.vouched && landed));
                self.keep(&at, entry, settled);
            }
            first_failure = first_failure.or(failure);
        }
        match first_failure {
            Some(error) if engine.settings.strict => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes several keys and returns how many there were.
    ///
    /// # Errors
    /// As [`Cache::delete`]: the first failure, after all were tried.
    pub async fn delete_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<u64, Error> {
        let engine = &*self.engine;
        let places = keys.iter().map(|key| self.at(key.as_ref())).collect::<Result<Vec<At>, Error>>()?;
        engine.counters.deletes.add_n(places.len() as u64);
        for at in &places {
            self.overtake(at);
        }
        let deadline = self.deadline();
        let turns = engine.writes.turns(self.slot, places.iter().map(|at| at.hash));
        let unsettled: Vec<Unsettled<'_>> = places.iter().map(|at| Unsettled { engine, at }).collect();
        let turns = within(deadline, Operation::DeleteMany, async { Ok(turns.await) }).await;
        let _turns = self.count_failure(turns)?;
        let accepted = engine.pending.mark();
        let mut waited = vec![false; places.len()];
        let wires: Vec<&WireKey> = places.iter().map(|at| &at.wire).collect();
        let answers = match &engine.tier {
            Some(tier) => Some(self.count_failure(tier.delete_many(&wires, deadline).await)),
            None => None,
        };
        for (at, unsettled) in unsettled.into_iter().enumerate() {
            match &answers {
                Some(Err(_)) => drop(unsettled),
                Some(Ok(answers)) if answers.get(at).is_some_and(Result::is_err) => drop(unsettled),
                _ => {
                    waited[at] = engine.pending.supersede(unsettled.at.wire.as_bytes(), accepted);
                    unsettled.settle();
                }
            }
        }
        let in_l1 = places.iter().filter(|at| engine.l1.remove(at.hash, at.wire.as_bytes())).count() as u64;
        let Some(answers) = answers else { return Ok(in_l1) };
        let mut deleted = 0;
        let mut first_failure = None;
        for (answer, waited) in answers?.into_iter().zip(waited) {
            match self.count_failure(answer) {
                Ok(yes) => deleted += u64::from(yes || waited),
                Err(error) => first_failure = first_failure.or(Some(error)),
            }
        }
        first_failure.map_or(Ok(deleted), |error| Err(error.into()))
    }
}
