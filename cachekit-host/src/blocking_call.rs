//! A request through the blocking tables: the whole call on this thread.

use bytes::Bytes;
use cachekit_abi::{self as abi, CK_NO, CK_OK, CkBuf, CkError};
use cachekit_plugin::{BackendError, raw};

use crate::instance::Inner;
use crate::request::{Outcome, Request, buffer, empty_out, status};

/// From here on a value is handed over instead of lent: the plugin keeps the buffer and nobody copies. Below, a copy is
/// cheaper than the two allocations of a hand-over (measured between 64 B and 4 KB).
const HAND_OVER_BYTES: usize = 1024;

/// Calls the function of the table that the request names.
pub(crate) fn run(inner: &Inner, mut request: Request<'_>) -> Result<Outcome, BackendError> {
    let (tables, inst, operation) = (&inner.tables, inner.ptr.0, request.operation);
    let opt = request.opt();
    let key = raw::slice_of(&request.key);
    let aux = raw::slice_of(&request.aux);
    let (items, items_len) = (request.items.as_mut_ptr(), request.items.len());
    let value = request.value.take().unwrap_or_default();
    let expect = request.expect.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let (mut out, mut err) = (empty_out(), CkError::EMPTY);
    let mut page_len = 0_usize;
    let unsupported = || BackendError::unsupported(operation);

    // SAFETY: the instance is alive as long as `inner`; every pointer lives through the call; the tables were checked.
    let code = unsafe {
        match request.kind {
            abi::CK_OP_GET => (tables.backend.get)(inst, key, &opt, &mut out.buf, &mut err),
            abi::CK_OP_SET => set(inner, key, value, request.ttl_ms, &opt, &mut err),
            abi::CK_OP_DELETE => (tables.backend.delete_key)(inst, key, &opt, &mut err),
            abi::CK_OP_EXISTS => (tables.backend.exists)(inst, key, &opt, &mut err),
            abi::CK_OP_HEALTH => (tables.backend.health)(inst, &opt, &mut out.buf, &mut err),
            abi::CK_OP_CLOSE => (tables.backend.close)(inst, &opt, &mut err),
            abi::CK_OP_GET_MANY => {
                (tables.batch.ok_or_else(unsupported)?.get_many)(inst, items, items_len, &opt, &mut err)
            }
            abi::CK_OP_SET_MANY => {
                (tables.batch.ok_or_else(unsupported)?.set_many)(inst, items, items_len, &opt, &mut err)
            }
            abi::CK_OP_DELETE_MANY => {
                (tables.batch.ok_or_else(unsupported)?.delete_many)(inst, items, items_len, &opt, &mut err)
            }
            abi::CK_OP_TTL => (tables.ttl.ok_or_else(unsupported)?.ttl)(inst, key, &opt, &mut out.num, &mut err),
            abi::CK_OP_TOUCH => (tables.ttl.ok_or_else(unsupported)?.touch)(inst, key, request.ttl_ms, &opt, &mut err),
            abi::CK_OP_LOCK => {
                (tables.lock.ok_or_else(unsupported)?.lock)(inst, key, aux, request.ttl_ms, &opt, &mut err)
            }
            abi::CK_OP_UNLOCK => (tables.lock.ok_or_else(unsupported)?.unlock)(inst, key, aux, &opt, &mut err),
            abi::CK_OP_GET_VERSION => (tables.cas.ok_or_else(unsupported)?.get_version)(
                inst,
                key,
                &opt,
                &mut out.buf,
                &mut out.version,
                &mut err,
            ),
            abi::CK_OP_SET_IF => (tables.cas.ok_or_else(unsupported)?.set_if)(
                inst,
                key,
                raw::slice_of(&value),
                request.ttl_ms,
                expect,
                &opt,
                &mut err,
            ),
            abi::CK_OP_SCAN => {
                let scan = tables.scan.ok_or_else(unsupported)?;
                let code = (scan.next)(inst, key, aux, items, items_len, &opt, &mut page_len, &mut out.buf, &mut err);
                out.num = page_len as u64;
                code
            }
            abi::CK_OP_READ => (tables.scan.ok_or_else(unsupported)?.read)(inst, key, &opt, &mut out.buf, &mut err),
            abi::CK_OP_CLEAR => (tables.clear.ok_or_else(unsupported)?.clear)(inst, key, &opt, &mut out.num, &mut err),
            abi::CK_OP_WATCH => (tables.watch.ok_or_else(unsupported)?.watch)(inst, key, request.num, &opt, &mut err),
            abi::CK_OP_GET_DATED => (tables.freshness.ok_or_else(unsupported)?.get_dated)(
                inst,
                key,
                &opt,
                &mut out.buf,
                &mut out.flags,
                &mut out.num,
                &mut err,
            ),
            abi::CK_OP_SET_STALE => (tables.freshness.ok_or_else(unsupported)?.set_stale)(
                inst,
                key,
                raw::slice_of(&value),
                request.ttl_ms,
                request.num,
                &opt,
                &mut err,
            ),
            _ => return Err(unsupported()),
        }
    };
    // SAFETY: the plugin filled the records or left them as they were.
    unsafe {
        let bytes = buffer(&mut out.buf, inner.max_bytes(operation), operation);
        let status = status(code, err, operation)?;
        debug_assert!(status == CK_OK || status == CK_NO);
        let version = raw::version_of(out.version);
        Ok(Outcome { status, bytes: bytes?, flags: out.flags, num: out.num, version, items: request.items })
    }
}

/// # Safety
/// Pointers as in [`run`].
unsafe fn set(
    inner: &Inner,
    key: abi::CkSlice,
    value: Bytes,
    ttl_ms: u64,
    opt: &abi::CkCallOpt,
    err: &mut CkError,
) -> i32 {
    let (backend, inst) = (inner.tables.backend, inner.ptr.0);
    if value.len() < HAND_OVER_BYTES {
        // SAFETY: by the contract of this function; `value` lives through the call.
        return unsafe { (backend.set)(inst, key, raw::slice_of(&value), ttl_ms, opt, err) };
    }
    let mut buf: CkBuf = raw::give(value);
    // SAFETY: as above. What the plugin did not take is still ours.
    unsafe {
        let code = (backend.set_owned)(inst, key, &mut buf, ttl_ms, opt, err);
        raw::discard(&mut buf);
        code
    }
}
