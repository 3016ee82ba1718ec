//! Contenders taking turns.
//!
//! Neighbours, frequency and caches drift over seconds; a contender that runs a second after another meets another
//! machine. So each round runs every contender briefly, every other round in reverse order, and what is compared are the
//! medians of many such rounds. The minimum stands beside it: what the code can do when nobody disturbs it.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::Effort;

/// One thing to be measured: runs its operation the given number of times.
pub struct Contender<'a> {
    name: String,
    run: Box<dyn FnMut(u64) + 'a>,
}

impl<'a> Contender<'a> {
    /// `run` loops itself, so that the call through the box is paid once per round, not per operation.
    pub fn new(name: impl Into<String>, run: impl FnMut(u64) + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    /// Runs its operation that many times.
    pub fn run(mut self, count: u64) {
        (self.run)(count);
    }

    fn time(&mut self, count: u64, clock: Clock) -> Duration {
        let begun = clock.now();
        (self.run)(count);
        clock.now().saturating_sub(begun)
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// What a caller waits for.
    Time,
    /// What the thread computes for, and not what it waits for a core that somebody else has.
    Work,
}

impl Clock {
    fn now(self) -> Duration {
        static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        match self {
            Self::Time => BEGAN.elapsed(),
            Self::Work => {
                let worked = clock_gettime(ClockId::ThreadCPUTime);
                Duration::new(worked.tv_sec as u64, worked.tv_nsec as u32)
            }
        }
    }
}

/// What came of one contender: nanoseconds per operation.
#[derive(Debug, Clone)]
pub struct Timing {
    /// As it was given.
    pub name: String,
    /// The middle round.
    pub median_ns: f64,
    /// The best round.
    pub min_ns: f64,
}

/// Runs the contenders in turns. Each gets rounds of about the same length, long enough for the clock not to matter.
pub fn take_turns(effort: Effort, contenders: Vec<Contender<'_>>) -> Vec<Timing> {
    measure(effort, Clock::Time, contenders)
}

/// The same for contenders that compute in one thread and wait for nothing: in time of the processor, which other programs
/// on the machine take part of the caches from, and nothing else.
pub fn work_in_turns(effort: Effort, contenders: Vec<Contender<'_>>) -> Vec<Timing> {
    measure(effort, Clock::Work, contenders)
}

fn measure(effort: Effort, clock: Clock, mut contenders: Vec<Contender<'_>>) -> Vec<Timing> {
    let (rounds, length) = match effort {
        Effort::Quick => (7, Duration::from_millis(2)),
        Effort::Full => (41, Duration::from_millis(8)),
    };
    let counts: Vec<u64> = contenders.iter_mut().map(|contender| calibrate(contender, length, clock)).collect();
    let mut samples = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let at = if round % 2 == 0 { turn } else { contenders.len() - 1 - turn };
            let elapsed = contenders[at].time(counts[at], clock);
            samples[at].push(elapsed.as_secs_f64() * 1e9 / counts[at] as f64);
        }
    }
    let timings = contenders.iter().zip(samples);
    timings.map(|(contender, ns)| timing(contender.name.clone(), ns)).collect()
}

/// How many operations fill a round. Warms up on the way.
fn calibrate(contender: &mut Contender<'_>, length: Duration, clock: Clock) -> u64 {
    let mut count = 1;
    loop {
        let elapsed = contender.time(count, clock);
        if elapsed >= length / 2 {
            return ((count as f64 * length.as_secs_f64() / elapsed.as_secs_f64()) as u64).max(1);
        }
        count *= 2;
    }
}

fn timing(name: String, mut ns: Vec<f64>) -> Timing {
    ns.sort_by(f64::total_cmp);
    Timing { name, median_ns: median(&ns), min_ns: ns.first().copied().unwrap_or(f64::NAN) }
}

/// The middle of sorted figures.
pub fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
