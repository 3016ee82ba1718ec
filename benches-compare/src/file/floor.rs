//! The system calls that a file store cannot do without, and nothing around them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cachekit_backend_file::Durability;
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::callers::{Answer, Store};

/// One directory, one file per key.
pub(super) struct Floor {
    dir: OwnedFd,
    durability: Durability,
    temporary: AtomicU64,
}

impl Floor {
    pub(super) fn new(path: &Path, durability: Durability) -> std::io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { dir, durability, temporary: AtomicU64::new(0) })
    }

    fn read(&self, key: &str) -> rustix::io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, key, flags, Mode::empty())?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)?;
        let mut value = vec![0; rustix::fs::fstat(&file)?.st_size as usize];
        let len = rustix::io::read(&file, &mut value[..])?;
        value.truncate(len);
        Ok(value)
    }

    fn write(&self, key: &str, value: &[u8]) -> rustix::io::Result<()> {
        let temporary = format!("tmp.{}", self.temporary.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, &temporary, flags, Mode::from_raw_mode(0o600))?;
        rustix::io::write(&file, value)?;
        if self.durability != Durability::None {
            rustix::fs::fsync(&file)?;
        }
        rustix::fs::renameat(&self.dir, &temporary, &self.dir, key)?;
        if self.durability == Durability::Full {
            rustix::fs::fsync(&self.dir)?;
        }
        Ok(())
    }
}

impl Store for Floor {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, usize> {
        Box::pin(async { self.read(key).expect("the directory works").len() })
    }

    fn set<'a>(&'a self, key: &'a str, value: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async { self.write(key, value).expect("the directory works") })
    }
}
