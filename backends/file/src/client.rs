//! The directory: found, judged and held by descriptor.
//!
//! Every system call names a file relative to that descriptor, so a path is walked once and nobody can swap a component
//! of it between two calls. Before the descriptor is used the directory is judged: a cache directory that others may
//! write is a way to plant values, and one that is really a link into somebody's home would have its files evicted.
//!
//! The directory may also vanish or be replaced while we hold it. Writers notice (`ENOENT`) and create it anew;
//! readers compare path and descriptor at most once a second, and only after a miss.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cachekit_plugin::Deadline;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::entry::HEADER_LEN;
use crate::error::FileError;

/// What identifies a file as long as it exists: device and inode.
pub(crate) type FileId = (u64, u64);

pub(crate) fn file_id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}

/// How the directory is to be found and judged.
pub(crate) struct Terms {
    pub(crate) path: PathBuf,
    pub(crate) dir_mode: u32,
    pub(crate) file_mode: u32,
    pub(crate) allow_shared: bool,
    /// Whether reads may be answered in the caller's task where the file system allows it.
    pub(crate) allow_inline: bool,
}

/// The directory of a backend, opened anew when it has been replaced.
pub(crate) struct Directory {
    terms: Terms,
    handle: RwLock<Option<Arc<Handle>>>,
    compared_at_secs: AtomicU64,
}

/// An open directory that has been judged.
pub(crate) struct Handle {
    /// `O_PATH`: names files in the directory and nothing else.
    pub(crate) fd: OwnedFd,
    id: FileId,
    /// On a local file system a cached file is opened and read without waiting for anybody.
    pub(crate) local: bool,
    /// Mode of the files made here.
    pub(crate) file_mode: u32,
    /// Whether reads try to answer inline.
    pub(crate) inline: bool,
}

impl Directory {
    pub(crate) fn new(terms: Terms) -> Self {
        Self { terms, handle: RwLock::default(), compared_at_secs: AtomicU64::new(0) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.terms.path
    }

    /// The open directory, if there is one: never touches the disk.
    pub(crate) fn open_already(&self) -> Option<Arc<Handle>> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The open directory, opened or created if need be.
    pub(crate) fn handle(&self) -> Result<Arc<Handle>, FileError> {
        match self.open_already() {
            Some(handle) => Ok(handle),
            None => self.reopen(),
        }
    }

    /// Finds, judges and opens the directory again.
    pub(crate) fn reopen(&self) -> Result<Arc<Handle>, FileError> {
        let opened = self.terms.open().map(Arc::new);
        *self.handle.write().unwrap_or_else(PoisonError::into_inner) = opened.as_ref().ok().cloned();
        opened
    }

    /// Closes the descriptor; the next use opens it again.
    pub(crate) fn release(&self) {
        *self.handle.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether a miss should be confirmed by comparing path and descriptor: once a second.
    pub(crate) fn comparison_is_due(&self, now: Duration) -> bool {
        self.compared_at_secs.load(Ordering::Relaxed) != now.as_secs()
    }

    /// The directory that the path names now; the old one if it is still that.
    pub(crate) fn compare(&self, now: Duration) -> Result<Arc<Handle>, FileError> {
        self.compared_at_secs.store(now.as_secs(), Ordering::Relaxed);
        let handle = self.handle()?;
        match rustix::fs::stat(&self.terms.path) {
            Ok(stat) if file_id(&stat) == handle.id => Ok(handle),
            _ => self.reopen(),
        }
    }
}

/// File systems whose cached files open and read without asking a server or a user-space daemon.
///
/// An allow-list, because on the others (NFS, FUSE, 9p, …) already the open may wait for somebody else.
const LOCAL_FILE_SYSTEMS: [u64; 8] = [
    0xef53,      // ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs: what we write lies in its upper, local layer
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // zfs
];

impl Terms {
    fn open(&self) -> Result<Handle, FileError> {
        self.create_missing(&self.path)?;
        let open = |extra| {
            rustix::fs::open(&self.path, OFlags::PATH | OFlags::CLOEXEC | extra, Mode::empty())
                .map_err(FileError::directory("open the cache directory"))
        };
        // A link planted in a shared parent could lead anywhere, and eviction would work there. Our own links and the
        // administrator's are trusted; nobody else can put another in their place under a sticky parent.
        let itself = stat(open(OFlags::NOFOLLOW)?)?;
        let user = rustix::process::geteuid().as_raw();
        if FileType::from_raw_mode(itself.st_mode) == FileType::Symlink && itself.st_uid != user && itself.st_uid != 0 {
            return Err(FileError::Refused(format!(
                "{} is a symbolic link that belongs to user {}; name the real directory",
                self.path.display(),
                itself.st_uid
            )));
        }
        let fd = open(OFlags::DIRECTORY)?;
        let found = stat(&fd)?;
        if !self.allow_shared {
            self.judge(&found, user)?;
        }
        let kind = rustix::fs::fstatfs(&fd).map_err(FileError::directory("examine the file system"))?.f_type;
        let local = LOCAL_FILE_SYSTEMS.contains(&(kind as u64));
        let inline = local && self.allow_inline;
        Ok(Handle { id: file_id(&found), fd, local, file_mode: self.file_mode, inline })
    }

    fn judge(&self, found: &Stat, user: u32) -> Result<(), FileError> {
        let (path, mode) = (self.path.display(), found.st_mode & 0o7777);
        if found.st_uid != user {
            return Err(FileError::Refused(format!(
                "{path} belongs to user {}, this process runs as {user}: give it to {user}, name another directory, \
                 or set allow_shared_dir = true",
                found.st_uid
            )));
        }
        if mode & 0o022 != 0 {
            return Err(FileError::Refused(format!(
                "{path} has mode 0{mode:03o}, so others may write there: chmod go-w it, or set allow_shared_dir = true"
            )));
        }
        Ok(())
    }

    /// Creates the directory and its missing parents.
    fn create_missing(&self, path: &Path) -> Result<(), FileError> {
        let mode = Mode::from_raw_mode(if path == self.path { self.dir_mode } else { 0o700 });
        let made = match (rustix::fs::mkdir(path, mode), path.parent()) {
            (Err(Errno::NOENT), Some(parent)) => {
                self.create_missing(parent)?;
                rustix::fs::mkdir(path, mode)
            }
            (made, _) => made,
        };
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            // A parent that may not be written says so even where the directory already exists.
            Err(Errno::ROFS | Errno::ACCESS) if rustix::fs::stat(path).is_ok() => return Ok(()),
            Err(errno) => return Err(FileError::directory("create the cache directory")(errno)),
        }
        // The umask of the process may have taken bits away that we need.
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
            .map_err(FileError::directory("set the mode of the cache directory"))
    }
}

fn stat(fd: impl AsFd) -> Result<Stat, FileError> {
    rustix::fs::fstat(fd).map_err(FileError::directory("examine the cache directory"))
}

impl Handle {
    /// Opens a file of the directory, whatever it is, without following links and without waiting for the other end
    /// of a FIFO.
    pub(crate) fn open(&self, name: &str, flags: OFlags, mode: u32) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::io::retry_on_intr(|| rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode)))
    }

    /// Opens one of our own files (their names begin with a dot), made if missing.
    pub(crate) fn open_own(&self, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.open(name, flags | OFlags::CREATE, self.file_mode)
    }

    /// What stands under `name`, links not followed; `None` if nothing does.
    pub(crate) fn lstat(&self, name: &str) -> rustix::io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Removes a file; `false` if there was none.
    pub(crate) fn unlink(&self, name: &str) -> rustix::io::Result<bool> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::fs::renameat(&self.fd, from, &self.fd, to))
    }

    /// The directory opened for reading, which an `O_PATH` descriptor is not.
    pub(crate) fn open_listing(&self) -> rustix::io::Result<OwnedFd> {
        self.open(".", OFlags::RDONLY | OFlags::DIRECTORY, 0)
    }

    /// Flushes the names of the directory.
    pub(crate) fn sync(&self) -> rustix::io::Result<()> {
        rustix::fs::fsync(self.open_listing()?)
    }
}

/// Whether a file may be an entry: a regular file that no other name reaches. (No name at all is fine: it was replaced
/// after we opened it, and its bytes are whole.)
///
/// A file larger than `max_value` allows is none either, before memory is taken for it: it is left to whoever wrote it
/// under a larger limit.
pub(crate) fn is_entry(stat: &Stat, max_value: u64) -> bool {
    is_plain(stat) && (stat.st_size as u64) <= max_value + HEADER_LEN as u64
}

/// Whether a file is a regular one that no other name reaches.
pub(crate) fn is_plain(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink <= 1
}

/// A file that is locked as long as this lives.
///
/// Unlocked by hand at the end: closing would be enough, were it not for `fork()`. A child that was forked meanwhile
/// shares the open file, and would keep the lock for as long as it lives.
pub(crate) struct Locked(OwnedFd);

impl Locked {
    /// Takes the lock if it is free at this moment.
    pub(crate) fn now(fd: OwnedFd, exclusive: bool) -> rustix::io::Result<Self> {
        rustix::fs::flock(&fd, operation(exclusive)).map(|()| Self(fd))
    }

    /// Waits for the lock until `deadline`, by asking again: a blocking `flock` could not be given a deadline.
    ///
    /// The pauses double from 50 µs to 5 ms. Holders in good health keep an entry for microseconds.
    pub(crate) fn until(fd: OwnedFd, exclusive: bool, deadline: Deadline) -> Result<Self, FileError> {
        let mut pause = Duration::from_micros(50);
        loop {
            match rustix::fs::flock(&fd, operation(exclusive)) {
                Ok(()) => return Ok(Self(fd)),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if deadline.has_passed() => return Err(FileError::Locked),
                Err(Errno::WOULDBLOCK) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(5));
                }
                Err(errno) => return Err(FileError::file("lock a file of the cache directory")(errno)),
            }
        }
    }
}

impl AsFd for Locked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Nothing can be done about a failure, and closing follows.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

const fn operation(exclusive: bool) -> FlockOperation {
    if exclusive { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared }
}
