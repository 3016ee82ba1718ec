//! Lives, stale windows and what the answers say of them.

use crate::fixture::{Fixture, header};

async fn age(fixture: &Fixture, key: &str) -> (u16, Option<String>, Option<String>) {
    let response = fixture.get(key).await;
    let said = |name| header(&response, name);
    (response.status().as_u16(), said("x-cachekit-freshness"), said("x-cachekit-fresh-for"))
}

fn fresh(seconds: &str) -> (u16, Option<String>, Option<String>) {
    (200, Some("fresh".into()), Some(seconds.into()))
}

fn stale() -> (u16, Option<String>, Option<String>) {
    (200, Some("stale".into()), Some("0".into()))
}

const GONE: (u16, Option<String>, Option<String>) = (404, None, None);

#[tokio::test]
async fn an_entry_is_fresh_then_stale_then_gone() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.put_for("k", "60", "30").await, 204);
    assert_eq!(age(&fixture, "k").await, fresh("60"));
    fixture.advance(59);
    assert_eq!(age(&fixture, "k").await, fresh("1"));
    fixture.advance(1);
    assert_eq!(age(&fixture, "k").await, stale());
    assert_eq!(fixture.json("GET", "/v1/cache/k/ttl", "").await, (200, serde_json::json!({"ttl": 0})));
    fixture.advance(29);
    assert_eq!(age(&fixture, "k").await, stale());
    fixture.advance(1);
    assert_eq!(age(&fixture, "k").await, GONE);
    assert_eq!(fixture.status("GET", "/v1/cache/k/ttl").await, 404);
}

#[tokio::test]
async fn without_a_window_an_entry_goes_at_once() {
    let fixture = Fixture::start().await;
    fixture.put_for("k", "60", "").await;
    fixture.advance(60);
    assert_eq!(age(&fixture, "k").await, GONE);
}

#[tokio::test]
async fn no_life_and_a_life_of_zero_are_no_end() {
    let fixture = Fixture::start().await;
    fixture.put("none", "value").await;
    fixture.put_for("zero", "0", "").await;
    fixture.advance(10 * 365 * 86_400);
    for key in ["none", "zero"] {
        assert_eq!(age(&fixture, key).await, (200, Some("fresh".into()), None), "{key}");
        let ttl = fixture.json("GET", &format!("/v1/cache/{key}/ttl"), "").await;
        assert_eq!(ttl, (200, serde_json::json!({"ttl": null})));
    }
}

#[tokio::test]
async fn the_operator_may_set_another_life_for_entries_without_one() {
    let fixture = Fixture::with(|builder| builder.default_ttl(300)).await;
    fixture.put("none", "value").await;
    fixture.put_for("zero", "0", "").await;
    assert_eq!(age(&fixture, "none").await, fresh("300"));
    fixture.advance(300);
    assert_eq!(age(&fixture, "none").await, GONE);
    assert_eq!(age(&fixture, "zero").await.0, 200);
}

#[tokio::test]
async fn lives_that_make_no_sense_are_400() {
    let fixture = Fixture::start().await;
    for (ttl, stale) in [("-1", ""), ("1.5", ""), ("x", ""), ("2592001", ""), ("2592000", "1"), ("0", "30"), ("1", "x")]
    {
        assert_eq!(fixture.put_for("k", ttl, stale).await, 400, "{ttl:?} {stale:?}");
    }
    assert_eq!(fixture.put_for("k", "2592000", "").await, 204);
    assert_eq!(age(&fixture, "k").await, fresh("2592000"));
}

#[tokio::test]
async fn patch_begins_a_new_life_and_keeps_the_window() {
    let fixture = Fixture::start().await;
    fixture.put_for("k", "60", "30").await;
    fixture.advance(70);
    assert_eq!(age(&fixture, "k").await, stale());
    assert_eq!(fixture.json("PATCH", "/v1/cache/k/ttl", r#"{"ttl": 100}"#).await.0, 204);
    assert_eq!(age(&fixture, "k").await, fresh("100"));
    fixture.advance(100);
    assert_eq!(age(&fixture, "k").await, stale());
    fixture.advance(30);
    assert_eq!(age(&fixture, "k").await, GONE);
    assert_eq!(fixture.json("PATCH", "/v1/cache/k/ttl", r#"{"ttl": 100}"#).await.0, 404);
}

#[tokio::test]
async fn patch_can_take_the_end_away() {
    let fixture = Fixture::start().await;
    for (key, body) in [("zero", r#"{"ttl": 0}"#), ("null", r#"{"ttl": null}"#)] {
        fixture.put_for(key, "60", "").await;
        assert_eq!(fixture.json("PATCH", &format!("/v1/cache/{key}/ttl"), body).await.0, 204);
    }
    fixture.advance(1_000_000);
    for key in ["zero", "null"] {
        assert_eq!(fixture.get(key).await.text().await.unwrap(), "value", "{key}");
    }
}

#[tokio::test]
async fn patch_refuses_what_it_cannot_read() {
    let fixture = Fixture::start().await;
    fixture.put_for("k", "60", "30").await;
    let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    for body in [
        "",
        "{",
        "[]",
        "{}x",
        r#"{"ttl": "60"}"#,
        r#"{"ttl": -1}"#,
        r#"{"ttl": 1.5}"#,
        r#"{"tll": 1}"#,
        &deep,
        r#"{"ttl": 2592001}"#,
        r#"{"ttl": 2592000}"#,
        r#"{"ttl": 99999999999999999999}"#,
    ] {
        assert_eq!(fixture.json("PATCH", "/v1/cache/k/ttl", body).await.0, 400, "{body}");
    }
    assert_eq!(fixture.json("PATCH", "/v1/cache/k/ttl", &" ".repeat(5000)).await.0, 413);
    assert_eq!(age(&fixture, "k").await, fresh("60"));
}
