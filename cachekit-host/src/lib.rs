//! Opens a cachekit plugin: checks the file, loads it, and gives back an ordinary [`Backend`](cachekit_plugin::Backend).
//!
//! A plugin is native code with all the rights of the process; loading one is trust. What is here protects against
//! mistakes: a wrong, cut, swapped or outdated file is refused *before* anything of it runs, and a plugin that misbehaves
//! later gives errors instead of wrong bytes or a dead host. It is no defence against malice.
//!
//! The order of checks, each with its own [`LoadError`]: path ([`mod@file`]), structure ([`elf`]), pin, identity
//! ([`identity`]), `dlopen` and root (`library`), layouts (`reflect`). Libraries are never unloaded.
//!
//! ```no_run
//! use cachekit_host::{Plugin, Policy};
//! use cachekit_plugin::HostServices;
//!
//! let plugin = Plugin::open("/usr/lib/cachekit/libstore.so".as_ref(), &Policy::default())?;
//! let backend = plugin.create(br#"{"table":"cache"}"#, HostServices::none())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod async_call;
mod blocking_call;
pub mod elf;
pub mod error;
pub mod file;
pub mod identity;
mod instance;
mod library;
mod plugin;
pub mod policy;
#[cfg(feature = "reflect")]
mod reflect;
#[cfg(not(feature = "reflect"))]
#[path = "reflect_disabled.rs"]
mod reflect;
mod request;
mod services;
mod tables;
mod waker;

pub use error::LoadError;
pub use identity::Identity;
pub use plugin::{Inspection, Plugin, Support, inspect};
pub use policy::{Policy, Reflect, Sha256};
