//! What the tests of the contract compare: its records as rustc lays them out, its numbers and its texts.
#![allow(dead_code, reason = "each test uses its part")]

use std::mem::{align_of, offset_of, size_of};

use cachekit_abi::*;

#[allow(dead_code, reason = "the example's `main` is not called here")]
#[path = "../../examples/header.rs"]
pub(crate) mod generator;

/// A record as rustc lays it out.
pub(crate) struct Record {
    pub(crate) name: &'static str,
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) fields: Vec<(&'static str, usize)>,
}

macro_rules! records {
    ($($name:ident { $($field:ident),* $(,)? })*) => {
        vec![$(Record {
            name: stringify!($name),
            size: size_of::<$name>(),
            align: align_of::<$name>(),
            fields: vec![$((stringify!($field), offset_of!($name, $field))),*],
        }),*]
    };
}

pub(crate) fn records() -> Vec<Record> {
    records! {
        CkLimits { struct_size, max_key, key_bytes, enumerates, deadline_hint_ms, reserved, max_value, ttl_step_ms, ttl_max_ms }
        CkBackendV1 { struct_size, flags, limits, get, set, set_owned, delete_key, exists, health, close }
        CkSlice { ptr, len }
        CkBuf { ptr, len, owner, release }
        CkError { code, flags, retry_after_ms, msg }
        CkKv { key, val }
        CkCallOpt { struct_size, reserved, deadline_ns, traceparent }
        CkVersion { hi, lo }
        CkItem { key, val, ttl_ms, status, reserved, err }
        CkOp { struct_size, kind, key, aux, val, ttl_ms, num, version, items, items_len, opt }
        CkOut { struct_size, flags, buf, num, version }
        CkWakerVtable { struct_size, reserved, clone, wake_by_ref, release }
        CkWaker { data, vtable }
        CkAsyncV1 { struct_size, flags, start, poll, drop_op }
        CkHostV1 { struct_size, abi_minor, reserved, host, log, secret, query }
        CkHostEventV1 { struct_size, flags, emit }
        CkActivity { struct_size, flags, l1_hits, l2_hits, misses }
        CkHostActivityV1 { struct_size, flags, read }
        CkHostMetricV1 { struct_size, flags, define, record }
        CkBatchV1 { struct_size, flags, get_many, set_many, delete_many }
        CkTtlV1 { struct_size, flags, ttl, touch }
        CkLockV1 { struct_size, flags, lock, unlock }
        CkCasV1 { struct_size, flags, get_version, set_if }
        CkScanV1 { struct_size, flags, next, read }
        CkClearV1 { struct_size, flags, clear }
        CkWatchV1 { struct_size, flags, watch, unwatch }
        CkFreshnessV1 { struct_size, flags, get_dated, set_stale }
        CkConfigSchemaV1 { struct_size, flags, schema }
        CkPluginV1 { magic, abi_major, abi_minor, struct_size, create, destroy, query }
    }
}

macro_rules! numbers {
    ($($name:ident)*) => { vec![$((stringify!($name), $name as i128)),*] };
}

pub(crate) fn numbers() -> Vec<(&'static str, i128)> {
    numbers! {
        CK_BACKEND_FAST CK_KEYS_ANY CK_KEYS_PRINTABLE CK_ENUM_NO CK_ENUM_KEYS CK_ENUM_IDS
        CK_OK CK_NO CK_PENDING CK_E_INTERNAL CK_E_PANIC CK_E_TRANSIENT CK_E_TIMEOUT CK_E_THROTTLED CK_E_AUTH CK_E_CONFIG
        CK_E_TOO_LARGE CK_E_UNSUPPORTED CK_E_CORRUPT CK_E_FORKED
        CK_TTL_NEVER CK_DEADLINE_NEVER CK_ERROR_RETRY CK_ERROR_NO_RETRY
        CK_OP_GET CK_OP_SET CK_OP_DELETE CK_OP_EXISTS CK_OP_HEALTH CK_OP_CLOSE CK_OP_GET_MANY CK_OP_SET_MANY
        CK_OP_DELETE_MANY CK_OP_TTL CK_OP_TOUCH CK_OP_LOCK CK_OP_UNLOCK CK_OP_GET_VERSION CK_OP_SET_IF CK_OP_SCAN
        CK_OP_READ CK_OP_CLEAR CK_OP_WATCH CK_OP_GET_DATED CK_OP_SET_STALE
        CK_DATED_STALE CK_FRESH_UNKNOWN CK_ACTIVITY_L1
        CK_LOG_ERROR CK_LOG_WARN CK_LOG_INFO CK_LOG_DEBUG CK_LOG_TRACE
        CK_METRIC_COUNTER CK_METRIC_GAUGE CK_EVENT_CHANGED CK_EVENT_EVERYTHING CK_EVENT_LOST
        CK_MAGIC CK_ABI_MAJOR CK_ABI_MINOR CK_NOTE_TYPE
    }
}

macro_rules! texts {
    ($($name:ident)*) => { vec![$((stringify!($name), $name)),*] };
}

pub(crate) fn texts() -> Vec<(&'static str, &'static str)> {
    texts! {
        CK_ID_BACKEND CK_ID_ASYNC CK_ID_BATCH CK_ID_TTL CK_ID_LOCK CK_ID_CAS CK_ID_SCAN CK_ID_CLEAR CK_ID_CONFIG_SCHEMA
        CK_ID_WATCH CK_ID_FRESHNESS CK_ID_HOST_EVENT CK_ID_HOST_ACTIVITY CK_ID_HOST_METRIC CK_ENTRY CK_NOTE_OWNER
    }
}
