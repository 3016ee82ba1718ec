//! Single-flight: of all callers that miss one key at the same time, one loads and the others wait for it.
//!
//! The load runs in the leader's own task, so nothing is spawned and no runtime is assumed. A leader that is cancelled or
//! panics leaves the flight, and one of the waiters leads the next; no flight outlives its callers. A loader that asks for
//! its own key would wait for itself: it is let through to load on its own. Where that cannot be seen, because the loader
//! spawned a task that asks, or where a leader is no longer driven, the wait has a bound: then *one* of those who wait leads
//! beside the first, the rest wait for whichever lands first, and so on. A source that is slow is not also asked by everybody.
//!
//! **Who may have what lands.** A write of this process ends that a flight is found ([`Flights::detach`]); of one of another
//! process nobody is told in time. So an answer lands with the [`Moment`] up to which it is known to be the newest there is, and
//! is given to those who came before it. Whoever came later may know of something newer: he leads the next flight or waits
//! for it, which began after he came, so nobody waits for more than two.
//!
//! ```text
//! from the store    the moment before the store was asked
//! from a loader     the moment before it was written, if a fence let it in (`cache/fill.rs`); else that before the loader began
//! from L1, and from a loader without a fence    everybody may have it
//! ```

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachekit_plugin::{Deadline, Operation, fork};
use tokio::sync::Notify;

use super::deadline::within;
use crate::l1::KeyHash;

/// Refreshes fly apart from loads: a load may end with what was there, and a refresh must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Load,
    Refresh,
}

impl Kind {
    /// Under which number the flight of a key is found.
    const fn number(self, hash: KeyHash) -> u64 {
        match self {
            Self::Load => hash.as_u64(),
            Self::Refresh => !hash.as_u64(),
        }
    }
}

/// What a flight ends with: a shared value or a shared error, of a type only its callers know.
pub(crate) type Landed = Result<Arc<dyn Any + Send + Sync>, Arc<dyn Any + Send + Sync>>;

const SHARDS: usize = 64;

/// How long a flight has one leader, before one of those who wait for it leads as well. A load lives in its leader's task, and a
/// task may stop driving it without dropping it, or have spawned the very caller that waits for it: then this is the way out.
/// Whether it is that or a slow loader cannot be seen from here.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The flights of one cache. Holds an entry per key that is being loaded, no more.
pub(crate) struct Flights {
    shards: Box<[Shard]>,
    moments: AtomicU64,
    /// [`LONGEST_WAIT`], but for tests.
    patience: Duration,
}

/// A point in the course of a process's loads, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Before anybody came.
    pub(crate) const NOBODY: Self = Self(0);
    /// After everybody who will ever come.
    pub(crate) const EVERYBODY: Self = Self(u64::MAX);
}

type Shard = Mutex<HashMap<u64, Arc<Flight>>>;

struct Flight {
    /// The process in which it flies: a child made by `fork()` has none of its parent's leaders.
    process: u32,
    wire_key: Box<[u8]>,
    state: Mutex<State>,
    changed: Notify,
}

enum State {
    Flying {
        /// Who have not gone.
        leaders: usize,
        /// When another one leads as well.
        due: Deadline,
    },
    /// The leader left without an answer; the next one leads.
    Abandoned,
    /// The leader has no answer for anybody else; each loads on his own.
    Parted,
    /// For those who came before that moment.
    Landed(Landed, Moment),
}

/// What a follower saw.
enum Waited {
    Landed(Landed),
    /// Or what landed is not for him.
    Abandoned,
    Parted,
    /// It is time that somebody else leads as well.
    TooLong,
}

/// The part a caller plays.
pub(crate) enum Part<'a> {
    /// Load, then [`Leader::land`].
    Leader(Leader<'a>),
    /// Somebody else loaded.
    Follower(Landed),
    /// Load on your own: to wait would be to wait for oneself.
    Alone,
}

pub(crate) struct Leader<'a> {
    flights: &'a Flights,
    hash: KeyHash,
    kind: Kind,
    flight: Arc<Flight>,
}

impl Flights {
    pub(crate) fn new() -> Self {
        let mut shards = Vec::new();
        shards.resize_with(SHARDS, Mutex::default);
        Self { shards: shards.into(), moments: AtomicU64::new(0), patience: LONGEST_WAIT }
    }

    /// Now, to be taken before the store or a loader is asked: who comes from here on comes too late for the answer, if nothing
    /// else is known of it.
    pub(crate) fn moment(&self) -> Moment {
        Moment(self.moments.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// When a caller comes: before every moment that is taken after this.
    fn came(&self) -> Moment {
        Moment(self.moments.load(Ordering::SeqCst))
    }

    /// Joins the flight of a key, or begins it.
    pub(crate) async fn join(&self, hash: KeyHash, wire_key: &[u8]) -> Part<'_> {
        self.join_as(Kind::Load, hash, wire_key).await
    }

    /// The same for a refresh.
    pub(crate) async fn refresh(&self, hash: KeyHash, wire_key: &[u8]) -> Part<'_> {
        self.join_as(Kind::Refresh, hash, wire_key).await
    }

    /// Begins the refresh of a key, unless one is flying.
    pub(crate) fn try_refresh(&self, hash: KeyHash, wire_key: &[u8]) -> Option<Leader<'_>> {
        self.begin(Kind::Refresh, hash, wire_key).ok()
    }

    /// Waits for the refresh of a key, if one is flying and it is not the caller's own.
    pub(crate) async fn follow_refresh(&self, hash: KeyHash, wire_key: &[u8]) -> Option<Landed> {
        let came = self.came();
        let flight = lock(self.shard(hash)).get(&Kind::Refresh.number(hash)).cloned()?;
        match flight.follow(wire_key, came).await {
            Waited::Landed(landed) => Some(landed),
            Waited::Abandoned | Waited::Parted | Waited::TooLong => None,
        }
    }

    async fn join_as(&self, kind: Kind, hash: KeyHash, wire_key: &[u8]) -> Part<'_> {
        let came = self.came();
        loop {
            let flight = match self.begin(kind, hash, wire_key) {
                Ok(leader) => return Part::Leader(leader),
                Err(flight) => flight,
            };
            let waited = loop {
                match flight.follow(wire_key, came).await {
                    // Also if a write has detached it: what lands in it is still for all who waited for it until then.
                    Waited::TooLong if flight.relieve(self.patience) => {
                        return Part::Leader(Leader { flights: self, hash, kind, flight });
                    }
                    // Another one does.
                    Waited::TooLong => {}
                    waited => break waited,
                }
            };
            match waited {
                Waited::Landed(landed) => return Part::Follower(landed),
                // Its leader may be on the way to take it away: nobody turns in a circle until he has.
                Waited::Abandoned | Waited::TooLong => self.take_away(kind.number(hash), hash, &flight),
                Waited::Parted => return Part::Alone,
            }
        }
    }

    fn begin(&self, kind: Kind, hash: KeyHash, wire_key: &[u8]) -> Result<Leader<'_>, Arc<Flight>> {
        let process = fork::generation();
        let mut shard = lock(self.shard(hash));
        if let Some(flight) = shard.get(&kind.number(hash))
            && flight.process == process
        {
            return Err(Arc::clone(flight));
        }
        let flight = Arc::new(Flight {
            process,
            wire_key: wire_key.into(),
            state: Mutex::new(State::Flying { leaders: 1, due: Deadline::after(self.patience) }),
            changed: Notify::new(),
        });
        shard.insert(kind.number(hash), Arc::clone(&flight));
        Ok(Leader { flights: self, hash, kind, flight })
    }

    /// Lets later callers begin anew: what is being loaded was overtaken by a write or a deletion.
    pub(crate) fn detach(&self, hash: KeyHash) {
        let mut shard = lock(self.shard(hash));
        shard.remove(&Kind::Load.number(hash));
        shard.remove(&Kind::Refresh.number(hash));
    }

    /// The same for loads alone: what they load is older than what a refresh is about to.
    pub(crate) fn detach_loads(&self, hash: KeyHash) {
        lock(self.shard(hash)).remove(&Kind::Load.number(hash));
    }

    /// As [`Self::detach`], for every key.
    pub(crate) fn detach_all(&self) {
        for shard in &self.shards {
            lock(shard).clear();
        }
    }

    /// Ends that a flight is found, if it is still the one that is.
    fn take_away(&self, number: u64, hash: KeyHash, flight: &Arc<Flight>) {
        if let Entry::Occupied(entry) = lock(self.shard(hash)).entry(number)
            && Arc::ptr_eq(entry.get(), flight)
        {
            entry.remove();
        }
    }

    fn shard(&self, hash: KeyHash) -> &Shard {
        &self.shards[hash.stripe(SHARDS)]
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

impl Flight {
    /// Waits for its end, unless that would be to wait for oneself or for another key. What lands is for those who came before
    /// the moment that lands with it.
    async fn follow(self: &Arc<Self>, wire_key: &[u8], came: Moment) -> Waited {
        // A collision of hashes, a loader that asks for its own key, or a leader that stayed in the parent process.
        if *self.wire_key != *wire_key
            || self.process != fork::generation()
            || LEADING.with_borrow(|led| led.contains(&address(self)))
        {
            return Waited::Parted;
        }
        let due = match *lock(&self.state) {
            State::Flying { due, .. } => due,
            // There is nothing to wait for.
            _ => Deadline::NEVER,
        };
        within(due, Operation::Get, async { Ok(self.wait(came).await) }).await.unwrap_or(Waited::TooLong)
    }

    /// Whether the caller leads from now on as well, because nobody has begun to for so long. Of those who ask at the same time
    /// one does.
    fn relieve(&self, patience: Duration) -> bool {
        let mut state = lock(&self.state);
        let State::Flying { leaders, due } = &mut *state else { return false };
        if !due.has_passed() {
            return false;
        }
        *leaders += 1;
        *due = Deadline::after(patience);
        true
    }

    async fn wait(&self, came: Moment) -> Waited {
        loop {
            // Registered before the state is read, so that a landing in between is not missed.
            let changed = self.changed.notified();
            match &*lock(&self.state) {
                State::Flying { .. } => {}
                State::Abandoned => return Waited::Abandoned,
                State::Parted => return Waited::Parted,
                State::Landed(landed, until) if came < *until => return Waited::Landed(landed.clone()),
                State::Landed(..) => return Waited::Abandoned,
            }
            changed.await;
        }
    }
}

impl Leader<'_> {
    /// Runs the load so that it is recognised if it asks for its own key.
    pub(crate) async fn lead<T>(&self, load: impl Future<Output = T>) -> T {
        let address = address(&self.flight);
        let mut load = Box::pin(load);
        std::future::poll_fn(move |context| {
            LEADING.with_borrow_mut(|led| led.push(address));
            // Popped also when the load panics.
            struct Pop;
            impl Drop for Pop {
                fn drop(&mut self) {
                    LEADING.with_borrow_mut(|led| led.pop());
                }
            }
            let _pop = Pop;
            Pin::new(&mut load).poll(context)
        })
        .await
    }

    /// Lets everybody who waits load on his own, unless somebody else leads as well.
    pub(crate) fn part(self) {
        self.end(State::Parted);
    }

    /// Gives the answer to everybody who waits and came before that moment. Of the others one leads the next flight.
    pub(crate) fn land(self, landed: Landed, until: Moment) {
        self.end(State::Landed(landed, until));
        // The rest, waking included, is what happens to every leader that goes.
    }

    fn end(&self, how: State) {
        let mut state = lock(&self.flight.state);
        // Whoever lands first lands for all.
        if let State::Flying { leaders, .. } = *state
            && (leaders == 1 || matches!(how, State::Landed(..)))
        {
            *state = how;
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.flight.state);
        if let State::Flying { leaders, .. } = &mut *state {
            *leaders -= 1;
            if *leaders > 0 {
                // Somebody is still at it, and those who wait get what he lands.
                return;
            }
            *state = State::Abandoned;
        }
        drop(state);
        self.flights.take_away(self.kind.number(self.hash), self.hash, &self.flight);
        self.flight.changed.notify_waiters();
    }
}

/// A flight whose load is being polled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Led(usize);

/// The innermost flight whose load is being polled on this thread.
pub(crate) fn led() -> Option<Led> {
    LEADING.with_borrow(|led| led.last().copied().map(Led))
}

/// Runs `work` as a part of several loads: who asks for one of their keys in it would wait for himself.
pub(crate) fn under<T>(led: &[Led], work: impl FnOnce() -> T) -> T {
    /// Cut back also when the work panics.
    struct Cut(usize);
    impl Drop for Cut {
        fn drop(&mut self) {
            LEADING.with_borrow_mut(|led| led.truncate(self.0));
        }
    }
    let _cut = LEADING.with_borrow_mut(|leading| {
        let cut = Cut(leading.len());
        leading.extend(led.iter().map(|led| led.0));
        cut
    });
    work()
}

thread_local! {
    /// The flights whose loads are being polled on this thread, innermost last.
    static LEADING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

fn address(flight: &Arc<Flight>) -> usize {
    Arc::as_ptr(flight) as usize
}

/// Nothing that can panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> KeyHash {
        KeyHash::from_raw(n)
    }

    fn value(n: u32) -> Landed {
        Ok(Arc::new(n))
    }

    fn number(landed: Landed) -> u32 {
        *landed.ok().unwrap().downcast::<u32>().unwrap()
    }

    #[tokio::test]
    async fn followers_get_what_the_leader_landed() {
        let flights = Arc::new(Flights::new());
        let Part::Leader(leader) = flights.join(hash(1), b"k").await else { panic!("the first caller leads") };
        let waiting = (0..10).map(|_| {
            let flights = Arc::clone(&flights);
            tokio::spawn(async move {
                match flights.join(hash(1), b"k").await {
                    Part::Follower(landed) => number(landed),
                    _ => panic!("everybody else follows"),
                }
            })
        });
        let waiting: Vec<_> = waiting.collect();
        tokio::task::yield_now().await;
        leader.land(value(7), Moment::EVERYBODY);
        for task in waiting {
            assert_eq!(task.await.unwrap(), 7);
        }
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn who_came_after_the_moment_of_an_answer_waits_for_the_next_and_no_longer() {
        let flights = Arc::new(Flights::new());
        let joins = || {
            let flights = Arc::clone(&flights);
            tokio::spawn(async move {
                match flights.join(hash(1), b"k").await {
                    Part::Follower(landed) => number(landed),
                    Part::Leader(leader) => {
                        let moment = flights.moment();
                        tokio::task::yield_now().await;
                        leader.land(value(2), moment);
                        2
                    }
                    Part::Alone => panic!("nobody parted"),
                }
            })
        };
        let Part::Leader(leader) = flights.join(hash(1), b"k").await else { panic!("the first caller leads") };
        let early: Vec<_> = (0..5).map(|_| joins()).collect();
        tokio::task::yield_now().await;
        let moment = flights.moment();
        let late: Vec<_> = (0..5).map(|_| joins()).collect();
        tokio::task::yield_now().await;
        leader.land(value(1), moment);
        for task in early {
            assert_eq!(task.await.unwrap(), 1);
        }
        for task in late {
            assert_eq!(task.await.unwrap(), 2);
        }
        assert_eq!(flights.moments.load(Ordering::SeqCst), 2, "one of those who came late asked for all of them");
    }

    #[tokio::test]
    async fn a_leader_that_goes_leaves_the_lead_to_a_waiter() {
        let flights = Arc::new(Flights::new());
        let Part::Leader(leader) = flights.join(hash(1), b"k").await else { panic!() };
        let next = Arc::clone(&flights);
        let waiter = tokio::spawn(async move {
            match next.join(hash(1), b"k").await {
                Part::Leader(leader) => leader.land(value(2), Moment::EVERYBODY),
                _ => panic!("the waiter leads now"),
            }
        });
        tokio::task::yield_now().await;
        drop(leader);
        waiter.await.unwrap();
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_load_that_asks_for_its_own_key_is_let_through() {
        let flights = Flights::new();
        let Part::Leader(leader) = flights.join(hash(1), b"k").await else { panic!() };
        leader.lead(async { assert!(matches!(flights.join(hash(1), b"k").await, Part::Alone)) }).await;
        // Another key inside the loader is an ordinary flight.
        leader.lead(async { assert!(matches!(flights.join(hash(2), b"j").await, Part::Leader(_))) }).await;
    }

    #[tokio::test]
    async fn colliding_keys_do_not_share_a_flight() {
        let flights = Flights::new();
        let _leader = flights.join(hash(1), b"k").await;
        assert!(matches!(flights.join(hash(1), b"other").await, Part::Alone));
    }

    #[tokio::test]
    async fn after_a_detach_callers_begin_anew_and_the_old_leader_removes_nothing() {
        let flights = Flights::new();
        let Part::Leader(old) = flights.join(hash(1), b"k").await else { panic!() };
        flights.detach(hash(1));
        let Part::Leader(_new) = flights.join(hash(1), b"k").await else { panic!("a new flight begins") };
        old.land(value(1), Moment::EVERYBODY);
        assert_eq!(flights.len(), 1);
    }

    /// As if nobody had begun to lead for as long as it may take.
    fn grow_old(leader: &Leader<'_>) {
        let mut state = lock(&leader.flight.state);
        let State::Flying { due, .. } = &mut *state else { panic!("it flies") };
        *due = Deadline::from_monotonic_ns(1);
    }

    /// Flights that grow old in no test by themselves.
    fn patient() -> Arc<Flights> {
        Arc::new(Flights { patience: Duration::from_secs(3600), ..Flights::new() })
    }

    async fn until(what: impl Fn() -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while !what() {
            assert!(std::time::Instant::now() < end, "not within a minute");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn of_all_who_wait_too_long_one_leads_as_well_and_the_rest_get_what_lands_first() {
        const WAITERS: usize = 200;
        for first_lands_first in [true, false] {
            let flights = patient();
            let Part::Leader(first) = flights.join(hash(1), b"k").await else { panic!("the first caller leads") };
            grow_old(&first);
            let (led, door) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
            let waiting: Vec<_> = (0..WAITERS)
                .map(|_| {
                    let (flights, led, door) = (Arc::clone(&flights), Arc::clone(&led), Arc::clone(&door));
                    tokio::spawn(async move {
                        match flights.join(hash(1), b"k").await {
                            Part::Follower(landed) => number(landed),
                            Part::Leader(leader) => {
                                led.fetch_add(1, Ordering::SeqCst);
                                door.notified().await;
                                leader.land(value(2), Moment::EVERYBODY);
                                2
                            }
                            Part::Alone => panic!("a source that is slow is asked by everybody"),
                        }
                    })
                })
                .collect();
            // Everybody has come: the map, the first, and all others hold it.
            until(|| Arc::strong_count(&first.flight) == 2 + WAITERS).await;
            until(|| led.load(Ordering::SeqCst) > 0).await;
            assert_eq!(flights.len(), 1, "who comes now waits for these two");
            let lands_first = if first_lands_first {
                first.land(value(1), Moment::EVERYBODY);
                1
            } else {
                door.notify_one();
                until(|| flights.len() == 0).await;
                first.land(value(1), Moment::EVERYBODY);
                2
            };
            door.notify_one();
            let mut answers = Vec::new();
            for task in waiting {
                answers.push(task.await.unwrap());
            }
            assert_eq!(led.load(Ordering::SeqCst), 1);
            let relief = usize::from(first_lands_first);
            assert_eq!(answers.iter().filter(|answer| **answer == lands_first).count(), WAITERS - relief);
            assert_eq!(flights.len(), 0);
        }
    }

    #[tokio::test]
    async fn one_of_two_leaders_that_goes_or_parts_leaves_the_waiters_to_the_other() {
        for parts in [true, false] {
            let flights = patient();
            let Part::Leader(first) = flights.join(hash(1), b"k").await else { panic!("the first caller leads") };
            grow_old(&first);
            let Part::Leader(second) = flights.join(hash(1), b"k").await else { panic!("one leads as well") };
            let those = Arc::clone(&flights);
            let waiter = tokio::spawn(async move {
                let Part::Follower(landed) = those.join(hash(1), b"k").await else { panic!("somebody is at it") };
                number(landed)
            });
            // The map, two leaders and he hold it.
            until(|| Arc::strong_count(&first.flight) == 4).await;
            if parts {
                second.part();
            } else {
                drop(second);
            }
            tokio::task::yield_now().await;
            assert!(!waiter.is_finished());
            first.land(value(1), Moment::EVERYBODY);
            assert_eq!(waiter.await.unwrap(), 1);
            assert_eq!(flights.len(), 0);
        }
    }

    #[tokio::test]
    async fn who_waits_too_long_for_what_a_write_has_detached_leads_it_and_leaves_the_newer_flight_alone() {
        let flights = patient();
        let Part::Leader(first) = flights.join(hash(1), b"k").await else { panic!("the first caller leads") };
        // He waits since before the write, and longer than he knows.
        let flight = Arc::clone(&first.flight);
        let came = flights.came();
        flights.detach(hash(1));
        let Part::Leader(newer) = flights.join(hash(1), b"k").await else { panic!("a new flight begins") };
        grow_old(&first);
        assert!(matches!(flight.follow(b"k", came).await, Waited::TooLong));
        assert!(flight.relieve(flights.patience) && !flight.relieve(flights.patience), "one of them");
        drop(Leader { flights: &flights, hash: hash(1), kind: Kind::Load, flight: Arc::clone(&flight) });
        first.land(value(1), Moment::EVERYBODY);
        let Waited::Landed(landed) = flight.follow(b"k", came).await else { panic!("it landed") };
        assert_eq!(number(landed), 1);
        assert_eq!(flights.len(), 1);
        newer.land(value(2), Moment::EVERYBODY);
        assert_eq!(flights.len(), 0);
    }
}
