//! The law between a cachekit host and its plugins: plain C types, nothing else.
//!
//! A plugin exports one function that returns a [`CkPluginV1`] of 40 bytes. Everything else is found by asking
//! [`CkPluginV1::query`] for a capability by its id, which answers with a table of functions or NULL. **No table and no
//! record in this crate ever grows or changes**: a change is a new id beside the old one. So a plugin built today loads
//! in every later host, and a later plugin runs in today's host with fewer powers.
//!
//! The contract is frozen since 1.0: backends for files, Redis, Memcached and cachekit.io had passed through it before.
//! `tests/frozen-1.0.txt` holds every size, offset, type and number, and a test names what moved.
//!
//! The C header `include/cachekit_plugin.h` is generated from this crate and compiled against its own layout in a test.
//! Rust authors never see these types: they depend on `cachekit-plugin`.
//!
//! # Rules that hold everywhere
//!
//! * Threads: every function may be called from any thread and at the same time as any other, unless its comment says
//!   otherwise. `create` and `destroy` are serialised by the host.
//! * A [`CkSlice`] is borrowed for the call it is passed to, no longer. A [`CkBuf`] is owned by whoever holds it.
//! * Text is UTF-8 without a terminating zero.
//! * No function unwinds. A plugin catches its own exceptions and panics and answers [`CK_E_PANIC`].
//! * `struct_size` is set by whoever fills a record; whoever reads it never reads past it.

#![no_std]
#![deny(missing_docs)]

mod backend;
mod data;
mod driver;
mod host;
mod powers;
#[cfg(feature = "reflect")]
pub mod reflect;
mod root;

pub use backend::*;
pub use data::*;
pub use driver::*;
pub use host::*;
pub use powers::*;
pub use root::*;
