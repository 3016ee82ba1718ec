//! What the options refuse and how they say so.

use super::*;

fn refusal(json: &str) -> String {
    match serde_json::from_str::<MemcachedConfig>(json) {
        Err(error) => error.to_string(),
        Ok(config) => config.check().unwrap_err(),
    }
}

#[test]
fn the_defaults_are_those_of_the_family() {
    let config: MemcachedConfig = serde_json::from_str(r#"{"servers": ["127.0.0.1:11211"]}"#).unwrap();
    config.check().unwrap();
    assert_eq!(config, MemcachedConfig::new(["127.0.0.1:11211"]));
    assert_eq!((config.connect_timeout, config.timeout, config.max_pool_size), (2.0, 1.0, 10));
    assert_eq!((config.retry_attempts, config.max_item_size_bytes, &*config.key_prefix), (2, 1_048_576, ""));
    assert_eq!((config.dead_timeout, config.retry_timeout), (60.0, 1.0));
}

#[test]
fn the_edges_of_every_range_are_taken() {
    for json in [
        r#"{"servers": ["h:1"], "connect_timeout": 0.1, "timeout": 30, "max_pool_size": 1, "retry_attempts": 0}"#,
        r#"{"servers": ["h:65535"], "connect_timeout": 30.0, "timeout": 0.1, "max_pool_size": 100, "retry_attempts": 10}"#,
        r#"{"servers": ["h:1"], "dead_timeout": 0, "retry_timeout": 0.05, "max_item_size_bytes": 0}"#,
        r#"{"servers": ["/run/m.sock", "[::1]:11211"], "key_prefix": "app:"}"#,
    ] {
        serde_json::from_str::<MemcachedConfig>(json).unwrap().check().unwrap();
    }
}

#[test]
fn every_refusal_names_its_field_and_the_form() {
    for (field, form, options) in [
        ("servers", "list such as", r#""servers": []"#),
        ("servers", "list such as", r#""servers": "h:1""#),
        ("servers", "list such as", r#""servers": [1]"#),
        ("servers[0]", "host:port", r#""servers": ["host"]"#),
        ("servers[0]", "1 to 65535", r#""servers": ["h:0"]"#),
        ("servers[0]", "1 to 65535", r#""servers": ["h:65536"]"#),
        ("servers[0]", "1 to 65535", r#""servers": ["h:+1"]"#),
        ("servers[1]", "host:port", r#""servers": ["h:1", ":1"]"#),
        ("servers[1]", "host:port", r#""servers": ["h:1", "a b:1"]"#),
        ("servers[1]", "twice", r#""servers": ["h:1", "h:01"]"#),
        ("url and servers", "one of them", r#""servers": ["h:1"], "url": "memcached://h:1""#),
        ("url", "memcached://", r#""url": "memcache://h:1""#),
        ("url", "memcached://", r#""url": "memcached://""#),
        ("url", "memcached://", r#""url": "memcached://a:1,/x.sock""#),
        ("url", "memcached://", r#""url": "memcached://a:1/path""#),
        ("url", "passwords", r#""url": "memcached://user:secret@h:1""#),
        ("connect_timeout", "0.1 to 30", r#""servers": ["h:1"], "connect_timeout": 0.05"#),
        ("connect_timeout", "0.1 to 30", r#""servers": ["h:1"], "connect_timeout": 31"#),
        ("connect_timeout", "0.1 to 30", r#""servers": ["h:1"], "connect_timeout": "2""#),
        ("timeout", "0.1 to 30", r#""servers": ["h:1"], "timeout": 0.05"#),
        ("timeout", "0.1 to 30", r#""servers": ["h:1"], "timeout": 30.1"#),
        ("max_pool_size", "1 to 100", r#""servers": ["h:1"], "max_pool_size": 0"#),
        ("max_pool_size", "1 to 100", r#""servers": ["h:1"], "max_pool_size": 101"#),
        ("retry_attempts", "0 to 10", r#""servers": ["h:1"], "retry_attempts": 11"#),
        ("retry_attempts", "0 to 10", r#""servers": ["h:1"], "retry_attempts": -1"#),
        ("retry_timeout", "0.05 to 60", r#""servers": ["h:1"], "retry_timeout": 0"#),
        ("dead_timeout", "0 to 86400", r#""servers": ["h:1"], "dead_timeout": -1"#),
        ("key_prefix", "printable", r#""servers": ["h:1"], "key_prefix": "a b""#),
        ("key_prefix", "printable", r#""servers": ["h:1"], "key_prefix": "a\r\n""#),
        ("key_prefix", "printable", r#""servers": ["h:1"], "key_prefix": "\u00e9""#),
        ("max_item_size_bytes", "1073741824", r#""servers": ["h:1"], "max_item_size_bytes": 1073741825"#),
        ("max_item_size_bytes", "1073741824", r#""servers": ["h:1"], "max_item_size_bytes": -1"#),
        ("server", "unknown", r#""server": "h:1""#),
    ] {
        let refusal = refusal(&format!("{{{options}}}"));
        assert!(refusal.contains(field) && refusal.contains(form), "{options}: {refusal}");
        assert!(!refusal.contains("secret"), "{refusal}");
    }
}

#[test]
fn a_prefix_leaves_room_for_a_hashed_key() {
    let config = MemcachedConfig::new(["h:1"]);
    assert!(config.clone().with_key_prefix("p".repeat(128)).check().is_ok());
    assert!(config.with_key_prefix("p".repeat(129)).check().unwrap_err().contains("128"));
}

#[test]
fn a_url_names_servers_or_a_socket() {
    let nodes = |url: &str| {
        let config = MemcachedConfig { url: Some(url.into()), ..MemcachedConfig::default() };
        config.addresses().unwrap().iter().map(Address::node).collect::<Vec<_>>()
    };
    assert_eq!(nodes("memcached://h1:11211,h2:11212"), ["h1:11211", "h2:11212"]);
    assert_eq!(nodes("memcached://cache"), ["cache:11211"]);
    assert_eq!(nodes("memcached://[::1],[::2]:7/"), ["[::1]:11211", "[::2]:7"]);
    assert_eq!(nodes("memcached:///run/memcached.sock"), ["/run/memcached.sock"]);
}

#[test]
fn the_schema_shows_the_ranges() {
    let schema = schemars::schema_for!(MemcachedConfig).to_value();
    assert_eq!(schema["properties"]["max_pool_size"]["maximum"], 100);
    assert_eq!(schema["additionalProperties"], false);
}

/// What the family refuses is refused here, by the names of its recorded cases.
#[test]
fn the_recorded_refusals_of_the_family_hold() {
    let recorded: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors/errors.json")).unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    let ours: Vec<&str> = cases
        .iter()
        .filter(|case| case["area"] == "config")
        .filter_map(|case| case["name"].as_str())
        .filter(|name| name.starts_with("mc_"))
        .collect();
    assert_eq!(ours.len(), 7);
    for name in ours {
        let options = match name {
            "mc_servers_empty" => r#"{"servers": []}"#,
            "mc_no_port" => r#"{"servers": ["host"]}"#,
            "mc_port_0" => r#"{"servers": ["h:0"]}"#,
            "mc_port_65536" => r#"{"servers": ["h:65536"]}"#,
            "mc_timeout_0.05" => r#"{"servers": ["h:1"], "timeout": 0.05}"#,
            "mc_pool_101" => r#"{"servers": ["h:1"], "max_pool_size": 101}"#,
            "mc_retry_11" => r#"{"servers": ["h:1"], "retry_attempts": 11}"#,
            other => panic!("a recorded case nobody looked at: {other}"),
        };
        refusal(options);
    }
}

#[test]
fn a_prefix_that_a_url_brings_as_a_number_is_the_text_that_was_written() {
    for (json, expected) in [("2024", "2024"), ("1.5", "1.5"), (r#""12e4""#, "12e4")] {
        let json = format!(r#"{{"servers": ["h:1"], "key_prefix": {json}}}"#);
        let config: MemcachedConfig = serde_json::from_str(&json).unwrap();
        config.check().unwrap();
        assert_eq!(config.key_prefix, expected);
    }
    assert!(refusal(r#"{"key_prefix": ["a"]}"#).starts_with("key_prefix: takes printable ASCII"));
}
