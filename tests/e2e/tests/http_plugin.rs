//! The example plugin for stores behind HTTP as a stranger ships it: its library, in front of real servers, and under a
//! whole cache in front of one that lies.

#[path = "../../../plugins-example/http/tests/plugin/peer.rs"]
mod peer;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cachekit_conformance::{Harness, Patience, run_all_with};
use cachekit_core::Cache;
use cachekit_core::blocking::wait;
use cachekit_e2e::harness::Loaded;
use cachekit_e2e::stores::{self, Served};
use cachekit_e2e::{Place, artifacts};
use cachekit_host::{Plugin, Policy};
use cachekit_plugin::{BackendError, Cx, HostServices, Key, Kind, Retry, Ttl};
use cachekit_serve::KeyRule;
use cachekit_test_servers::certificates::{Authority, Identity};
use serde_json::{Value as Json, json};

use peer::Peer;

/// The two ways in which a host calls a library.
fn plugins() -> [(&'static str, Plugin); 2] {
    [("loaded", false), ("loaded, blocking", true)].map(|(form, blocking)| {
        let policy = Policy::default().with_prefer_blocking(blocking);
        (form, Plugin::open(artifacts::http_plugin(), &policy).unwrap())
    })
}

fn all_pass(name: &str, harness: impl Harness) {
    let harness: Arc<dyn Harness> = Arc::new(harness);
    // A thousand deletions are a thousand exchanges with a Python process.
    let patience = Patience { operation: Duration::from_secs(60), case: Some(Duration::from_secs(600)) };
    let report = run_all_with(&harness, patience, |_| true);
    let not_asked = report.cases.iter().filter(|case| case.skipped_because.is_some()).count();
    println!("{name}: {} passed, {} failed, of them {not_asked} not asked", report.passed, report.failed);
    assert!(report.is_ok(), "{name}\n{report}");
}

fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Both forms of the library over one API of the peer.
fn peer_passes(name: &str, options: fn(u16, &str) -> Json) {
    for (form, plugin) in plugins() {
        let peer = Peer::start();
        let (port, apart) = (peer.port, AtomicU32::new(0));
        let isolated = move || options(port, &format!("apart-{}", apart.fetch_add(1, Ordering::Relaxed)));
        let harness = Loaded::new(plugin, options(port, "shared"), Box::new(isolated));
        let harness = harness.with_services(peer::secrets()).with_unreachable(options(nobody(), "nowhere"));
        all_pass(&format!("http, {name}, {form}"), harness);
    }
}

#[test]
fn the_table_holds_over_an_api_like_cloudflares() {
    peer_passes("like Cloudflare", peer::cloudflare);
}

#[test]
fn the_table_holds_over_an_api_of_somebodys_own() {
    peer_passes("of somebody's own", peer::house);
}

/// What README.md has for `cachekit serve`, for one tenant of a server of the test.
fn serve(served: &Served, tenant: usize) -> Json {
    let theirs = served.options(tenant);
    let origin = theirs["api_url"].as_str().unwrap();
    let mut options = peer::led_to(&peer::of_readme("cachekit serve"), "https://cache.internal:8443", origin);
    options["bearer"] = theirs["api_key"].clone();
    options["ca_file"] = theirs["ca_file"].clone();
    options["key_bytes"] = json!("any");
    options["max_value"] = json!(4 << 20);
    options
}

#[test]
fn the_table_holds_over_cachekit_serve_behind_tls() {
    for (form, plugin) in plugins() {
        let served = Arc::new(Served::start(64, KeyRule::Any));
        let mut unreachable = serve(&served, 0);
        let origin = served.options(0)["api_url"].as_str().unwrap().to_owned();
        unreachable = peer::led_to(&unreachable, &origin, &format!("https://127.0.0.1:{}", nobody()));
        let (shared, next) = (Arc::clone(&served), AtomicU32::new(1));
        let isolated = move || serve(&shared, next.fetch_add(1, Ordering::Relaxed) as usize);
        let harness = Loaded::new(plugin, serve(&served, 0), Box::new(isolated));
        let harness = harness.with_services(stores::secrets()).with_unreachable(unreachable);
        all_pass(&format!("http, cachekit serve, {form}"), harness);
    }
}

#[test]
fn tls_is_spoken_by_two_versions_of_http_with_whom_the_ca_vouches_for_and_nobody_else() {
    let (served, stranger) = (Served::start(1, KeyRule::Any), Served::start(1, KeyRule::Any));
    let cx = Cx::within(Duration::from_secs(20));
    let backend = stores::load(artifacts::http_plugin(), &serve(&served, 0));
    let health = wait(backend.health(&cx)).unwrap();
    assert_eq!(health.details["protocol"], "HTTP/2.0", "{health:?}");
    let mut distrusted = serve(&served, 0);
    distrusted["ca_file"] = stranger.options(0)["ca_file"].clone();
    let refused = stores::load(artifacts::http_plugin(), &distrusted);
    let error = wait(refused.get(Key::from_wire(b"k"), &cx)).unwrap_err();
    assert!(error.kind() == Kind::Transient && error.message().contains("certificate"), "{error}");
    let mut wrong = serve(&served, 0);
    wrong["bearer"] = json!({ "$secret": "ck_test_somebody_elses" });
    let refused = stores::load(artifacts::http_plugin(), &wrong);
    assert_eq!(wait(refused.get(Key::from_wire(b"k"), &cx)).unwrap_err().kind(), Kind::Auth);
}

/// Which version a peer speaks.
#[derive(Clone, Copy)]
enum Tls {
    Newest,
    /// In which it is part of the handshake that a client is refused, so its reason always arrives.
    Older,
}

/// What a get answers over a peer of this authority, with these options beside the others. `clients`: it asks who they are.
fn asked(
    authority: &Authority,
    server: &Identity,
    clients: Option<Tls>,
    more: Json,
) -> Result<Option<Bytes>, BackendError> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut arguments = vec!["--certificate".to_owned(), text(server.cert()), "--key".to_owned(), text(server.key())];
    if let Some(version) = clients {
        arguments.extend(["--clients".to_owned(), text(authority.ca())]);
        if matches!(version, Tls::Older) {
            arguments.extend(["--tls", "1.2"].map(str::to_owned));
        }
    }
    let peer = Peer::with_arguments(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let plain = peer::house(peer.port, "over-tls");
    let mut options = peer::led_to(&plain, "http://127.0.0.1", "https://127.0.0.1");
    options["ca_file"] = json!(authority.ca());
    options.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    let plugin = Plugin::open(artifacts::http_plugin(), &Policy::default()).unwrap();
    let backend = plugin.create(options.to_string().as_bytes(), peer::secrets()).unwrap();
    let cx = Cx::within(Duration::from_secs(20));
    wait(backend.set(Key::from_wire(b"k"), Bytes::from_static(b"v"), Ttl::Never, &cx))?;
    wait(backend.get(Key::from_wire(b"k"), &cx))
}

#[test]
fn a_server_that_wants_to_know_its_clients_is_shown_their_certificate() {
    let authority = Authority::new();
    let (server, ours, strangers) = (authority.server(&["127.0.0.1"]), authority.server(&["client"]), Authority::new());
    let theirs = strangers.server(&["client"]);
    let shown = |client: &Identity| {
        let key = std::fs::read_to_string(client.key()).unwrap();
        json!({ "client_certificate": client.cert(), "client_key": { "$secret": format!("pem:{key}") } })
    };
    for version in [Some(Tls::Newest), Some(Tls::Older), None] {
        let got = asked(&authority, &server, version, shown(&ours)).unwrap();
        assert_eq!(got.as_deref(), Some(&b"v"[..]));
    }
    for more in [json!({}), shown(&theirs)] {
        assert!(asked(&authority, &server, Some(Tls::Newest), more.clone()).is_err());
        let error = asked(&authority, &server, Some(Tls::Older), more).unwrap_err();
        println!("{error}");
        assert_eq!(error.kind(), Kind::Auth, "{error}");
        assert!(error.message().contains("client_certificate"), "{error}");
    }
}

#[test]
fn a_certificate_of_somebody_else_or_of_another_time_is_none() {
    let authority = Authority::new();
    for server in [authority.server(&["elsewhere.test"]), authority.expired(&["127.0.0.1"])] {
        let error = asked(&authority, &server, None, json!({})).unwrap_err();
        println!("{error}");
        assert!(error.kind() == Kind::Transient && error.retry() == Retry::No, "{error}");
        assert!(error.message().contains("certificate"), "{error}");
    }
}

/// `cachekit plugin test`, as an author without a Rust toolchain types it.
#[test]
fn the_program_tests_the_library() {
    let peer = Peer::start();
    let mut options = peer::house(peer.port, "by-the-program");
    options["password"] = json!({ "$secret": "env:HTTP_PLUGIN_TEST_PASSWORD" });
    let mut test = Command::new(artifacts::program());
    test.env("HTTP_PLUGIN_TEST_PASSWORD", "pass:word");
    test.args(["--json", "plugin", "test"]).arg(artifacts::http_plugin()).args(["--config", &options.to_string()]);
    let output = test.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    let report: Json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {shown}"));
    assert_eq!(report["failed"], 0, "{report:#}");
    println!("cachekit plugin test: {} passed", report["passed"]);
    assert!(output.status.success());
}

/// What the wire keys of the tests end with, as the plugin writes it.
const MINE: &str = "6d696e65";
const YOURS: &str = "796f757273";

/// A server that keeps what it is given, except that `lie` makes up what it answers for "mine" and "yours" out of what is kept
/// for "mine". The engine's own entries are told truly.
fn liar(lie: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (lie, kept) = (Arc::new(lie), Arc::new(Mutex::new(HashMap::<String, Vec<u8>>::new())));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (lie, kept) = (Arc::clone(&lie), Arc::clone(&kept));
            std::thread::spawn(move || {
                let Some((head, body)) = request(&stream) else { return };
                let path = head.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
                let mut kept = kept.lock().unwrap();
                let answer = if head.starts_with("PUT") {
                    kept.insert(path, body);
                    Some(Vec::new())
                } else if path.ends_with(MINE) || path.ends_with(YOURS) {
                    kept.iter().find(|(path, _)| path.ends_with(MINE)).map(|(_, value)| lie(value))
                } else {
                    kept.get(&path).cloned()
                };
                let status = if answer.is_some() { 200 } else { 404 };
                let value = answer.unwrap_or_default();
                let head =
                    format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", value.len());
                let _ = (&stream).write_all(&[head.as_bytes(), &value].concat());
            });
        }
    });
    address
}

fn request(mut stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let body = end + 4;
            if read.len() >= body + length.map_or(0, |length| length.parse::<usize>().unwrap()) {
                return Some((String::from_utf8_lossy(&read[..end]).into_owned(), read[body..].to_vec()));
            }
        }
        match stream.read(&mut piece).ok()? {
            0 => return None,
            count => read.extend_from_slice(&piece[..count]),
        }
    }
}

/// The plugin moves bytes; the envelope above it knows whose they are.
#[test]
fn under_a_cache_what_a_server_makes_up_is_a_counted_miss() {
    type Lie = fn(&[u8]) -> Vec<u8>;
    let answers: [(&str, Lie); 4] = [
        ("another key's value", |stored| stored.to_vec()),
        ("a page", |_| b"<html><body>Please log in</body></html>".to_vec()),
        ("half a value", |stored| stored[..stored.len() / 2].to_vec()),
        ("a flipped bit", |stored| {
            let mut flipped = stored.to_vec();
            let last = flipped.len() - 1;
            flipped[last] ^= 1;
            flipped
        }),
    ];
    for (what, answer) in answers {
        let server = liar(answer);
        let options = json!({ "url": format!("http://{server}/{{key:hex}}?ttl={{ttl}}") });
        let cache = || {
            let backend = stores::load(artifacts::http_plugin(), &options);
            // Half a minute: a machine that is busy is no outage.
            Cache::builder().backend(backend).deadline(Duration::from_secs(30)).build().unwrap()
        };
        wait(cache().set("mine", "a value that is worth something")).unwrap();
        let reader = cache();
        let asked = if what == "another key's value" { "yours" } else { "mine" };
        assert_eq!(wait(reader.get::<String>(asked)).unwrap(), None, "{what}");
        let refused: u64 = reader.stats().refused.values().sum();
        assert_eq!(refused, 1, "{what}: {:?}", reader.stats().refused);
    }
}

/// The control of the one above: the same server, telling the truth.
#[test]
fn under_a_cache_what_a_server_kept_is_a_value() {
    let server = liar(<[u8]>::to_vec);
    let options = json!({ "url": format!("http://{server}/{{key:hex}}?ttl={{ttl}}") });
    let cache = || {
        let backend = stores::load(artifacts::http_plugin(), &options);
        Cache::builder().backend(backend).deadline(Duration::from_secs(30)).build().unwrap()
    };
    wait(cache().set("mine", "a value")).unwrap();
    let reader = cache();
    assert_eq!(wait(reader.get::<String>("mine")).unwrap().as_deref().map(String::as_str), Some("a value"));
    assert!(reader.stats().refused.is_empty());
}

#[test]
fn an_outage_of_the_server_costs_misses_and_no_errors() {
    let options = json!({ "url": format!("http://127.0.0.1:{}/{{key:hex}}", nobody()) });
    let backend = stores::load(artifacts::http_plugin(), &options);
    let cache = Cache::builder().backend(backend).deadline(Duration::from_secs(30)).build().unwrap();
    let loaded = wait(cache.get_or_load("k", async || "computed".to_owned())).unwrap();
    assert_eq!(*loaded, "computed");
}

#[test]
fn two_instances_with_two_secrets_do_not_meet() {
    let served = Served::start(2, KeyRule::Any);
    let plugin = Plugin::open(artifacts::http_plugin(), &Policy::default()).unwrap();
    let open = |tenant| plugin.create(serve(&served, tenant).to_string().as_bytes(), stores::secrets()).unwrap();
    let (one, two) = (open(0), open(1));
    let (key, cx) = (Key::from_wire(b"k"), Cx::within(Duration::from_secs(20)));
    wait(one.set(key, Bytes::from_static(b"of one"), Ttl::Never, &cx)).unwrap();
    assert_eq!(wait(two.get(key, &cx)).unwrap(), None);
    assert_eq!(wait(one.get(key, &cx)).unwrap().as_deref(), Some(&b"of one"[..]));
}

#[test]
fn options_that_cannot_work_are_refused_by_their_names() {
    let plugin = Plugin::open(artifacts::http_plugin(), &Policy::default()).unwrap();
    for (field, options) in [
        ("url", json!({})),
        ("get.yes", json!({ "url": "https://h/{key:hex}", "get": { "yes": ["200"] } })),
        ("urls", json!({ "urls": "https://h/{key:hex}" })),
        ("retries", json!({ "url": "https://h/{key:hex}", "retries": 6 })),
        ("bearer", json!({ "url": "https://h/{key:hex}", "bearer": "hunter2" })),
    ] {
        let refused = plugin.create(options.to_string().as_bytes(), HostServices::none());
        let error = refused.err().expect("it cannot work");
        let mut told = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            told.push_str(&format!(": {error}"));
            source = error.source();
        }
        assert!(told.contains(field) && !told.contains("hunter2"), "{field}: {told}");
    }
}

/// The whole way of an operator: a configuration file that names the library, and a program that was not rebuilt.
#[test]
fn a_program_caches_through_the_library_that_its_configuration_names() {
    let peer = Peer::start();
    let place = Place::new();
    let mut options = peer::house(peer.port, "by-a-file");
    options["password"] = json!({ "$secret": "env:HTTP_PLUGIN_TEST_PASSWORD" });
    let document = json!({ "tier": [{ "path": artifacts::http_plugin(), "options": options }] });
    let file = place.path().join("cachekit.toml");
    std::fs::write(&file, toml::to_string(&document).unwrap()).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(artifacts::program());
        command.env("HTTP_PLUGIN_TEST_PASSWORD", "pass:word").arg("--config").arg(&file).args(arguments);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), output.stderr)
    };
    let set = run(&["set", "greeting", "hello", "--ttl", "1m"]);
    assert_eq!(set.0, Some(0), "{}", String::from_utf8_lossy(&set.2));
    let (code, found, _) = run(&["get", "greeting"]);
    assert_eq!((code, found.trim_end()), (Some(0), "hello"));
    assert_eq!(run(&["health"]).0, Some(0));
    assert_eq!(run(&["get", "absent"]).0, Some(1));
}
