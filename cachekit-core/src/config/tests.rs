//! Every source, every precedence, every mistake with the words that help.

mod environment;
mod mistakes;
mod settings;
mod tiers;
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
    for backend in [
        "redis://h:6379/0?password=hunter2",
        "redis://h:6379/0?password=a@hunter2",
        "redis://u:hun?ter2@h/0?password=hunter2",
        "redis:h?password=hunter2",
        "u:hunter2@h://",
    ] {
        let text = format!("{:?}", Sources { backend: Some(backend.into()), ..Sources::default() });
        assert!(!text.contains("hunter2") && !text.contains("ter2"), "{text}");
        assert_eq!(text.contains("redis"), backend.starts_with("redis://"), "{text}");
    }
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
