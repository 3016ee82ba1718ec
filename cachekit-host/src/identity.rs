//! What a library says it is, read from its note before anything of it runs.

use serde::{Deserialize, Serialize};

use crate::error::LoadError;
use crate::file::PluginFile;
use crate::policy::Policy;

/// The content of the identity note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `vendor.store`.
    pub id: String,
    /// Version of the plugin.
    pub version: String,
    /// Version of the ABI, `major.minor`.
    pub abi: String,
    /// `unwind`, or `abort` for a plugin whose panic ends the process.
    pub panic: String,
    /// Name of the entry symbol.
    pub entry: String,
}

impl Identity {
    /// Reads a note.
    pub fn parse(note: &[u8]) -> Result<Self, String> {
        let identity: Self =
            serde_json::from_slice(note).map_err(|error| format!("its identity note is no identity: {error}"))?;
        for (name, text) in
            [("id", &identity.id), ("version", &identity.version), ("abi", &identity.abi), ("entry", &identity.entry)]
        {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
            if text.is_empty() || text.len() > 128 || !text.chars().all(plain) {
                return Err(format!("its identity note has an unusable {name:?}: 1 to 128 letters, digits and ._+-"));
            }
        }
        Ok(identity)
    }

    /// What is known of a library without a note, if the policy says how to enter it.
    pub(crate) fn nameless(entry: &str) -> Self {
        Self {
            id: "unnamed".into(),
            version: "0".into(),
            abi: format!("{}.{}", cachekit_abi::CK_ABI_MAJOR, cachekit_abi::CK_ABI_MINOR),
            panic: "unwind".into(),
            entry: entry.into(),
        }
    }

    /// Refuses what this host cannot run.
    pub(crate) fn check(&self, file: &PluginFile, policy: &Policy) -> Result<(), LoadError> {
        let refuse = |reason: String| Err(LoadError::Identity { path: file.path().to_owned(), reason });
        let (major, minor) = (cachekit_abi::CK_ABI_MAJOR, cachekit_abi::CK_ABI_MINOR);
        let stated = self.abi.split_once('.').and_then(|(a, b)| Some((a.parse::<u16>().ok()?, b.parse::<u16>().ok()?)));
        match stated {
            None => return refuse(format!("its ABI version {:?} is no `major.minor`", self.abi)),
            Some((theirs, _)) if theirs != major => {
                return refuse(format!(
                    "it speaks ABI {}, this host speaks {major}.{minor}: use a plugin built for it",
                    self.abi
                ));
            }
            // A minor version only adds ids: an older plugin lacks some, a newer one is not asked for those it has beyond.
            Some(_) => {}
        }
        match self.panic.as_str() {
            "unwind" => Ok(()),
            "abort" if policy.allow_abort => Ok(()),
            "abort" => refuse(
                "it is built with panic = \"abort\", so its first panic would end this process; build it with \
                 panic = \"unwind\", or set allow_abort = true"
                    .into(),
            ),
            other => refuse(format!("its panic mode {other:?} is neither unwind nor abort")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_with_its_padding() {
        let note = br#"{"id":"a.b","version":"1.0.0","abi":"1.0","panic":"unwind","entry":"e_x"}   "#;
        assert_eq!(Identity::parse(note).unwrap().id, "a.b");
    }

    #[test]
    fn hostile_identities_are_refused() {
        for note in [
            &b""[..],
            b"{}",
            b"\xff\xfe",
            br#"{"id":"","version":"1","abi":"1.0","panic":"unwind","entry":"e"}"#,
            br#"{"id":"a b","version":"1","abi":"1.0","panic":"unwind","entry":"e"}"#,
            br#"{"id":"a\u001b[31m","version":"1","abi":"1.0","panic":"unwind","entry":"e"}"#,
        ] {
            assert!(Identity::parse(note).is_err(), "{}", String::from_utf8_lossy(note));
        }
    }
}
