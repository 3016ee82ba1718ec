//! `cachekit serve` as an operator runs it, over Redis and behind TLS; our client as a host loads it, and one that is not
//! ours.

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use cachekit_core::blocking::wait;
use cachekit_e2e::{artifacts, stores};
use cachekit_plugin::{Cx, Key, Kind, Ttl};
use cachekit_test_servers::certificates::Authority;
use cachekit_test_servers::redis::Redis;
use cachekit_test_servers::serve::{API_KEY, Serve};
use serde_json::{Value as Json, json};

fn options(server: &Serve) -> Json {
    json!({
        "api_url": server.url(), "api_key": { "$secret": API_KEY }, "allow_private_host": true, "ca_file": server.ca(),
    })
}

fn cx() -> Cx<'static> {
    Cx::within(Duration::from_secs(10))
}

/// Status and body of a request.
fn curl(server: &Serve, key: &str, more: &[&str]) -> (String, Vec<u8>) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--noproxy", "*", "--max-time", "30", "--write-out", "\n%{http_code}", "--cacert"]);
    curl.arg(server.ca()).args(more).arg(format!("{}/v1/cache/{key}", server.url()));
    let output = curl.output().expect("curl is missing: apt-get install curl");
    let at = output.stdout.iter().rposition(|byte| *byte == b'\n').expect("curl writes the status");
    (String::from_utf8_lossy(&output.stdout[at + 1..]).into_owned(), output.stdout[..at].to_vec())
}

#[test]
fn our_client_and_curl_share_what_lies_in_redis() {
    let (redis, authority) = (Redis::start(), Authority::new());
    let server = Serve::start(artifacts::program(), &redis.url(), &authority);
    let client = stores::load(artifacts::cachekitio_plugin(), &options(&server));
    let key = ["--oauth2-bearer", API_KEY];

    let minute = Ttl::from_ms(60_000).unwrap();
    wait(async { client.set(Key::from_wire(b"ours"), Bytes::from_static(b"\x00\xff"), minute, &cx()).await }).unwrap();
    assert_eq!(curl(&server, "ours", &key), ("200".into(), b"\x00\xff".to_vec()));
    assert!(redis.command(&["DBSIZE"]) != "0", "it lies in Redis");
    let life: i64 = redis.command(&["PTTL", &redis.command(&["KEYS", "*ours*"])]).parse().unwrap();
    assert!((1..=60_000).contains(&life), "with its life: {life}");

    let binary = ["--header", "Content-Type: application/octet-stream", "--header", "X-CacheKit-TTL: 60"];
    let put = [&key[..], &["--request", "PUT", "--data-binary", "from curl"], &binary].concat();
    assert!(curl(&server, "theirs", &put).0.starts_with('2'));
    let read = || wait(async { client.get(Key::from_wire(b"theirs"), &cx()).await }).unwrap();
    assert_eq!(read().as_deref(), Some(&b"from curl"[..]));
    assert!(curl(&server, "theirs", &[&key[..], &["--request", "DELETE"]].concat()).0.starts_with('2'));
    assert_eq!(read(), None);
    assert_eq!(curl(&server, "ours", &["--oauth2-bearer", "ck_test_somebody_elses"]).0, "401");
    assert!(!server.log().contains(API_KEY), "keys are not logged");
}

#[test]
fn who_is_not_trusted_gets_nothing() {
    let (redis, authority, stranger) = (Redis::start(), Authority::new(), Authority::new());
    let server = Serve::start(artifacts::program(), &redis.url(), &authority);
    let get = |options: &Json| {
        let client = stores::load(artifacts::cachekitio_plugin(), options);
        wait(async { client.get(Key::from_wire(b"k"), &cx()).await }).unwrap_err()
    };
    let mut wrong_key = options(&server);
    wrong_key["api_key"] = json!({ "$secret": "ck_test_somebody_elses" });
    assert_eq!(get(&wrong_key).kind(), Kind::Auth);
    // A server that our authority did not sign, and one that is not who the certificate says.
    let mut wrong_authority = options(&server);
    wrong_authority["ca_file"] = json!(stranger.ca());
    assert_ne!(get(&wrong_authority).kind(), Kind::Auth, "the key was not sent");
    let mut system = options(&server);
    system.as_object_mut().unwrap().remove("ca_file");
    let error = get(&system);
    assert!(matches!(error.kind(), Kind::Transient | Kind::Config), "{error}");
    // Without the permission a private address is refused before anything is sent.
    let mut private = options(&server);
    private["allow_private_host"] = json!(false);
    let plugin =
        cachekit_host::Plugin::open(artifacts::cachekitio_plugin(), &cachekit_host::Policy::default()).unwrap();
    assert!(plugin.create(private.to_string().as_bytes(), stores::secrets()).is_err());
}
