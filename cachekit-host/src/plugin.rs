//! From a path to a backend: the checks in their order, and what tools may learn without loading.

use std::ffi::c_void;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use cachekit_abi::{CK_OK, CkError};
use cachekit_plugin::{Backend, BackendError, HostServices, LogLevel, Operation, raw};
use serde::Serialize;

use crate::admit::{self, Admitted, Check, Provenance};
use crate::audit;
use crate::digest::Sha256;
use crate::error::LoadError;
use crate::file::PluginFile;
use crate::identity::Identity;
use crate::instance::{Inner, Instance, limits_of};
use crate::library::Library;
use crate::policy::{Policy, Reflect};
use crate::reflect::{self, Layouts};
use crate::request::{InstancePtr, status};
use crate::services::ServiceTable;
use crate::signals::{self, Handlers};
use crate::tables::{self, Tables};

/// What a library says of itself, read without running anything of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// From its note.
    #[serde(flatten)]
    pub identity: Identity,
    /// Machine it is built for.
    pub arch: &'static str,
    /// Digest of the file, as a configuration would pin it.
    pub sha256: String,
    /// Symbols it exports.
    #[serde(skip)]
    pub exports: Vec<String>,
}

/// Reads what a library says of itself. Runs nothing of it, and demands no permissions: it is for looking.
pub fn inspect(path: &Path) -> Result<Inspection, LoadError> {
    let bytes = PluginFile::open(path)?.read()?;
    let elf = admit::structure(path, &bytes)?;
    let identity = admit::identity(path, &elf, &Policy::default())?;
    Ok(Inspection { identity, arch: elf.arch, sha256: Sha256::of(&bytes).to_string(), exports: elf.exports })
}

/// How a plugin has a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// It has a table for it.
    Native,
    /// The engine makes do with other operations.
    Emulated,
    /// Not possible.
    Absent,
}

/// A loaded plugin, from which instances are opened.
#[derive(Debug, Clone)]
pub struct Plugin {
    library: &'static Library,
    policy: Policy,
    layouts_checked: bool,
    provenance: Provenance,
}

impl Plugin {
    /// Checks and loads the library at `path`. Loading the same file again gives the same library.
    ///
    /// Every attempt leaves one line in the log (`tracing`, target `cachekit::audit`): what was loaded and what spoke for it,
    /// or why it was refused.
    pub fn open(path: &Path, policy: &Policy) -> Result<Self, LoadError> {
        Self::open_telling(path, policy, &mut |_| {})
    }

    /// The same, telling of each check that was passed, in order. The error is the first that was not.
    pub fn open_telling(path: &Path, policy: &Policy, passed: &mut dyn FnMut(Check)) -> Result<Self, LoadError> {
        let opened = Self::checked(path, policy, passed);
        match &opened {
            Ok(plugin) => audit::loaded(plugin),
            Err(error) => audit::refused(path, error),
        }
        opened
    }

    fn checked(path: &Path, policy: &Policy, passed: &mut dyn FnMut(Check)) -> Result<Self, LoadError> {
        let Admitted { image, identity, provenance } = admit::admit(path, policy, passed)?;
        let library = Library::load(image, provenance.sha256, &identity)?;
        admit::tell(passed, "open", format_args!("loaded ({}), with every symbol it needs", provenance.load_mode));
        admit::tell(passed, "contract", format_args!("{} gave a root of this host's kind", identity.entry));
        let layouts = reflect::check(library, path)?;
        if layouts == Layouts::Absent && policy.reflect == Reflect::Require {
            return Err(LoadError::Layout {
                path: path.to_owned(),
                capability: "everything".into(),
                reason: "it brings no layouts to compare, and reflect = \"require\" demands them".into(),
            });
        }
        let layouts_checked = layouts != Layouts::Absent;
        admit::tell(
            passed,
            "layout",
            if layouts_checked { "the same as this host's" } else { "it brings none to compare" },
        );
        Ok(Self { library, policy: policy.clone(), layouts_checked, provenance })
    }

    /// What it says it is.
    pub fn identity(&self) -> &Identity {
        &self.library.identity
    }

    /// What speaks for its bytes.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Whether its layouts were compared with this host's. Plugins in other languages than Rust have none.
    pub fn layouts_checked(&self) -> bool {
        self.layouts_checked
    }

    /// What it could do, by capability; one instance may do less.
    pub fn capabilities(&self) -> Result<Vec<(&'static str, Support)>, LoadError> {
        // SAFETY: NULL asks the library itself.
        let tables =
            unsafe { Tables::of(&self.library.root, std::ptr::null_mut()) }.map_err(|reason| self.broken(reason))?;
        let schema = tables::config_schema(&self.library.root).map_err(|reason| self.broken(reason))?;
        let native = |has: bool, otherwise| if has { Support::Native } else { otherwise };
        Ok(vec![
            ("backend", Support::Native),
            ("async", native(tables.driver.is_some(), Support::Emulated)),
            ("batch", native(tables.batch.is_some(), Support::Emulated)),
            ("ttl", native(tables.ttl.is_some(), Support::Emulated)),
            ("lock", native(tables.lock.is_some(), Support::Absent)),
            ("cas", native(tables.cas.is_some(), Support::Absent)),
            ("scan", native(tables.scan.is_some(), Support::Absent)),
            ("clear", native(tables.clear.is_some(), native(tables.scan.is_some(), Support::Absent).emulated())),
            ("watch", native(tables.watch.is_some(), Support::Absent)),
            ("freshness", native(tables.freshness.is_some(), Support::Absent)),
            ("config-schema", native(schema.is_some(), Support::Absent)),
        ])
    }

    /// The JSON Schema of its options, if it has one.
    pub fn config_schema(&self) -> Result<Option<serde_json::Value>, LoadError> {
        let Some(table) = tables::config_schema(&self.library.root).map_err(|reason| self.broken(reason))? else {
            return Ok(None);
        };
        let mut text = cachekit_abi::CkSlice { ptr: std::ptr::null(), len: 0 };
        // SAFETY: the table was checked; the slice is ours, and the plugin fills it with static text.
        let schema = unsafe {
            let status = (table.schema)(&mut text);
            if status != CK_OK || text.len > 1 << 20 {
                return Err(self.broken(format!("its schema answered {status} with {} bytes", text.len)));
            }
            serde_json::from_slice(raw::bytes_of(text))
        };
        schema.map(Some).map_err(|error| self.broken(format!("its schema is no JSON: {error}")))
    }

    /// Opens an instance with JSON options (empty: none). Instances are independent of each other.
    pub fn create(&self, config_json: &[u8], services: HostServices) -> Result<Arc<dyn Backend>, LoadError> {
        let identity = &self.library.identity;
        let failed = |source: BackendError| LoadError::Create {
            id: identity.id.clone(),
            source: source.on(format!("plugin {}", identity.id)),
        };
        let table = ServiceTable::new(services.clone(), &identity.id);
        let (mut inst, mut err) = (std::ptr::null_mut::<c_void>(), CkError::EMPTY);
        let (code, took) = {
            let _serialised = self.library.lifecycle.lock().unwrap_or_else(PoisonError::into_inner);
            let before = Handlers::now();
            // SAFETY: the root was checked; the services live as long as the instance.
            let code =
                unsafe { (self.library.root.create)(table.as_ptr(), raw::slice_of(config_json), &mut inst, &mut err) };
            (code, Handlers::now().changed_since(&before))
        };
        let loaded = std::mem::take(&mut *self.library.took_signals.lock().unwrap_or_else(PoisonError::into_inner));
        signals::warn(&services, &identity.id, "while it was loaded", &loaded);
        signals::warn(&services, &identity.id, "while an instance was opened", &took);
        // SAFETY: the plugin filled the error or left it empty.
        let code = unsafe { status(code, err, Operation::Open) }.map_err(failed)?;
        if code != CK_OK || inst.is_null() {
            return Err(self.broken("`create` succeeded without an instance".into()));
        }
        let ptr = InstancePtr(inst);
        // SAFETY: the instance was just made.
        let parts =
            unsafe { Tables::of(&self.library.root, inst) }.and_then(|tables| Ok((tables, limits_of(&tables, ptr)?)));
        let (tables, limits) = parts.map_err(|reason| {
            let _serialised = self.library.lifecycle.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: nobody else knows the instance.
            unsafe { (self.library.root.destroy)(inst) };
            self.broken(reason)
        })?;
        self.warn_of_absent_layouts(&services);
        let inner = Inner::new(self.library, ptr, tables, limits, table);
        Ok(Arc::new(Instance::new(inner, self.policy.prefer_blocking)))
    }

    /// Plugins in C have the plain entry name and no layouts; a Rust plugin without them was built to hide them.
    fn warn_of_absent_layouts(&self, services: &HostServices) {
        let identity = &self.library.identity;
        if !self.layouts_checked && self.policy.reflect == Reflect::Warn && identity.entry != cachekit_abi::CK_ENTRY {
            let text = "the plugin brings no layouts to compare with this host's";
            services.log(LogLevel::Warn, "cachekit::plugin", text, &[("id", &identity.id)]);
        }
    }

    fn broken(&self, reason: String) -> LoadError {
        LoadError::Contract { path: self.provenance.path.clone(), reason }
    }
}

impl Support {
    /// What follows for a capability that the engine can build from this one.
    fn emulated(self) -> Self {
        if self == Self::Native { Self::Emulated } else { self }
    }
}
