//! Who may do what: keys, tenants, metrics.

use crate::fixture::{Fixture, KEY, METRICS_KEY, OTHER_KEY, header, read};

#[tokio::test]
async fn without_a_known_key_nothing_is_answered_but_401() {
    let fixture = Fixture::start().await;
    fixture.put("k", "value").await;
    let almost = &KEY[..KEY.len() - 1];
    let wrong = ["", "Bearer", &format!("Basic {KEY}"), &format!("Bearer {almost}"), &format!("Bearer {KEY}x"), KEY]
        .map(str::to_owned);
    for (method, path) in [
        ("GET", "/v1/cache/k"),
        ("HEAD", "/v1/cache/k"),
        ("PUT", "/v1/cache/k"),
        ("DELETE", "/v1/cache/k"),
        ("GET", "/v1/cache/k/ttl"),
        ("PATCH", "/v1/cache/k/ttl"),
        ("POST", "/v1/cache/k/lock"),
        ("DELETE", "/v1/cache/k/lock"),
        ("GET", "/v1/cache/health"),
        ("GET", "/metrics"),
    ] {
        let bare = || fixture.client.request(method.parse().unwrap(), fixture.url(path));
        let response = bare().send().await.unwrap();
        assert_eq!(
            header(&response, "www-authenticate").as_deref(),
            Some("Bearer realm=\"cachekit\""),
            "{method} {path}"
        );
        assert_eq!(response.status(), 401, "{method} {path}");
        for value in &wrong {
            let status = bare().header("Authorization", value).send().await.unwrap().status();
            assert_eq!(status, 401, "{method} {path} {value:?}");
        }
    }
    assert_eq!(fixture.get("k").await.text().await.unwrap(), "value");
}

#[tokio::test]
async fn tenants_do_not_see_each_other_whatever_they_call_their_keys() {
    let fixture = Fixture::with(|builder| builder.key_rule(cachekit_serve::KeyRule::Any)).await;
    let theirs = |method: &str, key: &str| {
        let path = fixture.url(&format!("/v1/cache/{key}"));
        fixture.client.request(method.parse().unwrap(), path).bearer_auth(OTHER_KEY)
    };
    fixture.put("k", "ours").await;
    fixture.put("ours:k", "ours, with a prefix").await;
    for hostile in [
        "k",
        "ours:k",
        "..%2Fours:k",
        "..%2F..%2Fcks%3Aours%3Ak",
        "cks:ours:k",
        "%3Aours%3Ak",
        "k%00",
        "%00k",
        "k%0d%0aX-CacheKit-Deleted:true",
        "*",
        "ours%3A%2A",
        "%23",
        "k%20",
        "K",
    ] {
        assert_eq!(theirs("GET", hostile).send().await.unwrap().status(), 404, "{hostile}");
        let deleted = theirs("DELETE", hostile).send().await.unwrap();
        assert_eq!(header(&deleted, "x-cachekit-deleted").as_deref(), Some("false"), "{hostile}");
        assert_eq!(theirs("PUT", hostile).body("theirs").send().await.unwrap().status(), 204, "{hostile}");
        assert_eq!(theirs("GET", hostile).send().await.unwrap().text().await.unwrap(), "theirs");
    }
    assert_eq!(fixture.get("k").await.text().await.unwrap(), "ours");
    assert_eq!(fixture.get("ours:k").await.text().await.unwrap(), "ours, with a prefix");
}

#[tokio::test]
async fn metrics_are_for_their_own_key_and_that_key_opens_nothing_else() {
    let fixture = Fixture::start().await;
    fixture.put("canary-key", "canary-value").await;
    fixture.get("canary-key").await;
    fixture.get("absent").await;
    let page = |key: &'static str| fixture.client.get(fixture.url("/metrics")).bearer_auth(key).send();
    assert_eq!(page(KEY).await.unwrap().status(), 403);
    let response = page(METRICS_KEY).await.unwrap();
    assert_eq!(header(&response, "content-type").as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = response.text().await.unwrap();
    for line in [
        r#"cachekit_serve_requests_total{operation="get",status="2xx"} 1"#,
        r#"cachekit_serve_requests_total{operation="get",status="4xx"} 1"#,
        r#"cachekit_serve_requests_total{operation="put",status="2xx"} 1"#,
        r#"cachekit_serve_requests_total{operation="metrics",status="4xx"} 1"#,
        "cachekit_serve_hits_total 1",
        "cachekit_serve_misses_total 1",
        "cachekit_serve_received_value_bytes_total 12",
        "cachekit_serve_sent_value_bytes_total 12",
        "cachekit_serve_requests_in_flight 0",
        "cachekit_serve_buffered_bytes 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for secret in ["canary", "ours", "others", KEY, OTHER_KEY, METRICS_KEY] {
        assert!(!text.contains(secret), "{secret}");
    }
    let (status, document) =
        read(fixture.client.get(fixture.url("/v1/cache/k")).bearer_auth(METRICS_KEY).send().await.unwrap()).await;
    assert_eq!((status, &document["error"]["kind"]), (403, &"auth".into()));
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_or_name_does_not_connect() {
    let fixture = Fixture::start().await;
    let stranger = crate::fixture::client(&cachekit_test_servers::certificates::Authority::new());
    assert!(stranger.get(fixture.url("/healthz")).send().await.is_err());
    let expired = fixture.authority.expired(&["127.0.0.1"]);
    let (cert, key) = crate::fixture::pem(&expired);
    let other = Fixture::with(|builder| builder.tls(cert, key)).await;
    assert!(fixture.client.get(other.url("/healthz")).send().await.is_err());
    // The client is not to blame.
    assert_eq!(fixture.client.get(fixture.url("/healthz")).send().await.unwrap().status(), 200);
}
