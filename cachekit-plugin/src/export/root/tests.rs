//! What stays behind of an instance that panicked in its last or first moment: services that call nobody any more.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use cachekit_abi::{CK_E_PANIC, CK_OK, CkBuf, CkKv};

use super::*;
use crate::backend::Fut;
use crate::cx::Cx;
use crate::error::BackendError;
use crate::health::Health;
use crate::key::Key;
use crate::limits::Limits;
use crate::open::HostServices;
use crate::ready;
use crate::ttl::Ttl;

/// What a thread of a client library would still hold.
static LEFT: Mutex<Option<HostServices>> = Mutex::new(None);
/// The two tests share it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Panics when it is opened, or when it ends.
struct Bursting;

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct BurstingConfig {
    opens: bool,
}

impl Open for Bursting {
    type Config = BurstingConfig;
    fn open(config: BurstingConfig, host: HostServices) -> Result<Self, BackendError> {
        *LEFT.lock().unwrap() = Some(host);
        assert!(config.opens, "in its first moment");
        Ok(Self)
    }
}

impl Drop for Bursting {
    fn drop(&mut self) {
        panic!("in its last moment");
    }
}

impl Backend for Bursting {
    fn limits(&self) -> Limits {
        Limits::new(1024, 1024)
    }
    fn get<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        ready(Ok(None))
    }
    fn set<'a>(&'a self, _: Key<'a>, _: Bytes, _: Ttl, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(Ok(()))
    }
    fn delete<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready(Ok(false))
    }
    fn exists<'a>(&'a self, _: Key<'a>, _: &'a Cx<'a>) -> Fut<'a, bool> {
        ready(Ok(false))
    }
    fn health<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, Health> {
        ready(Ok(Health::up("bursting", Duration::ZERO)))
    }
    fn close<'a>(&'a self, _: &'a Cx<'a>) -> Fut<'a, ()> {
        ready(Ok(()))
    }
}

struct Library;

impl Export for Library {
    type Backend = Bursting;
    const ID: &'static str = "test.bursting";
    const POWERS: Powers = Powers::NONE;
}

unsafe extern "C" fn log(_: *mut c_void, _: u32, _: CkSlice, _: CkSlice, _: *const CkKv, _: usize) {}

unsafe extern "C" fn secret(_: *mut c_void, _: CkSlice, out: *mut CkBuf) -> i32 {
    // SAFETY: the plugin passes a writable buffer.
    unsafe { out.write(raw::give(Bytes::from_static(b"told"))) };
    CK_OK
}

unsafe extern "C" fn no_table(_: *mut c_void, _: *const u8, _: usize) -> *const c_void {
    std::ptr::null()
}

fn host() -> CkHostV1 {
    CkHostV1 {
        struct_size: size_of::<CkHostV1>() as u32,
        abi_minor: abi::CK_ABI_MINOR,
        reserved: 0,
        host: std::ptr::null_mut(),
        log,
        secret,
        query: no_table,
    }
}

fn left() -> HostServices {
    LEFT.lock().unwrap().clone().expect("it was opened")
}

#[test]
fn services_end_with_an_instance_that_panics_at_its_end() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (host, mut inst) = (host(), std::ptr::null_mut());
    let config = raw::slice_of(br#"{"opens":true}"#);
    // SAFETY: the records are ours and outlive the calls.
    let status = unsafe { create::<Library>(&host, config, &mut inst, std::ptr::null_mut()) };
    assert_eq!((status, left().secret("env:X").unwrap().as_str()), (CK_OK, "told"));
    // SAFETY: it was made above and is not used again.
    unsafe { destroy::<Library>(inst) };
    assert!(left().secret("env:X").unwrap_err().message().contains("has ended"), "the host's table may be gone by now");
}

#[test]
fn services_end_with_an_instance_that_panics_while_it_is_opened() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (host, mut inst) = (host(), std::ptr::null_mut());
    let config = raw::slice_of(br#"{"opens":false}"#);
    // SAFETY: the records are ours and outlive the calls.
    let status = unsafe { create::<Library>(&host, config, &mut inst, std::ptr::null_mut()) };
    assert_eq!((status, inst), (CK_E_PANIC, std::ptr::null_mut()));
    assert!(left().secret("env:X").unwrap_err().message().contains("has ended"));
}
