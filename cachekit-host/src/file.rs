//! The file behind a path: opened once, and only if nobody but its owner can have changed it.
//!
//! Everything later works on the descriptor opened here, never on the path again, so that the file that was checked is
//! the file that is loaded.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::LoadError;

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
        let refuse = |reason: String| Err(LoadError::Permissions { path: self.path.clone(), reason });
        let euid = rustix::process::geteuid().as_raw();
        let trusted = |meta: &Metadata| meta.uid() == 0 || meta.uid() == euid;
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
        Ok(())
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

    /// A path to this very descriptor, for the dynamic loader.
    pub(crate) fn descriptor_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory that only its owner may write, whatever the umask.
    fn dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    fn file(dir: &Path, mode: u32) -> PathBuf {
        let path = dir.canonicalize().unwrap().join("lib.so");
        fs::write(&path, b"x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn verdict(path: &Path) -> Result<(), String> {
        PluginFile::open(path).and_then(|file| file.check_permissions()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_of_ones_own_is_taken() {
        let dir = dir();
        assert_eq!(verdict(&file(dir.path(), 0o755)), Ok(()));
    }

    #[test]
    fn a_file_others_may_write_is_refused_with_the_remedy() {
        for mode in [0o775, 0o757, 0o777] {
            let dir = dir();
            assert!(verdict(&file(dir.path(), mode)).unwrap_err().contains("chmod go-w"), "{mode:o}");
        }
    }

    #[test]
    fn a_setuid_library_is_refused() {
        let dir = dir();
        assert!(verdict(&file(dir.path(), 0o4755)).unwrap_err().contains("setuid"));
    }

    #[test]
    fn a_directory_others_may_write_is_refused_even_if_sticky() {
        for mode in [0o777, 0o1777] {
            let dir = dir();
            let path = file(dir.path(), 0o755);
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(verdict(&path).unwrap_err().contains("could swap it"), "{mode:o}");
        }
    }

    #[test]
    fn relative_dotted_linked_and_special_paths_are_refused() {
        let dir = dir();
        let path = file(dir.path(), 0o755);
        let root = path.parent().unwrap();
        symlink(&path, root.join("link.so")).unwrap();
        fs::create_dir(root.join("dir.so")).unwrap();
        for (wrong, word) in [
            (PathBuf::from("lib.so"), "absolute"),
            (root.join("../x.so"), "`..`"),
            (root.join("link.so"), "symbolic link"),
            (root.join("dir.so"), "regular file"),
            (root.join("absent.so"), "cannot be read"),
            (PathBuf::from("/dev/null"), "regular file"),
        ] {
            let error = verdict(&wrong).unwrap_err();
            assert!(error.contains(word), "{wrong:?}: {error}");
        }
    }
}
