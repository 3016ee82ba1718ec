//! The in-process tier beside the caches a Rust program would otherwise use.
//!
//! Keys of 91 bytes and values of 100, as a cache of rendered fragments or rows has them. Ours carries expiry, namespace
//! epoch, byte budget and counters in every figure; the peers carry what their name says.
//!
//! ```text
//! peers.rs    one small face over all contenders     hits.rs     hits, inserts, threads
//! traces.rs   keys in the order callers ask          ratio.rs    who keeps the right entries
//! public.rs   the whole `get`, await included        memory.rs   bytes per entry, counted in a process of its own
//! ```

mod hits;
pub mod memory;
pub mod peers;
mod public;
mod ratio;
mod traces;

use crate::report::Report;
use crate::{Effort, Failure};

/// Bytes of a key.
pub const KEY_BYTES: usize = 91;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 100;

/// Runs the bench.
pub fn run(effort: Effort) -> Result<Report, Failure> {
    let mut report = Report::begin("l1");
    report.notes.push(format!("keys of {KEY_BYTES} bytes, values of {VALUE_BYTES}; hits in random order"));
    report.notes.push("quick_cache as in the engine: foldhash, locks of std".into());
    hits::run(effort, &mut report);
    public::run(effort, &mut report)?;
    memory::run(&mut report)?;
    ratio::run(effort, &mut report);
    Ok(report)
}

/// Runs `count` public gets that hit and nothing else, for a profiler.
pub fn calls(count: usize) -> Result<(), Failure> {
    public::calls(count)
}

/// The wire key of an entry: unlike for each `n`, and 91 bytes.
pub fn key(n: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'-'; KEY_BYTES];
    let text = format!("ck:users:profile:{n:016x}");
    key[..text.len()].copy_from_slice(text.as_bytes());
    key
}
