//! The peer reaches every kind of store, and says so when it does not.

use cachekit_test_servers::memcached::Memcached;
use cachekit_test_servers::python::{answer, peer, start};
use cachekit_test_servers::redis::Redis;
use serde_json::json;

const KEY: &str = "abababababababababababababababababababababababababababababababab";

#[test]
fn the_peer_is_the_published_package() {
    assert_eq!(peer(&["version"])["cachekit"], "0.24.1");
}

#[test]
fn the_peer_sets_gets_and_deletes_on_every_store() {
    let redis = Redis::start();
    let memcached = Memcached::three();
    let servers = json!(memcached.iter().map(Memcached::addr).collect::<Vec<_>>()).to_string();
    let dir = tempfile::tempdir().unwrap();
    for (kind, place) in [("redis", &*redis.url()), ("memcached", &*servers), ("file", dir.path().to_str().unwrap())] {
        let verb = |verb: &str, more: &[&str]| {
            let name = format!("{kind}-{verb}");
            peer(&[&[&*name, place, "users", "get_user", "[42]"], more].concat())
        };
        assert_eq!(verb("get", &[])["hit"], false, "{kind}");
        assert_eq!(verb("set", &[r#"{"id":42}"#, "--ttl", "60"])["stored"], true, "{kind}");
        assert_eq!(verb("get", &[])["value"], json!({"$t": "map", "v": [["id", {"$t": "int", "v": "42"}]]}));
        assert_eq!(verb("del", &[])["deleted"], true, "{kind}");
        assert_eq!(verb("set", &["7", "--secure", KEY])["stored"], true, "{kind}");
        assert_eq!(verb("get", &["--secure", KEY])["value"], json!({"$t": "int", "v": "7"}), "{kind}");
    }
}

#[test]
fn the_peer_holds_a_lock_and_reports_errors_by_its_exit_code() {
    let redis = Redis::start();
    let tenant = format!("tenant:acme@{}", redis.url());
    let mut holds = start(&["lock", &tenant, "job", "30"]);
    assert_eq!(holds.line()["phase"], "held");
    assert_eq!(peer(&["lock", &tenant, "job", "0"])["acquired"], false);
    drop(holds);
    redis.kill();
    let dead = answer(&["raw-get", &format!("redis:{}", redis.url()), "k"]);
    assert_eq!((dead.code, dead.lines[0]["error"].as_str()), (1, Some("BackendError")), "{dead:?}");
    assert_eq!(answer(&["key", "too", "few"]).code, 2);
}
