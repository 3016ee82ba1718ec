//! Deadlines: passed, racing, absent.

use std::time::Duration;

use cachekit_plugin::{Backend, Key};
use cachekit_plugin::{Bytes, Cx, Deadline, Kind, Operation};

use crate::case::{Case, Failure, case, ensure};
use crate::instance::{Attempt, DEFAULT_LIFE};
use crate::sample::echo;
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(Deadline, a_passed_deadline_is_a_timeout_or_an_answer),
    case!(Deadline, an_operation_that_races_its_deadline_ends),
    case!(Deadline, no_deadline_is_no_obstacle),
];

/// Runs every operation of the contract, each under a new `deadline`, and looks at each answer.
///
/// `round` gives each call a key of its own: work that had begun when its deadline passed may still end after it (a delete above
/// all), and must not meet the next round.
fn under(s: &Subject, round: u64, deadline: impl Fn() -> Deadline) -> Result<(), Failure> {
    let (key, untouched) = (s.key(&format!("k{round}")), s.key("untouched"));
    s.backend().set(&key, &b"old"[..])?;
    s.backend().set(&untouched, echo(&untouched))?;
    let instance = s.backend();
    let backend: &dyn Backend = instance.as_dyn();
    let wire = Key::from_wire(&key);
    let cx = Cx::new(deadline());
    answer_or_timeout(instance.finish(Operation::Health, backend.health(&cx)))?;
    let cx = Cx::new(deadline());
    answer_or_timeout(instance.finish(Operation::Exists, backend.exists(wire, &cx)))?;
    let cx = Cx::new(deadline());
    let found: Option<Option<Bytes>> = answer_or_timeout(instance.finish(Operation::Get, backend.get(wire, &cx)))?;
    ensure!(
        found.is_none_or(|found| found.as_deref() == Some(b"old")),
        "a get that ran out of time returned something else than the value, where it should be a timeout"
    );
    let cx = Cx::new(deadline());
    let set = backend.set(wire, Bytes::from_static(b"new"), DEFAULT_LIFE, &cx);
    let stored = answer_or_timeout(instance.finish(Operation::Set, set))?;
    let found = instance.get(&key)?;
    match stored {
        Some(()) => ensure!(found.as_deref() == Some(b"new"), "a set succeeded without storing its value"),
        None => ensure!(
            matches!(found.as_deref(), Some(b"old" | b"new")),
            "a set that ran out of time left neither the old nor the new value"
        ),
    }
    let cx = Cx::new(deadline());
    answer_or_timeout(instance.finish(Operation::Delete, backend.delete(wire, &cx)))?;
    instance.expect(&untouched, Some(&echo(&untouched)), "after operations that ran out of time")
}

/// The answer, `None` for a timeout. Anything else hides from the caller that trying again can help.
fn answer_or_timeout<T>(attempt: Attempt<T>) -> Result<Option<T>, Failure> {
    match attempt? {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(error.kind(), Kind::Timeout | Kind::Throttled) => Ok(None),
        Err(error) => Err(Failure::Refuted(format!("an operation ran out of time, but says: {error}"))),
    }
}

fn a_passed_deadline_is_a_timeout_or_an_answer(s: &Subject) -> Result<(), Failure> {
    for passed in [0, 1] {
        under(s, passed, || Deadline::from_monotonic_ns(passed))?;
    }
    Ok(())
}

fn an_operation_that_races_its_deadline_ends(s: &Subject) -> Result<(), Failure> {
    for microseconds in [1, 5, 20, 50, 100, 200, 500, 1000, 5000] {
        under(s, microseconds, || Deadline::after(Duration::from_micros(microseconds)))?;
    }
    Ok(())
}

fn no_deadline_is_no_obstacle(s: &Subject) -> Result<(), Failure> {
    let (instance, key) = (s.backend(), s.key("k"));
    // The largest point in time that is not "never", and "never": both overflow careless arithmetic.
    for deadline in [Deadline::NEVER, Deadline::from_monotonic_ns(u64::MAX - 1)] {
        let cx = Cx::new(deadline);
        let (backend, wire) = (instance.as_dyn(), Key::from_wire(&key));
        instance.finish(Operation::Set, backend.set(wire, echo(&key), DEFAULT_LIFE, &cx))??;
        let found = instance.finish(Operation::Get, backend.get(wire, &cx))??;
        ensure!(found == Some(echo(&key)), "without a deadline, get does not return what was set");
        ensure!(
            instance.finish(Operation::Delete, backend.delete(wire, &cx))??,
            "without a deadline, delete finds nothing"
        );
    }
    Ok(())
}
