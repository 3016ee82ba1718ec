//! `cachekit copy` between backends: entries arrive with their lives, and a second run finds everything done.

use std::process::Command;
use std::time::Duration;

use cachekit_core::Cache;
use cachekit_core::blocking::wait;
use cachekit_core::cache::SetOptions;
use cachekit_e2e::{Place, artifacts, stores};
use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::redis::Redis;

const ENTRIES: usize = 500;

fn cache(backend: &std::sync::Arc<dyn cachekit_plugin::Backend>) -> Cache {
    let cache = Cache::builder().backend(backend.clone()).without_l1().strict(true);
    cache.deadline(Duration::from_secs(10)).build().unwrap()
}

#[test]
fn redis_to_files_to_redis_and_to_memcached() {
    let home = Place::new();
    let (first, second) = (std::sync::Arc::new(Redis::start()), std::sync::Arc::new(Redis::start()));
    let memcached = std::sync::Arc::new(Memcached::three());
    let source = cache(&stores::redis(first.clone()).backend);
    for n in 0..ENTRIES {
        let life = SetOptions::default().with_ttl(Duration::from_secs(600 + n as u64));
        wait(source.set_bytes(format!("k{n}"), format!("v{n}").as_bytes(), life)).unwrap();
    }
    let copy = |from: &str, to: &str| {
        let mut program = Command::new(artifacts::program());
        program.env_clear().env("HOME", home.path()).args(["--json", "copy", from, to]);
        let output = program.output().unwrap();
        assert!(output.status.success(), "{from} to {to}: {}", String::from_utf8_lossy(&output.stderr));
        println!("{}", String::from_utf8_lossy(&output.stdout).trim());
    };
    let files = format!("file://{}/store", home.path().display());
    let servers: Vec<String> = memcached.iter().map(Memcached::addr).collect();
    copy(&first.url(), &files);
    copy(&files, &second.url());
    copy(&second.url(), &format!("memcached://{}", servers.join(",")));
    // Once more: nothing is lost by it.
    copy(&first.url(), &second.url());
    for target in [cache(&stores::redis(second.clone()).backend), cache(&stores::memcached(memcached.clone()).backend)]
    {
        for n in 0..ENTRIES {
            let found = wait(target.get_bytes(format!("k{n}"))).unwrap();
            assert_eq!(found.as_deref(), Some(format!("v{n}").as_bytes()), "entry {n}");
        }
    }
    let life: u64 = second.command(&["TTL", "ck:default:k7"]).parse().unwrap();
    assert!((500..=607).contains(&life), "{life}");
}
