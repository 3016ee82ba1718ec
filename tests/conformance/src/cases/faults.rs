//! A store that is out of reach: an error in time, never a miss.

use std::time::Duration;

use cachekit_plugin::{BackendError, Bytes, Cx, Key, Kind, Operation, Retry};

use crate::case::{Case, Failure, case, ensure};
use crate::instance::DEFAULT_LIFE;
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(Faults, an_outage_is_an_error_and_never_a_miss),
    case!(Faults, health_tells_of_an_outage),
    case!(Faults, an_instance_can_be_closed_during_an_outage),
];

/// Time an operation gets during an outage: bounds how long the case waits for a store that never answers.
const BUDGET: Duration = Duration::from_millis(300);

/// Refuted unless `answer` is an error that tells a caller to expect better times.
fn outage<T>(operation: Operation, answer: Result<T, BackendError>) -> Result<(), Failure> {
    let Err(error) = answer else {
        return Err(Failure::Refuted(format!("{operation} answers although the store is out of reach")));
    };
    ensure!(
        matches!(error.kind(), Kind::Transient | Kind::Timeout),
        "an outage is neither transient nor a timeout, but: {error}"
    );
    ensure!(error.retry() != Retry::No, "an outage is said to be without hope: {error}");
    Ok(())
}

fn an_outage_is_an_error_and_never_a_miss(s: &Subject) -> Result<(), Failure> {
    // Opening must work, or a program could not start while its cache is away.
    let (instance, key) = (s.unreachable()?, s.key("k"));
    let (backend, wire) = (instance.as_dyn(), Key::from_wire(&key));
    for _ in 0..3 {
        let cx = Cx::within(BUDGET);
        outage(Operation::Get, instance.finish(Operation::Get, backend.get(wire, &cx))?)?;
        let cx = Cx::within(BUDGET);
        outage(Operation::Exists, instance.finish(Operation::Exists, backend.exists(wire, &cx))?)?;
        let cx = Cx::within(BUDGET);
        outage(Operation::Delete, instance.finish(Operation::Delete, backend.delete(wire, &cx))?)?;
        let cx = Cx::within(BUDGET);
        let set = backend.set(wire, Bytes::from_static(b"v"), DEFAULT_LIFE, &cx);
        outage(Operation::Set, instance.finish(Operation::Set, set)?)?;
    }
    Ok(())
}

fn health_tells_of_an_outage(s: &Subject) -> Result<(), Failure> {
    let instance = s.unreachable()?;
    let cx = Cx::within(BUDGET);
    if let Ok(health) = instance.finish(Operation::Health, instance.as_dyn().health(&cx))? {
        ensure!(!health.healthy, "a store that is out of reach calls itself healthy");
    }
    Ok(())
}

fn an_instance_can_be_closed_during_an_outage(s: &Subject) -> Result<(), Failure> {
    let instance = s.unreachable()?;
    // With or without an error: what counts is that the host gets its thread back.
    for _ in 0..2 {
        let cx = Cx::within(BUDGET);
        let _ = instance.finish(Operation::Close, instance.as_dyn().close(&cx))?;
    }
    Ok(())
}
