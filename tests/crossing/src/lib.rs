// Not `forbid`: the C ABI is called directly in `vtable`.
#![deny(unsafe_code)]
//! What a call into a plugin costs beside the same store linked, in instructions: a busy machine changes times, not these.
//!
//! One source (`null-plugin`) is met in four ways ([`Way`]) and asked six operations ([`Operation`]). The program
//! `crossing` makes the calls and nothing else, [`Counter`] runs it below valgrind, and `tests/instructions.rs` holds the
//! counts to [`BOUNDS`]. The benches take the times of the same calls.

mod counts;
mod stores;
mod vtable;

pub use counts::{BOUNDS, Bound, Count, Counter, misses, table};
pub use stores::{Operation, Store, Way};
pub use vtable::Tables;

/// The variable in which the program `crossing` finds the absolute path of the library of `null-plugin`.
pub const LIBRARY: &str = "CACHEKIT_NULL_PLUGIN";

/// Why a store could not be opened, or its calls not be counted.
pub type Failure = Box<dyn std::error::Error>;
