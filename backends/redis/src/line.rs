//! One connection: many callers at once, each inside its deadline.
//!
//! The client library keeps requests and replies in step: a caller that leaves early leaves its place in the queue, and
//! its reply is read and dropped. What it does not do is kept here: an end to silence, a bound on what waits, and the
//! question who moves the socket. Usually a task does. A caller who finds the connection idle moves it itself, so that
//! its request is written before it waits: through a shared library the task lives in another runtime, and waking it
//! first would cost a second change of threads for each request.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use cachekit_plugin::{Alarm, Cx, Deadline, fork};
use futures_util::task::AtomicWaker;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, ServerErrorKind, Value};

use crate::error::Trouble;
use crate::wire::Traffic;

/// Requests on the wire without a reply. The engine lets a hundred callers through; this is for callers who leave early
/// while a server is stalled, whose requests stay in the queue.
const MAX_OUTSTANDING: u64 = 16_384;
/// A connection to a server that turned out to be a replica is replaced, but not more often than this.
const MIN_AGE_MS: u64 = 1_000;

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection. Cheap to clone; it ends with the last clone, and each request under way has one.
#[derive(Clone)]
pub(crate) struct Line(Arc<Inner>);

/// A connection as somebody knows it who does not keep it.
pub(crate) struct Acquaintance(Weak<Inner>);

impl Acquaintance {
    pub(crate) fn line(&self) -> Option<Line> {
        self.0.upgrade().map(Line)
    }
}

struct Inner {
    connection: MultiplexedConnection,
    drive: Arc<Drive>,
    traffic: Arc<Traffic>,
    patience: Duration,
    /// Whether callers may move the socket.
    may_move: bool,
    /// Replies to the login.
    login: u64,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("over", &self.is_over()).finish_non_exhaustive()
    }
}

/// What moves the socket, and who is told that it can move.
struct Drive {
    /// `None` once the connection is over.
    driver: Mutex<Option<Driver>>,
    over: AtomicBool,
    why: OnceLock<Trouble>,
    task: AtomicWaker,
    /// Where it was opened. A child made by `fork()` shares the socket and must neither write to it nor let go of it: the
    /// list of what the system watches is shared as well.
    generation: AtomicU32,
}

thread_local! {
    /// The drive that this thread is about to move by itself: it needs nobody to be told.
    static MOVING: Cell<*const Drive> = const { Cell::new(std::ptr::null()) };
    /// Whether it would have been told.
    static TOLD: Cell<bool> = const { Cell::new(false) };
}

impl Wake for Drive {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if MOVING.get() == Arc::as_ptr(self) {
            TOLD.set(true);
        } else {
            self.task.wake();
        }
    }
}

impl Drive {
    /// Moves the socket; ready when the connection is over.
    fn turn(self: &Arc<Self>) -> Poll<()> {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        self.turn_locked(&mut driver)
    }

    fn turn_locked(self: &Arc<Self>, driver: &mut Option<Driver>) -> Poll<()> {
        if let Some(moving) = driver.as_mut()
            && !self.over.load(Ordering::Acquire)
        {
            let waker = Waker::from(Arc::clone(self));
            // It may have been ended from inside, by somebody it told of a change.
            if moving.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() && !self.over.load(Ordering::Acquire)
            {
                return Poll::Pending;
            }
        }
        self.over.store(true, Ordering::Release);
        *driver = None;
        Poll::Ready(())
    }

    /// Ends the connection; whoever waits for a reply is told at once.
    fn end(&self, why: Option<Trouble>) {
        if let Some(why) = why {
            // The first reason counts.
            let _ = self.why.set(why);
        }
        self.over.store(true, Ordering::Release);
        let driver = match self.driver.try_lock() {
            Ok(mut driver) => driver.take(),
            Err(TryLockError::Poisoned(driver)) => driver.into_inner().take(),
            // Whoever moves it, perhaps this very thread, or else the task finds out that it is over.
            Err(TryLockError::WouldBlock) => None,
        };
        if self.is_elsewhere() {
            std::mem::forget(driver);
            return;
        }
        // Outside of the lock: dropping it wakes callers.
        drop(driver);
        self.task.wake();
    }

    fn is_elsewhere(&self) -> bool {
        self.generation.load(Ordering::Relaxed) != fork::generation()
    }
}

/// Ends the connection when its task ends, also when that is because its runtime is shut down.
struct Task(Arc<Drive>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.end(None);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.drive.end(None);
    }
}

impl Line {
    /// Starts the task that moves the socket, on the current runtime.
    pub(crate) fn start(
        connection: MultiplexedConnection,
        driver: Driver,
        traffic: Arc<Traffic>,
        patience: Duration,
        may_move: bool,
    ) -> Self {
        let drive = Arc::new(Drive {
            driver: Mutex::new(Some(driver)),
            over: AtomicBool::new(false),
            why: OnceLock::new(),
            task: AtomicWaker::new(),
            generation: AtomicU32::new(fork::generation()),
        });
        let task = Task(Arc::clone(&drive));
        tokio::spawn(poll_fn(move |cx| {
            task.0.task.register(cx.waker());
            task.0.turn()
        }));
        let login = traffic.answered();
        Self(Arc::new(Inner { connection, drive, traffic, patience, may_move, login }))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.drive.over.load(Ordering::Acquire)
    }

    /// Whether it is a parent process's.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.0.drive.is_elsewhere()
    }

    /// Why it is over, where that is known.
    pub(crate) fn why(&self) -> Option<Trouble> {
        let violation = || self.0.traffic.violation().cloned().map(Trouble::Violated);
        self.0.drive.why.get().cloned().or_else(violation)
    }

    /// Whether anything but the login was answered.
    pub(crate) fn was_of_use(&self) -> bool {
        self.0.traffic.answered() > self.0.login
    }

    /// Ends the connection; whoever waits for a reply gets `why`.
    pub(crate) fn end(&self, why: Trouble) {
        self.0.drive.end(Some(why));
    }

    pub(crate) fn acquaintance(&self) -> Acquaintance {
        Acquaintance(Arc::downgrade(&self.0))
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sends a command and waits for its reply.
    pub(crate) async fn ask(&self, command: &Cmd, cx: &Cx<'_>) -> Result<Value, Trouble> {
        let mut connection = self.0.connection.clone();
        match self.answer(connection.send_packed_command(command), cx).await? {
            Value::ServerError(error) => {
                let error = Trouble::Server(error);
                self.judge(&error);
                Err(error)
            }
            value => Ok(value),
        }
    }

    /// Sends several commands at once and waits for all replies, errors among them.
    pub(crate) async fn ask_all(&self, commands: &Pipeline, cx: &Cx<'_>) -> Result<Vec<Value>, Trouble> {
        let mut connection = self.0.connection.clone();
        let replies = self.answer(connection.send_packed_commands(commands, 0, commands.len()), cx).await?;
        if replies.len() != commands.len() {
            self.end(Trouble::WrongReply);
            return Err(Trouble::WrongReply);
        }
        if let Some(Value::ServerError(error)) = replies.iter().find(|reply| matches!(reply, Value::ServerError(_))) {
            self.judge(&Trouble::Server(error.clone()));
        }
        Ok(replies)
    }

    /// A server that may no longer write was replaced by another: the next connection finds that one.
    fn judge(&self, error: &Trouble) {
        if error.server() == Some(ServerErrorKind::ReadOnly) && self.0.traffic.age_ms() >= MIN_AGE_MS {
            self.end(error.clone());
        }
    }

    async fn answer<T>(&self, asking: impl Future<Output = RedisResult<T>>, cx: &Cx<'_>) -> Result<T, Trouble> {
        let Inner { drive, traffic, patience, may_move, .. } = &*self.0;
        let failed = |error| self.why().unwrap_or_else(|| Trouble::from(error));
        let mut left = cx.deadline.remaining();
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Trouble::Late);
        }
        let outstanding = traffic.outstanding();
        if outstanding > MAX_OUTSTANDING {
            return Err(Trouble::Full(outstanding));
        }
        let mut asking = pin!(asking);
        let mut idle = outstanding == 0 && *may_move;
        // Asked where it can do harm; a request that only waits in a child's own queue is found out with its time.
        if idle && drive.is_elsewhere() {
            return Err(Trouble::Forked);
        }
        loop {
            let until = match left {
                Some(left) if left <= *patience => cx.deadline,
                _ => Deadline::after(*patience),
            };
            let mut alarm: Option<Alarm> = None;
            let answer = poll_fn(|cx| {
                let polled = match std::mem::take(&mut idle) {
                    true => begin(drive, asking.as_mut(), cx),
                    false => asking.as_mut().poll(cx),
                };
                if let Poll::Ready(answer) = polled {
                    return Poll::Ready(Ok(Some(answer)));
                }
                if let Some(alarm) = &alarm {
                    return alarm.poll(cx).map(|()| Ok(None));
                }
                alarm = Alarm::set(until, cx.waker());
                // It may be on its way by now, and there is nobody to say when its time is over.
                if alarm.is_some() { Poll::Pending } else { Poll::Ready(Err(Trouble::Late)) }
            });
            if let Some(answer) = answer.await? {
                return answer.map_err(failed);
            }
            if drive.is_elsewhere() {
                return Err(Trouble::Forked);
            }
            if traffic.is_silent_for(*patience) {
                self.end(Trouble::Silent(*patience));
            }
            left = cx.deadline.remaining();
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Trouble::Late);
            }
        }
    }
}

/// Polls a request for the first time and moves the socket in the same breath.
fn begin<T>(drive: &Arc<Drive>, asking: Pin<&mut impl Future<Output = T>>, cx: &mut Context<'_>) -> Poll<T> {
    /// Whatever happens below, a panic included, the thread stops claiming that it moves the socket.
    struct Claim;
    impl Drop for Claim {
        fn drop(&mut self) {
            MOVING.set(std::ptr::null());
        }
    }
    let claim = Claim;
    MOVING.set(Arc::as_ptr(drive));
    TOLD.set(false);
    let polled = asking.poll(cx);
    // From here on being told counts again: it means that there is more to do than this thread does now.
    let entrusted = TOLD.replace(false);
    let moved = match drive.driver.try_lock() {
        Ok(mut driver) => drive.turn_locked(&mut driver).is_pending(),
        Err(TryLockError::Poisoned(driver)) => drive.turn_locked(&mut driver.into_inner()).is_pending(),
        // Somebody else moves it, and may have looked for requests already.
        Err(TryLockError::WouldBlock) => false,
    };
    drop(claim);
    if TOLD.replace(false) || (entrusted && !moved) {
        drive.task.wake();
    }
    polled
}

#[cfg(test)]
mod tests;
