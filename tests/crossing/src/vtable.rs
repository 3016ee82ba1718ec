#![allow(unsafe_code)]
//! The C ABI by hand: `dlopen`, entry, `query`, and calls through the table, without a host in between. The only unsafe
//! code of this crate; it does what any host must do and nothing to be safe against a plugin that lies.

use std::ffi::c_void;
use std::path::Path;

use bytes::Bytes;
use cachekit_abi::{
    CK_DEADLINE_NEVER, CK_ID_BACKEND, CK_OK, CK_TTL_NEVER, CkBackendV1, CkBuf, CkCallOpt, CkEntryV1, CkError, CkLimits,
    CkPluginV1, CkSlice,
};
use cachekit_plugin::raw;

use crate::Failure;
use crate::stores::Calls;

/// An instance and its table. Never ended: the process does that.
pub struct Tables {
    backend: &'static CkBackendV1,
    inst: *mut c_void,
}

impl Tables {
    /// Loads `null-plugin` and opens an instance.
    pub fn open(library: &Path) -> Result<Self, Failure> {
        // SAFETY: the library was built from this workspace a moment ago; it stays loaded for ever.
        unsafe {
            let library = Box::leak(Box::new(libloading::Library::new(library)?));
            let entry: CkEntryV1 = *library.get(b"cachekit_plugin_v1_null_plugin")?;
            let root: &CkPluginV1 = &*entry();
            let (mut inst, mut err) = (std::ptr::null_mut(), CkError::EMPTY);
            let options = CkSlice { ptr: std::ptr::null(), len: 0 };
            if (root.create)(std::ptr::null(), options, &mut inst, &mut err) != CK_OK {
                return Err("the plugin gave no instance".into());
            }
            let table = (root.query)(inst, CK_ID_BACKEND.as_ptr(), CK_ID_BACKEND.len()).cast::<CkBackendV1>();
            Ok(Self { backend: table.as_ref().ok_or("the plugin has no backend/1")?, inst })
        }
    }
}

fn opt() -> CkCallOpt {
    CkCallOpt {
        struct_size: size_of::<CkCallOpt>() as u32,
        reserved: 0,
        deadline_ns: CK_DEADLINE_NEVER,
        traceparent: CkSlice { ptr: std::ptr::null(), len: 0 },
    }
}

// SAFETY, for every call below: the instance lives, the table was filled by it, and all pointers outlive the call.
impl Calls for Tables {
    fn limits(&self) -> u32 {
        let mut out = std::mem::MaybeUninit::<CkLimits>::uninit();
        // SAFETY: as above; the function fills the record or answers an error.
        unsafe {
            let record = out.as_mut_ptr();
            (&raw mut (*record).struct_size).write(size_of::<CkLimits>() as u32);
            assert!((self.backend.limits)(self.inst, record) == CK_OK);
            (*record).max_key
        }
    }

    fn exists(&self, key: &[u8]) -> bool {
        let mut err = CkError::EMPTY;
        // SAFETY: as above.
        unsafe { (self.backend.exists)(self.inst, raw::slice_of(key), &opt(), &mut err) == CK_OK }
    }

    fn get(&self, key: &[u8]) -> Option<Bytes> {
        let (mut out, mut err) = (CkBuf::EMPTY, CkError::EMPTY);
        // SAFETY: as above; the buffer is ours once the call is over.
        unsafe {
            let status = (self.backend.get)(self.inst, raw::slice_of(key), &opt(), &mut out, &mut err);
            (status == CK_OK).then(|| raw::take(&mut out))
        }
    }

    fn set(&self, key: &[u8], value: &[u8]) {
        let mut err = CkError::EMPTY;
        let (key, value) = (raw::slice_of(key), raw::slice_of(value));
        // SAFETY: as above.
        let status = unsafe { (self.backend.set)(self.inst, key, value, CK_TTL_NEVER, &opt(), &mut err) };
        assert!(status == CK_OK);
    }
}
