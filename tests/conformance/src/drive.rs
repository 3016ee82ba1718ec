//! Drives futures without a runtime: a backend must not need one of its caller.
//!
//! Every wait has an end, because a backend that never answers is what the kit is there to find.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Wakes the thread that drives the future, from whatever thread the backend answers on.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker_of_this_thread() -> Waker {
    Arc::new(Unpark(std::thread::current())).into()
}

/// Polls `future` whenever it asks for it; `None` if it is not done within `patience`.
pub(crate) fn finish<F: Future + ?Sized>(mut future: Pin<&mut F>, patience: Duration) -> Option<F::Output> {
    let waker = waker_of_this_thread();
    let mut context = Context::from_waker(&waker);
    let end = Instant::now() + patience;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        // Returns early on a wake and for no reason at all; both only cost a poll.
        std::thread::park_timeout(left);
    }
}

/// Polls `future` `times` times at most; the output if it was done by then. Between two polls the backend gets the time
/// of a local round trip to make progress, so that different counts stop at different places of the operation.
pub(crate) fn poll_times<F: Future + ?Sized>(mut future: Pin<&mut F>, times: usize) -> Option<F::Output> {
    let waker = waker_of_this_thread();
    let mut context = Context::from_waker(&waker);
    for _ in 0..times {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        std::thread::park_timeout(Duration::from_micros(200));
    }
    None
}

/// Drives all futures on this one thread, polling every one of them in each turn; `None` if some are not done within
/// `patience`.
pub(crate) fn finish_all<F: Future + Unpin>(futures: Vec<F>, patience: Duration) -> Option<Vec<F::Output>> {
    let mut slots: Vec<Result<F, F::Output>> = futures.into_iter().map(Ok).collect();
    let all = std::future::poll_fn(|context| {
        let mut pending = false;
        for slot in &mut slots {
            if let Ok(future) = slot {
                match Pin::new(future).poll(context) {
                    Poll::Ready(output) => *slot = Err(output),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    });
    finish(std::pin::pin!(all), patience)?;
    Some(slots.into_iter().filter_map(Result::err).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ready after `.0` polls, asking for each.
    struct After(usize);

    impl Future for After {
        type Output = usize;
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
            if self.0 == 0 {
                return Poll::Ready(7);
            }
            self.0 -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }

    #[test]
    fn a_future_is_driven_to_its_end() {
        assert_eq!(finish(std::pin::pin!(After(3)), Duration::from_secs(60)), Some(7));
        assert_eq!(finish_all(vec![After(3), After(0)], Duration::from_secs(60)), Some(vec![7, 7]));
    }

    #[test]
    fn a_future_that_never_ends_is_given_up() {
        assert_eq!(finish(std::pin::pin!(std::future::pending::<()>()), Duration::from_millis(1)), None);
        assert!(finish_all(vec![std::future::pending::<()>()], Duration::from_millis(1)).is_none());
    }

    #[test]
    fn polls_are_counted() {
        assert_eq!(poll_times(std::pin::pin!(After(2)), 2), None);
        assert_eq!(poll_times(std::pin::pin!(After(2)), 3), Some(7));
    }
}
