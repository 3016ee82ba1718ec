//! Which tier is chosen, and by whom.

use super::*;

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

const ON_PREMISES: &str = r#"
[[tier]]
backend = "file:///a"

[[tier]]
backend = "cachekitio://cache.internal:8443"
[tier.options]
allow_private_host = true
"#;

#[test]
fn the_key_of_a_backend_that_the_file_names_is_its_option_and_chooses_no_other() {
    let config = from_both(ON_PREMISES, &[("CACHEKIT_API_KEY", "k"), ("REDIS_URL", "redis://h")]).unwrap();
    assert_eq!(
        options_of(&config),
        json!({"url": "cachekitio://cache.internal:8443", "allow_private_host": true,
               "api_key": {"$secret": "env:CACHEKIT_API_KEY"}})
    );
    assert!(matches!(config.tier.source, Source::File { line: 5, .. }), "{:?}", config.tier.source);
    assert_eq!((config.fronts.len(), config.notes.len()), (1, 1), "{:?}", config.notes);
    assert!(config.notes[0].contains("REDIS_URL") && config.notes[0].contains("cachekit.toml:5"), "{:?}", config.notes);
    // Another selector beside it still leaves nobody able to tell which one was meant.
    let two = [("CACHEKIT_API_KEY", "k"), ("CACHEKIT_FILE_CACHE_DIR", "/x")];
    assert!(words(from_both(ON_PREMISES, &two)).contains("ambiguous"));
}

#[test]
fn a_tier_of_the_file_that_a_variable_replaces_is_noted() {
    let toml = "[[tier]]\nbackend = \"file:///x\"\n";
    for (name, value) in [
        ("CACHEKIT_API_KEY", "k"),
        ("CACHEKIT_BACKEND", "none"),
        ("CACHEKIT_FILE_CACHE_DIR", "/y"),
        ("CACHEKIT_REDIS_URL", "redis://h"),
    ] {
        let config = from_both(toml, &[(name, value)]).unwrap();
        assert_eq!(config.tier.source, Source::Variable(name));
        assert_eq!(config.notes.len(), 1, "{:?}", config.notes);
        let note = &config.notes[0];
        assert!(note.contains("cachekit.toml:1") && note.contains(name), "{note}");
    }
    // Of a chain it is told once.
    assert_eq!(from_both(CHAIN, &[("CACHEKIT_API_KEY", "k")]).unwrap().notes.len(), 1);
}

#[test]
fn a_url_that_is_not_used_is_noted_with_what_is_used_instead() {
    let toml = "[[tier]]\nbackend = \"file:///x\"\n";
    let config = from_both(toml, &[("REDIS_URL", "redis://h"), ("CACHEKIT_FILE_CACHE_DIR", "/y")]).unwrap();
    assert_eq!(config.tier.source, Source::Variable("CACHEKIT_FILE_CACHE_DIR"));
    let of_redis: Vec<&String> = config.notes.iter().filter(|note| note.contains("REDIS_URL")).collect();
    assert_eq!(of_redis, ["REDIS_URL is set, and not used: CACHEKIT_FILE_CACHE_DIR selects the backend"]);
}

#[test]
fn a_backend_named_in_code_asks_nothing_of_variables_for_the_backend_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cachekit.toml");
    fs::write(&file, "[[tier]]\nbackend = \"redis://h\"\n").unwrap();
    let environment = environment(&[("CACHEKIT_SOCKET_TIMEOUT", "0"), ("CACHEKIT_FILE_MAX_SIZE_MB", "7")]);
    let alone = Sources { file: Some(file), environment, ..Sources::default() };
    assert!(words(Config::resolve(&alone)).contains("CACHEKIT_SOCKET_TIMEOUT"));
    let config = Config::resolve(&Sources { backend: Some("file:///y".into()), ..alone.clone() }).unwrap();
    assert_eq!(options_of(&config), json!({"dir": "/y", "max_size_mb": 7}));
    // Its own variables it does ask.
    let own = Sources { backend: Some("redis://g".into()), ..alone };
    assert!(words(Config::resolve(&own)).contains("CACHEKIT_SOCKET_TIMEOUT"));
}
