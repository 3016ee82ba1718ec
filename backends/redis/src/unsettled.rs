//! Writes whose callers have gone before the answer came.
//!
//! Such a write is on its way and arrives when it arrives. Were the next write of that key sent on another connection, it
//! could overtake the first, and the older value would stay, or a lease that was given back would be taken after all. So
//! until the first is answered, or its connection is over, writes of the key keep to that connection, where order holds. A
//! PING behind the write tells when it has been answered: replies come in the order of requests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cachekit_plugin::Cx;
use redis::cmd;

use crate::error::Trouble;
use crate::line::Line;
use crate::reactor;

/// Keys that are kept at the same time. What waits for replies on a connection has the same bound.
const MAX_KEYS: usize = 16_384;
/// How long the answer is waited for. A connection that is silent is given up much sooner.
const LONGEST: Duration = Duration::from_secs(60);
/// Pause before a connection that is full is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// The writes of one server that nobody waits for.
#[derive(Default)]
pub(crate) struct Unsettled {
    /// Whether there are any: writes look here first, so that they pay one load in good times.
    any: AtomicBool,
    writes: Mutex<Writes>,
}

#[derive(Default)]
struct Writes {
    /// By key: the number of its last write, and the connection that has it.
    of: HashMap<Box<[u8]>, (u64, Line)>,
    last: u64,
}

impl Unsettled {
    /// Whether there are any.
    #[inline]
    pub(crate) fn are_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The connections that have writes of `keys` which nobody waits for.
    pub(crate) fn lines_of(&self, keys: &[&[u8]]) -> Vec<Line> {
        if !self.are_any() {
            return Vec::new();
        }
        let writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<Line> = Vec::new();
        for (_, line) in keys.iter().filter_map(|key| writes.of.get(*key)).filter(|(_, line)| !line.is_over()) {
            if !lines.iter().any(|other| other.is(line)) {
                lines.push(line.clone());
            }
        }
        lines
    }

    /// The connection that a write of `keys` has to keep to. Where there are several, those of the others have been answered
    /// when this returns.
    pub(crate) async fn line_of(&self, keys: &[&[u8]], cx: &Cx<'_>) -> Result<Option<Line>, Trouble> {
        let mut lines = self.lines_of(keys);
        let Some(line) = lines.pop() else { return Ok(None) };
        for other in lines {
            // Replies come in the order of requests. A connection that fails has nothing on its way any more.
            if let Err(Trouble::Late) = other.ask(&cmd("PING"), cx).await {
                return Err(Trouble::Late);
            }
        }
        Ok(Some(line))
    }

    /// A write of `keys` is under way on `line`, and nobody waits for it.
    fn note(self: &Arc<Self>, keys: &[&[u8]], line: &Line) {
        if line.is_over() || line.is_elsewhere() {
            return;
        }
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        if writes.of.len() + keys.len() > MAX_KEYS {
            return;
        }
        writes.last += 1;
        let number = writes.last;
        let keys: Vec<Box<[u8]>> = keys.iter().map(|key| Box::from(*key)).collect();
        let before: Vec<_> =
            keys.iter().filter_map(|key| writes.of.insert(key.clone(), (number, line.clone()))).collect();
        self.any.store(true, Ordering::Release);
        drop(writes);
        drop(before);
        let (settling, line) = (Settling { unsettled: Arc::clone(self), keys, number }, line.clone());
        // Where nothing can be run, it is dropped here, and so is the note.
        let _ = reactor::spawn(async move {
            let cx = Cx::within(LONGEST);
            while let Err(Trouble::Full(_)) = line.ask(&cmd("PING"), &cx).await {
                tokio::time::sleep(PAUSE).await;
            }
            drop(settling);
        });
    }
}

/// Takes its note away, unless a later write has replaced it.
struct Settling {
    unsettled: Arc<Unsettled>,
    keys: Vec<Box<[u8]>>,
    number: u64,
}

impl Drop for Settling {
    fn drop(&mut self) {
        let mut writes = self.unsettled.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut settled = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            if writes.of.get(key).is_some_and(|(number, _)| *number == self.number) {
                settled.extend(writes.of.remove(key));
            }
        }
        self.unsettled.any.store(!writes.of.is_empty(), Ordering::Release);
        // Letting go of a connection may wake those who waited.
        drop(writes);
        drop(settled);
    }
}

/// A write of `keys` on `line`, noted when its caller goes before it is answered.
pub(crate) struct Writing<'a> {
    unsettled: &'a Arc<Unsettled>,
    keys: &'a [&'a [u8]],
    line: &'a Line,
    answered: bool,
}

impl<'a> Writing<'a> {
    pub(crate) fn new(unsettled: &'a Arc<Unsettled>, keys: &'a [&'a [u8]], line: &'a Line) -> Self {
        Self { unsettled, keys, line, answered: false }
    }

    /// Takes note of how it ended. Only lateness leaves it under way.
    pub(crate) fn ended<T>(mut self, answer: Result<T, Trouble>) -> Result<T, Trouble> {
        self.answered = !matches!(answer, Err(Trouble::Late));
        answer
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.unsettled.note(self.keys, self.line);
        }
    }
}
