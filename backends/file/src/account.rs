//! How full the directory is, known well enough without looking each time.
//!
//! Looking means a `stat` of every entry, so the family counts in the process and looks again every 30 s. With several
//! writers that is not enough: four processes that each see only their own writes fill the directory to three times its
//! limit before one of them looks. So growth is shared through the *length* of a file, `.tally`: whoever has written
//! another half percent of the limits appends one byte, and everybody reads the length (one `fstat`, 0.3 µs) with each
//! write. No lock, nothing to hold, nothing that a stopped process could keep from the others. Python writers do not
//! append; what they write is seen at the next look.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::OFlags;

use crate::client::{Handle, is_plain};

/// Growth is told in steps of 1/200 of each limit.
const STEPS: u64 = 200;
/// The tally starts anew beyond this length, bytes: that is after 5000 turnovers of the whole directory.
const MAX_TALLY: u64 = 1 << 20;
/// The family's interval between two looks.
const SURVEY_EVERY: Duration = Duration::from_secs(30);

/// Number and size of the entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) count: u64,
    /// Headers included.
    pub(crate) bytes: u64,
}

impl Totals {
    /// Whether either is above `percent` of its limit.
    pub(crate) fn above(self, percent: u64, limits: Totals) -> bool {
        let over = |value: u64, limit: u64| u128::from(value) * 100 > u128::from(limit) * u128::from(percent);
        over(self.count, limits.count) || over(self.bytes, limits.bytes)
    }
}

pub(crate) struct Account {
    pub(crate) limits: Totals,
    count: AtomicU64,
    bytes: AtomicU64,
    shared: Mutex<Shared>,
    tally: RwLock<Option<Arc<OwnedFd>>>,
    /// Held by the thread that looks or evicts.
    pub(crate) gate: Mutex<()>,
}

#[derive(Default)]
struct Shared {
    /// Growth not yet told to the others.
    untold: Totals,
    /// Bytes we appended since the last look.
    told: u64,
    /// Length of the tally at the last look.
    length: u64,
    /// When the next look is due; `None` before the first one.
    next_survey: Option<Duration>,
    last_survey: Duration,
}

/// What is known without looking.
pub(crate) enum Knowledge {
    /// Nothing, or too little, or it is too old: look.
    Stale,
    About(Totals),
}

impl Account {
    pub(crate) fn new(max_bytes: u64, max_count: u64) -> Self {
        Self {
            limits: Totals { count: max_count, bytes: max_bytes },
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            shared: Mutex::default(),
            tally: RwLock::default(),
            gate: Mutex::default(),
        }
    }

    /// An entry of `new` bytes was written over one of `old`.
    pub(crate) fn added(&self, old: Option<u64>, new: u64) {
        match old {
            None => drop(self.count.fetch_add(1, Ordering::Relaxed)),
            Some(old) => subtract(&self.bytes, old),
        }
        self.bytes.fetch_add(new, Ordering::Relaxed);
        let steps = {
            let mut shared = self.shared();
            shared.untold.count += u64::from(old.is_none());
            shared.untold.bytes += new.saturating_sub(old.unwrap_or(0));
            let step = self.step();
            let steps = (shared.untold.count / step.count).max(shared.untold.bytes / step.bytes);
            // One step tells of both, so both are taken off.
            shared.untold.count = shared.untold.count.saturating_sub(steps * step.count);
            shared.untold.bytes = shared.untold.bytes.saturating_sub(steps * step.bytes);
            shared.told += steps;
            steps
        };
        if steps > 0
            && let Some(tally) = self.tally()
        {
            // Not being able to tell makes the others look later, no more.
            let _ = rustix::io::write(&*tally, &vec![b'.'; steps.min(STEPS) as usize]);
        }
    }

    /// An entry of `bytes` was removed.
    pub(crate) fn removed(&self, bytes: u64) {
        subtract(&self.count, 1);
        subtract(&self.bytes, bytes);
    }

    /// Our own count plus what the others told since we looked.
    pub(crate) fn knowledge(&self, now: Duration) -> Knowledge {
        let (length, told) = {
            let shared = self.shared();
            // A clock that was set back must not postpone the next look.
            if shared.next_survey.is_none_or(|next| now >= next) || now < shared.last_survey {
                return Knowledge::Stale;
            }
            (shared.length, shared.told)
        };
        let foreign = match self.tally() {
            None => 0,
            Some(tally) => match rustix::fs::fstat(&*tally) {
                // Removed or begun anew: what the others wrote is not known.
                Ok(stat) if stat.st_nlink == 0 || (stat.st_size as u64) < length => return Knowledge::Stale,
                Ok(stat) => (stat.st_size as u64 - length).saturating_sub(told),
                Err(_) => 0,
            },
        };
        let (own, step) = (self.totals(), self.step());
        Knowledge::About(Totals {
            count: own.count.saturating_add(foreign.saturating_mul(step.count)),
            bytes: own.bytes.saturating_add(foreign.saturating_mul(step.bytes)),
        })
    }

    /// Our own count.
    pub(crate) fn totals(&self) -> Totals {
        Totals { count: self.count.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Opens the tally that the directory has now, before a look; what is told from here on counts as news.
    pub(crate) fn begin_survey(&self, handle: &Handle) -> u64 {
        let opened = handle
            .open_own(".tally", OFlags::RDWR | OFlags::APPEND)
            .ok()
            .and_then(|fd| Some((rustix::fs::fstat(&fd).ok().filter(is_plain)?.st_size as u64, fd)));
        let Some((length, fd)) = opened else {
            *self.tally.write().unwrap_or_else(PoisonError::into_inner) = None;
            return 0;
        };
        let begun_anew = length > MAX_TALLY && rustix::fs::ftruncate(&fd, 0).is_ok();
        *self.tally.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(fd));
        if begun_anew { 0 } else { length }
    }

    /// A look that began at `began` and ended at `now` found this.
    pub(crate) fn end_survey(&self, found: Totals, length: u64, began: Duration, now: Duration) {
        self.count.store(found.count, Ordering::Relaxed);
        self.bytes.store(found.bytes, Ordering::Relaxed);
        // At most one percent of the time is spent looking, however large the directory is.
        let pause = SURVEY_EVERY.max(now.saturating_sub(began).saturating_mul(100));
        *self.shared() = Shared {
            untold: Totals::default(),
            told: 0,
            length,
            next_survey: Some(now.saturating_add(pause)),
            last_survey: now,
        };
    }

    /// Makes the next writer look.
    pub(crate) fn forget(&self) {
        self.shared().next_survey = None;
    }

    fn step(&self) -> Totals {
        Totals { count: (self.limits.count / STEPS).max(1), bytes: (self.limits.bytes / STEPS).max(1) }
    }

    fn tally(&self) -> Option<Arc<OwnedFd>> {
        self.tally.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters may lag behind the directory, but must not wrap.
fn subtract(counter: &AtomicU64, value: u64) {
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(value)));
}
