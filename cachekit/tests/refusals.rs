//! What the Python package refuses as a configuration, in its recorded cases, this one refuses too where it has the notion.
//!
//! The cases are those of area `config` of the family's `errors.json`. Each stands in one of the lists below, so that a case
//! that is new is noticed. `docs/configuration.md#differences` has the table of those that are not refused.

use std::ffi::OsString;

use cachekit::{Config, ConfigError, EngineServices, Environment, Sources};
use serde_json::Value as Json;

const KEY: &str = "abababababababababababababababababababababababababababababababab";
const SHORT: &str = "ababababababababababababababababababababababababababababababab";
const NOT_HEX: &str = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
const UPPER: &str = "ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB";
const FOUR: &str = "\
    abababababababababababababababababababababababababababababababab,\
    bcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbc,\
    cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd,\
    dededededededededededededededededededededededededededededededede";

const REDIS: (&str, &str) = ("CACHEKIT_REDIS_URL", "redis://localhost");
const MEMCACHED: (&str, &str) = ("CACHEKIT_MEMCACHED_SERVERS", r#"["h:1"]"#);
const FILE: (&str, &str) = ("CACHEKIT_FILE_CACHE_DIR", "/nowhere/at/all");

/// A configuration of ours that says the same as a case, by variables and a file, and a word of the refusal.
struct Same(&'static str, &'static [(&'static str, &'static str)], &'static str, &'static str);

#[rustfmt::skip]
const REFUSED: &[Same] = &[
    Same("previous_4", &[("CACHEKIT_PREVIOUS_MASTER_KEYS", FOUR)], "", "more than 3"),
    Same("previous_equals_current_case",
        &[("CACHEKIT_MASTER_KEY", KEY), ("CACHEKIT_PREVIOUS_MASTER_KEYS", UPPER)], "", "among the previous"),
    Same("previous_short", &[("CACHEKIT_PREVIOUS_MASTER_KEYS", SHORT)], "", "62 characters, 64 needed"),
    Same("previous_not_hex", &[("CACHEKIT_PREVIOUS_MASTER_KEYS", NOT_HEX)], "", "character 1 of 64"),
    Same("deployment_uuid_bad", &[("CACHEKIT_DEPLOYMENT_UUID", "nope")], "", "UUID"),
    Same("log_sampling_1.1", &[("CACHEKIT_LOG_SAMPLING_RATE", "1.1")], "", "from 0 to 1"),
    Same("l1_max_size_0", &[("CACHEKIT_L1_MAX_SIZE_MB", "0")], "", "from 1"),
    Same("max_value_size_0", &[("CACHEKIT_MAX_VALUE_SIZE", "0")], "", "at least 1"),
    Same("arrow_compression_bad", &[("CACHEKIT_ARROW_COMPRESSION", "gzip")], "", "zstd, lz4, none"),
    Same("unknown_field", &[], "default_ttl = 60", "unknown field `default_ttl`"),
    Same("mc_servers_empty", &[("CACHEKIT_MEMCACHED_SERVERS", "[]")], "", "no server"),
    Same("mc_no_port", &[("CACHEKIT_MEMCACHED_SERVERS", r#"["host"]"#)], "", "no port"),
    Same("mc_port_0", &[("CACHEKIT_MEMCACHED_SERVERS", r#"["h:0"]"#)], "", "1 to 65535"),
    Same("mc_port_65536", &[("CACHEKIT_MEMCACHED_SERVERS", r#"["h:65536"]"#)], "", "1 to 65535"),
    Same("mc_timeout_0.05", &[MEMCACHED, ("CACHEKIT_MEMCACHED_TIMEOUT", "0.05")], "", "from 0.1 to 30"),
    Same("mc_pool_101", &[MEMCACHED, ("CACHEKIT_MEMCACHED_MAX_POOL_SIZE", "101")], "", "from 1 to 100"),
    Same("mc_retry_11", &[MEMCACHED, ("CACHEKIT_MEMCACHED_RETRY_ATTEMPTS", "11")], "", "from 0 to 10"),
    Same("file_entry_99", &[FILE, ("CACHEKIT_FILE_MAX_ENTRY_COUNT", "99")], "", "from 100"),
    Same("file_value_over_half", &[FILE, ("CACHEKIT_FILE_MAX_SIZE_MB", "10"), ("CACHEKIT_FILE_MAX_VALUE_MB", "6")],
        "", "max_value_mb = 6: takes 1 to 5, half of max_size_mb (10)"),
    Same("file_size_0", &[FILE, ("CACHEKIT_FILE_MAX_SIZE_MB", "0")], "", "from 1"),
    Same("file_lock_timeout_31", &[FILE, ("CACHEKIT_FILE_LOCK_TIMEOUT_SECONDS", "31")], "", "from 0.5 to 30"),
    Same("redis_pool_0", &[REDIS, ("CACHEKIT_CONNECTION_POOL_SIZE", "0")], "", "at least 1"),
    Same("redis_timeout_0", &[REDIS, ("CACHEKIT_SOCKET_TIMEOUT", "0")], "", "above 0"),
    Same("ttl_negative", &[("CACHEKIT_DEFAULT_TTL", "-1")], "", "whole number"),
    Same("ttl_inf", &[("CACHEKIT_DEFAULT_TTL", "inf")], "", "whole number"),
    Same("namespace_ck_reserved", &[], r#"namespace = "ck:x""#, "namespace"),
    Same("secure_short_key", &[("CACHEKIT_MASTER_KEY", SHORT)], "", "62 characters, 64 needed"),
    Same("secure_not_hex", &[("CACHEKIT_MASTER_KEY", NOT_HEX)], "", "character 1 of 64"),
    Same("secure_bytes_key", &[("CACHEKIT_MASTER_KEY", "................................")], "", "no hex digit"),
    Same("secure_backend_none", &[("CACHEKIT_MASTER_KEY", KEY), ("CACHEKIT_BACKEND", "none")],
        r#"preset = "secure""#, "name a backend"),
    Same("secure_auto_serializer", &[], "preset = \"secure\"\nserializer = \"auto\"", "none of msgpack, json"),
    Same("secure_integrity_off", &[], "preset = \"secure\"\nintegrity_checking = false", "integrity_checking"),
    Same("secure_both_tenant_modes", &[], "preset = \"secure\"\nsingle_tenant_mode = true", "single_tenant_mode"),
    Same("cb_half_open_lt_success", &[], "breaker = { probes = 2, successes = 3 }", "at least successes"),
    Same("bp_0", &[], "bulkhead = { in_flight = 0 }", "from 1 to 1000000"),
    Same("local_ttl_0", &[], r#"ttl = "0s""#, "zero"),
    Same("unknown_preset_kwarg", &[], "preset = \"production\"\nfoo = 1", "unknown field `foo`"),
];

/// Cases about what does not exist here.
const NO_SUCH_NOTION: &[&str] = &[
    "ttl_refresh_threshold_1.1",
    "l1_ratio_0",
    "stale_ttl_needs_swr_backend",
    "interop_without_namespace",
    "interop_with_key_fn",
    "interop_l1_only",
    "local_unknown_param",
];

/// Cases that are accepted here.
const ACCEPTED: &[&str] = &["no_encryption_intent_with_key"];

fn open(variables: &[(&str, &str)], toml: &str) -> Result<(), ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cachekit.toml");
    std::fs::write(&file, toml).unwrap();
    let vars = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let environment = Environment::from_vars(vars);
    let config = Config::resolve(&Sources { file: Some(file), environment, ..Sources::default() })?;
    config.open_tier(&cachekit::built_in(), EngineServices::shared()).map(|_| ())
}

#[test]
fn what_python_refuses_is_refused_here_where_there_is_such_a_notion() {
    let recorded: Json = serde_json::from_str(include_str!("vectors/errors_config.json")).unwrap();
    let recorded = recorded["cases"].as_array().unwrap();
    assert_eq!(recorded.len(), 45);
    for case in recorded {
        let name = case["name"].as_str().unwrap();
        assert_eq!(case["ok"], false, "{name}");
        if NO_SUCH_NOTION.contains(&name) || ACCEPTED.contains(&name) {
            continue;
        }
        let same = REFUSED.iter().find(|same| same.0 == name);
        let Same(_, variables, toml, word) = same.unwrap_or_else(|| panic!("{name} is in no list"));
        let error = open(variables, toml).expect_err(name).to_string();
        assert!(error.contains(word), "{name} should say {word:?}: {error}");
        assert!(!error.contains(KEY) && !error.contains(SHORT) && !error.contains(NOT_HEX), "{name}: {error}");
    }
    assert_eq!(REFUSED.len() + NO_SUCH_NOTION.len() + ACCEPTED.len(), recorded.len());
}

#[test]
fn a_key_without_an_intent_is_accepted_and_encrypts_nothing() {
    open(&[("CACHEKIT_MASTER_KEY", KEY)], "").unwrap();
}
