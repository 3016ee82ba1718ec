//! What a host demands of a plugin before it loads it.

use std::fmt;
use std::str::FromStr;

/// What to demand of one plugin. The default is what a configuration without further words means.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Policy {
    /// The file must have this digest.
    pub sha256: Option<Sha256>,
    /// What the absence of layout information means. A mismatch always refuses.
    pub reflect: Reflect,
    /// Take plugins built with `panic = "abort"`, whose first panic ends the process.
    pub allow_abort: bool,
    /// Name of the entry symbol, for libraries without an identity note. For development.
    pub entry: Option<String>,
    /// Use the blocking tables even where the plugin has the asynchronous one: for tests of those tables.
    pub prefer_blocking: bool,
}

impl Policy {
    /// Demands a digest.
    #[must_use]
    pub fn with_sha256(mut self, sha256: Sha256) -> Self {
        self.sha256 = Some(sha256);
        self
    }

    /// Sets what the absence of layouts means.
    #[must_use]
    pub fn with_reflect(mut self, reflect: Reflect) -> Self {
        self.reflect = reflect;
        self
    }

    /// Takes plugins whose panics end the process.
    #[must_use]
    pub fn with_allow_abort(mut self, allow: bool) -> Self {
        self.allow_abort = allow;
        self
    }

    /// Names the entry symbol of a library without a note.
    #[must_use]
    pub fn with_entry(mut self, entry: impl Into<String>) -> Self {
        self.entry = Some(entry.into());
        self
    }

    /// Uses the blocking tables.
    #[must_use]
    pub fn with_prefer_blocking(mut self, prefer: bool) -> Self {
        self.prefer_blocking = prefer;
        self
    }
}

/// What the absence of layout information means. Plugins in C have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reflect {
    /// Nothing.
    Off,
    /// A warning in the log, for Rust plugins.
    #[default]
    Warn,
    /// The plugin is refused.
    Require,
}

impl FromStr for Reflect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "warn" => Ok(Self::Warn),
            "require" => Ok(Self::Require),
            other => Err(format!("{other:?} is none of off, warn, require")),
        }
    }
}

/// A SHA-256 digest, written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err("a sha256 is 64 hex digits, as `sha256sum` prints them".into());
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|error| error.to_string())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|error| error.to_string())?;
        }
        Ok(Self(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_what_it_writes_and_nothing_else() {
        let digest = Sha256::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.to_string().to_uppercase().parse(), Ok(digest));
        for wrong in ["", "ba", &"g".repeat(64), &"a".repeat(63), &"é".repeat(32)] {
            assert!(wrong.parse::<Sha256>().is_err(), "{wrong}");
        }
    }
}
