//! Every operation in its waiting form: `start` makes the backend's future, `poll` drives it from the caller's task.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cachekit_abi::{self as abi, CK_OK, CK_PENDING, CkAsyncV1, CkError, CkOp, CkOut, CkWaker};

use super::instance::{Instance, entry, panicked};
use super::operation::{Items, Kept, Underway};
use super::reply::{self, Reply};
use super::root::Export;
use super::{runtime, waker};
use crate::backend::SetItem;
use crate::cx::Cx;
use crate::error::{BackendError, Kind, Operation};
use crate::key::Key;
use crate::open::Open;
use crate::raw;
use crate::ttl::Ttl;

pub(super) fn table<E: Export>() -> &'static CkAsyncV1 {
    const {
        &CkAsyncV1 {
            struct_size: size_of::<CkAsyncV1>() as u32,
            flags: 0,
            start: start::<E>,
            poll: poll::<E>,
            drop_op: drop_op::<E>,
        }
    }
}

impl Items {
    /// The keys of a batch, which stay in the host's array.
    ///
    /// # Safety
    /// As [`Items::get`].
    unsafe fn keys<'a>(self) -> Vec<Key<'a>> {
        // SAFETY: by the contract of this function.
        unsafe { self.get().iter().map(|item| Key::from_wire(raw::bytes_of(item.key))).collect() }
    }
}

/// What accompanies an operation, owned.
struct OwnedCx {
    cx: Cx<'static>,
    trace: Option<String>,
}

impl OwnedCx {
    fn cx(&self) -> Cx<'_> {
        Cx { deadline: self.cx.deadline, trace: self.trace.as_deref() }
    }
}

/// Copies what the operation needs and begins it.
///
/// # Safety
/// `op` is as the header requires: valid for this call, its `items` (with their keys and values) until the future ends.
pub(super) unsafe fn begin<B: Open>(instance: Arc<Instance<B>>, op: &CkOp) -> Result<Underway, BackendError> {
    // SAFETY: by the contract of this function, here and below.
    let (key, aux, cx) = unsafe { (raw::bytes_of(op.key), raw::bytes_of(op.aux), raw::cx_of(op.opt)) };
    let with = OwnedCx { cx: Cx::new(cx.deadline), trace: cx.trace.map(str::to_owned) };
    // A token or a cursor comes with few operations: it is not worth the room in every one.
    let (key, aux): (Kept, Box<[u8]>) = (Kept::new(key), aux.into());
    let items = Items::new(op.items, op.items_len);
    let ttl = raw::ttl_of(op.ttl_ms);

    /// Runs `$call` with the backend, or with one of its powers.
    macro_rules! doing {
        ($operation:ident, |$backend:ident, $cx:ident| $call:expr) => {
            Underway::new(Operation::$operation, items, async move {
                let ($backend, $cx) = (&instance.backend, &with.cx());
                Ok(Reply::from($call.await?))
            })
        };
        ($operation:ident, $power:ident, |$backend:ident, $cx:ident| $call:expr) => {
            Underway::new(Operation::$operation, items, async move {
                let power = instance.backend.$power();
                let $backend = power.ok_or_else(|| BackendError::unsupported(Operation::$operation))?;
                let $cx = &with.cx();
                Ok(Reply::from($call.await?))
            })
        };
    }

    Ok(match op.kind {
        abi::CK_OP_GET => doing!(Get, |b, cx| b.get(Key::from_wire(&key), cx)),
        abi::CK_OP_SET => {
            // SAFETY: as above.
            let value = unsafe { raw::take(op.val) };
            doing!(Set, |b, cx| b.set(Key::from_wire(&key), value, ttl, cx))
        }
        abi::CK_OP_DELETE => doing!(Delete, |b, cx| b.delete(Key::from_wire(&key), cx)),
        abi::CK_OP_EXISTS => doing!(Exists, |b, cx| b.exists(Key::from_wire(&key), cx)),
        abi::CK_OP_HEALTH => doing!(Health, |b, cx| b.health(cx)),
        abi::CK_OP_CLOSE => doing!(Close, |b, cx| b.close(cx)),
        abi::CK_OP_GET_MANY => doing!(GetMany, batch, |b, cx| async {
            // SAFETY: as above.
            b.get_many(&unsafe { items.keys() }, cx).await
        }),
        abi::CK_OP_SET_MANY => {
            // Values are taken at once; the keys stay in the host's array.
            // SAFETY: as above.
            let values: Vec<(Bytes, Ttl)> = unsafe { items.get() }
                .iter_mut()
                // SAFETY: as above.
                .map(|item| (unsafe { raw::take(&mut item.val) }, raw::ttl_of(item.ttl_ms)))
                .collect();
            doing!(SetMany, batch, |b, cx| async {
                // SAFETY: as above.
                let sets: Vec<SetItem<'_>> = unsafe { items.keys() }
                    .into_iter()
                    .zip(values)
                    .map(|(key, (value, ttl))| SetItem { key, value, ttl })
                    .collect();
                b.set_many(&sets, cx).await
            })
        }
        abi::CK_OP_DELETE_MANY => {
            doing!(DeleteMany, batch, |b, cx| async {
                // SAFETY: as above.
                b.delete_many(&unsafe { items.keys() }, cx).await
            })
        }
        abi::CK_OP_TTL => doing!(Ttl, ttl, |b, cx| b.ttl(Key::from_wire(&key), cx)),
        abi::CK_OP_TOUCH => doing!(Touch, ttl, |b, cx| b.touch(Key::from_wire(&key), ttl, cx)),
        abi::CK_OP_LOCK => {
            let hold_ms = op.ttl_ms.max(1);
            doing!(Lock, locks, |b, cx| b.lock(Key::from_wire(&key), &aux, hold_ms, cx))
        }
        abi::CK_OP_UNLOCK => doing!(Unlock, locks, |b, cx| b.unlock(Key::from_wire(&key), &aux, cx)),
        abi::CK_OP_GET_VERSION => doing!(GetVersion, cas, |b, cx| b.get_version(Key::from_wire(&key), cx)),
        abi::CK_OP_SET_IF => {
            // SAFETY: as above.
            let (value, expect) =
                unsafe { (raw::take(op.val), op.version.as_ref().map(|version| raw::version_of(*version))) };
            doing!(SetIf, cas, |b, cx| b.set_if(Key::from_wire(&key), value, ttl, expect, cx))
        }
        abi::CK_OP_SCAN => {
            doing!(Scan, scan, |b, cx| { b.next(&key, (!aux.is_empty()).then_some(&*aux), items.len(), cx) })
        }
        abi::CK_OP_READ => doing!(Read, scan, |b, cx| b.read(&key, cx)),
        abi::CK_OP_CLEAR => doing!(Clear, clear, |b, cx| b.clear(&key, cx)),
        abi::CK_OP_WATCH => {
            let (number, sink) = (op.num, instance.border.sink(op.num));
            doing!(Watch, watch, |b, cx| async {
                let guard = b.watch(&key, sink, cx).await?;
                instance.keep_watch(number, guard);
                Ok(())
            })
        }
        abi::CK_OP_GET_DATED => doing!(GetDated, freshness, |b, cx| b.get_dated(Key::from_wire(&key), cx)),
        abi::CK_OP_SET_STALE => {
            // SAFETY: as above.
            let value = unsafe { raw::take(op.val) };
            let stale_ms = NonZeroU64::new(op.num).unwrap_or(NonZeroU64::MIN);
            doing!(SetStale, freshness, |b, cx| b.set_stale(Key::from_wire(&key), value, ttl, stale_ms, cx))
        }
        kind => {
            let text = format!("this plugin does not know operation {kind}");
            return Err(BackendError::new(Kind::Unsupported, Operation::Open, text));
        }
    })
}

unsafe extern "C" fn start<E: Export>(inst: *mut c_void, op: *const CkOp, err: *mut CkError) -> *mut c_void {
    let mut state = std::ptr::null_mut();
    // SAFETY: the host passes a live instance, a valid operation and a writable error.
    unsafe {
        entry(Operation::Open, err, || {
            let _runtime = runtime::enter(E::Backend::TOKIO);
            let begun = begin(Instance::<E::Backend>::share(inst), &*op)?;
            state = begun.into_raw().as_ptr().cast();
            Ok(CK_OK)
        });
    }
    state
}

unsafe extern "C" fn poll<E: Export>(
    state: *mut c_void,
    waker: *const CkWaker,
    out: *mut CkOut,
    err: *mut CkError,
) -> i32 {
    // SAFETY: the host polls a state that `start` gave out, from one thread at a time, until its final status. It keeps it,
    // so this handle never ends it.
    unsafe {
        let mut state = ManuallyDrop::new(Underway::from_raw(NonNull::new_unchecked(state.cast())));
        entry(state.operation(), err, || {
            let _runtime = runtime::enter(E::Backend::TOKIO);
            let waker = waker::borrow(&*waker);
            match state.poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => Ok(CK_PENDING),
                Poll::Ready(answer) => reply::deliver(state.operation(), answer?, &mut *out, state.items().get()),
            }
        })
    }
}

unsafe extern "C" fn drop_op<E: Export>(state: *mut c_void) {
    // SAFETY: the host drops a state exactly once.
    let state = unsafe { Underway::from_raw(NonNull::new_unchecked(state.cast())) };
    // A future that panics in its destructor was being cancelled: there is nobody left to tell.
    let operation = state.operation();
    let end = || {
        let _runtime = runtime::enter(E::Backend::TOKIO);
        drop(state);
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(end)) {
        let _: BackendError = panicked(operation, panic);
    }
}

/// Runs a whole operation on this thread: for the blocking forms of the powers.
///
/// # Safety
/// As [`begin`], and `out` and `err` are writable.
pub(super) unsafe fn run<E: Export>(inst: *mut c_void, op: CkOp, out: *mut CkOut, err: *mut CkError) -> i32 {
    // SAFETY: by the contract of this function.
    unsafe {
        entry(Operation::Open, err, || {
            let _runtime = runtime::enter(E::Backend::TOKIO);
            let deadline = raw::cx_of(op.opt).deadline;
            let mut state = begin(Instance::<E::Backend>::share(inst), &op)?;
            let operation = state.operation();
            let poll = |waker: &Waker| state.poll(&mut Context::from_waker(waker));
            let reply = super::calls::wait(operation, deadline, poll)?;
            reply::deliver(operation, reply, &mut *out, state.items().get())
        })
    }
}
