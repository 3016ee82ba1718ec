//! `[plugins]`: where libraries are looked for, and what must speak for their files.
//!
//! The file decides. The environment and the program may demand more of a plugin than the file does, never less: a variable
//! that somebody sets for a moment must not open a door that an operator closed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::env::refuse;
use super::file::{Field, File};
use super::{Config, ConfigError, Environment, Setting, Source, Sources};

/// Beside the configuration file, unless it names another.
const LOCK_FILE: &str = "cachekit-plugins.lock";

/// What must speak for the bytes of a plugin, besides that nobody else can have written them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PluginDemand {
    /// Their digest, in the configuration or in the lock file.
    pub hash: bool,
    /// A signature by one of the trusted keys.
    pub signature: bool,
}

impl PluginDemand {
    /// Nothing.
    pub const NONE: Self = Self { hash: false, signature: false };
    /// A digest that is written down.
    pub const HASH: Self = Self { hash: true, signature: false };
    /// A signature.
    pub const SIGNATURE: Self = Self { hash: false, signature: true };

    fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "none" => Ok(Self::NONE),
            "hash" => Ok(Self::HASH),
            "signature" => Ok(Self::SIGNATURE),
            other => Err(format!("{other:?} is none of none, hash, signature")),
        }
    }

    /// Whether anything is demanded.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

impl std::ops::BitOr for PluginDemand {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { hash: self.hash || other.hash, signature: self.signature || other.signature }
    }
}

impl fmt::Display for PluginDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.hash, self.signature) {
            (false, false) => "none",
            (true, false) => "hash",
            (false, true) => "signature",
            (true, true) => "hash and signature",
        })
    }
}

/// What is demanded of plugins. Read through its methods: a program can demand more, and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginTrust {
    require: Setting<PluginDemand>,
    trusted_keys: Setting<Vec<String>>,
    load_mode: Setting<&'static str>,
    lock: Setting<Option<PathBuf>>,
    lock_place: Option<PathBuf>,
    env_path: Setting<bool>,
    path: Setting<Vec<PathBuf>>,
}

impl Default for PluginTrust {
    fn default() -> Self {
        Self {
            require: Setting::default_to(PluginDemand::NONE),
            trusted_keys: Setting::default_to(Vec::new()),
            load_mode: Setting::default_to("inode"),
            lock: Setting::default_to(None),
            lock_place: None,
            env_path: Setting::default_to(true),
            path: Setting::default_to(Vec::new()),
        }
    }
}

impl PluginTrust {
    /// What must speak for a plugin's bytes.
    pub fn require(&self) -> &Setting<PluginDemand> {
        &self.require
    }

    /// Public keys whose signatures count, as minisign writes them.
    pub fn trusted_keys(&self) -> &Setting<Vec<String>> {
        &self.trusted_keys
    }

    /// `inode`: the file is loaded as it lies there; `copy`: a copy of the checked bytes that nobody can write.
    pub fn load_mode(&self) -> &Setting<&'static str> {
        &self.load_mode
    }

    /// The lock file that holds. `None`: there is none.
    pub fn lock(&self) -> &Setting<Option<PathBuf>> {
        &self.lock
    }

    /// Where the lock file lies, or would: what `cachekit plugin lock` writes. `None` without a configuration file.
    pub fn lock_place(&self) -> Option<&Path> {
        self.lock_place.as_deref()
    }

    /// Directories that the environment adds to those of the configuration.
    pub fn path(&self) -> &Setting<Vec<PathBuf>> {
        &self.path
    }

    /// Whether the environment may.
    pub fn env_path(&self) -> &Setting<bool> {
        &self.env_path
    }

    /// Demands this too. What is demanded already stays so.
    pub fn demand(&mut self, more: PluginDemand, what: &'static str) {
        let all = self.require.value | more;
        if all != self.require.value {
            self.require.set(all, Source::Code(what));
        }
    }

    /// Loads copies that nobody can write, whatever the file says.
    pub fn demand_copies(&mut self, what: &'static str) {
        self.load_mode.set("copy", Source::Code(what));
    }

    /// What a preset demands, if the file says nothing.
    pub(super) fn preset(&mut self, demand: PluginDemand, source: Source) {
        self.require.set(demand, source);
    }

    /// What cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.require.value.signature && self.trusted_keys.value.is_empty() {
            let reason = "signatures are demanded, and plugins.trusted_keys names nobody whose signature counts".into();
            return Err(ConfigError::value("plugins.require", self.require.source.clone(), reason));
        }
        Ok(())
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    dirs: Field<Vec<PathBuf>>,
    env_path: Field<bool>,
    require: Field<String>,
    lock: Field<PathBuf>,
    trusted_keys: Field<Vec<String>>,
    load_mode: Field<String>,
    reflect: Field<String>,
    allow_abort: Field<bool>,
}

impl Fields {
    pub(super) fn apply(&self, file: &File, config: &mut Config) -> Result<(), ConfigError> {
        file.take(&self.dirs, &mut config.plugin_dirs, "plugins.dirs", |dirs| {
            match dirs.iter().find(|dir| !dir.is_absolute()) {
                Some(relative) => Err(format!("{relative:?} is not absolute; plugins are never looked for relatively")),
                None => Ok(dirs.clone()),
            }
        })?;
        file.take(&self.reflect, &mut config.plugin_reflect, "plugins.reflect", |mode| match &**mode {
            "off" | "warn" | "require" => Ok(mode.clone()),
            other => Err(format!("{other:?} is none of off, warn, require")),
        })?;
        file.take(&self.allow_abort, &mut config.plugin_allow_abort, "plugins.allow_abort", |yes| Ok(*yes))?;
        let trust = &mut config.plugin_trust;
        file.take(&self.env_path, &mut trust.env_path, "plugins.env_path", |yes| Ok(*yes))?;
        file.take(&self.require, &mut trust.require, "plugins.require", |name| PluginDemand::from_name(name))?;
        file.take(&self.lock, &mut trust.lock, "plugins.lock", |path| match path.is_absolute() {
            true => Ok(Some(path.clone())),
            false => Err("an absolute path, please".into()),
        })?;
        file.take(&self.trusted_keys, &mut trust.trusted_keys, "plugins.trusted_keys", |keys| Ok(keys.clone()))?;
        file.take(&self.load_mode, &mut trust.load_mode, "plugins.load_mode", |mode| match &**mode {
            "inode" => Ok("inode"),
            "copy" => Ok("copy"),
            other => Err(format!("{other:?} is none of inode, copy")),
        })
    }
}

/// Looks for the lock file: the one that the configuration names, else one beside it. Where nobody said what is demanded, a
/// lock file that is there says it.
pub(super) fn find_lock(config: &mut Config, sources: &Sources) {
    let trust = &mut config.plugin_trust;
    let beside = sources.configuration_file().map(|(file, _)| file.with_file_name(LOCK_FILE));
    trust.lock_place = trust.lock.value.clone().or(beside);
    if trust.lock.value.is_none()
        && let Some(place) = trust.lock_place.clone()
        // A link that leads nowhere is a lock file that cannot be read, not none.
        && place.symlink_metadata().is_ok()
    {
        trust.lock.set(Some(place.clone()), Source::File { path: place, line: 1 });
    }
    if trust.lock.value.is_some() && trust.require.source == Source::Default {
        trust.require.set(PluginDemand::HASH, trust.lock.source.clone());
    }
}

/// What the environment adds: directories, and demands.
pub(super) fn apply(environment: &Environment, config: &mut Config) -> Result<(), ConfigError> {
    let name = "CACHEKIT_PLUGIN_PATH";
    if let Some(path) = environment.text(name)? {
        if environment.is_privileged() {
            config
                .notes
                .push(format!("{name} is set, and not used: this process has more rights than whoever started it"));
        } else if !config.plugin_trust.env_path.value {
            let closed = &config.plugin_trust.env_path.source;
            config.notes.push(format!("{name} is set, and not used: plugins.env_path is false ({closed})"));
        } else {
            let dirs: Vec<PathBuf> = path.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect();
            if let Some(relative) = dirs.iter().find(|dir| !dir.is_absolute()) {
                let reason = format!("{relative:?} is not absolute; plugins are never looked for relatively");
                return Err(refuse(name, reason));
            }
            config.plugin_trust.path.set(dirs, Source::Variable(name));
        }
    }
    let name = "CACHEKIT_PLUGIN_REQUIRE";
    if let Some(text) = environment.text(name)? {
        let wanted = PluginDemand::from_name(&text).map_err(|reason| refuse(name, reason))?;
        let require = &mut config.plugin_trust.require;
        match (wanted.is_some(), require.value.is_some()) {
            (true, _) if require.value | wanted != require.value => {
                require.set(require.value | wanted, Source::Variable(name));
            }
            (false, true) => {
                let (demanded, by) = (require.value, &require.source);
                let reason = format!("plugins.require is {demanded} ({by}); a variable can demand more, and no less");
                return Err(refuse(name, reason));
            }
            _ => {}
        }
    }
    Ok(())
}
