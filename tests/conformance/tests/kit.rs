//! The kit proves itself: what is right passes, each kind of wrong is caught for its reason, and every case can fail.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cachekit_conformance::{
    CaseResult, Fault, Faulty, Harness, Memory, Opened, Patience, Power, cases, find, run_all, run_case,
};
use cachekit_plugin::blocking::Pool;
use cachekit_plugin::{Backend, BackendError, Bytes, Cx, Fut, Health, Key, Limits, Operation, Ttl};

#[test]
fn the_reference_passes_every_case_and_is_asked_each() {
    let memory = Memory::default();
    let report = run_all(Arc::new(memory.clone()), |_| true);
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.not_asked, 0, "{report}");
    let left = memory.bytes();
    assert!(left < 10_000, "the kit left {left} bytes behind");
}

#[test]
fn every_case_is_turned_red_by_a_fault() {
    let red: BTreeSet<&str> = Fault::ALL.iter().flat_map(|fault| fault.caught_by()).map(|(case, _)| *case).collect();
    let table: BTreeSet<&str> = cases().iter().map(|case| case.name).collect();
    assert_eq!(red, table);
}

#[test]
fn every_fault_is_caught_for_its_reason() {
    let next = AtomicUsize::new(0);
    let escaped: Vec<String> = std::thread::scope(|scope| {
        // Most of the time is spent waiting for lives to end and for hangs to be given up.
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut escaped = Vec::new();
                    while let Some(fault) = Fault::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                        escaped.extend(escapes(*fault));
                    }
                    escaped
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(escaped.is_empty(), "{escaped:#?}");
}

/// The cases that should have failed on `fault` and did not, or for another reason.
fn escapes(fault: Fault) -> Vec<String> {
    // Hangs are given up after 2 s, or this test would take minutes; other faults need no patience.
    let patience = Patience { operation: Duration::from_secs(1), case: Some(Duration::from_secs(10)) };
    let harness = || Arc::new(Faulty::new(fault)) as Arc<dyn Harness>;
    let judge = |(name, reason): &(&str, &str)| {
        let case = find(name).unwrap_or_else(|| panic!("no case {name}"));
        let CaseResult { ok, reason: given, .. } = run_case(&harness(), case, patience);
        (ok || !given.contains(reason)).then(|| format!("{fault:?} in {name}: \"{given}\" instead of \"{reason}\""))
    };
    fault.caught_by().iter().filter_map(judge).collect()
}

/// A backend that ends lives early, on a machine that at its second look is away for longer than the life lasts.
struct AwayForALife {
    early: Faulty,
    looks: AtomicUsize,
}

impl Backend for AwayForALife {
    fn limits(&self) -> Limits {
        self.early.limits()
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        if self.looks.fetch_add(1, Ordering::Relaxed) == 1 {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.early.get(key, cx)
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.early.set(key, value, ttl, cx)
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.early.delete(key, cx)
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.early.exists(key, cx)
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.early.health(cx)
    }

    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.early.close(cx)
    }
}

#[test]
fn a_life_that_ended_while_nobody_looked_is_watched_again() {
    let harness: Arc<dyn Harness> = Arc::new(|| -> Opened {
        Ok(Arc::new(AwayForALife { early: Faulty::new(Fault::EndsLivesEarly), looks: AtomicUsize::new(0) }))
    });
    let case = find("an_entry_lives_until_its_life_ends_and_no_longer").expect("it is a case");
    let result = run_case(&harness, case, Patience::default());
    assert!(!result.ok && result.reason.contains("before its life of"), "{result:?}");
}

/// A right backend of another kind: it blocks, so every operation waits for a thread of a pool, and it has no powers.
struct Pooled {
    memory: Memory,
    pool: Pool,
}

impl Pooled {
    fn opener(max_threads: usize, max_queued: usize) -> impl Fn() -> Opened {
        let memory = Memory::default();
        move || {
            let pool = Pool::new("pooled", max_threads, max_queued);
            Ok(Arc::new(Pooled { memory: memory.clone(), pool }))
        }
    }

    fn run<'a, T: Send + 'static>(
        &self,
        operation: Operation,
        cx: &Cx<'_>,
        work: impl for<'m> FnOnce(&'m Memory, &'m Cx<'m>) -> Fut<'m, T> + Send + 'static,
    ) -> Fut<'a, T> {
        let (memory, deadline) = (self.memory.clone(), cx.deadline);
        self.pool.run(operation, cx, move || {
            let cx = Cx::new(deadline);
            let mut future = work(&memory, &cx);
            match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
                std::task::Poll::Ready(answer) => answer,
                std::task::Poll::Pending => panic!("memory never waits"),
            }
        })
    }
}

impl Backend for Pooled {
    fn limits(&self) -> Limits {
        let Limits { max_key, max_value, .. } = self.memory.limits();
        Limits::new(max_key, max_value)
    }

    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        let key = key.as_bytes().to_vec();
        self.run(Operation::Get, cx, move |memory, cx| {
            Box::pin(async move { memory.get(Key::from_wire(&key), cx).await })
        })
    }

    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        let key = key.as_bytes().to_vec();
        self.run(Operation::Set, cx, move |memory, cx| {
            Box::pin(async move { memory.set(Key::from_wire(&key), value, ttl, cx).await })
        })
    }

    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        let key = key.as_bytes().to_vec();
        self.run(Operation::Delete, cx, move |memory, cx| {
            Box::pin(async move { memory.delete(Key::from_wire(&key), cx).await })
        })
    }

    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        let key = key.as_bytes().to_vec();
        self.run(Operation::Exists, cx, move |memory, cx| {
            Box::pin(async move { memory.exists(Key::from_wire(&key), cx).await })
        })
    }

    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.run(Operation::Health, cx, |memory, cx| memory.health(cx))
    }

    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.run(Operation::Close, cx, |memory, cx| memory.close(cx))
    }
}

#[test]
fn a_blocking_backend_without_powers_passes_and_what_it_lacks_is_shown() {
    let report = run_all(Arc::new(Pooled::opener(4, 256)), |_| true);
    assert!(report.is_ok(), "{report}");
    for case in cases().iter().filter(|case| !case.needs.is_empty()) {
        let result = report.cases.iter().find(|result| result.name == case.name).expect("every case has a result");
        let because = result.skipped_because.as_deref().expect("a power that is absent is no silent pass");
        assert!(because.contains("does not offer the power"), "{because}");
    }
}

#[test]
fn a_backend_that_asks_for_fewer_requests_is_not_blamed_for_it() {
    let report = run_all(Arc::new(Pooled::opener(1, 4)), |case| case.needs.is_empty());
    assert!(report.is_ok(), "{report}");
}

#[test]
fn a_power_of_one_instance_alone_is_found() {
    let (weak, opened) = (Pooled::opener(1, 64), AtomicUsize::new(0));
    let harness: Arc<dyn Harness> = Arc::new(move || -> Opened {
        let first = opened.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        if first { weak() } else { Ok(Arc::new(Memory::default())) }
    });
    for case in cases().iter().filter(|case| case.needs.contains(&Power::Locks)) {
        let result = run_case(&harness, case, Patience::default());
        assert!(result.reason.contains("one instance offers the power `locks`"), "{result:?}");
    }
}

#[test]
fn a_backend_that_cannot_be_opened_fails_with_the_reason() {
    let harness: Arc<dyn Harness> = Arc::new(|| -> Opened {
        Err(BackendError::new(cachekit_plugin::Kind::Config, Operation::Open, "directory is missing"))
    });
    let result = run_case(&harness, &cases()[0], Patience::default());
    assert!(!result.ok && result.reason.contains("directory is missing"), "{result:?}");
}

#[test]
fn a_store_per_instance_is_not_asked_what_needs_a_shared_one() {
    let harness = cachekit_conformance::ByOptions::<Memory>::new(serde_json::json!({})).with_a_store_per_instance();
    let report = run_all(Arc::new(harness), |_| true);
    assert!(report.is_ok(), "{report}");
    let skipped = report.cases.iter().filter_map(|case| case.skipped_because.as_deref());
    assert!(skipped.into_iter().any(|because| because.contains("a store of its own")), "{report}");
}
