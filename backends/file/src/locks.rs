//! Leases that exclude other holders across processes, as small files `.lock.{name}`.
//!
//! ```text
//! offset  size
//! 0       8     u64be expiry, Unix milliseconds
//! 8       32    BLAKE2b-256 of the token
//! 40      8     BLAKE2b-64 of the forty bytes before
//! ```
//! The file is read and rewritten under its `flock`, which is held for microseconds and dies with its holder; the lease
//! is the content, and lives on. A record that does not check (the power failed in the middle of it) is no lease. The
//! token itself is a secret and is not stored. A lease is over when the wall clock says so: it is shared by processes that
//! have no other clock in common, and the contract calls a lease no proof of being alone.

use std::time::Duration;

use blake2::{Blake2b, Digest, digest::consts::U8, digest::consts::U32};
use rustix::fs::OFlags;
use rustix::io::Errno;

use cachekit_plugin::blocking::Wanted;
use cachekit_plugin::{Deadline, Operation};

use crate::client::{Handle, Locked, is_plain};
use crate::entry::Name;
use crate::error::FileError;
use crate::read::read_exactly;
use crate::store::Store;
use crate::sweep::modified;

const RECORD_LEN: usize = 48;
const PREFIX: &str = ".lock.";
/// How long a lease file that nobody renews is left alone by sweeps, beyond its end.
const LITTER_AGE: Duration = Duration::from_secs(60);
/// How long another's hand on the file is waited for: it is there for microseconds. Beyond that it is stopped, and the
/// lease counts as held.
const HANDS_OFF: Duration = Duration::from_millis(20);

struct Lease {
    expiry_ms: u64,
    token: [u8; 32],
}

impl Lease {
    fn is_over(&self, now: Duration) -> bool {
        now.as_millis() >= u128::from(self.expiry_ms)
    }

    fn encode(&self) -> [u8; RECORD_LEN] {
        let mut record = [0; RECORD_LEN];
        record[..8].copy_from_slice(&self.expiry_ms.to_be_bytes());
        record[8..40].copy_from_slice(&self.token);
        let check = Blake2b::<U8>::digest(&record[..40]);
        record[40..].copy_from_slice(&check);
        record
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let record: &[u8; RECORD_LEN] = record.try_into().ok()?;
        let (content, check) = record.split_at(40);
        if Blake2b::<U8>::digest(content)[..] != *check {
            return None;
        }
        let (expiry_ms, token) = content.split_at(8);
        Some(Self { expiry_ms: u64::from_be_bytes(expiry_ms.try_into().ok()?), token: token.try_into().ok()? })
    }
}

impl Store {
    /// Takes the lease of `name`; `false` if another holds it.
    ///
    /// A caller who has left may have given it back already, before it was taken. So whether it is wanted is asked once more
    /// when it is there: whoever leaves later finds it.
    pub(crate) fn lock(&self, name: &Name, token: &[u8], hold_ms: u64, wanted: &Wanted) -> Result<bool, FileError> {
        // Compared first, because a lease in a directory that was moved away would exclude nobody.
        let (handle, path) = (self.directory.compare(self.now())?, lease_path(name));
        let Some(fd) = grip(&handle, &path, true, wanted.deadline())? else { return Ok(false) };
        let now = self.now();
        if read(&fd)?.is_some_and(|lease| !lease.is_over(now)) {
            return Ok(false);
        }
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let lease =
            Lease { expiry_ms: now_ms.saturating_add(hold_ms.max(1)), token: Blake2b::<U32>::digest(token).into() };
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&fd, &lease.encode(), 0));
        // Half a record does not check, so nobody holds the lease then; we must not believe that we do.
        match written {
            Ok(RECORD_LEN) if wanted.check(Operation::Lock).is_ok() => Ok(true),
            Ok(RECORD_LEN) => {
                handle.unlink(&path).map_err(FileError::file("remove the lease"))?;
                Err(FileError::Late)
            }
            Ok(_) => Err(FileError::file("write the lease")(Errno::NOSPC)),
            Err(errno) => Err(FileError::file("write the lease")(errno)),
        }
    }

    /// Gives the lease back; `false` if it is not held under `token`.
    pub(crate) fn unlock(&self, name: &Name, token: &[u8], deadline: Deadline) -> Result<bool, FileError> {
        let (handle, path) = (self.directory.handle()?, lease_path(name));
        let Some(fd) = grip(&handle, &path, false, deadline)? else { return Ok(false) };
        let token: [u8; 32] = Blake2b::<U32>::digest(token).into();
        match read(&fd)? {
            // Comparing digests tells an onlooker nothing about the token.
            Some(lease) if lease.token == token && !lease.is_over(self.now()) => {
                handle.unlink(&path).map_err(FileError::file("remove the lease"))
            }
            _ => Ok(false),
        }
    }
}

/// Whether this is the name of a lease file.
pub(crate) fn is_lease(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX.as_bytes()).and_then(Name::parse).is_some()
}

/// Removes the lease file `name` if its lease has been over for a while.
pub(crate) fn sweep(handle: &Handle, name: &str, now: Duration) {
    let old = |stat| now.saturating_sub(modified(&stat)) > LITTER_AGE;
    if !handle.lstat(name).ok().flatten().is_some_and(old) {
        return;
    }
    let Ok(fd) = handle.open(name, OFlags::RDWR, 0) else { return };
    if let Ok(fd) = Locked::now(fd, true)
        && still_named(&fd) == Ok(true)
        && read(&fd).is_ok_and(|lease| lease.is_none_or(|lease| lease.is_over(now)))
    {
        let _ = handle.unlink(name);
    }
}

fn lease_path(name: &Name) -> String {
    format!("{PREFIX}{}", name.as_str())
}

/// Opens the lease file and locks it; `None` if it does not exist, or is in the hands of somebody who does not let go.
fn grip(handle: &Handle, path: &str, create: bool, deadline: Deadline) -> Result<Option<Locked>, FileError> {
    let until = deadline.min(Deadline::after(HANDS_OFF));
    loop {
        let opened = if create { handle.open_own(path, OFlags::RDWR) } else { handle.open(path, OFlags::RDWR, 0) };
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::NOENT) if !create => return Ok(None),
            Err(errno) => return Err(FileError::file("open the lease")(errno)),
        };
        let fd = match Locked::until(fd, true, until) {
            Ok(fd) => fd,
            Err(FileError::Locked) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Removed between our open and our lock: what we hold is nobody's lease any more.
        if still_named(&fd).map_err(FileError::file("examine the lease"))? {
            return Ok(Some(fd));
        }
        if until.has_passed() {
            return Ok(None);
        }
    }
}

fn still_named(fd: &Locked) -> rustix::io::Result<bool> {
    // Lease files are never renamed over, so a name once lost stays lost.
    rustix::fs::fstat(fd).map(|stat| stat.st_nlink > 0 && is_plain(&stat))
}

fn read(fd: &Locked) -> Result<Option<Lease>, FileError> {
    let record = read_exactly(fd, RECORD_LEN).map_err(FileError::file("read the lease"))?;
    Ok(Lease::decode(&record))
}
