//! Who keeps the right entries: hit ratios over traces, with the same room for everybody.

use bytes::Bytes;

use super::peers::{Lru, Moka, Ours, Peer, Quick};
use super::{VALUE_BYTES, key, traces};
use crate::Effort;
use crate::report::{Figure, Goal, Report, Row};

const ROOM: usize = 10_000;

pub(super) fn run(effort: Effort, report: &mut Report) {
    let len = match effort {
        Effort::Quick => 200_000,
        Effort::Full => 1_000_000,
    };
    let cases = [
        ("hit ratio, Zipf with scans", traces::zipf_with_scans(10 * ROOM as u64, len), true),
        ("hit ratio, loop over 1.25 × the room", traces::a_loop(ROOM as u64 * 5 / 4, len), false),
    ];
    for (case, trace, scans) in cases {
        let ours = ratio::<Ours>(&trace);
        for peer in [ratio::<Quick>(&trace), ratio::<Moka>(&trace), ratio::<Lru>(&trace)] {
            let goal = (peer.name == Quick::NAME && scans).then_some(Goal::AtLeastLess(1.0));
            report.rows.push(Row::beside(case, "%", ours.clone(), peer, goal));
        }
    }
}

/// Asks, and fills on a miss.
fn ratio<P: Peer>(trace: &[u64]) -> Figure {
    let cache = P::with_room_for(ROOM);
    let mut hits = 0_u64;
    for n in trace {
        let key = key(*n);
        match cache.first_byte(&key) {
            Some(_) => hits += 1,
            None => cache.insert(&key, Bytes::copy_from_slice(&[7; VALUE_BYTES])),
        }
    }
    Figure::new(P::NAME, 100.0 * hits as f64 / trace.len() as f64)
}
