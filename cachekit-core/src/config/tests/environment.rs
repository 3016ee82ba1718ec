//! Each variable of the environment: what it sets, what it takes, and what is said of one that sets nothing.

use std::fs;
use std::time::Duration;

use serde_json::json;

use super::{environment, from_both, from_env, from_toml, options_of, words};
use crate::codec::Compression;
use crate::config::{Config, ConfigError, KNOWN_VARIABLES, Setting, Source, Sources, variables};

#[test]
fn every_variable_of_a_backend_becomes_an_option_of_that_backend_alone() {
    let redis = [
        ("CACHEKIT_CONNECTION_POOL_SIZE", "20"),
        ("CACHEKIT_SOCKET_TIMEOUT", "5.0"),
        ("CACHEKIT_SOCKET_CONNECT_TIMEOUT", "0.5"),
        ("CACHEKIT_SOCKET_KEEPALIVE", "false"),
    ];
    let memcached = [
        ("CACHEKIT_MEMCACHED_CONNECT_TIMEOUT", "2.5"),
        ("CACHEKIT_MEMCACHED_TIMEOUT", "0.1"),
        ("CACHEKIT_MEMCACHED_MAX_POOL_SIZE", "100"),
        ("CACHEKIT_MEMCACHED_RETRY_ATTEMPTS", "0"),
        ("CACHEKIT_MEMCACHED_KEY_PREFIX", "myapp:"),
        ("CACHEKIT_MEMCACHED_MAX_ITEM_SIZE_BYTES", "0"),
    ];
    let saas = [
        ("CACHEKIT_API_URL", "https://api.staging.cachekit.io"),
        ("CACHEKIT_TIMEOUT", "4"),
        ("CACHEKIT_MAX_RETRIES", "0"),
        ("CACHEKIT_ALLOW_CUSTOM_HOST", "True"),
        ("REQUESTS_CA_BUNDLE", "/etc/ca.pem"),
    ];
    let all: Vec<_> = [&redis[..], &memcached, &saas].concat();
    let with = |selector: (&'static str, &'static str)| {
        let config = from_env(&[&all[..], &[selector]].concat()).unwrap();
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        options_of(&config)
    };
    assert_eq!(
        with(("REDIS_URL", "rediss://h:1/0")),
        json!({"url": "rediss://h:1/0", "connection_pool_size": 20, "socket_timeout": 5.0,
               "socket_connect_timeout": 0.5, "socket_keepalive": false})
    );
    assert_eq!(
        with(("CACHEKIT_MEMCACHED_SERVERS", r#"["a:1", "b:2"]"#)),
        json!({"servers": ["a:1", "b:2"], "connect_timeout": 2.5, "timeout": 0.1, "max_pool_size": 100,
               "retry_attempts": 0, "key_prefix": "myapp:", "max_item_size_bytes": 0})
    );
    assert_eq!(
        with(("CACHEKIT_API_KEY", "ck_live_abc")),
        json!({"api_key": {"$secret": "env:CACHEKIT_API_KEY"}, "api_url": "https://api.staging.cachekit.io",
               "timeout": 4.0, "max_retries": 0, "allow_custom_host": true, "ca_file": "/etc/ca.pem",
               "connection_pool_size": 20})
    );
}

#[test]
fn what_stands_in_a_url_of_the_environment_goes_over_variables_and_those_over_the_file() {
    let variables = [("CACHEKIT_SOCKET_TIMEOUT", "7"), ("CACHEKIT_REDIS_URL", "redis://h?socket_timeout=3")];
    assert_eq!(options_of(&from_env(&variables).unwrap())["socket_timeout"], json!(3));
    let toml = "[[tier]]\nbackend = \"redis://h?socket_timeout=3\"\n";
    let config = from_both(toml, &variables[..1]).unwrap();
    assert_eq!(options_of(&config)["socket_timeout"], json!(7.0));
    // A URL with a host has no use for the variable that names another.
    let saas = [("CACHEKIT_API_KEY", "k"), ("CACHEKIT_API_URL", "https://a"), ("CACHEKIT_BACKEND", "cachekitio://b")];
    assert_eq!(options_of(&from_env(&saas).unwrap()).get("api_url"), None);
}

#[test]
fn values_out_of_their_range_are_refused_with_the_range() {
    let redis = ("CACHEKIT_REDIS_URL", "redis://h");
    let memcached = ("CACHEKIT_MEMCACHED_SERVERS", r#"["h:1"]"#);
    let saas = ("CACHEKIT_API_KEY", "k");
    for (selector, name, value, expected) in [
        (redis, "CACHEKIT_CONNECTION_POOL_SIZE", "0", "at least 1"),
        (redis, "CACHEKIT_SOCKET_TIMEOUT", "0", "above 0"),
        (redis, "CACHEKIT_SOCKET_CONNECT_TIMEOUT", "inf", "above 0"),
        (redis, "CACHEKIT_SOCKET_KEEPALIVE", "maybe", "neither true nor false"),
        (redis, "CACHEKIT_DEPLOYMENT_UUID", "nope", "123e4567"),
        (redis, "CACHEKIT_LOG_SAMPLING_RATE", "1.1", "from 0 to 1"),
        (redis, "CACHEKIT_ARROW_COMPRESSION", "gzip", "zstd, lz4, none"),
        (redis, "CACHEKIT_L1_CLEANUP_INTERVAL_SECONDS", "0", "at least 1"),
        (redis, "CACHEKIT_DEV_MODE", "2", "neither"),
        (redis, "CACHEKIT_MAX_CHUNK_SIZE_MB", "0", "from 1"),
        (redis, "CACHEKIT_INVALIDATION_LISTENER_ENABLED", "2", "neither"),
        (redis, "CACHEKIT_ENCRYPTION_FAIL_CLOSED", "2", "neither"),
        (redis, "CACHEKIT_COMPRESSION_LEVEL", "10", "from 1 to 9"),
        (memcached, "CACHEKIT_MEMCACHED_TIMEOUT", "0.05", "from 0.1 to 30"),
        (memcached, "CACHEKIT_MEMCACHED_CONNECT_TIMEOUT", "30.1", "from 0.1 to 30"),
        (memcached, "CACHEKIT_MEMCACHED_MAX_POOL_SIZE", "101", "from 1 to 100"),
        (memcached, "CACHEKIT_MEMCACHED_RETRY_ATTEMPTS", "11", "from 0 to 10"),
        (memcached, "CACHEKIT_MEMCACHED_MAX_ITEM_SIZE_BYTES", "-1", "at least 0"),
        (saas, "CACHEKIT_TIMEOUT", "0", "above 0"),
        (saas, "CACHEKIT_TIMEOUT", "NaN", "above 0"),
        (saas, "CACHEKIT_MAX_RETRIES", "-1", "from 0 to 10"),
        (saas, "CACHEKIT_ALLOW_CUSTOM_HOST", "tru", "neither"),
    ] {
        let text = words(from_env(&[selector, (name, value)]));
        assert!(text.contains(name) && text.contains(expected), "{name}={value}: {text}");
    }
    // What another backend takes is that backend's matter.
    assert!(from_env(&[redis, ("CACHEKIT_MEMCACHED_TIMEOUT", "0.05")]).is_ok());
}

#[test]
fn names_are_read_in_any_case_and_the_upper_one_counts() {
    let config = from_env(&[("cachekit_default_ttl", "60"), ("Redis_Url", "redis://h")]).unwrap();
    assert_eq!(config.ttl.value, Some(Duration::from_secs(60)));
    assert_eq!(config.tier.source, Source::Variable("REDIS_URL"));
    for both in [["cachekit_default_ttl", "CACHEKIT_DEFAULT_TTL"], ["CACHEKIT_DEFAULT_TTL", "cachekit_default_ttl"]] {
        let values = both.map(|name| (name, if name.starts_with('C') { "60" } else { "1" }));
        assert_eq!(from_env(&values).unwrap().ttl.value, Some(Duration::from_secs(60)));
    }
    // A reference names the variable as the environment does.
    let config = from_env(&[("cachekit_api_key", "k")]).unwrap();
    assert_eq!(options_of(&config)["api_key"], json!({"$secret": "env:cachekit_api_key"}));
}

#[test]
fn what_is_accepted_without_effect_says_so() {
    for (name, value) in [
        ("CACHEKIT_ARROW_COMPRESSION", "lz4"),
        ("CACHEKIT_DEV_MODE", "true"),
        ("CACHEKIT_DISABLE_HIREDIS", "0"),
        ("CACHEKIT_L1_CLEANUP_INTERVAL_SECONDS", "30"),
        ("CACHEKIT_LOG_SAMPLING_RATE", "0.1"),
    ] {
        let config = from_env(&[(name, value)]).unwrap();
        assert!(config.warnings[0].0.starts_with(&format!("{name} has no effect: ")), "{:?}", config.warnings);
        assert_eq!(Config { warnings: Vec::new(), ..config }, Config::default());
    }
}

#[test]
fn every_other_variable_changes_something() {
    // One value for each, far from its default.
    let values = [
        ("CACHEKIT_BACKEND", "none"),
        ("CACHEKIT_COMPRESSION_LEVEL", "9"),
        ("CACHEKIT_DEFAULT_TTL", "5"),
        ("CACHEKIT_DEPLOYMENT_UUID", "123e4567-e89b-12d3-a456-426614174000"),
        ("CACHEKIT_ENABLE_COMPRESSION", "false"),
        ("CACHEKIT_ENCRYPTION_FAIL_CLOSED", "false"),
        ("CACHEKIT_INVALIDATION_LISTENER_ENABLED", "false"),
        ("CACHEKIT_L1_MAX_SIZE_MB", "3"),
        ("CACHEKIT_MASTER_KEY", KEY),
        ("CACHEKIT_MAX_CHUNK_SIZE_MB", "10"),
        ("CACHEKIT_MAX_VALUE_SIZE", "7"),
        ("CACHEKIT_API_KEY", "k"),
        ("CACHEKIT_FILE_CACHE_DIR", "/x"),
        ("CACHEKIT_MEMCACHED_SERVERS", r#"["h:1"]"#),
        ("CACHEKIT_PLUGIN_PATH", "/x"),
        ("CACHEKIT_PLUGIN_REQUIRE", "hash"),
        ("CACHEKIT_REDIS_URL", "redis://h"),
        ("REDIS_URL", "redis://h"),
    ];
    for (name, value) in values {
        let config = from_env(&[(name, value)]).unwrap();
        assert_ne!(Config { warnings: Vec::new(), notes: Vec::new(), ..config }, Config::default(), "{name}");
    }
    let elsewhere = ["CACHEKIT_CONFIG", "CACHEKIT_PREVIOUS_MASTER_KEYS"];
    for variable in KNOWN_VARIABLES {
        let shown = values.iter().any(|(name, _)| *name == variable.name) || elsewhere.contains(&variable.name);
        let is_option = ["redis", "memcached", "cachekitio", "file"].iter().any(|s| variable.option_of(s).is_some());
        let is_nothing = matches!(variable.sets, variables::Sets::Nothing(_));
        assert!(shown || is_option || is_nothing, "{} changes nothing", variable.name);
    }
}

const KEY: &str = "abababababababababababababababababababababababababababababababab";

#[test]
fn keys_are_checked_together_and_shown_by_nothing() {
    let other = KEY.replace('a', "c");
    let config = from_env(&[("CACHEKIT_MASTER_KEY", KEY), ("CACHEKIT_PREVIOUS_MASTER_KEYS", &other)]).unwrap();
    let key = |byte: u8| crate::interop::MasterKey::from_bytes(&[byte; 32]).unwrap();
    assert_eq!(config.master_key.value, Some(key(0xab)));
    assert_eq!(config.previous_master_keys.value, [key(0xcb)]);
    assert!(config.keyring().unwrap().unwrap().is_fail_closed());
    let open = [("CACHEKIT_MASTER_KEY", KEY), ("CACHEKIT_ENCRYPTION_FAIL_CLOSED", "false")];
    assert!(!from_env(&open).unwrap().keyring().unwrap().unwrap().is_fail_closed());
    assert!(Config::default().keyring().unwrap().is_none());
    let text = format!("{config:?} {:?}", config.show());
    assert!(!text.contains(KEY) && !text.contains(&other) && text.contains("***"), "{text}");
    assert!(words(from_env(&[("CACHEKIT_PREVIOUS_MASTER_KEYS", KEY)])).contains("CACHEKIT_MASTER_KEY"));
    let upper = KEY.to_uppercase();
    let both = [("CACHEKIT_MASTER_KEY", KEY), ("CACHEKIT_PREVIOUS_MASTER_KEYS", &upper)];
    let text = words(from_env(&both));
    assert!(text.contains("among the previous") && !text.contains("abab"), "{text}");
    for (key, expected) in
        [("my-secret-key", "character 1"), ("abcd1234", "8 characters, 64 needed"), (&KEY[..62], "62")]
    {
        let text = words(from_env(&[("CACHEKIT_MASTER_KEY", key)]));
        assert!(text.contains("CACHEKIT_MASTER_KEY") && text.contains(expected) && !text.contains(key), "{text}");
    }
}

#[test]
fn keys_in_a_file_are_references() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, format!("{KEY}\n")).unwrap();
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    let toml = |path: &str| {
        format!(
            "[encryption]\nfail_closed = false\ndeployment_uuid = \"{uuid}\"\nmaster_key = {{ \"$secret\" = \"file:{path}\" }}\n"
        )
    };
    let config = from_toml(&toml(path.to_str().unwrap())).unwrap();
    assert_eq!(config.master_key.value, Some(crate::interop::MasterKey::from_bytes(&[0xab; 32]).unwrap()));
    assert_eq!((config.tenant(), config.encryption_fail_closed.value), (uuid, false));
    assert_eq!(Config::default().tenant(), "default");
    let text = words(from_toml(&toml("/nowhere")));
    assert!(text.contains("cachekit.toml:4") && text.contains("/nowhere"), "{text}");
    let text = words(from_toml(&format!("[encryption]\nmaster_key = \"{KEY}\"\n")));
    assert!(text.contains("line 2") && text.contains("$secret") && !text.contains(KEY), "{text}");
    for (wrong, expected) in [
        (format!("[encryption]\nprevious_master_keys = \"{KEY}\"\n"), "expected a sequence"),
        (format!("tier = \"redis://u:{KEY}@h\"\n"), "expected a sequence"),
        (format!("[[tier]]\nbackend = \"redis://u:{KEY}@h\n"), "line 2"),
        (format!("strict = \"{KEY}\"\n"), "line 1: strict: invalid type: text, expected a boolean"),
    ] {
        let text = words(from_toml(&wrong));
        assert!(text.contains(expected) && !text.contains(KEY), "{text}");
    }
    let text = words(from_toml("[encryption]\ndeployment_uuid = \"nope\"\n"));
    assert!(text.contains("encryption.deployment_uuid") && text.contains(":2"), "{text}");
}

fn secure(variables: &[(&str, &str)], backend: Option<&str>) -> Result<Config, ConfigError> {
    Config::resolve(&Sources {
        preset: Some("secure".into()),
        environment: environment(variables),
        backend: backend.map(str::to_owned),
        ..Sources::default()
    })
}

#[test]
fn the_preset_secure_works_from_the_environment_alone() {
    let config = secure(&[("CACHEKIT_MASTER_KEY", KEY), ("REDIS_URL", "redis://h")], None).unwrap();
    assert_eq!(config.encryption_enabled, Setting { value: true, source: Source::Preset("secure") });
    let shown = format!("{:?}", config.encryption().unwrap().unwrap());
    assert!(shown.contains("fail_closed: true") && shown.contains("plaintext_in_l1: false"), "{shown}");
    let open = [("CACHEKIT_MASTER_KEY", KEY), ("CACHEKIT_ENCRYPTION_FAIL_CLOSED", "false")];
    let shown = format!("{:?}", secure(&open, None).unwrap().encryption().unwrap().unwrap());
    assert!(shown.contains("fail_closed: false"), "{shown}");
    // A key alone, and a blank one, switch nothing on.
    assert!(from_env(&[("CACHEKIT_MASTER_KEY", KEY)]).unwrap().encryption().unwrap().is_none());
    assert!(words(secure(&[("CACHEKIT_MASTER_KEY", "")], None)).contains("is not set"));
}

/// Golden texts: what somebody reads who has just made the mistake.
#[test]
fn secure_without_a_usable_key_says_what_is_wrong_and_how_to_get_one() {
    let not_set = "master_key (preset secure): CACHEKIT_MASTER_KEY is not set, and nothing is stored unencrypted in its \
                   absence; export it, or write master_key = { \"$secret\" = \"file:/path\" } under [encryption]; generate \
                   one with: openssl rand -hex 32";
    assert_eq!(words(secure(&[], None)), not_set);
    let sample = "a1b2c3d4e5f6789012345678901234567890abcdef12345678901234567890";
    for (key, expected) in [
        (
            "my-secret-key",
            "character 1 of 13 is no hex digit; a master key is at least 64 of 0-9 and a-f; generate one with: openssl \
             rand -hex 32",
        ),
        (
            "abcdefgh",
            "character 7 of 8 is no hex digit; a master key is at least 64 of 0-9 and a-f; generate one with: openssl \
             rand -hex 32",
        ),
        ("abcd1234", "8 characters, 64 needed (32 bytes in hex); generate one with: openssl rand -hex 32"),
        (sample, "62 characters, 64 needed (32 bytes in hex); generate one with: openssl rand -hex 32"),
    ] {
        let text = words(secure(&[("CACHEKIT_MASTER_KEY", key)], None));
        assert_eq!(text, format!("CACHEKIT_MASTER_KEY (environment CACHEKIT_MASTER_KEY): {expected}"));
    }
    let twice = format!("{},{}", KEY.replace('a', "c"), KEY.replace('a', "C"));
    let text = words(secure(&[("CACHEKIT_MASTER_KEY", KEY), ("CACHEKIT_PREVIOUS_MASTER_KEYS", &twice)], None));
    assert!(text.contains("key 2 stands there twice"), "{text}");
    let key = [("CACHEKIT_MASTER_KEY", KEY)];
    assert!(words(secure(&key, Some("none"))).contains("the preset secure encrypts what a store keeps"));
    let toml = |text: &str| words(from_toml(&format!("[encryption]\n{text}\n")));
    assert!(toml("enabled = true").starts_with("master_key (/"), "{}", toml("enabled = true"));
    assert!(toml("hash_keys = true").contains("encryption.hash_keys") && toml("hash_keys = true").contains(":2"));
    assert!(toml("plaintext_in_l1 = true").contains("does not encrypt"));
    assert!(toml("reseal = true").contains("does not encrypt"));
    let name_key = "name_key = { \"$secret\" = \"env:NO_SUCH_VARIABLE_HERE\" }";
    assert!(toml(name_key).contains("encryption.name_key") && toml(name_key).contains("is not set"));
    let text = words(from_toml("preset = \"secure\"\n[encryption]\nenabled = false\n"));
    assert!(text.contains("encryption.enabled") && text.contains(":3") && text.contains("leave out"), "{text}");
}

#[test]
fn each_preset_sets_what_its_table_says() {
    let resolved = |preset: &str| {
        let sources = Sources {
            preset: Some(preset.into()),
            environment: environment(&[("CACHEKIT_API_KEY", "k"), ("CACHEKIT_MASTER_KEY", KEY)]),
            ..Sources::default()
        };
        let shown = Config::resolve(&sources).unwrap().show();
        let value = |name: &str| shown[name].value.clone();
        let guards = ["bulkhead", "breaker", "retry", "adaptive_timeout"].map(value);
        let (reliability, backpressure) = (preset != "minimal" && preset != "test", preset != "test");
        assert_eq!(guards, [backpressure, reliability, reliability, reliability].map(|on| json!(on)), "{preset}");
        assert_eq!(value("encryption.enabled"), json!(preset == "secure"));
        let names = [
            "ttl",
            "deadline",
            "breaker",
            "l1.coherence",
            "fill_locks.enabled",
            "freshness.refresh_ahead",
            "freshness.stale",
            "l1.max_bytes",
        ];
        serde_json::Value::from(names.map(value).to_vec())
    };
    let mib_100 = 100 << 20;
    assert_eq!(resolved("minimal"), json!(["5m", "1s", false, false, false, false, "none", mib_100]));
    assert_eq!(resolved("test"), json!(["5m", "1s", false, false, false, false, "none", mib_100]));
    assert_eq!(resolved("dev"), json!(["5m", "1s", true, false, false, true, "none", mib_100]));
    assert_eq!(resolved("production"), json!(["10m", "250ms", true, true, true, true, "none", mib_100]));
    assert_eq!(resolved("secure"), json!(["10m", "1s", true, true, true, true, "none", mib_100]));
    assert_eq!(resolved("io"), json!(["1h", "5s", true, true, true, true, "1h", mib_100]));
}

#[test]
fn the_preset_io_brings_its_backend_and_no_redis_touches_it() {
    let io = |variables: &[(&str, &str)], backend: Option<&str>| {
        Config::resolve(&Sources {
            preset: Some("io".into()),
            environment: environment(variables),
            backend: backend.map(str::to_owned),
            ..Sources::default()
        })
    };
    let config = io(&[("REDIS_URL", "redis://h"), ("CACHEKIT_API_KEY", "k")], None).unwrap();
    assert_eq!(config.tier.source, Source::Preset("io"));
    assert_eq!(options_of(&config)["api_key"], json!({"$secret": "env:CACHEKIT_API_KEY"}));
    let text = words(io(&[("CACHEKIT_REDIS_URL", "redis://h")], None));
    assert!(text.contains("CACHEKIT_API_KEY is not set"), "{text}");
    let text = words(io(&[("CACHEKIT_API_KEY", "k")], Some("redis://h")));
    assert!(text.contains("--backend") && text.contains("preset io"), "{text}");
    assert!(io(&[], Some("plugin:///opt/cachekitio.so")).is_ok());
    // And the key of cachekit.io touches no Redis.
    let config = from_env(&[("CACHEKIT_REDIS_URL", "redis://h"), ("CACHEKIT_API_KEY", "k")]).unwrap();
    assert_eq!(options_of(&config), json!({"url": "redis://h"}));
}

#[test]
fn chunks_only_ever_lower_the_largest_value() {
    let largest = |variables: &[(&str, &str)]| from_env(variables).unwrap().max_value;
    let chunk = ("CACHEKIT_MAX_CHUNK_SIZE_MB", "10");
    assert_eq!(largest(&[chunk]).source, Source::Variable("CACHEKIT_MAX_CHUNK_SIZE_MB"));
    assert_eq!(largest(&[chunk]).value, 10 << 20);
    assert_eq!(largest(&[chunk, ("CACHEKIT_MAX_VALUE_SIZE", "7")]).value, 7);
    assert_eq!(largest(&[("CACHEKIT_MAX_CHUNK_SIZE_MB", "500")]).source, Source::Default);
}

#[test]
fn the_examples_of_the_guide_work_from_the_environment_alone() {
    let config = from_env(&[
        ("CACHEKIT_REDIS_URL", "redis://redis-primary:6379/0"),
        ("CACHEKIT_CONNECTION_POOL_SIZE", "20"),
        ("CACHEKIT_DEFAULT_TTL", "3600"),
        ("CACHEKIT_ENABLE_COMPRESSION", "true"),
    ])
    .unwrap();
    assert_eq!(options_of(&config), json!({"url": "redis://redis-primary:6379/0", "connection_pool_size": 20}));
    assert_eq!((config.ttl.value, config.warnings.len()), (Some(Duration::from_secs(3600)), 0));
    assert!(matches!(config.compression.value, Compression::Zstd { .. }));
}
