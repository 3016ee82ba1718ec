// Not `forbid`: the line that exports the library names its symbol, which counts as unsafe.
#![deny(unsafe_code)]
//! A cachekit backend on an Amazon DynamoDB table.
//!
//! What it protects: entries whose life is over stay readable in DynamoDB for days, so every read looks at the end itself;
//! batches come back half done, so nothing of them is lost in silence; and capacity runs out, which the caller learns as a
//! pause and not as an outage.
//!
//! Read in this order: `config` (options), `item` (what an entry looks like), `client` (the SDK and what bounds it),
//! `body_limit`, `reactor`, `table` (creating one), `backend` (the traits of the contract), `batch`, `cas`, `lock`, `scan` and `error`.
//! The layout, the costs and the policy a table needs are in `README.md`.
//!
//! ```
//! use cachekit_dynamodb::{DynamoDbBackend, DynamoDbConfig};
//! use cachekit_plugin::{HostServices, Kind, Open};
//! // Opening sends nothing, but the configuration must be able to work.
//! let refused = DynamoDbBackend::open(DynamoDbConfig::new("no table"), HostServices::none());
//! assert_eq!(refused.err().map(|error| error.kind()), Some(Kind::Config));
//! ```

mod backend;
mod batch;
mod body_limit;
mod cas;
mod client;
mod config;
mod error;
mod item;
mod lock;
mod reactor;
mod scan;
mod table;

pub use backend::DynamoDbBackend;
pub use config::DynamoDbConfig;

cachekit_plugin::export_backend! {
    id: "example.dynamodb",
    backend: DynamoDbBackend,
    powers: [batch, ttl, lock, cas, scan, clear],
}
