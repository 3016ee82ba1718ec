//! What a host demands of a plugin before it loads it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use crate::digest::Sha256;
use crate::lock::LockFile;
use crate::process::Process;
use crate::signature::TrustedKey;

/// What to demand of one plugin. The default is what a configuration without further words means.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Policy {
    /// The file must have this digest.
    pub sha256: Option<Sha256>,
    /// Who says so, for the audit line; `None`: the configuration.
    pub sha256_origin: Option<String>,
    /// Digests that files must have by the ids of their plugins.
    pub lock: Option<Arc<LockFile>>,
    /// What must speak for a file besides its owner.
    pub require: Require,
    /// Whose signatures count.
    pub trusted_keys: Vec<TrustedKey>,
    /// What the dynamic loader is given.
    pub load_mode: LoadMode,
    /// What the absence of layout information means. A mismatch always refuses.
    pub reflect: Reflect,
    /// Take plugins built with `panic = "abort"`, whose first panic ends the process.
    pub allow_abort: bool,
    /// Name of the entry symbol, for libraries without an identity note. For development.
    pub entry: Option<String>,
    /// Use the blocking tables even where the plugin has the asynchronous one: for tests of those tables.
    pub prefer_blocking: bool,
    /// Whose process this is; `None`: asked of the system. For tests.
    pub process: Option<Process>,
}

impl Policy {
    /// Demands a digest.
    #[must_use]
    pub fn with_sha256(mut self, sha256: Sha256) -> Self {
        self.sha256 = Some(sha256);
        self
    }

    /// Says where the demanded digest was written down.
    #[must_use]
    pub fn with_sha256_origin(mut self, origin: impl Into<String>) -> Self {
        self.sha256_origin = Some(origin.into());
        self
    }

    /// Demands what a lock file says of the plugin's id.
    #[must_use]
    pub fn with_lock(mut self, lock: Arc<LockFile>) -> Self {
        self.lock = Some(lock);
        self
    }

    /// Demands that something speaks for the file.
    #[must_use]
    pub fn with_require(mut self, require: Require) -> Self {
        self.require = require;
        self
    }

    /// Names the keys whose signatures count. A signature beside a file is then looked at even where none is required.
    #[must_use]
    pub fn with_trusted_keys(mut self, keys: Vec<TrustedKey>) -> Self {
        self.trusted_keys = keys;
        self
    }

    /// Sets what the dynamic loader is given.
    #[must_use]
    pub fn with_load_mode(mut self, mode: LoadMode) -> Self {
        self.load_mode = mode;
        self
    }

    /// Sets what the absence of layouts means.
    #[must_use]
    pub fn with_reflect(mut self, reflect: Reflect) -> Self {
        self.reflect = reflect;
        self
    }

    /// Takes plugins whose panics end the process.
    #[must_use]
    pub fn with_allow_abort(mut self, allow: bool) -> Self {
        self.allow_abort = allow;
        self
    }

    /// Names the entry symbol of a library without a note.
    #[must_use]
    pub fn with_entry(mut self, entry: impl Into<String>) -> Self {
        self.entry = Some(entry.into());
        self
    }

    /// Uses the blocking tables.
    #[must_use]
    pub fn with_prefer_blocking(mut self, prefer: bool) -> Self {
        self.prefer_blocking = prefer;
        self
    }
}

/// What must speak for a file, besides that nobody else can have written it. Both may be demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Require {
    /// A digest: in the configuration or in a lock file.
    pub hash: bool,
    /// A signature by a trusted key.
    pub signature: bool,
}

impl Require {
    /// Nothing. A digest that is written down holds all the same.
    pub const NONE: Self = Self { hash: false, signature: false };
    /// A digest.
    pub const HASH: Self = Self { hash: true, signature: false };
    /// A signature.
    pub const SIGNATURE: Self = Self { hash: false, signature: true };
}

/// What the dynamic loader is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoadMode {
    /// The file itself. Whoever may write it can change what runs, or end the process, by writing into it.
    #[default]
    Inode,
    /// A copy in memory that nobody can write, made of the very bytes that were checked.
    Copy,
}

impl FromStr for LoadMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "inode" => Ok(Self::Inode),
            "copy" => Ok(Self::Copy),
            other => Err(format!("{other:?} is none of inode, copy")),
        }
    }
}

impl fmt::Display for LoadMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inode => "inode",
            Self::Copy => "copy",
        })
    }
}

/// What the absence of layout information means. Plugins in C have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reflect {
    /// Nothing.
    Off,
    /// A warning in the log, for Rust plugins.
    #[default]
    Warn,
    /// The plugin is refused.
    Require,
}

impl FromStr for Reflect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "warn" => Ok(Self::Warn),
            "require" => Ok(Self::Require),
            other => Err(format!("{other:?} is none of off, warn, require")),
        }
    }
}
