//! What the options take, refuse and show.

use super::*;

fn refusal(json: &str) -> String {
    match serde_json::from_str::<RedisConfig>(json) {
        Err(error) => error.to_string(),
        Ok(config) => config.check().unwrap_err(),
    }
}

#[test]
fn nothing_given_means_the_defaults_and_they_pass() {
    let config: RedisConfig = serde_json::from_str("{}").unwrap();
    assert_eq!(config, RedisConfig::default());
    config.check().unwrap();
    assert_eq!(config.connections(), 1);
}

#[test]
fn every_refusal_names_its_field() {
    for (field, json) in [
        ("url", r#"{"url": "redis:localhost:6379"}"#),
        ("url", r#"{"url": "redis/localhost:6379"}"#),
        ("url", r#"{"url": 7}"#),
        ("db", r#"{"db": -1}"#),
        ("db", r#"{"db": 1, "url": "redis://localhost/2"}"#),
        ("db", r#"{"db": 1, "url": "redis+cluster://a,b"}"#),
        ("username", r#"{"username": "u", "url": "redis://a:b@localhost"}"#),
        ("password", r#"{"password": {"$secret": "env:X"}, "url": "redis://:b@localhost"}"#),
        ("$secret", r#"{"password": "hunter2"}"#),
        ("ca_file", r#"{"ca_file": "ca.pem", "url": "rediss://localhost"}"#),
        ("ca_file", r#"{"ca_file": "/ca.pem"}"#),
        ("sentinel_password", r#"{"sentinel_password": {"$secret": "env:X"}}"#),
        ("connections", r#"{"connections": 0}"#),
        ("connections", r#"{"connections": 65}"#),
        ("connection_pool_size", r#"{"connection_pool_size": 0}"#),
        ("connection_pool_size", r#"{"connection_pool_size": 1.5}"#),
        ("socket_timeout", r#"{"socket_timeout": 0}"#),
        ("socket_timeout", r#"{"socket_timeout": -1}"#),
        ("socket_timeout", r#"{"socket_timeout": "soon"}"#),
        ("socket_connect_timeout", r#"{"socket_connect_timeout": 0}"#),
        ("socket_keepalive", r#"{"socket_keepalive": "yes"}"#),
        ("tenant", r#"{"tenant": "a", "key_prefix": "b"}"#),
        ("tenant", r#"{"tenant": ["a"]}"#),
        ("ttl", r#"{"ttl": 60}"#),
        ("ttl_offset", r#"{"ttl_offset": 1.5}"#),
        ("ttl_offset", r#"{"ttl_offset": 99999999999}"#),
        ("max_value", r#"{"max_value": 0}"#),
        ("max_value", r#"{"max_value": 536870913}"#),
        ("redis_uri", r#"{"redis_uri": "redis://localhost"}"#),
    ] {
        let refusal = refusal(json);
        assert!(refusal.contains(field), "{json}: {refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}

#[test]
fn a_password_is_never_shown() {
    for url in [
        "redis://user:hunter2@host:1/0",
        "redis://:hunter2@host",
        "redis+sentinel://u:hunter2@s/m",
        // Wrong ones as well.
        "redis://user:hunter2@host:notaport",
        "redis://hunter2@host",
        "redis:user:hunter2@host",
        "redis://user:hunter2@host/db",
        "redis://user:hunter2@host?x=1",
    ] {
        let config = RedisConfig::new(url);
        let shown = format!("{config:?} {:?}", config.check());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_pool_of_the_family_becomes_few_connections() {
    for (json, connections) in [
        (r#"{"connection_pool_size": 1}"#, 1),
        (r#"{"connection_pool_size": 10}"#, 1),
        (r#"{"connection_pool_size": 25}"#, 3),
        (r#"{"connection_pool_size": 50}"#, 5),
        (r#"{"connection_pool_size": 4000000000}"#, 64),
        (r#"{"connection_pool_size": 50, "connections": 2}"#, 2),
    ] {
        let config: RedisConfig = serde_json::from_str(json).unwrap();
        config.check().unwrap();
        assert_eq!(config.connections(), connections, "{json}");
    }
}

#[test]
fn options_of_a_url_arrive_as_numbers_where_text_is_meant() {
    let config: RedisConfig = serde_json::from_str(r#"{"tenant": 42}"#).unwrap();
    assert_eq!(config.prefix(), b"t:42:");
    let config: RedisConfig = serde_json::from_str(r#"{"redis_url": "redis://elsewhere"}"#).unwrap();
    assert_eq!(config.url, "redis://elsewhere");
}

#[test]
fn the_schema_shows_the_ranges() {
    let schema = schemars::schema_for!(RedisConfig).to_value();
    assert_eq!(schema["properties"]["connections"]["maximum"], 64);
    assert_eq!(schema["additionalProperties"], false);
    // The other name of an option is one, too: hosts refuse what the schema does not know.
    assert_eq!(schema["properties"]["redis_url"]["type"], "string");
}
