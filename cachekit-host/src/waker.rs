//! The caller's waker as a plugin sees it.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use cachekit_abi::{CkWaker, CkWakerVtable};

/// Lends a waker to one `poll`.
pub(crate) fn lend(waker: &Waker) -> CkWaker {
    CkWaker { data: std::ptr::from_ref(waker).cast(), vtable: &VTABLE }
}

static VTABLE: CkWakerVtable = CkWakerVtable {
    struct_size: size_of::<CkWakerVtable>() as u32,
    reserved: 0,
    clone: clone_waker,
    wake_by_ref,
    release,
};

// A lent handle points to the caller's waker, a cloned one to a box of it: the same type, so one set of functions.

unsafe extern "C" fn clone_waker(data: *const c_void) -> *const c_void {
    // SAFETY: the plugin passes a handle that it was lent or that it cloned.
    let waker = unsafe { &*data.cast::<Waker>() };
    Box::into_raw(Box::new(waker.clone())).cast_const().cast()
}

unsafe extern "C" fn wake_by_ref(data: *const c_void) {
    // SAFETY: as above.
    let waker = unsafe { &*data.cast::<Waker>() };
    // A waker belongs to the caller's executor; should it panic, the plugin's thread is the wrong place to die.
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake_by_ref()));
}

unsafe extern "C" fn release(data: *const c_void) {
    // SAFETY: the plugin releases what it cloned, once.
    let waker = unsafe { Box::from_raw(data.cast_mut().cast::<Waker>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(waker)));
}
