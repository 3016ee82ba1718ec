//! The second tier from a shared library.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cachekit_host::{Plugin, Policy, inspect};
use cachekit_plugin::{Backend, HostServices};
use serde_json::{Map, Value as Json};

use crate::config::{Config, ConfigError, LibraryChoice};

pub(crate) fn open(
    config: &Config,
    library: &LibraryChoice,
    sha256: Option<&str>,
    options: &Map<String, Json>,
    services: HostServices,
) -> Result<Arc<dyn Backend>, ConfigError> {
    let origin = || config.tier.source.clone();
    let policy = policy(config, sha256)?;
    let path = match library {
        LibraryChoice::Path(path) => path.clone(),
        LibraryChoice::Id(id) => {
            find(&config.plugin_dirs.value, id).map_err(|reason| ConfigError::value("tier.plugin", origin(), reason))?
        }
    };
    let refused = |source| ConfigError::Plugin { origin: origin(), source };
    let plugin = Plugin::open(&path, &policy).map_err(refused)?;
    let json = serde_json::to_vec(options).unwrap_or_default();
    plugin.create(&json, services).map_err(refused)
}

/// What this configuration demands of a plugin.
pub(crate) fn policy(config: &Config, sha256: Option<&str>) -> Result<Policy, ConfigError> {
    let refuse =
        |field: &str, origin: &crate::config::Source, reason| ConfigError::value(field, origin.clone(), reason);
    let reflect = config.plugin_reflect.value.parse();
    let reflect = reflect.map_err(|reason| refuse("plugins.reflect", &config.plugin_reflect.source, reason))?;
    let mut policy = Policy::default().with_reflect(reflect).with_allow_abort(config.plugin_allow_abort.value);
    if let Some(sha256) = sha256 {
        let digest = sha256.parse().map_err(|reason| refuse("tier.sha256", &config.tier.source, reason))?;
        policy = policy.with_sha256(digest);
    }
    Ok(policy)
}

/// The one library with this id in the directories. Reads notes, runs nothing.
fn find(dirs: &[PathBuf], id: &str) -> Result<PathBuf, String> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in libraries(dirs)? {
        if inspect(&path).is_ok_and(|inspection| inspection.identity.id == id) {
            found.push(path);
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] if dirs.is_empty() => Err(format!("{id:?} is looked for in [plugins] dirs, which names none")),
        [] => Err(format!("no library in {dirs:?} has the id {id:?}; `cachekit plugin list` shows what is there")),
        several => Err(format!("{several:?} all have the id {id:?}; remove all but one, or name one by path")),
    }
}

/// The files in the plugin directories that may be libraries, in a fixed order.
pub fn libraries(dirs: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut libraries = Vec::new();
    for dir in dirs {
        let entries = std::fs::read_dir(dir).map_err(|error| format!("the plugin directory {dir:?}: {error}"))?;
        for entry in entries {
            let path = entry.map_err(|error| format!("the plugin directory {dir:?}: {error}"))?.path();
            if path.extension() == Some("so".as_ref()) && Path::is_file(&path) {
                libraries.push(path);
            }
        }
    }
    libraries.sort();
    Ok(libraries)
}
