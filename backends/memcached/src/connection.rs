//! One connection with many requests under way: what its callers and its driver share.
//!
//! A caller takes a place in the queue and puts its bytes into the outbox, both under one short lock, so the order of requests
//! and the order of bytes cannot differ. Each request carries its number; an answer must repeat the number of the oldest one
//! that waits, be of a kind that request can have, and bring its key along. Whatever does not fit shows that the stream is out
//! of step: then nothing more of it is believed, and the connection ends with all that stands on it.
//!
//! The queue and the outbox are bounded; who finds no room waits for it within its deadline.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use memcache::exp::ReturnCode;
use tokio::sync::Notify;

use crate::command::{Command, Expects};
use crate::error::{Lost, Refusal};
use crate::greeting::Greeting;
use crate::inbox::{Inbox, Outcome};
use crate::outbox::Outbox;
use crate::reply::{Frame, Reply};
use crate::standing::Standing;

/// Requests that may wait for an answer. At 5 µs each the last one waits 20 ms.
const MAX_WAITING: usize = 4096;
/// Bytes that may wait for the socket. One request is taken beyond that, so that a large value finds room at all.
const MAX_UNWRITTEN: usize = 4 << 20;
/// A slow server that moves this much within its patience is slow, not stalled: a large value over a thin line.
const PROGRESS: u64 = 64 << 10;

/// One connection.
pub(crate) struct Connection {
    state: Mutex<State>,
    /// The phase, for choosing between connections without a lock.
    stage: AtomicU8,
    /// Requests queued or under way, for the same.
    load: AtomicUsize,
    /// Requests answered or given up, in order: all below this number.
    settled: AtomicU64,
    /// Told when there is room again, when the connection opens and when it ends.
    pub(crate) changed: Notify,
    standing: Arc<Standing>,
    born: Instant,
}

struct State {
    phase: Phase,
    outbox: Outbox,
    waiting: VecDeque<Waiting>,
    next: u64,
    /// Bytes ever queued, taken by the driver, and accepted by the socket.
    queued: u64,
    taken: u64,
    written: u64,
    /// Bytes moved since the last sign of progress.
    moved: u64,
    progress: Instant,
    driver: Option<Waker>,
    /// The driver has been woken and has not looked yet.
    woken: bool,
}

const OPENING: u8 = 0;
const OPEN: u8 = 1;
const OVER: u8 = 2;

#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Opening,
    Open(Arc<Greeting>),
    Over(Lost),
}

struct Waiting {
    number: u64,
    expects: Expects,
    /// The key, where the answer brings it along.
    key: Option<Box<[u8]>>,
    /// Where its bytes begin in the stream.
    begins: u64,
    inbox: Arc<Inbox>,
    place: usize,
}

/// What became of requests that wanted a place in the queue.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// All of them have one. The number of the last, here and below.
    All(u64),
    /// The queue is full behind those that have one.
    Full(u64),
    Over(Lost),
}

/// What the driver finds to do.
pub(crate) enum Task {
    Work,
    End,
}

impl Connection {
    pub(crate) fn new(standing: Arc<Standing>, now: Instant) -> Self {
        let state = State {
            phase: Phase::Opening,
            outbox: Outbox::default(),
            waiting: VecDeque::new(),
            next: 0,
            queued: 0,
            taken: 0,
            written: 0,
            moved: 0,
            progress: now,
            driver: None,
            woken: false,
        };
        Self {
            state: Mutex::new(state),
            stage: AtomicU8::new(OPENING),
            load: AtomicUsize::new(0),
            settled: AtomicU64::new(0),
            changed: Notify::new(),
            standing,
            born: now,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase.clone()
    }

    pub(crate) fn is_opening(&self) -> bool {
        self.stage.load(Ordering::Acquire) == OPENING
    }

    pub(crate) fn is_open(&self) -> bool {
        self.stage.load(Ordering::Acquire) == OPEN
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stage.load(Ordering::Acquire) == OVER
    }

    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Whether request `number` is no longer under way.
    pub(crate) fn has_settled(&self, number: u64) -> bool {
        self.settled.load(Ordering::Acquire) > number
    }

    /// Queues `commands` from `*next` on, as many as there is room for. The answer to `commands[i]` goes to place `i`.
    pub(crate) fn push(&self, commands: &[Command<'_>], next: &mut usize, inbox: &Arc<Inbox>) -> Pushed {
        let mut state = self.state();
        if let Phase::Over(lost) = &state.phase {
            return Pushed::Over(lost.clone());
        }
        if state.waiting.is_empty() {
            state.progress = Instant::now();
            state.moved = 0;
        }
        let before = *next;
        while let Some(command) = commands.get(*next) {
            let unwritten = (state.queued - state.written) as usize;
            let large = unwritten > 0 && unwritten + command.len() > MAX_UNWRITTEN;
            if state.waiting.len() >= MAX_WAITING || large {
                break;
            }
            state.queue(command, inbox, *next);
            *next += 1;
        }
        let driver = if *next > before && !state.woken { state.driver.take() } else { None };
        state.woken |= driver.is_some();
        self.load.store(state.waiting.len(), Ordering::Relaxed);
        let last = state.next.saturating_sub(1);
        let pushed = if *next == commands.len() { Pushed::All(last) } else { Pushed::Full(last) };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        pushed
    }

    /// The connection is made: whatever was queued meanwhile may go.
    pub(crate) fn open(&self, greeting: Greeting) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Opening) {
            state.phase = Phase::Open(Arc::new(greeting));
            self.stage.store(OPEN, Ordering::Release);
            state.progress = Instant::now();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Hands the driver what waits for the socket. `written` bytes have been accepted since the last call.
    pub(crate) fn take(&self, socket: &mut Outbox, written: usize, waker: &Waker) -> Task {
        let mut state = self.state();
        if matches!(state.phase, Phase::Over(_)) {
            return Task::End;
        }
        match &mut state.driver {
            Some(driver) => driver.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
        state.woken = false;
        let had_room = state.has_room();
        state.written += written as u64;
        state.moved(written);
        state.outbox.move_to(socket);
        state.taken = state.queued;
        let has_room = !had_room && state.has_room();
        drop(state);
        if has_room {
            self.changed.notify_waiters();
        }
        Task::Work
    }

    /// Matches `frames` with the requests they answer and lays the answers down.
    ///
    /// Those before a frame that does not fit are good: each repeated the number of its request.
    pub(crate) fn answer(&self, frames: &mut Vec<Frame>, bytes: usize) -> Result<(), Lost> {
        let mut answers = Vec::with_capacity(frames.len());
        let mut state = self.state();
        let had_room = state.has_room();
        state.moved(bytes);
        let mut verdict = Ok(());
        for frame in frames.drain(..) {
            let Some(waiting) = state.waiting.pop_front() else {
                verdict = Err(Lost::OutOfStep("an answer nobody asked for"));
                break;
            };
            match waiting.outcome(frame) {
                Ok(outcome) => answers.push((waiting, outcome)),
                Err(lost) => {
                    // Ends with the others, by `end`.
                    state.waiting.push_front(waiting);
                    verdict = Err(lost);
                    break;
                }
            }
        }
        if let Some((last, _)) = answers.last() {
            state.progress = Instant::now();
            state.moved = 0;
            self.settled.store(last.number + 1, Ordering::Release);
            self.load.store(state.waiting.len(), Ordering::Relaxed);
        }
        let has_room = !had_room && state.has_room();
        drop(state);
        if !answers.is_empty() {
            self.standing.succeeded();
        }
        if has_room {
            self.changed.notify_waiters();
        }
        for (waiting, outcome) in answers {
            waiting.inbox.deliver(waiting.place, outcome);
        }
        verdict
    }

    /// Ends the connection if it has made no progress for `patience`, and says whether it is over.
    pub(crate) fn end_if_stalled(&self, now: Instant, patience: Duration) -> bool {
        let state = self.state();
        let stalled = match state.phase {
            Phase::Over(_) => return true,
            _ => !state.waiting.is_empty() && now.saturating_duration_since(state.progress) >= patience,
        };
        drop(state);
        if stalled {
            self.end(Lost::Stalled);
        }
        stalled
    }

    /// Whether a request would find a place.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.state();
        matches!(state.phase, Phase::Over(_)) || state.has_room()
    }

    /// Whether no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.state().waiting.is_empty()
    }

    /// Ends the connection, and with it everything that stands on it.
    pub(crate) fn end(&self, lost: Lost) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Over(_)) {
            return;
        }
        // A server that closes a connection nobody uses (its idle timeout, a restart) has failed nobody.
        let idle = matches!(state.phase, Phase::Open(_)) && state.waiting.is_empty();
        state.phase = Phase::Over(lost.clone());
        self.stage.store(OVER, Ordering::Release);
        state.outbox = Outbox::default();
        let (taken, next) = (state.taken, state.next);
        let waiting = std::mem::take(&mut state.waiting);
        let driver = state.driver.take();
        self.settled.store(next, Ordering::Release);
        self.load.store(0, Ordering::Relaxed);
        drop(state);
        if lost.is_the_servers_fault() && !idle {
            self.standing.failed(Instant::now(), self.born);
        }
        for waiting in waiting {
            let sent = waiting.begins < taken;
            waiting.inbox.deliver(waiting.place, Outcome::Lost { lost: lost.clone(), sent });
        }
        if let Some(driver) = driver {
            driver.wake();
        }
        self.changed.notify_waiters();
    }
}

impl State {
    fn queue(&mut self, command: &Command<'_>, inbox: &Arc<Inbox>, place: usize) {
        let (number, begins) = (self.next, self.queued);
        self.next += 1;
        let before = self.outbox.len();
        self.outbox.push(command.line());
        let mut digits = [0; 20];
        self.outbox.push(b" O");
        self.outbox.push(decimal(number, &mut digits));
        self.outbox.push(b"\r\n");
        if let Some(value) = command.value() {
            self.outbox.push_value(value);
            self.outbox.push(b"\r\n");
        }
        self.queued += (self.outbox.len() - before) as u64;
        let key = match command.expects {
            Expects::Value | Expects::Presence => Some(command.key.as_bytes().into()),
            Expects::Stored | Expects::Deleted => None,
        };
        let inbox = Arc::clone(inbox);
        self.waiting.push_back(Waiting { number, expects: command.expects, key, begins, inbox, place });
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING && self.queued - self.written < MAX_UNWRITTEN as u64
    }

    fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if self.moved >= PROGRESS {
            self.moved = 0;
            self.progress = Instant::now();
        }
    }
}

/// Writes `number` to the end of `digits`.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

impl Waiting {
    /// What `frame` means to this request, if it is an answer to it.
    fn outcome(&self, frame: Frame) -> Result<Outcome, Lost> {
        let reply = match frame {
            Frame::Reply(reply) => reply,
            // An error line repeats no number. If it was for another request, the next answer shows it.
            Frame::Refusal(Refusal::ClientError) => {
                // The server did not understand us and may take what follows for a request.
                return Err(Lost::OutOfStep("a request the server calls malformed"));
            }
            Frame::Refusal(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        if reply.opaque != Some(self.number) {
            return Err(Lost::OutOfStep("an answer to another request"));
        }
        if !self.can_be_answered_by(&reply) {
            return Err(Lost::OutOfStep("an answer of another kind"));
        }
        if self.key.is_some() && reply.key.as_deref() != self.key.as_deref() {
            return Err(Lost::OutOfStep("an answer about another key"));
        }
        match reply.passed_over {
            Some(len) => Ok(Outcome::Refused(Refusal::StoredTooLarge(len))),
            None => Ok(Outcome::Reply(reply)),
        }
    }

    fn can_be_answered_by(&self, reply: &Reply) -> bool {
        match (self.expects, reply.code) {
            (Expects::Value, ReturnCode::Va) => reply.value.is_some() || reply.passed_over.is_some(),
            (Expects::Value, ReturnCode::En) | (Expects::Presence, ReturnCode::Hd | ReturnCode::En) => true,
            (Expects::Stored, ReturnCode::Hd | ReturnCode::Ns | ReturnCode::Ex | ReturnCode::Nf) => true,
            (Expects::Deleted, ReturnCode::Hd | ReturnCode::Ex | ReturnCode::Nf) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
