//! Callers of `lock` who leave before the service has answered: what it gave them is given back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit_conformance::Memory;
use cachekit_plugin::{Backend, Bytes, Cx, Expiry, Fut, Health, Key, Kind, Limits, Locks, Ttl};
use cachekit_serve::{Bounds, KeyRule};
use tokio::sync::Semaphore;

use crate::served::Served;

const KEY: &[u8] = b"ck:leases:1";
/// Longer than any run of the tests: what is not given back is held.
const HOLD_MS: u64 = 3_600_000;
const PATIENCE: Duration = Duration::from_secs(30);

fn cx() -> Cx<'static> {
    Cx::within(PATIENCE)
}

/// A store that gives a lease and does not say so before it is let.
struct Held {
    store: Memory,
    given: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Backend for Held {
    fn limits(&self) -> Limits {
        self.store.limits()
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        self.store.get(key, cx)
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.store.set(key, value, ttl, cx)
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.store.delete(key, cx)
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.store.exists(key, cx)
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.store.health(cx)
    }
    fn ttl(&self) -> Option<&dyn Expiry> {
        Backend::ttl(&self.store)
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.store.close(cx)
    }
    fn locks(&self) -> Option<&dyn Locks> {
        Some(self)
    }
}

impl Locks for Held {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], hold_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            let taken = self.store.lock(key, token, hold_ms, cx).await?;
            self.given.add_permits(1);
            self.answers.acquire().await.unwrap().forget();
            Ok(taken)
        })
    }
    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.store.unlock(key, token, cx)
    }
}

struct Bench {
    served: Served,
    backend: Arc<dyn Backend>,
    given: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Bench {
    fn start() -> Self {
        let (given, answers) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let store = Held { store: Memory::default(), given: Arc::clone(&given), answers: Arc::clone(&answers) };
        // A store that is held up is not a store that failed.
        let bounds = Bounds { deadline: PATIENCE * 2, ..Bounds::default() };
        let served = Served::start_over(Arc::new(store), bounds, KeyRule::Any);
        let backend = served.open_patient(PATIENCE.as_secs_f64() * 2.0).unwrap();
        Self { served, backend, given, answers }
    }

    /// Asks for the lease as the first caller and leaves when the store has given it.
    async fn lock_and_leave(&self) {
        let backend = Arc::clone(&self.backend);
        let locking = tokio::spawn(async move {
            backend.locks().unwrap().lock(Key::from_wire(KEY), b"first", HOLD_MS, &cx()).await.map(drop)
        });
        self.given.acquire().await.unwrap().forget();
        locking.abort();
        assert!(locking.await.unwrap_err().is_cancelled());
    }

    async fn lock_as_second(&self) -> bool {
        self.backend.locks().unwrap().lock(Key::from_wire(KEY), b"second", HOLD_MS, &cx()).await.unwrap()
    }

    /// Until another caller gets the lease.
    async fn is_free_again(&self) {
        let begun = Instant::now();
        while !self.lock_as_second().await {
            assert!(begun.elapsed() < PATIENCE, "the lease is still held");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[test]
fn a_lease_whose_caller_left_is_given_back() {
    let bench = Bench::start();
    bench.served.runtime.block_on(async {
        bench.lock_and_leave().await;
        bench.answers.add_permits(1 << 20);
        bench.is_free_again().await;
        assert!(bench.backend.locks().unwrap().unlock(Key::from_wire(KEY), b"second", &cx()).await.unwrap());
    });
}

/// As the engine does it: it unlocks what it may have got.
#[test]
fn whoever_gives_back_what_is_still_asked_for_has_given_it_back() {
    let bench = Bench::start();
    bench.served.runtime.block_on(async {
        bench.lock_and_leave().await;
        let unlocking = tokio::spawn({
            let backend = Arc::clone(&bench.backend);
            async move { backend.locks().unwrap().unlock(Key::from_wire(KEY), b"first", &cx()).await.map(drop) }
        });
        // Both orders of answer and unlocking are right; here the unlocking comes first, where that is up to this test.
        tokio::task::yield_now().await;
        bench.answers.add_permits(1 << 20);
        unlocking.await.unwrap().unwrap();
        assert!(bench.lock_as_second().await, "the lease is held by nobody");
    });
}

#[test]
fn a_lease_that_came_after_its_callers_deadline_is_given_back() {
    let bench = Bench::start();
    bench.served.runtime.block_on(async {
        let locks = bench.backend.locks().unwrap();
        let late = locks.lock(Key::from_wire(KEY), b"first", HOLD_MS, &Cx::within(Duration::from_millis(300))).await;
        assert_eq!(late.unwrap_err().kind(), Kind::Timeout);
        bench.answers.add_permits(1 << 20);
        bench.is_free_again().await;
    });
}
