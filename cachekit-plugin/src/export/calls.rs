//! The blocking forms: what a host without tasks of its own calls.
//!
//! The seven operations go straight to the backend, because a store that answers at once is called this way a million
//! times a second. The powers take the longer way through `driver`, which already knows them all.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use cachekit_abi::{
    self as abi, CK_NO, CK_OK, CkBackendV1, CkBatchV1, CkBuf, CkCallOpt, CkCasV1, CkClearV1, CkConfigSchemaV1, CkError,
    CkFreshnessV1, CkItem, CkLimits, CkLockV1, CkOp, CkOut, CkScanV1, CkSlice, CkTtlV1, CkVersion, CkWatchV1,
};

use super::driver;
use super::instance::{Instance, entry};
use super::reply::health_json;
use super::root::Export;
use super::runtime;
use crate::backend::{Backend, Fut};
use crate::cx::{Cx, Deadline};
use crate::error::{BackendError, Operation};
use crate::key::Key;
use crate::limits::{Enumerates, KeyBytes};
use crate::open::Open;
use crate::raw;

/// Drives a future on this thread until it is ready or its deadline passes.
pub(super) fn wait<T>(
    operation: Operation,
    deadline: Deadline,
    mut poll: impl FnMut(&Waker) -> Poll<Result<T, BackendError>>,
) -> Result<T, BackendError> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    // Most answers are there at once; only the others pay for a waker.
    if let Poll::Ready(answer) = poll(Waker::noop()) {
        return answer;
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(answer) = poll(&waker) {
            return answer;
        }
        match deadline.remaining() {
            None => std::thread::park(),
            Some(left) if left.is_zero() => return Err(BackendError::timeout(operation)),
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

fn wait_for<T>(operation: Operation, cx: &Cx<'_>, mut future: Fut<'_, T>) -> Result<T, BackendError> {
    wait(operation, cx.deadline, |waker| future.as_mut().poll(&mut Context::from_waker(waker)))
}

pub(super) fn backend<E: Export>() -> &'static CkBackendV1 {
    const {
        &CkBackendV1 {
            struct_size: size_of::<CkBackendV1>() as u32,
            flags: 0,
            limits: limits::<E>,
            get: get::<E>,
            set: set::<E>,
            set_owned: set_owned::<E>,
            delete_key: delete_key::<E>,
            exists: exists::<E>,
            health: health::<E>,
            close: close::<E>,
        }
    }
}

/// Calls one operation of the backend: `$call` sees the backend, the key and the context.
macro_rules! call {
    ($E:ident, $operation:ident, $inst:ident, $opt:ident, $err:ident, |$backend:ident, $cx:ident| $body:expr) => {
        // SAFETY: the host passes a live instance, and pointers that are valid for the call.
        unsafe {
            entry(Operation::$operation, $err, || {
                let _runtime = runtime::enter(<$E::Backend as Open>::TOKIO);
                let $backend = &Instance::<$E::Backend>::borrow($inst).backend;
                let $cx = &raw::cx_of($opt);
                $body
            })
        }
    };
}

unsafe extern "C" fn limits<E: Export>(inst: *mut c_void, out: *mut CkLimits) -> i32 {
    let err: *mut CkError = std::ptr::null_mut();
    let opt: *const CkCallOpt = std::ptr::null();
    call!(E, Open, inst, opt, err, |backend, _cx| {
        let limits = backend.limits();
        out.write(CkLimits {
            struct_size: size_of::<CkLimits>() as u32,
            max_key: limits.max_key,
            key_bytes: match limits.key_bytes {
                KeyBytes::Any => abi::CK_KEYS_ANY,
                KeyBytes::Printable => abi::CK_KEYS_PRINTABLE,
            },
            enumerates: match limits.enumerates {
                Enumerates::No => abi::CK_ENUM_NO,
                Enumerates::Keys => abi::CK_ENUM_KEYS,
                Enumerates::Ids => abi::CK_ENUM_IDS,
            },
            deadline_hint_ms: limits.deadline_hint_ms,
            reserved: 0,
            max_value: limits.max_value,
            ttl_step_ms: limits.ttl_step_ms,
            ttl_max_ms: limits.ttl_max_ms,
        });
        Ok(CK_OK)
    })
}

unsafe extern "C" fn get<E: Export>(
    inst: *mut c_void,
    key: CkSlice,
    opt: *const CkCallOpt,
    out: *mut CkBuf,
    err: *mut CkError,
) -> i32 {
    call!(E, Get, inst, opt, err, |backend, cx| {
        let found = wait_for(Operation::Get, cx, backend.get(Key::from_wire(raw::bytes_of(key)), cx))?;
        Ok(found.map_or(CK_NO, |bytes| {
            out.write(raw::give(bytes));
            CK_OK
        }))
    })
}

unsafe extern "C" fn set<E: Export>(
    inst: *mut c_void,
    key: CkSlice,
    val: CkSlice,
    ttl_ms: u64,
    opt: *const CkCallOpt,
    err: *mut CkError,
) -> i32 {
    call!(E, Set, inst, opt, err, |backend, cx| {
        let value = Bytes::copy_from_slice(raw::bytes_of(val));
        let key = Key::from_wire(raw::bytes_of(key));
        wait_for(Operation::Set, cx, backend.set(key, value, raw::ttl_of(ttl_ms), cx))?;
        Ok(CK_OK)
    })
}

unsafe extern "C" fn set_owned<E: Export>(
    inst: *mut c_void,
    key: CkSlice,
    val: *mut CkBuf,
    ttl_ms: u64,
    opt: *const CkCallOpt,
    err: *mut CkError,
) -> i32 {
    call!(E, Set, inst, opt, err, |backend, cx| {
        let value = raw::take(val);
        let key = Key::from_wire(raw::bytes_of(key));
        wait_for(Operation::Set, cx, backend.set(key, value, raw::ttl_of(ttl_ms), cx))?;
        Ok(CK_OK)
    })
}

unsafe extern "C" fn delete_key<E: Export>(
    inst: *mut c_void,
    key: CkSlice,
    opt: *const CkCallOpt,
    err: *mut CkError,
) -> i32 {
    call!(E, Delete, inst, opt, err, |backend, cx| {
        let deleted = wait_for(Operation::Delete, cx, backend.delete(Key::from_wire(raw::bytes_of(key)), cx))?;
        Ok(if deleted { CK_OK } else { CK_NO })
    })
}

unsafe extern "C" fn exists<E: Export>(
    inst: *mut c_void,
    key: CkSlice,
    opt: *const CkCallOpt,
    err: *mut CkError,
) -> i32 {
    call!(E, Exists, inst, opt, err, |backend, cx| {
        let found = wait_for(Operation::Exists, cx, backend.exists(Key::from_wire(raw::bytes_of(key)), cx))?;
        Ok(if found { CK_OK } else { CK_NO })
    })
}

unsafe extern "C" fn health<E: Export>(
    inst: *mut c_void,
    opt: *const CkCallOpt,
    out: *mut CkBuf,
    err: *mut CkError,
) -> i32 {
    call!(E, Health, inst, opt, err, |backend, cx| {
        let health = wait_for(Operation::Health, cx, backend.health(cx))?;
        out.write(raw::give(health_json(&health)?));
        Ok(CK_OK)
    })
}

unsafe extern "C" fn close<E: Export>(inst: *mut c_void, opt: *const CkCallOpt, err: *mut CkError) -> i32 {
    call!(E, Close, inst, opt, err, |backend, cx| {
        wait_for(Operation::Close, cx, backend.close(cx))?;
        Ok(CK_OK)
    })
}

/// An operation with nothing in it, to be filled in.
fn op(kind: u32, opt: *const CkCallOpt) -> CkOp {
    const NOTHING: CkSlice = CkSlice { ptr: std::ptr::null(), len: 0 };
    CkOp {
        struct_size: size_of::<CkOp>() as u32,
        kind,
        key: NOTHING,
        aux: NOTHING,
        val: std::ptr::null_mut(),
        ttl_ms: 0,
        num: 0,
        version: std::ptr::null(),
        items: std::ptr::null_mut(),
        items_len: 0,
        opt,
    }
}

fn out() -> CkOut {
    CkOut {
        struct_size: size_of::<CkOut>() as u32,
        flags: 0,
        buf: CkBuf::EMPTY,
        num: 0,
        version: CkVersion { hi: 0, lo: 0 },
    }
}

pub(super) fn batch<E: Export>() -> &'static CkBatchV1 {
    unsafe extern "C" fn many<E: Export, const KIND: u32>(
        inst: *mut c_void,
        items: *mut CkItem,
        len: usize,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32 {
        let op = CkOp { items, items_len: len, ..op(KIND, opt) };
        // SAFETY: the host's pointers are valid for this call, which contains the whole operation.
        unsafe { driver::run::<E>(inst, op, &mut out(), err) }
    }
    const {
        &CkBatchV1 {
            struct_size: size_of::<CkBatchV1>() as u32,
            flags: 0,
            get_many: many::<E, { abi::CK_OP_GET_MANY }>,
            set_many: many::<E, { abi::CK_OP_SET_MANY }>,
            delete_many: many::<E, { abi::CK_OP_DELETE_MANY }>,
        }
    }
}

pub(super) fn ttl<E: Export>() -> &'static CkTtlV1 {
    unsafe extern "C" fn ttl<E: Export>(
        inst: *mut c_void,
        key: CkSlice,
        opt: *const CkCallOpt,
        out_ms: *mut u64,
        err: *mut CkError,
    ) -> i32 {
        let (op, mut out) = (CkOp { key, ..op(abi::CK_OP_TTL, opt) }, out());
        // SAFETY: the host's pointers are valid for this call, which contains the whole operation.
        unsafe {
            let status = driver::run::<E>(inst, op, &mut out, err);
            out_ms.write(out.num);
            status
        }
    }
    unsafe extern "C" fn touch<E: Export>(
        inst: *mut c_void,
        key: CkSlice,
        ttl_ms: u64,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32 {
        let op = CkOp { key, ttl_ms, ..op(abi::CK_OP_TOUCH, opt) };
        // SAFETY: as above.
        unsafe { driver::run::<E>(inst, op, &mut out(), err) }
    }
    const { &CkTtlV1 { struct_size: size_of::<CkTtlV1>() as u32, flags: 0, ttl: ttl::<E>, touch: touch::<E> } }
}

pub(super) fn lock<E: Export>() -> &'static CkLockV1 {
    unsafe extern "C" fn lock<E: Export>(
        inst: *mut c_void,
        key: CkSlice,
        token: CkSlice,
        hold_ms: u64,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32 {
        let op = CkOp { key, aux: token, ttl_ms: hold_ms, ..op(abi::CK_OP_LOCK, opt) };
        // SAFETY: the host's pointers are valid for this call, which contains the whole operation.
        unsafe { driver::run::<E>(inst, op, &mut out(), err) }
    }
    unsafe extern "C" fn unlock<E: Export>(
        inst: *mut c_void,
        key: CkSlice,
        token: CkSlice,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32 {
        let op = CkOp { key, aux: token, ..op(abi::CK_OP_UNLOCK, opt) };
        // SAFETY: as above.
        unsafe { driver::run::<E>(inst, op, &mut out(), err) }
    }
    const { &CkLockV1 { struct_size: size_of::<CkLockV1>() as u32, flags: 0, lock: lock::<E>, unlock: unlock::<E> } }
}

pub(super) fn cas<E: Export>() -> &'static CkCasV1 {
    unsafe extern "C" fn get_version<E: Export>(
        inst: *mut c_void,
        key: CkSlice,
        opt: *const CkCallOpt,
        value: *mut CkBuf,
        version: *mut CkVersion,
        err: *mut CkError,
    ) -> i32 {
        let (op, mut out) = (CkOp { key, ..op(abi::CK_OP_GET_VERSION, opt) }, out());
        // SAFETY: the host's pointers are valid for this call, which contains the whole operation.
        unsafe {
            let status = driver::run::<E>(inst, op, &mut out, err);
            value.write(out.buf);
            version.write(out.version);
            status
        }
    }
    unsafe extern "C" fn set_if<E: Export>(
        inst: *mut c_void,
        key: CkSlice,
        val: CkSlice,
        ttl_ms: u64,
        expect: *const CkVersion,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32 {
        // SAFETY: as above.
        let mut val = raw::give(Bytes::copy_from_slice(unsafe { raw::bytes_of(val) }));
        let op = CkOp { key, val: &mut val, ttl_ms, version: expect, ..op(abi::CK_OP_SET_IF, opt) };
        // SAFETY: as above. What the operation did not take is ours to release.
        unsafe {
            let status = driver::run::<E>(inst, op, &mut out(), err);
            raw::discard(&mut val);
            status
        }
    }
    const {
        &CkCasV1 {
            struct_size: size_of::<CkCasV1>() as u32,
            flags: 0,
            get_version: get_version::<E>,
            set_if: set_if::<E>,
        }
    }
}

pub(super) fn scan<E: Export>() -> &'static CkScanV1 {
    unsafe extern "C" fn next<E: Export>(
        inst: *mut c_void,
        prefix: CkSlice,
        cursor: CkSlice,
        items: *mut CkItem,
        max: usize,
        opt: *const CkCallOpt,
        out_len: *mut usize,
        out_cursor: *mut CkBuf,
        err: *mut CkError,
    ) -> i32 {
        let op = CkOp { key: prefix, aux: cursor, items, items_len: max, ..op(abi::CK_OP_SCAN, opt) };
        let mut out = out();
        // SAFETY: the host's pointers are valid for this call, which contains the whole operation.
        unsafe {
            let status = driver::run::<E>(inst, op, &mut out, err);
            out_len.write(out.num as usize);
            out_cursor.write(out.buf);
            status
        }
    }
    unsafe extern "C" fn read<E: Export>(
        inst: *mut c_void,
        id: CkSlice,
        opt: *const CkCallOpt,
        value: *mut CkBuf,
        err: *mut CkError,
    ) -> i32 {
        let (op, mut out) = (CkOp { key: id, ..op(abi::CK_OP_READ, opt) }, out());
        // SAFETY: as above.
        unsafe {
            let status = driver::run::<E>(inst, op, &mut out, err);
            value.write(out.buf);
            status
        }
    }
    const { &CkScanV1 { struct_size: size_of::<CkScanV1>() as u32, flags: 0, next: next::<E>, read: read::<E> } }
}

pub(super) fn clear<E: Export>() -> &'static CkClearV1 {
    unsafe extern "C" fn clear<E: Export>(
        inst: *mut c_void,
        prefix: CkSlice,
        opt: *const CkCallOpt,
        out_removed: *mut u64,
        err: *mut CkError,
    ) -> i32 {
        let (op, mut out) = (CkOp { key: prefix, ..op(abi::CK_OP_CLEAR, opt) }, out());
        // SAFETY: the host's pointers are valid for this call, which contains the whole operation.
        unsafe {
            let status = driver::run::<E>(inst, op, &mut out, err);
            out_removed.write(out.num);
            status
        }
    }
    const { &CkClearV1 { struct_size: size_of::<CkClearV1>() as u32, flags: 0, clear: clear::<E> } }
}

pub(super) fn watch<E: Export>() -> &'static CkWatchV1 {
    unsafe extern "C" fn watch<E: Export>(
        inst: *mut c_void,
        prefix: CkSlice,
        watch: u64,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32 {
        let op = CkOp { key: prefix, num: watch, ..op(abi::CK_OP_WATCH, opt) };
        // SAFETY: the host's pointers are valid for this call, which contains the whole operation.
        unsafe { driver::run::<E>(inst, op, &mut out(), err) }
    }
    unsafe extern "C" fn unwatch<E: Export>(inst: *mut c_void, watch: u64) {
        // SAFETY: the host passes a live instance.
        unsafe {
            entry(Operation::Watch, std::ptr::null_mut(), || {
                let _runtime = runtime::enter(E::Backend::TOKIO);
                Instance::<E::Backend>::borrow(inst).unwatch(watch);
                Ok(CK_OK)
            });
        }
    }
    const { &CkWatchV1 { struct_size: size_of::<CkWatchV1>() as u32, flags: 0, watch: watch::<E>, unwatch: unwatch::<E> } }
}

pub(super) fn freshness<E: Export>() -> &'static CkFreshnessV1 {
    unsafe extern "C" fn get_dated<E: Export>(
        inst: *mut c_void,
        key: CkSlice,
        opt: *const CkCallOpt,
        value: *mut CkBuf,
        out_flags: *mut u32,
        out_fresh_ms: *mut u64,
        err: *mut CkError,
    ) -> i32 {
        let (op, mut out) = (CkOp { key, ..op(abi::CK_OP_GET_DATED, opt) }, out());
        // SAFETY: the host's pointers are valid for this call, which contains the whole operation.
        unsafe {
            let status = driver::run::<E>(inst, op, &mut out, err);
            value.write(out.buf);
            out_flags.write(out.flags);
            out_fresh_ms.write(out.num);
            status
        }
    }
    unsafe extern "C" fn set_stale<E: Export>(
        inst: *mut c_void,
        key: CkSlice,
        val: CkSlice,
        ttl_ms: u64,
        stale_ms: u64,
        opt: *const CkCallOpt,
        err: *mut CkError,
    ) -> i32 {
        // SAFETY: as above.
        let mut val = raw::give(Bytes::copy_from_slice(unsafe { raw::bytes_of(val) }));
        let op = CkOp { key, val: &mut val, ttl_ms, num: stale_ms, ..op(abi::CK_OP_SET_STALE, opt) };
        // SAFETY: as above. What the operation did not take is ours to release.
        unsafe {
            let status = driver::run::<E>(inst, op, &mut out(), err);
            raw::discard(&mut val);
            status
        }
    }
    const {
        &CkFreshnessV1 {
            struct_size: size_of::<CkFreshnessV1>() as u32,
            flags: 0,
            get_dated: get_dated::<E>,
            set_stale: set_stale::<E>,
        }
    }
}

pub(super) fn config_schema<E: Export>() -> &'static CkConfigSchemaV1 {
    unsafe extern "C" fn schema<E: Export>(out: *mut CkSlice) -> i32 {
        // By the backend's name, because the statics of a generic function are shared by all of its kinds.
        static TEXTS: Mutex<BTreeMap<&'static str, &'static str>> = Mutex::new(BTreeMap::new());
        // SAFETY: `out` is writable for this call.
        unsafe {
            entry(Operation::Open, std::ptr::null_mut(), || {
                let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
                let text = texts.entry(E::ID).or_insert_with(|| E::Backend::schema().to_string().leak());
                out.write(raw::slice_of(text.as_bytes()));
                Ok(CK_OK)
            })
        }
    }
    const { &CkConfigSchemaV1 { struct_size: size_of::<CkConfigSchemaV1>() as u32, flags: 0, schema: schema::<E> } }
}
