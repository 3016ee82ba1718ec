//! A Rust waker over the host's, so that the backend's future wakes the caller's task across the border.

use std::mem::ManuallyDrop;
use std::task::{RawWaker, RawWakerVTable, Waker};

use cachekit_abi::{CkWaker, CkWakerVtable};

/// A Rust waker over the host's: cloned only when the backend keeps it.
pub(super) fn borrow(waker: &CkWaker) -> ManuallyDrop<Waker> {
    // The borrowed form: its `drop` would end a handle that is the host's, hence `ManuallyDrop`.
    // SAFETY: the functions below uphold the rules of a waker as long as the host upholds those of the header.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(std::ptr::from_ref(waker).cast(), &BORROWED)) })
}

/// The borrowed waker points to the host's `CkWaker`, which lives during `poll`.
static BORROWED: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: a borrowed waker is used during `poll` only, while the host's record lives.
        let waker = unsafe { &*data.cast::<CkWaker>() };
        own(waker)
    },
    // SAFETY: as above.
    |data| unsafe { wake(&*data.cast::<CkWaker>()) },
    // SAFETY: as above.
    |data| unsafe { wake(&*data.cast::<CkWaker>()) },
    |_| {},
);

/// The owned waker points to a box of the host's handle.
static OWNED: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: an owned waker keeps its box until it is dropped.
        let waker = unsafe { &*data.cast::<OwnedWaker>() };
        own(&waker.0)
    },
    // SAFETY: as above; this is the last use of the handle.
    |data| unsafe { wake(&Box::from_raw(data.cast_mut().cast::<OwnedWaker>()).0) },
    // SAFETY: as above.
    |data| unsafe { wake(&(*data.cast::<OwnedWaker>()).0) },
    // SAFETY: as above; this is the last use of the handle.
    |data| unsafe { drop(Box::from_raw(data.cast_mut().cast::<OwnedWaker>())) },
);

struct OwnedWaker(CkWaker);

impl Drop for OwnedWaker {
    fn drop(&mut self) {
        // SAFETY: the handle came from `clone` and ends here.
        unsafe { (vtable(&self.0).release)(self.0.data) }
    }
}

fn own(waker: &CkWaker) -> RawWaker {
    // SAFETY: the host's functions may be called from any thread while a handle is held.
    let data = unsafe { (vtable(waker).clone)(waker.data) };
    let owned = Box::new(OwnedWaker(CkWaker { data, vtable: waker.vtable }));
    RawWaker::new(Box::into_raw(owned).cast_const().cast(), &OWNED)
}

fn wake(waker: &CkWaker) {
    // SAFETY: as in `own`.
    unsafe { (vtable(waker).wake_by_ref)(waker.data) }
}

fn vtable(waker: &CkWaker) -> &CkWakerVtable {
    // SAFETY: the host keeps the table for as long as any handle.
    unsafe { &*waker.vtable }
}
