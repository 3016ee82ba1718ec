//! copy, bench and serve on real servers: Redis and Memcached.

use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::redis::Redis;
use serde_json::json;

use crate::program::Home;

fn seed(home: &Home, url: &str, count: usize) {
    for number in 0..count {
        home.run(["--backend", url, "set", &format!("key {number}"), &format!("value {number}"), "--ttl", "1h"])
            .expect(0);
    }
}

#[test]
fn redis_to_files_and_back_keeps_values_and_lives() {
    let home = Home::patient();
    let redis = Redis::start();
    let other = Redis::start();
    let files = format!("file://{}", home.path().join("files").display());
    seed(&home, &redis.url(), 12);
    redis.command(&["SET", "ck:default:key 0:lock", "token", "PX", "60000"]);
    let there = home.run(["copy", &redis.url(), &files, "--verify", "--json"]).expect(0).json();
    assert_eq!((&there["copied"], &there["verified"]), (&json!(12), &json!(12)), "{there}");
    // A lease is no entry: it is not even listed.
    assert_eq!((&there["listed"], &there["left_out"]), (&json!(12), &json!({})), "{there}");
    let back = home.run(["copy", &files, &other.url(), "--batch", "5", "--verify", "--json"]).expect(0).json();
    assert_eq!((&back["copied"], &back["verified"]), (&json!(12), &json!(12)), "{back}");
    for key in ["key 0", "key 11"] {
        let wire = format!("ck:default:{key}");
        let left: i64 = other.command(&["PTTL", &wire]).trim().parse().unwrap();
        assert!(left > 3_000_000 && left <= 3_600_000, "{left}");
        assert_eq!(home.run(["--backend", &other.url(), "get", key]).expect(0).out(), format!("value {}", &key[4..]));
    }
}

#[test]
fn entries_that_are_merely_named_like_leases_arrive() {
    let home = Home::patient();
    let (redis, other) = (Redis::start(), Redis::start());
    redis.command(&["SET", "deploy:lock", &"v".repeat(65), "PX", "60000"]);
    redis.command(&["SET", "app:lock", "without an end"]);
    let ran = home.run(["copy", &redis.url(), &other.url(), "--json"]).expect(0).json();
    assert_eq!((&ran["copied"], &ran["left_out"]), (&json!(2), &json!({})), "{ran}");
    assert_eq!(other.command(&["GET", "app:lock"]).trim(), "without an end");
}

#[test]
fn redis_to_memcached_shortens_what_memcached_does_not_take_and_the_engine_finds_it() {
    let home = Home::patient();
    let (redis, memcached) = (Redis::start(), Memcached::start());
    seed(&home, &redis.url(), 3);
    let long = "k".repeat(300);
    home.run(["--backend", &redis.url(), "set", &long, "of the long key"]).expect(0);
    redis.command(&["SET", "a plain key", "not ours"]);
    let ran = home.run(["copy", &redis.url(), &memcached.url(), "--verify", "--json"]).expect(1).json();
    assert_eq!((&ran["copied"], &ran["verified"]), (&json!(4), &json!(4)), "{ran}");
    assert_eq!(ran["left_out"], json!({"key_not_taken": 1}), "{ran}");
    assert_eq!(home.run(["--backend", &memcached.url(), "get", &long]).expect(0).out(), "of the long key");
    assert_eq!(home.run(["--backend", &memcached.url(), "get", "key 1"]).expect(0).out(), "value 1");
}

#[test]
fn a_source_that_cannot_list_is_a_mistake_that_says_so() {
    let home = Home::patient();
    let (memcached, redis) = (Memcached::start(), Redis::start());
    let ran = home.run(["copy", &memcached.url(), &redis.url()]).expect(2);
    assert!(ran.err.contains("cannot list"), "{ran:?}");
}

#[test]
fn what_failed_half_way_is_finished_by_the_next_run() {
    let home = Home::patient();
    let (from, to) = (Redis::start(), Redis::start());
    for number in 0..200 {
        from.command(&["SET", &format!("plain:{number}"), &"v".repeat(1000), "EX", "3600"]);
    }
    let place = home.path().join("place");
    let place = place.to_str().unwrap();
    let (from_url, to_url) = (from.url(), to.url());
    let args = ["copy", &from_url, &to_url, "--resume", place, "--batch", "20", "--json"];
    // Nothing fits any more: the server refuses writes.
    to.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let ran = home.run(args);
    assert_eq!(ran.code, 3, "{ran:?}");
    let document = ran.json();
    assert_eq!((&document["copied"], &document["complete"]), (&json!(0), &json!(false)), "{document}");
    assert!(!document["failed"].as_object().unwrap().is_empty() && document["error"]["message"].is_string());
    to.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let document = home.run(args).expect(0).json();
    assert_eq!(document["complete"], true, "{document}");
    assert_eq!(to.command(&["DBSIZE"]).trim(), "200");
    assert!(!std::path::Path::new(place).exists());
}

#[test]
fn a_copy_goes_on_from_the_place_where_its_source_went_away() {
    let home = Home::patient();
    let (from, to) = (Redis::start(), Redis::start());
    // So many that the copy is far from its end when it is killed.
    from.command(&["DEBUG", "POPULATE", "5000", "plain", "5"]);
    let place = home.path().join("place");
    let (from_url, to_url) = (from.url(), to.url());
    let args = ["copy", &from_url, &to_url, "--resume", place.to_str().unwrap(), "--batch", "1", "--json"];
    let mut child =
        home.command(args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    // In the middle, whenever that is, the copy is killed.
    while !place.exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let copied_before: u64 = to.command(&["DBSIZE"]).trim().parse().unwrap();
    let document = home.run(args).expect(0).json();
    assert_eq!(to.command(&["DBSIZE"]).trim(), "5000");
    if copied_before < 5000 {
        assert_eq!(document["resumed"], true, "{document}");
    }
}

#[test]
fn a_copy_does_not_go_on_in_a_source_that_was_restarted() {
    let home = Home::patient();
    let (from, to) = (Redis::start(), Redis::start());
    // So many that the copy is far from its end when it is killed.
    from.command(&["DEBUG", "POPULATE", "5000", "plain", "5"]);
    let place = home.path().join("place");
    let (from_url, to_url) = (from.url(), to.url());
    let args = ["copy", &from_url, &to_url, "--resume", place.to_str().unwrap(), "--batch", "1", "--json"];
    let mut child =
        home.command(args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !place.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the copy ended before it was killed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    from.kill();
    from.restart();
    let refused = home.run(args).expect(2).json();
    assert!(refused["error"]["message"].as_str().unwrap().contains("restarted"), "{refused}");
}

#[test]
fn a_bench_of_each_server_has_no_errors_and_leaves_nothing() {
    let home = Home::patient();
    let (redis, memcached) = (Redis::start(), Memcached::start());
    for url in [redis.url(), memcached.url()] {
        let args = [
            "bench",
            "--backend",
            &url,
            "--duration",
            "1s",
            "--warm-up",
            "50ms",
            "--keys",
            "500",
            "--json",
            "--deadline",
            "30s",
        ];
        let ran = home.run(args).expect(0).json();
        assert!(ran["operations"]["get"]["count"].as_u64().unwrap() > 0, "{ran}");
        assert_eq!((&ran["errors"], &ran["keys_left"]), (&json!(0), &json!(0)), "{ran}");
    }
    assert_eq!(redis.command(&["DBSIZE"]).trim(), "0");
}

#[test]
fn a_bench_of_a_server_that_stops_says_what_failed() {
    let home = Home::patient();
    let redis = Redis::start();
    let url = redis.url();
    redis.stop();
    let ran = home.run(["bench", "--backend", &url, "--deadline", "100ms", "--keys", "10", "--duration", "1s"]);
    redis.cont();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("timeout"), "{ran:?}");
}
