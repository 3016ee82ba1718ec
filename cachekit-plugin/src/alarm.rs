//! Deadlines of many calls at once, nearly all of which end long before: cheap to set and to take back, seldom due.
//!
//! A runtime's timer takes a lock and an allocation for each call. Here a call writes its deadline and its waker into a
//! free slot of a static table and clears it when it ends. One thread looks through the table every few milliseconds while
//! anything is in it, and sleeps while nothing is. Callers share no lock, so that a child made by `fork()` finds none that
//! is held for ever; it starts a thread of its own.

use std::cell::RefCell;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;
use std::time::Duration;

use crate::cx::{Deadline, monotonic_ns};
use crate::fork;

/// Calls that can wait at the same time. A slot takes 64 bytes, and memory only once it was used.
const SLOTS: usize = 16_384;
/// Slots that a call looks at before it gives up.
const PROBES: usize = 1024;
/// How long the thread sleeps while something is set. What is due earlier wakes it.
const TICK_NS: u64 = 5_000_000;
/// Looks at an empty table before the thread sleeps without an end: callers in a row need not wake it each time.
const EMPTY_LOOKS: u32 = 100;
const NEVER_NS: u64 = u64::MAX;

const FREE: u8 = 0;
/// Somebody is writing it.
const TAKEN: u8 = 1;
const SET: u8 = 2;
const RUNG: u8 = 3;

#[repr(align(64))]
struct Slot {
    state: AtomicU8,
    /// Written under the lock.
    due_ns: AtomicU64,
    /// Shared by whoever set it and the thread, each for no longer than it takes to copy a waker.
    waker: Mutex<Option<Waker>>,
}

static TABLE: [Slot; SLOTS] =
    [const { Slot { state: AtomicU8::new(FREE), due_ns: AtomicU64::new(NEVER_NS), waker: Mutex::new(None) } }; SLOTS];
/// No slot from here on was ever used.
static USED: AtomicUsize = AtomicUsize::new(0);

/// An alarm that is set, until it is dropped.
#[derive(Debug)]
pub struct Alarm {
    at: usize,
    generation: u32,
}

impl Alarm {
    /// Has `waker` called when `deadline` passes, at most a few milliseconds later. `None` if that cannot be done: too many
    /// alarms are set, or the system gives no thread.
    pub fn set(deadline: Deadline, waker: &Waker) -> Option<Self> {
        let generation = fork::generation();
        if RINGER.generation.load(Ordering::Acquire) != generation.wrapping_add(1) && !RINGER.start(generation) {
            return None;
        }
        let due_ns = deadline.as_monotonic_ns();
        let at = Nearby::find(|at| TABLE[at].take(due_ns, waker))?;
        if USED.load(Ordering::Relaxed) <= at {
            USED.fetch_max(at + 1, Ordering::SeqCst);
        }
        TABLE[at].state.store(SET, Ordering::SeqCst);
        // Either the thread sees the slot before it sleeps, or this sees until when it sleeps.
        if due_ns < RINGER.looks_at_ns.load(Ordering::SeqCst) {
            RINGER.look_now();
        }
        Some(Self { at, generation })
    }

    /// Ready once it has rung. One that was set in a parent process rings at once: the call it belongs to stayed there.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.generation != fork::generation() {
            return Poll::Ready(());
        }
        let slot = &TABLE[self.at];
        if slot.state.load(Ordering::Acquire) != RUNG {
            let mut known = slot.lock();
            // The waker before the second look: what rings in between calls the new one.
            if !known.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                let before = known.replace(context.waker().clone());
                drop(known);
                drop(before);
            }
        }
        if slot.state.load(Ordering::SeqCst) == RUNG { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            return;
        }
        let slot = &TABLE[self.at];
        let waker = {
            let mut waker = slot.lock();
            slot.state.store(FREE, Ordering::Release);
            waker.take()
        };
        Nearby::leave(self.at);
        // Outside of the lock: it is somebody else's code.
        drop(waker);
    }
}

/// Where a thread looks for a free slot: first where it left one, so that a few slots serve it over and over, stay in its
/// cache and out of other threads' way.
struct Nearby {
    left: [u16; Self::MOST],
    len: usize,
    /// Where it looked last among the others.
    at: usize,
}

impl Nearby {
    const MOST: usize = 256;

    fn with<T>(act: impl FnOnce(&mut Self) -> T) -> Option<T> {
        thread_local! {
            static NEARBY: RefCell<Nearby> =
                const { RefCell::new(Nearby { left: [0; Nearby::MOST], len: 0, at: usize::MAX }) };
        }
        // Borrowed already by a waker whose copy or end sets an alarm or drops one: it does without.
        NEARBY.try_with(|nearby| nearby.try_borrow_mut().ok().map(|mut nearby| act(&mut nearby))).ok().flatten()
    }

    fn find(take: impl Fn(usize) -> bool) -> Option<usize> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self::with(|nearby| {
            while let Some(len) = nearby.len.checked_sub(1) {
                nearby.len = len;
                let at = usize::from(nearby.left[len]);
                if take(at) {
                    return Some(at);
                }
            }
            if nearby.at == usize::MAX {
                nearby.at = NEXT.fetch_add(64, Ordering::Relaxed) % SLOTS;
            }
            let at = (nearby.at..nearby.at + PROBES).map(|at| at % SLOTS).find(|at| take(*at))?;
            nearby.at = at;
            Some(at)
        })
        .unwrap_or_else(|| (0..PROBES).find(|at| take(*at)))
    }

    fn leave(at: usize) {
        Self::with(|nearby| {
            if let (Some(place), Ok(at)) = (nearby.left.get_mut(nearby.len), u16::try_from(at)) {
                *place = at;
                nearby.len += 1;
            }
        });
    }
}

impl Slot {
    /// Takes a free slot.
    fn take(&self, due_ns: u64, waker: &Waker) -> bool {
        if self.state.load(Ordering::Relaxed) != FREE
            || self.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        let Some(mut place) = self.try_lock() else {
            // The thread looks at it, or did in the parent process when this one was made.
            self.state.store(FREE, Ordering::Release);
            return false;
        };
        self.due_ns.store(due_ns, Ordering::Relaxed);
        *place = Some(waker.clone());
        true
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Option<Waker>>> {
        match self.waker.try_lock() {
            Ok(waker) => Some(waker),
            Err(TryLockError::Poisoned(waker)) => Some(waker.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// For whoever set it in this process: the other side lives, and holds it for moments.
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Rings if it is due; otherwise says when it is, if it is set.
    fn look(&self, now_ns: u64) -> Option<u64> {
        if self.state.load(Ordering::SeqCst) != SET {
            return None;
        }
        let due_ns = self.due_ns.load(Ordering::Relaxed);
        if due_ns > now_ns {
            return Some(due_ns);
        }
        let waker = {
            let Some(waker) = self.try_lock() else { return Some(now_ns.saturating_add(TICK_NS)) };
            // Once more under the lock, without which nobody sets or clears a slot: meanwhile it may be another call's.
            if self.due_ns.load(Ordering::Relaxed) > now_ns
                || self.state.compare_exchange(SET, RUNG, Ordering::SeqCst, Ordering::Relaxed).is_err()
            {
                return Some(now_ns.saturating_add(TICK_NS));
            }
            waker.clone()
        };
        if let Some(waker) = waker {
            // An executor that panics must not end the thread that everybody's deadlines depend on.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
        }
        None
    }
}

/// The thread that looks through the table.
struct Ringer {
    /// The generation it runs in, plus one. 0: in none.
    generation: AtomicU32,
    /// When it looks next.
    looks_at_ns: AtomicU64,
    thread: AtomicPtr<Thread>,
}

static RINGER: Ringer = Ringer {
    generation: AtomicU32::new(0),
    looks_at_ns: AtomicU64::new(0),
    thread: AtomicPtr::new(std::ptr::null_mut()),
};

impl Ringer {
    /// Starts it in this process, unless somebody else does.
    fn start(&'static self, generation: u32) -> bool {
        let (before, now) = (self.generation.load(Ordering::Acquire), generation.wrapping_add(1));
        if before == now || self.generation.compare_exchange(before, now, Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            return true;
        }
        // It looks at everything before it sleeps, so nobody need wake it until it said for how long.
        self.looks_at_ns.store(0, Ordering::SeqCst);
        match std::thread::Builder::new().name("ck-alarm".into()).spawn(|| self.run()) {
            Ok(_) => true,
            Err(_) => {
                self.generation.store(0, Ordering::Release);
                false
            }
        }
    }

    fn run(&self) {
        // Kept for ever, one per process: whoever wakes it may hold it for any time.
        self.thread.store(Box::into_raw(Box::new(std::thread::current())), Ordering::Release);
        let mut empty = 0;
        loop {
            let now_ns = monotonic_ns();
            let used = USED.load(Ordering::SeqCst);
            let due_ns = TABLE[..used].iter().filter_map(|slot| slot.look(now_ns)).min();
            empty = if due_ns.is_some() { 0 } else { empty + 1 };
            let tick_ns = now_ns.saturating_add(TICK_NS);
            let next_ns = match due_ns {
                Some(due_ns) => due_ns.min(tick_ns),
                None if empty < EMPTY_LOOKS => tick_ns,
                None => NEVER_NS,
            };
            self.looks_at_ns.store(next_ns, Ordering::SeqCst);
            // What was set before that was known. A slot that is locked waits for the next look, as it did in this one.
            let missed = |slot: &Slot| {
                slot.state.load(Ordering::SeqCst) == SET
                    && slot.due_ns.load(Ordering::Relaxed) < next_ns
                    && slot.try_lock().is_some()
            };
            if TABLE[..USED.load(Ordering::SeqCst)].iter().any(missed) {
                continue;
            }
            match next_ns {
                NEVER_NS => std::thread::park(),
                next_ns => std::thread::park_timeout(Duration::from_nanos(next_ns.saturating_sub(monotonic_ns()))),
            }
        }
    }

    fn look_now(&self) {
        // SAFETY: the pointer is NULL or a thread's handle that is never freed.
        if let Some(thread) = unsafe { self.thread.load(Ordering::Acquire).as_ref() } {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Arc, RwLock};
    use std::task::Wake;
    use std::time::Instant;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The table is one for all: a test that fills it must be alone.
    static ALONE: RwLock<()> = RwLock::new(());

    fn after(ms: u64) -> Deadline {
        Deadline::after(Duration::from_millis(ms))
    }

    fn until(done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it never came");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_alarm_rings_once_it_is_due_and_not_before() {
        let _beside = ALONE.read();
        for ms in [0, 1, 20, 60] {
            let (count, deadline) = (Arc::new(Count::default()), after(ms));
            let waker = Waker::from(Arc::clone(&count));
            let alarm = Alarm::set(deadline, &waker).unwrap();
            until(|| count.0.load(Ordering::SeqCst) > 0);
            assert!(deadline.has_passed());
            assert!(alarm.poll(&mut Context::from_waker(&waker)).is_ready());
            assert_eq!(count.0.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn an_alarm_that_was_dropped_does_not_ring_and_leaves_its_waker() {
        let _beside = ALONE.read();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        drop(Alarm::set(after(300), &waker).unwrap());
        assert_eq!(Arc::strong_count(&count), 2);
        let other = Arc::new(Count::default());
        let _later = Alarm::set(after(600), &Waker::from(Arc::clone(&other))).unwrap();
        until(|| other.0.load(Ordering::SeqCst) > 0);
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_waker_that_changes_is_the_one_that_is_called() {
        let _beside = ALONE.read();
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let alarm = Alarm::set(after(500), &Waker::from(Arc::clone(&first))).unwrap();
        let waker = Waker::from(Arc::clone(&second));
        assert!(alarm.poll(&mut Context::from_waker(&waker)).is_pending());
        until(|| second.0.load(Ordering::SeqCst) > 0);
        assert_eq!(first.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn alarms_of_many_threads_ring_each_for_its_own_and_a_full_table_says_so() {
        let _alone = ALONE.write();
        let threads: Vec<_> = (0..4_u64)
            .map(|seed| {
                std::thread::spawn(move || {
                    for n in 0..2_000_u64 {
                        let count = Arc::new(Count::default());
                        let waker = Waker::from(Arc::clone(&count));
                        let deadline = after((seed + n) % 3);
                        let alarm = Alarm::set(deadline, &waker).unwrap();
                        if n % 50 == 0 {
                            until(|| alarm.poll(&mut Context::from_waker(&waker)).is_ready());
                        }
                        // Whoever was called was called in time.
                        assert!(count.0.load(Ordering::SeqCst) == 0 || deadline.has_passed());
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let all: Vec<_> = std::iter::from_fn(|| Alarm::set(after(60_000), Waker::noop())).take(SLOTS + 1).collect();
        assert!(all.len() <= SLOTS);
        assert!(all.len() > SLOTS / 2, "{} of {SLOTS}", all.len());
        drop(all);
        assert!(Alarm::set(after(60_000), Waker::noop()).is_some());
    }
}
