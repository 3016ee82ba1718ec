//! From errors to exit codes and to text: what a script branches on, and what a person reads.
//!
//! ```text
//! 0 done, hit    1 miss, "no"    2 usage or configuration    3 backend unavailable or timed out
//! 4 entry refused (corrupt, tampered, wrong key)             5 plugin refused
//! ```

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use cachekit::{ConfigError, Error};
use cachekit_host::LoadError;
use cachekit_plugin::{BackendError, Kind};

/// What a command ends with when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done, or a hit.
    Done,
    /// A miss, or "no".
    No,
    /// The answer itself says that something is wrong: the codes of [`Failure`].
    Bad(Class),
    /// The exit code of a memoized command.
    Child(u8),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::No => 1,
            Outcome::Bad(class) => class.code(),
            Outcome::Child(code) => code,
        })
    }
}

impl Outcome {
    /// Done if it is so, otherwise "no".
    pub(crate) fn hit(is_so: bool) -> Self {
        if is_so { Self::Done } else { Self::No }
    }
}

/// A class of failure, one for each exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Usage,
    Unavailable,
    Refused,
    Plugin,
}

impl Class {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Unavailable => 3,
            Self::Refused => 4,
            Self::Plugin => 5,
        }
    }

    /// Its name in JSON.
    const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Plugin => "plugin",
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Cache(#[from] Error),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Plugin(#[from] LoadError),
    #[error(transparent)]
    Serve(#[from] cachekit_serve::ServeError),
    /// A mistake of the caller; the text says what is accepted.
    #[error("{0}")]
    Usage(String),
    /// A plugin that loads and yet is not right.
    #[error("{0}")]
    Verify(String),
    /// A file or a stream of the caller that cannot be used.
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    /// Whoever read our output has gone: nothing is wrong and nobody is there to be told.
    #[error("standard output was closed")]
    Closed,
}

impl Failure {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Config(error) => of_config(error),
            Self::Cache(error) => of_cache(error),
            Self::Backend(error) => of_backend(error),
            Self::Plugin(error) => of_plugin(error),
            Self::Serve(_) | Self::Usage(_) | Self::Io { .. } | Self::Closed => Class::Usage,
            Self::Verify(_) => Class::Plugin,
        }
    }

    /// A finer name than the class, for JSON: the kind of a backend's error, the class of a refusal or of a plugin's.
    pub(crate) fn kind(&self) -> &'static str {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(self.inner());
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<BackendError>() {
                return error.kind().as_str();
            }
            if let Some(refusal) = error.downcast_ref::<cachekit::codec::Refusal>() {
                return refusal.class();
            }
            if let Some(error) = error.downcast_ref::<LoadError>()
                && !matches!(error, LoadError::Create { .. })
            {
                return error.class();
            }
            cause = error.source();
        }
        match self {
            Self::Config(_) => "config",
            _ => self.class().name(),
        }
    }

    /// The error itself: transparent variants hide it from a walk along the sources.
    fn inner(&self) -> &(dyn StdError + 'static) {
        match self {
            Self::Config(error) => error,
            Self::Cache(error) => error,
            Self::Backend(error) => error,
            Self::Plugin(error) => error,
            Self::Serve(error) => error,
            other => other,
        }
    }

    /// The whole chain of causes, from the outermost in. A cause whose text stands in the one before says nothing new.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut cause: Option<&(dyn StdError + 'static)> = Some(self.inner());
        while let Some(error) = cause {
            let text = error.to_string().trim_end().to_owned();
            if !lines.iter().any(|line| line.contains(&text)) {
                lines.push(text);
            }
            cause = error.source();
        }
        lines
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn of_config(error: &ConfigError) -> Class {
    match error {
        ConfigError::Tier { source, .. } => of_backend(source),
        ConfigError::Plugin { source, .. } => of_plugin(source),
        ConfigError::Engine(error) => of_cache(error),
        _ => Class::Usage,
    }
}

fn of_cache(error: &Error) -> Class {
    match error {
        Error::Backend(error) => of_backend(error),
        Error::Refused(_) => Class::Refused,
        _ => Class::Usage,
    }
}

fn of_plugin(error: &LoadError) -> Class {
    match error {
        // It was loaded: what kept it from opening is its options or its store.
        LoadError::Create { source, .. } => of_backend(source),
        _ => Class::Plugin,
    }
}

fn of_backend(error: &BackendError) -> Class {
    match error.kind() {
        // A directory that the system refuses is a store that is not there; options that make no sense are a mistake.
        Kind::Config if comes_from_the_system(error) => Class::Unavailable,
        Kind::Config | Kind::TooLarge | Kind::Unsupported => Class::Usage,
        Kind::Corrupt => Class::Refused,
        _ => Class::Unavailable,
    }
}

fn comes_from_the_system(error: &BackendError) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use cachekit_plugin::Operation;

    use super::*;

    fn backend(kind: Kind) -> BackendError {
        BackendError::new(kind, Operation::Get, "because")
    }

    #[test]
    fn each_failure_has_its_exit_code() {
        let refused = Error::Refused(cachekit::codec::Refusal::Corrupt);
        for (failure, code, kind) in [
            (Failure::Usage("no".into()), 2, "usage"),
            (Failure::Backend(backend(Kind::Config)), 2, "config"),
            (Failure::Backend(backend(Kind::Transient)), 3, "transient"),
            (Failure::Backend(backend(Kind::Timeout)), 3, "timeout"),
            (Failure::Cache(Error::Backend(backend(Kind::Throttled))), 3, "throttled"),
            (Failure::Cache(refused), 4, "corrupt"),
            (Failure::Cache(Error::ZeroTtl), 2, "usage"),
            (Failure::Plugin(LoadError::Contract { path: "/x.so".into(), reason: "r".into() }), 5, "contract"),
            (Failure::Plugin(LoadError::Create { id: "a.b".into(), source: backend(Kind::Config) }), 2, "config"),
        ] {
            assert_eq!((failure.class().code(), failure.kind()), (code, kind), "{failure}");
        }
    }

    #[test]
    fn a_directory_that_the_system_refuses_is_an_outage() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(of_backend(&backend(Kind::Config).with_source(denied)), Class::Unavailable);
    }

    #[test]
    fn every_cause_is_told_once() {
        let io = std::io::Error::other("disk gone");
        let error = BackendError::new(Kind::Transient, Operation::Get, "no answer").with_source(io);
        let lines = Failure::Cache(Error::Backend(error)).lines();
        assert_eq!(lines, ["the store failed", "get failed (transient): no answer", "disk gone"]);
        let repeated = backend(Kind::Transient).with_source(std::io::Error::other("because"));
        assert_eq!(Failure::Backend(repeated).lines().len(), 1);
    }
}
