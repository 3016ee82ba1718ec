//! The host's services as a plugin sees them.

use std::sync::{Arc, PoisonError, RwLock};

use cachekit_abi::{CK_OK, CkBuf, CkHostV1, CkKv};

use crate::open::{HostServices, LogLevel, Services};
use crate::raw;

/// The host's table, until the instance ends.
///
/// A client library may log from a thread that outlives the instance; such a line is dropped instead of being written
/// through a table that is gone.
pub(super) struct Border(RwLock<Option<Table>>);

struct Table(*const CkHostV1);

// SAFETY: the table is read-only, and its functions may be called from any thread.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Border {
    /// # Safety
    /// `host` is NULL or points to a table that stays valid until [`Border::end`] returns.
    pub(super) unsafe fn new(host: *const CkHostV1) -> Arc<Self> {
        Arc::new(Self(RwLock::new((!host.is_null()).then_some(Table(host)))))
    }

    /// Forgets the table, after waiting for calls that are using it.
    pub(super) fn end(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn services(self: &Arc<Self>) -> HostServices {
        HostServices::new(Arc::clone(self) as Arc<dyn Services>)
    }
}

impl Services for Border {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &[(&str, &str)]) {
        let guard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = &*guard else { return };
        let fields: Vec<CkKv> = fields
            .iter()
            .map(|(key, val)| CkKv { key: raw::slice_of(key.as_bytes()), val: raw::slice_of(val.as_bytes()) })
            .collect();
        let (target, message) = (raw::slice_of(target.as_bytes()), raw::slice_of(message.as_bytes()));
        // SAFETY: the table is valid while the guard is held, and the slices live until the call returns.
        unsafe {
            let host = &*table.0;
            (host.log)(host.host, level as u32, target, message, fields.as_ptr(), fields.len());
        }
    }

    fn secret(&self, reference: &str) -> Result<String, String> {
        let guard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = &*guard else { return Err("the instance has ended".into()) };
        let mut out = CkBuf::EMPTY;
        // SAFETY: the table is valid while the guard is held; `out` is ours.
        let (status, bytes) = unsafe {
            let host = &*table.0;
            let status = (host.secret)(host.host, raw::slice_of(reference.as_bytes()), &mut out);
            (status, raw::take(&mut out))
        };
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| "the secret is not UTF-8".to_owned())?;
        if status == CK_OK { Ok(text) } else { Err(text) }
    }
}
