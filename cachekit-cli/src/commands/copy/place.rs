//! Where a copy is, in a file: the cursor of the listing, and a digest of what is copied where, so that a file is not
//! mistaken for another copy's. URLs may hold passwords and do not stand in it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::exit::Failure;
use crate::output::{hex, unhex};

/// A cursor has some dozen bytes; a file of another kind may be any size.
const MAX_FILE: u64 = 1 << 20;

/// A place that is kept, or not.
#[derive(Debug)]
pub(super) struct Place {
    file: Option<PathBuf>,
    kept: Kept,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// Of source, target, prefix and the run of the source's server.
    copy: String,
    /// Hex; absent before the first page.
    cursor: Option<String>,
}

impl Place {
    /// Reads the file, if it is there. `of` is what makes this copy this copy.
    pub(super) fn open(file: Option<&Path>, of: &[&str]) -> Result<Self, Failure> {
        let mut digest = Blake2b::<U32>::new();
        for part in of {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let copy = hex(&digest.finalize());
        let fresh = Kept { version: 1, copy: copy.clone(), cursor: None };
        let Some(path) = file else { return Ok(Self { file: None, kept: fresh }) };
        let kept = match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => fresh,
            Err(error) => return Err(Failure::io(format!("{path:?} cannot be read"))(error)),
            Ok(found) if found.len() > MAX_FILE => return Err(not_ours(path)),
            Ok(_) => {
                let text = fs::read(path).map_err(Failure::io(format!("{path:?} cannot be read")))?;
                serde_json::from_slice::<Kept>(&text).map_err(|_| not_ours(path))?
            }
        };
        if kept.version != 1 || kept.cursor.as_ref().is_some_and(|cursor| unhex(cursor.as_bytes()).is_err()) {
            return Err(not_ours(path));
        }
        if kept.copy != copy {
            let why = format!(
                "{path:?} is the place of another copy: other stores, another prefix, or a source that was restarted since, \
                 whose listing cannot go on from there; remove it to begin anew"
            );
            return Err(Failure::Usage(why));
        }
        Ok(Self { file: Some(path.to_owned()), kept })
    }

    /// Where to go on, `None` for the beginning.
    pub(super) fn cursor(&self) -> Option<Bytes> {
        self.kept.cursor.as_ref().and_then(|cursor| unhex(cursor.as_bytes()).ok()).map(Bytes::from)
    }

    /// Keeps a new place. The file is replaced whole, so that a crash leaves the old place or the new one.
    pub(super) fn keep(&mut self, cursor: Option<&[u8]>) -> Result<(), Failure> {
        let (Some(path), Some(cursor)) = (&self.file, cursor) else { return Ok(()) };
        self.kept.cursor = Some(hex(cursor));
        let cannot = || Failure::io(format!("{path:?} cannot be written"));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = NamedTempFile::new_in(folder).map_err(cannot())?;
        let text = serde_json::to_vec(&self.kept).unwrap_or_default();
        file.write_all(&text).and_then(|()| file.as_file().sync_data()).map_err(cannot())?;
        file.persist(path).map_err(|error| cannot()(error.error))?;
        Ok(())
    }

    /// Everything is copied: the next run begins anew.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let Some(path) = &self.file else { return Ok(()) };
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::io(format!("{path:?} cannot be removed"))(error))
            }
            _ => Ok(()),
        }
    }
}

fn not_ours(path: &Path) -> Failure {
    Failure::Usage(format!("{path:?} is no place of a copy; name a file that does not exist to begin one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again_by_the_same_copy_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("place");
        let of = ["redis://:secret@a", "file:///b", ""];
        let mut place = Place::open(Some(&path), &of).unwrap();
        assert_eq!(place.cursor(), None);
        place.keep(Some(b"\x00cursor")).unwrap();
        assert_eq!(Place::open(Some(&path), &of).unwrap().cursor().as_deref(), Some(&b"\x00cursor"[..]));
        assert!(!fs::read_to_string(&path).unwrap().contains("secret"));
        assert!(matches!(Place::open(Some(&path), &["redis://:secret@", "afile:///b", ""]), Err(Failure::Usage(_))));
        place.finish().unwrap();
        assert!(!path.exists());
        place.finish().unwrap();
    }

    #[test]
    fn another_file_is_not_taken_for_a_place_and_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thesis.txt");
        for text in ["", "my thesis", "{}", r#"{"version":2,"copy":"","cursor":null}"#] {
            fs::write(&path, text).unwrap();
            assert!(Place::open(Some(&path), &["a"]).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
