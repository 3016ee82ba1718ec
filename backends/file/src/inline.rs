//! Reading an entry in the caller's own task, without ever waiting.
//!
//! An async caller must not sleep in a system call, so file stores usually send every read to a thread, which costs
//! three times the read itself. Here the kernel is asked to answer from memory or not at all: `openat2` with
//! `RESOLVE_CACHED` opens only what the name cache knows, `flock` is non-blocking, and `preadv2` with `RWF_NOWAIT` copies
//! only pages that are present. Whatever else it says (it would have to wait, it does not know these calls, a seccomp
//! filter forbids them, the file is odd) means one thing: let the pool do it, which also produces the proper error.
//!
//! Only tried on local file systems: elsewhere the open itself may ask a server (see `client`).

use std::io::IoSliceMut;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::client::{Handle, Locked, is_entry};
use crate::entry::{HEADER_LEN, Name, Verdict, judge};

/// Largest file read inline, bytes. Copying 256 KiB holds up the caller's other tasks for about 17 µs, handing the read to
/// the pool costs 20–40 µs (`examples/floor.rs`): beyond this size the pool is slower by half at most, and fairer.
const MAX_INLINE: u64 = 256 * 1024 + HEADER_LEN as u64;

/// What could be told without waiting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inline<T> {
    Hit(T),
    /// Nothing there, or nothing that we may serve.
    Miss,
    /// Ask the pool.
    WouldWait,
}

/// The value of an entry.
pub(crate) fn read(handle: &Handle, name: &Name, now: Duration, max_value: u64) -> Inline<Bytes> {
    examine(handle, name, now, max_value, usize::MAX).map(|file| Bytes::from(file).slice(HEADER_LEN..))
}

/// Whether an entry may be served: reads its header only.
pub(crate) fn exists(handle: &Handle, name: &Name, now: Duration, max_value: u64) -> Inline<()> {
    examine(handle, name, now, max_value, HEADER_LEN).map(|_| ())
}

impl<T> Inline<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Inline<U> {
        match self {
            Self::Hit(hit) => Inline::Hit(change(hit)),
            Self::Miss => Inline::Miss,
            Self::WouldWait => Inline::WouldWait,
        }
    }
}

/// The first `most` bytes of a live entry.
fn examine(handle: &Handle, name: &Name, now: Duration, max_value: u64, most: usize) -> Inline<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::CACHED | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let fd = match rustix::fs::openat2(&handle.fd, name.as_str(), flags, Mode::empty(), resolve) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::LOOP) => return Inline::Miss,
        Err(_) => return Inline::WouldWait,
    };
    // A renewal rewrites the expiry in place; under the lock its eight bytes are one.
    let Ok(fd) = Locked::now(fd, false) else { return Inline::WouldWait };
    let size = match rustix::fs::fstat(&fd) {
        Ok(stat) if is_entry(&stat, max_value) => stat.st_size as u64,
        Ok(_) => return Inline::Miss,
        Err(_) => return Inline::WouldWait,
    };
    if size > MAX_INLINE && most > HEADER_LEN {
        return Inline::WouldWait;
    }
    let mut file = vec![0; size.min(most as u64) as usize];
    let read = rustix::io::preadv2(&fd, &mut [IoSliceMut::new(&mut file)], 0, ReadWriteFlags::NOWAIT);
    if read != Ok(file.len()) {
        return Inline::WouldWait;
    }
    match judge(&file, now) {
        Verdict::Live { .. } => Inline::Hit(file),
        Verdict::Foreign => Inline::Miss,
        // To be deleted, which may wait.
        Verdict::Dead => Inline::WouldWait,
    }
}
