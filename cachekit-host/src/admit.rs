//! The door: every check of a file in its order, and what is known of it once it is through.
//!
//! ```text
//! path → owner and mode → structure → identity → digest, lock file → signature        (nothing of the file has run)
//!      → dlopen → root → layouts                                                       (plugin.rs)
//! ```
//!
//! The bytes are read once, from the descriptor that is loaded, and every judgement is about these bytes.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::digest::Sha256;
use crate::elf;
use crate::error::LoadError;
use crate::file::PluginFile;
use crate::identity::Identity;
use crate::image::Image;
use crate::policy::{LoadMode, Policy};
use crate::process::Process;
use crate::signature::{self, Signer};

/// A check that was passed, for people who ask what was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// Its name: the class of the [`LoadError`] that it would have been.
    pub name: &'static str,
    /// What was found.
    pub found: String,
}

/// What speaks for the bytes of a plugin.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Provenance {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The bytes.
    pub sha256: Sha256,
    /// Where they are written down: the configuration, a lock file. Empty: nowhere.
    pub pinned_by: Vec<String>,
    /// Who signed them. `None`: nobody, or nobody's signature was asked for.
    pub signer: Option<Signer>,
    /// What the dynamic loader was given.
    pub load_mode: LoadMode,
}

impl Provenance {
    /// What pins the bytes, in words.
    pub fn pins(&self) -> String {
        if self.pinned_by.is_empty() { "nothing".into() } else { self.pinned_by.join(" and ") }
    }

    /// Who signed them, in words.
    pub fn signer(&self) -> String {
        self.signer.as_ref().map_or_else(|| "unsigned".into(), Signer::to_string)
    }
}

/// A file that may be loaded.
pub(crate) struct Admitted {
    pub(crate) image: Image,
    pub(crate) identity: Identity,
    pub(crate) provenance: Provenance,
}

/// Tells of checks as they are passed.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(Check);

pub(crate) fn tell(tell: Tell<'_>, name: &'static str, found: impl fmt::Display) {
    tell(Check { name, found: found.to_string() });
}

/// Everything that can be known of a file without running any of it.
pub(crate) fn admit(path: &Path, policy: &Policy, passed: Tell<'_>) -> Result<Admitted, LoadError> {
    let file = PluginFile::open(path)?;
    tell(passed, "path", format_args!("{} is the file itself, by no link", path.display()));
    let process = policy.process.unwrap_or_else(Process::current);
    file.check_permissions_for(&process)?;
    let (owner, mode) = file.owner_and_mode();
    tell(passed, "permissions", format_args!("user {owner}, mode {mode:04o}; nobody else may write it or swap it"));
    let bytes = file.read()?;
    let elf = structure(path, &bytes)?;
    tell(passed, "structure", format_args!("a whole library for {}, {} bytes", elf.arch, bytes.len()));
    let identity = identity(path, &elf, policy)?;
    identity.check(&file, policy)?;
    let Identity { id, version, abi, panic, .. } = &identity;
    tell(passed, "identity", format_args!("{id} {version}, ABI {abi}, panic = {panic}"));
    let sha256 = Sha256::of(&bytes);
    let signer = signer(path, &bytes, policy)?;
    let pinned_by = pins(path, &identity, sha256, policy)?;
    let provenance = Provenance { path: path.to_owned(), sha256, pinned_by, signer, load_mode: policy.load_mode };
    tell(passed, "pin", format_args!("sha256 {sha256}, pinned by {}", provenance.pins()));
    let asked = if policy.trusted_keys.is_empty() { ", and no key is trusted" } else { "" };
    match &provenance.signer {
        Some(signer) => tell(passed, "signature", signer),
        None => tell(passed, "signature", format_args!("unsigned, and none is required{asked}")),
    }
    let image = Image::new(file, &bytes, sha256, policy.load_mode)?;
    Ok(Admitted { image, identity, provenance })
}

pub(crate) fn structure(path: &Path, bytes: &[u8]) -> Result<elf::Elf, LoadError> {
    elf::parse(bytes).map_err(|reason| LoadError::Structure { path: path.to_owned(), reason })
}

pub(crate) fn identity(path: &Path, elf: &elf::Elf, policy: &Policy) -> Result<Identity, LoadError> {
    let refuse = |reason: String| LoadError::Identity { path: path.to_owned(), reason };
    match (&elf.note, &policy.entry) {
        (Some(note), _) => Identity::parse(note).map_err(refuse),
        (None, Some(entry)) => Ok(Identity::nameless(entry)),
        (None, None) => Err(refuse(
            "it has no identity note, so it is no cachekit plugin (`export_backend!` and CK_PLUGIN_NOTE write one)"
                .into(),
        )),
    }
}

/// Every digest that is written down must be the file's, and where one is demanded there must be one.
fn pins(path: &Path, identity: &Identity, sha256: Sha256, policy: &Policy) -> Result<Vec<String>, LoadError> {
    let mut pinned_by = Vec::new();
    if let Some(expected) = policy.sha256 {
        let by = policy.sha256_origin.clone().unwrap_or_else(|| "the configuration".into());
        if expected != sha256 {
            let (expected, found) = (expected.to_string().into(), sha256.to_string().into());
            return Err(LoadError::Pin { path: path.to_owned(), by: by.into(), expected, found });
        }
        pinned_by.push(by);
    }
    if let Some(lock) = &policy.lock {
        match lock.check(path, identity, sha256) {
            Ok(()) => pinned_by.push(format!("{}", lock.path().display())),
            // A digest in the configuration speaks for a file that the lock file does not know.
            Err(LoadError::Unpinned { .. }) if !pinned_by.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    if pinned_by.is_empty() && policy.require.hash {
        return Err(LoadError::Unpinned {
            path: path.to_owned(),
            reason: format!(
                "nothing pins its bytes, and the configuration demands it; write its digest into {} with `cachekit plugin \
                 lock {}`, or into the configuration: sha256 = \"{sha256}\"",
                crate::lock::LOCK_FILE,
                path.display()
            ),
        });
    }
    Ok(pinned_by)
}

/// A signature is judged wherever keys are trusted: one that is there and wrong is never passed over.
fn signer(path: &Path, bytes: &[u8], policy: &Policy) -> Result<Option<Signer>, LoadError> {
    let wanted = policy.require.signature;
    if policy.trusted_keys.is_empty() && !wanted {
        return Ok(None);
    }
    let signer = signature::verify(path, bytes, &policy.trusted_keys)?;
    if signer.is_none() && wanted {
        let place = signature::signature_path(path);
        let reason =
            format!("it is not signed, and the configuration demands it; its signature belongs into {place:?}");
        return Err(LoadError::Signature { path: path.to_owned(), reason });
    }
    Ok(signer)
}
