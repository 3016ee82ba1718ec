//! The second tier from a shared library: where it is looked for, what is demanded of it, and its options checked before
//! anything is opened with them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use cachekit_host::process::is_privileged;
use cachekit_host::{LoadMode, LockFile, Plugin, Policy, Require, inspect};
use cachekit_plugin::{Backend, HostServices};
use serde_json::{Map, Value as Json};

use crate::config::schema::Schema;
use crate::config::{Config, ConfigError, LibraryChoice, Source};

/// Where distributions put plugins. Whoever builds for a system with other places sets `CACHEKIT_PLUGIN_DIR`.
pub const COMPILED_IN_DIR: &str = match option_env!("CACHEKIT_PLUGIN_DIR") {
    Some(dir) => dir,
    None => "/usr/lib/cachekit/plugins",
};

pub(crate) fn open(
    config: &Config,
    library: &LibraryChoice,
    sha256: Option<&str>,
    options: &Map<String, Json>,
    services: HostServices,
) -> Result<Arc<dyn Backend>, ConfigError> {
    let origin = || config.tier.source.clone();
    let refused = |source| ConfigError::Plugin { origin: origin(), source };
    let policy = policy(config, sha256, &config.tier.source.to_string())?;
    let path = match library {
        LibraryChoice::Path(path) => path.clone(),
        LibraryChoice::Id(id) => {
            find(config, id).map_err(|reason| ConfigError::value("tier.plugin", origin(), reason))?
        }
    };
    let plugin = Plugin::open(&path, &policy).map_err(refused)?;
    let mut options = options.clone();
    if let Some(schema) = plugin.config_schema().map_err(refused)? {
        let schema = Schema::new(&schema);
        as_text(config, &schema, &mut options);
        check_options(config, &plugin, &schema, &options)?;
    }
    let json = serde_json::to_vec(&options).unwrap_or_default();
    plugin.create(&json, services).map_err(refused)
}

/// In a URL everything is text, and what looks like a number was taken for one. Here it is known where text was meant.
fn as_text(config: &Config, schema: &Schema<'_>, options: &mut Map<String, Json>) {
    for (name, value) in options.iter_mut().filter(|(name, _)| !config.tier_options.contains_key(*name)) {
        if (value.is_number() || value.is_boolean()) && !schema.takes(name, value) {
            let text = Json::String(value.to_string());
            if schema.takes(name, &text) {
                *value = text;
            }
        }
    }
}

/// Holds the options to what the plugin says it takes. It would refuse them too; here it is known on which line they stand.
fn check_options(
    config: &Config,
    plugin: &Plugin,
    schema: &Schema<'_>,
    options: &Map<String, Json>,
) -> Result<(), ConfigError> {
    schema.check(options).map_err(|wrong| {
        let origin = wrong.option().and_then(|option| config.tier_options.get(option));
        let origin = origin.unwrap_or(&config.tier.source).clone();
        let reason = format!("{} (plugin {})", wrong.reason, plugin.identity().id);
        ConfigError::value(format!("tier.options{}", wrong.place), origin, reason)
    })
}

/// What this configuration demands of a plugin: `sha256` if it names one, and `origin` says where.
///
/// # Errors
/// [`ConfigError`] for a demand that is out of its form, or a lock file that cannot be believed.
pub fn policy(config: &Config, sha256: Option<&str>, origin: &str) -> Result<Policy, ConfigError> {
    let refuse = |field: &str, origin: &Source, reason| ConfigError::value(field, origin.clone(), reason);
    let reflect = config.plugin_reflect.value.parse();
    let reflect = reflect.map_err(|reason| refuse("plugins.reflect", &config.plugin_reflect.source, reason))?;
    let trust = &config.plugin_trust;
    let mode: Result<LoadMode, _> = trust.load_mode().value.parse();
    let mode = mode.map_err(|reason| refuse("plugins.load_mode", &trust.load_mode().source, reason))?;
    let keys: Result<Vec<_>, _> = trust.trusted_keys().value.iter().map(|key| key.parse()).collect();
    let keys = keys.map_err(|reason| refuse("plugins.trusted_keys", &trust.trusted_keys().source, reason))?;
    let demand = trust.require().value;
    let require = Require { hash: demand.hash, signature: demand.signature };
    let mut policy = Policy::default()
        .with_reflect(reflect)
        .with_allow_abort(config.plugin_allow_abort.value)
        .with_load_mode(mode)
        .with_trusted_keys(keys)
        .with_require(require);
    if let (Some(path), true) = (&trust.lock().value, demand.is_some()) {
        let read = LockFile::read(path);
        let read = read.map_err(|source| ConfigError::Plugin { origin: trust.lock().source.clone(), source })?;
        // The configuration names it, or it was there a moment ago.
        let lock =
            read.ok_or_else(|| refuse("plugins.lock", &trust.lock().source, format!("{path:?} is not there")))?;
        policy = policy.with_lock(Arc::new(lock));
    }
    if let Some(sha256) = sha256 {
        let digest = sha256.parse().map_err(|reason| refuse("tier.sha256", &config.tier.source, reason))?;
        policy = policy.with_sha256(digest).with_sha256_origin(origin);
    }
    Ok(policy)
}

/// The directories in which plugins are looked for by id, with who names them: `[plugins] dirs`, then
/// `CACHEKIT_PLUGIN_PATH`, then the one that was compiled in, if it is there.
pub fn search_path(config: &Config) -> Vec<(PathBuf, Source)> {
    let (dirs, path) = (&config.plugin_dirs, config.plugin_trust.path());
    let named = [dirs, path].into_iter();
    let mut places: Vec<(PathBuf, Source)> =
        named.flat_map(|dirs| dirs.value.iter().map(|dir| (dir.clone(), dirs.source.clone()))).collect();
    if Path::new(COMPILED_IN_DIR).is_dir() {
        places.push((COMPILED_IN_DIR.into(), Source::Default));
    }
    let mut seen = BTreeSet::new();
    places.retain(|(dir, _)| seen.insert(dir.clone()));
    places
}

/// The one library with this id in the search path. Reads notes, runs nothing. No place goes before another: of two
/// libraries with one id nobody could say which was meant.
fn find(config: &Config, id: &str) -> Result<PathBuf, String> {
    let dirs: Vec<PathBuf> = search_path(config).into_iter().map(|(dir, _)| dir).collect();
    let mut found: Vec<PathBuf> = Vec::new();
    for path in libraries(&dirs)? {
        if inspect(&path).is_ok_and(|inspection| inspection.identity.id == id) {
            found.push(path);
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] if dirs.is_empty() => Err(format!(
            "{id:?} is looked for in [plugins] dirs, CACHEKIT_PLUGIN_PATH and {COMPILED_IN_DIR:?}, and there are none of \
             these"
        )),
        [] => Err(format!("no library in {dirs:?} has the id {id:?}; `cachekit plugin list` shows what is there")),
        several => Err(format!("{several:?} all have the id {id:?}; remove all but one, or name one by path")),
    }
}

/// The files in plugin directories that may be libraries, in a fixed order.
///
/// # Errors
/// A directory that cannot be read, or that is reached through a link: what it leads to could be changed.
pub fn libraries(dirs: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut libraries = BTreeSet::new();
    for dir in dirs {
        let refuse = |error: std::io::Error| format!("the plugin directory {dir:?}: {error}");
        let canonical = dir.canonicalize().map_err(refuse)?;
        if canonical != *dir {
            return Err(format!("the plugin directory {dir:?} is reached through a link; name it as {canonical:?}"));
        }
        for entry in std::fs::read_dir(dir).map_err(refuse)? {
            let path = entry.map_err(refuse)?.path();
            if path.extension() == Some("so".as_ref()) && Path::is_file(&path) {
                libraries.insert(path);
            }
        }
    }
    Ok(libraries.into_iter().collect())
}
