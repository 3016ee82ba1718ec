//! The one crate a cachekit backend author depends on.

pub mod backend;
pub mod blocking;
pub mod cx;
pub mod error;
pub mod health;
pub mod key;
pub mod limits;
pub mod open;
pub mod ttl;

pub use backend::*;
pub use bytes::Bytes;
pub use cx::{Cx, Deadline};
pub use error::{BackendError, Kind, Operation, Retry};
pub use health::Health;
pub use key::{Key, KeyDigest};
pub use limits::{Enumerates, KeyBytes, Limits};
pub use open::{HostServices, LogLevel, Open, SecretRef, Services};
pub use ttl::Ttl;
#[doc(hidden)]
pub use {schemars, serde, serde_json};
