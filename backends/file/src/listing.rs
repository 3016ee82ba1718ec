//! Reading the directory: pages of entry names for a scan, and the removal of everything for a clear.
//!
//! A page holds the smallest names beyond the cursor, so a scan is stable while entries come and go: what stays is
//! listed exactly once. Each page reads the directory anew and keeps no more than a page in memory; the alternative, an
//! offset into the directory, means nothing after a change.

use std::collections::BinaryHeap;

use cachekit_plugin::Deadline;
use rustix::fs::{Dir, FileType};

use crate::client::{Handle, is_plain};
use crate::entry::Name;
use crate::error::FileError;
use crate::store::Store;
use crate::stripe;

/// Most names in one page, whatever was asked for.
const MAX_PAGE: usize = 10_000;

/// Calls `visit` with every name of the directory.
pub(crate) fn each(
    handle: &Handle,
    mut visit: impl FnMut(&[u8], FileType) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let failed = FileError::directory("list the cache directory");
    for item in Dir::new(handle.open_listing().map_err(&failed)?).map_err(&failed)? {
        let item = item.map_err(&failed)?;
        visit(item.file_name().to_bytes(), item.file_type())?;
    }
    Ok(())
}

/// The name of an entry, if this is one. Some file systems do not tell the type in the listing.
fn entry_name(handle: &Handle, name: &[u8], kind: FileType) -> Option<Name> {
    let name = Name::parse(name)?;
    match kind {
        FileType::RegularFile => Some(name),
        FileType::Unknown => handle.lstat(name.as_str()).ok()?.filter(is_plain).map(|_| name),
        _ => None,
    }
}

impl Store {
    /// At most `max` entry names beyond `cursor`, ascending, and whether more follow.
    pub(crate) fn page(&self, cursor: Option<&[u8]>, max: usize) -> Result<(Vec<Name>, bool), FileError> {
        let handle = self.directory.compare(self.now())?;
        let max = max.clamp(1, MAX_PAGE);
        let mut smallest = BinaryHeap::with_capacity(max + 1);
        let mut more = false;
        each(&handle, |name, kind| {
            if cursor.is_none_or(|cursor| name > cursor)
                && let Some(name) = entry_name(&handle, name, kind)
            {
                smallest.push(name);
                if smallest.len() > max {
                    smallest.pop();
                    more = true;
                }
            }
            Ok(())
        })?;
        Ok((smallest.into_sorted_vec(), more))
    }

    /// Removes every entry and nothing else; returns how many.
    pub(crate) fn clear(&self, deadline: Deadline) -> Result<u64, FileError> {
        let handle = self.directory.compare(self.now())?;
        let mut removed = 0;
        self.account.forget();
        each(&handle, |name, kind| {
            let Some(name) = entry_name(&handle, name, kind) else { return Ok(()) };
            if deadline.has_passed() {
                return Err(FileError::Late);
            }
            let _stripe = stripe::shared(&handle, &name, self.lock_deadline(deadline))?;
            if handle.unlink(name.as_str()).map_err(FileError::file("remove an entry"))? {
                removed += 1;
            }
            Ok(())
        })?;
        Ok(removed)
    }
}
