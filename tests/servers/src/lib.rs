#![forbid(unsafe_code)]
//! Real servers, a fault proxy and the Python peer, for tests.
//!
//! A double would answer as its author thinks a server answers; the faults that matter are where that is wrong. So a test
//! starts the real program, on a free loopback port and in a private directory, and knows it by its process id: it is
//! asked who it is before a test sees it, and ended when the test ends, also by a panic and also when the test process
//! itself is killed. Nothing is skipped: what cannot start fails and names the package that brings it.

pub mod certificates;
pub mod memcached;
pub mod moto;
pub mod process;
pub mod proxy;
pub mod python;
pub mod redis;
pub mod serve;
pub mod zig;

use std::path::{Path, PathBuf};

/// The workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
