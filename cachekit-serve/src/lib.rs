#![forbid(unsafe_code)]
//! The cachekit.io HTTP API over any cachekit backend.
//!
//! It stands between clients that are not trusted and a store that is: every client has a key that leads to one tenant, a
//! tenant sees nothing of another, and everything a client can make grow (connections, headers, bodies, values that wait
//! to be sent, time) has a bound. `docs/serve.md` says what each request does and what was decided where the published
//! protocol is silent.
//!
//! ```no_run
//! # async fn doc(backend: std::sync::Arc<dyn cachekit_plugin::Backend>, certificate: &[u8], key: &[u8])
//! # -> Result<(), cachekit_serve::ServeError> {
//! use cachekit_serve::Server;
//!
//! let server = Server::builder(backend)
//!     .api_key("billing", "ck_live_0123456789abcdef")
//!     .tls(certificate, key)
//!     .bind(([127, 0, 0, 1], 0).into())
//!     .start()
//!     .await?;
//! println!("https://{}", server.addr());
//! server.shutdown().await;
//! # Ok(()) }
//! ```

mod api;
mod body;
mod bounds;
mod clock;
mod connection;
mod entry;
mod error;
mod key;
mod life;
mod metrics;
mod refusal;
mod server;
mod stall;
mod tenants;
mod tls;

pub use bounds::Bounds;
pub use clock::{Clock, SystemClock};
pub use error::ServeError;
pub use key::KeyRule;
pub use server::{Builder, Server};
