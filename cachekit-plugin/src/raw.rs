//! The unsafe ground of both sides of the border: pointers of the C ABI to Rust values and back. The exports of a plugin
//! and the calls of a host are built from these, so that they cannot disagree.

use std::ffi::c_void;
use std::time::Duration;

use bytes::Bytes;
use cachekit_abi::{
    self as abi, CK_ERROR_NO_RETRY, CK_ERROR_RETRY, CkBuf, CkCallOpt, CkError, CkItem, CkSlice, CkVersion,
};

use crate::backend::Version;
use crate::cx::{Cx, Deadline};
use crate::error::{BackendError, Kind, Operation, Retry};
use crate::ttl::Ttl;

/// The bytes of a borrowed slice.
///
/// # Safety
/// `slice` is as the header requires: `ptr` points to `len` readable bytes that stay for the lifetime `'a`, or `len` is 0.
pub unsafe fn bytes_of<'a>(slice: CkSlice) -> &'a [u8] {
    if slice.len == 0 || slice.ptr.is_null() {
        return &[];
    }
    // SAFETY: by the contract of this function.
    unsafe { std::slice::from_raw_parts(slice.ptr, slice.len) }
}

/// Borrows bytes for a call.
pub fn slice_of(bytes: &[u8]) -> CkSlice {
    CkSlice { ptr: bytes.as_ptr(), len: bytes.len() }
}

/// Gives bytes away without copying them: the buffer's owner is a boxed `Bytes`.
pub fn give(bytes: Bytes) -> CkBuf {
    if bytes.is_empty() {
        return CkBuf::EMPTY;
    }
    unsafe extern "C" fn release(owner: *mut c_void, _: *const u8, _: usize) {
        // SAFETY: `owner` is the box made below, and the holder of a buffer releases it exactly once.
        drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
    }
    let (ptr, len) = (bytes.as_ptr(), bytes.len());
    let owner = Box::into_raw(Box::new(bytes)).cast();
    CkBuf { ptr, len, owner, release: Some(release) }
}

/// Bytes that came over the border, released when the last reference goes.
struct Received(CkBuf);

// SAFETY: the bytes of a buffer never change while it is held, and `release` may be called from any thread.
unsafe impl Send for Received {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Received {}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: whoever made the buffer guaranteed `len` readable bytes until `release`.
        unsafe { bytes_of(CkSlice { ptr: self.0.ptr, len: self.0.len }) }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(release) = self.0.release {
            // SAFETY: this value is the only holder, and it ends here.
            unsafe { release(self.0.owner, self.0.ptr, self.0.len) }
        }
    }
}

/// Takes a buffer out of the record it stands in and leaves zeros, which is how the border says "taken".
///
/// # Safety
/// `buf` points to a valid buffer that nobody else is using.
pub unsafe fn take(buf: *mut CkBuf) -> Bytes {
    if buf.is_null() {
        return Bytes::new();
    }
    // SAFETY: by the contract of this function.
    let taken = Received(unsafe { std::mem::replace(&mut *buf, CkBuf::EMPTY) });
    if taken.0.len == 0 { Bytes::new() } else { Bytes::from_owner(taken) }
}

/// Releases a buffer without looking at it: what it says of itself cannot be true.
///
/// # Safety
/// As [`take`].
pub unsafe fn discard(buf: *mut CkBuf) {
    // SAFETY: by the contract of this function; dropping only calls `release`.
    drop(Received(unsafe { std::mem::replace(&mut *buf, CkBuf::EMPTY) }));
}

/// What accompanies a call.
///
/// # Safety
/// `opt` is NULL or points to a record whose trace lives for `'a`.
pub unsafe fn cx_of<'a>(opt: *const CkCallOpt) -> Cx<'a> {
    if opt.is_null() {
        return Cx { deadline: Deadline::NEVER, trace: None };
    }
    // SAFETY: by the contract of this function.
    let opt = unsafe { &*opt };
    // SAFETY: as above, for the slice inside.
    let trace = unsafe { bytes_of::<'a>(opt.traceparent) };
    Cx {
        deadline: Deadline::from_monotonic_ns(opt.deadline_ns),
        trace: (!trace.is_empty()).then(|| std::str::from_utf8(trace).ok()).flatten(),
    }
}

/// The elements of a batch or the room for a page.
///
/// # Safety
/// `items` points to `len` valid records that nobody else is using for `'a`, or `len` is 0.
pub unsafe fn items_of<'a>(items: *mut CkItem, len: usize) -> &'a mut [CkItem] {
    if len == 0 || items.is_null() {
        return &mut [];
    }
    // SAFETY: by the contract of this function.
    unsafe { std::slice::from_raw_parts_mut(items, len) }
}

/// A life as it crosses the border. Zero must not; it is read as the shortest life rather than as "for ever".
pub fn ttl_of(ttl_ms: u64) -> Ttl {
    if ttl_ms == abi::CK_TTL_NEVER {
        return Ttl::Never;
    }
    Ttl::from_ms(ttl_ms.max(1)).unwrap_or(Ttl::Never)
}

/// A life for the border.
pub fn ttl_ms(ttl: Ttl) -> u64 {
    ttl.as_ms().unwrap_or(abi::CK_TTL_NEVER)
}

/// A version as it crosses the border.
pub fn version_of(version: CkVersion) -> Version {
    Version((u128::from(version.hi) << 64) | u128::from(version.lo))
}

/// A version for the border.
pub fn version(version: Version) -> CkVersion {
    CkVersion { hi: (version.0 >> 64) as u64, lo: version.0 as u64 }
}

/// Writes what failed and returns its status.
///
/// # Safety
/// `err` is NULL or points to a writable record.
pub unsafe fn fail(err: *mut CkError, error: &BackendError) -> i32 {
    let code = status_of(error.kind());
    if !err.is_null() {
        let (flags, retry_after_ms) = match error.retry() {
            Retry::No => (CK_ERROR_NO_RETRY, 0),
            Retry::Now => (CK_ERROR_RETRY, 0),
            Retry::After(pause) => (CK_ERROR_RETRY, u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
        };
        let msg = give(Bytes::from(text_of(error)));
        // SAFETY: by the contract of this function. The old record is all zeros, so nothing is lost by overwriting.
        unsafe { err.write(CkError { code, flags, retry_after_ms, msg }) };
    }
    code
}

/// The reason with everything underneath, in one line: sources cannot cross the border.
fn text_of(error: &BackendError) -> String {
    let mut text = error.message().to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn status_of(kind: Kind) -> i32 {
    KINDS.iter().find(|(_, known)| *known == kind).map_or(abi::CK_E_INTERNAL, |(status, _)| *status)
}

/// The kind behind a status. Statuses of later plugins that this build does not know are defects to it.
pub fn kind_of(status: i32) -> Kind {
    KINDS.iter().find(|(known, _)| *known == status).map_or(Kind::Internal, |(_, kind)| *kind)
}

const KINDS: [(i32, Kind); 11] = [
    (abi::CK_E_INTERNAL, Kind::Internal),
    (abi::CK_E_PANIC, Kind::Panic),
    (abi::CK_E_TRANSIENT, Kind::Transient),
    (abi::CK_E_TIMEOUT, Kind::Timeout),
    (abi::CK_E_THROTTLED, Kind::Throttled),
    (abi::CK_E_AUTH, Kind::Auth),
    (abi::CK_E_CONFIG, Kind::Config),
    (abi::CK_E_TOO_LARGE, Kind::TooLarge),
    (abi::CK_E_UNSUPPORTED, Kind::Unsupported),
    (abi::CK_E_CORRUPT, Kind::Corrupt),
    (abi::CK_E_FORKED, Kind::Forked),
];

/// Longest error text that is read from the other side, bytes.
pub const MAX_TEXT: usize = 4096;

/// Reads what failed. The text is decoded lossily and cut; its buffer is released.
///
/// # Safety
/// `err` was filled by the other side, or is all zeros.
pub unsafe fn error_of(status: i32, mut err: CkError, operation: Operation) -> BackendError {
    // SAFETY: by the contract of this function; the record is ours by value.
    let msg = unsafe { take(&mut err.msg) };
    let text = String::from_utf8_lossy(&msg[..msg.len().min(MAX_TEXT)]).into_owned();
    let text = if text.is_empty() { format!("status {status}, no reason given") } else { text };
    let error = BackendError::new(kind_of(status), operation, text);
    match (err.flags & CK_ERROR_RETRY != 0, err.retry_after_ms) {
        (true, 0) => error.with_retry(Retry::Now),
        (true, pause) => error.with_retry(Retry::After(Duration::from_millis(pause))),
        (false, _) if err.flags & CK_ERROR_NO_RETRY != 0 => error.with_retry(Retry::No),
        (false, _) => error,
    }
}
