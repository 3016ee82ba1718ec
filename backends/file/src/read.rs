//! Reading an entry on a worker, where waiting is allowed.
//!
//! The rules are the family's, in their order: dead entries (short, not ours, over, torn) are deleted and missed; foreign
//! ones (of a later dialect) are missed and left alone; links, pipes, devices, directories and files with a second name
//! are missed and never waited on. What is allocated is bounded by `max_value_mb` before it is allocated: a larger file
//! is a miss, left to whoever wrote it under a larger limit.

use std::time::Duration;

use blake2::{Blake2b, Digest, digest::consts::U16};
use bytes::Bytes;
use cachekit_plugin::{Deadline, Version};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;

use crate::client::{FileId, Handle, Locked, file_id, is_entry};
use crate::entry::{HEADER_LEN, Name, Verdict, judge};
use crate::error::FileError;
use crate::store::Store;
use crate::stripe;

/// A live entry.
pub(crate) struct Entry {
    /// Empty when only the header was asked for.
    pub(crate) value: Bytes,
    pub(crate) expiry: u64,
    pub(crate) version: Version,
}

/// How much of an entry is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Header,
    Value,
}

impl Store {
    /// The entry of `name`, if it may be served now.
    pub(crate) fn read(&self, name: &Name, want: Want, deadline: Deadline) -> Result<Option<Entry>, FileError> {
        let now = self.now();
        let handle = self.directory.handle()?;
        if let Some(entry) = self.read_in(&handle, name, want, now, deadline)? {
            return Ok(Some(entry));
        }
        if !self.directory.comparison_is_due(now) {
            return Ok(None);
        }
        let current = self.directory.compare(now)?;
        if std::sync::Arc::ptr_eq(&current, &handle) {
            return Ok(None);
        }
        self.read_in(&current, name, want, now, deadline)
    }

    fn read_in(
        &self,
        handle: &Handle,
        name: &Name,
        want: Want,
        now: Duration,
        deadline: Deadline,
    ) -> Result<Option<Entry>, FileError> {
        let Some(fd) = open_entry(handle, name, OFlags::RDONLY)? else { return Ok(None) };
        let fd = Locked::until(fd, false, self.lock_deadline(deadline))?;
        let stat = rustix::fs::fstat(&fd).map_err(FileError::file("examine the entry"))?;
        if !is_entry(&stat, self.max_value) {
            return Ok(None);
        }
        let size = stat.st_size as u64;
        let wanted = if want == Want::Value { size as usize } else { HEADER_LEN.min(size as usize) };
        let file = read_exactly(&fd, wanted).map_err(FileError::file("read the entry"))?;
        let verdict = if file.len() < wanted { Verdict::Dead } else { judge(&file, now) };
        match verdict {
            Verdict::Live { expiry } => {
                let value = Bytes::from(file).slice(HEADER_LEN..);
                Ok(Some(Entry { value, expiry, version: version(&stat) }))
            }
            Verdict::Foreign => Ok(None),
            Verdict::Dead => {
                drop(fd);
                self.bury(handle, name, file_id(&stat));
                Ok(None)
            }
        }
    }

    /// Deletes a dead entry if its name still leads to the file that was found dead.
    ///
    /// Comparing and unlinking are two calls. The stripe keeps our own writers from slipping in between; when it is
    /// taken the dead entry simply stays for the next reader. Nothing here fails the read: the answer is a miss anyway.
    pub(crate) fn bury(&self, handle: &Handle, name: &Name, id: FileId) {
        let Some(_stripe) = stripe::try_exclusive(handle, name) else { return };
        if let Ok(Some(stat)) = handle.lstat(name.as_str())
            && file_id(&stat) == id
            && handle.unlink(name.as_str()) == Ok(true)
        {
            self.account.removed(stat.st_size as u64);
        }
    }
}

/// Opens what stands under `name`; `None` if that is nothing or cannot be an entry.
pub(crate) fn open_entry(handle: &Handle, name: &Name, flags: OFlags) -> Result<Option<OwnedFd>, FileError> {
    match handle.open(name.as_str(), flags, 0) {
        Ok(fd) => Ok(Some(fd)),
        // Nothing, a link, a socket or a device without a driver, a directory that was to be written.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::ISDIR) => Ok(None),
        Err(errno) => Err(FileError::file("open the entry")(errno)),
    }
}

/// Up to `len` bytes from the start; fewer only if the file ends before.
pub(crate) fn read_exactly(fd: impl AsFd, len: usize) -> rustix::io::Result<Vec<u8>> {
    let mut file = Vec::new();
    // A refusal of memory is an answer like any other, not the end of the process.
    file.try_reserve_exact(len).map_err(|_| Errno::NOMEM)?;
    while file.len() < len {
        let offset = file.len() as u64;
        let spare = rustix::buffer::spare_capacity(&mut file);
        match rustix::io::pread(&fd, spare, offset) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    // The allocator may have given more room than was asked for, and the file may have grown into it.
    file.truncate(len);
    Ok(file)
}

/// The identity of one write: the inode it made and the times it left there.
///
/// Inode numbers are reused at once, and the kernel's own times step with its tick; so our writers set the modification
/// time themselves, to the nanosecond and never twice the same in one process (see `write`).
pub(crate) fn version(stat: &Stat) -> Version {
    let mut digest = Blake2b::<U16>::new();
    digest.update(stat.st_ino.to_le_bytes());
    for part in [stat.st_mtime, stat.st_mtime_nsec as i64, stat.st_ctime, stat.st_ctime_nsec as i64, stat.st_size] {
        digest.update(part.to_le_bytes());
    }
    Version(u128::from_le_bytes(digest.finalize().into()))
}
