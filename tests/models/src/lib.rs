#![forbid(unsafe_code)]
//! The engine's concurrent kernels under a scheduler that decides who runs next: each property is tried under thousands of
//! schedules, and each mutant of a kernel is caught by the property it breaks.
//!
//! What is checked is the file that ships, not a model of it: `build.rs` copies it, puts shuttle's locks, atomics and
//! threads in the place of the standard library's, and appends its properties. Nothing in the engine knows of this, so it
//! costs nothing at run time. A mutant is the same copy with one text replaced; a text that does not occur exactly once
//! fails the build, so that a mutant cannot quietly become the sound kernel.
//!
//! # Adding a kernel
//!
//! 1. `kernels/NAME.rs`: one `pub const KERNEL: Kernel`: the file in `cachekit-core/src`, what is replaced in all copies,
//!    the names of the properties, and the mutants, each with the property that must catch it.
//! 2. `models/NAME.rs`: a function for each property. It is a child of the copy (`use super::*` sees private items), and is
//!    called once per schedule. It panics where the property does not hold; a deadlock is a panic, too.
//! 3. `build.rs`: the name in the macro at its end. `tests/kernels.rs`: the name in its list, and below `crate::` whatever
//!    the kernel imports from the engine.
//!
//! Keep a property to two to four threads and a handful of steps, or the schedules that matter are rare. What is shared
//! between the threads of a property, and is no part of the kernel, may be a `std` atomic: it is not a point where the
//! scheduler acts, so it observes without disturbing. Asynchronous kernels run under `shuttle::future::{spawn, block_on}`;
//! tokio's `Notify` works there as it is. Shuttle treats every atomic as sequentially consistent: an ordering that is too
//! weak is not found here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};

/// Schedules per property and scheduler, unless `CACHEKIT_MODEL_SCHEDULES` says otherwise.
const SCHEDULES: usize = 1_500;
/// Schedules under which a mutant has to be caught. Always the same ones: a test that fails is one that always fails.
const SCHEDULES_OF_A_MUTANT: usize = 20_000;
const SEED: u64 = 0x5EED;
/// Preemptions of a PCT schedule: most races need two.
const DEPTH: usize = 3;

/// Runs a property under random schedules and under schedules with few, well-placed preemptions.
///
/// # Panics
/// If it does not hold under one of them; shuttle prints the schedule.
pub fn holds(property: fn()) {
    let schedules = std::env::var("CACHEKIT_MODEL_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(SCHEDULES);
    let persistence = FailurePersistence::Print;
    Runner::new(RandomScheduler::new_from_seed(SEED, schedules), config(persistence.clone())).run(property);
    Runner::new(PctScheduler::new_from_seed(SEED, DEPTH, schedules), config(persistence)).run(property);
}

/// Runs a property on a mutant.
///
/// # Panics
/// If it holds under all schedules: then the property cannot see what the mutant broke.
pub fn fails(property: fn()) {
    let caught = |run: &dyn Fn()| catch_unwind(AssertUnwindSafe(run)).is_err();
    let random = || {
        let scheduler = RandomScheduler::new_from_seed(SEED, SCHEDULES_OF_A_MUTANT);
        Runner::new(scheduler, config(FailurePersistence::None)).run(property);
    };
    let pct = || {
        let scheduler = PctScheduler::new_from_seed(SEED, DEPTH, SCHEDULES_OF_A_MUTANT);
        Runner::new(scheduler, config(FailurePersistence::None)).run(property);
    };
    assert!(caught(&random) || caught(&pct), "the mutant passes: the property does not see what it broke");
}

fn config(failure_persistence: FailurePersistence) -> Config {
    let mut config = Config::new();
    config.failure_persistence = failure_persistence;
    // The default of 32 KiB is too small for formatting and logging on a coroutine.
    config.stack_size = 256 << 10;
    config
}
