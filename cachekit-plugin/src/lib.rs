//! The one crate a cachekit backend author depends on.
//!
//! A backend is a type with [`Backend`] (seven operations) and [`Open`] (how it comes to life from options), and one
//! line of [`export_backend!`] makes a shared library of it that any cachekit host loads from a path in its
//! configuration. The same crate also links into a program as it is.
//!
//! Unsafe code lives in [`raw`] and `export`, and in one line each of [`alarm`] and [`fork`]: what an author writes is safe
//! Rust.

pub mod alarm;
pub mod backend;
pub mod blocking;
pub mod cx;
pub mod error;
#[doc(hidden)]
pub mod export;
pub mod fork;
pub mod freshness;
pub mod health;
pub mod key;
pub mod limits;
pub mod open;
#[doc(hidden)]
pub mod raw;
pub mod ttl;
pub mod watch;

pub use alarm::Alarm;
pub use backend::*;
pub use bytes::Bytes;
pub use cx::{Cx, Deadline};
pub use error::{BackendError, Kind, Operation, Retry};
pub use freshness::{Dated, Freshness};
pub use health::Health;
pub use key::{Key, KeyDigest};
pub use limits::{Enumerates, KeyBytes, Limits};
pub use open::{CacheActivity, HostServices, LogLevel, MetricKind, Open, SecretRef, Services};
pub use ttl::Ttl;
pub use watch::{Event, Outlet, Watch, WatchGuard, WatchSink};
#[doc(hidden)]
pub use {cachekit_abi as abi, schemars, serde, serde_json};
