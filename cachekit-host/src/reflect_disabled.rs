//! The twin of `reflect.rs` for hosts without abi_stable: knows no layouts.

use std::path::Path;

use crate::error::LoadError;
use crate::library::Library;

/// What the comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layouts {
    /// Nothing was compared.
    Absent,
}

pub(crate) fn check(_: &Library, _: &Path) -> Result<Layouts, LoadError> {
    Ok(Layouts::Absent)
}
