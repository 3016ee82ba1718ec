//! Which backend the environment chooses.
//!
//! ```text
//! CACHEKIT_BACKEND > CACHEKIT_REDIS_URL > REDIS_URL > exactly one of CACHEKIT_API_KEY, CACHEKIT_MEMCACHED_SERVERS,
//! CACHEKIT_FILE_CACHE_DIR
//! ```
//!
//! As the family's guide ranks them. Two of the last three are an error that names both, because nobody can tell which one
//! was meant. `REDIS_URL` belongs to other software too, so it yields to a backend that the configuration file names. And
//! `CACHEKIT_API_KEY` is what a file that names cachekit.io leaves to the environment: there it is an option and chooses
//! nothing, because choosing would send the key and every value to another host than the file's.

use serde_json::{Map, json};

use super::env::refuse;
use super::variables::{CACHEKITIO, FILE, MEMCACHED, one_option};
use super::{Config, ConfigError, Environment, Setting, Source, TierChoice, url};

const REDIS_URLS: [&str; 2] = ["CACHEKIT_REDIS_URL", "REDIS_URL"];
const OTHERS: [&str; 3] = ["CACHEKIT_API_KEY", "CACHEKIT_MEMCACHED_SERVERS", "CACHEKIT_FILE_CACHE_DIR"];

/// What presets other than `io` and nobody else leave to the environment.
pub(super) fn choose(environment: &Environment, config: &mut Config) -> Result<(), ConfigError> {
    if let Some(text) = environment.text("CACHEKIT_BACKEND")? {
        let choice = url::choose(&text).map_err(|reason| refuse("CACHEKIT_BACKEND", reason))?;
        if environment.is_privileged() && matches!(choice, TierChoice::Plugin { .. }) {
            let reason = "this process has more rights than whoever started it, and loads no library that its environment \
                          names; name it in a configuration file that the program names";
            return Err(refuse("CACHEKIT_BACKEND", reason.into()));
        }
        take(environment, config, choice, "CACHEKIT_BACKEND");
        return Ok(());
    }
    // The preset brings its own backend, and no URL of a Redis touches it.
    if config.is_io() {
        return Ok(());
    }
    let [ours, common] = REDIS_URLS;
    if let Some(text) = environment.text(ours)? {
        let choice = redis(&text).map_err(|reason| refuse(ours, reason))?;
        take(environment, config, choice, ours);
        return Ok(());
    }
    let of_file = of_file(config).cloned();
    if of_file.is_none()
        && let Some(text) = environment.text(common)?
    {
        let choice = redis(&text).map_err(|reason| refuse(common, reason))?;
        take(environment, config, choice, common);
        return Ok(());
    }
    let set: Vec<&'static str> = OTHERS.into_iter().filter(|name| environment.has(name)).collect();
    let (name, choice) = match set.as_slice() {
        [] => {
            note_unused_url(environment, config, of_file);
            return Ok(());
        }
        ["CACHEKIT_API_KEY"] if of_file.is_some() && is_cachekitio(config.tier.value.as_ref()) => {
            note_unused_url(environment, config, of_file);
            return Ok(());
        }
        [name @ "CACHEKIT_FILE_CACHE_DIR"] => {
            let dir = environment.text(name)?.unwrap_or_default();
            if !dir.starts_with('/') {
                return Err(refuse(name, format!("{dir:?} is not an absolute path")));
            }
            (*name, builtin(FILE, one_option("dir", json!(*dir))))
        }
        [name @ "CACHEKIT_MEMCACHED_SERVERS"] => {
            let servers = environment.value(name)?.unwrap_or_default();
            (*name, builtin(MEMCACHED, one_option("servers", servers)))
        }
        // Its key is an option that the variable fills in, as every other option of the backend.
        [name] => (*name, builtin(CACHEKITIO, Map::new())),
        several => {
            let reason = format!(
                "ambiguous: {} are all set and each selects a backend; unset all but one, or name the backend in \
                 CACHEKIT_BACKEND",
                several.join(", ")
            );
            return Err(refuse(several[0], reason));
        }
    };
    take(environment, config, choice, name);
    Ok(())
}

/// Where the file names a backend, if it does and nothing has gone over it.
fn of_file(config: &Config) -> Option<&Source> {
    let Setting { value, source } = &config.tier;
    (value.is_some() && matches!(source, Source::File { .. })).then_some(source)
}

fn is_cachekitio(choice: Option<&TierChoice>) -> bool {
    matches!(choice, Some(TierChoice::Builtin { scheme, .. }) if CACHEKITIO.contains(&scheme.as_str()))
}

/// Notes a URL that yields to the file. Only once it is known that the file's backend stays.
fn note_unused_url(environment: &Environment, config: &mut Config, of_file: Option<Source>) {
    let [_, common] = REDIS_URLS;
    if let Some(place) = of_file
        && environment.has(common)
    {
        config.notes.push(format!("{common} is set, and not used: {place} names the backend"));
    }
}

/// A URL of a Redis, and of nothing else.
fn redis(text: &str) -> Result<TierChoice, String> {
    let form = "redis://host:port/db, such as redis://localhost:6379/0 (rediss:// for TLS)";
    if !text.contains("://") {
        return Err(format!("{} is not a URL; expected {form}", url::shown(text)));
    }
    if !["redis://", "rediss://", "unix://", "redis+", "rediss+"].iter().any(|scheme| text.starts_with(scheme)) {
        let scheme = text.split("://").next().unwrap_or_default();
        return Err(format!("{scheme}:// is no scheme of Redis; expected {form}"));
    }
    url::choose(text)
}

fn builtin(schemes: &[&str], options: Map<String, serde_json::Value>) -> TierChoice {
    TierChoice::Builtin { scheme: schemes.first().copied().unwrap_or_default().to_owned(), options }
}

/// Takes a choice, and notes what it leaves out.
fn take(environment: &Environment, config: &mut Config, choice: TierChoice, name: &'static str) {
    let takes_key = is_cachekitio(Some(&choice));
    for other in REDIS_URLS.into_iter().chain(OTHERS) {
        // The key of a backend that was chosen otherwise is its option, and no rival.
        let is_option = takes_key && other == "CACHEKIT_API_KEY";
        if other != name && environment.has(other) && !is_option {
            config.notes.push(format!("{other} is set, and not used: {name} selects the backend"));
        }
    }
    // Of a chain of tiers it is told once, where its fronts are left out.
    if config.fronts.is_empty()
        && let Some(place) = of_file(config)
    {
        let note = format!("the [[tier]] of the file ({place}) is not used: {name} selects the backend");
        config.notes.push(note);
    }
    config.tier.set(Some(choice), Source::Variable(name));
    config.tier_options.clear();
}
