//! Contexts and buffers that outlive a call.
//!
//! A fresh zstd context costs as much as compressing 4 KB does (`cargo xtask bench codec` has both), so contexts are kept. One
//! per thread was rejected: a runtime may own 512 blocking threads, and at 1 to 3 MB a context that is a gigabyte nobody asked
//! for. Here at most [`SLOTS`] of a kind are kept per process, whatever the number of threads.
//!
//! Nobody ever waits. A slot is taken by `try_lock`; if all are busy or empty the caller makes its own. That also makes
//! `fork()` harmless: a slot whose lock another thread held at the fork stays locked in the child for ever and is passed by.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::wiped::{Wiped, wipe};

/// Things of one kind kept per process. 16 compressions at the same moment keep 16 cores busy.
pub(super) const SLOTS: usize = 16;

pub(super) struct Kept<T, const N: usize = SLOTS> {
    slots: [Mutex<Option<T>>; N],
}

impl<T, const N: usize> Kept<T, N> {
    pub(super) const fn new() -> Self {
        Self { slots: [const { Mutex::new(None) }; N] }
    }

    /// One that was kept, or `None` if there is none to be had without waiting.
    pub(super) fn take(&self) -> Option<T> {
        self.slots_from_home().find_map(|slot| slot.try_lock().ok()?.take())
    }

    /// Keeps `thing` if a slot is free, else drops it.
    pub(super) fn give(&self, thing: T) {
        for slot in self.slots_from_home() {
            if let Ok(mut slot) = slot.try_lock()
                && slot.is_none()
            {
                *slot = Some(thing);
                return;
            }
        }
    }

    /// The slots, beginning with the one this thread tried first last time, so that threads stay out of each other's way.
    fn slots_from_home(&self) -> impl Iterator<Item = &Mutex<Option<T>>> {
        let home = home();
        (0..N).map(move |step| &self.slots[(home + step) % N])
    }
}

fn home() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static HOME: Cell<usize> = const { Cell::new(usize::MAX) });
    // A destructor of another thread-local may call us when HOME is gone; any slot will do then.
    HOME.try_with(|home| {
        if home.get() == usize::MAX {
            home.set(NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS);
        }
        home.get()
    })
    .unwrap_or(0)
}

/// Largest buffer kept, in bytes of capacity. 256 KiB × 16 slots = 4 MB at most; a larger value pays for its own buffer,
/// which is little beside the time it takes to serialize it.
pub(super) const KEPT_BUFFER: usize = 256 << 10;

static BUFFERS: Kept<Vec<u8>> = Kept::new();

/// Runs `work` with an empty buffer, which is kept for the next caller; what `holds_secrets` is wiped before.
///
/// `work` may call back into the codec (a `Serialize` impl may use a cache): it then gets another buffer.
pub(super) fn with_buffer<R>(holds_secrets: bool, work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = BUFFERS.take().unwrap_or_default();
    if !holds_secrets {
        let result = work(&mut buffer);
        give_back(buffer);
        return result;
    }
    // Also wiped if `work` panics.
    let mut buffer = Wiped(buffer);
    let result = work(&mut buffer.0);
    // Of a kept buffer only what was used: the rest was wiped by whoever used it, and may be 256 KiB.
    wipe(&mut buffer.0);
    give_back(std::mem::take(&mut buffer.0));
    result
}

fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_BUFFER {
        buffer.clear();
        BUFFERS.give(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_the_slots_are_kept() {
        let kept: Kept<usize> = Kept::new();
        for number in 0..SLOTS + 5 {
            kept.give(number);
        }
        let mut taken: Vec<_> = std::iter::from_fn(|| kept.take()).collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..SLOTS).collect::<Vec<_>>());
    }

    #[test]
    fn a_slot_locked_for_ever_is_passed_by() {
        let kept: Kept<i32> = Kept::new();
        let held: Vec<_> = kept.slots.iter().map(|slot| slot.lock().unwrap()).collect();
        kept.give(1);
        assert_eq!(kept.take(), None);
        drop(held);
        kept.give(2);
        assert_eq!(kept.take(), Some(2));
    }

    #[test]
    fn a_buffer_comes_back_empty_and_the_callback_gets_its_own() {
        with_buffer(false, |outer| {
            outer.extend_from_slice(b"outer");
            with_buffer(false, |inner| {
                assert!(inner.is_empty());
                inner.extend_from_slice(b"inner");
            });
            assert_eq!(outer, b"outer");
        });
        with_buffer(false, |again| assert!(again.is_empty()));
    }
}
