//! One process at a time makes the output of a command, for as long as that takes.
//!
//! A lease of a store ends after its hold and cannot be prolonged by its holder. A hold as long as the longest command
//! would keep everybody waiting when a holder is killed; a short one would let a second process in while the first still
//! works. So there are two leases with short holds, staggered by half of one: who holds **both** may begin, and who has
//! begun takes each again as it runs out, while the other still stands. Nobody else can get both in between, and after a
//! holder's death both are free within one hold.
//!
//! ```text
//! first   ├──────────┤├──────────┤├───     hold 10 s
//! second  ├────┤├──────────┤├──────────
//! ```

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blake2::{Blake2b, Digest, digest::consts::U32};
use cachekit::{Cache, Error};
use cachekit_plugin::{Backend, BackendError, Key, Operation};

use super::super::raw::Store;
use crate::exit::Failure;
use crate::output::hex;

/// How long a killed holder keeps others waiting at most.
const HOLD: Duration = Duration::from_secs(10);
/// How often a holder looks whether a lease has run out: 25 tries before the other one does.
const TICK: Duration = Duration::from_millis(200);

type Token = [u8; 16];

/// The right to run a command, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    stop: Option<Sender<()>>,
    renewer: Option<JoinHandle<()>>,
}

/// What came of asking for it.
#[derive(Debug)]
pub(super) enum Answer {
    Taken(Lease),
    HeldByAnother,
    /// The store has none to give.
    NoLeases,
}

impl Lease {
    /// Takes both leases of `key`, or none.
    pub(super) fn take(cache: &Cache, key: &[u8]) -> Result<Answer, Failure> {
        let store = Store::of(cache)?;
        if store.backend.locks().is_none() {
            return Ok(Answer::NoLeases);
        }
        let mut token = Token::default();
        rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| Failure::io("the system gives no random bytes")(errno.into()))?;
        let [first, second] = names(cache, key)?;
        let Some(first) = Held::take(&store, first, &token, HOLD)? else { return Ok(Answer::HeldByAnother) };
        // The first must not outlive a failure here.
        match Held::take(&store, second, &token, HOLD / 2) {
            Ok(Some(second)) => Self::keep(cache.clone(), [first, second], token).map(Answer::Taken),
            Ok(None) => first.give_back(&store, &token).map(|()| Answer::HeldByAnother),
            Err(failure) => first.give_back(&store, &token).and(Err(failure)),
        }
    }

    /// Renews both until it is told to stop, and then gives them back.
    fn keep(cache: Cache, mut leases: [Held; 2], token: Token) -> Result<Self, Failure> {
        let (stop, stopped) = channel();
        let renew = move || {
            let Ok(store) = Store::of(&cache) else { return };
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                for lease in &mut leases {
                    // A lease that is lost, because this process was stopped for longer than a hold, ends nothing: a
                    // lease is no proof of being alone, and the output is right all the same.
                    let _ = lease.renew(&store, &token);
                }
            }
            for lease in &leases {
                let _ = lease.give_back(&store, &token);
            }
        };
        let renewer = std::thread::Builder::new().name("ck-lease".into()).spawn(renew);
        let renewer = renewer.map_err(Failure::io("no thread can be started"))?;
        Ok(Self { stop: Some(stop), renewer: Some(renewer) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(renewer) = self.renewer.take() {
            // It never panics, and if it did the leases end by themselves.
            let _ = renewer.join();
        }
    }
}

/// The keys of the two leases, as the store takes them. The first is the entry's own, so that it also excludes loaders of
/// other programs that take the lease of the key they fill.
fn names(cache: &Cache, key: &[u8]) -> Result<[Vec<u8>; 2], Failure> {
    let limits = Store::of(cache)?.backend.limits();
    let name = |key: &[u8]| -> Result<Vec<u8>, Failure> {
        let wire_key = cache.wire_key(key)?;
        Ok(wire_key.for_store(&limits).map_err(Error::from)?.into_owned())
    };
    let second = format!("run-lease:{}", hex(&Blake2b::<U32>::digest(key)));
    Ok([name(key)?, name(second.as_bytes())?])
}

/// One lease, with the time by which it has run out.
#[derive(Debug)]
struct Held {
    name: Vec<u8>,
    until: Instant,
}

impl Held {
    fn take(store: &Store<'_>, name: Vec<u8>, token: &Token, hold: Duration) -> Result<Option<Self>, Failure> {
        let until = Instant::now() + hold;
        Ok(lock(store, &name, token, hold)?.then_some(Self { name, until }))
    }

    fn renew(&mut self, store: &Store<'_>, token: &Token) -> Result<(), Failure> {
        let now = Instant::now();
        if now >= self.until && lock(store, &self.name, token, HOLD)? {
            self.until = now + HOLD;
        }
        Ok(())
    }

    fn give_back(&self, store: &Store<'_>, token: &Token) -> Result<(), Failure> {
        store.exchange(Operation::Unlock, async |backend, cx| match backend.locks() {
            Some(locks) => locks.unlock(Key::from_wire(&self.name), token, cx).await.map(|_| ()),
            None => Ok(()),
        })
    }
}

fn lock(store: &Store<'_>, name: &[u8], token: &Token, hold: Duration) -> Result<bool, Failure> {
    let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
    store.exchange(Operation::Lock, async |backend: &dyn Backend, cx| match backend.locks() {
        Some(locks) => locks.lock(Key::from_wire(name), token, hold_ms, cx).await,
        None => Err(BackendError::unsupported(Operation::Lock)),
    })
}
