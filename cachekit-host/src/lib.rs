//! Opens a cachekit plugin: checks the file, loads it, and gives back an ordinary [`Backend`](cachekit_plugin::Backend).
//!
//! A plugin is native code with all the rights of the process; loading one is trust. What is here protects against
//! mistakes: a wrong, cut, swapped or outdated file is refused *before* anything of it runs, and a plugin that misbehaves
//! later gives errors instead of wrong bytes or a dead host. It is no defence against malice.
//!
//! The order of checks, each with its own [`LoadError`]: path and owner ([`mod@file`]), structure ([`elf`]), identity
//! ([`identity`]), digest ([`lock`]), signature ([`signature`]), `dlopen` and root (`library`), layouts (`reflect`).
//! Libraries are never unloaded.
//!
//! ```no_run
//! use cachekit_host::{Plugin, Policy};
//! use cachekit_plugin::HostServices;
//!
//! let plugin = Plugin::open("/usr/lib/cachekit/libstore.so".as_ref(), &Policy::default())?;
//! let backend = plugin.create(br#"{"table":"cache"}"#, HostServices::none())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admit;
mod async_call;
mod audit;
mod blocking_call;
pub mod digest;
pub mod elf;
pub mod error;
pub mod file;
pub mod identity;
mod image;
mod instance;
mod library;
pub mod lock;
mod plugin;
pub mod policy;
pub mod process;
#[cfg(feature = "reflect")]
mod reflect;
#[cfg(not(feature = "reflect"))]
#[path = "reflect_disabled.rs"]
mod reflect;
mod request;
mod services;
mod signals;
pub mod signature;
mod tables;
mod text_file;
mod waker;

pub use admit::{Check, Provenance};
pub use error::LoadError;
pub use identity::Identity;
pub use lock::{LOCK_FILE, LockFile, Locked};
pub use plugin::{Inspection, Plugin, Support, inspect};
pub use policy::{LoadMode, Policy, Reflect, Require, Sha256};
pub use process::Process;
pub use signature::{Signer, TrustedKey};
