//! Every source, every precedence, every mistake with the words that help.

mod environment;
mod trust;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use cachekit_conformance::Memory;
use proptest::prelude::*;
use serde_json::json;

use super::{Config, ConfigError, EngineServices, Environment, LibraryChoice, Source, Sources, TierChoice};
use crate::codec::{Compression, Serializer};
use crate::tier::registry::Registry;

fn options_of(config: &Config) -> serde_json::Value {
    match &config.tier.value {
        Some(TierChoice::Builtin { options, .. } | TierChoice::Plugin { options, .. }) => json!(options),
        other => panic!("{other:?}"),
    }
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::from_vars(variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
}

fn from_env(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::resolve(&Sources { environment: environment(variables), ..Sources::default() })
}

fn from_toml(toml: &str) -> Result<Config, ConfigError> {
    from_both(toml, &[])
}

fn from_both(toml: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cachekit.toml");
    fs::write(&file, toml).unwrap();
    Config::resolve(&Sources { file: Some(file), environment: environment(variables), ..Sources::default() })
}

/// The error with everything underneath.
fn words(result: Result<Config, ConfigError>) -> String {
    let error = result.expect_err("it is refused");
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

const EVERYTHING: &str = r#"
namespace = "app"
ttl = "10m"
deadline = "300ms"
strict = true
breaker = false
retry = { tries = 4, pause = "5ms", pause_max = "50ms", budget_percent = 20 }
serializer = "json"
max_value = "1MiB"
fill_locks = { enabled = true, hold = "20s", patience = "30s", fence = false }

[l1]
enabled = true
max_bytes = 1000000
max_entries = 500
ttl_cap = "5s"

[invalidation]
namespace_epochs = "on"
epoch_ttl = "7d"

[compression]
algorithm = "zstd"
level = 7
threshold = "4KiB"

[[tier]]
backend = "file:///var/cache/app?durability=file"
[tier.options]
max_size_mb = 10

[plugins]
dirs = ["/usr/lib/cachekit/plugins"]
reflect = "require"
allow_abort = true
"#;

#[test]
fn every_field_of_the_file_arrives_with_its_line() {
    let config = from_toml(EVERYTHING).unwrap();
    assert_eq!(config.namespace.value, "app");
    assert_eq!(config.ttl.value, Some(Duration::from_secs(600)));
    assert_eq!(config.deadline.value, Some(Duration::from_millis(300)));
    assert!(config.retry.value && config.bulkhead.value);
    assert_eq!((config.guards.retry.tries, config.guards.retry.pause_max), (4, Duration::from_millis(50)));
    assert!(!config.breaker.value && config.strict.value && config.plugin_allow_abort.value);
    assert_eq!(config.serializer.value, Serializer::Json);
    assert_eq!(config.max_value.value, 1 << 20);
    assert_eq!((config.l1_max_bytes.value, config.l1_max_entries.value), (1_000_000, Some(500)));
    assert_eq!(config.l1_ttl_cap.value, Duration::from_secs(5));
    assert_eq!(config.namespace_epochs.value, crate::builder::NamespaceEpochs::On);
    assert_eq!(config.epoch_ttl.value, Duration::from_secs(7 * 24 * 3600));
    let (hold, patience) = (config.fill_locks_hold.value.as_secs(), config.fill_locks_patience.value.as_secs());
    assert_eq!((hold, patience), (20, 30));
    assert!(config.fill_locks_enabled.value && !config.fill_locks_fence.value);
    assert_eq!(config.compression.value, Compression::Zstd { level: 7, threshold: 4096 });
    assert_eq!(config.plugin_dirs.value, [PathBuf::from("/usr/lib/cachekit/plugins")]);
    assert_eq!(config.plugin_reflect.value, "require");
    let Some(TierChoice::Builtin { scheme, options }) = config.tier.value else { panic!() };
    assert_eq!(scheme, "file");
    assert_eq!(json!(options), json!({"dir": "/var/cache/app", "durability": "file", "max_size_mb": 10}));
    for (source, line) in [(&config.namespace.source, 2), (&config.ttl.source, 3), (&config.l1_ttl_cap.source, 16)] {
        assert!(matches!(source, Source::File { line: found, .. } if *found == line), "{source}");
    }
}

#[test]
fn what_invalidation_cannot_use_is_refused_with_its_forms() {
    for (line, expected) in [
        ("invalidation.namespace_epochs = \"always\"", "none of auto, on, off"),
        ("invalidation.epoch_ttl = \"0s\"", "1s to 10years"),
        ("invalidation.epoch_ttl = \"11years\"", "1s to 10years"),
    ] {
        let text = words(from_toml(&format!("{line}\n")));
        assert!(text.contains("invalidation.") && text.contains(expected) && text.contains(":1"), "{text}");
    }
    assert!(words(from_toml("invalidation.epoch = \"1s\"\n")).contains("epoch"));
}

#[test]
fn every_setting_of_freshness_reaches_the_cache_and_is_shown() {
    let text = "freshness = { stale = \"1m\", stale_if_error = \"1h\", refresh_ahead = true, refresh_ahead_at = 0.7, \
                early_refresh = 1.5, jitter = 0.2, soft_timeout = \"100ms\", hard_timeout = \"5s\", negative_ttl = \"9s\", \
                extend_on_get = 0.25, max_refreshes = 7, retry_interval = \"3s\", get_serves_stale = true }\n";
    let config = from_toml(text).unwrap();
    let secs = |secs| Some(std::time::Duration::from_secs(secs));
    let expected = crate::fresh::FreshnessConfig {
        stale: secs(60),
        stale_if_error: secs(3600),
        refresh_ahead: Some(0.7),
        early_refresh: Some(1.5),
        jitter: 0.2,
        soft_timeout: Some(std::time::Duration::from_millis(100)),
        hard_timeout: secs(5),
        negative_ttl: secs(9),
        extend_on_get: Some(0.25),
        max_refreshes: 7,
        retry_interval: std::time::Duration::from_secs(3),
        get_serves_stale: true,
    };
    assert_eq!(config.freshness.to_config(), expected);
    let shown = config.show();
    assert_eq!(shown["freshness.stale"].value, "1m");
    assert!(shown.iter().filter(|(name, _)| name.starts_with("freshness.")).all(|(_, s)| s.source.ends_with(":1")));
    assert_eq!(shown.keys().filter(|name| name.starts_with("freshness.")).count(), 13);
}

#[test]
fn settings_of_freshness_out_of_range_are_refused_with_the_range() {
    for (line, expected) in [
        ("freshness.jitter = 0.6", "0 to 0.5"),
        ("freshness.jitter = nan", "0 to 0.5"),
        ("freshness.refresh_ahead_at = nan", "between 0 and 1"),
        ("freshness.refresh_ahead_at = 1.0", "between 0 and 1"),
        ("freshness.early_refresh = -1.0", "above 0"),
        ("freshness.early_refresh = inf", "above 0"),
        ("freshness.extend_on_get = 0.0", "between 0 and 1"),
        ("freshness.max_refreshes = 0", "1 to 10000"),
        ("freshness.soft_timeout = \"0s\"", "more than zero"),
        ("freshness.stale = \"soon\"", "no duration"),
    ] {
        let text = words(from_toml(&format!("{line}\n")));
        assert!(text.contains("freshness.") && text.contains(expected) && text.contains(":1"), "{text}");
    }
    assert!(words(from_toml("freshness.stail = \"1s\"\n")).contains("stail"));
}

#[test]
fn writes_behind_are_off_until_the_file_says_otherwise_and_their_bounds_are_checked() {
    assert!(!Config::default().write_behind.enabled.value);
    let toml = "[write_behind]\nenabled = true\nmax_bytes = \"1MiB\"\nmax_entries = 7\nattempts = 0\npause = \"1ms\"\n";
    let config = from_toml(toml).unwrap();
    let behind = &config.write_behind;
    assert!(behind.enabled.value);
    assert_eq!((behind.max_bytes.value, behind.max_entries.value, behind.attempts.value), (1 << 20, 7, 0));
    let shown = config.show();
    assert_eq!(shown.keys().filter(|name| name.starts_with("write_behind.")).count(), 5);
    assert_eq!(shown["write_behind.max_entries"].value, 7);
    for (line, expected) in [
        ("write_behind.max_bytes = 0", "at least 1 byte"),
        ("write_behind.max_entries = 0", "write_behind.enabled = false"),
        ("write_behind.attempts = 101", "0 to 100"),
        ("write_behind.pause = \"0s\"", "at most 5s"),
        ("write_behind.pause = \"6s\"", "at most 5s"),
    ] {
        let text = words(from_toml(&format!("{line}\n")));
        assert!(text.contains("write_behind.") && text.contains(expected) && text.contains(":1"), "{text}");
    }
    assert!(words(from_toml("write_behind.max_byte = 1\n")).contains("max_byte"));
}

#[test]
fn fill_locks_out_of_range_are_refused_with_the_range() {
    for (line, expected) in [
        ("fill_locks.hold = \"9ms\"", "10ms to 1h"),
        ("fill_locks.hold = \"2h\"", "10ms to 1h"),
        ("fill_locks.patience = \"2h\"", "longer than 1h"),
        ("fill_locks.hold = \"soon\"", "no duration"),
    ] {
        let text = words(from_toml(&format!("{line}\n")));
        assert!(text.contains("fill_locks.") && text.contains(expected) && text.contains(":1"), "{text}");
    }
    assert!(words(from_toml("fill_locks.hald = \"1s\"\n")).contains("hald"));
}

#[test]
fn numbers_of_guards_that_cannot_work_are_refused_with_field_line_and_accepted_form() {
    for (toml, field, accepted) in [
        ("bulkhead = { in_flight = 0 }", "bulkhead.in_flight", "from 1 to 1000000"),
        ("bulkhead = { in_flight = 4294967295 }", "bulkhead.in_flight", "from 1 to 1000000"),
        ("bulkhead = { in_flight = -1 }", "bulkhead.in_flight", "no whole number from 0"),
        ("bulkhead = { in_flight = 99999999999 }", "bulkhead.in_flight", "no whole number from 0"),
        ("bulkhead = { queued = 1.5 }", "bulkhead.queued", "no whole number from 0"),
        ("bulkhead = { queued = nan }", "bulkhead.queued", "must be a whole number"),
        ("bulkhead = { queued = \"many\" }", "bulkhead.queued", "must be a whole number"),
        ("bulkhead = { wait = \"0s\" }", "bulkhead.wait", "longer than zero"),
        ("bulkhead = { wait = 5 }", "bulkhead.wait", "must be a duration in quotes"),
        ("bulkhead = { wait = \"NaN\" }", "bulkhead.wait", "no duration such as"),
        ("bulkhead = { wait = \"-1s\" }", "bulkhead.wait", "no duration such as"),
        ("breaker = { failures = 0 }", "breaker.failures", "from 1 to 10000"),
        ("breaker = { probes = 2 }", "breaker.probes", "at least successes"),
        ("breaker = { successes = 4 }", "breaker.probes", "at least successes"),
        ("breaker = { open = \"0s\" }", "breaker.open", "not longer than open_max"),
        ("breaker = { open_max = \"1ms\" }", "breaker.open", "not longer than open_max"),
        ("breaker = { window = \"0s\" }", "breaker.window", "at least 1 ms"),
        ("breaker = { enabled = \"yes\" }", "breaker.enabled", "true or false"),
        ("retry = { tries = 1 }", "retry.tries", "from 2 to 10"),
        ("retry = { tries = 1000000 }", "retry.tries", "from 2 to 10"),
        ("retry = { budget_percent = 101 }", "retry.budget_percent", "from 1 to 100"),
        ("retry = { pause = \"0ms\" }", "retry.pause", "longer than zero"),
        ("retry = { pauze = \"1ms\" }", "retry.pauze", "there are enabled, tries, pause, pause_max, budget_percent"),
        ("adaptive_timeout = { min = \"1ms\" }", "adaptive_timeout.min", "at least 20 ms"),
        ("adaptive_timeout = { factor = 1 }", "adaptive_timeout.factor", "from 2 to 100"),
        ("adaptive_timeout = { enabled = false, factor = 1 }", "adaptive_timeout.factor", "from 2 to 100"),
    ] {
        let text = words(from_toml(&format!("namespace = \"n\"\n{toml}\n")));
        assert!(text.contains(field) && text.contains(":2)") && text.contains(accepted), "{toml}: {text}");
    }
    let text = words(from_toml("bulkhead = 7\n"));
    assert!(text.contains("bulkhead") && text.contains("line 1") && text.contains("true, false, or a table"), "{text}");
    assert!(words(from_toml("bulkheads = true\n")).contains("unknown field `bulkheads`"));
}

#[test]
fn a_guard_is_a_word_or_a_table_and_shows_where_it_came_from() {
    let shown = from_toml("retry = false\n[breaker]\nfailures = 9\nopen_max = \"1m\"\n[bulkhead]\nenabled = false\n");
    let shown = shown.unwrap().show();
    let value = |name: &str| (shown[name].value.clone(), shown[name].source.rsplit(':').next().unwrap().to_owned());
    assert_eq!(value("retry"), (json!(false), "1".into()));
    assert_eq!(value("breaker"), (json!(true), "2".into()));
    assert_eq!(value("breaker.failures"), (json!(9), "3".into()));
    assert_eq!(value("breaker.open_max"), (json!("1m"), "4".into()));
    assert_eq!(value("bulkhead"), (json!(false), "6".into()));
    assert_eq!(value("bulkhead.in_flight"), (json!(100), "default".into()));
    assert_eq!(value("adaptive_timeout.min"), (json!("50ms"), "default".into()));
}

#[test]
fn code_beats_environment_beats_file_beats_default() {
    let toml = "ttl = \"10m\"\n[[tier]]\nbackend = \"file:///from/file\"\n";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cachekit.toml");
    fs::write(&file, toml).unwrap();
    let mut sources = Sources { file: Some(file), ..Sources::default() };
    let dir_of = |config: &Config| match &config.tier.value {
        Some(TierChoice::Builtin { options, .. }) => options["dir"].as_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };

    let config = Config::resolve(&sources).unwrap();
    assert_eq!((config.ttl.value, dir_of(&config)), (Some(Duration::from_secs(600)), "/from/file".into()));
    sources.environment = environment(&[("CACHEKIT_DEFAULT_TTL", "60"), ("CACHEKIT_FILE_CACHE_DIR", "/from/env")]);
    let config = Config::resolve(&sources).unwrap();
    assert_eq!((config.ttl.value, dir_of(&config)), (Some(Duration::from_secs(60)), "/from/env".into()));
    assert_eq!(config.ttl.source, Source::Variable("CACHEKIT_DEFAULT_TTL"));
    sources.environment = environment(&[("CACHEKIT_BACKEND", "file:///url"), ("CACHEKIT_FILE_CACHE_DIR", "/from/env")]);
    assert_eq!(dir_of(&Config::resolve(&sources).unwrap()), "/url");
    sources.backend = Some("file:///from/code".into());
    let config = Config::resolve(&sources).unwrap();
    assert_eq!((dir_of(&config), config.tier.source), ("/from/code".into(), Source::Code("--backend")));
    assert_eq!(Config::resolve(&Sources::default()).unwrap(), Config::default());
}

#[test]
fn a_preset_stands_below_what_is_said_in_so_many_words() {
    let config = from_toml("preset = \"production\"\n").unwrap();
    assert_eq!(config.deadline.value, Some(Duration::from_millis(250)));
    assert_eq!(config.ttl.source, Source::Preset("production"));
    let config = from_toml("preset = \"production\"\nttl = \"1s\"\n").unwrap();
    assert_eq!(config.ttl.value, Some(Duration::from_secs(1)));
    assert!(words(from_toml("preset = \"fast\"\n")).contains("minimal, test, dev, production"));
}

#[test]
fn a_dictionary_is_named_by_its_file_and_shown_with_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let (file, wrong) = (dir.path().join("app.dict"), dir.path().join("app.json"));
    let dictionary = crate::codec::tests::dictionary::trained(1);
    fs::write(&file, dictionary.content()).unwrap();
    fs::write(&wrong, b"{}").unwrap();
    let toml = |path: &std::path::Path, more: &str| format!("[compression]\n{more}dictionary = {path:?}\n");
    let config = from_toml(&toml(&file, "")).unwrap();
    assert_eq!(config.show()["compression.dictionary"].value["id"], json!(dictionary.id().to_string()));
    assert!(config.show()["compression.dictionary"].source.ends_with("cachekit.toml:2"));
    for (toml, expected) in [
        (toml(&wrong, ""), vec!["compression.dictionary", "app.json", "no zstd dictionary"]),
        (toml(&dir.path().join("absent"), ""), vec!["compression.dictionary", "absent", "cannot be read"]),
        (toml(dir.path(), ""), vec!["compression.dictionary", "not a regular file"]),
        (toml("app.dict".as_ref(), ""), vec!["compression.dictionary", "not an absolute path"]),
        (toml(&file, "algorithm = \"lz4\"\n"), vec!["compression.dictionary", "zstd's"]),
    ] {
        let words = words(from_toml(&toml));
        assert!(expected.iter().all(|expected| words.contains(expected)), "{words}");
    }
}

const CHAIN: &str = r#"
[[tier]]
backend = "file:///a"
ttl = "10m"
write = "behind"
promote = false

[[tier]]
backend = "file:///b"

[[tier]]
backend = "file:///c"
"#;

#[test]
fn several_tiers_make_a_chain_whose_last_one_counts() {
    let config = from_toml(CHAIN).unwrap();
    assert_eq!((options_of(&config)["dir"].clone(), config.fronts.len()), (json!("/c"), 2));
    let shown = config.show();
    assert_eq!(shown["tier.front.1.ttl"].value, "10m");
    assert_eq!(
        (&shown["tier.front.1.write"].value, &shown["tier.front.1.promote"].value),
        (&json!("behind"), &json!(false))
    );
    assert!(shown["tier.front.1.write"].source.ends_with("cachekit.toml:5"));
    assert_eq!((&shown["tier.front.2.ttl"].value, &*shown["tier.front.2.ttl"].source), (&json!("30s"), "default"));
    assert_eq!(shown["tier.front.2.write"].value, "through");
}

#[test]
fn a_tier_that_is_named_elsewhere_is_the_only_one() {
    let config = from_both(CHAIN, &[("CACHEKIT_BACKEND", "file:///d")]).unwrap();
    assert_eq!((options_of(&config)["dir"].clone(), config.fronts.len()), (json!("/d"), 0));
    assert!(config.notes.iter().any(|note| note.contains("CACHEKIT_BACKEND names the only one")), "{:?}", config.notes);
    // What belongs to other software too yields to the file, and to all of it.
    let config = from_both(CHAIN, &[("REDIS_URL", "redis://h")]).unwrap();
    assert_eq!((options_of(&config)["dir"].clone(), config.fronts.len()), (json!("/c"), 2));
}

#[test]
fn mistakes_in_the_file_name_their_field_and_line() {
    for (toml, expected) in [
        ("nmespace = \"x\"\n", vec!["nmespace", "unknown field"]),
        ("[l1]\nmax_mb = 1\n", vec!["max_mb", "unknown field"]),
        ("[[tier]]\nurl = \"file:///x\"\n", vec!["url", "unknown field"]),
        ("[plugins]\nrequired = \"hash\"\n", vec!["required", "unknown field"]),
        ("ttl = 600\n", vec!["ttl", "line 1"]),
        ("ttl = nan\n", vec!["ttl", "line 1"]),
        ("\nttl = \"soon\"\n", vec!["ttl", "cachekit.toml:2", "10m"]),
        ("ttl = \"0s\"\n", vec!["ttl", "zero"]),
        ("deadline = \"0ms\"\n", vec!["deadline", "zero"]),
        ("namespace = \"a:b\"\n", vec!["namespace", "colon"]),
        ("namespace = \"\"\n", vec!["namespace"]),
        ("serializer = \"pickle\"\n", vec!["serializer", "msgpack, json"]),
        ("max_value = \"lots\"\n", vec!["max_value", "64KiB"]),
        ("max_value = 0\n", vec!["max_value", "at least 1"]),
        ("max_value = -1\n", vec!["max_value"]),
        ("[l1]\nmax_bytes = 1e400\n", vec!["max_bytes"]),
        ("[l1]\nmax_entries = 0\n", vec!["l1.max_entries", "l1.enabled"]),
        ("[compression]\nlevel = 20\n", vec!["compression.level", "1 to 19"]),
        ("[compression]\nalgorithm = \"lz4\"\nlevel = 1\n", vec!["lz4 has no levels"]),
        ("[compression]\nalgorithm = \"none\"\nthreshold = 1\n", vec!["nothing is compressed"]),
        ("[compression]\nalgorithm = \"snappy\"\n", vec!["zstd, lz4, none"]),
        ("[[tier]]\n", vec!["tier", "name one of"]),
        ("[[tier]]\nbackend = \"file:///x\"\npath = \"/y.so\"\n", vec!["exclude each other"]),
        ("[[tier]]\npath = \"y.so\"\n", vec!["not absolute"]),
        ("[[tier]]\nbackend = \"file:///x\"\nsha256 = \"00\"\n", vec!["sha256 belongs to a plugin"]),
        (
            "[[tier]]\nbackend = \"file:///x?max_size_mb=1\"\n[tier.options]\nmax_size_mb = 2\n",
            vec!["max_size_mb", "different values"],
        ),
        ("[[tier]]\nbackend = \"none\"\n[tier.options]\na = 1\n", vec!["takes no options"]),
        ("[[tier]]\nbackend = \"file:///x\"\nttl = \"1m\"\n", vec!["tier.ttl", ":3", "the last [[tier]]"]),
        (
            "[[tier]]\nbackend = \"file:///x\"\nwrite = \"back\"\n[[tier]]\nbackend = \"file:///y\"\n",
            vec!["tier.write", ":3", "through, behind, none"],
        ),
        (
            "[[tier]]\nbackend = \"file:///x\"\nttl = \"0s\"\n[[tier]]\nbackend = \"file:///y\"\n",
            vec!["tier.ttl", ":3", "life of zero"],
        ),
        (
            "[[tier]]\nbackend = \"none\"\n[[tier]]\nbackend = \"file:///y\"\n",
            vec!["tier", ":1", "no place in a chain"],
        ),
        (
            "[[tier]]\nbackend = \"file:///y\"\n[[tier]]\nbackend = \"none\"\n",
            vec!["tier", ":3", "no place in a chain"],
        ),
        (&*"[[tier]]\nbackend = \"file:///x\"\n".repeat(6), vec!["tier", ":9", "more than 4"]),
        ("[plugins]\ndirs = [\"plugins\"]\n", vec!["plugins.dirs", "not absolute"]),
        ("[plugins]\nreflect = \"maybe\"\n", vec!["off, warn, require"]),
        ("ttl = \"10m\"\nttl = \"5m\"\n", vec!["ttl", "duplicate"]),
        ("this is no toml", vec!["cachekit.toml"]),
    ] {
        let text = words(from_toml(toml));
        for word in expected {
            assert!(text.contains(word), "{toml:?}: {word:?} is not in {text:?}");
        }
    }
}

#[test]
fn mistakes_in_the_environment_name_their_variable() {
    for (name, value, expected) in [
        ("CACHEKIT_DEFAULT_TTL", "-1", "at least 0"),
        ("CACHEKIT_DEFAULT_TTL", "nan", "whole number"),
        ("CACHEKIT_DEFAULT_TTL", "1.5", "whole number"),
        ("CACHEKIT_L1_MAX_SIZE_MB", "0", "from 1"),
        ("CACHEKIT_MAX_VALUE_SIZE", "0", "at least 1"),
        ("CACHEKIT_COMPRESSION_LEVEL", "10", "from 1 to 9"),
        ("CACHEKIT_ENABLE_COMPRESSION", "perhaps", "neither true nor false"),
        ("CACHEKIT_BACKEND", "/var/cache", "file:///var/cache"),
        ("CACHEKIT_FILE_CACHE_DIR", "relative", "absolute"),
        ("CACHEKIT_REDIS_URL", "redis:localhost:6379", "redis://localhost:6379/0"),
        ("CACHEKIT_REDIS_URL", "redis/localhost:6379", "redis://localhost:6379/0"),
    ] {
        let text = words(from_env(&[(name, value)]));
        assert!(text.contains(name) && text.contains(expected), "{name}={value}: {text}");
    }
    let text = words(from_env(&[("CACHEKIT_FILE_CACHE_DIR", "/x"), ("CACHEKIT_FILE_MAX_SIZE_MB", "many")]));
    assert!(text.contains("CACHEKIT_FILE_MAX_SIZE_MB") && text.contains("from 1 to 1000000"), "{text}");
    let text = words(from_env(&[("CACHEKIT_FILE_CACHE_DIR", "/x"), ("CACHEKIT_FILE_PERMISSIONS", "0600")]));
    assert!(text.contains("384 is 0600"), "{text}");
}

#[test]
fn two_selectors_are_an_error_that_names_both_and_a_redis_url_wins_over_all() {
    let both = [("CACHEKIT_API_KEY", "k"), ("CACHEKIT_FILE_CACHE_DIR", "/x")];
    let text = words(from_env(&both));
    assert!(text.contains("CACHEKIT_API_KEY") && text.contains("CACHEKIT_FILE_CACHE_DIR"), "{text}");
    let mut three = both.to_vec();
    three.push(("CACHEKIT_REDIS_URL", "redis://h:1/0"));
    let config = from_env(&three).unwrap();
    assert_eq!(config.tier.source, Source::Variable("CACHEKIT_REDIS_URL"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.notes.len(), 2, "{:?}", config.notes);
}

#[test]
fn a_backend_named_in_code_is_not_questioned_by_the_environment() {
    for odd in
        [&[("CACHEKIT_API_KEY", "k"), ("CACHEKIT_FILE_CACHE_DIR", "/x")][..], &[("CACHEKIT_REDIS_URL", "nonsense")]]
    {
        let environment = Environment::from_vars(odd.iter().map(|(name, value)| (name.into(), value.into())));
        let alone = Sources { environment, ..Sources::default() };
        assert!(Config::resolve(&alone).is_err());
        let config = Config::resolve(&Sources { backend: Some("file:///y".into()), ..alone }).unwrap();
        assert_eq!(config.tier.source, Source::Code("--backend"));
    }
}

#[test]
fn the_unprefixed_redis_url_counts_only_where_nothing_else_chose() {
    let url = [("REDIS_URL", "redis://h:1/0")];
    assert_eq!(from_env(&url).unwrap().tier.source, Source::Variable("REDIS_URL"));
    let config = from_both("[[tier]]\nbackend = \"file:///x\"\n", &url).unwrap();
    assert!(matches!(config.tier.source, Source::File { .. }));
    assert!(config.notes[0].contains("REDIS_URL") && config.notes[0].contains("cachekit.toml:1"), "{:?}", config.notes);
    let both = from_env(&[("REDIS_URL", "redis://common"), ("CACHEKIT_REDIS_URL", "redis://ours")]).unwrap();
    assert_eq!(options_of(&both), json!({"url": "redis://ours"}));
    assert_eq!(both.notes, ["REDIS_URL is set, and not used: CACHEKIT_REDIS_URL selects the backend"]);
}

#[test]
fn variables_of_the_file_backend_fill_what_a_url_leaves_open() {
    let variables = [("CACHEKIT_FILE_MAX_SIZE_MB", "7"), ("CACHEKIT_FILE_MAX_ENTRY_COUNT", "200")];
    let mut sources = Sources { environment: environment(&variables), ..Sources::default() };
    sources.backend = Some("file:///x?max_size_mb=3".into());
    let Some(TierChoice::Builtin { options, .. }) = Config::resolve(&sources).unwrap().tier.value else { panic!() };
    assert_eq!(json!(options), json!({"dir": "/x", "max_size_mb": 3, "max_entry_count": 200}));
}

#[test]
fn variables_of_compression_change_what_they_name_and_no_more() {
    let lz4 = "[compression]\nalgorithm = \"lz4\"\nthreshold = 77\n";
    let config = from_both(lz4, &[("CACHEKIT_COMPRESSION_LEVEL", "9")]).unwrap();
    assert_eq!(config.compression.value, Compression::Zstd { level: 6, threshold: 77 });
    let none = "[compression]\nalgorithm = \"none\"\n";
    let config = from_both(none, &[("CACHEKIT_ENABLE_COMPRESSION", "true")]).unwrap();
    assert_eq!(config.compression.value, Compression::default());
    let config = from_both(lz4, &[("CACHEKIT_ENABLE_COMPRESSION", "0"), ("CACHEKIT_COMPRESSION_LEVEL", "1")]).unwrap();
    assert_eq!(config.compression.value, Compression::None);
}

#[test]
fn a_default_tier_takes_its_options_from_the_environment() {
    let environment = environment(&[("CACHEKIT_FILE_MAX_SIZE_MB", "7")]);
    let mut config = Config::resolve(&Sources { environment: environment.clone(), ..Sources::default() }).unwrap();
    let options = [("dir".to_owned(), json!("/x"))].into_iter().collect();
    let choice = TierChoice::Builtin { scheme: "file".into(), options };
    config.set_default_tier(choice, "a test", &environment).unwrap();
    let Some(TierChoice::Builtin { options, .. }) = &config.tier.value else { panic!() };
    assert_eq!(json!(options), json!({"dir": "/x", "max_size_mb": 7}));
    config.set_default_tier(TierChoice::None, "too late", &environment).unwrap();
    assert_ne!(config.tier.value, Some(TierChoice::None));
}

#[test]
fn wrong_prefixes_and_unknown_variables_draw_a_warning_that_names_the_right_one() {
    let config =
        from_env(&[("CACHE_REDIS_URL", "redis://h"), ("CACHEKIT_COLOUR", "red"), ("CACHE_DIR", "/x")]).unwrap();
    let all: Vec<&str> = config.warnings.iter().map(|warning| warning.0.as_str()).collect();
    assert!(all.iter().any(|text| text.contains("CACHEKIT_REDIS_URL")), "{all:?}");
    assert!(all.iter().any(|text| text.contains("CACHEKIT_COLOUR") && !text.contains("did you mean")), "{all:?}");
    let slip = from_env(&[("CACHEKIT_REDIS_URLS", "redis://h")]).unwrap();
    assert!(slip.warnings[0].0.ends_with("did you mean CACHEKIT_REDIS_URL?"), "{:?}", slip.warnings);
    assert_eq!(all.len(), 2, "other software's CACHE_DIR is nobody's business: {all:?}");
}

#[test]
fn empty_variables_are_unset_and_zero_is_no_expiry() {
    assert_eq!(from_env(&[("CACHEKIT_BACKEND", ""), ("CACHEKIT_DEFAULT_TTL", "")]).unwrap().tier.value, None);
    assert_eq!(from_env(&[("CACHEKIT_DEFAULT_TTL", "0")]).unwrap().ttl.value, None);
}

#[test]
fn a_named_file_must_exist_and_a_default_one_need_not() {
    let absent = Some(PathBuf::from("/nowhere/cachekit.toml"));
    let error = Config::resolve(&Sources { file: absent.clone(), ..Sources::default() }).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }));
    assert!(Config::resolve(&Sources { default_file: absent, ..Sources::default() }).is_ok());
    assert!(words(from_env(&[("CACHEKIT_CONFIG", "/dev/zero")])).contains("regular file"));
    let text = words(from_env(&[("CACHEKIT_CONFIG", "/nowhere/x.toml")]));
    assert!(text.contains("/nowhere/x.toml"), "{text}");
}

#[test]
fn a_registered_backend_opens_and_an_unknown_one_is_an_error_that_lists_what_there_is() {
    let registry = Registry::default().with::<Memory>("memory");
    let open = |url: &str| {
        let config = Config::resolve(&Sources { backend: Some(url.into()), ..Sources::default() }).unwrap();
        config.builder(&registry, EngineServices::shared()).map(|_| ())
    };
    let error = open("redis://localhost").unwrap_err().to_string();
    assert!(error.contains("redis://") && error.contains("memory") && error.contains("--backend"), "{error}");
    assert!(open("none").is_ok());
}

#[test]
fn a_plugin_is_named_by_path_or_by_id() {
    let config =
        from_toml("[[tier]]\npath = \"/opt/x.so\"\nsha256 = \"00\"\n[tier.options]\na = [1, \"b\"]\n").unwrap();
    let Some(TierChoice::Plugin { library, sha256, options }) = &config.tier.value else { panic!() };
    assert_eq!(*library, LibraryChoice::Path("/opt/x.so".into()));
    assert_eq!((sha256.as_deref(), json!(options)), (Some("00"), json!({"a": [1, "b"]})));
    #[cfg(feature = "dynamic-plugins")]
    {
        let error = config.open_tier(&Registry::default(), EngineServices::shared()).err().unwrap().to_string();
        assert!(error.contains("sha256") && error.contains("64 hex digits"), "{error}");
        let config = from_toml("[[tier]]\nplugin = \"acme.store\"\n").unwrap();
        let error = config.open_tier(&Registry::default(), EngineServices::shared()).err().unwrap().to_string();
        assert!(error.contains("[plugins] dirs"), "{error}");
    }
}

#[test]
fn what_is_shown_says_where_it_came_from() {
    let shown = from_both("ttl = \"10m\"\n", &[("CACHEKIT_L1_MAX_SIZE_MB", "5")]).unwrap().show();
    assert!(shown["ttl"].source.ends_with("cachekit.toml:1"), "{:?}", shown["ttl"]);
    assert_eq!(shown["ttl"].value, json!("10m"));
    assert_eq!(shown["l1.max_bytes"].source, "environment CACHEKIT_L1_MAX_SIZE_MB");
    assert_eq!(shown["namespace"].source, "default");
}

#[test]
fn options_of_the_tier_have_sources_of_their_own() {
    let toml = "[[tier]]\nbackend = \"redis://u:hunter2@h/0?a=1\"\n[tier.options]\nconnection_pool_size = 3\nb = 2\n";
    let config = from_both(toml, &[("CACHEKIT_CONNECTION_POOL_SIZE", "7")]).unwrap();
    let shown = config.show();
    let option = |name: &str| {
        (shown[&format!("tier.options.{name}")].value.clone(), &shown[&format!("tier.options.{name}")].source)
    };
    assert_eq!(option("connection_pool_size").0, json!(7));
    assert_eq!(option("connection_pool_size").1, "environment CACHEKIT_CONNECTION_POOL_SIZE");
    assert!(option("b").1.ends_with("cachekit.toml:5"), "{}", option("b").1);
    assert!(option("a").1.ends_with("cachekit.toml:1"), "{}", option("a").1);
    assert_eq!(option("url").0, json!("redis://u:***@h/0"));
}

#[test]
fn an_option_that_a_backend_refuses_is_named_with_its_own_source() {
    let toml = "[[tier]]\nbackend = \"memory://h\"\n[tier.options]\nmax = 1\nmax_key = 0\n";
    let config = from_toml(toml).unwrap();
    let line = |error: &str| config.origin_of(error).to_string().rsplit(':').next().unwrap().to_owned();
    assert_eq!(line("max_key = 0: must be at least 1"), "5");
    assert_eq!(line("max: takes a number (invalid type)"), "4");
    assert_eq!(line("unknown field `max`, expected one of `a`, `b`"), "4");
    assert_eq!(line("max_keys = 3"), "1", "another option's error is no error of max_key");
    let error = config.open_tier(&Registry::default().with::<Memory>("memory"), EngineServices::shared());
    let text = error.err().unwrap().to_string();
    assert!(text.contains("cachekit.toml:"), "{text}");
}

#[test]
fn nothing_that_is_debugged_shows_a_password() {
    let sources = Sources {
        environment: environment(&[("CACHEKIT_API_KEY", "hunter2"), ("CACHEKIT_REDIS_URL", "redis://u:hunter2@h/0")]),
        backend: Some("redis://u:hunter2@h/1".into()),
        ..Sources::default()
    };
    let config = Config::resolve(&sources).unwrap();
    let text = format!("{sources:?} {config:?}");
    assert!(!text.contains("hunter2") && text.contains("CACHEKIT_API_KEY"), "{text}");
}

#[test]
fn secrets_are_resolved_by_reference_only() {
    use cachekit_plugin::open::Services;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "hunter2\n").unwrap();
    assert_eq!(EngineServices.secret(&format!("file:{}", file.display())).unwrap(), "hunter2");
    for wrong in ["hunter2", "env:", "file:relative", "http://x", "env:CACHEKIT_NO_SUCH_VARIABLE"] {
        assert!(EngineServices.secret(wrong).is_err(), "{wrong}");
    }
    fs::write(&file, vec![b'x'; 100_000]).unwrap();
    assert!(EngineServices.secret(&format!("file:{}", file.display())).unwrap_err().contains("more than"));
    assert!(EngineServices.secret("file:/dev/zero").unwrap_err().contains("regular file"));
}

proptest! {
    /// Any text as a file and any value of any variable: a configuration or a typed error, never a panic.
    #[test]
    fn nothing_panics(toml in "(?s).{0,200}", name in 0..super::KNOWN_VARIABLES.len(), value in ".{0,40}", url in ".{0,60}") {
        let _ = from_both(&toml, &[(super::KNOWN_VARIABLES[name].name, &value)]);
        let _ = Config::resolve(&Sources { backend: Some(url), ..Sources::default() });
    }

    /// The same for files that are nearly right.
    #[test]
    fn nearly_right_files_do_not_panic(at in 0..EVERYTHING.len(), with in ".{0,3}", cut in 0..20_usize) {
        let end = (at + cut).min(EVERYTHING.len());
        let _ = from_toml(&format!("{}{with}{}", &EVERYTHING[..at], &EVERYTHING[end..]));
    }
}
