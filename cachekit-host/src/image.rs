//! What the dynamic loader maps: the checked file itself, or a copy of the checked bytes that nobody can write.
//!
//! A mapped file shares its pages with whoever may write it: cut short, it kills the host at the next call into it. A copy
//! in memory, sealed by the kernel, is out of everybody's reach, for the price of its size.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::digest::Sha256;
use crate::error::LoadError;
use crate::file::PluginFile;
use crate::policy::LoadMode;

/// How the dynamic loader tells libraries apart, and so do we.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// Device and inode.
    Inode(u64, u64),
    /// Copies are known by what is in them: each would be an inode of its own.
    Copy(Sha256),
}

/// Something to load.
#[derive(Debug)]
pub(crate) struct Image {
    path: PathBuf,
    file: File,
    name: Name,
}

impl Image {
    /// Of a file whose bytes were read and checked.
    pub(crate) fn new(file: PluginFile, bytes: &[u8], sha256: Sha256, mode: LoadMode) -> Result<Self, LoadError> {
        let path = file.path().to_owned();
        match mode {
            LoadMode::Inode => {
                let (device, inode) = file.identity();
                Ok(Self { path, name: Name::Inode(device, inode), file: file.into_file() })
            }
            LoadMode::Copy => {
                let file = sealed(bytes).map_err(|error| LoadError::Open {
                    path: path.clone(),
                    reason: format!("no sealed copy of it can be made (load_mode = \"copy\"): {error}"),
                })?;
                Ok(Self { path, name: Name::Copy(sha256), file })
            }
        }
    }

    /// The file as it was named.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn name(&self) -> Name {
        self.name
    }

    /// Leaves the descriptor open for ever, and nothing else behind.
    pub(crate) fn stay_open(self) {
        std::mem::forget(self.file);
    }

    /// A path to this very descriptor, for the dynamic loader.
    pub(crate) fn descriptor_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// A file in memory with these bytes, which nobody can write, cut or lengthen, this process included.
fn sealed(bytes: &[u8]) -> std::io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("cachekit-plugin", flags)?);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_copy_has_the_bytes_and_takes_no_others() {
        let mut file = sealed(b"library").unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert_eq!(std::fs::read(&path).unwrap(), b"library");
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        // Nor by way of another descriptor.
        let again = File::options().write(true).open(&path);
        assert!(again.and_then(|mut file| file.write_all(b"x")).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"library");
    }
}
