//! Stores that fail, hang, lack powers or take little.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use cachekit_conformance::{ManualClock, Memory, MemoryConfig};
use cachekit_plugin::{
    Backend, BackendError, Bytes, Cas, Cx, Fut, Health, Key, KeyBytes, Kind, Limits, Locks, Operation, Retry, Ttl,
    ready,
};
use cachekit_serve::Bounds;

use crate::fixture::{Fixture, header};

/// A store in memory that is wrong in one way.
struct Odd {
    memory: Memory,
    limits: Limits,
    get: Box<dyn Fn() -> Option<Get> + Send + Sync>,
    locks: bool,
    /// Whether it is heard of that a lock was taken.
    tells: bool,
    cas: bool,
}

impl Locks for Odd {
    fn lock<'a>(&'a self, key: Key<'a>, token: &'a [u8], ttl_ms: u64, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        Box::pin(async move {
            let taken = self.memory.lock(key, token, ttl_ms, cx).await;
            if self.tells { taken } else { std::future::pending().await }
        })
    }
    fn unlock<'a>(&'a self, key: Key<'a>, token: &'a [u8], cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.memory.unlock(key, token, cx)
    }
}

enum Get {
    Fails(Kind),
    Hangs(Arc<Hanging>),
}

/// How many hang at the same time, and how many did at most.
#[derive(Default)]
struct Hanging {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Hanging {
    async fn hang(self: Arc<Self>) -> Result<Option<Bytes>, BackendError> {
        struct Ends(Arc<Hanging>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.now.fetch_sub(1, SeqCst);
            }
        }
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        let _ends = Ends(self);
        std::future::pending().await
    }
}

impl Odd {
    fn new(memory: &Memory) -> Self {
        Self {
            memory: memory.clone(),
            limits: memory.limits(),
            get: Box::new(|| None),
            locks: true,
            tells: true,
            cas: true,
        }
    }
}

impl Backend for Odd {
    fn limits(&self) -> Limits {
        self.limits
    }
    fn get<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, Option<Bytes>> {
        match (self.get)() {
            None => self.memory.get(key, cx),
            Some(Get::Hangs(hanging)) => Box::pin(hanging.hang()),
            Some(Get::Fails(kind)) => {
                let error = BackendError::new(kind, Operation::Get, "canary of the store");
                ready(Err(match kind {
                    Kind::Throttled => error.with_retry(Retry::After(Duration::from_millis(1500))),
                    _ => error,
                }))
            }
        }
    }
    fn set<'a>(&'a self, key: Key<'a>, value: Bytes, ttl: Ttl, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        assert!(self.limits.takes_key(key.as_bytes()), "a key that the store does not take");
        self.memory.set(key, value, ttl, cx)
    }
    fn delete<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.memory.delete(key, cx)
    }
    fn exists<'a>(&'a self, key: Key<'a>, cx: &'a Cx<'a>) -> Fut<'a, bool> {
        self.memory.exists(key, cx)
    }
    fn health<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, Health> {
        self.memory.health(cx)
    }
    fn close<'a>(&'a self, cx: &'a Cx<'a>) -> Fut<'a, ()> {
        self.memory.close(cx)
    }
    fn locks(&self) -> Option<&dyn Locks> {
        self.locks.then_some(self)
    }
    fn cas(&self) -> Option<&dyn Cas> {
        self.memory.cas().filter(|_| self.cas)
    }
}

async fn over(bounds: Bounds, odd: impl FnOnce(&mut Odd)) -> Fixture {
    let clock = Arc::new(ManualClock::default());
    let memory = Memory::with_clock(MemoryConfig::default(), clock.clone());
    let mut store = Odd::new(&memory);
    odd(&mut store);
    Fixture::over(Arc::new(store), memory, clock, |builder| builder.bounds(bounds)).await
}

#[tokio::test]
async fn each_failure_of_the_store_has_its_status_and_none_is_the_clients() {
    for (kind, status, retry_after) in [
        (Kind::Transient, 503, Some("1")),
        (Kind::Throttled, 503, Some("2")),
        (Kind::Timeout, 504, None),
        (Kind::Auth, 502, None),
        (Kind::Corrupt, 502, None),
        (Kind::Unsupported, 501, None),
        (Kind::TooLarge, 413, None),
        (Kind::Config, 500, None),
        (Kind::Panic, 500, None),
        (Kind::Internal, 500, None),
    ] {
        let fixture = over(Bounds::default(), |odd| odd.get = Box::new(move || Some(Get::Fails(kind)))).await;
        let response = fixture.get("k").await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "retry-after").as_deref()),
            (status, retry_after),
            "{kind}"
        );
        assert!(!response.text().await.unwrap().contains("canary"));
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_left_at_the_deadline() {
    let bounds = Bounds { deadline: Duration::from_millis(500), ..Bounds::default() };
    let fixture = over(bounds, |odd| odd.get = Box::new(|| Some(Get::Hangs(Arc::default())))).await;
    assert_eq!(fixture.get("k").await.status(), 504);
    assert_eq!(fixture.put("k", "v").await.status(), 204);
}

/// Else the key is locked by nobody: time stands still here, so no lease ends by itself.
#[tokio::test]
async fn a_lease_that_nobody_was_told_of_is_given_back() {
    let bounds = Bounds { deadline: Duration::from_millis(100), ..Bounds::default() };
    let fixture = over(bounds, |odd| odd.tells = false).await;
    let (status, _) = fixture.json("POST", "/v1/cache/k/lock", r#"{"timeout_ms": 30000}"#).await;
    assert_eq!(status, 504);
    let cx = Cx::within(Duration::from_secs(60));
    while !fixture.memory.lock(Key::from_wire(b"cks:ours:k"), b"another", 1000, &cx).await.unwrap() {
        assert!(!cx.deadline.has_passed(), "the lease was never given back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn no_more_entries_are_fetched_at_a_time_than_the_bound_allows() {
    let hanging = Arc::<Hanging>::default();
    let bounds = Bounds { deadline: Duration::from_millis(100), max_fetches: 2, ..Bounds::default() };
    let counted = hanging.clone();
    let fixture = over(bounds, |odd| {
        odd.get = Box::new(move || Some(Get::Hangs(counted.clone())));
        odd.cas = false;
    })
    .await;
    let fixture = Arc::new(fixture);
    let mut asks = tokio::task::JoinSet::new();
    for number in 0..12 {
        let fixture = fixture.clone();
        asks.spawn(async move {
            match number % 3 {
                0 => fixture.status("GET", "/v1/cache/k").await,
                1 => fixture.status("GET", "/v1/cache/k/ttl").await,
                _ => fixture.json("PATCH", "/v1/cache/k/ttl", r#"{"ttl": 600}"#).await.0,
            }
        });
    }
    let answers = asks.join_all().await;
    assert!(answers.iter().all(|status| [503, 504].contains(status)), "{answers:?}");
    assert!(answers.contains(&504));
    assert_eq!((hanging.most.load(SeqCst), hanging.now.load(SeqCst)), (2, 0));
}

#[tokio::test]
async fn a_store_without_locks_is_501() {
    let fixture = over(Bounds::default(), |odd| odd.locks = false).await;
    assert_eq!(fixture.json("POST", "/v1/cache/k/lock", r#"{"timeout_ms": 1000}"#).await.0, 501);
    let unlock = fixture.request("DELETE", "/v1/cache/k/lock").header("X-CacheKit-Lock-Id", "id").send().await.unwrap();
    assert_eq!(unlock.status(), 501);
}

#[tokio::test]
async fn a_life_is_renewed_without_compare_and_set_as_well() {
    let fixture = over(Bounds::default(), |odd| odd.cas = false).await;
    fixture.put_for("k", "60", "").await;
    assert_eq!(fixture.json("PATCH", "/v1/cache/k/ttl", r#"{"ttl": 600}"#).await.0, 204);
    fixture.advance(599);
    assert_eq!(fixture.get("k").await.text().await.unwrap(), "value");
}

#[tokio::test]
async fn a_renewal_does_not_bring_back_what_another_client_replaced() {
    let fixture = Fixture::start().await;
    fixture.put_for("k", "60", "").await;
    for round in 0..20 {
        let value = format!("value {round}");
        let (patched, _) =
            tokio::join!(fixture.json("PATCH", "/v1/cache/k/ttl", r#"{"ttl": 600}"#), fixture.put("k", value.clone()));
        assert_eq!(patched.0, 204);
        assert_eq!(fixture.get("k").await.text().await.unwrap(), value);
    }
}

#[tokio::test]
async fn keys_that_the_store_does_not_take_are_hashed_and_values_that_it_does_not_take_refused() {
    let limits = Limits::new(100, 500).with_key_bytes(KeyBytes::Printable);
    let fixture = over(Bounds::default(), |odd| odd.limits = limits).await;
    let long = "k".repeat(400);
    assert_eq!(fixture.put(&long, "of the long key").await.status(), 204);
    assert_eq!(fixture.get(&long).await.text().await.unwrap(), "of the long key");
    assert_eq!(fixture.get(&"k".repeat(399)).await.status(), 404);
    // 32 bytes of head, 9 of prefix, 1 of key.
    assert_eq!(fixture.put("k", "v".repeat(500 - 42)).await.status(), 204);
    assert_eq!(fixture.put("k", "v".repeat(500 - 41)).await.status(), 413);
}

#[tokio::test]
async fn a_store_with_keys_too_short_for_any_is_refused_at_the_start() {
    let memory = Memory::default();
    let mut store = Odd::new(&memory);
    store.limits = Limits::new(64, 500);
    let builder = cachekit_serve::Server::builder(Arc::new(store)).api_key("ours", crate::fixture::KEY).plain_http();
    let error = builder.start().await.unwrap_err();
    assert!(matches!(error, cachekit_serve::ServeError::StoreKeys { max_key: 64, .. }), "{error}");
}
