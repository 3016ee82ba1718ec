//! Changes by others, as the server tells them: tracking in broadcast mode, on a connection of its own.
//!
//! A connection is not told of what it wrote itself, so this backend's writes go through the one that is told, from before
//! the server begins to tell (`node.rs`). So whoever ends a watch, or fails to begin one, must not end the connection: it
//! carries what others write. Writes are sent their usual way again, and the connection goes with the last that is under
//! way on it. The server says nothing while nothing changes, and a connection that went dead
//! says nothing either; a PING every 300 ms tells the two apart, and a second and a half without an answer ends the watch.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cachekit_plugin::{Cx, Event, Key, WatchGuard, WatchSink};
use redis::aio::{AsyncPushSender, SendError};
use redis::{PushInfo, PushKind, Value, cmd};

use crate::error::Trouble;
use crate::line::{Acquaintance, Line};
use crate::node::{Node, Watched};
use crate::reactor;
use crate::reply;

/// Pause between two PINGs, and how long each is waited for.
const BEAT: Duration = Duration::from_millis(300);
/// The contract allows two seconds of silence; the last beat may have just been answered when the line went dead.
const LONGEST_SILENCE: Duration = Duration::from_millis(1_500);

/// The watches of a backend: all on one connection.
#[derive(Default)]
pub(crate) struct Hub {
    /// Held while a watch is begun.
    beginning: tokio::sync::Mutex<()>,
    current: Arc<Mutex<Option<Tracked>>>,
}

/// A connection with tracking on.
#[derive(Clone)]
struct Tracked {
    line: Line,
    /// Where the node has it.
    watched: Arc<Watched>,
    sinks: Arc<Sinks>,
    /// What the server tells of: keys that begin with it.
    covers: Vec<u8>,
}

/// Who is told.
struct Sinks {
    /// What stands before every key of this backend; those who listen do not know it.
    prefix: Box<[u8]>,
    all: RwLock<Arc<[Arc<Listener>]>>,
}

struct Listener {
    /// Keys as the server has them.
    prefix: Vec<u8>,
    sink: Arc<dyn WatchSink>,
    is_over: AtomicBool,
}

impl Hub {
    pub(crate) async fn watch(
        &self,
        node: &Node,
        own_prefix: &[u8],
        prefix: &[u8],
        sink: Arc<dyn WatchSink>,
        cx: &Cx<'_>,
    ) -> Result<WatchGuard, Trouble> {
        let _beginning = match cx.deadline.remaining() {
            None => self.beginning.lock().await,
            Some(left) => reactor::timeout(left, self.beginning.lock())?.await.map_err(|_| Trouble::Late)?,
        };
        let wanted = [own_prefix, prefix].concat();
        let listener = Arc::new(Listener { prefix: wanted.clone(), sink, is_over: AtomicBool::new(false) });
        let tracked = match self.join(&wanted, &listener) {
            Joined::Yes(tracked) => tracked,
            Joined::TooNarrow(tracked) => self.widen(tracked, own_prefix, &listener, cx).await?,
            Joined::Nothing => self.begin(node, own_prefix, wanted, &listener, cx).await?,
            Joined::Lost => return Err(Trouble::Ended("the connection was lost while the watch began")),
        };
        Ok(WatchGuard::new(Held { current: Arc::clone(&self.current), tracked, listener }))
    }

    /// Adds `listener` to those who are told, if what is tracked covers what it wants.
    fn join(&self, wanted: &[u8], listener: &Arc<Listener>) -> Joined {
        // Under the lock under which the last one leaves: nobody joins what was given up.
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tracked) = current.as_ref().filter(|tracked| !tracked.line.is_over()).cloned() else {
            return Joined::Nothing;
        };
        if !wanted.starts_with(&tracked.covers) {
            return Joined::TooNarrow(tracked);
        }
        match tracked.add(listener) {
            true => Joined::Yes(tracked),
            false => Joined::Lost,
        }
    }

    /// Opens the connection and has the server track what begins with `covers`.
    async fn begin(
        &self,
        node: &Node,
        own_prefix: &[u8],
        covers: Vec<u8>,
        listener: &Arc<Listener>,
        cx: &Cx<'_>,
    ) -> Result<Tracked, Trouble> {
        let sinks = Arc::new(Sinks { prefix: own_prefix.into(), all: RwLock::new(Arc::new([])) });
        // Before the server begins: its first message may come with its confirmation.
        sinks.add(listener);
        let unfinished = Unfinished { sinks: &sinks, listener };
        let pushes: Arc<dyn AsyncPushSender> = Arc::new(Pushed(Arc::clone(&sinks)));
        let opening = node.open_beside(pushes);
        let opened = match cx.deadline.remaining() {
            None => opening.await,
            Some(left) => reactor::timeout(left, opening)?.await.map_err(|_| Trouble::Late)?,
        };
        let tracked = Tracked {
            line: opened.map_err(Trouble::of_telling)?,
            watched: node.watched(),
            sinks: Arc::clone(&sinks),
            covers,
        };
        let diverted = Diverted(&tracked);
        // Before the server tells of anything, so that it never tells of what this backend writes.
        node.write_through(tracked.line.clone(), cx).await?;
        track(&tracked.line, &tracked.covers, cx).await?;
        reactor::spawn(beat(tracked.line.acquaintance(), Arc::clone(&sinks)))?;
        std::mem::forget((diverted, unfinished));
        let before = self.current.lock().unwrap_or_else(PoisonError::into_inner).replace(tracked.clone());
        drop(before);
        Ok(tracked)
    }

    /// Has the server track all keys of this backend, on the connection that tracks some already.
    async fn widen(
        &self,
        tracked: Tracked,
        own_prefix: &[u8],
        listener: &Arc<Listener>,
        cx: &Cx<'_>,
    ) -> Result<Tracked, Trouble> {
        /// Ends every watch, should the caller leave or the server refuse in between: whether anything is tracked then
        /// is not known.
        struct Between<'a>(&'a Hub, &'a Tracked);
        impl Drop for Between<'_> {
            fn drop(&mut self) {
                self.0.give_up(self.1);
                self.1.sinks.lose();
            }
        }
        let between = Between(self, &tracked);
        let mut off = cmd("CLIENT");
        off.arg("TRACKING").arg("OFF");
        reply::okay(tracked.line.ask(&off, cx).await.map_err(Trouble::of_telling)?)?;
        track(&tracked.line, own_prefix, cx).await?;
        std::mem::forget(between);
        // Between "off" and "on" nothing was told.
        tracked.sinks.tell(Event::Everything);
        let tracked = Tracked { covers: own_prefix.to_vec(), ..tracked };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who had it may all have left meanwhile, and nobody listens for its signs of life any more.
        if !current.as_ref().is_some_and(|current| current.line.is(&tracked.line)) || !tracked.add(listener) {
            return Err(Trouble::Ended("the connection was given up while the watch began"));
        }
        *current = Some(tracked.clone());
        Ok(tracked)
    }

    /// No longer joins watches to `tracked`, and writes go their usual way.
    fn give_up(&self, tracked: &Tracked) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| current.line.is(&tracked.line)) {
            *current = None;
        }
        drop(current);
        tracked.watched.forget(&tracked.line);
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tracked) = current {
            tracked.sinks.lose();
            tracked.line.end(Trouble::Ended("the backend was closed"));
        }
    }
}

/// Whether there is something to join.
enum Joined {
    Yes(Tracked),
    /// There is, but not all that is wanted is told there.
    TooNarrow(Tracked),
    /// There was, and who would have joined may have been told that it is over.
    Lost,
    Nothing,
}

/// Somebody who is to be told, until the server tracks: if that is refused, or the caller leaves, nothing is told.
struct Unfinished<'a> {
    sinks: &'a Sinks,
    listener: &'a Arc<Listener>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.listener.is_over.store(true, Ordering::Release);
        self.sinks.remove(self.listener);
    }
}

/// Writes that go another way, until the server tracks. If it does not, those under way are still answered there: they are
/// other callers'.
struct Diverted<'a>(&'a Tracked);

impl Drop for Diverted<'_> {
    fn drop(&mut self) {
        self.0.watched.forget(&self.0.line);
    }
}

/// Turns tracking on for keys that begin with `prefix`.
async fn track(line: &Line, prefix: &[u8], cx: &Cx<'_>) -> Result<(), Trouble> {
    let mut on = cmd("CLIENT");
    on.arg("TRACKING").arg("ON").arg("BCAST");
    if !prefix.is_empty() {
        on.arg("PREFIX").arg(prefix);
    }
    on.arg("NOLOOP");
    reply::okay(line.ask(&on, cx).await.map_err(Trouble::of_telling)?)
}

/// Asks for a sign of life until there is none, or nobody listens. Keeps nothing: the connection of those who left goes when
/// they go, and not a beat later.
async fn beat(known: Acquaintance, sinks: Arc<Sinks>) {
    let mut heard = Instant::now();
    while !sinks.is_empty() {
        let asked = Instant::now();
        let Some(line) = known.line() else { break };
        // No longer than the silence may last: what one wait is late is not added to the next.
        let left = LONGEST_SILENCE.saturating_sub(heard.elapsed());
        match line.ask(&cmd("PING"), &Cx::within(BEAT.min(left))).await {
            Ok(_) => heard = asked,
            // It may still answer those who write.
            Err(_) if sinks.is_empty() => break,
            // In this order: who joins after everybody was told finds the connection over.
            Err(_) if line.is_over() || heard.elapsed() >= LONGEST_SILENCE => {
                line.end(Trouble::Silent(LONGEST_SILENCE));
                break;
            }
            Err(_) => {}
        }
        drop(line);
        if let Some(rest) = BEAT.checked_sub(asked.elapsed()) {
            tokio::time::sleep(rest).await;
        }
    }
    sinks.lose();
}

impl Tracked {
    /// Adds somebody, unless the connection was lost: then it is not known whether everybody was told before.
    fn add(&self, listener: &Arc<Listener>) -> bool {
        self.sinks.add(listener);
        if self.line.is_over() {
            self.sinks.remove(listener);
            return false;
        }
        true
    }
}

impl Sinks {
    fn all(&self) -> Arc<[Arc<Listener>]> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn add(&self, listener: &Arc<Listener>) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        *all = all.iter().chain(std::iter::once(listener)).cloned().collect();
    }

    fn remove(&self, listener: &Arc<Listener>) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        *all = all.iter().filter(|other| !Arc::ptr_eq(other, listener)).cloned().collect();
    }

    /// Tells everybody; outside of every lock, because who is told may begin or end a watch.
    fn tell(&self, event: Event<'_>) {
        for listener in self.all().iter().filter(|listener| !listener.is_over.load(Ordering::Acquire)) {
            listener.sink.event(event);
        }
    }

    fn changed(&self, key: &[u8]) {
        let Some(own) = key.strip_prefix(&*self.prefix).filter(|own| !own.is_empty()) else { return };
        for listener in self.all().iter() {
            if key.starts_with(&listener.prefix) && !listener.is_over.load(Ordering::Acquire) {
                listener.sink.event(Event::Changed(Key::from_wire(own)));
            }
        }
    }

    /// Tells everybody that it is over, once.
    fn lose(&self) {
        for listener in self.all().iter() {
            if !listener.is_over.swap(true, Ordering::AcqRel) {
                listener.sink.event(Event::Lost);
            }
        }
    }
}

/// Takes the server's messages from the connection.
struct Pushed(Arc<Sinks>);

impl AsyncPushSender for Pushed {
    fn send(&self, info: PushInfo) -> Result<(), SendError> {
        match info.kind {
            PushKind::Invalidate => match info.data.into_iter().next() {
                Some(Value::Array(keys)) => {
                    for key in keys {
                        match key {
                            Value::BulkString(key) => self.0.changed(&key),
                            _ => self.0.tell(Event::Everything),
                        }
                    }
                }
                // No list: the whole database was emptied.
                _ => self.0.tell(Event::Everything),
            },
            PushKind::Disconnection => self.0.lose(),
            _ => {}
        }
        Ok(())
    }
}

/// Keeps a watch.
struct Held {
    current: Arc<Mutex<Option<Tracked>>>,
    tracked: Tracked,
    listener: Arc<Listener>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.listener.is_over.store(true, Ordering::Release);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.tracked.sinks.remove(&self.listener);
        // The last one: no connection is kept for nobody, but for what others write through it at this moment.
        if self.tracked.sinks.is_empty() {
            if current.as_ref().is_some_and(|tracked| tracked.line.is(&self.tracked.line)) {
                *current = None;
            }
            drop(current);
            self.tracked.watched.forget(&self.tracked.line);
        }
    }
}
