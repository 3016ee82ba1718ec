//! Watches a life from its beginning to its end, on a clock that cannot be injected.
//!
//! Real stores keep their own time, so the kit can only bound it from outside: an entry must be there for any answer that
//! arrives before its life has passed since the write *began*, and gone for any question put after life, step and slack
//! have passed since the write *returned*. Both hold on a machine of any speed. Nothing sleeps for a fixed time.
//!
//! Between two looks an entry may end too early or too late and nobody knows, so a life counts as watched only when the look
//! that missed the entry came soon after one that saw it.

use std::time::{Duration, Instant};

use cachekit_plugin::{Limits, Ttl};

use crate::case::{Failure, ensure};
use crate::subject::Subject;

/// A quarter of a second beyond life and step: for stores that expire in rounds.
const SLACK: Duration = Duration::from_millis(250);

/// The shortest life worth watching, milliseconds: the step of the store, and enough for a few round trips.
pub(crate) fn short_ms(limits: Limits) -> Result<u64, Failure> {
    let step = limits.ttl_step_ms.max(1);
    if step > 30_000 {
        return Err(Failure::NotAsked(format!("lives of this store are {step} ms and more, too long to watch")));
    }
    Ok(40_u64.div_ceil(step) * step)
}

/// `ms` milliseconds, which are never zero here.
pub(crate) fn ms(ms: u64) -> Ttl {
    Ttl::from_ms(ms).unwrap_or(Ttl::Never)
}

/// Begins a short life with `begin(ms)` and watches it with `is_there` until it has been seen alive and ended.
///
/// A machine that is too busy to look in time gets a longer life: also where it saw the entry and then nothing for a quarter of
/// its life, in which a store that ends lives at their half would have gone unseen.
pub(crate) fn watch(
    subject: &Subject,
    what: &str,
    begin: impl Fn(u64) -> Result<(), Failure>,
    is_there: impl Fn() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let step = Duration::from_millis(subject.limits().ttl_step_ms);
    let mut life_ms = short_ms(subject.limits())?;
    for _ in 0..5 {
        let life = Duration::from_millis(life_ms);
        let began = Instant::now();
        begin(life_ms)?;
        let over = Instant::now() + life + step + SLACK;
        let mut seen: Option<Instant> = None;
        loop {
            let asked = Instant::now();
            let there = is_there()?;
            let answered = Instant::now();
            if !there {
                ensure!(
                    answered >= began + life,
                    "{what} was gone {:?} after it began, before its life of {life_ms} ms had passed \
                     (a store that keeps the end in whole steps of {step:?} has to round that end up as well)",
                    answered - began
                );
                if seen.is_some_and(|seen| answered - seen <= life / 4) {
                    return Ok(());
                }
                break;
            }
            ensure!(asked < over, "{what} was still there {:?} after its life of {life_ms} ms began", asked - began);
            // When it was asked: it was there then or later.
            seen = Some(asked);
            std::thread::sleep((life / 16).min(Duration::from_millis(50)));
        }
        life_ms = life_ms.saturating_mul(4);
    }
    Err(Failure::NotAsked("the machine is too busy to see an entry between its write and its end".into()))
}

/// Waits until a short life that begins now has ended, so that every one that began before has ended too.
///
/// A witness that has ended says so of its own clock alone: a store of several servers keeps several, which tick at
/// different moments. So what the store was given at most, a life, a step and the slack, has to pass as well.
pub(crate) fn outlast(subject: &Subject) -> Result<(), Failure> {
    let witness = subject.key("witness");
    let backend = subject.backend();
    let step = Duration::from_millis(subject.limits().ttl_step_ms);
    let over = Instant::now() + Duration::from_millis(short_ms(subject.limits())?) + step + SLACK;
    watch(
        subject,
        "an entry",
        |life_ms| backend.set_for(&witness, &b"w"[..], ms(life_ms)),
        || Ok(backend.get(&witness)?.is_some()),
    )?;
    std::thread::sleep(over.saturating_duration_since(Instant::now()));
    Ok(())
}
