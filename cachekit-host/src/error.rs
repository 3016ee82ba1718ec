//! Why a plugin was refused. Every message names the file, what is wrong with it, and what to do.

use std::path::PathBuf;

use cachekit_plugin::BackendError;

/// A plugin that was not loaded, or not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The path cannot name a plugin.
    #[error("plugin path {path:?}: {reason}")]
    Path {
        /// As it was given.
        path: PathBuf,
        /// What is wrong, and the accepted form.
        reason: String,
    },
    /// The file could not be read.
    #[error("plugin {path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else could change the file.
    #[error("plugin {path:?}: {reason}")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Which file or directory, what is wrong, and the command that mends it.
        reason: String,
    },
    /// No shared library of this machine.
    #[error("plugin {path:?} is no usable library: {reason}")]
    Structure {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Other bytes than are pinned.
    #[error("plugin {path:?} has sha256 {found}, but {by} pins {expected}; was it updated or swapped?")]
    Pin {
        /// The file.
        path: PathBuf,
        /// What pins it: the configuration, or a lock file with what it says of the plugin.
        by: Box<str>,
        /// What is pinned.
        expected: Box<str>,
        /// Of the file.
        found: Box<str>,
    },
    /// Nothing speaks for these bytes, and something must.
    #[error("plugin {path:?}: {reason}")]
    Unpinned {
        /// The file.
        path: PathBuf,
        /// What is missing, and how to supply it.
        reason: String,
    },
    /// It is not signed as it must be.
    #[error("plugin {path:?}: {reason}")]
    Signature {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// The lock file itself cannot be believed.
    #[error("the lock file {path:?} is not usable: {reason}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It does not say what it is, or is something this host does not take.
    #[error("plugin {path:?}: {reason}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is missing or does not fit.
        reason: String,
    },
    /// The dynamic loader refused it.
    #[error("plugin {path:?} cannot be loaded: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Everything the loader said.
        reason: String,
    },
    /// It breaks the contract.
    #[error("plugin {path:?} breaks the plugin contract: {reason}")]
    Contract {
        /// The file.
        path: PathBuf,
        /// Which rule.
        reason: String,
    },
    /// Built against other layouts of the contract's types.
    #[error("plugin {path:?} was built with another layout of {capability}: {reason}")]
    Layout {
        /// The file.
        path: PathBuf,
        /// Which table or record.
        capability: String,
        /// Which field.
        reason: String,
    },
    /// It was loaded, but refused to open an instance.
    #[error("plugin {id} refused its configuration or failed to open")]
    Create {
        /// The plugin's own name.
        id: String,
        /// Why.
        #[source]
        source: BackendError,
    },
}

impl LoadError {
    /// A stable name of the class, for metrics and JSON.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Path { .. } => "path",
            Self::Read { .. } => "read",
            Self::Permissions { .. } => "permissions",
            Self::Structure { .. } => "structure",
            Self::Pin { .. } => "pin",
            Self::Unpinned { .. } => "unpinned",
            Self::Signature { .. } => "signature",
            Self::Lock { .. } => "lock",
            Self::Identity { .. } => "identity",
            Self::Open { .. } => "open",
            Self::Contract { .. } => "contract",
            Self::Layout { .. } => "layout",
            Self::Create { .. } => "create",
        }
    }
}
