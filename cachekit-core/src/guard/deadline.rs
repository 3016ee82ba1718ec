//! The one place where an operation is given up: at its deadline, whatever it is waiting for.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use cachekit_plugin::{Alarm, BackendError, Deadline, Operation, fork};
use tokio::runtime::{Builder, Handle};
use tokio::time::Sleep;

/// Runs `work` until it is done or the deadline passes; then it is dropped, which cancels it.
///
/// Work that is done at once, as it is with an in-process store or a warm file, arms no timer.
pub async fn within<T>(
    deadline: Deadline,
    operation: Operation,
    work: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    let answer = Until::new(|| deadline, pin!(work)).await;
    answer.unwrap_or_else(|| Err(BackendError::timeout(operation)))
}

/// The same for any work that can be moved; `None` if it was given up. When that is to be is asked once the work has to wait.
pub(crate) struct Until<D, W> {
    work: W,
    due: Option<D>,
    alarm: Option<Waiting>,
}

impl<D, W> Until<D, W> {
    pub(crate) const fn new(due: D, work: W) -> Self {
        Self { work, due: Some(due), alarm: None }
    }
}

impl<D: FnOnce() -> Deadline + Unpin, W: Future + Unpin> Future for Until<D, W> {
    type Output = Option<W::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(answer) = Pin::new(&mut this.work).poll(context) {
            return Poll::Ready(Some(answer));
        }
        let passed = match (&mut this.alarm, this.due.take()) {
            (Some(alarm), _) => alarm.poll(context),
            (none, Some(due)) => match due() {
                Deadline::NEVER => Poll::Pending,
                due => none.insert(Waiting::until(due, context)).poll(context),
            },
            // It may take as long as it likes.
            (None, None) => Poll::Pending,
        };
        passed.map(|()| None)
    }
}

/// What ends a call that waits.
enum Waiting {
    Alarm(Alarm),
    /// Where so many calls wait that there is no alarm left.
    Timer(Pin<Box<Sleep>>),
}

impl Waiting {
    fn until(deadline: Deadline, context: &Context<'_>) -> Self {
        Alarm::set(deadline, context.waker()).map_or_else(|| Self::timer(deadline), Self::Alarm)
    }

    fn timer(deadline: Deadline) -> Self {
        let timer = background();
        let _entered = timer.enter();
        Self::Timer(Box::pin(tokio::time::sleep(deadline.remaining().unwrap_or(Duration::MAX))))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Alarm(alarm) => alarm.poll(context),
            Self::Timer(timer) => timer.as_mut().poll(context),
        }
    }
}

/// The engine's own runtime: sockets for the blocking facade, and timers where alarms run out. One thread, started when it is first
/// needed.
///
/// The caller's runtime is not asked, because it may have no timers, or be parked by the very call that waits. A child made by
/// `fork()` has no threads but its own, so it gets a runtime of its own; the parent's is left where it is.
pub(crate) fn background() -> Handle {
    static RUNTIME: RwLock<Option<(u32, Handle)>> = RwLock::new(None);
    let process = fork::generation();
    let of_this_process = |runtime: &Option<(u32, Handle)>| match runtime {
        Some((owner, handle)) if *owner == process => Some(handle.clone()),
        _ => None,
    };
    if let Some(handle) = of_this_process(&RUNTIME.read().unwrap_or_else(PoisonError::into_inner)) {
        return handle;
    }
    let mut runtime = RUNTIME.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = of_this_process(&runtime) {
        return handle;
    }
    let built = Builder::new_multi_thread().worker_threads(1).thread_name("cachekit").enable_all().build();
    // A process that cannot start one thread cannot keep a deadline; there is no smaller promise to fall back to.
    let built = built.unwrap_or_else(|error| panic!("the system gives no thread for timers: {error}"));
    let handle = built.handle().clone();
    *runtime = Some((process, handle.clone()));
    // It serves until the process ends, and ending a runtime that belongs to a parent process would wait for its threads.
    std::mem::forget(built);
    handle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_alarms_run_out_a_timer_keeps_the_deadline() {
        let deadline = Deadline::after(Duration::from_millis(20));
        let mut timer = Waiting::timer(deadline);
        std::future::poll_fn(|context| timer.poll(context)).await;
        assert!(deadline.has_passed());
    }

    #[test]
    fn a_runtime_without_timers_does_no_harm() {
        let bare = Builder::new_current_thread().build().unwrap();
        let hang = std::future::pending::<Result<(), BackendError>>();
        let answer = bare.block_on(within(Deadline::after(Duration::from_millis(20)), Operation::Get, hang));
        assert_eq!(answer.unwrap_err().kind(), cachekit_plugin::Kind::Timeout);
    }

    #[tokio::test]
    async fn work_that_hangs_is_dropped_at_its_deadline() {
        struct Dropped<'a>(&'a std::cell::Cell<bool>);
        impl Drop for Dropped<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let dropped = std::cell::Cell::new(false);
        let guard = Dropped(&dropped);
        let hang = async move {
            let _guard = guard;
            std::future::pending::<Result<(), BackendError>>().await
        };
        let answer = within(Deadline::after(Duration::from_millis(20)), Operation::Get, hang).await;
        assert_eq!(answer.unwrap_err().kind(), cachekit_plugin::Kind::Timeout);
        assert!(dropped.get());
    }

    #[test]
    fn without_a_runtime_the_engine_brings_its_own_timer() {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
        let deadline = Deadline::after(Duration::from_millis(20));
        let mut work = pin!(within(deadline, Operation::Get, std::future::pending::<Result<(), BackendError>>()));
        loop {
            match work.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(answer) => break assert!(answer.is_err() && deadline.has_passed()),
                Poll::Pending => std::thread::park(),
            }
        }
    }
}
