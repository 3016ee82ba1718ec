//! L1 and other writers: where the store tells of their changes, L1 forgets what they changed, and may keep the rest.
//!
//! ```text
//! first use of the store ─► begin ─► watch ─ confirmed ─► vouching, renewed every half second
//!                             ▲        │ refused            │ changed: that key   everything: all   lost: all, no vouching
//!                             └─ pause ┴──────────◄─────────┘
//! ```
//!
//! **When an entry counts as coherent.** The watch was confirmed before the store was asked for it (or told its value), and
//! nothing was lost since. Such an entry is *vouched for*: L1 keeps it to its own end. Every other entry lives for the L1 cap,
//! as if there were no watch, also after one has begun. A write that the store may not have taken is never vouched for, nor
//! is what is read behind it: it may still be on its way, and the store does not tell an instance what it wrote itself.
//! How long that is believed is [`DOUBT`].
//!
//! **What bounds the silence.** The backend tells within two seconds that its connection died. On this side vouching is an end
//! that has to be moved on ([`LEASE`]), so that a process that was stopped, a child after `fork()`, or a program whose threads
//! starve serves nothing by a watch that nobody listens to. A renewal that comes late forgets everything first.
//!
//! **What is not told.** A backend does not tell an instance what that instance wrote itself. Caches that share one tell each
//! other (`siblings.rs`); whoever writes through the bare handle of a backend is heard by no cache on it.
//!
//! **Races.** A change makes whatever is on its way for its key too late (`invalidate/`), under the same lock under which a
//! fill is kept. So a value that was read before a change is never kept after it was told.

pub(crate) mod shortened;
pub(crate) mod siblings;

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cachekit_plugin::{Deadline, Event, Kind, WatchGuard, WatchSink};
use tokio::sync::Notify;

use crate::cache::Engine;
use crate::guard::deadline::background;
use crate::key::PREFIX;
use crate::near::Near;

/// How long entries are served without a sign of life of this side. The bound that the backend has for its own.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// How often it is renewed: three may fail to come before entries are not served.
const BEAT: Duration = Duration::from_millis(500);
/// How long a write that was given up may still land. One that lies in a connection lands, or is lost with it, within the two
/// seconds that the silence of a connection lasts; this is many times that, because all it costs is that what is read
/// meanwhile lives for the cap.
pub(crate) const DOUBT: Duration = Duration::from_secs(60);
/// Pauses between attempts to begin a watch, doubling. Soon, because a server that restarts is back in a second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

const OFF: u8 = 0;
const IDLE: u8 = 1;
const BEGUN: u8 = 2;

/// The watch of one engine.
pub(crate) struct Coherence {
    state: AtomicU8,
    stir: Arc<Stir>,
    /// Ended with the engine, before the backend.
    guard: Mutex<Option<WatchGuard>>,
}

/// What the keeper of a watch waits for.
#[derive(Default)]
struct Stir {
    ended: AtomicBool,
    notify: Notify,
}

impl Coherence {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { state: AtomicU8::new(if wanted { IDLE } else { OFF }), stir: Arc::default(), guard: Mutex::default() }
    }

    /// Begins to watch, once, when the store is used for the first time. Does not wait.
    pub(crate) fn begin(&self, engine: &Arc<Engine>) {
        if self.state.load(Ordering::Relaxed) == IDLE
            && self.state.compare_exchange(IDLE, BEGUN, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            // The engine's own runtime: the caller's may be parked or gone while hits are served.
            background().spawn(keep(Arc::downgrade(engine), Arc::clone(&self.stir)));
        }
    }

    /// Ends it for good.
    pub(crate) fn end(&self) {
        self.state.store(OFF, Ordering::Release);
        self.stir.ended.store(true, Ordering::SeqCst);
        self.stir.notify.notify_one();
        drop(self.replace(None));
    }

    fn replace(&self, guard: Option<WatchGuard>) -> Option<WatchGuard> {
        std::mem::replace(&mut self.guard.lock().unwrap_or_else(PoisonError::into_inner), guard)
    }
}

/// Keeps a watch up as long as there is an engine.
async fn keep(engine: Weak<Engine>, stir: Arc<Stir>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(sink) = attempt(&engine, &stir).await else { return };
        if let Some(sink) = sink {
            pause = FIRST_PAUSE;
            // What an earlier watch left is over; the handle of the engine has been given back.
            sink.near.l1.vouch_until(0);
            sink.renew();
            vigil(&sink, &stir).await;
            // Taken out of the engine, ended outside of it.
            if let Some(engine) = engine.upgrade() {
                drop(engine.coherence.replace(None));
                let_go(engine);
            }
        }
        if stir.ended.load(Ordering::SeqCst) {
            return;
        }
        // Everybody who lost the same server comes back to it: not at the same time.
        let jitter = foldhash::fast::RandomState::default().hash_one(0_u8) % 1000;
        let wait = pause.mul_f64(0.5 + jitter as f64 / 1000.0);
        let _ = tokio::time::timeout(wait, stir.notify.notified()).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Everybody else may have let go of the engine meanwhile, and then this is the last who holds the backend: the end of one may
/// wait, which a task of the shared thread must not.
fn let_go(engine: Arc<Engine>) {
    background().spawn_blocking(move || drop(engine));
}

/// Tries to begin a watch. `None`: there is nothing to try for any more; `Some(None)`: not this time.
async fn attempt(engine: &Weak<Engine>, stir: &Arc<Stir>) -> Option<Option<Arc<Sink>>> {
    let engine = engine.upgrade()?;
    let answer = match stir.ended.load(Ordering::SeqCst) {
        true => None,
        false => watch(&engine, stir).await,
    };
    let_go(engine);
    answer
}

async fn watch(engine: &Engine, stir: &Arc<Stir>) -> Option<Option<Arc<Sink>>> {
    let tier = engine.tier.as_ref()?;
    let sink = Arc::new(Sink { near: Arc::clone(&engine.near), stir: Arc::clone(stir), lost: AtomicBool::new(false) });
    let deadline = Deadline::after(engine.settings.deadline);
    match tier.watch(PREFIX, Arc::clone(&sink) as Arc<dyn WatchSink>, deadline).await {
        Ok(guard) => {
            let before = engine.coherence.replace(Some(guard));
            drop(before);
            // The engine may have been closed meanwhile: it would not look for a guard again.
            if stir.ended.load(Ordering::SeqCst) {
                drop(engine.coherence.replace(None));
                return None;
            }
            tracing::debug!(target: "cachekit", "the second tier tells of changes by others");
            Some(Some(sink))
        }
        Err(error) if error.kind() == Kind::Unsupported => {
            tracing::debug!(target: "cachekit", "the second tier cannot tell of changes by others: {error}");
            None
        }
        Err(error) => {
            tracing::debug!(target: "cachekit", kind = error.kind().as_str(), "no watch yet: {error}");
            Some(None)
        }
    }
}

/// Renews the vouching until the watch is lost or the engine ends.
async fn vigil(sink: &Sink, stir: &Stir) {
    while !sink.lost.load(Ordering::SeqCst) && !stir.ended.load(Ordering::SeqCst) {
        if tokio::time::timeout(BEAT, stir.notify.notified()).await.is_err() {
            sink.renew();
        }
    }
}

/// Where the events of one watch go.
struct Sink {
    near: Arc<Near>,
    stir: Arc<Stir>,
    lost: AtomicBool,
}

impl Sink {
    /// Moves the end of vouching on.
    fn renew(&self) {
        self.near.vouch_anew();
        // The loss may have come in between, and vouching must not outlive it.
        if self.lost.load(Ordering::SeqCst) {
            self.stop();
        }
    }

    fn stop(&self) {
        self.near.l1.vouch_until(0);
        self.near.forget_everything();
    }
}

impl WatchSink for Sink {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Changed(key) => self.near.changed(key.as_bytes()),
            Event::Everything => self.near.everything_changed(),
            Event::Lost => {
                if !self.lost.swap(true, Ordering::SeqCst) {
                    self.stop();
                    self.near.counters.watches_lost.add();
                    tracing::info!(target: "cachekit", "the second tier no longer tells of changes by others");
                    self.stir.notify.notify_one();
                }
            }
        }
    }
}

impl Near {
    /// Vouches for [`LEASE`] from now. If that comes late, entries were kept that nobody listened for.
    pub(crate) fn vouch_anew(&self) {
        let now_ms = self.clock.coarse_ms();
        let lease_ms = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        let was_until_ms = self.l1.vouched_until_ms();
        if was_until_ms != 0 && was_until_ms <= now_ms {
            self.forget_everything();
        }
        self.l1.vouch_until(now_ms.saturating_add(lease_ms));
    }
}
