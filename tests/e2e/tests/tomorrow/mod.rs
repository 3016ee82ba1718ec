//! Hosts that ours is not, written against the contract alone: one that offers a plugin nothing, and one of a later version, whose records
//! are longer than anything of today, with words in places that are 0 today.

use std::ffi::c_void;
use std::path::Path;
use std::sync::Mutex;

use cachekit_abi::{
    CK_E_UNSUPPORTED, CK_ENTRY, CK_ID_ASYNC, CK_ID_BACKEND, CK_ID_HOST_ACTIVITY, CK_ID_HOST_EVENT, CK_ID_HOST_METRIC,
    CK_NO, CK_OK, CK_PENDING, CkActivity, CkAsyncV1, CkBackendV1, CkBuf, CkCallOpt, CkEntryV1, CkError,
    CkHostActivityV1, CkHostEventV1, CkHostMetricV1, CkHostV1, CkKv, CkLimits, CkOp, CkOut, CkPluginV1, CkSlice,
    CkWaker, CkWakerVtable,
};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// What the contract of today lets a plugin ask a host for.
pub(crate) const KNOWN: [&str; 3] = [CK_ID_HOST_EVENT, CK_ID_HOST_METRIC, CK_ID_HOST_ACTIVITY];

/// What a host answers when it is asked for a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offers {
    /// It has none: NULL, whatever it is.
    Nothing,
    /// Those of today, in records that are longer, and something for every id that anybody could ask for.
    MoreThanIsKnown,
}

/// The host that a plugin sees as its `host`.
struct Host {
    offers: Offers,
    asked: Mutex<Vec<String>>,
}

/// A record of today, and what a later version put behind it.
#[repr(C)]
struct Longer<T> {
    today: T,
    later: [u64; 8],
}

const LATER: [u64; 8] = [u64::MAX; 8];
/// What no plugin of today can make anything of.
static NEVER_HEARD_OF: [u64; 8] = LATER;

const fn size<T>() -> u32 {
    size_of::<Longer<T>>() as u32
}

static EVENT: Longer<CkHostEventV1> =
    Longer { today: CkHostEventV1 { struct_size: size::<CkHostEventV1>(), flags: u32::MAX, emit }, later: LATER };
static METRIC: Longer<CkHostMetricV1> = Longer {
    today: CkHostMetricV1 { struct_size: size::<CkHostMetricV1>(), flags: u32::MAX, define, record },
    later: LATER,
};
static ACTIVITY: Longer<CkHostActivityV1> =
    Longer { today: CkHostActivityV1 { struct_size: size::<CkHostActivityV1>(), flags: u32::MAX, read }, later: LATER };

unsafe extern "C" fn log(_: *mut c_void, _: u32, _: CkSlice, _: CkSlice, _: *const CkKv, _: usize) {}
unsafe extern "C" fn secret(_: *mut c_void, _: CkSlice, _: *mut CkBuf) -> i32 {
    CK_E_UNSUPPORTED
}
unsafe extern "C" fn emit(_: *mut c_void, _: u64, _: u32, _: CkSlice) {}
unsafe extern "C" fn define(_: *mut c_void, _: u32, _: CkSlice) -> u64 {
    7
}
unsafe extern "C" fn record(_: *mut c_void, metric: u64, _: u64) {
    assert_eq!(metric, 7);
}
unsafe extern "C" fn read(_: *mut c_void, _: *mut CkActivity) -> i32 {
    CK_NO
}

unsafe extern "C" fn query(host: *mut c_void, id: *const u8, len: usize) -> *const c_void {
    // SAFETY: `host` is the one of `use_it`, which outlives the instance; `id` has `len` bytes.
    let (host, id) = unsafe { (&*host.cast::<Host>(), std::slice::from_raw_parts(id, len)) };
    let id = String::from_utf8_lossy(id).into_owned();
    let table = match (host.offers, id.as_str()) {
        (Offers::Nothing, _) => std::ptr::null(),
        (_, CK_ID_HOST_EVENT) => (&raw const EVENT).cast(),
        (_, CK_ID_HOST_METRIC) => (&raw const METRIC).cast(),
        (_, CK_ID_HOST_ACTIVITY) => (&raw const ACTIVITY).cast(),
        // Whoever takes this for a table that it knows does not survive it.
        _ => (&raw const NEVER_HEARD_OF).cast(),
    };
    host.asked.lock().unwrap().push(id);
    table
}

const NEVER: u64 = u64::MAX;

fn slice(bytes: &[u8]) -> CkSlice {
    CkSlice { ptr: bytes.as_ptr(), len: bytes.len() }
}

/// Uses a library as such a host does; what it was asked for.
pub(crate) fn use_it(library: &Path, entry: &str, options: &str, offers: Offers) -> Vec<String> {
    assert!(entry.starts_with(CK_ENTRY));
    let mine = Host { offers, asked: Mutex::default() };
    let later = offers == Offers::MoreThanIsKnown;
    // In a bare host reserved places are 0 and records have the size of today.
    let word = |word: u16| if later { word } else { 0 };
    let (host_size, opt_size) = if later {
        (size_of::<Longer<CkHostV1>>(), size_of::<Longer<CkCallOpt>>())
    } else {
        (size_of::<CkHostV1>(), size_of::<CkCallOpt>())
    };
    // SAFETY: the library is one of ours and follows the contract; every pointer below is to a live record of the size it says.
    unsafe {
        let handle = Library::open(Some(library), RTLD_NOW | RTLD_LOCAL).unwrap();
        let root: CkPluginV1 = *(handle.get::<CkEntryV1>(entry.as_bytes()).unwrap())();
        // As every host: a library is never unloaded.
        std::mem::forget(handle);
        let host = Longer {
            today: CkHostV1 {
                struct_size: host_size as u32,
                abi_minor: word(99),
                reserved: word(77),
                host: (&raw const mine).cast_mut().cast(),
                log,
                secret,
                query,
            },
            later: LATER,
        };
        let (mut inst, mut err) = (std::ptr::null_mut(), CkError::EMPTY);
        let status = (root.create)((&raw const host).cast(), slice(options.as_bytes()), &mut inst, &mut err);
        assert_eq!((status, inst.is_null()), (CK_OK, false), "{library:?}");

        // What it has never heard of it does not have, asked as a library and as an instance.
        for id in ["cachekit.backend/2", "cachekit.teleport/1", "", "cachekit.backend/10", "\u{0}"] {
            for of in [std::ptr::null_mut(), inst] {
                assert!((root.query)(of, id.as_ptr(), id.len()).is_null(), "{library:?} {id}");
            }
        }
        let table = |id: &str| (root.query)(inst, id.as_ptr(), id.len());
        let backend = &*table(CK_ID_BACKEND).cast::<CkBackendV1>();

        // A record with more room is filled as far as it is known, and not beyond.
        let mut limits = [u64::MAX; 16];
        limits[0] = 16 * 8;
        assert_eq!((backend.limits)(inst, limits.as_mut_ptr().cast()), CK_OK);
        let known = size_of::<CkLimits>() / 8;
        assert!(limits[known..].iter().all(|word| *word == u64::MAX), "{library:?} wrote behind what it knows");

        let options = Longer {
            today: CkCallOpt {
                struct_size: opt_size as u32,
                reserved: word(77).into(),
                deadline_ns: NEVER,
                traceparent: slice(b""),
            },
            later: LATER,
        };
        let opt = (&raw const options).cast::<CkCallOpt>();
        assert_eq!((backend.set)(inst, slice(b"k"), slice(b"value"), NEVER, opt, &mut err), CK_OK, "{library:?}");
        let mut out = CkBuf::EMPTY;
        assert_eq!((backend.get)(inst, slice(b"k"), opt, &mut out, &mut err), CK_OK, "{library:?}");
        assert_eq!(std::slice::from_raw_parts(out.ptr, out.len), b"value");
        if let Some(release) = out.release {
            release(out.owner, out.ptr, out.len);
        }

        // An operation that it has never heard of is refused, not taken for another.
        if let Some(driver) = table(CK_ID_ASYNC).cast::<CkAsyncV1>().as_ref() {
            refuses_what_it_does_not_know(library, inst, driver, opt);
        }
        assert_eq!((backend.close)(inst, opt, &mut err), CK_OK);
        (root.destroy)(inst);
    }
    mine.asked.into_inner().unwrap()
}

/// # Safety
///
/// All of one live instance.
unsafe fn refuses_what_it_does_not_know(library: &Path, inst: *mut c_void, driver: &CkAsyncV1, opt: *const CkCallOpt) {
    let op = CkOp {
        struct_size: size_of::<CkOp>() as u32,
        kind: 9999,
        key: slice(b"k"),
        aux: slice(b""),
        val: std::ptr::null_mut(),
        ttl_ms: NEVER,
        num: 0,
        version: std::ptr::null(),
        items: std::ptr::null_mut(),
        items_len: 0,
        opt,
    };
    let mut err = CkError::EMPTY;
    // SAFETY: as the caller says; a state is polled until it is ready, and dropped once. In an answer nothing is a right beginning.
    unsafe {
        let state = (driver.start)(inst, &op, &mut err);
        let mut status = err.code;
        if !state.is_null() {
            // It may also find out when it is polled.
            let mut out = CkOut { struct_size: size_of::<CkOut>() as u32, ..std::mem::zeroed() };
            let waker = CkWaker { data: std::ptr::null(), vtable: &raw const NOBODY };
            for _ in 0..10 {
                status = (driver.poll)(state, &waker, &mut out, &mut err);
                if status != CK_PENDING {
                    break;
                }
            }
            (driver.drop_op)(state);
        }
        assert_eq!(status, CK_E_UNSUPPORTED, "{library:?}: an operation of tomorrow");
        if let Some(release) = err.msg.release {
            release(err.msg.owner, err.msg.ptr, err.msg.len);
        }
    }
}

/// Wakes nobody: who polls anyway needs no waker.
static NOBODY: CkWakerVtable = CkWakerVtable {
    struct_size: size_of::<CkWakerVtable>() as u32,
    reserved: 0,
    clone: same,
    wake_by_ref: nothing,
    release: nothing,
};

unsafe extern "C" fn same(data: *const c_void) -> *const c_void {
    data
}
unsafe extern "C" fn nothing(_: *const c_void) {}
