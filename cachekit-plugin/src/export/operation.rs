//! One operation under way, behind a thin pointer: a head that is the same for all kinds, and the future of its kind behind
//! it, in one allocation. A boxed future in a boxed state would be two for every call of every loaded backend.

use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use cachekit_abi::CkItem;

use super::reply::Reply;
use crate::error::{BackendError, Operation};
use crate::raw;

/// The host's array, which outlives the operation.
#[derive(Clone, Copy)]
pub(super) struct Items {
    first: *mut CkItem,
    len: usize,
}

// SAFETY: the host lends the array to one operation, which uses it from one thread at a time.
unsafe impl Send for Items {}
// SAFETY: as above.
unsafe impl Sync for Items {}

impl Items {
    pub(super) fn new(first: *mut CkItem, len: usize) -> Self {
        Self { first, len }
    }

    pub(super) fn len(self) -> usize {
        self.len
    }

    /// # Safety
    /// Nobody else is using the array, and the operation has not been dropped.
    pub(super) unsafe fn get<'a>(self) -> &'a mut [CkItem] {
        // SAFETY: by the contract of this function.
        unsafe { raw::items_of(self.first, self.len) }
    }
}

type Answer = Poll<Result<Reply, BackendError>>;

/// What every kind has, at the start of its allocation.
struct Head {
    operation: Operation,
    items: Items,
    poll: unsafe fn(NonNull<Head>, &mut Context<'_>) -> Answer,
    end: unsafe fn(NonNull<Head>),
}

#[repr(C)]
struct Whole<F> {
    head: Head,
    future: F,
}

/// An operation under way. Owns its allocation.
pub(super) struct Underway(NonNull<Head>);

// SAFETY: `new` takes futures that are `Send`, and the head is.
unsafe impl Send for Underway {}

impl Underway {
    pub(super) fn new<F>(operation: Operation, items: Items, future: F) -> Self
    where
        F: Future<Output = Result<Reply, BackendError>> + Send + 'static,
    {
        /// # Safety
        /// `head` begins a `Whole<F>` that nobody else is using.
        unsafe fn poll<F: Future<Output = Result<Reply, BackendError>>>(
            head: NonNull<Head>,
            context: &mut Context<'_>,
        ) -> Answer {
            // SAFETY: by the contract of this function. The future is pinned: it never leaves its allocation, and is
            // dropped in it.
            unsafe { Pin::new_unchecked(&mut (*head.cast::<Whole<F>>().as_ptr()).future).poll(context) }
        }
        /// # Safety
        /// As `poll`, and it is the last use.
        unsafe fn end<F>(head: NonNull<Head>) {
            // SAFETY: by the contract of this function this is the box that `new` made.
            drop(unsafe { Box::from_raw(head.cast::<Whole<F>>().as_ptr()) });
        }
        let whole = Box::new(Whole { head: Head { operation, items, poll: poll::<F>, end: end::<F> }, future });
        // The pointer keeps its right to the whole allocation; `repr(C)` puts the head at its start.
        Self(NonNull::from(Box::leak(whole)).cast())
    }

    /// The pointer the host keeps.
    pub(super) fn into_raw(self) -> NonNull<()> {
        let head = self.0;
        std::mem::forget(self);
        head.cast()
    }

    /// # Safety
    /// `state` came from [`Self::into_raw`] and is not used by anybody else any more.
    pub(super) unsafe fn from_raw(state: NonNull<()>) -> Self {
        Self(state.cast())
    }

    /// Moves it on. Not again once it was ready.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Answer {
        // SAFETY: the allocation is ours, and `&mut self` keeps others out.
        unsafe { (self.0.as_ref().poll)(self.0, context) }
    }

    pub(super) fn operation(&self) -> Operation {
        // SAFETY: as above.
        unsafe { self.0.as_ref() }.operation
    }

    pub(super) fn items(&self) -> Items {
        // SAFETY: as above.
        unsafe { self.0.as_ref() }.items
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        // SAFETY: the allocation is ours and ends here.
        unsafe { (self.0.as_ref().end)(self.0) }
    }
}

/// Bytes that an operation keeps of what it was lent. Most keys are short, and need no allocation of their own.
pub(super) enum Kept {
    Short(u8, [u8; Kept::SHORT]),
    Long(Box<[u8]>),
}

impl Kept {
    const SHORT: usize = 79;

    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut short = [0; Self::SHORT];
        match short.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            None => Self::Long(bytes.into()),
        }
    }
}

impl std::ops::Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Waker;

    use super::*;

    /// Ready at its second poll, and counts its end.
    struct Twice(bool, Arc<AtomicU32>);

    impl Future for Twice {
        type Output = Result<Reply, BackendError>;
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Answer {
            if std::mem::replace(&mut self.0, true) { Poll::Ready(Ok(Reply::Num(7))) } else { Poll::Pending }
        }
    }

    impl Drop for Twice {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_operation_is_polled_through_its_thin_pointer_and_ends_once() {
        let ended = Arc::new(AtomicU32::new(0));
        let context = &mut Context::from_waker(Waker::noop());
        let items = Items::new(std::ptr::null_mut(), 0);
        let mut underway = Underway::new(Operation::Get, items, Twice(false, Arc::clone(&ended)));
        assert!(underway.poll(context).is_pending());
        let state = underway.into_raw();
        // SAFETY: it was made a line above.
        let mut underway = unsafe { Underway::from_raw(state) };
        assert!(matches!(underway.poll(context), Poll::Ready(Ok(Reply::Num(7)))));
        assert_eq!((underway.operation(), underway.items().len()), (Operation::Get, 0));
        assert_eq!(ended.load(Ordering::SeqCst), 0);
        drop(underway);
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn kept_bytes_are_the_same_at_every_length() {
        for len in [0, 1, Kept::SHORT - 1, Kept::SHORT, Kept::SHORT + 1, 300, 5000] {
            let bytes: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
            assert_eq!(*Kept::new(&bytes), *bytes, "{len}");
        }
    }
}
