//! The fill lock: of all processes that miss one key at the same time, one loads and the others look again.
//!
//! Stands between the flight of a key, which settles the same question inside a process, and the loader. It is a lease of the
//! store ([`Locks`](cachekit_plugin::Locks)), so it costs time and proves nothing: a holder that was paused may find it
//! expired and another one loading. What such a holder stores is held back by the fence (`cache/fill.rs`); the lock only
//! saves loads.
//!
//! Every wait here has an end. A holder that dies is waited for until its lease is over, a store that cannot lock is not
//! waited for at all, and a caller whose patience ends loads by itself.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cachekit_plugin::{BackendError, Deadline, Kind, Operation, Ttl, fork};
use tokio::sync::Notify;

use super::deadline::{background, within};
use crate::key::WireKey;
use crate::l1::KeyHash;
use crate::tier::Tier;

/// How callers that miss a key in several processes agree on who loads it. Needs a store with locks; elsewhere each process
/// loads for itself.
///
/// ```
/// use std::time::Duration;
/// use cachekit_core::guard::fill_lock::FillLocks;
///
/// let slow_reports = FillLocks::default().with_hold(Duration::from_secs(60)).with_patience(Duration::from_secs(70));
/// assert!(slow_reports.fence);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FillLocks {
    /// How long a holder that is never heard of again keeps others from loading (5 s). A load that takes longer is joined by
    /// one of another process per hold.
    pub hold: Duration,
    /// How long a caller waits for the value that another process is loading (6 s), then it loads by itself. Longer than the
    /// hold, so that of those who waited for a holder that died, one takes its place. It is time of a loader, which the
    /// deadline of an operation does not cover.
    pub patience: Duration,
    /// Whether what was loaded is stored only if nobody wrote, deleted or cleared meanwhile (`true`), where the store has
    /// conditional writes. Costs two exchanges per load.
    pub fence: bool,
}

impl Default for FillLocks {
    fn default() -> Self {
        // The 5 s of the Rust side of the family, and a second for the one who takes over.
        Self { hold: Duration::from_secs(5), patience: Duration::from_secs(6), fence: true }
    }
}

impl FillLocks {
    /// Shortest and longest hold that is taken.
    pub const HOLD: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
    /// Longest patience that is taken.
    pub const MAX_PATIENCE: Duration = Duration::from_secs(3600);

    /// Another hold.
    #[must_use]
    pub const fn with_hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Another patience. Zero: whoever finds the lock taken loads at once.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// With the fence, or without.
    #[must_use]
    pub const fn with_fence(mut self, fence: bool) -> Self {
        self.fence = fence;
        self
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if !Self::HOLD.contains(&self.hold) {
            return Err("its hold is 10 ms to 1 h");
        }
        if self.patience > Self::MAX_PATIENCE {
            return Err("its patience is at most 1 h");
        }
        Ok(())
    }
}

/// What the loads of one cache have in the store: the keys whose fill lock is held in this process (whoever meets one here would
/// wait for itself, or for a flight of its own process that a write has overtaken), and how much is being given back.
#[derive(Debug, Default)]
pub(crate) struct Held {
    state: Mutex<State>,
    /// Something was given back.
    returned: Notify,
}

#[derive(Debug, Default)]
struct State {
    process: u32,
    keys: HashSet<u64>,
    returns: usize,
}

/// Locks and marks on their way back at once. Beyond this many they run out by themselves.
const MAX_RETURNS: usize = 256;

/// A lock, a mark or both on their way back.
struct Return {
    held: Arc<Held>,
    process: u32,
}

impl Held {
    pub(crate) fn contains(&self, hash: KeyHash) -> bool {
        self.lock().keys.contains(&hash.as_u64())
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().keys.is_empty()
    }

    /// Until everything that is on its way back has arrived.
    pub(crate) async fn returned(&self) {
        loop {
            let mut returned = pin!(self.returned.notified());
            returned.as_mut().enable();
            if self.lock().returns == 0 {
                return;
            }
            returned.await;
        }
    }

    /// `None`: too much is on its way already.
    fn begin_return(self: &Arc<Self>) -> Option<Return> {
        let mut state = self.lock();
        if state.returns >= MAX_RETURNS {
            return None;
        }
        state.returns += 1;
        Some(Return { held: Arc::clone(self), process: state.process })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let process = fork::generation();
        if state.process != process {
            // What a parent process holds is not held here: else none of its keys would ever be locked in this one.
            *state = State { process, ..State::default() };
        }
        state
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        let mut state = self.held.lock();
        if state.process == self.process {
            state.returns = state.returns.saturating_sub(1);
        }
        drop(state);
        self.held.returned.notify_waiters();
    }
}

/// A token: 32 hex digits, as the tokens of the family have.
const TOKEN_BYTES: usize = 32;
type Token = [u8; TOKEN_BYTES];

/// What one load has in the store while it runs: a lock that is held, or may be, and the mark of its fence. Dropped in any way,
/// also by a panic or with the future it lives in, both go: by a task of the engine's own thread, because whoever drops it
/// may have no time left.
pub(crate) struct Standing {
    tier: Tier,
    wire: WireKey,
    hash: KeyHash,
    held: Arc<Held>,
    /// What each exchange may take.
    allowance: Duration,
    token: Option<Token>,
    mark: Option<Bytes>,
}

impl Standing {
    pub(crate) fn new(tier: &Tier, wire: &WireKey, hash: KeyHash, held: &Arc<Held>, allowance: Duration) -> Self {
        Self {
            tier: tier.clone(),
            wire: wire.clone(),
            hash,
            held: Arc::clone(held),
            allowance,
            token: None,
            mark: None,
        }
    }

    /// Takes the lock if nobody has it.
    pub(crate) async fn lock(&mut self, hold: Duration) -> Result<bool, BackendError> {
        let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX).max(1);
        let token = token()?;
        // Noted before it is asked for: a caller that goes away, or a deadline that passes, leaves a lock that may have been
        // taken, and it is given back all the same.
        self.token = Some(token);
        let taken = self.tier.lock(&self.wire, &token, hold_ms, Deadline::after(self.allowance)).await?;
        if taken {
            self.held.lock().keys.insert(self.hash.as_u64());
        } else {
            self.token = None;
        }
        Ok(taken)
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.token.is_some()
    }

    /// A mark stands, or may, under the key until a value replaces it.
    pub(crate) fn marked(&mut self, mark: Bytes) {
        self.mark = Some(mark);
    }

    /// It stands there no more, or is somebody else's to replace.
    pub(crate) fn unmarked(&mut self) {
        self.mark = None;
    }

    /// Gives the lock back, after a load that came to its end.
    pub(crate) async fn release(mut self) {
        if self.mark.is_some() {
            return; // By the drop: nobody needs to wait for it.
        }
        if let Some(token) = self.token {
            // Forgotten only afterwards: if the caller goes away here, the drop does it.
            let _ = self.tier.unlock(&self.wire, &token, Deadline::after(self.allowance)).await;
        }
        self.forget_token();
    }

    fn forget_token(&mut self) -> Option<Token> {
        let token = self.token.take()?;
        self.held.lock().keys.remove(&self.hash.as_u64());
        Some(token)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let (token, mark) = (self.forget_token(), self.mark.take());
        if token.is_none() && mark.is_none() {
            return;
        }
        let Some(on_its_way) = self.held.begin_return() else { return };
        let (tier, wire, allowance) = (self.tier.clone(), self.wire.clone(), self.allowance);
        background().spawn(async move {
            if let Some(mark) = mark {
                lower(&tier, &wire, mark, allowance).await;
            }
            if let Some(token) = token {
                let _ = tier.unlock(&wire, &token, Deadline::after(allowance)).await;
            }
            drop(on_its_way);
            // This may be the last who holds the backend, and the end of one may wait, which a task must not.
            tokio::task::spawn_blocking(move || drop(tier));
        });
    }
}

/// Lets a mark end, unless something else stands there by now. Stores have no conditional removal, so it gets the shortest life.
async fn lower(tier: &Tier, wire: &WireKey, mark: Bytes, allowance: Duration) {
    if let Ok(Some((stored, version))) = tier.get_version(wire, Deadline::after(allowance)).await
        && stored == mark
        && let Some(ttl) = Ttl::from_ms(1)
    {
        let _ = tier.set_if(wire, mark, ttl, Some(version), Deadline::after(allowance)).await;
    }
}

fn token() -> Result<Token, BackendError> {
    let mut random = [0_u8; TOKEN_BYTES / 2];
    getrandom::fill(&mut random).map_err(|error| {
        let text = "the system gives no random bytes";
        BackendError::new(Kind::Internal, Operation::Lock, text).with_source(error)
    })?;
    let mut token = [0; TOKEN_BYTES];
    for (pair, byte) in token.chunks_exact_mut(2).zip(random) {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    Ok(token)
}

/// Pauses between looks: short at first, because most loads are, then longer, and never the same in two processes.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Pauses {
    pub(crate) const fn new() -> Self {
        Self { next: FIRST_PAUSE }
    }

    /// Waits, but not beyond `until`.
    pub(crate) async fn pause(&mut self, until: Deadline) {
        let random = foldhash::fast::RandomState::default().hash_one(0_u8) % 1000;
        let pause = self.next.mul_f64(0.5 + random as f64 / 2000.0);
        self.next = (self.next * 3 / 2).min(LONGEST_PAUSE);
        let end = Deadline::after(pause).min(until);
        let _: Result<(), _> = within(end, Operation::Lock, std::future::pending()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_look_like_the_familys_and_never_repeat() {
        let tokens: HashSet<_> = (0..1000).map(|_| token().unwrap()).collect();
        assert_eq!(tokens.len(), 1000);
        assert!(tokens.iter().flatten().all(|digit| digit.is_ascii_hexdigit() && !digit.is_ascii_uppercase()));
    }

    #[test]
    fn what_the_parent_process_holds_is_not_held_in_the_child() {
        let (held, hash) = (Held::default(), KeyHash::from_raw(7));
        held.lock().keys.insert(hash.as_u64());
        assert!(held.contains(hash));
        // As it looks after a fork: the set says another process than this one.
        held.state.lock().unwrap().process = fork::generation().wrapping_add(1);
        assert!(!held.contains(hash));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let locks = FillLocks::default();
        assert!(locks.check().is_ok());
        for wrong in [
            locks.with_hold(Duration::ZERO),
            locks.with_hold(Duration::MAX),
            locks.with_patience(Duration::from_secs(3601)),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn pauses_grow_to_their_bound_and_end_with_the_patience() {
        let mut pauses = Pauses::new();
        for _ in 0..20 {
            pauses.pause(Deadline::after(Duration::ZERO)).await;
        }
        assert_eq!(pauses.next, LONGEST_PAUSE);
    }
}
