//! Runs cases: each on a thread of its own that is abandoned at its time limit, with panics caught.
//!
//! A thread and not a task, because a backend can hang inside `poll`, where no executor gets it back. Against a backend
//! that ends the process a caller runs each case in a child: [`run_case`] is all the child has to call.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::case::{Case, Failure, Power};
use crate::harness::Harness;
use crate::report::{CaseResult, Report};
use crate::subject::{Patience, Subject};

/// Runs every case that `filter` chooses, with the kit's own patience: see [`run_all_with`].
pub fn run_all(harness: Arc<dyn Harness>, filter: impl Fn(&Case) -> bool) -> Report {
    run_all_with(&harness, Patience::default(), filter)
}

/// Runs every case that `filter` chooses: first those that wait for lives to end, all at once, then the others, one after the
/// other. Each has an instance and keys of its own. Stores that count whole seconds would otherwise keep the table for a minute.
pub fn run_all_with(harness: &Arc<dyn Harness>, patience: Patience, filter: impl Fn(&Case) -> bool) -> Report {
    let chosen: Vec<&'static Case> = crate::cases().iter().filter(|case| filter(case)).collect();
    let waiting: Vec<Running> =
        chosen.iter().filter(|case| case.waits).map(|case| Running::begin(harness, case, patience)).collect();
    let mut waited = waiting.into_iter().map(Running::end).collect::<Vec<_>>().into_iter();
    let result = |case: &'static Case| match case.waits {
        true => waited.next().unwrap_or_else(|| CaseResult::failed(case, "it was not run")),
        false => run_case(harness, case, patience),
    };
    Report::of(chosen.into_iter().map(result).collect())
}

/// Runs one case.
pub fn run_case(harness: &Arc<dyn Harness>, case: &'static Case, patience: Patience) -> CaseResult {
    Running::begin(harness, case, patience).end()
}

/// A case on its thread.
struct Running {
    case: &'static Case,
    result: Receiver<CaseResult>,
    time_limit: Duration,
    began: Instant,
}

impl Running {
    fn begin(harness: &Arc<dyn Harness>, case: &'static Case, patience: Patience) -> Self {
        let (sender, result) = sync_channel(1);
        let work = {
            let (harness, sender) = (Arc::clone(harness), sender.clone());
            move || {
                let result = catch_unwind(AssertUnwindSafe(|| ask(&harness, case, patience)))
                    .unwrap_or_else(|panic| CaseResult::failed(case, format!("panicked: {}", text_of(&*panic))));
                // Nobody listens any more once the time limit has passed.
                let _ = sender.send(result);
            }
        };
        if let Err(error) = std::thread::Builder::new().name(format!("case-{}", case.group)).spawn(work) {
            let _ = sender.send(CaseResult::failed(case, format!("no thread could be started for it: {error}")));
        }
        Self { case, result, time_limit: patience.case.unwrap_or(case.time_limit), began: Instant::now() }
    }

    fn end(self) -> CaseResult {
        let Self { case, result, time_limit, began } = self;
        result.recv_timeout(time_limit.saturating_sub(began.elapsed())).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => CaseResult::failed(case, format!("had not ended after {time_limit:?}")),
            RecvTimeoutError::Disconnected => CaseResult::failed(case, "its thread ended without a result"),
        })
    }
}

fn ask(harness: &Arc<dyn Harness>, case: &Case, patience: Patience) -> CaseResult {
    let outcome = Subject::open(harness, case, patience).and_then(|subject| {
        let missing = case.needs.iter().find(|power| !power.is_offered_by(subject.backend().as_dyn()));
        match missing {
            Some(power) => Err(absent(&subject, *power)?),
            None => (case.run)(&subject).inspect(|()| subject.clean_up()),
        }
    });
    match outcome {
        Ok(()) => CaseResult::passed(case),
        Err(Failure::NotAsked(because)) => CaseResult::not_asked(case, because),
        Err(failure) => CaseResult::failed(case, failure.to_string()),
    }
}

/// The opposite of a power that works is one that is absent everywhere: a host plans with the first answer.
fn absent(subject: &Subject, power: Power) -> Result<Failure, Failure> {
    if power.is_offered_by(subject.extra()?.as_dyn()) {
        return Err(Failure::Refuted(format!("one instance offers the power `{power}` and another does not")));
    }
    Ok(Failure::NotAsked(format!("the backend does not offer the power `{power}`")))
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "with something that is no text",
    }
}
