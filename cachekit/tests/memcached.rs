//! The facade on real Memcached servers, chosen by the environment.

use std::time::Duration;

use cachekit::{Config, Environment, Sources};
use cachekit_test_servers::memcached::Memcached;
use serde_json::json;

#[test]
fn every_variable_of_memcached_reaches_the_servers() {
    let servers = [Memcached::start(), Memcached::start(), Memcached::start()];
    let list = json!(servers.each_ref().map(Memcached::addr)).to_string();
    let variables = [
        ("CACHEKIT_MEMCACHED_SERVERS", list.as_str()),
        ("CACHEKIT_MEMCACHED_CONNECT_TIMEOUT", "20.0"),
        ("CACHEKIT_MEMCACHED_TIMEOUT", "20.0"),
        ("CACHEKIT_MEMCACHED_MAX_POOL_SIZE", "10"),
        ("CACHEKIT_MEMCACHED_RETRY_ATTEMPTS", "2"),
        ("CACHEKIT_MEMCACHED_KEY_PREFIX", "myapp:"),
        ("CACHEKIT_MEMCACHED_MAX_ITEM_SIZE_BYTES", "4096"),
        ("CACHEKIT_ENABLE_COMPRESSION", "false"),
    ];
    let vars = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let config = Config::resolve(&Sources { environment: Environment::from_vars(vars), ..Sources::default() }).unwrap();
    // An answer that a busy machine makes late is a miss otherwise.
    let open = || cachekit::builder(&config).unwrap().deadline(Duration::from_secs(20)).build().unwrap().blocking();
    let cache = open();
    for n in 0..100_u32 {
        cache.set(format!("k{n}"), &n).unwrap();
    }
    // Another process on the same servers.
    let other = open();
    for n in 0..100_u32 {
        assert_eq!(other.get::<u32>(format!("k{n}")).unwrap().as_deref(), Some(&n));
    }
    assert_eq!(other.stats().l2_hits, 100);
    // The size guard is the backend's limit, which the engine respects before anything is sent.
    let error = cache.set("large", &"x".repeat(5000)).unwrap_err();
    assert!(matches!(error, cachekit::Error::TooLarge { max: 2048..=4096, .. }), "{error}");
    assert_eq!(cache.health().tier.unwrap().unwrap().backend_type, "memcached");
}
