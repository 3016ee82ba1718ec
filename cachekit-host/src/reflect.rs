//! Compares the layouts a Rust plugin was built with against this host's.
//!
//! Sizes cannot see a field that changed its type but not its size, nor a parameter more. abi_stable follows every type
//! behind every function of a table, so a library built against a doctored or drifted contract is refused here.

use std::ffi::c_void;
use std::path::Path;

use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::type_layout::TypeLayout;
use cachekit_abi::reflect::{CkReflectV1, layouts};
use cachekit_abi::{CK_ID_BACKEND, CK_ID_REFLECT};
use cachekit_plugin::raw;

use crate::error::LoadError;
use crate::library::Library;

/// What the comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layouts {
    /// Nothing was compared: a plugin in another language, or with another version of abi_stable.
    Absent,
    /// All layouts that both sides know are the same.
    Same,
}

/// What every plugin has.
const WITHOUT_WHICH_NOTHING: [&str; 4] = ["root", "host", "limits", CK_ID_BACKEND];

/// Sane bound on what a plugin may list.
const MAX_ENTRIES: u32 = 256;

pub(crate) fn check(library: &Library, path: &Path) -> Result<Layouts, LoadError> {
    // SAFETY: the root was checked; `query` with NULL asks the library itself.
    let table = unsafe {
        (library.root.query)(std::ptr::null_mut(), CK_ID_REFLECT.as_ptr(), CK_ID_REFLECT.len()).cast::<CkReflectV1>()
    };
    if table.is_null() {
        return Ok(Layouts::Absent);
    }
    let broken = |reason: &str| LoadError::Contract { path: path.to_owned(), reason: reason.to_owned() };
    // SAFETY: a plugin that knows the id gives a static record; its size is checked before anything else is used.
    let table = unsafe { &*table };
    if (table.struct_size as usize) < size_of::<CkReflectV1>() || table.len > MAX_ENTRIES || table.entries.is_null() {
        return Err(broken("its layout table has an impossible size"));
    }
    // SAFETY: the record says how many entries follow.
    let entries = unsafe { std::slice::from_raw_parts(table.entries, table.len as usize) };
    let mut compared = 0;
    for ours in layouts() {
        // SAFETY: ids are static text.
        let theirs = entries.iter().find(|entry| unsafe { raw::bytes_of(entry.id) } == ours.id.as_bytes());
        // A table that one side does not know is not used by the other.
        let Some(theirs) = theirs else { continue };
        if theirs.layout.is_null() {
            return Err(broken("its layout table has an empty entry"));
        }
        // SAFETY: the id names the exact version of abi_stable on both sides, so both mean the same by a layout.
        let theirs = unsafe { &*theirs.layout.cast::<c_void>().cast::<TypeLayout>() };
        if let Err(errors) = check_layout_compatibility(ours.layout, theirs) {
            return Err(LoadError::Layout {
                path: path.to_owned(),
                capability: ours.id.to_owned(),
                reason: essence(&errors.to_string()),
            });
        }
        compared += usize::from(WITHOUT_WHICH_NOTHING.contains(&ours.id));
    }
    // A list that leaves out what every plugin has proves nothing.
    if compared < WITHOUT_WHICH_NOTHING.len() {
        return Err(broken("its layout table leaves out types that every plugin has"));
    }
    Ok(Layouts::Same)
}

/// The report has thousands of lines with both layouts in full; what differs stands at its end.
fn essence(report: &str) -> String {
    const KEPT_LINES: usize = 6;
    let lines: Vec<&str> = report.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let start = lines.iter().rposition(|line| line.starts_with("Error:")).unwrap_or(lines.len().saturating_sub(1));
    lines[start..].iter().take(KEPT_LINES).copied().collect::<Vec<_>>().join(" ")
}
