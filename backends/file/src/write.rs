//! Writing, renewing and deleting an entry.
//!
//! A write fills a temporary file `{name}.tmp.{pid}.{time_ns}.s{seq}` and renames it over the entry: readers see the old
//! value or the new one, whoever is killed when. The temporary is locked while it is being filled, which tells sweepers
//! of every process that its writer lives, and unlocked right before the rename, because Python's readers refuse a
//! locked entry. A failure at any step removes it. A failed flush is never repeated: the kernel may have dropped the
//! pages and would call the second try a success.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachekit_plugin::blocking::Wanted;
use cachekit_plugin::{Deadline, Operation, Ttl, Version};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::client::{Handle, Locked, file_id, is_entry, is_plain};
use crate::config::Durability;
use crate::entry::{self, EXPIRY_OFFSET, HEADER_LEN, Name, Verdict};
use crate::error::FileError;
use crate::read::{Want, open_entry, read_exactly};
use crate::store::Store;
use crate::stripe;

/// When a write may happen.
#[derive(Clone, Copy)]
pub(crate) enum Condition {
    Always,
    /// Only over this version; `None`: only where nothing may be served.
    If(Option<Version>),
}

impl Store {
    /// Stores `value`; `false` if the condition did not hold.
    pub(crate) fn write(
        &self,
        name: &Name,
        value: &[u8],
        ttl: Ttl,
        condition: Condition,
        wanted: &Wanted,
    ) -> Result<bool, FileError> {
        if value.len() as u64 > self.max_value {
            return Err(FileError::ValueTooLarge { len: value.len(), max: self.max_value });
        }
        let expiry = entry::expiry(ttl, self.now());
        let handle = self.directory.handle()?;
        match self.write_in(&handle, name, value, expiry, condition, wanted) {
            // Nothing can be created in a directory that was removed: make it anew, once.
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                let handle = self.directory.reopen()?;
                self.account.forget();
                self.write_in(&handle, name, value, expiry, condition, wanted)
            }
            answer => answer,
        }
    }

    fn write_in(
        &self,
        handle: &Handle,
        name: &Name,
        value: &[u8],
        expiry: u64,
        condition: Condition,
        wanted: &Wanted,
    ) -> Result<bool, FileError> {
        let deadline = wanted.deadline();
        self.admit(handle, name, deadline)?;
        let temporary = self.fill(handle, name, value, expiry)?;
        let until = self.lock_deadline(deadline);
        let _stripe = match condition {
            Condition::Always => stripe::shared(handle, name, until)?,
            Condition::If(expected) => {
                let stripe = stripe::exclusive(handle, name, until)?;
                if self.read(name, Want::Header, deadline)?.map(|entry| entry.version) != expected {
                    return Ok(false);
                }
                stripe
            }
        };
        let replaced = handle.lstat(name.as_str()).map_err(FileError::file("examine the entry"))?;
        // Filling and flushing may have taken long, and a caller that gave up goes on to other writes: one that landed after
        // those would bring back what they replaced.
        wanted.check(Operation::Set).map_err(|_| FileError::Late)?;
        temporary.publish(name)?;
        if self.durability == Durability::Full {
            handle.sync().map_err(FileError::directory("flush the directory"))?;
        }
        drop(_stripe);
        let old_size = replaced.filter(is_plain).map(|stat| stat.st_size as u64);
        self.account.added(old_size, (HEADER_LEN + value.len()) as u64);
        self.settle(handle, name, deadline);
        Ok(true)
    }

    /// Writes a whole entry under a temporary name.
    pub(crate) fn fill<'h>(
        &self,
        handle: &'h Handle,
        name: &Name,
        value: &[u8],
        expiry: u64,
    ) -> Result<Temporary<'h>, FileError> {
        let temporary = Temporary::create(handle, name, self.now())?;
        write_all(&temporary.fd, &entry::header(expiry), value).map_err(FileError::file("write the entry"))?;
        // Plain values carry no checksum, so what can be checked for 0.3 µs is: that every byte is there.
        let written = rustix::fs::fstat(&temporary.fd).map_err(FileError::file("examine the entry"))?.st_size as u64;
        if written != (HEADER_LEN + value.len()) as u64 {
            return Err(FileError::file("write the entry")(Errno::IO));
        }
        set_modified(&temporary.fd, self.stamp()).map_err(FileError::file("date the entry"))?;
        // Remote file systems report a full disk when the file is flushed or closed, not when it is written; without a
        // flush such an entry would be cut short under its final name.
        if self.durability != Durability::None || !handle.local {
            rustix::fs::fsync(&temporary.fd).map_err(FileError::file("flush the entry"))?;
        }
        Ok(temporary)
    }

    /// Gives a live entry a new life; `false` if there is none.
    pub(crate) fn touch(&self, name: &Name, ttl: Ttl, wanted: &Wanted) -> Result<bool, FileError> {
        let now = self.now();
        let expiry = entry::expiry(ttl, now);
        let handle = self.directory.handle()?;
        let until = self.lock_deadline(wanted.deadline());
        // Against a conditional write, which must not find a version change between comparison and rename.
        let _stripe = stripe::shared(&handle, name, until)?;
        let Some(fd) = open_entry(&handle, name, OFlags::RDWR)? else { return Ok(false) };
        let fd = Locked::until(fd, true, until)?;
        let stat = rustix::fs::fstat(&fd).map_err(FileError::file("examine the entry"))?;
        // Replaced or removed while we waited: what we hold is nobody's entry any more.
        let named = handle.lstat(name.as_str()).map_err(FileError::file("examine the entry"))?;
        if !is_entry(&stat, self.max_value) || named.is_none_or(|named| file_id(&named) != file_id(&stat)) {
            return Ok(false);
        }
        let header = read_exactly(&fd, HEADER_LEN).map_err(FileError::file("read the entry"))?;
        match entry::judge(&header, now) {
            Verdict::Live { .. } => {}
            Verdict::Foreign => return Ok(false),
            Verdict::Dead => {
                drop((fd, _stripe));
                self.bury(&handle, name, file_id(&stat));
                return Ok(false);
            }
        }
        // As for a write: what stands here may be the value of a later one, whose life is not ours to set.
        wanted.check(Operation::Touch).map_err(|_| FileError::Late)?;
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&fd, &expiry.to_be_bytes(), EXPIRY_OFFSET));
        if written.map_err(FileError::file("renew the entry"))? != size_of_val(&expiry) {
            return Err(FileError::file("renew the entry")(Errno::IO));
        }
        set_modified(&fd, self.stamp()).map_err(FileError::file("date the entry"))?;
        if self.durability != Durability::None {
            // Unlocked first: readers need not wait for the disk.
            rustix::fs::flock(&fd, FlockOperation::Unlock).map_err(FileError::file("unlock the entry"))?;
            rustix::fs::fsync(&fd).map_err(FileError::file("flush the entry"))?;
        }
        Ok(true)
    }

    /// Removes an entry; `true` if it could have been served.
    ///
    /// Unlike a write, one whose caller has given up goes on: landing late it costs a newer value, which is a miss; not
    /// landing it would leave one that its caller wants gone.
    pub(crate) fn delete(&self, name: &Name, deadline: Deadline) -> Result<bool, FileError> {
        let live = self.read(name, Want::Header, deadline)?.is_some();
        let handle = self.directory.handle()?;
        let Some(stat) = handle.lstat(name.as_str()).map_err(FileError::file("examine the entry"))? else {
            return Ok(false);
        };
        let _stripe = stripe::shared(&handle, name, self.lock_deadline(deadline))?;
        // Whatever else stands there goes too, except directories: after a delete nothing may come back.
        match handle.unlink(name.as_str()) {
            Ok(false) | Err(Errno::ISDIR) => return Ok(false),
            Ok(true) => {}
            Err(errno) => return Err(FileError::file("remove the entry")(errno)),
        }
        if self.durability == Durability::Full {
            handle.sync().map_err(FileError::directory("flush the directory"))?;
        }
        if is_plain(&stat) {
            self.account.removed(stat.st_size as u64);
        }
        Ok(live)
    }
}

/// A file being filled, removed unless it is published.
pub(crate) struct Temporary<'h> {
    handle: &'h Handle,
    path: String,
    pub(crate) fd: OwnedFd,
    published: bool,
}

impl<'h> Temporary<'h> {
    fn create(handle: &'h Handle, name: &Name, now: Duration) -> Result<Self, FileError> {
        static SEQUENCE: AtomicU64 = AtomicU64::new(0);
        let mut path = String::with_capacity(96);
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        // Writing to a String cannot fail.
        let _ = write!(path, "{}.tmp.{}.{}.s{sequence}", name.as_str(), std::process::id(), now.as_nanos());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let fd = handle.open(&path, flags, 0o600).map_err(FileError::directory("create a temporary file"))?;
        let temporary = Self { handle, path, fd, published: false };
        // Nobody else can hold a lock on a file that we have just made, except a sweeper for a moment.
        let _ = rustix::fs::flock(&temporary.fd, FlockOperation::NonBlockingLockExclusive);
        if handle.file_mode != 0o600 {
            rustix::fs::fchmod(&temporary.fd, Mode::from_raw_mode(handle.file_mode))
                .map_err(FileError::file("set the mode of the entry"))?;
        }
        Ok(temporary)
    }

    /// Takes the name of the entry, replacing what stood there.
    fn publish(mut self, name: &Name) -> Result<(), FileError> {
        let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
        self.handle.rename(&self.path, name.as_str()).map_err(FileError::file("put the entry in its place"))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.published {
            // If even this fails, a sweep will find it.
            let _ = self.handle.unlink(&self.path);
        }
    }
}

/// Header and payload in one call, repeated for what a short write left over.
fn write_all(fd: &OwnedFd, header: &[u8], payload: &[u8]) -> rustix::io::Result<()> {
    let (mut header, mut payload) = (header, payload);
    while !(header.is_empty() && payload.is_empty()) {
        let written = match rustix::io::writev(fd, &[IoSlice::new(header), IoSlice::new(payload)]) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        let of_header = written.min(header.len());
        header = &header[of_header..];
        payload = &payload[(written - of_header).min(payload.len())..];
    }
    Ok(())
}

/// Sets the modification time, which orders eviction and tells versions apart.
pub(crate) fn set_modified(fd: impl AsFd, to: Duration) -> rustix::io::Result<()> {
    let to = Timespec { tv_sec: i64::try_from(to.as_secs()).unwrap_or(i64::MAX), tv_nsec: to.subsec_nanos().into() };
    rustix::fs::futimens(fd, &Timestamps { last_access: to, last_modification: to })
}
