//! From the options to an open cache.
//!
//! The program differs from an application in three settings, and nowhere else: reads are strict, because an outage must
//! not look like a miss; there is no L1, because the process ends before it could serve anything; and with nothing
//! configured the store is a directory in the user's cache directory, because L1 alone would keep nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cachekit::config::{EngineServices, PluginDemand};
use cachekit::{Cache, Config, ConfigError, Environment, Source, Sources, TierChoice};
use cachekit_plugin::Backend;

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::Output;

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    global: Global,
    pub(crate) output: Output,
}

impl Session {
    pub(crate) fn new(global: Global, output: Output) -> Self {
        Self { global, output }
    }

    /// The configuration, its store chosen. What is odd about it goes to stderr.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let environment = Environment::of_process();
        let mut config = Config::resolve(&Sources {
            file: self.global.config.clone(),
            default_file: cachekit::user_config_file(),
            environment: environment.clone(),
            preset: self.global.preset.clone(),
            backend: self.global.backend.clone(),
            namespace: self.global.namespace.clone(),
        })?;
        for warning in &config.warnings {
            self.output.warn(&warning.0);
        }
        if self.output.is_verbose() {
            config.notes.iter().for_each(|note| self.output.note(&format!("note: {note}")));
        }
        if config.tier.value.is_none() {
            let why = "nothing is configured: the user's cache directory";
            config.set_default_tier(cachekit::embedded_tier()?, why, &environment)?;
        }
        Ok(config)
    }

    /// The namespace of the command line, if one was given.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.global.namespace.as_deref()
    }

    /// The store that a URL names, for commands that have more than one. What its URL leaves open the environment may say;
    /// the configuration file says which plugins may be loaded, and nothing of the store: its own is another one.
    pub(crate) fn store(&self, url: &str) -> Result<Arc<dyn Backend>, Failure> {
        let config = self.config_of_store(url)?;
        let opened = config.open_tier(&cachekit::built_in(), EngineServices::shared())?;
        opened.ok_or_else(|| Failure::Usage("none is no store: name one by its URL".into()))
    }

    /// A preset may ask for what a cache needs and a bare store does not: `io` for its own backend, `secure` for a key. A file
    /// that fails by that alone is read without its preset; one that is wrong in itself is told as it is.
    fn config_of_store(&self, url: &str) -> Result<Config, Failure> {
        let sources = Sources {
            file: self.global.config.clone(),
            default_file: cachekit::user_config_file(),
            environment: Environment::of_process(),
            backend: Some(url.to_owned()),
            ..Sources::default()
        };
        match Config::resolve(&sources) {
            Err(ConfigError::Value { field, .. }) if field != "preset" => {}
            resolved => return Ok(resolved?),
        }
        let plain = Sources { preset: Some("minimal".into()), ..sources };
        let mut config = Config::resolve(&plain)?;
        // The preset may have been one that takes no plugin whose bytes nobody wrote down.
        if config.plugin_trust.require().source == Source::Default {
            config.plugin_trust.demand(PluginDemand::HASH, "the preset of the configuration file");
        }
        Ok(config)
    }

    /// Opens the cache, does the work and closes the cache in order: a store may keep writes back until then.
    pub(crate) fn with_cache<T>(&self, work: impl FnOnce(&Cache) -> Result<T, Failure>) -> Result<T, Failure> {
        let cache = open(self.config()?)?;
        let done = work(&cache)?;
        cache.blocking().close()?;
        Ok(done)
    }
}

/// Opens the cache of a configuration as this program uses it.
pub(crate) fn open(mut config: Config) -> Result<Cache, Failure> {
    if config.tier.value.as_ref().is_none_or(|tier| *tier == TierChoice::None) {
        let source = &config.tier.source;
        return Err(Failure::Usage(format!("this command needs a store, and the configuration ({source}) names none")));
    }
    let program = Source::Code("the program");
    config.strict.set(true, program.clone());
    config.l1_enabled.set(false, program.clone());
    // What this program writes has to be there when it says so, and the exit code tells whether it is.
    config.write_behind.enabled.set(false, program);
    let builder = config.builder(&cachekit::built_in(), EngineServices::shared())?;
    Ok(builder.build()?)
}

/// The file that a path on the command line leads to. The user's own hand may be relative and follow links; a
/// configuration may not.
pub(crate) fn resolved(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(Failure::io(format!("{path:?} cannot be found")))
}
