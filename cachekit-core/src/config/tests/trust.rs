//! `[plugins]`: what the file decides, and what the environment and the program can add to it.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::{Config, ConfigError, Environment, PluginDemand, Source, Sources};

/// A configuration file in a directory of its own, with or without a lock file beside it.
struct Place(tempfile::TempDir);

impl Place {
    fn new(toml: &str, lock: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c.toml"), toml).unwrap();
        if let Some(text) = lock {
            fs::write(dir.path().join("cachekit-plugins.lock"), text).unwrap();
        }
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("c.toml")
    }

    fn resolve(&self, vars: &[(&str, &str)]) -> Result<Config, String> {
        self.resolve_in(environment(vars))
    }

    fn resolve_in(&self, environment: Environment) -> Result<Config, String> {
        let sources = Sources { file: Some(self.file()), environment, ..Sources::default() };
        Config::resolve(&sources).map_err(|error| error.to_string())
    }
}

fn environment(vars: &[(&str, &str)]) -> Environment {
    Environment::from_vars(vars.iter().map(|(name, value)| (name.into(), value.into())))
}

const LOCK: &str = "version = 1\n";
/// A public key, of which nobody has the other half any more.
const KEY: &str = "RWT/CQzIFAGy3h1uA5jyZ+8+vPDsvAZ5IsPhFvAv0733ZAv4k9m1aIzQ";

#[test]
fn where_nobody_says_what_is_demanded_a_lock_file_says_it() {
    let without = Place::new("", None).resolve(&[]).unwrap();
    assert_eq!((without.plugin_trust.require().value, &without.plugin_trust.lock().value), (PluginDemand::NONE, &None));
    let place = Place::new("", Some(LOCK));
    let with = place.resolve(&[]).unwrap();
    assert_eq!(with.plugin_trust.require().value, PluginDemand::HASH);
    let lock = place.0.path().join("cachekit-plugins.lock");
    assert_eq!(with.plugin_trust.lock().value.as_ref(), Some(&lock));
    assert!(with.plugin_trust.require().source.to_string().contains("cachekit-plugins.lock"));
    // The file may decide otherwise, in either direction.
    let none = Place::new("plugins.require = \"none\"", Some(LOCK)).resolve(&[]).unwrap();
    assert_eq!(none.plugin_trust.require().value, PluginDemand::NONE);
}

#[test]
fn programs_in_service_take_no_plugin_whose_bytes_nobody_wrote_down() {
    for (toml, demand) in [
        ("preset = \"production\"", PluginDemand::HASH),
        ("preset = \"dev\"", PluginDemand::NONE),
        ("preset = \"production\"\nplugins.require = \"none\"", PluginDemand::NONE),
    ] {
        assert_eq!(Place::new(toml, None).resolve(&[]).unwrap().plugin_trust.require().value, demand, "{toml}");
    }
    let key = "ab".repeat(32);
    let secure = Place::new("preset = \"secure\"", None).resolve(&[("CACHEKIT_MASTER_KEY", &key)]).unwrap();
    assert_eq!(secure.plugin_trust.require().value, PluginDemand::HASH);
}

#[test]
fn a_variable_can_demand_more_and_never_less() {
    let both = PluginDemand::HASH | PluginDemand::SIGNATURE;
    let keys = format!("plugins.trusted_keys = [\"{KEY}\"]\n");
    for (require, variable, demand) in [
        ("none", "none", Some(PluginDemand::NONE)),
        ("none", "hash", Some(PluginDemand::HASH)),
        ("none", "signature", Some(PluginDemand::SIGNATURE)),
        ("hash", "none", None),
        ("hash", "hash", Some(PluginDemand::HASH)),
        ("hash", "signature", Some(both)),
        ("signature", "none", None),
        ("signature", "hash", Some(both)),
    ] {
        let place = Place::new(&format!("{keys}plugins.require = \"{require}\""), None);
        let resolved = place.resolve(&[("CACHEKIT_PLUGIN_REQUIRE", variable)]);
        match (resolved, demand) {
            (Ok(config), Some(demand)) => {
                assert_eq!(config.plugin_trust.require().value, demand, "{require}, then {variable}");
            }
            (Err(error), None) => {
                assert!(error.contains("CACHEKIT_PLUGIN_REQUIRE") && error.contains("c.toml:2"), "{error}");
            }
            (resolved, demand) => panic!("{require}, then {variable}: {resolved:?}, expected {demand:?}"),
        }
    }
    // What a lock file demands by being there, and what a preset does, is no less demanded.
    for (toml, lock) in [("", Some(LOCK)), ("preset = \"production\"", None)] {
        let error = Place::new(toml, lock).resolve(&[("CACHEKIT_PLUGIN_REQUIRE", "none")]).unwrap_err();
        assert!(error.contains("can demand more, and no less"), "{error}");
    }
}

#[test]
fn a_program_can_demand_more_and_never_less() {
    let mut trust = Place::new("plugins.require = \"hash\"", None).resolve(&[]).unwrap().plugin_trust;
    trust.demand(PluginDemand::NONE, "the program");
    assert!(matches!(trust.require().source, Source::File { .. }));
    assert_eq!(trust.require().value, PluginDemand::HASH);
    trust.demand(PluginDemand::SIGNATURE, "the program");
    assert_eq!(trust.require().value, PluginDemand::HASH | PluginDemand::SIGNATURE);
    trust.demand_copies("the program");
    assert_eq!(trust.load_mode().value, "copy");
}

#[test]
fn what_plugins_cannot_be_held_to_is_refused_with_its_forms() {
    for (toml, expected) in [
        ("plugins.require = \"some\"", "none of none, hash, signature"),
        ("plugins.load_mode = \"mmap\"", "none of inode, copy"),
        ("plugins.lock = \"my.lock\"", "absolute path"),
        ("plugins.require = \"signature\"", "plugins.trusted_keys names nobody"),
        ("plugins.required = \"hash\"", "unknown field `required`"),
    ] {
        let error = Place::new(toml, None).resolve(&[]).unwrap_err();
        assert!(error.contains(expected), "{toml}: {error}");
    }
    let error = Place::new("", None).resolve(&[("CACHEKIT_PLUGIN_REQUIRE", "some")]).unwrap_err();
    assert!(error.contains("CACHEKIT_PLUGIN_REQUIRE"), "{error}");
}

#[test]
fn the_environment_adds_directories_unless_the_file_closes_that() {
    let vars = [("CACHEKIT_PLUGIN_PATH", "/opt/a:/opt/b:")];
    let open = Place::new("", None).resolve(&vars).unwrap();
    assert_eq!(open.plugin_trust.path().value, [PathBuf::from("/opt/a"), PathBuf::from("/opt/b")]);
    let closed = Place::new("plugins.env_path = false", None).resolve(&vars).unwrap();
    assert!(closed.plugin_trust.path().value.is_empty());
    assert!(closed.notes.iter().any(|note| note.contains("plugins.env_path is false")), "{:?}", closed.notes);
    let error = Place::new("", None).resolve(&[("CACHEKIT_PLUGIN_PATH", "plugins")]).unwrap_err();
    assert!(error.contains("never looked for relatively"), "{error}");
}

#[test]
fn a_privileged_process_loads_nothing_that_its_starter_names() {
    let place = Place::new("namespace = \"planted\"", None);
    let file = place.file();
    let vars = [
        ("CACHEKIT_PLUGIN_PATH", "/home/mallory"),
        ("CACHEKIT_CONFIG", file.to_str().unwrap()),
        ("CACHEKIT_NAMESPACE", "x"),
    ];
    let resolve = |environment, file: Option<PathBuf>, default_file: Option<PathBuf>| {
        Config::resolve(&Sources { environment, file, default_file, ..Sources::default() })
    };
    // The control: another process takes all of it.
    let plain = resolve(environment(&vars), None, None).unwrap();
    assert_eq!(plain.namespace.value, "planted");
    assert_eq!(plain.plugin_trust.path().value, [Path::new("/home/mallory")]);
    let privileged = resolve(environment(&vars).of_a_stranger(), None, Some(file.clone())).unwrap();
    assert_ne!(privileged.namespace.value, "planted");
    assert!(privileged.plugin_trust.path().value.is_empty());
    assert!(privileged.warnings.iter().any(|warning| warning.0.contains("CACHEKIT_CONFIG is not read")));
    // What the program names itself is read.
    let named = resolve(environment(&vars).of_a_stranger(), Some(file), None).unwrap();
    assert_eq!(named.namespace.value, "planted");
    let url = [("CACHEKIT_BACKEND", "plugin:///home/mallory/x.so")];
    assert!(resolve(environment(&url), None, None).is_ok());
    let error = resolve(environment(&url).of_a_stranger(), None, None).unwrap_err();
    assert!(matches!(error, ConfigError::Value { .. }));
    assert!(error.to_string().contains("loads no library that its environment names"), "{error}");
}
