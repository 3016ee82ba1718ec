//! Who vouches for a file: minisign signatures, in a file of its name with `.minisig` behind it.
//!
//! A signature covers the bytes that were read from the descriptor that is loaded, so a file that is swapped after the
//! check was never checked. Only prehashed signatures count, which minisign makes since version 0.10.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use minisign_verify::{PublicKey, Signature};

use crate::error::LoadError;
use crate::text_file;

/// Longest signature file that is read, bytes. A usual one has three hundred.
const MAX_SIGNATURE_BYTES: u64 = 8 << 10;
/// Longest comment that is shown.
const MAX_COMMENT: usize = 256;

/// A public key, as the second line of `minisign.pub` has it.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustedKey {
    key: PublicKey,
    id: String,
}

impl TrustedKey {
    /// Its number, as minisign prints it.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedKey({})", self.id)
    }
}

impl FromStr for TrustedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "a trusted key is the second line of minisign.pub: 56 letters and digits that begin with RW";
        let key = PublicKey::from_base64(text).map_err(|error| format!("{form} ({error})"))?;
        let id = key_id(text).ok_or(form)?;
        Ok(Self { key, id })
    }
}

/// The number of a key or of a signature's key: eight bytes behind the two of the algorithm, shown from the last to the
/// first, as minisign does.
fn key_id(base64: &str) -> Option<String> {
    let mut bits: u128 = 0;
    for digit in base64.as_bytes().get(..16)? {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u128::from(value);
    }
    // 96 bits: 16 of the algorithm, 64 of the number, 16 of what follows.
    let number = ((bits >> 16) as u64).swap_bytes();
    Some(format!("{number:016X}"))
}

/// Who signed a file, and what they said with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The key's number.
    pub key: String,
    /// What the signature says of the file, signed with it.
    pub trusted_comment: String,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "minisign {} ({})", self.key, self.trusted_comment)
    }
}

/// Where the signature of a file lies.
pub fn signature_path(library: &Path) -> PathBuf {
    let mut name = library.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// Judges the signature beside a file by the bytes that were read of it. `None`: there is none.
///
/// # Errors
/// [`LoadError::Signature`] for one that is unreadable, by a key that is not trusted, or not of these bytes.
pub(crate) fn verify(library: &Path, bytes: &[u8], keys: &[TrustedKey]) -> Result<Option<Signer>, LoadError> {
    let path = signature_path(library);
    let refuse = |reason: String| LoadError::Signature { path: library.to_owned(), reason };
    let read = text_file::read(&path, MAX_SIGNATURE_BYTES);
    let Some((text, _)) = read.map_err(|error| refuse(format!("its signature {path:?} cannot be read: {error}")))?
    else {
        return Ok(None);
    };
    let signature = Signature::decode(&text).map_err(|error| refuse(format!("{path:?} is no signature: {error}")))?;
    let by = text.lines().nth(1).and_then(key_id).unwrap_or_default();
    let mut trusted = keys.iter().filter(|key| key.id == by).peekable();
    if trusted.peek().is_none() {
        let ids: Vec<&str> = keys.iter().map(TrustedKey::id).collect();
        return Err(refuse(format!(
            "it is signed by the key {by}, which is not trusted; [plugins] trusted_keys has {}",
            if ids.is_empty() { "none".into() } else { ids.join(", ") }
        )));
    }
    for key in trusted {
        match key.key.verify(bytes, &signature, false) {
            Ok(()) => return Ok(Some(Signer { key: by, trusted_comment: shown(signature.trusted_comment()) })),
            Err(minisign_verify::Error::UnexpectedAlgorithm) => {
                let reason = "its signature is of minisign's old form; sign it with minisign 0.10 or later, or with -H";
                return Err(refuse(reason.into()));
            }
            Err(_) => {}
        }
    }
    Err(refuse(format!(
        "its signature by the key {by} is not one of these bytes, or its comment was changed; was the file updated \
         without its signature, or swapped?"
    )))
}

/// A comment is signed, and yet text from outside, on its way to a terminal.
fn shown(comment: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c.is_alphanumeric() || c == ' ' { c } else { '?' };
    comment.chars().take(MAX_COMMENT).map(plain).collect()
}

#[cfg(test)]
mod tests;
