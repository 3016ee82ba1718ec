//! Locks: one holder at a time, and only the holder gives back.

use crate::fixture::{Fixture, KEY, OTHER_KEY, read};

async fn lock(fixture: &Fixture, api_key: &str, key: &str) -> Option<String> {
    let url = fixture.url(&format!("/v1/cache/{key}/lock"));
    let request = fixture.client.post(url).bearer_auth(api_key).header("Content-Type", "application/json");
    let (status, document) = read(request.body(r#"{"timeout_ms": 30000}"#).send().await.unwrap()).await;
    assert_eq!(status, 200, "{document}");
    document["lock_id"].as_str().map(str::to_owned)
}

async fn unlock(fixture: &Fixture, key: &str, id: &str) -> u16 {
    let request = fixture.request("DELETE", &format!("/v1/cache/{key}/lock")).header("X-CacheKit-Lock-Id", id);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_lock_has_one_holder_until_it_is_given_back() {
    let fixture = Fixture::start().await;
    let id = lock(&fixture, KEY, "k").await.unwrap();
    assert_eq!(lock(&fixture, KEY, "k").await, None);
    assert!(lock(&fixture, KEY, "another").await.is_some());
    assert_eq!(unlock(&fixture, "k", "somebody-else").await, 404);
    assert_eq!(lock(&fixture, KEY, "k").await, None);
    assert_eq!(unlock(&fixture, "k", &id).await, 204);
    let next = lock(&fixture, KEY, "k").await.unwrap();
    assert_ne!(next, id);
    assert_eq!(unlock(&fixture, "k", &id).await, 404);
}

#[tokio::test]
async fn a_lock_ends_with_its_time() {
    let fixture = Fixture::start().await;
    lock(&fixture, KEY, "k").await.unwrap();
    fixture.advance(31);
    assert!(lock(&fixture, KEY, "k").await.is_some());
}

#[tokio::test]
async fn tenants_do_not_meet_at_a_lock() {
    let fixture = Fixture::start().await;
    let ours = lock(&fixture, KEY, "k").await.unwrap();
    assert!(lock(&fixture, OTHER_KEY, "k").await.is_some());
    assert_eq!(unlock(&fixture, "k", &ours).await, 204);
}

#[tokio::test]
async fn a_lock_is_beside_the_entry_of_its_key() {
    let fixture = Fixture::start().await;
    lock(&fixture, KEY, "k").await.unwrap();
    assert_eq!(fixture.get("k").await.status(), 404);
    assert_eq!(fixture.put("k", "value").await.status(), 204);
    assert_eq!(lock(&fixture, KEY, "k").await, None);
}

#[tokio::test]
async fn what_is_no_request_for_a_lock_is_400() {
    let fixture = Fixture::start().await;
    for body in ["", "{}", r#"{"timeout_ms": 0}"#, r#"{"timeout_ms": -1}"#, r#"{"timeout_ms": 3600001}"#, "null"] {
        assert_eq!(fixture.json("POST", "/v1/cache/k/lock", body).await.0, 400, "{body}");
    }
    assert_eq!(fixture.status("DELETE", "/v1/cache/k/lock").await, 400);
    assert_eq!(unlock(&fixture, "k", &"x".repeat(129)).await, 400);
}
