//! One typed configuration from four sources: code > environment > `cachekit.toml` > defaults.
//!
//! Every setting remembers where its value came from, so that `cachekit config show` can say it and an error can name the
//! line or the variable. A field, an option or a value that is not known is an error; a known one changes behaviour.
//!
//! Nothing here reads the environment by itself: whoever resolves a configuration passes in what there is.

mod behind;
mod dictionary;
mod env;
mod error;
mod file;
mod freshness;
mod fronts;
mod guards;
mod keys;
mod preset;
pub mod schema;
mod secret;
mod select;
mod show;
#[cfg(test)]
mod tests;
mod trust;
mod url;
mod variables;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cachekit_plugin::{Backend, HostServices};
use serde_json::{Map, Value as Json};

pub use behind::WriteBehindSettings;
pub use dictionary::DictionaryFile;
pub use env::{Environment, Warning};
pub use error::ConfigError;
pub use freshness::FreshnessSettings;
pub use fronts::FrontTier;
pub use guards::GuardNumbers;
pub use secret::EngineServices;
pub use show::Shown;
pub use trust::{PluginDemand, PluginTrust};
pub use url::BackendUrl;
pub use variables::{KNOWN_VARIABLES, REDIS as REDIS_SCHEMES, Variable};

use crate::builder::{self, CacheBuilder, NamespaceEpochs};
use crate::cache::Cache;
use crate::codec::{Compression, DEFAULT_MAX_VALUE, Serializer};
use crate::crypto::MasterKey;
use crate::guard::fill_lock::FillLocks;
use crate::key::DEFAULT_NAMESPACE;
use crate::l1::L1Config;
use crate::tier::registry::Registry;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A line of a configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(&'static str),
    /// A preset, itself chosen elsewhere.
    Preset(&'static str),
    /// The program: a builder call or a command-line option.
    Code(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::Code(what) => f.write_str(what),
        }
    }
}

/// A value with its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

impl<T> Setting<T> {
    /// A value nobody set.
    pub const fn default_to(value: T) -> Self {
        Self { value, source: Source::Default }
    }

    /// Replaces the value.
    pub fn set(&mut self, value: T, source: Source) {
        *self = Self { value, source };
    }
}

/// Where the second tier comes from.
#[derive(Clone, PartialEq)]
pub enum TierChoice {
    /// L1 alone.
    None,
    /// A backend this program was built with, by the scheme of its URL.
    Builtin {
        /// `file`, `redis`, ….
        scheme: String,
        /// Its options.
        options: Map<String, Json>,
    },
    /// A shared library.
    Plugin {
        /// Which one.
        library: LibraryChoice,
        /// Digest that the file must have.
        sha256: Option<String>,
        /// Its options.
        options: Map<String, Json>,
    },
}

impl TierChoice {
    /// Whether its options put something before every key.
    fn puts_before_keys(&self) -> bool {
        let (Self::Builtin { options, .. } | Self::Plugin { options, .. }) = self else { return false };
        let is_set = |name| options.get(name).is_some_and(|value| !value.is_null() && value != "");
        ["tenant", "key_prefix"].into_iter().any(is_set)
    }
}

/// As [`Config::show`] has it, without what looks like a secret.
impl std::fmt::Debug for TierChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TierChoice({})", show::choice(self))
    }
}

/// How a plugin is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LibraryChoice {
    /// By its file.
    Path(PathBuf),
    /// By its id, looked for in [`Config::plugin_dirs`].
    Id(String),
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where defaults start from.
    pub preset: Setting<Option<&'static str>>,
    /// Namespace of keys.
    pub namespace: Setting<String>,
    /// Life of values set without one; `None`: no expiry.
    pub ttl: Setting<Option<Duration>>,
    /// When an operation gives up on the second tier; `None`: what the store suggests.
    pub deadline: Setting<Option<Duration>>,
    /// Outages are errors.
    pub strict: Setting<bool>,
    /// Whether a circuit breaker stands before the second tier.
    pub breaker: Setting<bool>,
    /// Whether the calls in flight to the second tier are bounded.
    pub bulkhead: Setting<bool>,
    /// Whether failed calls to the second tier are tried again.
    pub retry: Setting<bool>,
    /// Whether reads that take much longer than others are given up, to be tried again.
    pub adaptive_timeout: Setting<bool>,
    /// The numbers of these.
    pub guards: GuardNumbers,
    /// Whether processes that miss the same key agree on who loads it.
    pub fill_locks_enabled: Setting<bool>,
    /// How long they wait for a holder that is never heard of again.
    pub fill_locks_hold: Setting<Duration>,
    /// How long they wait for the value of a holder that is.
    pub fill_locks_patience: Setting<Duration>,
    /// Whether what was loaded is stored only if nobody wrote meanwhile.
    pub fill_locks_fence: Setting<bool>,
    /// How typed values become bytes.
    pub serializer: Setting<Serializer>,
    /// How payloads are made smaller.
    pub compression: Setting<Compression>,
    /// What small payloads are made smaller with.
    pub dictionary: Setting<Option<DictionaryFile>>,
    /// Largest value, bytes.
    pub max_value: Setting<u64>,
    /// Whether there is an L1.
    pub l1_enabled: Setting<bool>,
    /// Budget of L1, bytes.
    pub l1_max_bytes: Setting<u64>,
    /// Most entries of L1.
    pub l1_max_entries: Setting<Option<u64>>,
    /// Longest life in L1 of what others can change.
    pub l1_ttl_cap: Setting<Duration>,
    /// Whether what others write evicts from L1 at once, where the store can tell.
    pub l1_coherence: Setting<bool>,
    /// When entries carry the epoch of their namespace.
    pub namespace_epochs: Setting<NamespaceEpochs>,
    /// How long the second tier keeps the epoch of a tag.
    pub epoch_ttl: Setting<Duration>,
    /// What is done about age.
    pub freshness: FreshnessSettings,
    /// Whether sets return before the second tier has their values.
    pub write_behind: WriteBehindSettings,
    /// How many of the keys that are asked for most can be named; 0: none.
    pub l1_hot_keys: Setting<usize>,
    /// Where L1 is kept between two processes.
    pub l1_snapshot: Setting<Option<PathBuf>>,
    /// The second tier; `None`: nothing chose one.
    pub tier: Setting<Option<TierChoice>>,
    /// Where options of the second tier came from, unless from where the tier itself did.
    pub tier_options: BTreeMap<String, Source>,
    /// Tiers of copies in front of it, the nearest first.
    pub fronts: Vec<FrontTier>,
    /// Whether everything that is stored is encrypted, and nothing else accepted.
    pub encryption_enabled: Setting<bool>,
    /// Whether L1 keeps decoded values of an encrypting cache, beside the ciphertext.
    pub encryption_plaintext_in_l1: Setting<bool>,
    /// Whether an encrypting cache gives its store keyed hashes in place of keys.
    pub encryption_hash_keys: Setting<bool>,
    /// What they are hashed under; `None`: the current master key.
    pub encryption_name_key: Setting<Option<MasterKey>>,
    /// Whether what a previous key opened is written anew under the current one.
    pub encryption_reseal: Setting<bool>,
    /// What encrypted entries are sealed with. It encrypts nothing by being there.
    pub master_key: Setting<Option<MasterKey>>,
    /// What encrypted entries may also be opened with, in this order.
    pub previous_master_keys: Setting<Vec<MasterKey>>,
    /// Whether an encrypted entry that cannot be opened is an error (the default) instead of a miss.
    pub encryption_fail_closed: Setting<bool>,
    /// The tenant that keys are derived for; `None`: `default`.
    pub deployment_uuid: Setting<Option<String>>,
    /// Directories in which plugins are looked for by id.
    pub plugin_dirs: Setting<Vec<PathBuf>>,
    /// What the absence of layouts in a plugin means: `off`, `warn`, `require`.
    pub plugin_reflect: Setting<String>,
    /// Whether plugins whose panics end the process are taken.
    pub plugin_allow_abort: Setting<bool>,
    /// What must speak for the files of plugins, and where the environment may look for them.
    pub plugin_trust: PluginTrust,
    /// What is odd, but no error.
    pub warnings: Vec<Warning>,
    /// What is good to know and not odd: which of several sources was used.
    pub notes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            preset: Setting::default_to(None),
            namespace: Setting::default_to(DEFAULT_NAMESPACE.into()),
            ttl: Setting::default_to(None),
            deadline: Setting::default_to(None),
            strict: Setting::default_to(false),
            breaker: Setting::default_to(true),
            bulkhead: Setting::default_to(true),
            retry: Setting::default_to(true),
            adaptive_timeout: Setting::default_to(true),
            guards: GuardNumbers::default(),
            fill_locks_enabled: Setting::default_to(true),
            fill_locks_hold: Setting::default_to(FillLocks::default().hold),
            fill_locks_patience: Setting::default_to(FillLocks::default().patience),
            fill_locks_fence: Setting::default_to(FillLocks::default().fence),
            serializer: Setting::default_to(Serializer::default()),
            compression: Setting::default_to(Compression::default()),
            dictionary: Setting::default_to(None),
            max_value: Setting::default_to(DEFAULT_MAX_VALUE),
            l1_enabled: Setting::default_to(true),
            l1_max_bytes: Setting::default_to(builder::DEFAULT_L1_BYTES),
            l1_max_entries: Setting::default_to(None),
            l1_ttl_cap: Setting::default_to(builder::DEFAULT_L1_TTL_CAP),
            l1_coherence: Setting::default_to(true),
            namespace_epochs: Setting::default_to(NamespaceEpochs::default()),
            epoch_ttl: Setting::default_to(builder::DEFAULT_EPOCH_TTL),
            freshness: FreshnessSettings::default(),
            write_behind: WriteBehindSettings::default(),
            l1_hot_keys: Setting::default_to(0),
            l1_snapshot: Setting::default_to(None),
            tier: Setting::default_to(None),
            tier_options: BTreeMap::new(),
            fronts: Vec::new(),
            encryption_enabled: Setting::default_to(false),
            encryption_plaintext_in_l1: Setting::default_to(false),
            encryption_hash_keys: Setting::default_to(false),
            encryption_name_key: Setting::default_to(None),
            encryption_reseal: Setting::default_to(false),
            master_key: Setting::default_to(None),
            previous_master_keys: Setting::default_to(Vec::new()),
            encryption_fail_closed: Setting::default_to(true),
            deployment_uuid: Setting::default_to(None),
            plugin_dirs: Setting::default_to(Vec::new()),
            plugin_reflect: Setting::default_to("warn".into()),
            plugin_allow_abort: Setting::default_to(false),
            plugin_trust: PluginTrust::default(),
            warnings: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// What a configuration is resolved from: `backend` and `namespace` over the environment, that over the file. A preset is
/// a set of defaults and stands below all of them, whoever names it.
#[derive(Clone, Default)]
pub struct Sources {
    /// A file that must exist.
    pub file: Option<PathBuf>,
    /// A file that may exist.
    pub default_file: Option<PathBuf>,
    /// The environment.
    pub environment: Environment,
    /// `--preset`.
    pub preset: Option<String>,
    /// `--backend`.
    pub backend: Option<String>,
    /// `--namespace`.
    pub namespace: Option<String>,
}

/// Of a backend's URL the scheme alone: passwords stand before hosts and in options.
impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("default_file", &self.default_file)
            .field("environment", &self.environment)
            .field("preset", &self.preset)
            .field("backend", &self.backend.as_deref().map(show::scheme_alone))
            .field("namespace", &self.namespace)
            .finish()
    }
}

impl Sources {
    /// The file that is read, or would be if it were there, and whether it must be. In a process with more rights than whoever started it only one
    /// that code names: the environment of such a process, and the home that it names, are its starter's.
    fn configuration_file(&self) -> Option<(PathBuf, bool)> {
        match &self.file {
            Some(file) => Some((file.clone(), true)),
            None if self.environment.is_privileged() => None,
            None => match self.environment.config_file() {
                Some(file) => Some((file, true)),
                None => self.default_file.clone().map(|file| (file, false)),
            },
        }
    }
}

impl Config {
    /// Puts the sources together.
    pub fn resolve(sources: &Sources) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let file = Self::read_file(sources)?;
        let preset = match (&sources.preset, &file) {
            (Some(name), _) => Some((name.clone(), Source::Code("--preset"))),
            (None, Some(file)) => file.preset(),
            (None, None) => None,
        };
        if let Some((name, source)) = preset {
            preset::apply(&mut config, &name, source)?;
        }
        if let Some(file) = file {
            file.apply(&mut config)?;
        }
        trust::find_lock(&mut config, sources);
        sources.environment.apply(&mut config, sources.backend.is_some())?;
        if let Some(url) = &sources.backend {
            let choice = url::choose(url)
                .map_err(|reason| ConfigError::value("--backend", Source::Code("--backend"), reason))?;
            config.tier.set(Some(choice), Source::Code("--backend"));
            config.tier_options.clear();
            // Variables of a backend still apply to the one that was named in code, where its URL leaves them open.
            sources.environment.fill_options(&mut config)?;
        }
        if let Some(namespace) = &sources.namespace {
            config.namespace.set(namespace.clone(), Source::Code("--namespace"));
        }
        preset::complete(&mut config, &sources.environment)?;
        config.settle_fronts()?;
        config.check()?;
        Ok(config)
    }

    fn read_file(sources: &Sources) -> Result<Option<file::File>, ConfigError> {
        match sources.configuration_file() {
            Some((path, must_exist)) if must_exist || path.exists() => file::File::read(&path).map(Some),
            _ => Ok(None),
        }
    }

    /// Chooses a second tier where nothing else did, with what the environment says of its options.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a variable that is out of its form.
    pub fn set_default_tier(
        &mut self,
        choice: TierChoice,
        what: &'static str,
        environment: &Environment,
    ) -> Result<(), ConfigError> {
        if self.tier.value.is_some() {
            return Ok(());
        }
        self.tier.set(Some(choice), Source::Code(what));
        environment.fill_options(self)
    }

    /// What cannot work whatever the source.
    fn check(&self) -> Result<(), ConfigError> {
        crate::key::Namespace::new(&self.namespace.value)
            .map_err(|error| ConfigError::value("namespace", self.namespace.source.clone(), error.to_string()))?;
        if self.ttl.value.is_some_and(|ttl| ttl.is_zero()) {
            let reason = "a life of zero keeps nothing; leave it out for no expiry".into();
            return Err(ConfigError::value("ttl", self.ttl.source.clone(), reason));
        }
        if self.deadline.value.is_some_and(|deadline| deadline.is_zero()) {
            let reason = "a deadline of zero lets no operation finish".into();
            return Err(ConfigError::value("deadline", self.deadline.source.clone(), reason));
        }
        if self.dictionary.value.is_some() && !matches!(self.compression.value, Compression::Zstd { .. }) {
            let compression = &self.compression.source;
            let reason = format!("a dictionary is zstd's, and compression is set to something else ({compression})");
            return Err(ConfigError::value("compression.dictionary", self.dictionary.source.clone(), reason));
        }
        self.guards.check()?;
        keys::check(self)?;
        self.plugin_trust.check()?;
        self.check_api_key()
    }

    /// Said here and not by the backend, because here it is known which variable is missing.
    fn check_api_key(&self) -> Result<(), ConfigError> {
        match &self.tier.value {
            Some(TierChoice::Builtin { scheme, options })
                if variables::CACHEKITIO.contains(&scheme.as_str()) && !options.contains_key("api_key") =>
            {
                let reason = "CACHEKIT_API_KEY is not set, and the cachekit.io backend needs a key; export it, or write \
                              api_key = { \"$secret\" = \"file:/path\" } under [tier.options]";
                Err(ConfigError::value("api_key", self.tier.source.clone(), reason.into()))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn is_io(&self) -> bool {
        self.preset.value == Some("io")
    }

    /// A builder with these settings, and with the second tier opened.
    ///
    /// # Errors
    /// [`ConfigError::Tier`] if the backend or plugin cannot be opened.
    pub fn builder(&self, registry: &Registry, services: HostServices) -> Result<CacheBuilder, ConfigError> {
        let mut builder = Cache::builder()
            .namespace(self.namespace.value.clone())
            .strict(self.strict.value)
            .serializer(self.serializer.value)
            .compression(self.compression.value)
            .max_value(self.max_value.value)
            .l1_ttl_cap(self.l1_ttl_cap.value)
            .coherence(self.l1_coherence.value)
            .namespace_epochs(self.namespace_epochs.value)
            .epoch_ttl(self.epoch_ttl.value)
            .freshness(self.freshness.to_config())
            .hot_keys(self.l1_hot_keys.value)
            .prefixed_keys(self.tier.value.as_ref().is_some_and(TierChoice::puts_before_keys));
        if let Some(file) = &self.dictionary.value {
            builder = builder.dictionary(Arc::clone(&file.dictionary));
        }
        builder = self.write_behind.apply_to(builder);
        if let Some(path) = &self.l1_snapshot.value {
            builder = builder.warm_start(path);
        }
        if let Some(ttl) = self.ttl.value {
            builder = builder.default_ttl(ttl);
        }
        if let Some(deadline) = self.deadline.value {
            builder = builder.deadline(deadline);
        }
        builder = self.guards_into(builder);
        builder = if self.fill_locks_enabled.value {
            let locks = FillLocks::default().with_hold(self.fill_locks_hold.value);
            let locks = locks.with_patience(self.fill_locks_patience.value).with_fence(self.fill_locks_fence.value);
            builder.fill_locks(locks)
        } else {
            builder.without_fill_locks()
        };
        builder = if self.l1_enabled.value {
            let max_entries = self.l1_max_entries.value;
            builder.l1(L1Config { max_entries, ..L1Config::with_max_bytes(self.l1_max_bytes.value) })
        } else {
            builder.without_l1()
        };
        if let Some(encryption) = self.encryption()? {
            builder = builder.encryption(encryption);
        }
        let services = builder.host_services(services);
        for front in self.open_fronts(registry, &services)? {
            builder = builder.tier(front);
        }
        if let Some(backend) = self.open_tier(registry, services)? {
            builder = builder.backend(backend);
        }
        Ok(builder)
    }

    /// Opens the second tier alone.
    pub fn open_tier(
        &self,
        registry: &Registry,
        services: HostServices,
    ) -> Result<Option<Arc<dyn Backend>>, ConfigError> {
        match &self.tier.value {
            None | Some(TierChoice::None) => Ok(None),
            Some(TierChoice::Builtin { scheme, options }) => {
                registry.open(scheme, options, services, |text| self.origin_of(text)).map(Some)
            }
            Some(TierChoice::Plugin { library, sha256, options }) => {
                crate::tier::plugin::open(self, library, sha256.as_deref(), options, services).map(Some)
            }
        }
    }

    /// Where the option came from that an error of the backend begins with; else where the tier did.
    fn origin_of(&self, error: &str) -> Source {
        let named = self.tier_options.iter().find(|(option, _)| {
            let rest = error.strip_prefix("unknown field `").unwrap_or(error).strip_prefix(option.as_str());
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        });
        named.map_or(&self.tier.source, |(_, source)| source).clone()
    }

    /// Everything with its source, for people and for JSON; secrets are left out.
    pub fn show(&self) -> BTreeMap<String, Shown> {
        show::show(self)
    }
}
