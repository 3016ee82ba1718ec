//! The options of a File backend: names, forms and ranges, checked once, before anything is touched.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

const MIB: u64 = 1 << 20;

/// Options of a [`FileBackend`](crate::FileBackend).
///
/// ```
/// use cachekit_backend_file::{Durability, FileConfig};
/// let config = FileConfig::new("/var/cache/app").with_max_size_mb(64).with_max_value_mb(8).with_durability(Durability::File);
/// assert!(config.check().is_ok());
/// assert!(FileConfig::new("relative").check().unwrap_err().contains("dir"));
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// The directory, an absolute path; `~` means nothing special. Created with mode 0700 if missing.
    /// Default: `cachekit` in the system's directory for temporary files, as in the rest of the family.
    #[serde(deserialize_with = "form::dir")]
    pub dir: PathBuf,
    /// Size at which old entries go, MiB of 2^20 bytes, headers included: 1 to 1000000. Eviction begins at 90 % of it.
    #[serde(deserialize_with = "form::max_size_mb")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_size_mb: u32,
    /// Largest value, MiB: at least 1, at most half of `max_size_mb`.
    #[serde(deserialize_with = "form::max_value_mb")]
    #[schemars(range(min = 1, max = 500_000))]
    pub max_value_mb: u32,
    /// Number of entries at which old ones go: 100 to 1000000. Eviction begins at 90 % of it.
    #[serde(deserialize_with = "form::max_entry_count")]
    #[schemars(range(min = 100, max = 1_000_000))]
    pub max_entry_count: u32,
    /// What survives a power failure. (A killed process loses nothing in any mode.)
    #[serde(deserialize_with = "form::durability")]
    pub durability: Durability,
    /// Mode of entry files.
    #[serde(deserialize_with = "form::permissions")]
    pub permissions: Permissions,
    /// Mode of the directory, when this backend creates it.
    #[serde(deserialize_with = "form::dir_permissions")]
    pub dir_permissions: Permissions,
    /// Longest wait for a lock that another process holds on an entry, seconds: 0.5 to 30. The caller's deadline ends
    /// the wait earlier.
    #[serde(deserialize_with = "form::lock_timeout_seconds")]
    #[schemars(range(min = 0.5, max = 30.0))]
    pub lock_timeout_seconds: f64,
    /// Accept a directory that belongs to another user or that group or others may write. Whoever can write there can
    /// plant values and, by filling it, evict yours.
    #[serde(deserialize_with = "form::allow_shared_dir")]
    pub allow_shared_dir: bool,
}

/// What survives a power failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Entries replaced atomically, not flushed: after a power failure recent ones may be missing, old, or cut short. The
    /// cache's envelope shows a cut; raw values have nothing that would.
    #[default]
    None,
    /// Each file is flushed before it takes its name, as the rest of the family does: what is there is whole.
    File,
    /// File and directory are flushed: what was answered is there.
    Full,
}

/// A POSIX mode. In options either the text `"0o600"` or the number itself: TOML's `0o600`, JSON's 384. Plain text
/// such as `"600"` is refused, because half of its readers would take it for decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(pub u32);

impl JsonSchema for Permissions {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Permissions".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "integer"], "pattern": "^0o[0-7]{3}$", "minimum": 0, "maximum": 511 })
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u32),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(mode) => Some(mode),
            Form::Text(text) => text.strip_prefix("0o").and_then(|digits| u32::from_str_radix(digits, 8).ok()),
        }
        .map(Self)
        .ok_or_else(|| serde::de::Error::custom("not an octal mode"))
    }
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            dir: std::env::temp_dir().join("cachekit"),
            max_size_mb: 1024,
            max_value_mb: 100,
            max_entry_count: 10_000,
            durability: Durability::None,
            permissions: Permissions(0o600),
            dir_permissions: Permissions(0o700),
            lock_timeout_seconds: 5.0,
            allow_shared_dir: false,
        }
    }
}

impl FileConfig {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), ..Self::default() }
    }

    /// Sets the size at which old entries go, MiB.
    #[must_use]
    pub fn with_max_size_mb(mut self, mb: u32) -> Self {
        self.max_size_mb = mb;
        self
    }

    /// Sets the largest value, MiB.
    #[must_use]
    pub fn with_max_value_mb(mut self, mb: u32) -> Self {
        self.max_value_mb = mb;
        self
    }

    /// Sets the number of entries at which old ones go.
    #[must_use]
    pub fn with_max_entry_count(mut self, count: u32) -> Self {
        self.max_entry_count = count;
        self
    }

    /// Sets what survives a power failure.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Accepts a directory that others own or may write.
    #[must_use]
    pub fn with_allow_shared_dir(mut self, allow: bool) -> Self {
        self.allow_shared_dir = allow;
        self
    }

    /// Checks every range; the error names the field, its value and what it takes.
    pub fn check(&self) -> Result<(), String> {
        let range = |field: &str, value: u32, min: u32, max: u32| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(format!("{field} = {value}: takes {min} to {max}")) }
        };
        if !self.dir.is_absolute() || self.dir.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(format!("dir = {:?}: takes {}", self.dir, form::DIR));
        }
        range("max_size_mb", self.max_size_mb, 1, 1_000_000)?;
        range("max_entry_count", self.max_entry_count, 100, 1_000_000)?;
        // A directory of 1 MiB is allowed and a value of less than 1 MiB is not, so there the half gives way.
        let half = (self.max_size_mb / 2).max(1);
        if !(1..=half).contains(&self.max_value_mb) {
            return Err(format!(
                "max_value_mb = {}: takes 1 to {half}, half of max_size_mb ({})",
                self.max_value_mb, self.max_size_mb
            ));
        }
        if !(0.5..=30.0).contains(&self.lock_timeout_seconds) {
            return Err(format!("lock_timeout_seconds = {}: takes 0.5 to 30", self.lock_timeout_seconds));
        }
        for (field, Permissions(mode), owner) in
            [("permissions", self.permissions, 0o600), ("dir_permissions", self.dir_permissions, 0o700)]
        {
            let shared = if self.allow_shared_dir { 0o777 } else { 0o755 };
            if mode & owner != owner || mode & !shared != 0 {
                return Err(format!(
                    "{field} = 0o{mode:03o}: takes a mode from 0o{owner:o} to 0o{shared:o} that gives the owner \
                     0o{owner:o} (writing by group or others needs allow_shared_dir)"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn max_size(&self) -> u64 {
        u64::from(self.max_size_mb) * MIB
    }

    pub(crate) fn max_value(&self) -> u64 {
        u64::from(self.max_value_mb) * MIB
    }
}

/// Serde's messages name the wrong type but not the field; these add the field and the accepted form.
mod form {
    use std::fmt::Display;

    use super::{Deserialize, Deserializer, Durability, PathBuf, Permissions};

    pub(super) const DIR: &str = "an absolute path";
    const MODE: &str = "a mode such as \"0o600\" or the number 384";

    fn named<'de, D, T>(deserializer: D, field: &str, form: impl Display) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        T::deserialize(deserializer)
            .map_err(|error| serde::de::Error::custom(format!("{field}: takes {form} ({error})")))
    }

    pub(super) fn dir<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        named(from, "dir", DIR)
    }
    pub(super) fn max_size_mb<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        named(from, "max_size_mb", "a whole number from 1 to 1000000")
    }
    pub(super) fn max_value_mb<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        named(from, "max_value_mb", "a whole number from 1 to half of max_size_mb")
    }
    pub(super) fn max_entry_count<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        named(from, "max_entry_count", "a whole number from 100 to 1000000")
    }
    pub(super) fn durability<'de, D: Deserializer<'de>>(from: D) -> Result<Durability, D::Error> {
        named(from, "durability", "\"none\", \"file\" or \"full\"")
    }
    pub(super) fn permissions<'de, D: Deserializer<'de>>(from: D) -> Result<Permissions, D::Error> {
        named(from, "permissions", MODE)
    }
    pub(super) fn dir_permissions<'de, D: Deserializer<'de>>(from: D) -> Result<Permissions, D::Error> {
        named(from, "dir_permissions", MODE)
    }
    pub(super) fn lock_timeout_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        named(from, "lock_timeout_seconds", "seconds from 0.5 to 30")
    }
    pub(super) fn allow_shared_dir<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        named(from, "allow_shared_dir", "true or false")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        match serde_json::from_str::<FileConfig>(json) {
            Err(error) => error.to_string(),
            Ok(config) => config.check().unwrap_err(),
        }
    }

    #[test]
    fn nothing_given_means_the_defaults_and_they_pass() {
        let config: FileConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, FileConfig::default());
        config.check().unwrap();
    }

    #[test]
    fn every_refusal_names_its_field() {
        for (field, json) in [
            ("dir", r#"{"dir": "cache"}"#),
            ("dir", r#"{"dir": "~/cache"}"#),
            ("dir", r#"{"dir": 7}"#),
            ("max_size_mb", r#"{"max_size_mb": 0}"#),
            ("max_size_mb", r#"{"max_size_mb": 1000001}"#),
            ("max_size_mb", r#"{"max_size_mb": "64"}"#),
            ("max_size_mb", r#"{"max_size_mb": -1}"#),
            ("max_value_mb", r#"{"max_value_mb": 0}"#),
            ("max_value_mb", r#"{"max_size_mb": 10, "max_value_mb": 6}"#),
            ("max_entry_count", r#"{"max_entry_count": 99}"#),
            ("max_entry_count", r#"{"max_entry_count": 1000001}"#),
            ("durability", r#"{"durability": "fsync"}"#),
            ("permissions", r#"{"permissions": "600"}"#),
            ("permissions", r#"{"permissions": 600}"#),
            ("permissions", r#"{"permissions": "0o400"}"#),
            ("permissions", r#"{"permissions": "0o4600"}"#),
            ("dir_permissions", r#"{"dir_permissions": "0o777"}"#),
            ("lock_timeout_seconds", r#"{"lock_timeout_seconds": 31}"#),
            ("lock_timeout_seconds", r#"{"lock_timeout_seconds": 0.4}"#),
            ("allow_shared_dir", r#"{"allow_shared_dir": "yes"}"#),
            ("max_sise_mb", r#"{"max_sise_mb": 1}"#),
        ] {
            let refusal = refusal(json);
            assert!(refusal.contains(field), "{json}: {refusal}");
        }
    }

    #[test]
    fn modes_are_taken_as_octal_text_or_as_their_number() {
        for json in [r#"{"permissions": "0o640"}"#, r#"{"permissions": 416}"#] {
            let config: FileConfig = serde_json::from_str(json).unwrap();
            assert_eq!(config.permissions, Permissions(0o640));
            config.check().unwrap();
        }
    }

    #[test]
    fn the_schema_shows_the_ranges() {
        let schema = schemars::schema_for!(FileConfig).to_value();
        assert_eq!(schema["properties"]["max_entry_count"]["minimum"], 100);
        assert_eq!(schema["additionalProperties"], false);
    }
}
