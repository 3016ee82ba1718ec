//! `cachekit-plugins.lock`: which bytes a plugin's id stands for.
//!
//! ```toml
//! version = 1
//!
//! [[plugin]]
//! id = "acme.dynamodb"
//! version = "1.2.0"
//! abi = "1.0"
//! sha256 = "64 hex digits"
//! file = "libck_dynamodb.so"
//! ```
//!
//! One entry for each id, sorted by it, so that two people who lock the same files write the same text. The name of the
//! file is for people; where it lies is left to each machine.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::error::LoadError;
use crate::identity::Identity;
use crate::plugin::Inspection;
use crate::process::Process;
use crate::text_file;

/// What the file is called.
pub const LOCK_FILE: &str = "cachekit-plugins.lock";

/// Longest lock file that is read, bytes, and most plugins in it.
const MAX_LOCK_BYTES: u64 = 1 << 20;
const MAX_PLUGINS: usize = 4096;
/// The one form there is.
const FORM: u32 = 1;

const HEAD: &str =
    "# Written by `cachekit plugin lock`. A plugin is loaded only if its file has the digest that stands here.\n";

/// One plugin of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Version of the ABI it speaks.
    pub abi: String,
    /// Digest of its file.
    pub sha256: String,
    /// Name of its file, without the directory.
    pub file: String,
}

impl Locked {
    /// What is to be written of a library.
    pub fn of(path: &Path, inspection: &Inspection) -> Self {
        let Identity { id, version, abi, .. } = inspection.identity.clone();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { id, version, abi, sha256: inspection.sha256.clone(), file }
    }
}

/// A lock file that was read, or is to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockFile {
    path: PathBuf,
    plugins: BTreeMap<String, (Locked, Sha256)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    #[serde(default)]
    plugin: Vec<Locked>,
}

impl LockFile {
    /// An empty one that will lie at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), plugins: BTreeMap::new() }
    }

    /// Reads one; `None` if it is not there.
    ///
    /// # Errors
    /// [`LoadError::Lock`]: unreadable, of another form, or writable by others: whoever writes it decides what runs.
    pub fn read(path: &Path) -> Result<Option<Self>, LoadError> {
        Self::read_as(path, &Process::current())
    }

    fn read_as(path: &Path, process: &Process) -> Result<Option<Self>, LoadError> {
        let refuse = |reason: String| LoadError::Lock { path: path.to_owned(), reason };
        let read = text_file::read(path, MAX_LOCK_BYTES);
        let Some((text, meta)) = read.map_err(|error| refuse(format!("it cannot be read: {error}")))? else {
            return Ok(None);
        };
        if !process.trusts(meta.uid()) {
            return Err(refuse(format!("it belongs to user {}, who could pin other files", meta.uid())));
        }
        if meta.mode() & 0o022 != 0 {
            let mode = meta.mode() & 0o7777;
            return Err(refuse(format!("group or others may write it (mode {mode:04o}); chmod go-w {path:?}")));
        }
        Self::parse(path, &text).map(Some).map_err(refuse)
    }

    /// Takes the text of a lock file.
    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let Document { version, plugin } = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!("line {line}: {}", error.message())
        })?;
        if version != FORM {
            return Err(format!("it has form {version}, this host knows {FORM}; was it written by a later cachekit?"));
        }
        if plugin.len() > MAX_PLUGINS {
            return Err(format!("it lists more than {MAX_PLUGINS} plugins"));
        }
        let mut lock = Self::new(path);
        for locked in plugin {
            let id = locked.id.clone();
            if lock.insert(locked)?.is_some() {
                return Err(format!("{id} stands in it twice"));
            }
        }
        Ok(lock)
    }

    /// Adds a plugin, or replaces the one of its id, which is returned.
    pub fn insert(&mut self, locked: Locked) -> Result<Option<Locked>, String> {
        let digest = locked.sha256.parse().map_err(|reason| format!("{}: {reason}", locked.id))?;
        Ok(self.plugins.insert(locked.id.clone(), (locked, digest)).map(|(old, _)| old))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its plugins, by id.
    pub fn plugins(&self) -> impl Iterator<Item = &Locked> {
        self.plugins.values().map(|(locked, _)| locked)
    }

    /// What it says of a plugin.
    pub fn get(&self, id: &str) -> Option<&Locked> {
        self.plugins.get(id).map(|(locked, _)| locked)
    }

    /// The text, the same for the same plugins.
    pub fn render(&self) -> String {
        let document = Document { version: FORM, plugin: self.plugins().cloned().collect() };
        // Numbers and texts have a form in TOML.
        HEAD.to_owned() + &toml::to_string(&document).unwrap_or_default()
    }

    /// Writes it: whole, flushed, and then under its name, so that nobody ever reads half of it.
    pub fn write(&self) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".new-{}", std::process::id()));
        let new = self.path.with_file_name(name);
        // The mode is part of what readers check, so it does not depend on a umask that lets the group write.
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new);
        let written = file.and_then(|mut file| {
            file.write_all(self.render().as_bytes())?;
            file.sync_all()
        });
        let renamed = written.and_then(|()| std::fs::rename(&new, &self.path));
        if renamed.is_err() {
            // What could not be finished is not left behind; that it could not be removed either says nothing new.
            let _ = std::fs::remove_file(&new);
        }
        renamed?;
        match self.path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => std::fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Refuses a file that is not the one its id stands for.
    pub(crate) fn check(&self, library: &Path, identity: &Identity, sha256: Sha256) -> Result<(), LoadError> {
        let Some((locked, expected)) = self.plugins.get(&identity.id) else {
            return Err(LoadError::Unpinned {
                path: library.to_owned(),
                reason: format!(
                    "{} is not in the lock file {:?}; look at it with `cachekit plugin verify`, then add it with \
                     `cachekit plugin lock {}`",
                    identity.id,
                    self.path,
                    library.display()
                ),
            });
        };
        if *expected == sha256 {
            return Ok(());
        }
        // A file of another version is more likely out of place than swapped.
        let version = if locked.version == identity.version {
            format!("of the same version {}", locked.version)
        } else {
            format!("of version {}; this file says {}", locked.version, identity.version)
        };
        Err(LoadError::Pin {
            path: library.to_owned(),
            by: format!("the lock file {:?} ({version})", self.path).into(),
            expected: expected.to_string().into(),
            found: sha256.to_string().into(),
        })
    }
}

#[cfg(test)]
mod tests;
