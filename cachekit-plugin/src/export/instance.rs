//! One opened backend behind its pointer, and the wall that panics do not pass.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use cachekit_abi::{CK_E_PANIC, CkError};

use super::host::Border;
use crate::error::{BackendError, Kind, Operation};
use crate::open::Open;
use crate::raw;
use crate::watch::WatchGuard;

/// What a library can do beyond the seven operations of every backend.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names of the capabilities")]
pub struct Powers {
    pub batch: bool,
    pub ttl: bool,
    pub lock: bool,
    pub cas: bool,
    pub scan: bool,
    pub clear: bool,
    pub watch: bool,
    pub freshness: bool,
}

impl Powers {
    /// None of them.
    pub const NONE: Self = Self {
        batch: false,
        ttl: false,
        lock: false,
        cas: false,
        scan: false,
        clear: false,
        watch: false,
        freshness: false,
    };
}

/// What an instance pointer points to: an `Arc`, so that operations under way keep the backend alive.
pub(super) struct Instance<B> {
    /// By the host's numbers. They end before the backend that tells them.
    watches: Mutex<HashMap<u64, WatchGuard>>,
    pub(super) backend: B,
    pub(super) border: Arc<Border>,
}

impl<B: Open> Instance<B> {
    pub(super) fn new(backend: B, border: Arc<Border>) -> Self {
        Self { watches: Mutex::default(), backend, border }
    }

    /// Keeps a watch until [`Self::unwatch`].
    pub(super) fn keep_watch(&self, number: u64, guard: WatchGuard) {
        let before = self.watches.lock().unwrap_or_else(PoisonError::into_inner).insert(number, guard);
        // Hosts use no number twice. One that does ends its earlier watch, outside the lock.
        drop(before);
    }

    /// Ends a watch, if there is one of that number.
    pub(super) fn unwatch(&self, number: u64) {
        let ended = self.watches.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        drop(ended);
    }

    pub(super) fn into_raw(self) -> *mut c_void {
        Arc::into_raw(Arc::new(self)).cast_mut().cast()
    }

    /// # Safety
    /// `inst` came from [`Self::into_raw`] of the same type and has not been destroyed.
    pub(super) unsafe fn borrow<'a>(inst: *mut c_void) -> &'a Self {
        // SAFETY: by the contract of this function.
        unsafe { &*inst.cast::<Self>() }
    }

    /// # Safety
    /// As [`Self::borrow`].
    pub(super) unsafe fn share(inst: *mut c_void) -> Arc<Self> {
        let inst = inst.cast::<Self>().cast_const();
        // SAFETY: by the contract of this function the pointer holds one count, which stays with it.
        unsafe {
            Arc::increment_strong_count(inst);
            Arc::from_raw(inst)
        }
    }

    /// # Safety
    /// As [`Self::borrow`], and the pointer is not used again.
    pub(super) unsafe fn end(inst: *mut c_void) {
        // SAFETY: by the contract of this function this is the count that `into_raw` gave out.
        let instance = unsafe { Arc::from_raw(inst.cast::<Self>().cast_const()) };
        let _after = Border::ending(&instance.border);
        // First the backend, which may have last words for the host's log.
        drop(instance);
    }
}

/// Runs one entry: an error becomes a status with its text, a panic becomes [`CK_E_PANIC`].
///
/// # Safety
/// `err` is NULL or writable.
pub(super) unsafe fn entry(
    operation: Operation,
    err: *mut CkError,
    body: impl FnOnce() -> Result<i32, BackendError>,
) -> i32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        // SAFETY: by the contract of this function.
        Ok(Err(error)) => unsafe { raw::fail(err, &error) },
        Err(panic) => {
            // SAFETY: as above.
            unsafe { raw::fail(err, &panicked(operation, panic)) };
            CK_E_PANIC
        }
    }
}

/// What is left of a panic once it was caught.
pub(super) fn panicked(operation: Operation, panic: Box<dyn Any + Send>) -> BackendError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    // A payload whose own `drop` panics must not get out either.
    if catch_unwind(AssertUnwindSafe(|| drop(panic))).is_err() {
        return BackendError::new(Kind::Panic, operation, "panicked, and again while the panic was dropped");
    }
    BackendError::new(Kind::Panic, operation, format!("panicked: {text}"))
}
