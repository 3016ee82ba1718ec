//! One server with its connections, taken in turn, and the one that is watched through, while there is one.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cachekit_plugin::Cx;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::{Notify, oneshot};

use crate::endpoint::Manner;
use crate::error::Trouble;
use crate::line::Line;
use crate::link::{Dial, Dialing, Link, Pushes};
use crate::reactor;
use crate::unsettled::{Unsettled, Writing};
use crate::url::Address;

/// How long writes under way hold up a watch that has no deadline.
const LONGEST_DRAIN: Duration = Duration::from_secs(1);

/// What a request does to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Goes through the watched connection, which is not told of what it wrote itself.
    Write,
}

/// One server.
pub(crate) struct Node {
    dial: Arc<dyn Dial>,
    links: Box<[Link]>,
    turn: AtomicUsize,
    watched: Arc<Watched>,
    beside: Beside,
    unsettled: Arc<Unsettled>,
}

/// The connection that writes go through while somebody watches.
#[derive(Default)]
pub(crate) struct Watched {
    /// Whether `line` holds something: writes look here first, so that they pay one load when nobody watches.
    is_set: AtomicBool,
    line: RwLock<Option<Line>>,
}

impl Watched {
    fn set(&self, line: Line) {
        let mut current = self.line.write().unwrap_or_else(PoisonError::into_inner);
        let before = current.replace(line);
        self.is_set.store(true, Ordering::SeqCst);
        drop(current);
        drop(before);
    }

    /// The connection, unless it is over.
    fn get(&self) -> Option<Line> {
        if !self.is_set.load(Ordering::SeqCst) {
            return None;
        }
        let line = self.line.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        if !line.is_over() {
            return Some(line);
        }
        self.forget(&line);
        None
    }

    /// Sends no further write through `line`. It is not ended: what was asked through it is answered, and it goes with the
    /// last of those who wait for an answer.
    pub(crate) fn forget(&self, line: &Line) {
        let mut current = self.line.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| current.is(line)) {
            self.is_set.store(false, Ordering::SeqCst);
            let forgotten = current.take();
            // Letting go of a connection may wake those who waited.
            drop(current);
            drop(forgotten);
        }
    }
}

/// Writes under way that do not go through the watched connection.
#[derive(Default)]
struct Beside {
    count: AtomicUsize,
    none: Notify,
}

/// One of them.
struct Under<'a>(&'a Beside);

impl Beside {
    fn begin(&self) -> Under<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        Under(self)
    }

    /// Until there is none.
    async fn ended(&self) {
        loop {
            let mut none = pin!(self.none.notified());
            none.as_mut().enable();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

impl Node {
    pub(crate) fn new(dial: Arc<dyn Dial>, connections: usize) -> Self {
        Self {
            links: (0..connections.max(1)).map(|_| Link::new(Arc::clone(&dial))).collect(),
            turn: AtomicUsize::new(0),
            watched: Arc::default(),
            beside: Beside::default(),
            unsettled: Arc::default(),
            dial,
        }
    }

    /// A connection beside the others, whose messages go to `pushes`.
    pub(crate) async fn open_beside(&self, pushes: Pushes) -> Result<Line, Trouble> {
        let (dial, (tell, told)) = (Arc::clone(&self.dial), oneshot::channel());
        // In a task, because the caller may be in no runtime, which sockets need.
        reactor::spawn(async move {
            // Whoever waited may have left; then the connection ends here.
            drop(tell.send(dial.dial(Some(pushes)).await));
        })?;
        told.await.unwrap_or(Err(Trouble::Ended("the runtime was shut down")))
    }

    /// Sends a command that concerns `keys` and waits for its reply.
    pub(crate) async fn ask(
        &self,
        keys: &[&[u8]],
        command: &Cmd,
        access: Access,
        cx: &Cx<'_>,
    ) -> Result<Value, Trouble> {
        let (line, _under) = self.line(keys, access, cx).await?;
        match self.writing(keys, access, &line, cx)? {
            None => line.ask(command, cx).await,
            Some(writing) => writing.ended(line.ask(command, cx).await),
        }
    }

    /// Sends several commands that concern `keys` at once and waits for all replies, errors among them.
    pub(crate) async fn ask_all(
        &self,
        keys: &[&[u8]],
        commands: &Pipeline,
        access: Access,
        cx: &Cx<'_>,
    ) -> Result<Vec<Value>, Trouble> {
        let (line, _under) = self.line(keys, access, cx).await?;
        match self.writing(keys, access, &line, cx)? {
            None => line.ask_all(commands, cx).await,
            Some(writing) => writing.ended(line.ask_all(commands, cx).await),
        }
    }

    /// What a write holds while it is under way, so that no later one overtakes it if its caller goes.
    fn writing<'a>(
        &'a self,
        keys: &'a [&'a [u8]],
        access: Access,
        line: &'a Line,
        cx: &Cx<'_>,
    ) -> Result<Option<Writing<'a>>, Trouble> {
        match access {
            Access::Read => Ok(None),
            // Nothing is under way then.
            Access::Write if cx.deadline.has_passed() => Err(Trouble::Late),
            Access::Write => Ok(Some(Writing::new(&self.unsettled, keys, line))),
        }
    }

    /// The connection for a request, and what a write holds until it has ended.
    async fn line(&self, keys: &[&[u8]], access: Access, cx: &Cx<'_>) -> Result<(Line, Option<Under<'_>>), Trouble> {
        let mut under = None;
        if access == Access::Write {
            // Boxed, because it is rare and would make every request larger.
            if self.unsettled.are_any()
                && let Some(line) = Box::pin(self.unsettled.line_of(keys, cx)).await?
            {
                return Ok((line, Some(self.beside.begin())));
            }
            if let Some(line) = self.watched.get() {
                return Ok((line, None));
            }
            // Counted first and looked again: a watch that begins does these two in the other order, so one of them
            // sees the other.
            under = Some(self.beside.begin());
            if let Some(line) = self.watched.get() {
                return Ok((line, None));
            }
        }
        let link = match &self.links[..] {
            [only] => only,
            links => &links[self.turn.fetch_add(1, Ordering::Relaxed) % links.len()],
        };
        match link.up() {
            Some(line) => Ok((line, under)),
            // Boxed, because it is rare and would make every request larger.
            None => Ok((Box::pin(link.line(cx)).await?, under)),
        }
    }

    /// Sends writes through `line` from now on, and waits for those that went another way: the server must not tell this
    /// backend of them. What hangs is waited for until half of the caller's time is over, and what an earlier watch's
    /// connection still carries is not waited for. A write that is told after all makes something to be forgotten in vain.
    pub(crate) async fn write_through(&self, line: Line, cx: &Cx<'_>) -> Result<(), Trouble> {
        self.watched.set(line);
        let patience = cx.deadline.remaining().map_or(LONGEST_DRAIN, |left| left / 2);
        let _ = reactor::timeout(patience, self.beside.ended())?.await;
        Ok(())
    }

    /// For whoever ends a watch: the way back for writes.
    pub(crate) fn watched(&self) -> Arc<Watched> {
        Arc::clone(&self.watched)
    }

    pub(crate) fn close(&self) {
        self.links.iter().for_each(Link::close);
    }
}

/// A server at an address.
pub(crate) struct Direct {
    pub(crate) manner: Arc<Manner>,
    pub(crate) address: Address,
}

impl Dial for Direct {
    fn dial(&self, pushes: Option<Pushes>) -> Dialing<'_> {
        Box::pin(self.manner.open(&self.address, &self.manner.login, pushes))
    }
}

#[cfg(test)]
mod tests;
