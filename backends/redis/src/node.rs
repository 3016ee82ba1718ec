//! One server with its connections, taken in turn, and the one that is watched through, while there is one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use cachekit_plugin::Cx;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;

use crate::endpoint::Manner;
use crate::error::Trouble;
use crate::line::Line;
use crate::link::{Dial, Dialing, Link, Pushes};
use crate::reactor;
use crate::url::Address;

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
    /// Whether `watched` holds something: writes look here first, so that they pay one load when nobody watches.
    is_watched: AtomicBool,
    watched: RwLock<Option<Line>>,
}

impl Node {
    pub(crate) fn new(dial: Arc<dyn Dial>, connections: usize) -> Self {
        Self {
            links: (0..connections.max(1)).map(|_| Link::new(Arc::clone(&dial))).collect(),
            turn: AtomicUsize::new(0),
            is_watched: AtomicBool::new(false),
            watched: RwLock::new(None),
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

    pub(crate) async fn ask(&self, command: &Cmd, access: Access, cx: &Cx<'_>) -> Result<Value, Trouble> {
        self.line(access, cx).await?.ask(command, cx).await
    }

    pub(crate) async fn ask_all(
        &self,
        commands: &Pipeline,
        access: Access,
        cx: &Cx<'_>,
    ) -> Result<Vec<Value>, Trouble> {
        self.line(access, cx).await?.ask_all(commands, cx).await
    }

    async fn line(&self, access: Access, cx: &Cx<'_>) -> Result<Line, Trouble> {
        if access == Access::Write
            && self.is_watched.load(Ordering::Acquire)
            && let Some(line) = self.watched()
        {
            return Ok(line);
        }
        let link = match &self.links[..] {
            [only] => only,
            links => &links[self.turn.fetch_add(1, Ordering::Relaxed) % links.len()],
        };
        match link.up() {
            Some(line) => Ok(line),
            // Boxed, because it is rare and would make every request larger.
            None => Box::pin(link.line(cx)).await,
        }
    }

    /// Sends writes through `line` from now on.
    pub(crate) fn write_through(&self, line: Line) {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        *watched = Some(line);
        self.is_watched.store(true, Ordering::Release);
    }

    /// The connection that writes go through, unless it is over.
    fn watched(&self) -> Option<Line> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        if !watched.is_over() {
            return Some(watched);
        }
        let mut current = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| current.is(&watched)) {
            self.is_watched.store(false, Ordering::Release);
            *current = None;
        }
        None
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
