//! Each guard does its work in the stack, and without it the same scenario ends otherwise.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::AtomicU32;
use std::task::{Context, Poll};

use cachekit_plugin::ready;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;

const ALL: fn() -> GuardConfig = GuardConfig::default;

struct Stack {
    guards: Guards,
    clock: Arc<ManualClock>,
    asked: AtomicU32,
}

impl Stack {
    fn new(config: GuardConfig) -> Self {
        let clock = Arc::new(ManualClock::new());
        let guards = Guards::new(config, Arc::clone(&clock) as Arc<dyn Clock>);
        Self { guards, clock, asked: AtomicU32::new(0) }
    }

    /// One call, whose try of this number, from 1, does what `try_` says.
    async fn call(&self, operation: Operation, try_: impl Fn(u32) -> Try) -> Result<u32, BackendError> {
        self.call_until(Deadline::after(Duration::from_secs(30)), operation, try_).await
    }

    async fn call_until(
        &self,
        deadline: Deadline,
        operation: Operation,
        try_: impl Fn(u32) -> Try,
    ) -> Result<u32, BackendError> {
        let mut tries = 0;
        let work = || {
            tries += 1;
            self.asked.fetch_add(1, Ordering::SeqCst);
            try_(tries).answer(operation)
        };
        self.guards.run(deadline, operation, |_| None, work).await
    }

    fn asked(&self) -> u32 {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

/// What one try does.
#[derive(Clone, Copy, Debug)]
enum Try {
    Answers,
    Breaks,
    Hangs,
    Panics,
}

impl Try {
    fn answer(self, operation: Operation) -> BoxFuture<'static, Result<u32, BackendError>> {
        match self {
            Self::Answers => ready(Ok(1)),
            Self::Breaks => ready(Err(BackendError::new(Kind::Transient, operation, "the connection broke"))),
            Self::Hangs => Box::pin(pending()),
            Self::Panics => Box::pin(async { std::panic::resume_unwind(Box::new("a backend that panics")) }),
        }
    }
}

#[tokio::test]
async fn a_call_too_many_is_refused_at_once_and_costs_the_store_nothing() {
    /// Ten calls of a store that hangs, until so many of them were refused; the deadline is too far away to end one.
    async fn calls(bulkhead: Option<BulkheadConfig>, refused: usize) -> (u32, GuardCounts) {
        let stack = Stack::new(GuardConfig { bulkhead, ..ALL() });
        let deadline = Deadline::after(Duration::from_secs(3600));
        let mut calls: FuturesUnordered<_> =
            (0..10).map(|_| stack.call_until(deadline, Operation::Set, |_| Try::Hangs)).collect();
        let answers: Vec<_> = calls.by_ref().take(refused).collect().await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(Shed::is)));
        assert!(calls.next().now_or_never().is_none(), "the others hang");
        let counts = stack.guards.counts();
        assert_eq!(counts.shed_full + counts.shed_waited, refused as u64);
        drop(calls);
        assert_eq!(stack.guards.health().in_flight.map(|(now, _)| now), bulkhead.map(|_| 0));
        (stack.asked(), counts)
    }
    let narrow = |wait| Some(BulkheadConfig { in_flight: 3, queued: 2, wait });
    let (asked, counts) = calls(narrow(Duration::from_secs(3600)), 5).await;
    assert_eq!((asked, counts.shed_full, counts.shed_waited), (3, 5, 0));
    // Where a wait has an end, how many find the queue full depends on how fast they come.
    let (asked, counts) = calls(narrow(Duration::from_millis(10)), 7).await;
    assert!(asked == 3 && counts.shed_waited >= 2, "{counts:?}");
    let (asked, counts) = calls(None, 0).await;
    assert_eq!(
        (asked, counts.shed_full, counts.shed_waited),
        (10, 0, 0),
        "without a bulkhead all of them are in flight"
    );
}

#[tokio::test]
async fn while_the_breaker_is_open_nobody_waits_for_a_place() {
    let narrow = BulkheadConfig { in_flight: 1, queued: 10, wait: Duration::from_secs(10) };
    let stack = Stack::new(GuardConfig { bulkhead: Some(narrow), retry: None, ..ALL() });
    let mut hanging = pin!(stack.call(Operation::Get, |_| Try::Hangs));
    assert!(hanging.as_mut().now_or_never().is_none());
    let breaker = stack.guards.breaker.as_ref().unwrap();
    (0..5).for_each(|_| breaker.admit(Operation::Get).unwrap().settle(true));
    let refused = stack.call(Operation::Get, |_| Try::Answers).now_or_never().expect("at once");
    assert_eq!(refused.unwrap_err().kind(), Kind::Transient);
    assert_eq!(stack.guards.counts().shed_by_breaker, 1);
}

#[tokio::test]
async fn a_store_that_fails_is_left_alone_by_the_breaker() {
    async fn asked(breaker: Option<BreakerConfig>) -> u32 {
        let stack = Stack::new(GuardConfig { breaker, retry: None, ..ALL() });
        for _ in 0..20 {
            assert!(stack.call(Operation::Get, |_| Try::Breaks).await.is_err());
        }
        stack.asked()
    }
    assert_eq!(asked(Some(BreakerConfig::default())).await, 5);
    assert_eq!(asked(None).await, 20);
}

#[tokio::test]
async fn a_connection_that_broke_once_is_nobodys_failure() {
    async fn call(retry: Option<RetryConfig>) -> (bool, GuardCounts) {
        let stack = Stack::new(GuardConfig { retry, ..ALL() });
        let answer = stack.call(Operation::Get, |tries| if tries == 1 { Try::Breaks } else { Try::Answers }).await;
        (answer.is_ok(), stack.guards.counts())
    }
    let (well, counts) = call(Some(RetryConfig::default())).await;
    assert!(well && counts.retries == 1);
    let (well, counts) = call(None).await;
    assert!(!well && counts.retries == 0);
}

#[tokio::test]
async fn an_answer_that_got_lost_is_asked_for_again_long_before_the_deadline() {
    async fn call(adaptive: Option<AdaptiveConfig>, operation: Operation) -> (Result<u32, BackendError>, GuardCounts) {
        let stack = Stack::new(GuardConfig { adaptive, ..ALL() });
        for _ in 0..256 {
            stack.call(Operation::Get, |_| Try::Answers).await.unwrap();
        }
        let lost = |tries| if tries == 1 { Try::Hangs } else { Try::Answers };
        // Long for a machine that is busy, and short for one that has to wait for it.
        let deadline = Deadline::after(Duration::from_millis(if adaptive.is_some() { 30_000 } else { 100 }));
        let answer = stack.call_until(deadline, operation, lost).await;
        (answer, stack.guards.counts())
    }
    let short = AdaptiveConfig { min: Duration::from_millis(20), ..AdaptiveConfig::default() };
    let (answer, counts) = call(Some(short), Operation::Get).await;
    assert!(answer.is_ok() && counts.cut == 1 && counts.retries == 1);
    let (answer, counts) = call(None, Operation::Get).await;
    assert!(answer.unwrap_err().kind() == Kind::Timeout && counts.cut == 0);
}

#[tokio::test]
async fn a_write_is_never_cut_because_it_may_happen_yet() {
    let stack = Stack::new(ALL());
    for _ in 0..256 {
        stack.call(Operation::Get, |_| Try::Answers).await.unwrap();
    }
    assert!(stack.guards.health().adaptive_timeout.is_some());
    let deadline = Deadline::after(Duration::from_millis(150));
    for operation in [Operation::Set, Operation::Delete, Operation::SetIf, Operation::Lock] {
        let answer = stack.call_until(deadline, operation, |_| Try::Hangs).await;
        assert_eq!(answer.unwrap_err().kind(), Kind::Timeout, "{operation}");
    }
    assert!(deadline.has_passed());
    assert_eq!((stack.guards.counts().cut, stack.guards.counts().retries), (0, 0));
}

#[tokio::test]
async fn a_conditional_write_whose_answer_broke_off_is_not_repeated() {
    let stack = Stack::new(ALL());
    for operation in [Operation::SetIf, Operation::Lock, Operation::Unlock] {
        let once = |tries| if tries == 1 { Try::Breaks } else { Try::Answers };
        assert!(stack.call(operation, once).await.is_err(), "{operation}");
        assert_eq!(stack.asked(), 1, "{operation}");
    }
}

#[tokio::test]
async fn a_probe_is_one_question() {
    let stack = Stack::new(ALL());
    for _ in 0..5 {
        assert!(stack.call(Operation::SetIf, |_| Try::Breaks).await.is_err());
    }
    stack.clock.advance(Duration::from_secs(2));
    stack.asked();
    assert!(stack.call(Operation::Get, |_| Try::Breaks).await.is_err());
    assert_eq!((stack.asked(), stack.guards.counts().retries), (1, 0));
    assert_eq!(stack.guards.breaker_state(), Some(BreakerState::Open));
}

#[tokio::test]
async fn a_batch_that_failed_as_a_whole_is_tried_again() {
    let stack = Stack::new(ALL());
    let mut tries = 0;
    let work = || {
        tries += 1;
        let answer =
            if tries == 1 { Err(BackendError::new(Kind::Transient, Operation::GetMany, "lost")) } else { Ok(1) };
        ready(Ok(vec![answer]))
    };
    let answers = stack
        .guards
        .run(
            Deadline::after(Duration::from_secs(30)),
            Operation::GetMany,
            |answers: &Vec<Result<u32, BackendError>>| answers[0].as_ref().err(),
            work,
        )
        .await;
    assert!(answers.unwrap()[0].is_ok());
}

#[tokio::test]
async fn retries_end_with_the_deadline() {
    let stack = Stack::new(GuardConfig { breaker: None, ..ALL() });
    let soon = Deadline::after(Duration::from_millis(30));
    let busy = |_| Try::Breaks;
    while !soon.has_passed() {
        assert!(stack.call_until(soon, Operation::Get, busy).await.is_err());
    }
    stack.asked();
    assert!(stack.call_until(soon, Operation::Get, busy).await.is_err());
    assert_eq!(stack.asked(), 1, "no second try after it");
}

proptest! {
    /// Calls that answer, break, hang until they are dropped, and panic, at once and one after the other: nothing of what they
    /// were given stays with them.
    #[test]
    fn whatever_becomes_of_a_call_it_leaves_everything_behind(
        calls in proptest::collection::vec((0_u8..4, 0_u8..3, any::<bool>()), 1..40),
    ) {
        let narrow = BulkheadConfig { in_flight: 3, queued: 3, wait: Duration::from_secs(10) };
        let short = RetryConfig { pause: Duration::from_micros(1), pause_max: Duration::from_micros(1), ..RetryConfig::default() };
        let stack = Stack::new(GuardConfig { bulkhead: Some(narrow), retry: Some(short), ..ALL() });
        let mut under_way: Vec<BoxFuture<'_, bool>> = Vec::new();
        for (what, operation, drops_one) in calls {
            let what = [Try::Answers, Try::Breaks, Try::Hangs, Try::Panics][usize::from(what)];
            let operation = [Operation::Get, Operation::Set, Operation::SetIf][usize::from(operation)];
            under_way.push(AssertUnwindSafe(stack.call(operation, move |_| what)).catch_unwind().map(|end| end.is_ok()).boxed());
            let mut context = Context::from_waker(std::task::Waker::noop());
            under_way.retain_mut(|call| matches!(call.as_mut().poll(&mut context), Poll::Pending));
            if drops_one && !under_way.is_empty() {
                drop(under_way.swap_remove(0));
            }
            let health = stack.guards.health();
            prop_assert!(health.in_flight.unwrap().0 <= 3 && health.queued.unwrap().0 <= 3);
            stack.clock.advance(Duration::from_millis(500));
        }
        under_way.clear();
        let health = stack.guards.health();
        prop_assert_eq!((health.in_flight, health.queued), (Some((0, 3)), Some((0, 3))));
        stack.clock.advance(Duration::from_secs(120));
        for _ in 0..3 {
            prop_assert!(stack.call(Operation::SetIf, |_| Try::Answers).now_or_never().unwrap().is_ok());
        }
        prop_assert_eq!(stack.guards.breaker_state(), Some(BreakerState::Closed));
    }
}
