//! Failures of the directory, and what they mean to the caller.
//!
//! The table follows the family's: a full disk and a file that cannot be touched may pass, a directory that cannot be
//! used will not. No failure carries a key or a value; entry names are digests and are left out as well.

use std::io;

use cachekit_plugin::{BackendError, Kind, Operation, Retry};
use rustix::io::Errno;

/// The name of this backend in errors and health.
pub(crate) const BACKEND: &str = "file";

/// Which thing refused: the same number means different things on a directory and on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Directory,
    File,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("could not {attempted}: {}", io::Error::from(*.errno))]
    System { attempted: &'static str, errno: Errno, place: Place },
    #[error("another process kept the lock of the entry; nothing was changed")]
    Locked,
    #[error("the deadline passed; what was done by then stays done")]
    Late,
    #[error("a value of {len} bytes is larger than max_value_mb allows ({max} bytes)")]
    ValueTooLarge { len: usize, max: u64 },
    #[error("the directory holds max_entry_count ({max}) entries and none of them could be evicted")]
    Full { max: u64 },
    /// A directory that must not be used; the text says why and how to mend it.
    #[error("{0}")]
    Refused(String),
}

impl FileError {
    pub(crate) fn file(attempted: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System { attempted, errno, place: Place::File }
    }

    pub(crate) fn directory(attempted: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System { attempted, errno, place: Place::Directory }
    }

    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// The error of the contract.
    pub(crate) fn during(self, operation: Operation) -> BackendError {
        let (kind, retry) = match &self {
            Self::System { errno, place, .. } => classify(*errno, *place),
            Self::Locked | Self::Late => (Kind::Timeout, None),
            Self::ValueTooLarge { .. } | Self::Full { .. } => (Kind::TooLarge, None),
            Self::Refused(_) => (Kind::Config, None),
        };
        let error = BackendError::new(kind, operation, self.to_string()).on(BACKEND);
        let error = match retry {
            Some(retry) => error.with_retry(retry),
            None => error,
        };
        match self.errno() {
            Some(errno) => error.with_source(io::Error::from(errno)),
            None => error,
        }
    }
}

fn classify(errno: Errno, place: Place) -> (Kind, Option<Retry>) {
    match errno {
        // Space comes back when entries are evicted or other files go, not within a retry.
        Errno::NOSPC | Errno::DQUOT => (Kind::Transient, Some(Retry::No)),
        // After a failed fsync the kernel may call the lost pages clean: asking again would get a false "yes".
        Errno::IO => (Kind::Transient, Some(Retry::No)),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => (Kind::Transient, None),
        Errno::INTR | Errno::AGAIN | Errno::STALE | Errno::NOENT => (Kind::Transient, None),
        Errno::TIMEDOUT => (Kind::Timeout, None),
        Errno::FBIG => (Kind::TooLarge, None),
        Errno::ACCESS | Errno::PERM if place == Place::File => (Kind::Transient, Some(Retry::No)),
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::LOOP | Errno::NOTDIR | Errno::NAMETOOLONG => {
            (Kind::Config, None)
        }
        // A directory planted where an entry belongs: stays until somebody removes it.
        Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => (Kind::Config, None),
        _ => (Kind::Transient, Some(Retry::No)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classed_as_the_family_classes_them() {
        let class = |errno, place| {
            let error = FileError::System { attempted: "write", errno, place }.during(Operation::Set);
            (error.kind(), error.retry())
        };
        assert_eq!(class(Errno::NOSPC, Place::File), (Kind::Transient, Retry::No));
        assert_eq!(class(Errno::IO, Place::File), (Kind::Transient, Retry::No));
        assert_eq!(class(Errno::MFILE, Place::File), (Kind::Transient, Retry::Now));
        assert_eq!(class(Errno::ACCESS, Place::File).0, Kind::Transient);
        assert_eq!(class(Errno::ACCESS, Place::Directory), (Kind::Config, Retry::No));
        assert_eq!(class(Errno::ROFS, Place::File).0, Kind::Config);
        assert_eq!(class(Errno::LOOP, Place::File).0, Kind::Config);
        assert_eq!(class(Errno::TIMEDOUT, Place::File).0, Kind::Timeout);
        assert_eq!(class(Errno::FBIG, Place::File).0, Kind::TooLarge);
    }

    #[test]
    fn an_error_says_what_was_attempted_and_keeps_its_source() {
        let error = FileError::file("write the entry")(Errno::NOSPC).during(Operation::Set);
        assert!(
            error.to_string().starts_with("set on file failed (transient): could not write the entry: "),
            "{error}"
        );
        assert!(std::error::Error::source(&error).is_some());
    }
}
