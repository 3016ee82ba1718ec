//! A loaded library: the dynamic loader's handle, kept for ever, and the root behind its entry symbol.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use cachekit_abi::{CK_ABI_MAJOR, CK_ID_BACKEND, CK_MAGIC, CkEntryV1, CkPluginV1};
use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};

use crate::digest::Sha256;
use crate::error::LoadError;
use crate::identity::Identity;
use crate::image::{Image, Name};
use crate::signals::Handlers;

/// A library in this process. Never unloaded: a thread or a thread-local destructor of the plugin may outlive any
/// instance, and code that is gone is no error that could be handled.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) identity: Identity,
    pub(crate) root: CkPluginV1,
    /// `create` and `destroy` are serialised.
    pub(crate) lifecycle: Mutex<()>,
    /// Signals whose handlers changed while it was loaded, until somebody was told.
    pub(crate) took_signals: Mutex<Vec<String>>,
}

/// Libraries as the dynamic loader tells them apart, by device and inode (copies by what is in them), with the digest of what was loaded, and with what
/// was found wrong with those that were refused once they were loaded: they stay loaded too, and loading them again would
/// not make them better.
type Loaded = HashMap<Name, (Sha256, String, Result<&'static Library, Refusal>)>;

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Why a library that is loaded cannot be used.
#[derive(Debug, Clone)]
enum Refusal {
    Entry(String),
    Contract(String),
}

impl Library {
    /// Loads a checked file, or finds it loaded.
    pub(crate) fn load(file: Image, sha256: Sha256, identity: &Identity) -> Result<&'static Self, LoadError> {
        let (name, path) = (file.name(), file.path().to_owned());
        // Held while loading, so that one file is loaded once whatever the number of threads that ask for it.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        let library = match loaded.get(&name) {
            Some((loaded, entry, library)) if *loaded == sha256 && *entry == identity.entry => library.clone(),
            // The loader would answer with what it has, under the digest of what it has not.
            Some(_) => {
                let reason =
                    "its file was changed in place after it was loaded; install plugins by renaming them over the \
                              old ones, and restart this process now"
                        .into();
                return Err(LoadError::Open { path, reason });
            }
            None => {
                let before = Handlers::now();
                let handle = open(&file)?;
                let root = root(&handle, &file, &identity.entry);
                let took = Handlers::now().changed_since(&before);
                // The loader knows the library by the name of this descriptor and matches names first: were the number
                // used again, the next file under it would turn out to be this library. So it stays open, as long as
                // the library stays loaded, which is for ever.
                file.stay_open();
                std::mem::forget(handle);
                let library = root.map(|root| {
                    let (identity, lifecycle, took_signals) = (identity.clone(), Mutex::new(()), Mutex::new(took));
                    &*Box::leak(Box::new(Self { identity, root, lifecycle, took_signals }))
                });
                loaded.insert(name, (sha256, identity.entry.clone(), library.clone()));
                library
            }
        };
        library.map_err(|refusal| match refusal {
            Refusal::Entry(reason) => LoadError::Open { path, reason },
            Refusal::Contract(reason) => LoadError::Contract { path, reason },
        })
    }
}

fn open(file: &Image) -> Result<Handle, LoadError> {
    // RTLD_NOW: a symbol that nobody has is reported here, not in the middle of a request. RTLD_LOCAL: two plugins
    // with functions of one name do not find each other's.
    // SAFETY: constructors of the library run here; that is what trusting a plugin means. Path, owner, structure,
    // digest and identity were checked.
    unsafe { Handle::open(Some(file.descriptor_path()), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| LoadError::Open { path: file.path().to_owned(), reason: chain(&error, file) })
}

fn root(handle: &Handle, file: &Image, entry: &str) -> Result<CkPluginV1, Refusal> {
    // SAFETY: the symbol, if it exists, is the entry function that the contract describes.
    let found = unsafe { handle.get::<CkEntryV1>(entry.as_bytes()) }.map_err(|error| {
        Refusal::Entry(format!(
            "its entry symbol {entry:?} is missing ({}); is it exported? `export_backend!` and CK_EXPORT do that",
            chain(&error, file)
        ))
    })?;
    // SAFETY: as above.
    let root = unsafe { found() };
    check_root(root).and_then(refuse_draft).map_err(Refusal::Contract)
}

/// Before 1.0 the ids began with `unstable.`, and what stood behind them changed. Such a library would be refused anyway, for
/// want of the tables it has under other names; this says what to do.
fn refuse_draft(root: CkPluginV1) -> Result<CkPluginV1, String> {
    // SAFETY: NULL asks the library itself.
    let has = |id: &str| !unsafe { (root.query)(std::ptr::null_mut(), id.as_ptr(), id.len()) }.is_null();
    let draft = format!("unstable.{CK_ID_BACKEND}");
    if !has(CK_ID_BACKEND) && has(&draft) {
        return Err(format!(
            "it was built for a draft of the contract (it knows {draft}); build it again, with the SDK 1.0"
        ));
    }
    Ok(root)
}

fn check_root(root: *const CkPluginV1) -> Result<CkPluginV1, String> {
    if root.is_null() || !root.is_aligned() {
        return Err("its entry function returned no root".into());
    }
    // The first 16 bytes have meant the same since the first plugin; nothing beyond them is read before they fit.
    // SAFETY: the entry function returns a static root of at least these 16 bytes.
    let (magic, major, size) = unsafe {
        let root = &raw const *root;
        ((*root).magic, (*root).abi_major, (*root).struct_size)
    };
    if magic != CK_MAGIC {
        return Err(format!("its root begins with {magic:#018x} instead of the magic {CK_MAGIC:#018x}"));
    }
    if major != CK_ABI_MAJOR {
        return Err(format!("its root speaks ABI major {major}, this host {CK_ABI_MAJOR}"));
    }
    if (size as usize) < size_of::<CkPluginV1>() {
        return Err(format!("its root has {size} bytes, the contract {}", size_of::<CkPluginV1>()));
    }
    // SAFETY: it has the size it needs.
    if !unsafe { crate::tables::root_is_whole(root) } {
        return Err("a function of its root is NULL".into());
    }
    // SAFETY: as above, and its function pointers are not NULL.
    Ok(unsafe { root.read() })
}

/// Everything the loader said: its first line alone hides the reason.
fn chain(error: &dyn std::error::Error, file: &Image) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    // The loader knows the file by its descriptor; people know it by its path.
    text.replace(&*file.descriptor_path().to_string_lossy(), &file.path().to_string_lossy())
}
