//! A network whose fault changes all the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cachekit_test_servers::proxy::{Direction, Fault, Proxy};

use crate::random::Random;

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Climate {
    /// Bytes come late, in pieces, or not at all, but never wrong.
    Rough,
    /// Bytes also come twice and changed.
    Hostile,
}

/// Weather over a proxy, fair again when it is dropped.
#[derive(Debug)]
pub struct Weather {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<BTreeMap<&'static str, u64>>>,
}

impl Weather {
    /// Begins.
    pub fn begin(proxy: &Arc<Proxy>, climate: Climate, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (proxy, until) = (Arc::clone(proxy), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut random = Random::new(seed, 0);
            let mut seen = BTreeMap::new();
            while !until.load(Ordering::Relaxed) {
                let name = change(&proxy, climate, &mut random);
                *seen.entry(name).or_default() += 1;
                std::thread::sleep(Duration::from_millis(5 + random.below(50)));
            }
            proxy.set(Fault::None);
            seen
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends; returns how often each fault happened.
    pub fn end(mut self) -> BTreeMap<&'static str, u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().unwrap_or_default()).unwrap_or_default()
    }
}

impl Drop for Weather {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn change(proxy: &Proxy, climate: Climate, random: &mut Random) -> &'static str {
    let kinds = if climate == Climate::Hostile { 13 } else { 10 };
    let short = Duration::from_micros(100 + random.below(15_000));
    match random.below(kinds) {
        0 | 1 => {
            proxy.set(Fault::None);
            "fair"
        }
        2 => {
            proxy.set(Fault::Delay(short));
            "late replies"
        }
        3 => {
            proxy.set_on(Direction::Requests, Fault::Delay(short));
            "late requests"
        }
        4 => {
            proxy.set(Fault::Stall);
            "stall"
        }
        5 => {
            proxy.reset_once();
            "reset"
        }
        6 => {
            proxy.set(Fault::CutAfter(random.below(3_000)));
            "cut"
        }
        7 => {
            proxy.set(Fault::Trickle { bytes: 1 + random.below(400) as usize, every: Duration::from_micros(500) });
            "trickle"
        }
        8 => {
            proxy.set(if random.percent(50) { Fault::HalfOpen } else { Fault::BlackHole });
            "silent connection"
        }
        9 => {
            proxy.set(Fault::Refuse);
            "refusal"
        }
        10 => {
            proxy.set(Fault::Duplicate);
            "duplicated replies"
        }
        _ => {
            proxy.set(Fault::Garble(random.draw()));
            "garbled replies"
        }
    }
}
