//! Exclusion between the writers of a key, across processes.
//!
//! A file system can replace a file atomically, but not "if it is still the one I read". So each key belongs to one of
//! 64 lock files, `.cas.00` to `.cas.3f` (a dot hides them from Python, which counts and evicts other files). Plain
//! writers hold theirs **shared** around the rename alone and never wait for each other; a conditional write holds it
//! **exclusively** from the comparison to the rename, so nothing slips between. Taking one costs 1.5 µs beside the
//! 100 µs of the rename.
//!
//! `flock` belongs to the open file: threads exclude each other like processes, and the kernel releases the lock of a
//! killed holder. A holder that is *stopped* inside its few microseconds keeps 1/64 of the keys from conditional writes,
//! or, if it was a conditional write itself, from writes; they end with a timeout by their deadline, reads go on.
//! Python writers do not know these files: a conditional write can overwrite theirs if both happen in the same
//! microseconds.

use cachekit_plugin::Deadline;
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;

use crate::client::{Handle, Locked};
use crate::entry::Name;
use crate::error::FileError;

/// For a plain write.
pub(crate) fn shared(handle: &Handle, name: &Name, deadline: Deadline) -> Result<Locked, FileError> {
    take(handle, name, false, deadline)
}

/// For a conditional write.
pub(crate) fn exclusive(handle: &Handle, name: &Name, deadline: Deadline) -> Result<Locked, FileError> {
    take(handle, name, true, deadline)
}

/// For work that can be left undone.
pub(crate) fn try_exclusive(handle: &Handle, name: &Name) -> Option<Locked> {
    Locked::now(open(handle, name).ok()?, true).ok()
}

fn take(handle: &Handle, name: &Name, exclusive: bool, deadline: Deadline) -> Result<Locked, FileError> {
    Locked::until(open(handle, name)?, exclusive, deadline)
}

fn open(handle: &Handle, name: &Name) -> Result<OwnedFd, FileError> {
    let file = format!(".cas.{:02x}", name.first_byte() & 63);
    // Read-only is enough for a lock, and lets users of a shared directory lock each other's files.
    handle.open_own(&file, OFlags::RDONLY).map_err(FileError::file("open a lock file"))
}
