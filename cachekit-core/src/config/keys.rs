//! Master keys and the tenant: what encrypted entries of the family are sealed with.
//!
//! A configured key is a source and no switch: nothing is encrypted because a key exists. The switch is `encryption.enabled`,
//! or the preset `secure`; and where it is on, a key that is missing is an error, never plaintext. The rules for keys are
//! those of the family: hex, at least 32 bytes, at most three previous keys, and the current one is not among them, because that is what
//! a retired key looks like that was put back into use by mistake.

use std::sync::Arc;

use super::{Config, ConfigError, Setting, TierChoice};
use crate::crypto::{DEFAULT_TENANT, Encryption, Keyring, MASTER_KEY_BYTES, MAX_PREVIOUS_KEYS, MasterKey};
use crate::key::Namespace;

/// How to get a key.
const GENERATE: &str = "generate one with: openssl rand -hex 32";

impl Config {
    /// The tenant that keys of encrypted entries are derived for.
    pub fn tenant(&self) -> &str {
        self.deployment_uuid.value.as_deref().unwrap_or(DEFAULT_TENANT)
    }

    /// The keys of encrypted entries, if there are any. Whoever asks for it says that it wants to encrypt.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for keys that do not go together, which [`Config::resolve`] has refused already.
    pub fn keyring(&self) -> Result<Option<Keyring>, ConfigError> {
        let Some(master) = self.master_key.value.clone() else { return Ok(None) };
        let previous = &self.previous_master_keys;
        let ring = Keyring::new(master, previous.value.clone());
        let ring = ring.map_err(|error| refuse("previous_master_keys", previous, error.to_string()))?;
        Ok(Some(ring.with_fail_closed(self.encryption_fail_closed.value)))
    }

    /// What a cache of this configuration encrypts with; `None` if it does not.
    ///
    /// # Errors
    /// As [`Config::keyring`], and [`ConfigError::Value`] if it is to encrypt and has no key.
    pub fn encryption(&self) -> Result<Option<Encryption>, ConfigError> {
        if !self.encryption_enabled.value {
            return Ok(None);
        }
        let keyring = self.keyring()?.ok_or_else(|| no_key(self))?;
        let encryption = Encryption::new(keyring)
            .with_tenant(self.tenant())
            .with_plaintext_in_l1(self.encryption_plaintext_in_l1.value)
            .with_hashed_keys(self.encryption_hash_keys.value)
            .with_reseal(self.encryption_reseal.value);
        Ok(Some(match &self.encryption_name_key.value {
            Some(key) => encryption.with_name_key(key.clone()),
            None => encryption,
        }))
    }
}

impl Config {
    /// The namespace as a cache of this configuration makes wire keys in it: for tools that look for entries by key.
    ///
    /// # Errors
    /// As [`Config::encryption`], and [`ConfigError::Value`] for a namespace that cannot be used.
    pub fn key_namespace(&self) -> Result<Namespace, ConfigError> {
        let name = &self.namespace;
        let namespace = Namespace::new(&name.value).map_err(|error| refuse("namespace", name, error.to_string()))?;
        let names = self.encryption()?.map(|encryption| encryption.names()).transpose();
        let names =
            names.map_err(|error| refuse("encryption.deployment_uuid", &self.deployment_uuid, error.to_string()))?;
        Ok(namespace.hashing(names.flatten().map(Arc::new)))
    }
}

fn refuse<T>(field: &str, setting: &Setting<T>, reason: String) -> ConfigError {
    ConfigError::value(field, setting.source.clone(), reason)
}

fn no_key(config: &Config) -> ConfigError {
    let reason = format!(
        "CACHEKIT_MASTER_KEY is not set, and nothing is stored unencrypted in its absence; export it, or write \
         master_key = {{ \"$secret\" = \"file:/path\" }} under [encryption]; {GENERATE}"
    );
    refuse("master_key", &config.encryption_enabled, reason)
}

/// What cannot work whatever the source.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let (master, previous) = (&config.master_key.value, &config.previous_master_keys);
    if master.is_none() && !previous.value.is_empty() {
        let reason = "there are previous keys and no current one; set CACHEKIT_MASTER_KEY as well";
        return Err(refuse("previous_master_keys", previous, reason.into()));
    }
    if master.as_ref().is_some_and(|master| previous.value.contains(master)) {
        let reason = "the current key is among the previous ones, as if a retired key had been put back into use";
        return Err(refuse("previous_master_keys", previous, reason.into()));
    }
    if let Some(at) = (0..previous.value.len()).find(|&at| previous.value[..at].contains(&previous.value[at])) {
        let reason = format!("key {} stands there twice; perhaps another one was meant", at + 1);
        return Err(refuse("previous_master_keys", previous, reason));
    }
    let name_key = &config.encryption_name_key;
    if name_key.value.is_some() && !config.encryption_hash_keys.value {
        let reason = "no key is hashed under it; set encryption.hash_keys = true as well";
        return Err(refuse("encryption.name_key", name_key, reason.into()));
    }
    let enabled = &config.encryption_enabled;
    if !enabled.value {
        if config.preset.value == Some("secure") {
            let reason = "the preset secure encrypts; leave out this line, or the preset";
            return Err(refuse("encryption.enabled", enabled, reason.into()));
        }
        let reason =
            || "it has no effect on a cache that does not encrypt; set encryption.enabled = true as well".into();
        for (field, knob) in [
            ("encryption.plaintext_in_l1", &config.encryption_plaintext_in_l1),
            ("encryption.hash_keys", &config.encryption_hash_keys),
            ("encryption.reseal", &config.encryption_reseal),
        ] {
            if knob.value {
                return Err(refuse(field, knob, reason()));
            }
        }
        return Ok(());
    }
    if config.preset.value == Some("secure") && config.tier.value == Some(TierChoice::None) {
        let reason = "the preset secure encrypts what a store keeps, and here there is none; name a backend, or leave \
                      out the preset";
        return Err(refuse("tier", &config.tier, reason.into()));
    }
    config.encryption().map(|_| ())
}

/// Reads a key from hex digits. The error tells lengths, positions and how to get a key that is right, and nothing of the key.
pub(super) fn master(text: &str) -> Result<MasterKey, String> {
    let (text, digits) = (text.trim(), MASTER_KEY_BYTES * 2);
    let length = text.chars().count();
    if let Some(at) = text.chars().position(|c| !c.is_ascii_hexdigit()) {
        return Err(format!(
            "character {} of {length} is no hex digit; a master key is at least {digits} of 0-9 and a-f; {GENERATE}",
            at + 1
        ));
    }
    if length < digits {
        return Err(format!("{length} characters, {digits} needed ({MASTER_KEY_BYTES} bytes in hex); {GENERATE}"));
    }
    if !length.is_multiple_of(2) {
        return Err(format!("{length} characters, and hex digits come in pairs; {GENERATE}"));
    }
    MasterKey::from_hex(text).map_err(|error| error.to_string())
}

/// Reads previous keys from a list with commas; blank items are left out, as the family does.
pub(super) fn previous_from_list(text: &str) -> Result<Vec<MasterKey>, String> {
    previous(text.split(',').map(str::trim).filter(|item| !item.is_empty()))
}

/// Reads previous keys one by one.
pub(super) fn previous<'a>(items: impl Iterator<Item = &'a str>) -> Result<Vec<MasterKey>, String> {
    let mut keys = Vec::new();
    for (at, item) in items.enumerate() {
        if at >= MAX_PREVIOUS_KEYS {
            return Err(format!(
                "more than {MAX_PREVIOUS_KEYS} previous keys; drop those that no entry was written with any more"
            ));
        }
        keys.push(master(item).map_err(|reason| format!("key {}: {reason}", at + 1))?);
    }
    Ok(keys)
}

/// The lower-case form with hyphens of a UUID, from any form that Python's `uuid.UUID` takes.
pub(super) fn canonical_uuid(text: &str) -> Result<String, String> {
    let bare = text.replace("urn:", "").replace("uuid:", "");
    let digits: String = bare.trim_matches(['{', '}']).chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("{text:?} is no UUID such as 123e4567-e89b-12d3-a456-426614174000"));
    }
    let digits = digits.to_ascii_lowercase();
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_used_are_refused_with_a_length_or_a_position_and_nothing_of_the_key() {
        assert_eq!(master(&"Ab".repeat(32)).unwrap(), MasterKey::from_bytes(&[0xab; 32]).unwrap());
        assert_eq!(format!("{:?}", master(&"ab".repeat(40)).unwrap()), "MasterKey(40 bytes)");
        // The third is what the family's guide shows as a valid key: it has 62 digits.
        for (wrong, expected) in [
            ("my-secret-key", "character 1 of 13 is no hex digit"),
            ("abcd1234", "8 characters, 64 needed"),
            ("a1b2c3d4e5f6789012345678901234567890abcdef12345678901234567890", "62 characters, 64 needed"),
            ("", "0 characters"),
            (&"a".repeat(65), "in pairs"),
            (&format!("{}żż", "ab".repeat(32)), "character 65 of 66"),
        ] {
            let error = master(wrong).unwrap_err();
            assert!(error.contains(expected) && error.contains("openssl rand -hex 32"), "{error}");
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn at_most_three_previous_keys_and_each_is_checked() {
        let key = "ab".repeat(32);
        let list = |items: &[&str]| previous_from_list(&items.join(","));
        assert_eq!(list(&[&key, " ", &key.replace('a', "c"), ""]).unwrap().len(), 2);
        assert!(list(&[]).unwrap().is_empty());
        assert!(list(&[key.as_str(); 4]).unwrap_err().contains("more than 3"));
        let error = list(&[&key, &"ab".repeat(31)]).unwrap_err();
        assert!(error.contains("key 2") && error.contains("62 characters"), "{error}");
    }

    #[test]
    fn uuids_are_made_canonical() {
        let canonical = "123e4567-e89b-12d3-a456-426614174000";
        for form in [canonical, "123E4567E89B12D3A456426614174000", "{123e4567-e89b-12d3-a456-426614174000}"] {
            assert_eq!(canonical_uuid(form).unwrap(), canonical);
        }
        assert_eq!(canonical_uuid(&format!("urn:uuid:{canonical}")).unwrap(), canonical);
        for wrong in ["nope", "", "123e4567", "123e4567-e89b-12d3-a456-42661417400g"] {
            assert!(canonical_uuid(wrong).is_err(), "{wrong}");
        }
    }
}
