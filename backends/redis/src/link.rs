//! A connection that comes back: opened at its first use, opened again when it was lost, and not too often.
//!
//! One attempt at a time, made by a task and not by a caller, so that a caller who leaves does not end it. Between two
//! failed attempts lies a pause that doubles, with a random part, so that many processes do not come back as one; calls
//! in that pause fail at once and say when the next attempt is due. Nothing is queued for a server that is away.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cachekit_plugin::Cx;
use redis::aio::AsyncPushSender;
use tokio::sync::watch;

use crate::error::Trouble;
use crate::line::Line;
use crate::reactor;

/// First pause and longest pause. The longest keeps the promise that a server that is back is used within a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Where a server's own messages go, on a connection that has them.
pub(crate) type Pushes = Arc<dyn AsyncPushSender>;

/// A connection on its way.
pub(crate) type Dialing<'a> = Pin<Box<dyn Future<Output = Result<Line, Trouble>> + Send + 'a>>;

/// Opens connections to one place.
pub(crate) trait Dial: Send + Sync + 'static {
    /// A connection, or one of the third protocol version whose messages go to `pushes`.
    fn dial(&self, pushes: Option<Pushes>) -> Dialing<'_>;
}

/// A connection that comes back. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    dial: Arc<dyn Dial>,
    state: RwLock<State>,
}

enum State {
    /// Never opened, or closed.
    Idle,
    Up {
        line: Line,
        failures: u32,
    },
    /// Somebody opens it; the sender is dropped when that ended, in whatever way.
    Opening {
        done: watch::Receiver<()>,
        failures: u32,
    },
    Down {
        until: Instant,
        failures: u32,
        why: Arc<Trouble>,
    },
}

impl Link {
    pub(crate) fn new(dial: Arc<dyn Dial>) -> Self {
        Self(Arc::new(Inner { dial, state: RwLock::new(State::Idle) }))
    }

    /// The connection if it is up.
    pub(crate) fn up(&self) -> Option<Line> {
        match &*self.0.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Up { line, .. } if !line.is_over() => Some(line.clone()),
            _ => None,
        }
    }

    /// The connection, opened if it is not up. Ends by the deadline.
    pub(crate) async fn line(&self, cx: &Cx<'_>) -> Result<Line, Trouble> {
        loop {
            if let Some(line) = self.up() {
                return Ok(line);
            }
            let mut done = match self.begin()? {
                Begun::Up(line) => return Ok(line),
                Begun::Opening(done) => done,
            };
            // An error means that the opener is gone, which is what is waited for.
            match cx.deadline.remaining() {
                None => drop(done.changed().await),
                Some(left) => match reactor::timeout(left, done.changed())?.await {
                    Ok(_) => {}
                    Err(_) => return Err(Trouble::Late),
                },
            }
        }
    }

    /// Closes the connection. The next use opens another.
    pub(crate) fn close(&self) {
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Up { line, .. } = std::mem::replace(&mut *state, State::Idle) {
            line.end(Trouble::Ended("the backend was closed"));
        }
    }

    /// Looks again, now alone, and begins to open if nobody does.
    fn begin(&self) -> Result<Begun, Trouble> {
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let failures = match &*state {
            State::Idle => 0,
            State::Up { line, .. } if !line.is_over() => return Ok(Begun::Up(line.clone())),
            State::Up { line, failures } => {
                if line.was_of_use() {
                    0
                } else {
                    let failures = failures.saturating_add(1);
                    // The first goes back at once; a row of them is a server, or a way to it, that hangs up.
                    if failures > 2 {
                        let said = "connections are closed as soon as they are open";
                        let closed = io::Error::new(io::ErrorKind::ConnectionAborted, said);
                        let why = line.why().unwrap_or_else(|| Trouble::Socket(Arc::new(closed)));
                        *state = State::down(failures, Arc::new(why), now);
                        return state.pause(now);
                    }
                    failures
                }
            }
            State::Opening { done, .. } if done.has_changed().is_ok() => return Ok(Begun::Opening(done.clone())),
            // Its runtime went away in the middle of it.
            State::Opening { failures, .. } => *failures,
            State::Down { until, .. } if now < *until => return state.pause(now),
            State::Down { failures, .. } => *failures,
        };
        let (opening, done) = watch::channel(());
        let inner = Arc::clone(&self.0);
        reactor::spawn(async move {
            let opened = inner.dial.dial(None).await;
            inner.settle(opened, &opening, failures);
            drop(opening);
        })?;
        *state = State::Opening { done: done.clone(), failures };
        Ok(Begun::Opening(done))
    }
}

enum Begun {
    Up(Line),
    Opening(watch::Receiver<()>),
}

impl Inner {
    /// Notes how an attempt ended, unless the link was closed meanwhile.
    fn settle(&self, opened: Result<Line, Trouble>, opening: &watch::Sender<()>, failures: u32) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Opening { done, .. } if done.same_channel(&opening.subscribe()) => {}
            _ => return,
        }
        *state = match opened {
            Ok(line) => State::Up { line, failures },
            Err(why) => State::down(failures.saturating_add(1), Arc::new(why), Instant::now()),
        };
    }
}

impl State {
    fn down(failures: u32, why: Arc<Trouble>, now: Instant) -> Self {
        Self::Down { until: now + pause(failures, random()), failures, why }
    }

    /// The answer to a call in the pause.
    fn pause(&self, now: Instant) -> Result<Begun, Trouble> {
        match self {
            Self::Down { until, why, .. } => {
                Err(Trouble::Down { why: Arc::clone(why), after: until.saturating_duration_since(now) })
            }
            _ => Err(Trouble::WrongReply),
        }
    }
}

/// The pause after `failures` failed attempts in a row: doubled each time, of which the upper half is random.
fn pause(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    whole.mul_f64(0.5 + 0.5 * (random as f64 / u64::MAX as f64))
}

/// Random enough to keep processes apart.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_second_and_are_spread() {
        let longest: Vec<u128> = (1..7).map(|failures| pause(failures, u64::MAX).as_millis()).collect();
        assert_eq!(longest, [50, 100, 200, 400, 500, 500]);
        assert_eq!(pause(1, 0).as_millis(), 25);
        assert_eq!(pause(u32::MAX, 0).as_millis(), 250);
        assert_ne!(random(), random());
    }
}
