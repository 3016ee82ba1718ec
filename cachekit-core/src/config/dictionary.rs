//! `compression.dictionary`: a file with a dictionary, read when the configuration is.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::dictionary::MAX_DICTIONARY_BYTES;
use crate::codec::{Dictionary, DictionaryError};

/// A dictionary and the file it came from.
#[derive(Debug, Clone)]
pub struct DictionaryFile {
    /// The file.
    pub path: PathBuf,
    /// What was in it.
    pub dictionary: Arc<Dictionary>,
}

/// By name: the content is what the id was made of.
impl PartialEq for DictionaryFile {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.dictionary.id()) == (&other.path, other.dictionary.id())
    }
}

/// Reads one. A service starts in any directory, so the path is absolute.
pub(super) fn read(path: &Path) -> Result<DictionaryFile, String> {
    if !path.is_absolute() {
        return Err(format!("{path:?} is not an absolute path"));
    }
    let content = content(path).map_err(|error| format!("{path:?} cannot be read: {error}"))?;
    let dictionary = Dictionary::new(content).map_err(|error: DictionaryError| format!("{path:?}: {error}"))?;
    Ok(DictionaryFile { path: path.to_owned(), dictionary: Arc::new(dictionary) })
}

/// One byte more than is taken at most: the size is judged by whoever knows the limit.
fn content(path: &Path) -> std::io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(MAX_DICTIONARY_BYTES as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}
