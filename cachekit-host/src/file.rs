//! The file behind a path: opened once, and only if nobody but its owner can have changed it.
//!
//! Everything later works on the descriptor opened here, never on the path again, so that the file that was checked is
//! the file that is loaded.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::LoadError;
use crate::process::Process;

/// No plugin is larger; a bound before the file is read into memory.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// An opened plugin file with its content.
#[derive(Debug)]
pub struct PluginFile {
    path: PathBuf,
    file: File,
    meta: Metadata,
}

impl PluginFile {
    /// Opens the file at an absolute path without symbolic links.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let refuse = |reason: String| LoadError::Path { path: path.to_owned(), reason };
        if !path.is_absolute() {
            return Err(refuse("a plugin is named by its absolute path, such as /usr/lib/cachekit/libstore.so".into()));
        }
        if path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir)) {
            return Err(refuse("the path must not contain `.` or `..`".into()));
        }
        let canonical = path.canonicalize().map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        if canonical != path {
            return Err(refuse(format!("it leads through a symbolic link; name the file itself: {canonical:?}")));
        }
        // O_NONBLOCK: opening a pipe that was planted here must not hang.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd: OwnedFd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| LoadError::Read { path: path.to_owned(), source: errno.into() })?;
        let file = File::from(fd);
        let meta = file.metadata().map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        if !meta.is_file() {
            return Err(refuse("it is not a regular file".into()));
        }
        Ok(Self { path: path.to_owned(), file, meta })
    }

    /// Refuses a file that anybody but root or this user could have written, or could swap.
    pub fn check_permissions(&self) -> Result<(), LoadError> {
        self.check_permissions_for(&Process::current())
    }

    /// The same for another process than this one.
    pub fn check_permissions_for(&self, process: &Process) -> Result<(), LoadError> {
        let refuse = |reason: String| Err(LoadError::Permissions { path: self.path.clone(), reason });
        let trusted = |meta: &Metadata| process.trusts(meta.uid());
        if self.meta.mode() & 0o6000 != 0 {
            return refuse("it has the setuid or setgid bit; a library needs none (chmod ug-s)".into());
        }
        if !trusted(&self.meta) {
            return refuse(format!(
                "it belongs to user {}, neither to root nor to the user of this process",
                self.meta.uid()
            ));
        }
        if self.meta.mode() & 0o022 != 0 {
            return refuse(format!(
                "group or others may write it (mode {:04o}); chmod go-w {:?}",
                self.meta.mode() & 0o7777,
                self.path
            ));
        }
        for (distance, dir) in self.path.ancestors().skip(1).enumerate() {
            let meta = dir.metadata().map_err(|source| LoadError::Read { path: dir.to_owned(), source })?;
            // A sticky directory of root, such as the system's temporary one, lets nobody replace what others own. As the
            // directory of the file itself it is still refused: anybody could have put the file there.
            let sticky = distance > 0 && meta.uid() == 0 && meta.mode() & 0o1000 != 0;
            if !trusted(&meta) {
                return refuse(format!("its directory {dir:?} belongs to user {}, who could swap it", meta.uid()));
            }
            if meta.mode() & 0o022 != 0 && !sticky {
                return refuse(format!(
                    "group or others may write its directory {dir:?} (mode {:04o}) and could swap it; chmod go-w {dir:?}",
                    meta.mode() & 0o7777
                ));
            }
        }
        // The directories were looked at by name, after the file was opened. If the name still leads to the file, nobody
        // but those just found trustworthy can have put it there.
        let now = self.path.symlink_metadata().map_err(|source| LoadError::Read { path: self.path.clone(), source })?;
        if (now.dev(), now.ino()) != self.identity() {
            return refuse("another file took its name while it was checked; try again".into());
        }
        Ok(())
    }

    /// Links are no matter: a second name elsewhere gives nobody the right to write. Of use to `plugin verify`.
    pub fn owner_and_mode(&self) -> (u32, u32) {
        (self.meta.uid(), self.meta.mode() & 0o7777)
    }

    /// The whole file.
    pub fn read(&self) -> Result<Vec<u8>, LoadError> {
        if self.meta.len() > MAX_FILE_BYTES {
            let reason = format!("{} bytes; at most {MAX_FILE_BYTES} are read", self.meta.len());
            return Err(LoadError::Structure { path: self.path.clone(), reason });
        }
        let mut bytes = Vec::with_capacity(self.meta.len() as usize);
        // One byte more than it had, so that a file that grows meanwhile is seen and not followed without end.
        (&self.file)
            .take(self.meta.len() + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| LoadError::Read { path: self.path.clone(), source })?;
        if bytes.len() as u64 != self.meta.len() {
            let reason = "it changed while it was read; install plugins by renaming them into place".into();
            return Err(LoadError::Structure { path: self.path.clone(), reason });
        }
        Ok(bytes)
    }

    /// As it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode: what the file is, whatever it is called.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.meta.dev(), self.meta.ino())
    }

    /// The descriptor that was checked.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

#[cfg(test)]
mod tests;
