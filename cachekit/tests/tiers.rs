//! A directory in front of a real Redis: what each of them being away costs, and what a deletion leaves.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit::{Cache, Config, EngineServices, Environment, SetOptions, Sources, TierSpec, WritePolicy, backend};
use cachekit_test_servers::redis::Redis;

/// Of one operation, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn front(dir: &Path) -> TierSpec {
    TierSpec::new("file", backend(&format!("file://{}", dir.display())).unwrap()).ttl(Duration::from_secs(60))
}

/// Without L1, so that every answer is one of the tiers.
fn cache(dir: &Path, redis: &Redis) -> Cache {
    let builder = Cache::builder().tier(front(dir)).backend(backend(&redis.url()).unwrap()).without_l1();
    builder.strict(true).deadline(PATIENCE).build().unwrap()
}

#[test]
fn a_copy_on_this_machine_answers_when_redis_is_gone_and_others_go_on_without_the_copy() {
    let (server, dir) = (Redis::start(), tempfile::tempdir().unwrap());
    let elsewhere = Cache::builder().backend(backend(&server.url()).unwrap()).without_l1();
    let elsewhere = elsewhere.deadline(PATIENCE).build().unwrap().blocking();
    elsewhere.set("report", &"from another machine".to_owned()).unwrap();

    let cache = cache(dir.path(), &server);
    let here = cache.blocking();
    assert_eq!(*here.get::<String>("report").unwrap().unwrap(), "from another machine");
    until("the promotion", || here.stats().fronts[0].promotions == 1);
    assert_eq!(*here.get::<String>("report").unwrap().unwrap(), "from another machine");
    assert_eq!(here.stats().fronts[0].hits, 1);

    server.kill();
    assert_eq!(*here.get::<String>("report").unwrap().unwrap(), "from another machine");
    assert!(here.get::<String>("absent").is_err(), "a strict cache tells an outage from a miss");
    assert!(here.delete("report").is_err(), "a deletion that did not happen is an error");
    server.restart();
    until("Redis again", || here.set("after", &1_u32).is_ok());
    assert_eq!(*elsewhere.get::<u32>("after").unwrap().unwrap(), 1);
    assert_eq!(*here.get::<u32>("after").unwrap().unwrap(), 1);
    cache.blocking().close().unwrap();
}

#[test]
fn a_directory_that_is_gone_costs_copies_and_makes_deletions_errors() {
    let (server, dir) = (Redis::start(), tempfile::tempdir().unwrap());
    let place = dir.path().join("copies");
    std::fs::create_dir(&place).unwrap();
    let cache = cache(&place, &server);
    let here = cache.blocking();
    here.set("k", &1_u32).unwrap();
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::write(&place, b"no directory").unwrap();
    assert_eq!(*here.get::<u32>("k").unwrap().unwrap(), 1);
    here.set("k", &2_u32).unwrap();
    assert_eq!(*here.get::<u32>("k").unwrap().unwrap(), 2);
    assert!(here.stats().fronts[0].errors > 0);
    assert_eq!(here.stats().l2_errors, 0);
    assert!(!here.health().is_healthy());
}

#[test]
fn what_is_deleted_here_is_gone_from_both_and_what_is_deleted_elsewhere_from_the_copy_when_it_is_told() {
    let (server, dir) = (Redis::start(), tempfile::tempdir().unwrap());
    let builder = Cache::builder().tier(front(dir.path())).backend(backend(&server.url()).unwrap());
    let here = builder.deadline(PATIENCE).build().unwrap().blocking();
    let elsewhere = Cache::builder().backend(backend(&server.url()).unwrap());
    let elsewhere = elsewhere.deadline(PATIENCE).build().unwrap().blocking();
    here.set("k", &1_u32).unwrap();
    here.delete("k").unwrap();
    assert_eq!((here.get::<u32>("k").unwrap(), elsewhere.get::<u32>("k").unwrap()), (None, None));
    assert_eq!(here.clear().unwrap(), 0);

    here.set("k", &2_u32).unwrap();
    // The watch may only have begun: what is told is what is changed from some moment on.
    until("the change is told", || {
        elsewhere.set("k", &3_u32).unwrap();
        here.get::<u32>("k").unwrap().is_some_and(|value| *value == 3)
    });
    assert!(here.stats().fronts[0].distrusted > 0);
    assert!(!here.cache().is_coherent(), "L1 keeps copies of copies for its cap");
}

#[test]
fn lives_are_capped_in_front_and_kept_behind() {
    let (server, dir) = (Redis::start(), tempfile::tempdir().unwrap());
    const LIFE: Duration = Duration::from_secs(1);
    let short = front(dir.path()).ttl(LIFE).write(WritePolicy::Through);
    let here = Cache::builder().tier(short).backend(backend(&server.url()).unwrap()).without_l1();
    let here = here.deadline(PATIENCE).build().unwrap().blocking();
    let elsewhere = Cache::builder().backend(backend(&server.url()).unwrap()).without_l1();
    let elsewhere = elsewhere.deadline(PATIENCE).build().unwrap().blocking();
    // Both have connected, so that what follows takes a fraction of the copy's life; where it does not, nothing is said.
    assert_eq!((here.get::<u32>("other").unwrap(), elsewhere.get::<u32>("other").unwrap()), (None, None));
    let began = Instant::now();
    here.set_with("k", &1_u32, SetOptions::default().with_ttl(Duration::from_secs(600))).unwrap();
    elsewhere.set("k", &2_u32).unwrap();
    let found = *here.get::<u32>("k").unwrap().unwrap();
    assert!(found == 1 || began.elapsed() >= LIFE, "the copy, as long as it lives");
    until("the copy to end", || *here.get::<u32>("k").unwrap().unwrap() == 2);
    assert!(here.ttl("k").unwrap().is_some());
}

#[test]
fn a_chain_comes_from_the_configuration() {
    let (server, dir) = (Redis::start(), tempfile::tempdir().unwrap());
    let toml = dir.path().join("cachekit.toml");
    let text = format!(
        "deadline = \"20s\"\n[[tier]]\nbackend = \"file://{0}/a\"\nttl = \"10m\"\n[[tier]]\nbackend = \"file://{0}/b\"\n[[tier]]\nbackend = \"{1}\"\n",
        dir.path().display(),
        server.url()
    );
    std::fs::write(&toml, text).unwrap();
    let sources = Sources { file: Some(toml), environment: Environment::default(), ..Sources::default() };
    let config = Config::resolve(&sources).unwrap();
    let cache = config.builder(&cachekit::built_in(), EngineServices::shared()).unwrap().build().unwrap();
    let cache = Arc::new(cache).blocking();
    cache.set("k", &1_u32).unwrap();
    let fronts: Vec<_> = cache.stats().fronts.into_iter().map(|front| (front.name, front.writes)).collect();
    assert_eq!(fronts, [("file".to_owned(), 1), ("file#2".to_owned(), 1)]);
    let health = cache.health().tier.unwrap().unwrap();
    assert!(health.healthy && health.backend_type == "redis" && health.details["fronts"]["file#2"]["healthy"] == true);
}
