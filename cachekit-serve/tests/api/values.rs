//! GET, HEAD, PUT, DELETE, health: what each answers.

use cachekit_plugin::{Backend, Cx, Key, Ttl};

use crate::fixture::{Fixture, client_speaking, header, read};

#[tokio::test]
async fn a_value_comes_back_byte_for_byte_over_both_versions_of_http() {
    let fixture = Fixture::start().await;
    let value: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    assert_eq!(fixture.put("users%3Aget_user%3Aabc", value.clone()).await.status(), 204);
    for (protocol, version) in [(&b"h2"[..], reqwest::Version::HTTP_2), (b"http/1.1", reqwest::Version::HTTP_11)] {
        let client = client_speaking(&fixture.authority, &[protocol]);
        let request = client.get(fixture.url("/v1/cache/users%3Aget_user%3Aabc")).bearer_auth(crate::fixture::KEY);
        let response = request.send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, version));
        assert_eq!(header(&response, "content-type").as_deref(), Some("application/octet-stream"));
        assert_eq!(header(&response, "content-length").as_deref(), Some("1000000"));
        assert_eq!(header(&response, "cache-control").as_deref(), Some("no-store"));
        assert!(response.bytes().await.unwrap() == value);
    }
}

#[tokio::test]
async fn an_empty_value_is_a_value_and_a_miss_is_404() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.put("k", "").await.status(), 204);
    let response = fixture.get("k").await;
    assert_eq!((response.status().as_u16(), response.bytes().await.unwrap().len()), (200, 0));
    let (status, document) = read(fixture.get("absent").await).await;
    assert_eq!((status, &document["error"]["kind"]), (404, &"miss".into()));
}

#[tokio::test]
async fn a_newer_value_replaces_the_older() {
    let fixture = Fixture::start().await;
    for value in ["one", "two"] {
        fixture.put("k", value).await;
        assert_eq!(fixture.get("k").await.text().await.unwrap(), value);
    }
}

#[tokio::test]
async fn head_says_what_get_would_and_carries_no_body() {
    let fixture = Fixture::start().await;
    fixture.put("k", "value").await;
    let response = fixture.request("HEAD", "/v1/cache/k").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-length").as_deref(), Some("5"));
    assert_eq!(header(&response, "x-cachekit-freshness").as_deref(), Some("fresh"));
    assert!(response.bytes().await.unwrap().is_empty());
    assert_eq!(fixture.status("HEAD", "/v1/cache/absent").await, 404);
}

#[tokio::test]
async fn delete_is_a_success_either_way_and_says_whether_there_was_anything() {
    let fixture = Fixture::start().await;
    fixture.put("k", "value").await;
    for said in ["true", "false"] {
        let response = fixture.request("DELETE", "/v1/cache/k").send().await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "x-cachekit-deleted").as_deref()), (204, Some(said)));
    }
    assert_eq!(fixture.get("k").await.status(), 404);
}

#[tokio::test]
async fn health_is_a_round_trip_through_the_store() {
    let fixture = Fixture::start().await;
    let (status, document) = read(fixture.request("GET", "/v1/cache/health").send().await.unwrap()).await;
    assert_eq!(status, 200, "{document}");
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&document["status"], &document["backend"]), (&"ok".into(), &"memory".into()));
    // Alive even without a store, and without a key.
    fixture.memory.set_outage(true);
    assert_eq!(fixture.status("GET", "/v1/cache/health").await, 503);
    assert_eq!(fixture.client.get(fixture.url("/healthz")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_served_are_said_to_be_so() {
    let fixture = Fixture::start().await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/cache", 404),
        ("GET", "/v1/cache/", 404),
        ("GET", "/v2/cache/k", 404),
        ("GET", "/v1/cache/k/other", 404),
        ("GET", "/v1/cache/a/b/c", 404),
        ("POST", "/v1/cache/k", 405),
        ("PUT", "/v1/cache/health", 405),
        ("GET", "/v1/cache/k/lock", 405),
        ("PUT", "/v1/cache/k/ttl", 405),
    ] {
        assert_eq!(fixture.status(method, path).await, status, "{method} {path}");
    }
}

#[tokio::test]
async fn reserved_segments_are_refused_however_they_are_spelt() {
    let fixture = Fixture::start().await;
    for segment in ["ttl", "lock", "%68ealth", "%2e%2e", "%2E", "a%2Fb", "a%20b", "a..b", "%00", "%zz", "%c3%28"] {
        for (method, below) in [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/ttl"), ("POST", "/lock")] {
            let path = format!("/v1/cache/{segment}{below}");
            let (status, document) = read(fixture.request(method, &path).send().await.unwrap()).await;
            // The client resolves dots as a browser does; what arrives then is another path.
            let resolved = reqwest::Url::parse(&fixture.url(&path)).unwrap().path() != path;
            assert!(
                resolved || (status, &document["error"]["kind"]) == (400, &"key".into()),
                "{method} {path}: {status}"
            );
        }
    }
    assert_eq!(fixture.status("GET", "/v1/cache/health/ttl").await, 400);
    assert_eq!(fixture.put(&"k".repeat(400), "v").await.status(), 204);
    assert_eq!(fixture.put(&"k".repeat(401), "v").await.status(), 400);
}

#[tokio::test]
async fn a_key_is_decoded_once_and_may_be_any_bytes_where_the_operator_says_so() {
    let fixture = Fixture::with(|builder| builder.key_rule(cachekit_serve::KeyRule::Any)).await;
    let keys = ["a%2541", "aA", "a%41%41", "%00", "%ff%fe", "a%2Fb", "a%20b", "z%C5%BC", "%23k", "..."];
    for key in keys {
        assert_eq!(fixture.put(key, key).await.status(), 204, "{key}");
    }
    for key in keys {
        assert_eq!(fixture.get(key).await.text().await.unwrap(), key);
    }
    // Two spellings of one key.
    assert_eq!(fixture.get("%61A").await.text().await.unwrap(), "aA");
}

#[tokio::test]
async fn media_types_that_would_change_a_value_are_415() {
    let fixture = Fixture::start().await;
    for (name, value, status) in [
        ("Content-Type", "application/octet-stream", 204),
        ("Content-Type", "Application/Octet-Stream; x=y", 204),
        ("Content-Type", "application/x-www-form-urlencoded", 415),
        ("Content-Type", "text/plain", 415),
        ("Content-Encoding", "identity", 204),
        ("Content-Encoding", "gzip", 415),
    ] {
        let request = fixture.request("PUT", "/v1/cache/k").header(name, value).body("value");
        assert_eq!(request.send().await.unwrap().status(), status, "{name}: {value}");
    }
    let request = fixture.request("PATCH", "/v1/cache/k/ttl").header("Content-Type", "text/plain").body(r#"{"ttl":1}"#);
    assert_eq!(request.send().await.unwrap().status(), 415);
}

#[tokio::test]
async fn stored_bytes_that_are_no_entry_of_the_key_are_a_miss_and_counted() {
    let fixture = Fixture::start().await;
    fixture.put("a", "value of a").await;
    let cx = Cx::within(std::time::Duration::from_secs(5));
    let of_a = fixture.memory.get(Key::from_wire(b"cks:ours:a"), &cx).await.unwrap().unwrap();
    for (name, bytes) in [(&b"cks:ours:b"[..], of_a), (b"cks:ours:c", "written past the server".into())] {
        fixture.memory.set(Key::from_wire(name), bytes, Ttl::Never, &cx).await.unwrap();
    }
    for key in ["b", "c"] {
        assert_eq!(fixture.get(key).await.status(), 404, "{key}");
        assert_eq!(fixture.status("GET", &format!("/v1/cache/{key}/ttl")).await, 404, "{key}");
    }
    assert!(fixture.server.metrics().contains("cachekit_serve_refused_entries_total 4\n"));
    assert_eq!(fixture.get("a").await.text().await.unwrap(), "value of a");
}
