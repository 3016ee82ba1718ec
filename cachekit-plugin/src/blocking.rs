//! The adapter for stores with blocking clients: a bounded pool of threads behind the one async trait.
//!
//! A call that may block must not run in the caller's task, because it would stop every other task of that thread, and
//! must not run on a shared unbounded pool, because a store that hangs would then eat the host's threads. Here both
//! the threads and the queue have a bound: once a hung store holds them all, further calls are refused at once.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::backend::Fut;
use crate::cx::{Cx, Deadline};
use crate::error::{BackendError, Kind, Operation};
use crate::fork;

/// A bounded pool of worker threads, started as they are needed. Dropping it ends the workers once they are idle.
pub struct Pool {
    shared: Arc<Shared>,
    generation: u32,
}

struct Shared {
    name: String,
    max_threads: usize,
    max_queued: usize,
    state: Mutex<State>,
    work_ready: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    /// At most `max_threads` workers named `ck-<name>` and `max_queued` calls waiting for one (both at least 1).
    pub fn new(name: &str, max_threads: usize, max_queued: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                name: format!("ck-{name}"),
                max_threads: max_threads.max(1),
                max_queued: max_queued.max(1),
                state: Mutex::default(),
                work_ready: Condvar::new(),
            }),
            generation: fork::generation(),
        }
    }

    /// Runs `work` on a worker.
    ///
    /// Work that has not begun when its future is dropped or its deadline passes is not begun at all; work that has
    /// begun runs to its end. A panic in it becomes [`Kind::Panic`]; a full queue [`Kind::Throttled`]; a pool that was
    /// made before `fork()` has no workers in the child and answers [`Kind::Forked`].
    pub fn run<'a, T, F>(&self, operation: Operation, cx: &Cx<'_>, work: F) -> Fut<'a, T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, BackendError> + Send + 'static,
    {
        self.run_while_wanted(operation, cx, |_| work())
    }

    /// As [`Self::run`], for work that must not take effect late: right before it becomes visible it asks whether anybody
    /// still waits for it. A caller that gave up a write goes on to others, and a write that lands after them brings back
    /// what they replaced.
    pub fn run_while_wanted<'a, T, F>(&self, operation: Operation, cx: &Cx<'_>, work: F) -> Fut<'a, T>
    where
        T: Send + 'static,
        F: FnOnce(&Wanted) -> Result<T, BackendError> + Send + 'static,
    {
        let wanted = Wanted { dropped: AtomicBool::new(false), deadline: cx.deadline };
        let slot = Arc::new(Slot { state: Mutex::new(SlotState::Waiting(None)), wanted });
        let answer = Arc::clone(&slot);
        let job = Box::new(move || answer.fill(operation, work));
        if let Err(error) = self.submit(operation, job) {
            return crate::backend::ready(Err(error));
        }
        Box::pin(Answer { slot })
    }

    fn submit(&self, operation: Operation, job: Job) -> Result<(), BackendError> {
        if self.generation != fork::generation() {
            return Err(BackendError::new(Kind::Forked, operation, "opened before fork(); open it again in the child"));
        }
        let mut state = lock(&self.shared.state);
        if state.queue.len() >= self.shared.max_queued {
            return Err(BackendError::new(Kind::Throttled, operation, "all workers of the backend are busy"));
        }
        state.queue.push_back(job);
        if state.queue.len() > state.idle && state.threads < self.shared.max_threads {
            let shared = Arc::clone(&self.shared);
            match std::thread::Builder::new().name(self.shared.name.clone()).spawn(move || shared.work()) {
                Ok(_) => state.threads += 1,
                // Fewer threads than allowed are enough as long as there is one.
                Err(_) if state.threads > 0 => {}
                Err(error) => {
                    state.queue.pop_back();
                    return Err(
                        BackendError::new(Kind::Transient, operation, "no thread could be started").with_source(error)
                    );
                }
            }
        }
        drop(state);
        self.shared.work_ready.notify_one();
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.work_ready.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                // The work's own panics are answers already; this is for wakers and destructors that panic.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = lock(&self.state);
            } else if state.closed {
                state.threads -= 1;
                return;
            } else {
                state.idle += 1;
                state = self.work_ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

/// Whether the caller of a piece of work still waits for it.
#[derive(Debug)]
pub struct Wanted {
    dropped: AtomicBool,
    deadline: Deadline,
}

impl Wanted {
    /// For work that nobody gives up.
    pub const fn always() -> Self {
        Self::until(Deadline::NEVER)
    }

    /// For work that is done without a pool, and given up at its deadline alone.
    pub const fn until(deadline: Deadline) -> Self {
        Self { dropped: AtomicBool::new(false), deadline }
    }

    /// When the caller stops waiting.
    pub const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// `Timeout` once the deadline has passed or the caller is gone.
    pub fn check(&self, operation: Operation) -> Result<(), BackendError> {
        if self.dropped.load(Ordering::Acquire) || self.deadline.has_passed() {
            return Err(BackendError::timeout(operation));
        }
        Ok(())
    }
}

/// Where a worker leaves its answer and a task picks it up.
struct Slot<T> {
    state: Mutex<SlotState<T>>,
    wanted: Wanted,
}

enum SlotState<T> {
    Waiting(Option<Waker>),
    Done(Result<T, BackendError>),
    Taken,
}

impl<T> Slot<T> {
    fn fill(&self, operation: Operation, work: impl FnOnce(&Wanted) -> Result<T, BackendError>) {
        let answer = match self.wanted.check(operation) {
            Err(too_late) => Err(too_late),
            Ok(()) => catch_unwind(AssertUnwindSafe(|| work(&self.wanted)))
                .unwrap_or_else(|_| Err(BackendError::new(Kind::Panic, operation, "the blocking call panicked"))),
        };
        let before = std::mem::replace(&mut *lock(&self.state), SlotState::Done(answer));
        if let SlotState::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

struct Answer<T> {
    slot: Arc<Slot<T>>,
}

impl<T> Future for Answer<T> {
    type Output = Result<T, BackendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.slot.state);
        match std::mem::replace(&mut *state, SlotState::Taken) {
            SlotState::Done(answer) => Poll::Ready(answer),
            SlotState::Waiting(_) | SlotState::Taken => {
                *state = SlotState::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.slot.wanted.dropped.store(true, Ordering::Release);
    }
}

/// Jobs run outside the lock, so a poisoned mutex still guards consistent data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn block_on<T>(mut future: Fut<'_, T>) -> Result<T, BackendError> {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Arc::new(Unpark(std::thread::current())).into();
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    const CX: Cx<'static> = Cx::new(Deadline::NEVER);

    #[test]
    fn work_runs_on_a_named_worker_and_answers() {
        let pool = Pool::new("test", 2, 8);
        let name = block_on(pool.run(Operation::Get, &CX, || Ok(std::thread::current().name().map(str::to_owned))));
        assert_eq!(name.unwrap().as_deref(), Some("ck-test"));
    }

    #[test]
    fn a_hung_store_holds_its_workers_and_no_more() {
        let pool = Pool::new("hung", 1, 1);
        let (release, hang) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        let hung = pool.run(Operation::Get, &CX, move || {
            began.send(()).unwrap();
            hang.recv().ok();
            Ok(1)
        });
        begun.recv().unwrap();
        let queued = pool.run(Operation::Get, &CX, || Ok(2));
        let refused = block_on(pool.run(Operation::Get, &CX, || Ok(3))).unwrap_err();
        assert_eq!(refused.kind(), Kind::Throttled);
        release.send(()).unwrap();
        assert_eq!((block_on(hung).unwrap(), block_on(queued).unwrap()), (1, 2));
    }

    #[test]
    fn work_whose_caller_is_gone_is_never_begun() {
        let pool = Pool::new("gone", 1, 8);
        let (release, hang) = mpsc::channel::<()>();
        let first = pool.run(Operation::Get, &CX, move || {
            hang.recv().ok();
            Ok(())
        });
        let (ran, seen) = mpsc::channel();
        drop(pool.run(Operation::Set, &CX, move || {
            ran.send(()).ok();
            Ok(())
        }));
        release.send(()).unwrap();
        block_on(first).unwrap();
        block_on(pool.run(Operation::Get, &CX, || Ok(()))).unwrap();
        assert!(seen.try_recv().is_err());
    }

    #[test]
    fn work_in_the_middle_sees_that_its_caller_is_gone() {
        let pool = Pool::new("wanted", 1, 8);
        let ((began, begun), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel::<()>());
        let (told, verdict) = mpsc::channel();
        let write = pool.run_while_wanted(Operation::Set, &CX, move |wanted| {
            began.send(wanted.check(Operation::Set).is_ok()).unwrap();
            may_go_on.recv().unwrap();
            told.send(wanted.check(Operation::Set).is_ok()).unwrap();
            Ok(())
        });
        assert!(begun.recv().unwrap());
        drop(write);
        go_on.send(()).unwrap();
        assert!(!verdict.recv().unwrap());
        assert!(Wanted::always().check(Operation::Set).is_ok());
    }

    #[test]
    fn a_panic_and_a_passed_deadline_become_errors() {
        let pool = Pool::new("faults", 1, 8);
        let panicked = block_on::<()>(pool.run(Operation::Get, &CX, || panic!("on purpose"))).unwrap_err();
        assert_eq!(panicked.kind(), Kind::Panic);
        let late = Cx::new(Deadline::from_monotonic_ns(1));
        let timeout = block_on(pool.run(Operation::Get, &late, || Ok(()))).unwrap_err();
        assert_eq!(timeout.kind(), Kind::Timeout);
        assert!(block_on(pool.run(Operation::Get, &Cx::within(Duration::from_secs(60)), || Ok(()))).is_ok());
    }
}
