//! `#[cached]`: what is kept, under which key, and what the functions beside a cached one do.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cachekit::cached::CachedError;
use cachekit::clock::ManualClock;
use cachekit::plugin::Backend;
use cachekit::{Cache, LoadOptions, SetOptions, cached};
use cachekit_conformance::{Memory, MemoryConfig};
use serde::{Deserialize, Serialize};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A cache in the process alone, for functions whose calls are told apart by their keys.
static CACHE: LazyLock<Cache> = LazyLock::new(|| Cache::builder().build().unwrap());

/// Not serializable, as connections are not.
#[derive(Default)]
struct Connection {
    queries: AtomicU32,
}

impl Connection {
    fn query(&self) -> u32 {
        self.queries.fetch_add(1, Ordering::Relaxed) + 1
    }
    fn queries(&self) -> u32 {
        self.queries.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

#[cached(cache = CACHE, namespace = "free", ttl = "10m", skip(connection))]
async fn user(connection: &Connection, id: u64, name: &str) -> User {
    connection.query();
    User { id, name: name.to_owned() }
}

#[test]
fn a_call_runs_once_for_its_arguments_and_again_after_it_is_invalidated() {
    run(async {
        let connection = Connection::default();
        let ada = user(&connection, 1, "ada").await;
        assert_eq!(ada, User { id: 1, name: "ada".into() });
        assert_eq!(user(&connection, 1, "ada").await, ada);
        assert_eq!(connection.queries(), 1);
        user(&connection, 1, "bob").await;
        user(&connection, 2, "ada").await;
        assert_eq!(connection.queries(), 3);

        // What is skipped is not asked for.
        assert!(user_invalidate_cache(1, "ada").await.unwrap());
        assert!(!user_invalidate_cache(1, "ada").await.unwrap());
        user(&connection, 1, "ada").await;
        user(&connection, 2, "ada").await;
        assert_eq!(connection.queries(), 4);

        // Past the cache, and over it.
        user_no_cache(&connection, 1, "ada").await;
        assert_eq!(connection.queries(), 5);
        user_refresh_cache(&connection, 1, "ada").await;
        user(&connection, 1, "ada").await;
        assert_eq!(connection.queries(), 6);
        user_prime_cache(1, "ada", &User { id: 1, name: "Ada King".into() }).await.unwrap();
        assert_eq!(user(&connection, 1, "ada").await.name, "Ada King");
        assert_eq!(connection.queries(), 6);

        let stats = user_cache_stats();
        assert_eq!((stats.hits, stats.misses, stats.bypassed), (4, 5, 0));
        assert_eq!(user_cache_key(1, "ada").unwrap(), "cached::user(1,\"ada\")");
        let namespaced = CACHE.namespace("free").unwrap();
        let kept = namespaced.get::<User>("cached::user(1,\"ada\")").await.unwrap();
        assert_eq!(kept.unwrap().name, "Ada King", "another part of the program finds it under its key");
    });
}

#[cached(cache = CACHE, key = "square:{n}")]
fn square(n: u64, connection: &Connection) -> u64 {
    connection.query();
    n * n
}

#[test]
fn a_function_that_is_not_async_is_cached_as_well_under_the_key_that_it_names() {
    let connection = Connection::default();
    assert_eq!((square(3, &connection), square(3, &connection), square(4, &connection)), (9, 9, 16));
    assert_eq!(connection.queries(), 2);
    assert_eq!(square_cache_key(3).unwrap(), "square:3");
    assert_eq!(CACHE.blocking().get::<u64>("square:3").unwrap().as_deref(), Some(&9));
    assert!(square_invalidate_cache(3).unwrap());
    square_prime_cache(3, &10).unwrap();
    assert_eq!(square(3, &connection), 10, "what it was told");
    assert_eq!(square_refresh_cache(3, &connection), 9);
    assert_eq!(square(3, &connection), 9);
    assert_eq!(square_no_cache(3, &connection), 9);
}

#[cached(cache = CACHE)]
fn fibonacci(n: u64) -> u64 {
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

#[test]
fn a_function_that_calls_itself_gets_what_its_own_calls_left() {
    // Each turn holds a whole load on the stack, most of all without optimisation.
    let deep = std::thread::Builder::new().stack_size(32 << 20).spawn(|| fibonacci(20));
    assert_eq!(deep.unwrap().join().unwrap(), 6765);
    assert_eq!(fibonacci_cache_stats().misses, 21);
}

/// A service with state: methods.
struct Service {
    tenant: &'static str,
    cache: Cache,
    connection: Connection,
}

impl Service {
    fn new(tenant: &'static str, cache: &Cache) -> Arc<Self> {
        Arc::new(Self { tenant, cache: cache.clone(), connection: Connection::default() })
    }

    /// Prices differ between tenants.
    #[cached(cache = self.cache, key_by = (self.tenant, article))]
    async fn price(&self, article: u32) -> Result<u32, NotThere> {
        self.connection.query();
        if article == 0 { Err(NotThere) } else { Ok(article * 100) }
    }

    /// Names do not.
    #[cached(cache = self.cache, skip(self))]
    fn name(&self, article: u32) -> Option<String> {
        self.connection.query();
        (article > 0).then(|| format!("article {article}"))
    }

    #[cached(cache = CACHE, in_impl)]
    fn rate(currency: String) -> Arc<Vec<u32>> {
        Arc::new(vec![currency.len() as u32])
    }

    #[cached(cache = self.cache, key = "shared/{article}")]
    async fn stock(self: Arc<Self>, article: u32) -> u32 {
        self.connection.query()
    }
}

struct Other;

impl Other {
    #[cached(cache = CACHE, skip(self))]
    fn name(&self, _article: u32) -> Option<String> {
        Some("other".into())
    }
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("not there")]
struct NotThere;

#[test]
fn methods_are_cached_with_what_they_say_of_self() {
    let cache = Cache::builder().build().unwrap();
    let (one, two) = (Service::new("one", &cache), Service::new("two", &cache));
    run(async {
        for _ in 0..2 {
            assert_eq!(one.price(7).await, Ok(700));
            assert_eq!(two.price(7).await, Ok(700));
        }
        assert_eq!((one.connection.queries(), two.connection.queries()), (1, 1), "one each");
        assert!(one.price_invalidate_cache(7).await.unwrap());
        one.price(7).await.unwrap();
        two.price(7).await.unwrap();
        assert_eq!((one.connection.queries(), two.connection.queries()), (2, 1));
        assert_eq!(one.price_cache_key(7).unwrap(), "cached::Service::price((\"one\",7))");

        assert_eq!(Arc::clone(&one).stock(1).await, 3);
        assert_eq!(Arc::clone(&two).stock(1).await, 3, "they share what they say they share");
        one.price_prime_cache(8, &5).await.unwrap();
        assert_eq!(one.price(8).await, Ok(5));
    });
    assert_eq!(one.name(1).as_deref(), Some("article 1"));
    assert_eq!(two.name(1).as_deref(), Some("article 1"));
    assert_eq!(two.connection.queries(), 1, "every instance gives the same answer");
    assert_eq!(Other.name(1).as_deref(), Some("other"), "another type's method of that name is another function");
    assert_eq!(one.name_cache_key(1).unwrap(), "cached::Service::name(1)");
    assert!(Arc::ptr_eq(&Service::rate("EUR".into()), &Service::rate("EUR".into())), "what the cache has is shared");
    assert!(Service::rate_invalidate_cache("EUR".into()).unwrap());
    assert_eq!(Service::rate_cache_stats().hits, 1);
}

#[test]
fn none_and_errors_are_not_kept_unless_asked() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    static ANSWERS: AtomicBool = AtomicBool::new(false);
    fn answer() -> Result<Option<u32>, NotThere> {
        match ASKED.fetch_add(1, Ordering::Relaxed) % 2 {
            _ if ANSWERS.load(Ordering::Relaxed) => Ok(Some(1)),
            0 => Err(NotThere),
            _ => Ok(None),
        }
    }
    #[cached(cache = CACHE)]
    fn neither(n: u32) -> Result<Option<u32>, NotThere> {
        answer().map(|found| found.map(|found| found + n))
    }
    #[cached(cache = CACHE, cache_none)]
    fn none(n: u32) -> Result<Option<u32>, NotThere> {
        answer().map(|found| found.map(|found| found + n))
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Refused(u32);
    #[cached(cache = CACHE, cache_err)]
    fn error(n: u32) -> Result<u32, Refused> {
        Err(Refused(n + ASKED.fetch_add(1, Ordering::Relaxed)))
    }
    #[cached(cache = CACHE)]
    fn option(n: u32) -> Option<u32> {
        answer().unwrap_or(None).map(|found| found + n)
    }

    assert_eq!((neither(0), neither(0), neither(0)), (Err(NotThere), Ok(None), Err(NotThere)));
    assert_eq!((none(0), none(0), none(0)), (Ok(None), Ok(None), Ok(None)), "the second kept: the first was odd");
    assert_eq!(error(0), error(0));
    assert_eq!((option(1), option(1)), (None, None));
    ANSWERS.store(true, Ordering::Relaxed);
    assert_eq!((neither(0), none(0), option(1)), (Ok(Some(1)), Ok(None), Some(2)));
    // A refresh that finds nothing forgets what was there; one that fails leaves it.
    ANSWERS.store(false, Ordering::Relaxed);
    while neither_refresh_cache(0) != Err(NotThere) {
        neither_prime_cache(0, &1).unwrap();
    }
    let ran = ASKED.load(Ordering::Relaxed);
    assert_eq!(option_refresh_cache(1), None);
    assert_eq!(ASKED.load(Ordering::Relaxed), ran + 1);
    assert!(!option_invalidate_cache(1).unwrap());
}

#[cached(cache = CACHE)]
async fn generic<T: Serialize + Send + Sync, const N: usize>(values: [T; N]) -> String
where
    [T; N]: Serialize,
{
    let _ = values;
    format!("{N} of {}", std::any::type_name::<T>())
}

#[cached(cache = CACHE)]
async fn made<T: for<'a> Deserialize<'a> + Serialize + Default + Clone + Send + Sync + 'static>(id: u32) -> T {
    let _ = id;
    T::default()
}

#[test]
fn answers_for_different_types_are_kept_apart() {
    run(async {
        assert_eq!(generic([1_u8, 2]).await, "2 of u8");
        assert_eq!(generic([1_u16, 2]).await, "2 of u16");
        assert_eq!(generic([1_u8]).await, "1 of u8");
        assert_eq!(made::<u32>(1).await, 0);
        assert_eq!(made::<String>(1).await, "");
        assert_eq!(made_cache_key::<String>(1).unwrap(), "cached::made<alloc::string::String>(1)");
        assert_eq!(made_cache_stats().misses, 2);
    });
}

#[test]
fn a_map_makes_one_key_and_a_long_argument_a_short_one() {
    #[cached(cache = CACHE)]
    fn total(prices: HashMap<String, u32>, note: &str) -> u32 {
        prices.values().sum::<u32>() + note.len() as u32
    }
    let prices = || (0..50).map(|n| (format!("article {n}"), n)).collect::<HashMap<_, _>>();
    let key = total_cache_key(prices(), "x").unwrap();
    for _ in 0..8 {
        // Each map has an order of its own.
        assert_eq!(total_cache_key(prices(), "x").unwrap(), key);
    }
    assert!(key.len() < 200 && key.starts_with("cached::"), "{key}");
    assert_ne!(total_cache_key(prices(), "y").unwrap(), key);
    let secret = "s".repeat(2 << 20);
    assert!(matches!(total_cache_key(prices(), &secret), Err(CachedError::Key(_))));
    // Too much for a key: the function runs all the same.
    assert_eq!(total(HashMap::new(), &secret), 2 << 20);
    assert_eq!(total_cache_stats().bypassed, 1);
}

#[test]
fn callers_at_the_same_time_share_one_run_also_of_an_error() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    #[cached(cache = CACHE)]
    async fn slow(n: u32) -> Result<u32, NotThere> {
        RUNS.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        if n == 0 { Err(NotThere) } else { Ok(n) }
    }
    // Cannot be cloned, so each caller has to run for his own.
    #[cached(cache = CACHE)]
    async fn boxed(n: u32) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
        RUNS.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        Err(format!("{n}").into())
    }
    run(async {
        let many = futures_util::future::join_all((0..10).map(|_| slow(1))).await;
        assert!(many.into_iter().all(|answer| answer == Ok(1)));
        assert_eq!(RUNS.swap(0, Ordering::Relaxed), 1);
        let many = futures_util::future::join_all((0..10).map(|_| slow(0))).await;
        assert!(many.into_iter().all(|answer| answer == Err(NotThere)));
        assert_eq!(RUNS.swap(0, Ordering::Relaxed), 1);
        assert_eq!(slow_cache_stats().hits, 18);
        let many = futures_util::future::join_all((0..10).map(boxed)).await;
        assert!(many.into_iter().enumerate().all(|(n, answer)| answer.unwrap_err().to_string() == n.to_string()));
        RUNS.store(0, Ordering::Relaxed);
        let many = futures_util::future::join_all((0..10).map(|_| boxed(77))).await;
        assert!(many.into_iter().all(|answer| answer.unwrap_err().to_string() == "77"));
        assert_eq!(RUNS.load(Ordering::Relaxed), 10);
        // The future of a cached function can be sent to another thread.
        let sent: Box<dyn Future<Output = _> + Send> = Box::new(slow(2));
        drop(sent);
    });
}

#[test]
fn a_life_ends_and_may_be_an_expression() {
    let clock = Arc::new(ManualClock::new());
    let cache = Cache::builder().clock(clock.clone()).build().unwrap();
    #[cached(cache = cache, ttl = Duration::from_secs(secs.into()), skip(cache, connection))]
    fn lives(cache: &Cache, connection: &Connection, secs: u32) -> u32 {
        connection.query()
    }
    let connection = Connection::default();
    assert_eq!((lives(&cache, &connection, 10), lives(&cache, &connection, 20)), (1, 2));
    clock.advance(Duration::from_secs(15));
    assert_eq!((lives(&cache, &connection, 10), lives(&cache, &connection, 20)), (3, 2));
    // A life of nothing is found before the function runs, and the answer is not lost.
    assert_eq!(lives(&cache, &connection, 0), 4);
    assert_eq!(lives_cache_stats().bypassed, 1);
    lives_prime_cache(&cache, 10, &99).unwrap();
    assert_eq!(lives(&cache, &connection, 10), 99);
}

/// What a strict function can fail with.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Cache(#[from] CachedError),
}

#[test]
fn a_cache_that_fails_is_heard_of_by_strict_functions_alone() {
    let cache = Cache::builder().build().unwrap();
    #[cached(cache = cache, skip(cache))]
    async fn quiet(cache: &Cache, n: u32) -> Result<u32, Failed> {
        Ok(n)
    }
    #[cached(cache = cache, skip(cache), strict)]
    async fn strict(cache: &Cache, n: u32) -> Result<u32, Failed> {
        Ok(n)
    }
    run(async {
        assert!(matches!((quiet(&cache, 1).await, strict(&cache, 1).await), (Ok(1), Ok(1))));
        cache.close().await.unwrap();
        assert!(matches!(quiet(&cache, 1).await, Ok(1)));
        assert!(matches!(strict(&cache, 1).await, Err(Failed::Cache(CachedError::Cache(cachekit::Error::Closed)))));
        assert!(quiet_invalidate_cache(&cache, 1).await.is_err());
        assert_eq!(quiet_cache_stats().bypassed, 1);
        assert_eq!(strict_cache_stats().misses + strict_cache_stats().hits, 2);
    });

    // A strict cache whose store fails after the load: the answer is there, and is returned.
    let memory = Memory::new(MemoryConfig::default());
    let cache = Cache::builder()
        .strict(true)
        .coherence(false)
        .without_breaker()
        .backend(Arc::new(memory.clone()))
        .build()
        .unwrap();
    #[cached(cache = cache, skip(cache, memory))]
    async fn breaks(cache: &Cache, memory: &Memory, n: u32) -> u32 {
        memory.set_outage(true);
        n
    }
    run(async {
        assert_eq!(breaks(&cache, &memory, 5).await, 5);
        assert_eq!(breaks_cache_stats().bypassed, 1);
        assert_eq!(breaks(&cache, &memory, 5).await, 5, "the store fails before the load as well");
        assert_eq!((breaks_cache_stats().misses, breaks_cache_stats().bypassed), (2, 2));
    });
}

#[test]
fn an_interop_function_uses_the_key_that_other_languages_make() {
    let store: Arc<dyn Backend> = Arc::new(Memory::new(MemoryConfig::default()));
    let cache = Cache::builder().backend(store).build().unwrap();
    #[cached(cache = cache, interop(namespace = "users", operation = "get_user"), ttl = "60s", skip(cache, connection))]
    async fn get_user(cache: &Cache, connection: &Connection, user_id: u64) -> User {
        connection.query();
        User { id: user_id, name: "ada".into() }
    }
    run(async {
        let connection = Connection::default();
        let key = get_user_cache_key(&cache, 42).unwrap();
        // Of docs/interop.md, made by Python for `get_user(42)`.
        assert_eq!(key, "users:get_user:61598716255080080f6456eb065c2e51badfaa4320b0efe97469c29cffee8875");
        get_user(&cache, &connection, 42).await;
        let users = cache.interop("users").unwrap();
        let kept = users.get::<User>("get_user", &(42_u64,)).await.unwrap();
        assert_eq!(kept.unwrap().name, "ada");
        users.set("get_user", &(43_u64,), &User { id: 43, name: "bob".into() }, None).await.unwrap();
        assert_eq!(get_user(&cache, &connection, 43).await.name, "bob", "what another language stored");
        assert_eq!(connection.queries(), 1);
        assert!(get_user_invalidate_cache(&cache, 43).await.unwrap());
        get_user_prime_cache(&cache, 43, &User { id: 43, name: "carol".into() }).await.unwrap();
        assert_eq!(users.get::<User>("get_user", &(43_u64,)).await.unwrap().unwrap().name, "carol");
    });

    let users = cache.interop("users").unwrap();
    #[cached(interop(handle = users, operation = "greet"), skip(users))]
    fn greet(users: &cachekit::Interop, name: &str, times: Option<u32>) -> String {
        let _ = times;
        format!("hello {name}")
    }
    assert_eq!(greet(&users, "ada", None), "hello ada");
    assert!(greet_cache_key(&users, "ada", Some(1)).unwrap().starts_with("users:greet:"));
}

#[test]
fn the_cache_of_the_process_stands_behind_functions_that_name_none() {
    // One test, because it is one setting of the whole process, and nothing else in this program uses it.
    let mine = Cache::builder().namespace("mine").build().unwrap();
    cachekit::set_default_cache(Some(mine.clone()));
    #[cached(ttl = "1m")]
    fn plain(n: u32) -> u32 {
        n + 1
    }
    #[cached(namespace = "other")]
    fn named(n: impl_free::Number) -> u32 {
        n.0
    }
    mod impl_free {
        #[derive(serde::Serialize)]
        pub(super) struct Number(pub(super) u32);
    }
    assert_eq!((plain(1), plain(1)), (2, 2));
    assert_eq!(mine.blocking().get::<u32>(plain_cache_key(1).unwrap()).unwrap().as_deref(), Some(&2));
    assert_eq!(named(impl_free::Number(1)), 1);
    let other = mine.namespace("other").unwrap().blocking();
    assert_eq!(other.get::<u32>(named_cache_key(impl_free::Number(1)).unwrap()).unwrap().as_deref(), Some(&1));
    assert_eq!(cachekit::default_cache().unwrap().namespace_name(), "mine");

    // What a function has, it keeps.
    cachekit::set_default_cache(None);
    mine.blocking().set_with(plain_cache_key(2).unwrap(), &77_u32, SetOptions::default()).unwrap();
    assert_eq!(plain(2), 77);
}

#[test]
fn a_stale_answer_is_given_while_the_function_runs_in_the_background() {
    let clock = Arc::new(ManualClock::new());
    let cache = Cache::builder().clock(clock.clone()).build().unwrap();
    #[cached(cache = cache, ttl = "10s", stale = "1m", skip(cache, connection))]
    async fn number(cache: Cache, connection: Arc<Connection>, key: String) -> Result<u32, NotThere> {
        let _ = key;
        Ok(connection.query())
    }
    let connection = Arc::new(Connection::default());
    let ask = || number(cache.clone(), Arc::clone(&connection), "k".into());
    run(async {
        assert_eq!((ask().await, ask().await), (Ok(1), Ok(1)));
        clock.advance(Duration::from_secs(11));
        assert_eq!(ask().await, Ok(1), "stale, and given at once");
        while connection.queries() < 2 {
            tokio::task::yield_now().await;
        }
        while ask().await == Ok(1) {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask().await, Ok(2), "the run in the background left it");
        clock.advance(Duration::from_secs(3600));
        assert_eq!(ask().await, Ok(3), "past its window it is not given");
        assert_eq!(number_refresh_cache(cache.clone(), Arc::clone(&connection), "k".into()).await, Ok(4));
        assert_eq!(ask().await, Ok(4));
        cache.close().await.unwrap();
        assert_eq!(ask().await, Ok(5));
        assert_eq!(number_cache_stats().bypassed, 1);
    });
}

#[test]
fn what_a_function_does_not_find_any_more_is_not_given_any_more() {
    let clock = Arc::new(ManualClock::new());
    let hour = Duration::from_secs(3600);
    for (stale, stale_if_error) in [(hour, Duration::ZERO), (Duration::ZERO, hour)] {
        let builder = Cache::builder().clock(clock.clone()).stale(stale).stale_if_error(stale_if_error);
        let cache = builder.build().unwrap();
        #[cached(cache = cache, ttl = "10s", skip(cache, found))]
        async fn borrows(cache: &Cache, found: &AtomicU32, key: &str) -> Option<u32> {
            let _ = key;
            Some(found.load(Ordering::SeqCst)).filter(|found| *found > 0)
        }
        #[cached(cache = cache, ttl = "10s", stale = "1h", skip(cache, found))]
        async fn owns(cache: Cache, found: Arc<AtomicU32>, key: String) -> Result<Option<u32>, NotThere> {
            let _ = key;
            Ok(Some(found.load(Ordering::SeqCst)).filter(|found| *found > 0))
        }
        let found = Arc::new(AtomicU32::new(1));
        let own = || owns(cache.clone(), Arc::clone(&found), "k".into());
        run(async {
            assert_eq!(borrows(&cache, &found, "k").await, Some(1));
            assert_eq!(own().await, Ok(Some(1)));
            found.store(0, Ordering::SeqCst);
            assert_eq!((borrows(&cache, &found, "k").await, own().await), (Some(1), Ok(Some(1))), "kept for its life");
            clock.advance(Duration::from_secs(11));
            assert_eq!(borrows(&cache, &found, "k").await, None, "it ran, and that is what it returned");
            let mut asked = 0;
            while own().await == Ok(Some(1)) {
                asked += 1;
                assert!(asked < 10_000, "what is not there any more is given until its windows end");
                tokio::task::yield_now().await;
            }
            assert_eq!((borrows(&cache, &found, "k").await, own().await), (None, Ok(None)));
            found.store(2, Ordering::SeqCst);
            assert_eq!((borrows(&cache, &found, "k").await, own().await), (Some(2), Ok(Some(2))));
        });
    }
}

#[test]
fn answers_are_filed_under_tags() {
    let cache = Cache::builder().build().unwrap();
    #[cached(cache = cache, skip(cache, connection), tags("all", "shelf:{shelf}"))]
    fn book(cache: &Cache, connection: &Connection, shelf: u32, number: u32) -> u32 {
        connection.query() + number
    }
    let connection = Connection::default();
    let books = || [(1, 1), (1, 2), (2, 1)].map(|(shelf, number)| book(&cache, &connection, shelf, number));
    let first = books();
    assert_eq!(books(), first);
    run(cache.invalidate_tag("shelf:1")).unwrap();
    let second = books();
    assert_eq!((second[2], connection.queries()), (first[2], 5), "the other shelf stays");
    book_prime_cache(&cache, 2, 1, &77).unwrap();
    assert_eq!(books()[2], 77);
    run(cache.invalidate_tag("all")).unwrap();
    books();
    assert_eq!(connection.queries(), 8);
    assert_eq!(book_cache_stats().bypassed, 0);
}

#[test]
fn the_life_and_the_tags_inside_the_options_of_a_load_hold_and_the_words_are_laid_over_them() {
    let clock = Arc::new(ManualClock::new());
    let cache = Cache::builder().clock(clock.clone()).build().unwrap();
    let for_five_seconds = || LoadOptions::default().with_tag("inside").with_ttl(Duration::from_secs(5));
    #[cached(cache = cache, skip(cache, options, connection), options = options.clone())]
    fn plain(cache: &Cache, options: LoadOptions, connection: &Connection) -> u32 {
        connection.query()
    }
    #[cached(cache = cache, skip(cache, options, connection), options = options.clone(), ttl = "20s", tags("beside"))]
    fn laid_over(cache: &Cache, options: LoadOptions, connection: &Connection) -> u32 {
        connection.query()
    }
    #[cached(cache = cache, skip(cache, options, connection), options = options.clone(), stale = "1ms")]
    fn owning(cache: Cache, options: LoadOptions, connection: Arc<Connection>) -> u32 {
        connection.query()
    }
    let connections: [Arc<Connection>; 3] = Default::default();
    let [one, two, three] = &connections;
    let ask = || {
        let owned = owning(cache.clone(), for_five_seconds(), Arc::clone(three));
        [plain(&cache, for_five_seconds(), one), laid_over(&cache, for_five_seconds(), two), owned]
    };
    assert_eq!((ask(), ask()), ([1, 1, 1], [1, 1, 1]));
    run(cache.invalidate_tag("inside")).unwrap();
    assert_eq!((ask(), ask()), ([2, 2, 2], [2, 2, 2]), "each is filed under the tag inside");
    run(cache.invalidate_tag("beside")).unwrap();
    assert_eq!(ask(), [2, 3, 2]);
    clock.advance(Duration::from_secs(6));
    assert_eq!((ask(), ask()), ([3, 3, 3], [3, 3, 3]), "the life inside, where no word says another");
    clock.advance(Duration::from_secs(15));
    assert_eq!(ask(), [4, 4, 4]);

    // A value that is known already is kept with all of that, or not at all.
    let refused = plain_prime_cache(&cache, for_five_seconds(), &77).unwrap_err();
    assert!(matches!(refused, CachedError::Cache(cachekit::Error::Unsupported { .. })), "{refused}");
    assert_eq!(ask(), [4, 4, 4]);
    let patient = LoadOptions::default().with_hard_timeout(Duration::from_secs(20));
    laid_over_prime_cache(&cache, patient, &77).unwrap();
    assert_eq!(ask(), [4, 77, 4]);
    run(cache.invalidate_tag("beside")).unwrap();
    assert_eq!(ask(), [4, 5, 4]);
}

#[test]
fn attributes_and_comments_stay_with_the_function() {
    /// Documented.
    #[cached(cache = CACHE)]
    #[must_use]
    #[allow(clippy::needless_pass_by_value)]
    pub(crate) fn described<D: Display + Serialize>(#[allow(unused_mut)] mut value: D) -> String {
        value.to_string()
    }
    assert_eq!(described("x"), "x");
}

/// What is generated has no warning of its own, in a crate that takes them for errors.
#[deny(deprecated, unused_mut, unused_variables)]
mod without_a_warning {
    use super::{CACHE, Serialize, cached};

    #[cached(cache = CACHE)]
    #[deprecated(note = "ask Counter::after")]
    pub(super) fn after(count: u32, step: u32) -> u32 {
        count + step
    }

    #[derive(Clone, Serialize)]
    pub(super) struct Counter(pub(super) u32);

    impl Counter {
        #[cached(cache = CACHE, key_by = (self.0, step))]
        pub(super) fn after(mut self, mut step: u32) -> u32 {
            step *= 10;
            self.0 += step;
            self.0
        }
    }

    /// Its type has no name, and the key that is spelled out needs none.
    #[cached(cache = CACHE, key = "doubled:{n}")]
    pub(super) fn doubled(database: &impl Fn(u32) -> u32, n: u32) -> u32 {
        database(n)
    }
}

#[test]
fn a_function_that_is_deprecated_or_changes_itself_is_cached_without_a_warning() {
    use without_a_warning::{Counter, doubled, doubled_cache_key};
    #[allow(deprecated)]
    let after = without_a_warning::after(1, 2);
    assert_eq!((after, without_a_warning::after_cache_stats().misses), (3, 1));
    assert_eq!((Counter(1).after(2), Counter(1).after(2), Counter(2).after(2)), (21, 21, 22));
    assert!(Counter(1).after_invalidate_cache(2).unwrap());
    assert_eq!(Counter::after_cache_stats().hits, 1);
    assert_eq!((doubled(&|n| n * 2, 4), doubled(&|n| n * 3, 4)), (8, 8));
    assert_eq!(doubled_cache_key(4).unwrap(), "doubled:4");
}
