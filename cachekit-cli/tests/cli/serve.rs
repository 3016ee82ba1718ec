//! serve: the program as a server, used with curl.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cachekit_test_servers::certificates::Authority;
use rustix::process::{Pid, Signal, kill_process};

use crate::program::{Home, Ran};

const KEY: &str = "ck_test_0123456789abcdef";

/// A server that runs, and what it said on its first line.
struct Running {
    child: Child,
    said: String,
}

impl Running {
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.command(["serve", "--listen", "127.0.0.1:0", "--api-key", "ours=env:SERVE_KEY"]);
        command.args(args).env("SERVE_KEY", KEY).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        if said.is_empty() {
            let mut err = String::new();
            child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            panic!("it did not start: {err}");
        }
        Self { child, said: said.trim_end().to_owned() }
    }

    fn end(mut self, signal: Signal) -> Ran {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = self.child.wait().unwrap();
        Ran { code: status.code().expect("it ends by itself"), out: Vec::new(), err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of a request.
fn curl(args: &[&str]) -> (String, Vec<u8>) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "30", "--write-out", "\n%{http_code}"]);
    let output = command.args(args).output().expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let at = output.stdout.iter().rposition(|byte| *byte == b'\n').unwrap();
    (String::from_utf8(output.stdout[at + 1..].to_vec()).unwrap(), output.stdout[..at].to_vec())
}

#[test]
fn curl_stores_and_reads_over_tls_and_a_signal_ends_it_in_order() {
    let home = Home::new();
    let authority = Authority::new();
    let identity = authority.server(&["localhost"]);
    let (cert, key) = (identity.cert().to_str().unwrap(), identity.key().to_str().unwrap());
    let server = Running::start(&home, &["--tls-cert", cert, "--tls-key", key]);
    let port = server.said.strip_prefix("https://127.0.0.1:").expect(&server.said);
    let (auth, ca) = (format!("Authorization: Bearer {KEY}"), authority.ca().to_str().unwrap());
    let url = format!("https://localhost:{port}/v1/cache/users:1");
    let value = home.write("value", "stored by curl");
    let put = curl(&["--cacert", ca, "-H", &auth, "-H", "X-CacheKit-TTL: 60", "-T", value.to_str().unwrap(), &url]);
    assert_eq!(put, ("204".into(), b"".to_vec()));
    assert_eq!(curl(&["--cacert", ca, "-H", &auth, &url]), ("200".into(), b"stored by curl".to_vec()));
    assert_eq!(curl(&["--cacert", ca, &url]).0, "401");
    let ran = server.end(Signal::TERM).expect(0);
    assert!(ran.err.contains("ending") && !ran.err.contains(KEY), "{}", ran.err);
}

#[test]
fn the_store_outlives_the_server() {
    let home = Home::new();
    let auth = format!("Authorization: Bearer {KEY}");
    let value = home.write("value", "kept");
    for turn in ["write", "read"] {
        let server = Running::start(&home, &["--plain-http", "--json"]);
        let document: serde_json::Value = serde_json::from_str(&server.said).expect("one line");
        let url = format!("{}/v1/cache/k", document["url"].as_str().unwrap());
        match turn {
            "write" => assert_eq!(curl(&["-H", &auth, "-T", value.to_str().unwrap(), &url]).0, "204"),
            _ => assert_eq!(curl(&["-H", &auth, &url]).1, b"kept"),
        }
        server.end(Signal::INT).expect(0);
    }
}

#[test]
fn a_redis_is_served_with_its_locks_and_lives_and_its_outage_is_503() {
    let home = Home::new();
    let redis = cachekit_test_servers::redis::Redis::start();
    // A store that is silent is given up by the deadline, and not before it by the patience of its sockets.
    let patient = format!("{}?socket_timeout=600&socket_connect_timeout=600", redis.url());
    let server = Running::start(&home, &["--plain-http", "--backend", &patient]);
    let (auth, url) = (format!("Authorization: Bearer {KEY}"), format!("{}/v1/cache/users:1", server.said));
    let value = home.write("value", "in redis");
    let put = || {
        curl(&[
            "-H",
            &auth,
            "-H",
            "X-CacheKit-TTL: 60",
            "-H",
            "X-CacheKit-Stale-TTL: 30",
            "-T",
            value.to_str().unwrap(),
            &url,
        ])
        .0
    };
    assert_eq!(put(), "204");
    assert_eq!(curl(&["-H", &auth, &url]), ("200".into(), b"in redis".to_vec()));
    let left: i64 = redis.command(&["TTL", "cks:ours:users:1"]).trim().parse().unwrap();
    assert!((85..=90).contains(&left), "life and stale window: {left}");
    let lock =
        ["-H", &auth, "-H", "Content-Type: application/json", "-d", r#"{"timeout_ms": 30000}"#, &format!("{url}/lock")];
    let first = String::from_utf8(curl(&lock).1).unwrap();
    assert!(first.len() > 40, "{first}");
    assert_eq!(curl(&lock).1, br#"{"lock_id":null}"#);
    redis.stop();
    assert_eq!(curl(&["-H", &auth, &url]).0, "504");
    redis.cont();
    redis.kill();
    assert_eq!(put(), "503");
    redis.restart();
    let end = Instant::now() + Duration::from_secs(60);
    while put() != "204" {
        assert!(Instant::now() < end, "the server of a store that is back finds it within a minute");
    }
    assert_eq!(curl(&["-H", &auth, &url]).1, b"in redis");
    server.end(Signal::TERM).expect(0);
}

#[test]
fn options_reach_the_server() {
    let home = Home::new();
    let key = home.write("metrics.key", "ck_metrics_0123456789\n");
    let metrics = format!("file:{}", key.display());
    let args = ["--plain-http", "--metrics-key", &metrics, "--max-value", "10", "--keys", "any", "--default-ttl", "1h"];
    let server = Running::start(&home, &args);
    let auth = format!("Authorization: Bearer {KEY}");
    let put = |key: &str, value: &str| {
        let url = format!("{}/v1/cache/{key}", server.said);
        curl(&["-X", "PUT", "-H", "Content-Type:", "-H", &auth, "--data-binary", value, &url]).0
    };
    assert_eq!(put("k", "0123456789"), "204");
    assert_eq!(put("k", "0123456789a"), "413");
    assert_eq!(put("a%2Fb", "v"), "204");
    assert_eq!(curl(&["-H", &auth, &format!("{}/v1/cache/k/ttl", server.said)]).1, br#"{"ttl":3600}"#);
    let metrics = curl(&["-H", "Authorization: Bearer ck_metrics_0123456789", &format!("{}/metrics", server.said)]);
    assert!(metrics.0 == "200" && metrics.1.starts_with(b"# HELP"));
    server.end(Signal::TERM).expect(0);
}

#[test]
fn what_cannot_work_is_refused_before_anybody_listens() {
    let home = Home::new();
    let cert = home.write("cert.pem", "not a certificate");
    let cert = cert.to_str().unwrap();
    for (args, hint) in [
        (&["--plain-http"][..], "--api-key"),
        (&["--api-key", "a=ck_test_0123456789"], "--tls-cert"),
        (&["--plain-http", "--api-key", "secret-without-a-tenant"], "TENANT="),
        (&["--plain-http", "--api-key", "a=short-secret"], "16 characters"),
        (&["--plain-http", "--api-key", "a b=ck_test_0123456789"], "tenant"),
        (&["--plain-http", "--api-key", "a=env:NOT_THERE"], "NOT_THERE"),
        (&["--plain-http", "--api-key", "a=ck_test_0123456789", "--default-ttl", "31d"], "default_ttl"),
        (&["--plain-http", "--api-key", "a=ck_test_0123456789", "--max-in-flight", "0"], "max_in_flight"),
        (&["--plain-http", "--api-key", "a=ck_test_0123456789", "--listen", "nowhere"], "--listen"),
        (&["--plain-http", "--api-key", "a=ck_test_0123456789", "--backend", "none"], "store"),
        (&["--api-key", "a=ck_test_0123456789", "--tls-cert", cert], "--tls-key"),
        (&["--api-key", "a=ck_test_0123456789", "--tls-cert", cert, "--tls-key", cert], "certificate"),
        (&["--plain-http", "--api-key", "a=ck_test_0123456789", "--listen", "192.0.2.1:1"], "192.0.2.1:1"),
    ] {
        let elsewhere: &[&str] = if args.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let args = [&["serve"], elsewhere, args].concat();
        let ran = home.run(&args).expect(2);
        assert!(ran.err.contains(hint), "{args:?}: {}", ran.err);
        assert!(!ran.err.contains("secret"), "{}", ran.err);
    }
}

#[test]
fn a_key_on_the_command_line_is_warned_of_and_not_repeated() {
    let home = Home::new();
    let server = Running::start(&home, &["--plain-http", "--api-key", "theirs=ck_test_on_the_line_1"]);
    let ran = server.end(Signal::TERM).expect(0);
    assert!(ran.err.contains("theirs") && !ran.err.contains("on_the_line"), "{}", ran.err);
}

#[test]
fn our_own_client_is_configured_by_the_environment_and_reads_what_it_stored() {
    let (home, other) = (Home::new(), Home::new());
    let authority = Authority::new();
    let identity = authority.server(&["localhost"]);
    let (cert, key) = (identity.cert().to_str().unwrap(), identity.key().to_str().unwrap());
    let server = Running::start(&home, &["--tls-cert", cert, "--tls-key", key, "--keys", "any"]);
    let port = server.said.strip_prefix("https://127.0.0.1:").expect(&server.said);
    let url = format!("cachekitio://localhost:{port}?allow_private_host=true");
    let client = |args: &[&str], key: &str, ca: &str| {
        let mut command = other.command(args);
        command.env("CACHEKIT_BACKEND", &url).env("CACHEKIT_API_KEY", key).env("REQUESTS_CA_BUNDLE", ca);
        Ran::from(command.env("CACHEKIT_TIMEOUT", "4").env("CACHEKIT_MAX_RETRIES", "0").output().unwrap())
    };
    let ca = authority.ca().to_str().unwrap();
    client(&["--preset", "io", "set", "k", "over TLS"], KEY, ca).expect(0);
    assert_eq!(client(&["--preset", "io", "get", "k"], KEY, ca).expect(0).out(), "over TLS");
    // Another key is refused, another authority is not believed, and neither is told to anybody.
    let wrong = client(&["get", "k"], "ck_test_ffffffffffffffff", ca).expect(3);
    assert!(!wrong.err.contains("ck_test_"), "{wrong:?}");
    let elsewhere = Authority::new();
    client(&["get", "k"], KEY, elsewhere.ca().to_str().unwrap()).expect(3);
    let refused = client(&["get", "k"], "not a key", ca).expect(2);
    assert!(refused.err.contains("CACHEKIT_API_KEY") && !refused.err.contains("not a key"), "{refused:?}");
    server.end(Signal::TERM).expect(0);
}
