//! The family's recorded traces, and what they leave open: dropped probes, late answers, growing pauses, any sequence.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::clock::ManualClock;

fn breaker(config: BreakerConfig) -> (Breaker, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    (Breaker::new(config, Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Lets a call through and reports how it ended.
fn call(breaker: &Breaker, failed: bool) -> bool {
    breaker.admit(Operation::Get).map(|permit| permit.settle(failed)).is_ok()
}

#[derive(Deserialize)]
struct Vectors {
    traces: Vec<Trace>,
}

#[derive(Deserialize)]
struct Trace {
    name: String,
    config: TraceConfig,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct TraceConfig {
    failure_threshold: u32,
    success_threshold: u32,
    timeout_seconds: f64,
    half_open_requests: u32,
}

#[derive(Deserialize)]
struct Step {
    advance_s: u64,
    op: String,
    admitted: Option<bool>,
    state: String,
}

/// Runs a trace; the first step that ends otherwise is the error.
fn replay(trace: &Trace) -> Result<(), String> {
    let config = BreakerConfig {
        failures: trace.config.failure_threshold,
        successes: trace.config.success_threshold,
        probes: trace.config.half_open_requests,
        ..BreakerConfig::default()
    };
    let (breaker, clock) = breaker(config.with_fixed_open(Duration::from_secs_f64(trace.config.timeout_seconds)));
    // The recording reports results apart from admissions, so permits are kept until a result comes.
    let mut permits: VecDeque<Permit<'_>> = VecDeque::new();
    for (index, step) in trace.steps.iter().enumerate() {
        clock.advance(seconds(step.advance_s));
        let mut admitted = None;
        match &*step.op {
            "admit" => match breaker.admit(Operation::Get) {
                Ok(permit) => {
                    permits.push_back(permit);
                    admitted = Some(true);
                }
                Err(_) => admitted = Some(false),
            },
            result => {
                let permit = permits.pop_front().or_else(|| breaker.admit(Operation::Get).ok());
                permit.ok_or("no permit to report on")?.settle(result == "fail");
            }
        }
        let state = breaker.state().as_str().to_uppercase();
        if admitted != step.admitted || state != step.state {
            return Err(format!("step {index}: admitted {admitted:?}, {state}"));
        }
    }
    // What was never reported must not be withdrawn before the trace ends.
    drop(permits);
    Ok(())
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("circuit_breaker.json")).unwrap()
}

#[test]
fn the_recorded_traces_of_the_family_pass() {
    let traces = vectors().traces;
    assert_eq!(traces.len(), 4);
    for trace in traces {
        replay(&trace).unwrap_or_else(|at| panic!("{}: {at}", trace.name));
    }
}

#[test]
fn a_trace_that_was_changed_fails() {
    let mut trace = vectors().traces.remove(0);
    trace.config.failure_threshold = 6;
    assert!(replay(&trace).unwrap_err().starts_with("step 4"));
}

#[test]
fn a_probe_that_is_dropped_leaves_its_place_to_another() {
    let (breaker, clock) = breaker(BreakerConfig::default().with_fixed_open(seconds(1)));
    (0..5).for_each(|_| assert!(call(&breaker, true)));
    assert!(!call(&breaker, false), "open");
    clock.advance(seconds(2));
    for _ in 0..10 {
        drop(breaker.admit(Operation::Get).expect("each probe was given back"));
    }
    (0..3).for_each(|_| assert!(call(&breaker, false)));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn a_call_that_is_dropped_counts_as_nothing() {
    let (breaker, _clock) = breaker(BreakerConfig::default());
    (0..1_000).for_each(|_| drop(breaker.admit(Operation::Get)));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn an_answer_from_before_it_opened_changes_nothing() {
    let (breaker, clock) = breaker(BreakerConfig::default().with_fixed_open(seconds(1)));
    let early: Vec<_> = (0..2).map(|_| breaker.admit(Operation::Get).unwrap()).collect();
    (0..5).for_each(|_| assert!(call(&breaker, true)));
    clock.advance(seconds(2));
    let probe = breaker.admit(Operation::Get).unwrap();
    early.into_iter().for_each(|permit| permit.settle(true));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    probe.settle(false);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn probes_that_take_longer_than_the_pause_count_when_they_end() {
    let (breaker, clock) = breaker(BreakerConfig::default());
    (0..5).for_each(|_| assert!(call(&breaker, true)));
    clock.advance(seconds(2));
    let probe = || breaker.admit(Operation::Get).expect("a probe");
    let hangs = probe();
    clock.advance(seconds(2));
    let _another = probe();
    hangs.settle(true);
    assert_eq!(breaker.state(), BreakerState::Open, "it timed out");
    assert!(breaker.lock().open_ms >= 1_500, "and the pause grows");
    clock.advance(seconds(3));
    let slow = [probe(), probe(), probe()];
    clock.advance(seconds(3));
    let _another = probe();
    slow.into_iter().for_each(|permit| permit.settle(false));
    assert_eq!(breaker.state(), BreakerState::Closed, "a slow store is one that answers");
}

#[test]
fn the_pause_doubles_while_probes_fail_and_starts_anew_after_a_recovery() {
    let (breaker, clock) = breaker(BreakerConfig::default());
    (0..5).for_each(|_| assert!(call(&breaker, true)));
    for round in 0..10_u32 {
        let nominal = (1_000_u64 << round).min(30_000);
        let open_ms = breaker.lock().open_ms;
        assert!((nominal * 3 / 4..=nominal * 5 / 4).contains(&open_ms), "round {round}: {open_ms}");
        clock.advance(Duration::from_millis(open_ms));
        assert!(!call(&breaker, true), "not before its time is over");
        clock.advance(Duration::from_millis(1));
        assert!(call(&breaker, true));
    }
    clock.advance(seconds(60));
    (0..3).for_each(|_| assert!(call(&breaker, false)));
    (0..5).for_each(|_| assert!(call(&breaker, true)));
    assert!(breaker.lock().open_ms <= 1_250);
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let (breaker, clock) = breaker(BreakerConfig::default().with_fixed_open(seconds(1)));
    (0..5).for_each(|_| assert!(call(&breaker, true)));
    clock.advance(Duration::from_millis(400));
    let refusal = breaker.admit(Operation::Get).err().unwrap();
    assert_eq!(refusal.retry(), Retry::After(Duration::from_millis(601)));
}

#[test]
fn what_cannot_work_is_refused() {
    let good = BreakerConfig::default();
    assert_eq!(good.check(), Ok(()));
    for bad in [
        BreakerConfig { failures: 0, ..good },
        BreakerConfig { successes: 0, ..good },
        // `errors.json`, `config/cb_half_open_lt_success`.
        BreakerConfig { probes: 2, successes: 3, ..good },
        BreakerConfig { open: Duration::ZERO, ..good },
        BreakerConfig { open_max: Duration::from_millis(1), ..good },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

proptest! {
    /// Whatever happens, it is never wedged: once calls succeed and time passes, it closes; and half-open never lets more
    /// than its probes through at once.
    #[test]
    fn it_is_never_wedged(steps in proptest::collection::vec((0_u64..3_000, 0_u8..4), 0..200)) {
        let (breaker, clock) = breaker(BreakerConfig::default());
        let mut held: Vec<Permit<'_>> = Vec::new();
        for (ms, what) in steps {
            clock.advance(Duration::from_millis(ms));
            match what {
                0 => held.extend(breaker.admit(Operation::Get).ok()),
                1 => { held.pop(); }
                failed => if let Some(permit) = held.pop() { permit.settle(failed == 2) },
            }
            let inner = breaker.lock();
            prop_assert!(inner.probes_given <= breaker.config.probes);
            prop_assert!(inner.failed_at_ms.len() < breaker.config.failures as usize);
        }
        clock.advance(seconds(120));
        for _ in 0..3 {
            prop_assert!(call(&breaker, false));
        }
        prop_assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
