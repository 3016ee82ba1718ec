//! The recordings of the family's Python client (`saas_http.json`): requests byte for byte, outcomes by their meaning.
//!
//! Where this client differs on purpose, [`DIFFERENCES`] says so, and the test holds the difference as well.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use cachekit_plugin::{Backend, Bytes, Cx, Deadline, Expiry, Freshness, Key, Kind, Locks, Ttl};
use serde_json::{Value as Json, json};

use super::server::{Request, Server, Step, reply};
use super::stub::{self, Host};
use crate::backend::CachekitIoBackend;
use crate::config::CachekitIoConfig;
use crate::freshness;
use crate::path;

/// Recordings with another outcome here, and why.
const DIFFERENCES: [(&str, &str); 5] = [
    ("get_408", "408 asks for the same request again, so it may pass; the family's Rust client says so too"),
    ("set_ttl_0_sent_as_0", "a life of 0 does not exist in the contract of backends"),
    ("delete_404_is_error", "what is not there is not removed: false, no error"),
    ("ttl_get_null", "an entry without an end and no entry are two answers; Python has one for both"),
    ("lock_contended_then_won", "asking again until a lease is free is the caller's part"),
];

fn recordings() -> Json {
    serde_json::from_str(include_str!("../../tests/vectors/saas_http.json")).unwrap()
}

fn list<'a>(of: &'a Json, name: &str) -> &'a Vec<Json> {
    of[name].as_array().unwrap()
}

fn cx() -> Cx<'static> {
    Cx::new(Deadline::after(std::time::Duration::from_secs(60)))
}

/// The scripted answers of one recording; a transport failure becomes what a socket can show of it.
fn script(responses: &[Json]) -> Vec<Vec<Step>> {
    let answer = |response: &Json| match response.as_str() {
        None => {
            let headers: Vec<(String, Vec<u8>)> = response["headers"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().as_bytes().to_vec()))
                .collect();
            let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            let body: Vec<u8> = response["body"].as_str().unwrap().chars().map(|c| c as u8).collect();
            reply(response["status"].as_u64().unwrap() as u16, &headers, &body)
        }
        Some("ConnectTimeoutError" | "ReadTimeoutError") => vec![Step::Hang],
        Some("ProtocolError") => vec![Step::Send(b"garbage\r\n\r\n".to_vec()), Step::Close],
        Some(_) => vec![Step::Close],
    };
    responses.iter().map(answer).collect()
}

/// The call that a recording is of, named by it and by its first request.
async fn call(backend: &CachekitIoBackend, name: &str, request: &Json) -> Result<Json, cachekit_plugin::BackendError> {
    let (key, cx) = (Key::from_wire(b"users:get_user:abc"), cx());
    let method = request["method"].as_str().unwrap();
    let place = request["url"].as_str().unwrap();
    let header = |name: &str| request["headers"][name].as_str().map(|text| text.parse::<u64>().unwrap());
    let body = unhex(request["body_hex"].as_str().unwrap_or_default());
    let number = |field: &str| serde_json::from_slice::<Json>(&body).unwrap()[field].as_u64().unwrap();
    Ok(match (method, place.rsplit('/').next().unwrap()) {
        ("GET", "health") => json!(backend.health(&cx).await?.healthy),
        ("GET", "ttl") => match Expiry::ttl(backend, key, &cx).await? {
            None => Json::Null,
            Some(Ttl::Never) => json!("never"),
            Some(Ttl::Ms(ms)) => json!(ms.get() / 1000),
        },
        ("PATCH", _) => json!(backend.touch(key, Ttl::from_ms(number("ttl") * 1000).unwrap(), &cx).await?),
        ("POST", _) => {
            let held = backend.lock(key, b"token", number("timeout_ms"), &cx).await?;
            if held && name == "lock_acquire_release" {
                assert!(backend.unlock(key, b"token", &cx).await?);
            }
            json!(held)
        }
        ("GET", _) if name.starts_with("fresh") => match backend.get_dated(key, &cx).await? {
            None => Json::Null,
            Some(dated) => json!([hex(&dated.value), dated.stale, dated.fresh_for_ms.map(|ms| ms / 1000)]),
        },
        ("GET", _) => backend.get(key, &cx).await?.map_or(Json::Null, |value| json!(hex(&value))),
        ("HEAD", _) => json!(backend.exists(key, &cx).await?),
        ("DELETE", _) => json!(backend.delete(key, &cx).await?),
        ("PUT", _) => {
            let ms = |seconds: u64| if name.contains("fraction") { seconds * 1000 - 900 } else { seconds * 1000 };
            let ttl = header("X-CacheKit-TTL").and_then(|seconds| Ttl::from_ms(ms(seconds))).unwrap_or(Ttl::Never);
            let stale = header("X-CacheKit-Stale-TTL").unwrap_or(if name.contains("stale") { 30 } else { 0 });
            match NonZeroU64::new(stale * 1000) {
                Some(stale) => backend.set_stale(key, Bytes::from(body), ttl, stale, &cx).await?,
                None => backend.set(key, Bytes::from(body), ttl, &cx).await?,
            }
            Json::Null
        }
        other => panic!("{name}: {other:?} is no call of ours"),
    })
}

/// The kind that a recorded type of error means.
fn meant(error_type: &str) -> &'static [Kind] {
    match error_type {
        "transient" => &[Kind::Transient, Kind::Throttled],
        "timeout" => &[Kind::Timeout],
        "authentication" => &[Kind::Auth],
        "permanent" => &[Kind::Internal, Kind::Config, Kind::TooLarge, Kind::Unsupported],
        // Redirects and causes without a name of their own there; the Rust client calls them permanent and transient.
        "unknown" => &[Kind::Config, Kind::Transient],
        other => panic!("no such type: {other}"),
    }
}

/// Names in lower case, without those that the transport adds on its own and the one that says who we are.
fn told(request: &Request) -> Vec<(String, String)> {
    let transport = ["host", "accept", "accept-encoding", "content-length", "user-agent"];
    let mut told: Vec<_> = request.headers.iter().filter(|(name, _)| !transport.contains(&&**name)).cloned().collect();
    told.sort();
    told
}

#[tokio::test]
async fn the_recorded_exchanges_are_repeated() {
    let (mut same, mut different) = (0, Vec::new());
    for recording in list(&recordings(), "exchanges") {
        let name = recording["name"].as_str().unwrap();
        let answers = Mutex::new(script(list(recording, "responses")).into_iter());
        let server = Server::plain(move |_, _| answers.lock().unwrap().next().unwrap_or(vec![Step::Close])).await;
        // A refused connection needs a port where nobody is.
        let port = if name == "transport_new_connection" { free_port() } else { server.port() };
        let config = stub::plain(port).with_timeout(if name.contains("timeout") { 0.2 } else { 30.0 });
        let (backend, pauses) = stub::open_with(&config, Host::default(), stub::nowhere()).unwrap();
        let asked = list(recording, "requests");
        let outcome = call(&backend, name, &asked[0]).await;
        let sent = server.requests();
        let slept: Vec<u64> = pauses.lock().unwrap().iter().map(std::time::Duration::as_secs).collect();
        if let Some((_, reason)) = DIFFERENCES.iter().find(|(known, _)| *known == name) {
            let as_said = match name {
                "get_408" => outcome.unwrap_err().kind() == Kind::Transient,
                "set_ttl_0_sent_as_0" => sent[0].header("x-cachekit-ttl").is_none(),
                "delete_404_is_error" => outcome.unwrap() == json!(false),
                "ttl_get_null" => outcome.unwrap() == json!("never"),
                "lock_contended_then_won" => outcome.unwrap() == json!(false) && sent.len() == 1,
                _ => false,
            };
            assert!(as_said, "{name} no longer differs as it is said to: {reason}");
            different.push(name.to_owned());
            continue;
        }
        match (&recording["error"]["error_type"], outcome) {
            (Json::Null, Ok(result)) => {
                // On a wire nobody can tell `fresh` and `fresh ` apart; `the_headers_of_age_mean_what_was_recorded` does.
                let trimmed = name == "freshness_'fresh '";
                let wanted = if trimmed { &json!(["76", false, null]) } else { &recording["result"] };
                assert_eq!(&result, wanted, "{name}");
            }
            (Json::String(error_type), Err(error)) => {
                assert!(meant(error_type).contains(&error.kind()), "{name}: {error_type}, but {error}");
            }
            (wanted, got) => panic!("{name}: wanted {wanted}, got {got:?}"),
        }
        if name == "transport_new_connection" {
            same += 1;
            continue;
        }
        assert_eq!(sent.len(), asked.len(), "{name}");
        for (sent, asked) in sent.iter().zip(asked) {
            assert_eq!(json!([sent.method, sent.path]), json!([asked["method"], asked["url"]]), "{name}");
            let body = asked["body_hex"].as_str().unwrap_or_default();
            assert_eq!(hex(&sent.body), body, "{name}");
            let mut wanted: Vec<(String, String)> = asked["headers"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().unwrap().to_owned()))
                .collect();
            wanted.sort();
            assert_eq!(told(sent), wanted, "{name}");
            assert!(sent.header("user-agent").unwrap().starts_with("cachekit-cachekitio/"), "{name}");
        }
        let wanted: Vec<u64> = list(recording, "sleeps").iter().map(|sleep| sleep.as_f64().unwrap() as u64).collect();
        assert_eq!(slept, wanted, "{name}");
        same += 1;
    }
    println!("saas_http exchanges: {same} as recorded, {} different on purpose: {different:?}", different.len());
    assert_eq!((same, different.len()), (68, DIFFERENCES.len()));
}

#[test]
fn the_headers_of_age_mean_what_was_recorded() {
    let mut seen = 0;
    for recording in list(&recordings(), "exchanges") {
        let name = recording["name"].as_str().unwrap();
        if !name.starts_with("fresh") {
            continue;
        }
        let headers: http::HeaderMap = recording["responses"][0]["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| {
                let value = http::HeaderValue::from_bytes(value.as_str().unwrap().as_bytes()).unwrap();
                (name.parse::<http::HeaderName>().unwrap(), value)
            })
            .collect();
        let (stale, seconds) = (freshness::is_stale(&headers), freshness::fresh_for_ms(&headers).map(|ms| ms / 1000));
        assert_eq!(json!([stale, seconds]), json!([recording["result"][1], recording["result"][2]]), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 16);
}

#[test]
fn the_recorded_keys_have_the_recorded_paths() {
    let recordings = recordings();
    let mut refused = 0;
    for recording in list(&recordings, "key_paths") {
        let key = recording["key"].as_str().unwrap();
        match path::segment(key.as_bytes()) {
            Ok(segment) => assert_eq!(format!("/v1/cache/{segment}"), recording["path"], "{key:?}"),
            Err(error) => {
                assert!(recording["error"].is_object(), "{key:?}: {error}");
                refused += 1;
            }
        }
    }
    assert_eq!((list(&recordings, "key_paths").len(), refused), (19, 6));
}

#[test]
fn the_recorded_urls_are_taken_and_refused() {
    let recordings = recordings();
    for recording in list(&recordings, "url_rules") {
        let url = recording["url"].as_str().unwrap();
        let config = CachekitIoConfig::new("env:KEY")
            .with_api_url(url)
            .with_allow_custom_host(recording["allow_custom_host"].as_bool().unwrap());
        assert_eq!(config.check().is_ok(), recording["ok"], "{url}: {:?}", config.check());
    }
    assert_eq!(list(&recordings, "url_rules").len(), 32);
}

#[test]
fn the_recorded_api_keys_are_taken_and_refused() {
    let recordings = recordings();
    for recording in list(&recordings, "api_key_rules") {
        let api_key = recording["api_key"].as_str().unwrap();
        let host = Host { api_key: Some(api_key.to_owned()), ..Host::default() };
        let opened = stub::open_with(&stub::plain(1), host, Arc::new(|_| Ok(Vec::new())));
        assert_eq!(opened.is_ok(), recording["ok"], "{api_key:?}");
    }
    assert_eq!(list(&recordings, "api_key_rules").len(), 8);
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}
