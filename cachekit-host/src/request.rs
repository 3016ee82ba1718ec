//! One operation on its way to a plugin.
//!
//! In the caller's task it borrows key and trace, because the future that holds it lives no longer than they do, and a
//! plugin copies what it needs before `start` returns. What goes to another thread owns them: whatever becomes of the
//! caller, the plugin never reads freed memory. The items of a batch, which a plugin reads until its end, are always owned.

use std::borrow::Cow;
use std::ffi::c_void;

use bytes::Bytes;
use cachekit_abi::{CK_DEADLINE_NEVER, CK_E_INTERNAL, CkBuf, CkCallOpt, CkError, CkItem, CkOut, CkSlice, CkVersion};
use cachekit_plugin::{BackendError, Cx, Kind, Operation, Version, raw};

/// What is asked.
pub(crate) struct Request<'a> {
    pub(crate) operation: Operation,
    pub(crate) kind: u32,
    pub(crate) key: Cow<'a, [u8]>,
    pub(crate) aux: Cow<'a, [u8]>,
    pub(crate) value: Option<Bytes>,
    pub(crate) ttl_ms: u64,
    pub(crate) num: u64,
    pub(crate) expect: Option<CkVersion>,
    pub(crate) items: Items,
    deadline_ns: u64,
    trace: Cow<'a, [u8]>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(operation: Operation, kind: u32, key: &'a [u8], cx: &'a Cx<'a>) -> Self {
        Self {
            operation,
            kind,
            key: Cow::Borrowed(key),
            aux: Cow::Borrowed(&[]),
            value: None,
            ttl_ms: 0,
            num: 0,
            expect: None,
            items: Items::none(),
            deadline_ns: cx.deadline.as_monotonic_ns(),
            trace: Cow::Borrowed(cx.trace.map_or(&[], str::as_bytes)),
        }
    }

    /// The request with everything it borrowed.
    pub(crate) fn into_owned(self) -> Request<'static> {
        Request {
            key: Cow::Owned(self.key.into_owned()),
            aux: Cow::Owned(self.aux.into_owned()),
            trace: Cow::Owned(self.trace.into_owned()),
            operation: self.operation,
            kind: self.kind,
            value: self.value,
            ttl_ms: self.ttl_ms,
            num: self.num,
            expect: self.expect,
            items: self.items,
            deadline_ns: self.deadline_ns,
        }
    }

    pub(crate) fn aux(mut self, aux: &'a [u8]) -> Self {
        self.aux = Cow::Borrowed(aux);
        self
    }

    pub(crate) fn value(mut self, value: Bytes) -> Self {
        self.value = Some(value);
        self
    }

    pub(crate) fn ttl_ms(mut self, ttl_ms: u64) -> Self {
        self.ttl_ms = ttl_ms;
        self
    }

    pub(crate) fn num(mut self, num: u64) -> Self {
        self.num = num;
        self
    }

    pub(crate) fn expect(mut self, expect: Option<Version>) -> Self {
        self.expect = expect.map(raw::version);
        self
    }

    pub(crate) fn items(mut self, items: Items) -> Self {
        self.items = items;
        self
    }

    /// What accompanies the call, borrowing from this request.
    pub(crate) fn opt(&self) -> CkCallOpt {
        const { assert!(CK_DEADLINE_NEVER == u64::MAX, "a deadline crosses the border as it is") };
        CkCallOpt {
            struct_size: size_of::<CkCallOpt>() as u32,
            reserved: 0,
            deadline_ns: self.deadline_ns,
            traceparent: raw::slice_of(&self.trace),
        }
    }
}

/// The elements of a batch or the room for a page, with the keys they point to.
pub(crate) struct Items {
    items: Box<[CkItem]>,
    /// Never moved while `items` points into it.
    _keys: Box<[u8]>,
}

// SAFETY: the pointers lead into `_keys` or to buffers that may be released from any thread.
unsafe impl Send for Items {}
// SAFETY: shared access only reads.
unsafe impl Sync for Items {}

impl Items {
    pub(crate) fn none() -> Self {
        Self { items: Box::default(), _keys: Box::default() }
    }

    /// Room for `len` results.
    pub(crate) fn room(len: usize) -> Self {
        Self {
            items: (0..len).map(|_| item(CkSlice { ptr: std::ptr::null(), len: 0 }, CkBuf::EMPTY, 0)).collect(),
            _keys: Box::default(),
        }
    }

    /// One element per key, with a value and a life where there is one.
    pub(crate) fn batch<'a>(elements: impl Iterator<Item = (&'a [u8], Option<(Bytes, u64)>)> + Clone) -> Self {
        let keys: Box<[u8]> = elements.clone().flat_map(|(key, _)| key.iter().copied()).collect();
        let mut at = 0;
        let items = elements
            .map(|(key, value)| {
                let owned = &keys[at..at + key.len()];
                at += key.len();
                let (value, ttl_ms) = value.map_or((CkBuf::EMPTY, 0), |(value, ttl_ms)| (raw::give(value), ttl_ms));
                // What the plugin leaves unanswered must not look like a success.
                CkItem { status: CK_E_INTERNAL, ..item(raw::slice_of(owned), value, ttl_ms) }
            })
            .collect();
        Self { items, _keys: keys }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut CkItem {
        self.items.as_mut_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The answer of each element, in order.
    pub(crate) fn answers<T>(
        mut self,
        operation: Operation,
        max_value: u64,
        read: impl Fn(i32, Bytes) -> Result<T, BackendError>,
    ) -> Vec<Result<T, BackendError>> {
        self.items
            .iter_mut()
            .map(|item| {
                // SAFETY: the plugin filled the element or left it as it was; it is used by nobody else any more.
                unsafe {
                    let value = buffer(&mut item.val, max_value, operation);
                    let err = std::mem::replace(&mut item.err, CkError::EMPTY);
                    read(status(item.status, err, operation)?, value?)
                }
            })
            .collect()
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        for item in &mut self.items {
            // SAFETY: whoever still holds the element's buffers holds them alone.
            unsafe {
                raw::discard(&mut item.val);
                raw::discard(&mut item.err.msg);
            }
        }
    }
}

fn item(key: CkSlice, val: CkBuf, ttl_ms: u64) -> CkItem {
    CkItem { key, val, ttl_ms, status: 0, reserved: 0, err: CkError::EMPTY }
}

/// What an operation left.
pub(crate) struct Outcome {
    /// `CK_OK` or `CK_NO`.
    pub(crate) status: i32,
    pub(crate) bytes: Bytes,
    pub(crate) flags: u32,
    pub(crate) num: u64,
    pub(crate) version: Version,
    pub(crate) items: Items,
}

/// An outcome without anything in it, to be filled by the plugin.
pub(crate) fn empty_out() -> CkOut {
    CkOut {
        struct_size: size_of::<CkOut>() as u32,
        flags: 0,
        buf: CkBuf::EMPTY,
        num: 0,
        version: CkVersion { hi: 0, lo: 0 },
    }
}

/// Longest error text that is believed to be one, bytes. Of it the first 4 KiB are read.
const MAX_ERROR_BYTES: u64 = 16 << 20;

/// Reads a final status; anything the contract does not know is a defect of the plugin, never a success.
///
/// # Safety
/// `err` was filled by the plugin or is empty.
pub(crate) unsafe fn status(status: i32, mut err: CkError, operation: Operation) -> Result<i32, BackendError> {
    match status {
        cachekit_abi::CK_OK | cachekit_abi::CK_NO => {
            // SAFETY: by the contract of this function. A text beside a success is released, not read.
            unsafe { raw::discard(&mut err.msg) };
            Ok(status)
        }
        negative if negative < 0 => {
            // SAFETY: by the contract of this function; an impossible text is dropped unread.
            let text = unsafe { buffer(&mut err.msg, MAX_ERROR_BYTES, operation) };
            err.msg = text.map_or(CkBuf::EMPTY, raw::give);
            // SAFETY: as above.
            Err(unsafe { raw::error_of(negative, err, operation) })
        }
        unknown => {
            // SAFETY: as above.
            drop(unsafe { raw::take(&mut err.msg) });
            Err(BackendError::new(
                Kind::Internal,
                operation,
                format!("the plugin answered the unknown status {unknown}"),
            ))
        }
    }
}

/// Takes a buffer that a plugin filled, if it can be true.
///
/// # Safety
/// `buf` was filled by the plugin or is empty, and is used by nobody else.
pub(crate) unsafe fn buffer(buf: &mut CkBuf, max: u64, operation: Operation) -> Result<Bytes, BackendError> {
    let lie = if buf.len > 0 && buf.ptr.is_null() {
        Some("a buffer that is NULL but not empty".to_owned())
    } else if buf.len as u64 > max || buf.len > isize::MAX as usize {
        Some(format!("a buffer of {} bytes where at most {max} can be", buf.len))
    } else {
        None
    };
    // SAFETY: by the contract of this function. A lie is released too, but never read.
    unsafe {
        let Some(what) = lie else { return Ok(raw::take(buf)) };
        raw::discard(buf);
        Err(BackendError::new(Kind::Corrupt, operation, format!("the plugin returned {what}")))
    }
}

/// An instance pointer that may travel to another thread.
#[derive(Clone, Copy)]
pub(crate) struct InstancePtr(pub(crate) *mut c_void);

// SAFETY: by contract every function of an instance may be called from any thread.
unsafe impl Send for InstancePtr {}
// SAFETY: as above.
unsafe impl Sync for InstancePtr {}
