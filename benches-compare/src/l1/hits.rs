//! What a hit and an insert cost, alone and with a second thread.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use bytes::Bytes;
use cachekit_core::l1::{Epoch, Seen, Typed};

use super::peers::{EPOCH, Lru, Moka, MokaExpiring, Ours, Peer, Quick, QuickExpiring};
use super::traces::{shuffled, zipf};
use super::{KEY_BYTES, VALUE_BYTES, key};
use crate::Effort;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{Contender, Timing, median, take_turns};

type Keys = [[u8; KEY_BYTES]];

pub(super) fn run(effort: Effort, report: &mut Report) {
    for (case, entries, of_raw) in [("hit, 1 k entries", 1_000, 0.90), ("hit, 100 k entries", 100_000, 1.10)] {
        hit(effort, case, entries, of_raw, report);
    }
    hot_keys(effort, report);
    insert(effort, report);
    two_threads(effort, report);
    typed(effort, report);
    invalidate(effort, report);
}

/// A cache with all of the keys in it. Twice the room: shards fill unevenly, and none of the keys may be missing.
fn filled<P: Peer>(keys: &Keys) -> P {
    let cache = P::with_room_for(2 * keys.len());
    for key in keys {
        cache.insert(key, value());
    }
    assert_eq!(cache.entries(), keys.len() as u64, "{} lost entries before it was full", P::NAME);
    cache
}

fn value() -> Bytes {
    Bytes::copy_from_slice(&[7; VALUE_BYTES])
}

fn hit(effort: Effort, case: &'static str, entries: u64, of_raw: f64, report: &mut Report) {
    let keys: Vec<_> = shuffled(entries).into_iter().map(key).collect();
    fn contender<P: Peer + 'static>(keys: &Keys) -> Contender<'_> {
        let cache: P = filled(keys);
        let mut at = 0;
        Contender::new(P::NAME, move |count| {
            for _ in 0..count {
                at = if at + 1 == keys.len() { 0 } else { at + 1 };
                assert!(black_box(cache.first_byte(&keys[at])).is_some());
            }
        })
    }
    let timings = take_turns(
        effort,
        vec![
            contender::<Ours>(&keys),
            contender::<Quick>(&keys),
            contender::<QuickExpiring>(&keys),
            contender::<Moka>(&keys),
            contender::<MokaExpiring>(&keys),
            contender::<Lru>(&keys),
            handle(&keys),
        ],
    );
    let (with_handle, looks) = timings.split_last().expect("there are contenders");
    beside(case, looks, report, |peer| match peer {
        Quick::NAME => Some(Goal::RatioAtMost(of_raw)),
        MokaExpiring::NAME => Some(Goal::RatioAtMost(0.25)),
        _ => None,
    });
    report.rows.push(Row::beside(case, "ns", with_handle.into(), (&looks[1]).into(), None));
}

/// Ours again, by a handle that owns a reference to the entry: what it costs to keep a value longer than the look at it.
fn handle(keys: &Keys) -> Contender<'_> {
    let cache: Ours = filled(keys);
    let mut at = 0;
    Contender::new("cachekit L1, by a handle", move |count| {
        for _ in 0..count {
            at = if at + 1 == keys.len() { 0 } else { at + 1 };
            let (hash, key) = cache.name(&keys[at]);
            let hit = cache.tier().get(hash, key, EPOCH);
            assert!(black_box(hit.and_then(|hit| hit.stored().first().copied())).is_some());
        }
    })
}

/// What it costs a hit that the keys are counted which are asked for most.
fn hot_keys(effort: Effort, report: &mut Report) {
    let keys: Vec<_> = shuffled(1_000).into_iter().map(key).collect();
    let contender = |name, counts| {
        let (cache, keys) = (Ours::with_room_for(2 * keys.len()).counting(counts), &keys);
        for key in keys {
            cache.insert(key, value());
        }
        let mut at = 0;
        Contender::new(name, move |count| {
            for _ in 0..count {
                at = if at + 1 == keys.len() { 0 } else { at + 1 };
                assert!(black_box(cache.first_byte(&keys[at])).is_some());
            }
        })
    };
    let timings = take_turns(effort, vec![contender("hot keys", 100), contender("none", 0)]);
    let (counting, without) = (Figure::from(&timings[0]), Figure::from(&timings[1]));
    report.rows.push(Row::beside("hit, counting hot keys", "ns", counting, without, None));
}

fn beside(case: &str, timings: &[Timing], report: &mut Report, goal: impl Fn(&str) -> Option<Goal>) {
    let ours = Figure::from(&timings[0]);
    let rows = timings[1..].iter().map(|peer| Row::beside(case, "ns", ours.clone(), peer.into(), goal(&peer.name)));
    report.rows.extend(rows);
}

/// Inserts of new keys into a full cache: each pushes another entry out. The value is fresh, because a cache that keeps
/// one is handed one.
fn insert(effort: Effort, report: &mut Report) {
    const ROOM: usize = 100_000;
    let keys: Vec<_> = (0..4 * ROOM as u64).map(key).collect();
    fn contender<P: Peer + 'static>(keys: &Keys) -> Contender<'_> {
        let cache = P::with_room_for(ROOM);
        let at = Cell::new(0);
        let insert = move |count| {
            for _ in 0..count {
                at.set(if at.get() + 1 == keys.len() { 0 } else { at.get() + 1 });
                cache.insert(&keys[at.get()], value());
            }
        };
        insert(2 * ROOM as u64);
        Contender::new(P::NAME, insert)
    }
    let timings = take_turns(
        effort,
        vec![
            contender::<Ours>(&keys),
            contender::<Quick>(&keys),
            contender::<QuickExpiring>(&keys),
            contender::<Moka>(&keys),
            contender::<MokaExpiring>(&keys),
            contender::<Lru>(&keys),
        ],
    );
    let case = "insert + evict, 100 k entries";
    beside(case, &timings, report, |peer| (peer == Quick::NAME).then_some(Goal::RatioAtMost(1.0)));
}

/// Two threads that ask for the same popular keys. Threads are started once per round, and the clock runs between their
/// common start and the last one's end.
fn two_threads(effort: Effort, report: &mut Report) {
    const ENTRIES: u64 = 100_000;
    let (rounds, asks) = match effort {
        Effort::Quick => (5, 100_000),
        Effort::Full => (21, 500_000),
    };
    let keys: Vec<_> = (0..ENTRIES).map(key).collect();
    let traces = [zipf(ENTRIES, asks, 1), zipf(ENTRIES, asks, 2)];

    fn mops(cache: &impl Peer, keys: &Keys, traces: &[Vec<u64>; 2]) -> f64 {
        let start = Barrier::new(2);
        let ask = |trace: &[u64]| {
            start.wait();
            let begun = Instant::now();
            for at in trace {
                assert!(black_box(cache.first_byte(&keys[*at as usize])).is_some());
            }
            (begun, Instant::now())
        };
        let spans = std::thread::scope(|scope| {
            let other = scope.spawn(|| ask(&traces[1]));
            [ask(&traces[0]), other.join().expect("the other thread asks the same")]
        });
        let begun = spans[0].0.min(spans[1].0);
        let ended = spans[0].1.max(spans[1].1);
        (traces[0].len() + traces[1].len()) as f64 / (ended - begun).as_secs_f64() / 1e6
    }

    type Run<'a> = Box<dyn Fn() -> f64 + 'a>;
    fn contender<'a, P: Peer + 'a>(keys: &'a Keys, traces: &'a [Vec<u64>; 2]) -> (&'static str, Run<'a>) {
        let cache: P = filled(keys);
        (P::NAME, Box::new(move || mops(&cache, keys, traces)))
    }
    let contenders = [
        contender::<Ours>(&keys, &traces),
        contender::<Quick>(&keys, &traces),
        contender::<QuickExpiring>(&keys, &traces),
        contender::<Moka>(&keys, &traces),
        contender::<MokaExpiring>(&keys, &traces),
        contender::<Lru>(&keys, &traces),
    ];
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let at = if round % 2 == 0 { turn } else { contenders.len() - 1 - turn };
            samples[at].push((contenders[at].1)());
        }
    }
    let figures: Vec<Figure> = contenders
        .iter()
        .zip(samples)
        .map(|((name, _), mut mops)| {
            mops.sort_by(f64::total_cmp);
            Figure { name: (*name).into(), value: median(&mops), best: mops.last().copied() }
        })
        .collect();
    for peer in &figures[1..] {
        let goal = (peer.name == Quick::NAME).then_some(Goal::RatioAtLeast(1.0));
        report.rows.push(Row::beside(
            "2 threads, Zipf, 100 k entries",
            "Mop/s",
            figures[0].clone(),
            peer.clone(),
            goal,
        ));
    }
}

/// A decoded value out of the tier, beside the bytes out of it.
fn typed(effort: Effort, report: &mut Report) {
    let keys: Vec<_> = shuffled(1_000).into_iter().map(key).collect();
    let bytes: Ours = filled(&keys);
    let typed = Ours::with_room_for(4 * keys.len());
    for key in &keys {
        let copy = Arc::new(String::from_utf8_lossy(&value()).into_owned()) as Typed;
        let tier = typed.tier();
        let _kept = tier.insert(tier.hash(key), key, EPOCH, value(), typed.life(), Some(copy), VALUE_BYTES as u64);
    }
    let (mut a, mut b) = (0, 0);
    let keys = &keys;
    let next = move |at: &mut usize| {
        *at = if *at + 1 == keys.len() { 0 } else { *at + 1 };
        &keys[*at]
    };
    let timings = take_turns(
        effort,
        vec![
            Contender::new("Arc<T>", move |count| {
                for _ in 0..count {
                    let key = next(&mut a);
                    let (hash, key) = typed.name(key);
                    let seen = typed.tier().get_typed::<String>(hash, key, EPOCH);
                    assert!(matches!(black_box(seen), Some(Seen::Decoded(..))));
                }
            }),
            Contender::new("bytes", move |count| {
                for _ in 0..count {
                    assert!(black_box(bytes.first_byte(next(&mut b))).is_some());
                }
            }),
        ],
    );
    beside("typed hit, 1 k entries", &timings, report, |_| Some(Goal::RatioAtMost(2.0)));
}

/// A namespace of 10 000 entries invalidated: the epoch moves on, and no reader of the new one finds any of them.
fn invalidate(effort: Effort, report: &mut Report) {
    const ENTRIES: u64 = 10_000;
    let keys: Vec<_> = (0..ENTRIES).map(key).collect();
    let cache: Ours = filled(&keys);
    let epoch = AtomicU64::new(EPOCH.0);
    let timings = take_turns(
        effort,
        vec![Contender::new("an epoch moves on", |count| {
            for _ in 0..count {
                black_box(epoch.fetch_add(1, Ordering::AcqRel));
            }
        })],
    );
    let now = Epoch(epoch.load(Ordering::Acquire));
    let survivors = keys.iter().filter(|key| cache.tier().get(cache.name(*key).0, *key, now).is_some()).count();
    let case = "invalidate a namespace of 10 k entries";
    report.rows.push(Row::alone(case, "ns", (&timings[0]).into(), Some(100.0)));
    report.rows.push(Row::alone(case, "left", Figure::new("entries found after", survivors as f64), Some(0.0)));
}
