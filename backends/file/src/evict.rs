//! Keeping the directory within its limits.
//!
//! The family's rule: beyond 90 % of either limit the entries that were written longest ago go, until both are at 70 %;
//! the one just written stays. Reads leave no trace, so "longest ago" means written or renewed. Unlike Python, which
//! counts and deletes any file without a leading dot, only names that can be entries are counted and deleted, and only
//! names that can be temporaries or leases are swept (`sweep`, `locks`): a directory named by mistake loses nothing.
//!
//! One process evicts at a time, marked by a lock on `.evict`; the others go on writing. If that one is stopped in the
//! middle, they do its work themselves once the directory is 95 % full: evicting twice at once is wasteful, not wrong.

use std::sync::PoisonError;
use std::time::Duration;

use cachekit_plugin::Deadline;
use rustix::fs::OFlags;

use crate::account::{Knowledge, Totals};
use crate::client::{FileId, Handle, Locked, file_id, is_plain};
use crate::entry::Name;
use crate::error::FileError;
use crate::store::Store;
use crate::sweep::{Temporary, modified};
use crate::{listing, locks, stripe, sweep};

const BEGIN_PERCENT: u64 = 90;
const URGENT_PERCENT: u64 = 95;
const END_PERCENT: u64 = 70;
/// Entries removed by one write even when its deadline has passed.
const MIN_EVICTED: usize = 64;

/// An entry that may go.
struct Victim {
    modified: Duration,
    name: Name,
    id: FileId,
    size: u64,
}

impl Store {
    /// Before a write: looks at the directory if it is time, and refuses a new entry where there is no room for one.
    pub(crate) fn admit(&self, handle: &Handle, name: &Name, deadline: Deadline) -> Result<(), FileError> {
        let max = self.account.limits.count;
        match self.account.knowledge(self.now()) {
            Knowledge::Stale => self.relieve(handle, name, true, deadline)?,
            Knowledge::About(totals) if totals.count >= max => self.relieve(handle, name, true, deadline)?,
            Knowledge::About(_) => return Ok(()),
        }
        let is_new = || handle.lstat(name.as_str()).is_ok_and(|found| found.is_none());
        if self.account.totals().count >= max && is_new() { Err(FileError::Full { max }) } else { Ok(()) }
    }

    /// After a write: evicts if the directory is too full. The write is done, so a failure here is only logged.
    pub(crate) fn settle(&self, handle: &Handle, written: &Name, deadline: Deadline) {
        let Knowledge::About(totals) = self.account.knowledge(self.now()) else { return };
        if !totals.above(BEGIN_PERCENT, self.account.limits) {
            return;
        }
        let urgent = totals.above(URGENT_PERCENT, self.account.limits);
        if let Err(error) = self.relieve(handle, written, urgent, deadline) {
            self.warn("old entries could not be evicted", &error);
        }
    }

    /// Looks at the directory, and evicts down to 70 % if it is over 90 %. If it is not urgent and somebody else is at
    /// it, leaves it to them.
    fn relieve(&self, handle: &Handle, spare: &Name, urgent: bool, deadline: Deadline) -> Result<(), FileError> {
        // A thread of our own that is at it makes progress, so it may be waited for; another process may be stopped.
        let _gate = if urgent {
            self.account.gate.lock().unwrap_or_else(PoisonError::into_inner)
        } else {
            let Ok(gate) = self.account.gate.try_lock() else { return Ok(()) };
            gate
        };
        let lock = mark(handle);
        if lock.is_none() && !urgent {
            return Ok(());
        }
        // Whoever held the gate before us may have done it.
        let limits = self.account.limits;
        let still = match self.account.knowledge(self.now()) {
            Knowledge::Stale => self.survey(handle)?,
            Knowledge::About(totals) if totals.above(BEGIN_PERCENT, limits) => self.survey(handle)?,
            Knowledge::About(totals) => totals,
        };
        if still.above(BEGIN_PERCENT, limits) { self.evict(handle, spare, still.count, deadline) } else { Ok(()) }
    }

    /// Counts the entries, and sweeps on the way.
    pub(crate) fn survey(&self, handle: &Handle) -> Result<Totals, FileError> {
        let began = self.now();
        let length = self.account.begin_survey(handle);
        let mut found = Totals::default();
        listing::each(handle, |bytes, _| {
            if let Some(name) = Name::parse(bytes) {
                if let Ok(Some(stat)) = handle.lstat(name.as_str())
                    && is_plain(&stat)
                {
                    found.count += 1;
                    found.bytes += stat.st_size as u64;
                }
            } else if let Ok(name) = std::str::from_utf8(bytes) {
                if let Some(whose) = Temporary::parse(bytes) {
                    sweep::temporary(handle, whose, name, began);
                } else if locks::is_lease(bytes) {
                    locks::sweep(handle, name, began);
                }
            }
            Ok(())
        })?;
        self.account.end_survey(found, length, began, self.now());
        Ok(found)
    }

    fn evict(&self, handle: &Handle, spare: &Name, about: u64, deadline: Deadline) -> Result<(), FileError> {
        // Twice the limit bounds the memory where writers without limits have overfilled the directory: what does not
        // fit waits for the next round.
        let most = self.account.limits.count as usize * 2;
        let mut victims = Vec::with_capacity((about as usize).min(most));
        // Counted again: another process may have evicted since, and what it removed must not be removed twice over.
        let mut totals = Totals::default();
        listing::each(handle, |bytes, _| {
            if let Some(name) = Name::parse(bytes)
                && let Ok(Some(stat)) = handle.lstat(name.as_str())
                && is_plain(&stat)
            {
                let (modified, id, size) = (modified(&stat), file_id(&stat), stat.st_size as u64);
                totals.count += 1;
                totals.bytes += size;
                if victims.len() < most && name != *spare {
                    victims.push(Victim { modified, name, id, size });
                }
            }
            Ok(())
        })?;
        victims.sort_unstable_by_key(|victim| (victim.modified, victim.name));
        for (index, victim) in victims.into_iter().enumerate() {
            // The caller waits. Some progress is always made, and the next write goes on from there.
            if index % MIN_EVICTED == MIN_EVICTED - 1 && deadline.has_passed() {
                break;
            }
            if !totals.above(END_PERCENT, self.account.limits) {
                break;
            }
            let outcome = remove(handle, &victim)?;
            if outcome != Outcome::Stays {
                totals.count = totals.count.saturating_sub(1);
                totals.bytes = totals.bytes.saturating_sub(victim.size);
            }
            if outcome == Outcome::Removed {
                self.account.removed(victim.size);
            }
        }
        Ok(())
    }
}

/// What became of a victim.
#[derive(PartialEq, Eq)]
enum Outcome {
    Removed,
    /// Somebody else removed it.
    Gone,
    Stays,
}

/// Removes a victim unless it was written or renewed since it was chosen.
fn remove(handle: &Handle, victim: &Victim) -> Result<Outcome, FileError> {
    // Without the stripe a write could come between comparing and removing, and a fresh value would go.
    let Some(_stripe) = stripe::try_exclusive(handle, &victim.name) else { return Ok(Outcome::Stays) };
    let name = victim.name.as_str();
    match handle.lstat(name).map_err(FileError::file("examine an entry"))? {
        None => Ok(Outcome::Gone),
        Some(stat) if file_id(&stat) == victim.id && modified(&stat) == victim.modified => match handle.unlink(name) {
            Ok(true) => Ok(Outcome::Removed),
            Ok(false) => Ok(Outcome::Gone),
            // A file that cannot be removed must not keep the others from going.
            Err(_) => Ok(Outcome::Stays),
        },
        Some(_) => Ok(Outcome::Stays),
    }
}

/// Marks this process as the one that evicts; `None` if another is.
fn mark(handle: &Handle) -> Option<Locked> {
    Locked::now(handle.open_own(".evict", OFlags::RDONLY).ok()?, true).ok()
}
