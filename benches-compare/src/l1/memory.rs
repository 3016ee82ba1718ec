//! Bytes of heap per entry, beyond key and value.
//!
//! Counted by an allocator, in a program of its own (`bin/l1_memory.rs`): a counting allocator in this one would slow every
//! contender down by something that is not the contender.

use std::process::Command;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::peers::{Lru, Moka, MokaExpiring, Ours, Peer, Quick, QuickExpiring};
use super::{KEY_BYTES, VALUE_BYTES, key};
use crate::report::{Figure, Report, Row};
use crate::{Failure, artifacts};

/// What the program prints for one cache.
#[derive(Debug, Serialize, Deserialize)]
pub struct Weight {
    /// Whose.
    pub name: String,
    /// Heap bytes of an entry, without the key's and value's own.
    pub bytes_per_entry: f64,
}

const ENTRIES: u64 = 100_000;

/// Weighs every contender with `live_bytes`, which tells how much heap is allocated now.
pub fn weigh_all(live_bytes: impl Fn() -> usize) -> Vec<Weight> {
    fn weigh<P: Peer>(live_bytes: &impl Fn() -> usize) -> Weight {
        let before = live_bytes();
        let cache = P::with_room_for(ENTRIES as usize);
        for n in 0..ENTRIES {
            cache.insert(&key(n), Bytes::copy_from_slice(&[7; VALUE_BYTES]));
        }
        let entries = cache.entries() as f64;
        let bytes = (live_bytes() - before) as f64;
        Weight { name: P::NAME.into(), bytes_per_entry: bytes / entries - (KEY_BYTES + VALUE_BYTES) as f64 }
    }
    vec![
        weigh::<Ours>(&live_bytes),
        weigh::<Quick>(&live_bytes),
        weigh::<QuickExpiring>(&live_bytes),
        weigh::<Moka>(&live_bytes),
        weigh::<MokaExpiring>(&live_bytes),
        weigh::<Lru>(&live_bytes),
    ]
}

pub(super) fn run(report: &mut Report) -> Result<(), Failure> {
    let output = Command::new(artifacts::program("l1-memory")?).output()?;
    let weights: Vec<Weight> = serde_json::from_slice(&output.stdout)?;
    let figure = |weight: &Weight| Figure::new(weight.name.clone(), weight.bytes_per_entry);
    let ours = figure(&weights[0]);
    let case = "overhead per entry, 100 k entries";
    report.rows.push(Row::alone(case, "B", ours.clone(), Some(112.0)));
    for peer in &weights[1..] {
        report.rows.push(Row::beside(case, "B", ours.clone(), figure(peer), None));
    }
    Ok(())
}
